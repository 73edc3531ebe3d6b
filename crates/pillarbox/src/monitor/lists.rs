//! The check of blocklists, six-hourly: our addresses and the domains that write. What a list that does not answer said last
//! holds until it answers, also over a restart: its silence is neither a removal nor, afterwards, a new entry.

use std::collections::BTreeMap;
use std::time::Duration;

use diagnose::domain::label;
use diagnose::lists::{Lists, ListsReport, Rank, SubjectRow};
use explain::lists::Blocklist;
use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::alert::AlertRule;
use crate::http::{Shared, time};
use crate::monitor::check::{Alerting, name_of};
use crate::monitor::results::Kept;
use crate::monitor::{CheckKind, Found, Level, Schedule, Subject, dns};

const EVERY: Duration = Duration::from_secs(6 * 3_600);

/// `blocklists:<address or domain>`
#[derive(Debug)]
pub struct ListsKind;

impl CheckKind for ListsKind {
    fn id(&self) -> &'static str {
        "blocklists"
    }

    fn title(&self) -> &'static str {
        "blocklists of our addresses and domains"
    }

    fn schedule(&self) -> Schedule {
        Schedule::every(EVERY)
    }

    fn alerting(&self) -> Alerting {
        Alerting::LevelAndFacts
    }

    fn rule(&self) -> AlertRule {
        AlertRule::Blocklisted
    }

    /// Those who run the lists learn of an address or a domain: there is time to switch it off before.
    fn waits(&self) -> bool {
        true
    }

    fn subjects<'a>(&'a self, app: &'a Shared) -> BoxFuture<'a, Vec<Subject>> {
        Box::pin(async move {
            let mut all: Vec<Subject> = Vec::new();
            for address in dns::addresses(app).into_keys() {
                all.push(Subject::new(address.to_string(), format!("address {address}"), 0));
            }
            for domain in dns::domains(app).await {
                all.push(Subject::new(domain.clone(), format!("domain {domain}"), 0));
            }
            all
        })
    }

    fn run<'a>(&'a self, app: &'a Shared, subject: &'a Subject) -> BoxFuture<'a, Found> {
        Box::pin(async move {
            let asked = ask(app, std::slice::from_ref(&subject.id)).await;
            match asked.and_then(|report| Ok((report, app.dns.lists()?))) {
                Ok((report, lists)) => {
                    let last = app.monitor.results.latest(&name_of(self.id(), &subject.id));
                    found(app, report, &lists, &last.as_ref().map(Known::of).unwrap_or_default())
                }
                Err(why) => Found::skipped(why),
            }
        })
    }
}

/// Asks all lists about these now. `Err` says what is wrong.
pub async fn ask(app: &Shared, subjects: &[String]) -> Result<ListsReport, String> {
    let parse = |text: &String| {
        diagnose::lists::Subject::parse(text)
            .ok_or_else(|| format!("{} is neither an address nor a domain", text.escape_debug()))
    };
    let subjects = subjects.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let (lists, net) = (app.dns.lists()?, app.dns.net()?);
    let seed = net.clock.mono_us() ^ u64::try_from(net.clock.now_ms()).unwrap_or(1);
    let lists = Lists::new(net.resolver, lists, label(seed));
    Ok(lists.report(&subjects, app.clock.now_ms()).await)
}

/// What the last look found, as it was kept.
#[derive(Debug, Default)]
struct Known {
    /// When that was, Unix milliseconds.
    at_ms: i64,
    /// Codes by list.
    listed: BTreeMap<String, Vec<String>>,
    /// Lists that were silent then, since when; Unix milliseconds.
    silent: BTreeMap<String, i64>,
}

impl Known {
    fn of(kept: &Kept) -> Self {
        fn read<T: DeserializeOwned + Default>(value: &Value) -> T {
            serde_json::from_value(value.clone()).unwrap_or_default()
        }
        let result = &kept.result;
        Self { at_ms: result.last_ms, listed: read(&result.facts["listed"]), silent: read(&result.detail["silent"]) }
    }
}

/// Adds what lists said that do not answer now; gives since when they do not, by list.
fn recall(row: &mut SubjectRow, lists: &[Blocklist], known: &Known) -> BTreeMap<String, i64> {
    let mut silent = BTreeMap::new();
    for list in lists {
        let Some(codes) = known.listed.get(&list.id).filter(|_| row.unknown.contains_key(&list.id)) else { continue };
        row.recall(list, codes);
        silent.insert(list.id.clone(), known.silent.get(&list.id).copied().unwrap_or(known.at_ms));
    }
    silent
}

fn found(app: &Shared, mut report: ListsReport, lists: &[Blocklist], known: &Known) -> Found {
    let Some(row) = report.subjects.first_mut() else { return Found::skipped("nothing was asked") };
    if row.answered == 0 {
        let why: Vec<&str> = row.unknown.values().map(String::as_str).take(3).collect();
        return Found::skipped(format!("no list answers: {}", why.join("; ")));
    }
    let silent = recall(row, lists, known);
    let level = match row.rank {
        Rank::Clean => Level::Ok,
        Rank::Note => Level::Note,
        Rank::Warning => Level::Warning,
        Rank::Problem => Level::Problem,
    };
    let (summary, facts) = (words(row, lists, &silent), json!({ "listed": listed(row) }));
    let routes = row.subject.parse().ok().and_then(|address| dns::addresses(app).remove(&address));
    let found = Found::new(level, summary).facts(facts).detail(json!({ "report": report, "silent": silent }));
    match (level, routes) {
        // Mail about it must not leave from the address that is refused.
        (Level::Problem, Some(routes)) => routes.into_iter().fold(found, Found::avoid),
        _ => found,
    }
}

fn words(row: &SubjectRow, lists: &[Blocklist], silent: &BTreeMap<String, i64>) -> String {
    let names: Vec<&str> = row.listings.iter().map(|listing| listing.name.as_str()).collect();
    let mut text = match names.is_empty() {
        true => format!("{} is on none of {} lists that answer", row.subject, row.answered),
        false => format!("{} is on {} ({} points)", row.subject, names.join(", "), row.points),
    };
    for list in lists {
        if let Some(since_ms) = silent.get(&list.id) {
            text.push_str(&format!("; {} has not answered since {}", list.name, time::show(*since_ms)));
        }
    }
    text
}

/// Codes by list.
fn listed(row: &SubjectRow) -> BTreeMap<&str, Vec<&str>> {
    let mut listed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for listing in &row.listings {
        listed.entry(&listing.list).or_default().push(&listing.code);
    }
    listed.values_mut().for_each(|codes| codes.sort_unstable());
    listed
}

#[cfg(test)]
mod tests {
    use explain::lists::blocklists;

    use super::*;

    fn row(unknown: &[&str]) -> SubjectRow {
        SubjectRow {
            subject: "192.0.2.9".into(),
            rank: Rank::Clean,
            points: 0,
            listings: Vec::new(),
            answered: 5,
            unknown: unknown.iter().map(|list| ((*list).to_owned(), "timeout".to_owned())).collect(),
        }
    }

    #[test]
    fn a_list_that_falls_silent_has_removed_nobody() {
        let mut known = Known { at_ms: 1_000, ..Known::default() };
        known.listed.insert("spamhaus-zen".into(), vec!["127.0.0.10".into(), "127.0.0.4".into()]);
        let look = |unknown: &[&str], known: &Known| {
            let mut row = row(unknown);
            let silent = recall(&mut row, blocklists(), known);
            (row, silent)
        };
        let (silent, since) = look(&["spamhaus-zen", "psbl"], &known);
        assert_eq!((silent.rank, silent.points, since["spamhaus-zen"]), (Rank::Problem, 10, 1_000));
        assert_eq!(listed(&silent), BTreeMap::from([("spamhaus-zen", vec!["127.0.0.10", "127.0.0.4"])]));
        let text = words(&silent, blocklists(), &since);
        assert!(text.ends_with("; Spamhaus ZEN has not answered since 1970-01-01T00:00:01Z"), "{text}");

        // Later it is still silent, since the same time.
        known = Known { at_ms: 9_000, silent: since, ..known };
        assert_eq!(look(&["spamhaus-zen"], &known).1["spamhaus-zen"], 1_000);
        // It answers, and lists nobody.
        let (clean, since) = look(&["psbl"], &known);
        assert_eq!((clean.rank, clean.listings.len(), since.len()), (Rank::Clean, 0, 0));
    }
}
