//! Whether it is this address, its domain, its provider or everyone: how the latest mail of each fared, and what the scope
//! finder of incidents makes of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use explain::{RuleBase, Scope};
use relay::incident::{Sample, find};
use store::{Event, EventKind, IncidentScope, SearchHit, SearchQuery, Whom};

use super::{Gathered, WhomOut, WhomRowOut};
use crate::http::problem::Problem;
use crate::http::{Shared, time};
use crate::incident::words;

/// Messages to the domain and to all that are compared.
const OF_DOMAIN: u32 = 100;
const OF_ALL: u32 = 150;
/// Events of each, the newest.
const EVENTS: u32 = 50;

pub(super) async fn of(app: &Shared, gathered: &Gathered) -> Result<WhomOut, Problem> {
    let store = &app.store;
    let domain = gathered.address.domain().to_owned();
    let query = SearchQuery { recipient: Some(Whom::Domain(domain.clone())), ..SearchQuery::default() };
    // All questions are asked at once: waiting for each answer before the next takes longer than finding them.
    let of_domain = store.search(query, None, OF_DOMAIN);
    let of_all = store.search(SearchQuery::default(), None, OF_ALL);
    let (of_domain, of_all) = (of_domain.await?.hits, of_all.await?.hits);
    let rules = app.rules();
    let smart: HashSet<String> = match &app.relay {
        Some(relay) => {
            let own = relay.routes().into_iter().filter(|route| route.record.kind.has_account());
            own.map(|route| route.name.to_string()).collect()
        }
        None => HashSet::new(),
    };
    let mut seen = HashSet::new();
    let hits = gathered.own.iter().chain(&of_domain).chain(&of_all).filter(|hit| seen.insert(hit.message.id));
    let asked: Vec<_> = hits.map(|hit| (hit, store.events(hit.message.id, EVENTS))).collect();
    let mut samples = Vec::new();
    for (hit, events) in asked {
        samples.extend(events.await?.iter().filter_map(|event| sample(hit, event, &rules, &smart)));
    }
    let provider = provider_of(&samples, gathered);
    let reason = gathered.finding.as_ref().map(|finding| finding.reason.clone());
    let rows = rows(&samples, gathered, provider.as_deref(), reason.as_deref(), &rules);
    let rule_scope: Option<Scope> =
        gathered.finding.as_ref().and_then(|finding| rules.rule(&finding.rule)).map(|rule| rule.scope);
    let found = reason.as_deref().and_then(|reason| find(&samples, reason, rule_scope, app.clock.now_ms()));
    let Some(found) = found else {
        let fine = rows.iter().skip(1).take(1).map(|row| row.accepted).sum::<u32>();
        let words = match gathered.latest {
            None => "Nothing was sent to this address, so nothing can be compared.".to_owned(),
            Some(_) if fine > 0 => {
                format!("Nothing fails for this address now; other mail to {domain} is accepted too.")
            }
            Some(_) => "Nothing fails for this address now.".to_owned(),
        };
        return Ok(WhomOut { words, scope: None, since: None, rows });
    };
    let words = in_words(&found.scope, gathered, &rows, &rules);
    Ok(WhomOut { words, scope: Some(found.scope.to_string()), since: Some(time::show(found.since_ms)), rows })
}

/// An attempt, or a report that came later, as evidence.
fn sample(hit: &SearchHit, event: &Event, rules: &RuleBase, smart: &HashSet<String>) -> Option<Sample> {
    let failed = match event.kind {
        EventKind::Delivered => None,
        EventKind::Deferred | EventKind::Failed | EventKind::Bounced => {
            let rule = event.detail.cause.as_ref()?.rule.as_deref().and_then(|rule| rules.rule(rule))?;
            Some(rule)
        }
        _ => return None,
    };
    let view = hit.recipients.iter().find(|view| Some(view.id.n) == event.n)?;
    let attempt = event.detail.attempt.as_ref();
    let route: Arc<str> = attempt.map_or_else(|| view.lane.route.clone(), |attempt| attempt.route.clone());
    let host = attempt.and_then(|attempt| attempt.peer.as_deref()).and_then(|peer| peer.split(' ').next());
    let known = event.detail.cause.as_ref().and_then(|cause| cause.provider.clone());
    let provider =
        known.or_else(|| host.and_then(|host| rules.provider_of_host(host)).map(|known| known.id.as_str().into()));
    let destination = match host {
        Some(host) if !smart.contains(&*route) => format!("{route}/{host}").into(),
        _ => route.clone(),
    };
    Some(Sample {
        at_ms: event.at_ms,
        failed: failed.map(|rule| rule.reason.as_str().into()),
        rule: failed.map(|rule| rule.id.as_str().into()),
        route,
        provider,
        destination,
        domain: view.lane.domain.clone(),
        address: view.address.as_str().into(),
        sender_domain: view.reverse_path.0.as_ref().map_or("", |from| from.domain()).into(),
        sender: view.lane.sender.clone(),
        stream: view.lane.stream.clone(),
        source: None,
        peer: None,
        recipients: 1,
    })
}

/// Who runs the mailboxes of the domain, as far as its mail has shown.
fn provider_of(samples: &[Sample], gathered: &Gathered) -> Option<Arc<str>> {
    let mut counts: HashMap<Arc<str>, u32> = HashMap::new();
    for sample in samples.iter().filter(|sample| *sample.domain == *gathered.address.domain()) {
        if let Some(provider) = &sample.provider {
            *counts.entry(provider.clone()).or_default() += 1;
        }
    }
    counts.into_iter().max_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(&a.0))).map(|(provider, _)| provider)
}

fn rows(
    samples: &[Sample],
    gathered: &Gathered,
    provider: Option<&str>,
    reason: Option<&str>,
    rules: &RuleBase,
) -> Vec<WhomRowOut> {
    let row =
        |group: &str, name: String| WhomRowOut { group: group.into(), name, accepted: 0, failed: 0, same_reason: 0 };
    let shown = provider.map(|id| rules.provider(id).map_or_else(|| id.to_owned(), |known| known.name.clone()));
    let mut rows = vec![
        row("address", gathered.address.to_string()),
        row("domain", gathered.address.domain().to_owned()),
        row("provider", shown.unwrap_or_else(|| "not known".into())),
        row("everyone", "all other mail".into()),
    ];
    for sample in samples {
        let place = if sample.address.eq_ignore_ascii_case(gathered.address.as_str()) {
            0
        } else if *sample.domain == *gathered.address.domain() {
            1
        } else if provider.is_some() && sample.provider.as_deref() == provider {
            2
        } else {
            3
        };
        let Some(row) = rows.get_mut(place) else { continue };
        match &sample.failed {
            None => row.accepted += 1,
            Some(failed) => {
                row.failed += 1;
                row.same_reason += u32::from(reason == Some(&**failed));
            }
        }
    }
    if provider.is_none() {
        rows.remove(2);
    }
    rows
}

fn in_words(scope: &IncidentScope, gathered: &Gathered, rows: &[WhomRowOut], rules: &RuleBase) -> String {
    let domain = gathered.address.domain();
    let others = rows.iter().skip(1).map(|row| row.accepted + row.failed).sum::<u32>();
    let of_domain = rows.get(1).map_or(0, |row| row.accepted);
    if others == 0 {
        return "There was no other mail to compare with: whom it touches cannot be told.".into();
    }
    match scope {
        IncidentScope::Address(_) if of_domain > 0 => {
            format!("It is this address alone: {} to others at {domain} accepted.", attempts(of_domain))
        }
        IncidentScope::Address(_) => {
            format!("It is this address, as far as can be told: no other mail to {domain} was sent lately.")
        }
        IncidentScope::Domain(_) | IncidentScope::Destination(_) => {
            format!("It is all mail to {domain}, whatever the address; other mail is accepted.")
        }
        IncidentScope::Provider(id) => {
            let name = rules.provider(id).map_or(id.as_str(), |known| known.name.as_str());
            format!("It is all mail that {name} takes in, not only that to {domain}.")
        }
        IncidentScope::Everyone => "It is all mail, whoever it is for: look here first, not at the recipient.".into(),
        other => format!("It is {}, whoever it is for: look here first, not at the recipient.", words::scope(other)),
    }
}

fn attempts(n: u32) -> String {
    if n == 1 { "one message".into() } else { format!("{n} messages") }
}
