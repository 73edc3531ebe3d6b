//! The check of blocklists, six-hourly: our addresses and the domains that write. What a list that does not answer said last is
//! kept, so that its silence is neither a removal nor, afterwards, a new entry.

use std::collections::BTreeMap;
use std::time::Duration;

use diagnose::domain::label;
use diagnose::lists::{Lists, ListsReport, Rank, SubjectRow};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::json;

use crate::alert::AlertRule;
use crate::http::Shared;
use crate::monitor::check::Alerting;
use crate::monitor::{CheckKind, Found, Level, Schedule, Subject, dns};

const EVERY: Duration = Duration::from_secs(6 * 3_600);

/// `blocklists:<address or domain>`
#[derive(Debug, Default)]
pub struct ListsKind {
    /// What each list said last about each subject.
    last: Mutex<BTreeMap<String, BTreeMap<String, Vec<String>>>>,
}

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
            match ask(app, std::slice::from_ref(&subject.id)).await {
                Ok(report) => self.found(app, &report),
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

impl ListsKind {
    fn found(&self, app: &Shared, report: &ListsReport) -> Found {
        let Some(row) = report.subjects.first() else { return Found::skipped("nothing was asked") };
        if row.answered == 0 {
            let why: Vec<&str> = row.unknown.values().map(String::as_str).take(3).collect();
            return Found::skipped(format!("no list answers: {}", why.join("; ")));
        }
        let listed = self.remember(row);
        let level = match row.rank {
            Rank::Clean => Level::Ok,
            Rank::Note => Level::Note,
            Rank::Warning => Level::Warning,
            Rank::Problem => Level::Problem,
        };
        let names: Vec<&str> = row.listings.iter().map(|listing| listing.name.as_str()).collect();
        let summary = match names.is_empty() {
            true => format!("{} is on none of {} lists that answer", row.subject, row.answered),
            false => format!("{} is on {} ({} points)", row.subject, names.join(", "), row.points),
        };
        let found = Found::new(level, summary).facts(json!({ "listed": listed })).detail(json!({ "report": report }));
        let routes = row.subject.parse().ok().and_then(|address| dns::addresses(app).remove(&address));
        match (level, routes) {
            // Mail about it must not leave from the address that is refused.
            (Level::Problem, Some(routes)) => routes.into_iter().fold(found, Found::avoid),
            _ => found,
        }
    }

    /// Codes by list; of a list that did not answer, those of last time.
    fn remember(&self, row: &SubjectRow) -> BTreeMap<String, Vec<String>> {
        let mut listed: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for listing in &row.listings {
            listed.entry(listing.list.clone()).or_default().push(listing.code.clone());
        }
        let mut last = self.last.lock();
        let before = last.entry(row.subject.clone()).or_default();
        for (list, codes) in before.iter() {
            if row.unknown.contains_key(list) {
                listed.entry(list.clone()).or_insert_with(|| codes.clone());
            }
        }
        listed.values_mut().for_each(|codes| codes.sort());
        before.clone_from(&listed);
        listed
    }
}

#[cfg(test)]
mod tests {
    use diagnose::lists::ListingRow;
    use explain::lists::ListingKind;

    use super::*;

    fn row(listed: &[&str], unknown: &[&str]) -> SubjectRow {
        let listing = |list: &&str| ListingRow {
            list: (*list).to_owned(),
            name: (*list).to_owned(),
            meaning: String::new(),
            kind: ListingKind::Listed,
            code: "127.0.0.2".into(),
            points: 10,
            reason: None,
            used: String::new(),
            url: String::new(),
        };
        SubjectRow {
            subject: "192.0.2.9".into(),
            rank: Rank::Clean,
            points: 0,
            listings: listed.iter().map(listing).collect(),
            answered: 5,
            unknown: unknown.iter().map(|list| ((*list).to_owned(), "timeout".to_owned())).collect(),
        }
    }

    #[test]
    fn a_list_that_falls_silent_has_removed_nobody() {
        let kind = ListsKind::default();
        let listed = |row: &SubjectRow| kind.remember(row).into_keys().collect::<Vec<_>>();
        assert_eq!(listed(&row(&["zen"], &[])), ["zen"]);
        assert_eq!(listed(&row(&[], &["zen"])), ["zen"]);
        assert_eq!(listed(&row(&[], &["zen", "other"])), ["zen"]);
        assert_eq!(listed(&row(&[], &[])), Vec::<String>::new());
        assert_eq!(listed(&row(&[], &["zen"])), Vec::<String>::new());
    }
}
