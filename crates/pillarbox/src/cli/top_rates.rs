//! What two looks at the figures say: so many a second, so long for half of them, and the queue as it is now.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::http::api::figures::{FiguresOut, PointOut};

/// What is shown of the figures.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Seconds between the looks.
    pub seconds: f64,
    /// A second.
    pub rates: Speeds,
    /// Seconds; absent where nothing was counted between the looks.
    pub latency: Latencies,
    /// By route and stream.
    pub queue: Vec<QueueLine>,
    /// Reasons of what was deferred or failed between the looks, a second; most first.
    pub reasons: Vec<Reason>,
    /// Octets of memory.
    pub memory_bytes: f64,
    /// Free octets on the disk.
    pub disk_free_bytes: f64,
    /// Connections to next hops.
    pub connections: f64,
    /// Recipients in memory.
    pub window: f64,
    /// Open incidents.
    pub incidents: f64,
    /// Routes whose credential is rejected.
    pub brakes: Vec<String>,
}

/// So many a second.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Speeds {
    /// Messages made durable.
    pub accepted: f64,
    /// Submissions refused.
    pub refused: f64,
    /// Recipients.
    pub delivered: f64,
    /// Recipients, for each attempt.
    pub deferred: f64,
    /// Recipients that failed or expired.
    pub failed: f64,
    /// Connections that came about.
    pub connections: f64,
}

/// Half were faster, and 99 of 100; seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Latencies {
    /// From a complete message to its commit.
    pub accept: Option<[f64; 2]>,
    /// From accept to the next hop's 250.
    pub delivery: Option<[f64; 2]>,
    /// A commit of the store.
    pub commit: Option<[f64; 2]>,
}

/// A part of the queue.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct QueueLine {
    /// Route.
    pub route: String,
    /// Stream.
    pub stream: String,
    /// Recipients that wait in the store.
    pub waiting: f64,
    /// Recipients in memory.
    pub leased: f64,
    /// Recipients that somebody has to release.
    pub held: f64,
    /// Age of the oldest, seconds.
    pub oldest_s: f64,
}

/// Why something did not go.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reason {
    /// Reason.
    pub reason: String,
    /// Route.
    pub route: String,
    /// Recipients a second.
    pub rate: f64,
}

struct Look<'a>(&'a FiguresOut);

impl<'a> Look<'a> {
    fn points(&self, name: &str) -> &'a [PointOut] {
        self.0.figures.iter().find(|figure| figure.name == name).map_or(&[], |figure| &figure.points)
    }
    fn sum(&self, name: &str, wanted: impl Fn(&BTreeMap<String, String>) -> bool) -> f64 {
        self.points(name).iter().filter(|point| wanted(&point.labels)).filter_map(|point| point.value).sum()
    }
    fn one(&self, name: &str) -> f64 {
        self.sum(name, |_| true)
    }
    /// Bounds and counts of all points together.
    fn spread(&self, name: &str) -> (Vec<f64>, Vec<u64>) {
        let mut counts: Vec<u64> = Vec::new();
        let points = self.points(name);
        for point in points {
            counts.resize(counts.len().max(point.counts.len()), 0);
            counts.iter_mut().zip(&point.counts).for_each(|(sum, more)| *sum += more);
        }
        (points.first().map(|point| point.bounds.clone()).unwrap_or_default(), counts)
    }
}

fn label<'a>(labels: &'a BTreeMap<String, String>, name: &str) -> &'a str {
    labels.get(name).map_or("", String::as_str)
}

/// Compares two looks.
pub fn between(before: &FiguresOut, now: &FiguresOut, seconds: f64) -> Rates {
    // After a restart everything is counted anew.
    let fresh = before.since != now.since;
    let (old, new) = (Look(before), Look(now));
    let seconds = seconds.max(0.001);
    let speed = |name: &str, wanted: &dyn Fn(&BTreeMap<String, String>) -> bool| {
        let known = if fresh { 0.0 } else { old.sum(name, wanted) };
        (new.sum(name, wanted) - known).max(0.0) / seconds
    };
    let all = &|_: &BTreeMap<String, String>| true;
    let settled = |outcomes: &'static [&'static str]| {
        speed("pillarbox_recipients_settled", &move |labels| outcomes.contains(&label(labels, "outcome")))
    };
    let latency = |name: &str| {
        let (bounds, mut counts) = new.spread(name);
        if !fresh {
            let (_, known) = old.spread(name);
            counts.iter_mut().zip(&known).for_each(|(count, known)| *count = count.saturating_sub(*known));
        }
        Some([quantile(&bounds, &counts, 0.5)?, quantile(&bounds, &counts, 0.99)?])
    };
    Rates {
        seconds,
        rates: Speeds {
            accepted: speed("pillarbox_messages_accepted", all),
            refused: speed("pillarbox_refused", all),
            delivered: settled(&["delivered"]),
            deferred: settled(&["deferred"]),
            failed: settled(&["failed", "expired"]),
            connections: speed("pillarbox_connections_opened", all),
        },
        latency: Latencies {
            accept: latency("pillarbox_accept_seconds"),
            delivery: latency("pillarbox_delivery_seconds"),
            commit: latency("pillarbox_store_commit_seconds"),
        },
        queue: queue(&new),
        reasons: reasons(&old, &new, fresh, seconds),
        memory_bytes: new.one("process_resident_memory_bytes"),
        disk_free_bytes: new.one("pillarbox_disk_free_bytes"),
        connections: new.one("pillarbox_connections"),
        window: new.one("pillarbox_window_recipients"),
        incidents: new.one("pillarbox_incidents_open"),
        brakes: new.points("pillarbox_credential_brake").iter().map(|p| label(&p.labels, "route").to_owned()).collect(),
    }
}

/// Within the bucket it is taken as even; beyond the last bound that bound counts.
fn quantile(bounds: &[f64], counts: &[u64], share: f64) -> Option<f64> {
    let all: u64 = counts.iter().sum();
    if all == 0 {
        return None;
    }
    let wanted = all as f64 * share;
    let mut below = 0.0;
    for (at, count) in counts.iter().enumerate() {
        let count = *count as f64;
        if below + count >= wanted && count > 0.0 {
            let low = if at == 0 { 0.0 } else { bounds.get(at - 1).copied()? };
            let high = bounds.get(at).copied().unwrap_or(low);
            return Some(low + (high - low) * ((wanted - below) / count));
        }
        below += count;
    }
    bounds.last().copied()
}

fn queue(new: &Look<'_>) -> Vec<QueueLine> {
    let mut lines: BTreeMap<(String, String), QueueLine> = BTreeMap::new();
    let key =
        |labels: &BTreeMap<String, String>| (label(labels, "route").to_owned(), label(labels, "stream").to_owned());
    for point in new.points("pillarbox_queue_recipients") {
        let (route, stream) = key(&point.labels);
        let line = lines.entry((route.clone(), stream.clone())).or_default();
        (line.route, line.stream) = (route, stream);
        let value = point.value.unwrap_or_default();
        match label(&point.labels, "state") {
            "waiting" => line.waiting = value,
            "leased" => line.leased = value,
            _ => line.held = value,
        }
    }
    for point in new.points("pillarbox_queue_oldest_seconds") {
        if let Some(line) = lines.get_mut(&key(&point.labels)) {
            line.oldest_s = point.value.unwrap_or_default();
        }
    }
    lines.into_values().collect()
}

fn reasons(old: &Look<'_>, new: &Look<'_>, fresh: bool, seconds: f64) -> Vec<Reason> {
    const NAME: &str = "pillarbox_recipients_settled";
    let mut all: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    for point in new.points(NAME) {
        let reason = label(&point.labels, "reason");
        if reason.is_empty() {
            continue;
        }
        let known = if fresh { 0.0 } else { old.sum(NAME, |labels| *labels == point.labels) };
        *all.entry((reason, label(&point.labels, "route"))).or_default() += point.value.unwrap_or_default() - known;
    }
    let one = |((reason, route), count): ((&str, &str), f64)| Reason {
        reason: reason.to_owned(),
        route: route.to_owned(),
        rate: count / seconds,
    };
    let mut all: Vec<Reason> = all.into_iter().filter(|(_, count)| *count > 0.0).map(one).collect();
    all.sort_by(|a, b| b.rate.total_cmp(&a.rate));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::api::figures::FigureOut;

    fn figure(name: &str, points: Vec<(&[(&str, &str)], f64)>) -> FigureOut {
        let point = |(labels, value): (&[(&str, &str)], f64)| PointOut {
            labels: labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            value: Some(value),
            bounds: Vec::new(),
            counts: Vec::new(),
            sum: None,
        };
        let points = points.into_iter().map(point).collect();
        FigureOut { name: name.into(), help: String::new(), kind: "counter".into(), points }
    }

    fn look(since: &str, delivered: f64, failed: f64, counts: [u64; 3]) -> FiguresOut {
        let spread = PointOut {
            labels: BTreeMap::new(),
            value: None,
            bounds: vec![1.0, 2.0],
            counts: counts.to_vec(),
            sum: Some(0.0),
        };
        let settled = figure(
            "pillarbox_recipients_settled",
            vec![
                (&[("route", "out"), ("outcome", "delivered"), ("reason", "")], delivered),
                (&[("route", "out"), ("outcome", "failed"), ("reason", "user_unknown")], failed),
            ],
        );
        let delivery = FigureOut { points: vec![spread], ..figure("pillarbox_delivery_seconds", Vec::new()) };
        FiguresOut { at: String::new(), since: since.into(), figures: vec![settled, delivery] }
    }

    #[test]
    fn rates_are_what_happened_between_two_looks() {
        let rates = between(&look("a", 100.0, 1.0, [10, 0, 0]), &look("a", 140.0, 5.0, [10, 4, 0]), 2.0);
        assert!((rates.rates.delivered - 20.0).abs() < 1e-9 && (rates.rates.failed - 2.0).abs() < 1e-9, "{rates:?}");
        assert_eq!(rates.latency.delivery, Some([1.5, 1.99]));
        assert_eq!(rates.latency.accept, None);
        let expected = Reason { reason: "user_unknown".into(), route: "out".into(), rate: 2.0 };
        assert_eq!(rates.reasons, [expected]);
    }

    #[test]
    fn after_a_restart_nothing_is_negative() {
        let rates = between(&look("a", 100.0, 9.0, [10, 0, 0]), &look("b", 4.0, 0.0, [4, 0, 0]), 2.0);
        assert!((rates.rates.delivered - 2.0).abs() < 1e-9, "{rates:?}");
        assert!(rates.reasons.is_empty() && rates.latency.delivery.is_some(), "{rates:?}");
    }
}
