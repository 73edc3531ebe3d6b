//! Many domains: some at a time, each result as soon as it is there, nothing kept.

use std::future::Future;

use futures_util::{Stream, StreamExt};

use super::audit::Auditor;
use super::report::Audit;

/// Most domains at the same time.
pub const MAX_CONCURRENCY: usize = 500;

/// Audits what `domains` gives, `concurrency` at a time, and hands each result to `done` in the order they finish.
/// Stops when `done` says `false`. Memory does not grow with the number of domains.
///
/// A domain that cannot be audited is a result like any other ([`Audit::error`]).
pub async fn audit_many<D, F>(auditor: &Auditor, domains: D, concurrency: usize, mut done: F)
where
    D: Stream<Item = String>,
    F: FnMut(Audit) -> bool,
{
    let audits = domains.map(|domain| one(auditor, domain));
    let mut results = std::pin::pin!(audits.buffer_unordered(concurrency.clamp(1, MAX_CONCURRENCY)));
    while let Some(audit) = results.next().await {
        if !done(audit) {
            return;
        }
    }
}

fn one(auditor: &Auditor, domain: String) -> impl Future<Output = Audit> + '_ {
    // A ceiling over all the limits inside, so that one hostile zone cannot hold a place for ever.
    let ceiling = auditor.plan().timeout.saturating_mul(24);
    async move {
        match tokio::time::timeout(ceiling, auditor.audit(&domain)).await {
            Ok(audit) => audit,
            Err(_) => Audit::failed(&domain, auditor.now_ms(), "the audit took too long"),
        }
    }
}
