//! Many domains: some at a time, each result as soon as it is there, nothing kept.

use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use tokio_util::task::AbortOnDropHandle;

use super::audit::Auditor;
use super::report::Audit;

/// Most domains at the same time.
pub const MAX_CONCURRENCY: usize = 500;

/// Audits what `domains` gives, `concurrency` at a time, and hands each result to `done` in the order they finish.
/// Stops when `done` says `false`. Memory does not grow with the number of domains.
///
/// Each audit is a task of its own, so that all threads of the runtime take part; tasks end with this future. A domain
/// that cannot be audited is a result like any other ([`Audit::error`]).
pub async fn audit_many<D, F>(auditor: &Arc<Auditor>, domains: D, concurrency: usize, mut done: F)
where
    D: Stream<Item = String>,
    F: FnMut(Audit) -> bool,
{
    let audits = domains.map(|domain| {
        let (shared, name) = (Arc::clone(auditor), domain.clone());
        let task = AbortOnDropHandle::new(tokio::spawn(async move { one(&shared, &name).await }));
        async move {
            match task.await {
                Ok(audit) => audit,
                Err(error) => Audit::failed(&domain, auditor.now_ms(), format!("the audit broke off: {error}")),
            }
        }
    });
    let mut results = std::pin::pin!(audits.buffer_unordered(concurrency.clamp(1, MAX_CONCURRENCY)));
    while let Some(audit) = results.next().await {
        if !done(audit) {
            return;
        }
    }
}

async fn one(auditor: &Auditor, domain: &str) -> Audit {
    // A ceiling over all the limits inside, so that one hostile zone cannot hold a place for ever.
    let ceiling = auditor.plan().timeout.saturating_mul(24);
    match tokio::time::timeout(ceiling, auditor.audit(domain)).await {
        Ok(audit) => audit,
        Err(_) => Audit::failed(domain, auditor.now_ms(), "the audit took too long"),
    }
}
