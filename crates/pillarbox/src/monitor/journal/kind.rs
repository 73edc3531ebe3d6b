//! The check of a domain's records, hourly.

use std::collections::BTreeSet;
use std::time::Duration;

use diagnose::journal::{What, of_domain};
use futures_util::future::BoxFuture;
use serde_json::json;
use store::{RecordKind, StoreError};

use super::KEPT_DAYS;
use super::look::note;
use crate::alert::AlertRule;
use crate::http::Shared;
use crate::monitor::check::Alerting;
use crate::monitor::{CheckKind, Found, Level, Schedule, Subject, dns};
use crate::serve::alignment;

/// How often the servers are asked.
const EVERY: Duration = Duration::from_secs(3_600);
/// Longest look at one domain: 30 records at 16 servers, some of them silent.
const TIMEOUT: Duration = Duration::from_secs(300);
/// Snapshots of each record that always stay.
const KEEP: u32 = 1;
const DAY_MS: i64 = 86_400_000;

/// `dns:<domain>`
#[derive(Debug)]
pub struct JournalKind;

impl CheckKind for JournalKind {
    fn id(&self) -> &'static str {
        "dns"
    }

    fn title(&self) -> &'static str {
        "DNS records at the domain's own name servers"
    }

    fn schedule(&self) -> Schedule {
        Schedule::every(EVERY)
    }

    fn timeout(&self) -> Duration {
        TIMEOUT
    }

    fn alerting(&self) -> Alerting {
        // Each record has an alert of its own.
        Alerting::Never
    }

    fn rule(&self) -> AlertRule {
        AlertRule::DnsChanged
    }

    fn subjects<'a>(&'a self, app: &'a Shared) -> BoxFuture<'a, Vec<Subject>> {
        Box::pin(async move {
            let subject = |domain: String| Subject::new(domain.clone(), format!("domain {domain}"), 0);
            dns::domains(app).await.into_iter().map(subject).collect()
        })
    }

    fn run<'a>(&'a self, app: &'a Shared, subject: &'a Subject) -> BoxFuture<'a, Found> {
        Box::pin(async move {
            match look(app, &subject.id).await {
                Ok(found) => found,
                Err(error) => Found::skipped(format!("the journal cannot be kept: {error}")),
            }
        })
    }
}

async fn look(app: &Shared, domain: &str) -> Result<Found, StoreError> {
    let authority = match &app.domains.authority {
        Ok(authority) => authority,
        Err(error) => return Ok(Found::skipped(format!("there is no resolver: {error}"))),
    };
    let selectors = selectors(app, domain).await?;
    let (mut level, mut lines, mut unknown, mut records, mut changed) =
        (Level::Ok, Vec::new(), Vec::new(), serde_json::Map::new(), 0_u32);
    for (what, taken) in of_domain(authority, domain, &selectors).await {
        let snapshot = match taken {
            Ok(snapshot) => snapshot,
            Err(why) => {
                unknown.push(format!("{what}: {why}"));
                continue;
            }
        };
        let shown: Vec<String> = snapshot.records().into_iter().map(str::to_owned).collect();
        if !matches!(what, What::Dkim(_)) || !shown.is_empty() {
            records.insert(what.to_string(), json!(shown));
        }
        let noted = match note(app, domain, &what, snapshot).await {
            Ok(noted) => noted,
            // What strangers publish may be more than is kept; it must not keep us from the rest.
            Err(StoreError::Invalid(why)) => {
                unknown.push(format!("{what}: {why}"));
                continue;
            }
            Err(error) => return Err(error),
        };
        level = level.max(noted.level(&what));
        changed += u32::from(noted.changed);
        if noted.gone {
            lines.push(format!("{} is gone", what.words()));
        }
        lines.extend(noted.troubles);
    }
    let cutoff_ms = app.clock.now_ms() - KEPT_DAYS * DAY_MS;
    app.store.prune_records(RecordKind::DnsSnapshot, cutoff_ms, KEEP).await?;
    if records.is_empty() && !unknown.is_empty() {
        return Ok(Found::skipped(format!("nothing is known: {}", unknown.join("; "))));
    }
    lines.dedup();
    let summary = match (lines.first(), changed) {
        (Some(first), _) if lines.len() > 1 => format!("{first}, and {} more", lines.len() - 1),
        (Some(first), _) => first.clone(),
        (None, 0) => format!("{} records are the same on all name servers", records.len()),
        (None, changed) => format!("{changed} of {} records changed", records.len()),
    };
    let detail = json!({ "troubles": lines, "unknown": unknown });
    Ok(Found::new(level, summary).facts(json!({ "records": records })).detail(detail))
}

/// Selectors of our own keys that have to be published, and of the providers that the domain's mail goes through.
async fn selectors(app: &Shared, domain: &str) -> Result<BTreeSet<String>, StoreError> {
    let mut all: BTreeSet<String> = BTreeSet::new();
    for key in alignment::own_keys(app).await? {
        if key.domain == domain {
            all.insert(key.selector);
        }
    }
    if let Some(relay) = &app.relay {
        let rules = app.rules();
        for route in relay.writers().remove(domain).unwrap_or_default() {
            let host = route.record.host.as_deref();
            let provider = host.and_then(|host| rules.provider_of_host(host));
            all.extend(provider.into_iter().flat_map(|provider| provider.dkim_selectors.iter().cloned()));
        }
    }
    Ok(all)
}
