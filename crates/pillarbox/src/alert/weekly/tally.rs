//! Counts events for a report. Pure, and bounded whatever comes.

use std::collections::HashMap;

use explain::RuleBase;
use serde::{Deserialize, Serialize};
use store::{Cause, Event, EventKind, RecipientId};

use crate::http::finding::FindingOut;

/// Most different causes, and next hops.
const MOST_CAUSES: usize = 500;
const MOST_HOPS: usize = 2_000;
/// Delivery times kept of a next hop, and in all.
const MOST_TIMES: usize = 2_000;
/// Next hops with fewer deliveries than this are not compared.
const LEAST: usize = 5;
/// Bounced recipients that are remembered.
const MOST_BOUNCED: usize = 20_000;

/// How much of what. Field names are a promise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volumes {
    /// Messages taken in.
    pub accepted: u64,
    /// Recipients that a next hop took.
    pub delivered: u64,
    /// Recipients that failed for good.
    pub failed: u64,
    /// Recipients whose time was over.
    pub expired: u64,
    /// Recipients that came back later.
    pub bounced: u64,
    /// Complaints.
    pub complained: u64,
    /// Recipients that were not to be tried.
    pub suppressed: u64,
    /// Attempts that had to be repeated.
    pub deferred: u64,
}

/// A number as it would be if everything had been looked at.
pub fn grown(count: u64, share: f64) -> u64 {
    (count as f64 / share).round() as u64
}

impl Volumes {
    /// As they would be if everything had been looked at.
    pub fn scaled(self, share: f64) -> Self {
        let grown = |count| grown(count, share);
        Self {
            accepted: grown(self.accepted),
            delivered: grown(self.delivered),
            failed: grown(self.failed),
            expired: grown(self.expired),
            bounced: grown(self.bounced),
            complained: grown(self.complained),
            suppressed: grown(self.suppressed),
            deferred: grown(self.deferred),
        }
    }
}

/// A line of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Top {
    /// Reason or domain.
    pub name: String,
    /// In words.
    pub title: String,
    /// How many.
    pub count: u64,
}

/// A next hop by its times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slow {
    /// Domain of the host that took it.
    pub host: String,
    /// Recipients delivered.
    pub delivered: u64,
    /// Half were delivered within so many seconds of being accepted.
    pub median_s: f64,
    /// 95 of 100 within so many.
    pub p95_s: f64,
}

/// What was counted.
#[derive(Debug, Default)]
pub struct Tally {
    /// Counts.
    pub volumes: Volumes,
    /// Final failures by what explains them.
    pub failures: HashMap<String, (u64, Option<Cause>)>,
    /// Repeated attempts by what explains them.
    pub delays: HashMap<String, (u64, Option<Cause>)>,
    /// Who bounced.
    pub bounced: Vec<RecipientId>,
    hops: HashMap<String, (u64, Vec<i64>)>,
}

fn count(causes: &mut HashMap<String, (u64, Option<Cause>)>, cause: Option<&Cause>) {
    let key = cause.and_then(|cause| cause.rule.as_deref()).unwrap_or("unknown");
    let key = if causes.len() >= MOST_CAUSES && !causes.contains_key(key) { "others" } else { key };
    match causes.get_mut(key) {
        Some(known) => known.0 += 1,
        None => drop(causes.insert(key.to_owned(), (1, cause.cloned()))),
    }
}

/// `mx1.mail.example.net [192.0.2.1]:25` belongs to `example.net`, near enough: a list is read by people.
fn owner(peer: &str) -> String {
    let host = peer.split(' ').next().unwrap_or(peer).trim_end_matches('.').to_ascii_lowercase();
    let labels: Vec<&str> = host.split('.').collect();
    // An address has no owner that could be seen, and short last labels may be of two levels: `co.uk`.
    if host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok() || labels.len() <= 2 {
        return host;
    }
    let second = labels[labels.len() - 2];
    let keep = if second.len() <= 3 && labels[labels.len() - 1].len() == 2 { 3 } else { 2 };
    labels[labels.len().saturating_sub(keep)..].join(".")
}

impl Tally {
    /// Counts an event.
    pub fn add(&mut self, event: &Event) {
        let volumes = &mut self.volumes;
        let cause = event.detail.cause.as_ref();
        match event.kind {
            EventKind::Accepted => volumes.accepted += 1,
            EventKind::Delivered => {
                volumes.delivered += 1;
                self.delivered(event);
            }
            EventKind::Deferred => {
                volumes.deferred += 1;
                count(&mut self.delays, cause);
            }
            EventKind::Failed => {
                volumes.failed += 1;
                count(&mut self.failures, cause);
                self.bounce(event);
            }
            EventKind::Expired => {
                volumes.expired += 1;
                count(&mut self.failures, cause);
            }
            EventKind::Bounced => {
                volumes.bounced += 1;
                self.bounce(event);
            }
            EventKind::Complained => volumes.complained += 1,
            EventKind::Suppressed => volumes.suppressed += 1,
            _ => {}
        }
    }

    fn bounce(&mut self, event: &Event) {
        if let Some(n) = event.n.filter(|_| self.bounced.len() < MOST_BOUNCED) {
            self.bounced.push(RecipientId { message: event.message, n });
        }
    }

    fn delivered(&mut self, event: &Event) {
        let Some(peer) = event.detail.attempt.as_ref().and_then(|attempt| attempt.peer.as_deref()) else { return };
        let owner = owner(peer);
        if self.hops.len() >= MOST_HOPS && !self.hops.contains_key(&owner) {
            return;
        }
        let (delivered, times) = self.hops.entry(owner).or_default();
        let took_ms = (event.at_ms - event.message.created_ms()).max(0);
        *delivered += 1;
        if times.len() < MOST_TIMES {
            times.push(took_ms);
        } else {
            // Later ones replace earlier ones, spread over all: no need for chance.
            let at = usize::try_from(*delivered * 7_919 % MOST_TIMES as u64).unwrap_or(0);
            times[at] = took_ms;
        }
    }

    /// The slowest next hops.
    pub fn slowest(&self, share: f64, most: usize) -> Vec<Slow> {
        let slow = |(host, (delivered, times)): (&String, &(u64, Vec<i64>))| {
            let mut times = times.clone();
            times.sort_unstable();
            let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)] as f64 / 1_000.0;
            Slow { host: host.clone(), delivered: grown(*delivered, share), median_s: at(50), p95_s: at(95) }
        };
        let mut all: Vec<Slow> = self.hops.iter().filter(|(_, (_, times))| times.len() >= LEAST).map(slow).collect();
        all.sort_by(|a, b| b.median_s.total_cmp(&a.median_s).then_with(|| a.host.cmp(&b.host)));
        all.truncate(most);
        all
    }
}

/// The most frequent causes, in words of the rules as they are now.
pub fn top(causes: &HashMap<String, (u64, Option<Cause>)>, rules: &RuleBase, share: f64, most: usize) -> Vec<Top> {
    let mut all: Vec<(&String, &(u64, Option<Cause>))> = causes.iter().collect();
    all.sort_by(|a, b| (b.1.0, a.0).cmp(&(a.1.0, b.0)));
    let line = |(key, (count, cause)): (&String, &(u64, Option<Cause>))| {
        let finding = cause.as_ref().and_then(|cause| FindingOut::of(rules, cause));
        let (name, title) = finding.map_or_else(|| (key.clone(), String::new()), |one| (one.reason, one.title));
        Top { name, title, count: grown(*count, share) }
    };
    all.into_iter().take(most).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::smtp::reply::Reply;
    use proto::transcript::{Failure, Stage};
    use store::{Attempt, EventDetail, MessageId};

    fn event(kind: EventKind, message: i64, took_ms: i64, peer: &str) -> Event {
        let at_ms = MessageId(message).created_ms() + took_ms;
        let attempt = Attempt {
            route: "out".into(),
            peer: Some(peer.into()),
            tls: None,
            started_ms: at_ms,
            took_ms: 1,
            stage: None,
            reply: None,
            transcript: None,
        };
        let failure = Failure::Refused(Reply::new(550, "5.1.1 User unknown"));
        let cause = Cause {
            stage: Stage::Recipient,
            failure,
            provider: None,
            rule: Some("recipient/unknown".into()),
            unknown_via: None,
        };
        let cause = matches!(kind, EventKind::Failed | EventKind::Deferred).then_some(cause);
        let detail = EventDetail { attempt: Some(attempt), cause, ..EventDetail::default() };
        Event { seq: 1, at_ms, message: MessageId(message), n: Some(0), kind, detail }
    }

    #[test]
    fn the_slowest_next_hop_comes_first_and_few_deliveries_say_nothing() {
        let mut tally = Tally::default();
        for n in 0..10 {
            tally.add(&event(EventKind::Delivered, n, 1_000, "mx1.fast.example [192.0.2.1]:25"));
            tally.add(&event(EventKind::Delivered, n, 90_000, "b.slow.co.uk [192.0.2.2]:25"));
        }
        tally.add(&event(EventKind::Delivered, 1, 900_000, "once.example [192.0.2.3]:25"));
        let slowest = tally.slowest(1.0, 10);
        let names: Vec<_> = slowest.iter().map(|slow| (slow.host.as_str(), slow.median_s)).collect();
        assert_eq!(names, [("slow.co.uk", 90.0), ("fast.example", 1.0)]);
        assert_eq!(tally.volumes.delivered, 21);
    }

    #[test]
    fn failures_are_counted_by_cause_and_grow_with_the_share_that_was_seen() {
        let mut tally = Tally::default();
        for n in 0..8 {
            tally.add(&event(EventKind::Failed, n, 1, "x.example"));
        }
        tally.add(&event(EventKind::Deferred, 9, 1, "x.example"));
        let top = top(&tally.failures, RuleBase::builtin(), 0.5, 10);
        assert_eq!((top.len(), top[0].count), (1, 16));
        assert!(!top[0].title.is_empty());
        assert_eq!(tally.volumes.scaled(0.5).failed, 16);
        assert_eq!((tally.bounced.len(), tally.delays.len()), (8, 1));
    }

    #[test]
    fn a_flood_of_names_takes_no_more_room() {
        let mut tally = Tally::default();
        for n in 0..5_000 {
            tally.add(&event(EventKind::Delivered, n, 1, &format!("host.n{n}.example [192.0.2.1]:25")));
        }
        assert!(tally.hops.len() <= MOST_HOPS);
        assert_eq!(owner("[192.0.2.1]:25"), "[192.0.2.1]:25");
    }
}
