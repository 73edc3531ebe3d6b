//! Rates of bounces and complaints over a rolling window: per sender, stream, route and provider. Pure.
//!
//! Providers close accounts whose rates are too high. Here they warn first and then stop a stream: few enough messages that
//! one bad address trips nothing, exact enough that a restart forgets nothing.

pub(crate) mod pause;
pub(crate) mod watch;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Steps of a window.
const STEPS: i64 = 24;
/// Most series kept: combinations of sender, stream, route and provider.
const SERIES: usize = 4_096;
/// So many bounces or complaints there must be before a rate means anything.
const LEAST_BOUNCES: u64 = 5;
const LEAST_COMPLAINTS: u64 = 3;

/// When a rate warns, and when it stops. Millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From here on it warns.
    pub warn: u32,
    /// From here on it stops.
    pub stop: u32,
}

/// What is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateConfig {
    /// How far back, milliseconds.
    pub window_ms: i64,
    /// Below so many messages no rate is judged.
    pub minimum: u64,
    /// Of bounces; `None`: not judged.
    pub bounces: Option<Limits>,
    /// Of complaints; `None`: not judged.
    pub complaints: Option<Limits>,
    /// A stream is paused where a rate says stop.
    pub pauses: bool,
}

impl Default for RateConfig {
    fn default() -> Self {
        Self {
            window_ms: 86_400_000,
            minimum: 100,
            bounces: Some(Limits { warn: 20_000, stop: 50_000 }),
            complaints: Some(Limits { warn: 1_000, stop: 5_000 }),
            pauses: true,
        }
    }
}

/// What mail has in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(crate) sender: Arc<str>,
    pub(crate) stream: Arc<str>,
    pub(crate) route: Arc<str>,
    /// Of the next hop; none if it was not recognised.
    pub(crate) provider: Option<Arc<str>>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Recipients that a next hop took, or refused as bad addresses.
    pub(crate) sent: u64,
    pub(crate) bounced: u64,
    pub(crate) complained: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.bounced += other.bounced;
        self.complained += other.complained;
    }
}

/// Something bad that was heard of a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bad {
    /// The next hop refused the address.
    Refused,
    /// The next hop took it, and it came back.
    Returned,
    /// The recipient complained.
    Complaint,
}

impl Bad {
    pub(crate) fn counts(self) -> Counts {
        match self {
            Self::Refused => Counts { sent: 1, bounced: 1, complained: 0 },
            Self::Returned => Counts { bounced: 1, ..Counts::default() },
            Self::Complaint => Counts { complained: 1, ..Counts::default() },
        }
    }
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Below the thresholds, or too little mail to tell.
    Fine,
    /// Above the first threshold.
    Warn,
    /// Above the second.
    Stop,
}

/// What a rate is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RateOf {
    /// A stream.
    Stream,
    /// A sender.
    Sender,
    /// A route.
    Route,
    /// A provider.
    Provider,
}

impl RateOf {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Stream, Self::Sender, Self::Route, Self::Provider];

    fn name(self, series: &Series) -> Option<&Arc<str>> {
        match self {
            Self::Stream => Some(&series.stream),
            Self::Sender => Some(&series.sender),
            Self::Route => Some(&series.route),
            Self::Provider => series.provider.as_ref(),
        }
    }
}

/// The rates of one stream, sender, route or provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Of what.
    pub of: RateOf,
    /// Its name.
    pub name: Arc<str>,
    /// Recipients that a next hop took, or refused as bad addresses, in the window.
    pub sent: u64,
    /// Bad addresses among them.
    pub bounced: u64,
    /// Complaints about them.
    pub complained: u64,
    /// `bounced` as a share of `sent`, percent.
    pub bounce_percent: f64,
    /// `complained` as a share of `sent`, percent.
    pub complaint_percent: f64,
    /// How the bounces stand.
    pub bounces: Level,
    /// How the complaints stand.
    pub complaints: Level,
}

impl Rate {
    /// The worse of the two levels.
    pub fn level(&self) -> Level {
        self.bounces.max(self.complaints)
    }
}

/// One series: counts by step of time, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line(Vec<(i64, Counts)>);

impl Line {
    fn total(&self, from: i64) -> Counts {
        let mut total = Counts::default();
        self.0.iter().filter(|(step, _)| *step >= from).for_each(|(_, counts)| total.add(*counts));
        total
    }

    fn latest(&self) -> i64 {
        self.0.last().map_or(i64::MIN, |(step, _)| *step)
    }
}

/// All series.
#[derive(Debug)]
pub(crate) struct Rates {
    step_ms: i64,
    lines: HashMap<Series, Line>,
    /// Series that changed since they were written down.
    unsaved: HashSet<Series>,
}

impl Rates {
    pub(crate) fn new(window_ms: i64) -> Self {
        Self { step_ms: (window_ms / STEPS).max(1), lines: HashMap::new(), unsaved: HashSet::new() }
    }

    fn step(&self, at_ms: i64) -> i64 {
        at_ms.div_euclid(self.step_ms)
    }

    /// The oldest step that counts.
    fn from(&self, now_ms: i64) -> i64 {
        self.step(now_ms) - STEPS + 1
    }

    /// Counts what happened at a time. What is older than the window counts nowhere.
    pub(crate) fn add(&mut self, series: &Series, counts: Counts, at_ms: i64, now_ms: i64) {
        let (step, from) = (self.step(at_ms.min(now_ms)), self.from(now_ms));
        if step < from {
            return;
        }
        if !self.lines.contains_key(series) {
            self.make_room();
            self.lines.insert(series.clone(), Line::default());
        }
        let Some(line) = self.lines.get_mut(series) else { return };
        match line.0.iter_mut().rev().find(|(known, _)| *known == step) {
            Some((_, known)) => known.add(counts),
            None => {
                line.0.retain(|(known, _)| *known >= from);
                let at = line.0.partition_point(|(known, _)| *known < step);
                line.0.insert(at, (step, counts));
            }
        }
        if !self.unsaved.contains(series) {
            self.unsaved.insert(series.clone());
        }
    }

    /// The series that was used longest ago makes room.
    fn make_room(&mut self) {
        if self.lines.len() < SERIES {
            return;
        }
        let oldest = self.lines.iter().min_by_key(|(_, line)| line.latest()).map(|(series, _)| series.clone());
        if let Some(series) = oldest {
            self.lines.remove(&series);
            self.unsaved.insert(series);
        }
    }

    /// Forgets what was counted for a stream: it begins anew.
    pub(crate) fn forget(&mut self, stream: &str) {
        let gone: Vec<Series> = self.lines.keys().filter(|series| *series.stream == *stream).cloned().collect();
        for series in gone {
            self.lines.remove(&series);
            self.unsaved.insert(series);
        }
    }

    /// What changed since the last time it was asked for; `None` for a series that is gone.
    pub(crate) fn unsaved(&mut self, now_ms: i64) -> Vec<(Series, Option<Line>)> {
        let from = self.from(now_ms);
        let old: Vec<Series> =
            self.lines.iter().filter(|(_, line)| line.latest() < from).map(|(series, _)| series.clone()).collect();
        for series in old {
            self.lines.remove(&series);
            self.unsaved.insert(series);
        }
        let lines = &self.lines;
        self.unsaved
            .drain()
            .map(|series| (lines.get(&series).cloned(), series))
            .map(|(line, series)| (series, line))
            .collect()
    }

    /// These could not be written down.
    pub(crate) fn not_saved(&mut self, series: impl Iterator<Item = Series>) {
        self.unsaved.extend(series);
    }

    /// Takes up what an earlier run wrote down.
    pub(crate) fn restore(&mut self, series: Series, line: Line) {
        if self.lines.len() < SERIES {
            self.lines.insert(series, line);
        }
    }

    /// The rates of all streams, senders, routes and providers, the worst first.
    pub(crate) fn overview(&self, config: &RateConfig, now_ms: i64) -> Vec<Rate> {
        let from = self.from(now_ms);
        let mut totals: HashMap<(RateOf, &Arc<str>), Counts> = HashMap::new();
        for (series, line) in &self.lines {
            let total = line.total(from);
            if total == Counts::default() {
                continue;
            }
            for of in RateOf::ALL {
                if let Some(name) = of.name(series) {
                    totals.entry((of, name)).or_default().add(total);
                }
            }
        }
        let mut rates: Vec<Rate> =
            totals.into_iter().map(|((of, name), total)| rate(config, of, name, total)).collect();
        rates.sort_by(|a, b| (b.level(), a.of, &a.name).cmp(&(a.level(), b.of, &b.name)));
        rates
    }

    /// The stream that burns what a rate is of: the one with most of what is bad among those that are themselves above the
    /// threshold there.
    pub(crate) fn culprit(&self, of: &Rate, what: What, limits: Limits, now_ms: i64) -> Option<Arc<str>> {
        let from = self.from(now_ms);
        let mut streams: HashMap<&Arc<str>, Counts> = HashMap::new();
        for (series, line) in self.lines.iter().filter(|(series, _)| of.of.name(series) == Some(&of.name)) {
            streams.entry(&series.stream).or_default().add(line.total(from));
        }
        streams
            .into_iter()
            .map(|(stream, total)| (what.bad(total), stream, total))
            .filter(|(bad, _, total)| share(*bad, total.sent) >= u64::from(limits.stop))
            .max_by(|a, b| (a.0, b.1).cmp(&(b.0, a.1)))
            .map(|(_, stream, _)| stream.clone())
    }
}

/// Which of the two rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Bounces,
    Complaints,
}

impl What {
    pub(crate) fn bad(self, counts: Counts) -> u64 {
        match self {
            Self::Bounces => counts.bounced,
            Self::Complaints => counts.complained,
        }
    }

    pub(crate) fn limits(self, config: &RateConfig) -> Option<Limits> {
        match self {
            Self::Bounces => config.bounces,
            Self::Complaints => config.complaints,
        }
    }

    /// Fewer than this say nothing, whatever share they are.
    fn least(self) -> u64 {
        match self {
            Self::Bounces => LEAST_BOUNCES,
            Self::Complaints => LEAST_COMPLAINTS,
        }
    }

    fn level(self, config: &RateConfig, counts: Counts) -> Level {
        let bad = self.bad(counts);
        let Some(limits) = self.limits(config) else { return Level::Fine };
        if counts.sent < config.minimum || bad < self.least() {
            return Level::Fine;
        }
        match share(bad, counts.sent) {
            share if share >= u64::from(limits.stop) => Level::Stop,
            share if share >= u64::from(limits.warn) => Level::Warn,
            _ => Level::Fine,
        }
    }
}

/// In millionths. Reports of earlier mail may outnumber what is sent.
fn share(bad: u64, sent: u64) -> u64 {
    bad.saturating_mul(1_000_000) / sent.max(1)
}

fn rate(config: &RateConfig, of: RateOf, name: &Arc<str>, total: Counts) -> Rate {
    let percent = |bad| share(bad, total.sent) as f64 / 10_000.0;
    Rate {
        of,
        name: name.clone(),
        sent: total.sent,
        bounced: total.bounced,
        complained: total.complained,
        bounce_percent: percent(total.bounced),
        complaint_percent: percent(total.complained),
        bounces: What::Bounces.level(config, total),
        complaints: What::Complaints.level(config, total),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const NOW: i64 = 1_800_000_000_000;

    fn series(stream: &str, route: &str) -> Series {
        Series { sender: "app".into(), stream: stream.into(), route: route.into(), provider: Some("google".into()) }
    }

    fn counts(sent: u64, bounced: u64, complained: u64) -> Counts {
        Counts { sent, bounced, complained }
    }

    fn of(rates: &Rates, of: RateOf, name: &str, now_ms: i64) -> Rate {
        let found = rates.overview(&RateConfig::default(), now_ms);
        found.into_iter().find(|rate| rate.of == of && *rate.name == *name).unwrap()
    }

    fn level(sent: u64, bounced: u64, complained: u64) -> (Level, Level) {
        let mut rates = Rates::new(24 * HOUR);
        rates.add(&series("news", "mx"), counts(sent, bounced, complained), NOW, NOW);
        let found = of(&rates, RateOf::Stream, "news", NOW);
        (found.bounces, found.complaints)
    }

    #[test]
    fn few_messages_trip_nothing_and_many_trip_at_two_and_five_percent_or_a_tenth_and_a_half_of_complaints() {
        use Level::{Fine, Stop, Warn};
        assert_eq!(level(3, 1, 1), (Fine, Fine));
        assert_eq!(level(99, 99, 99), (Fine, Fine));
        assert_eq!(level(100, 4, 2), (Fine, Fine));
        assert_eq!(level(1_000, 19, 0), (Fine, Fine));
        assert_eq!(level(1_000, 20, 0), (Warn, Fine));
        assert_eq!(level(1_000, 49, 0), (Warn, Fine));
        assert_eq!(level(1_000, 50, 0), (Stop, Fine));
        assert_eq!(level(10_000, 0, 9), (Fine, Fine));
        assert_eq!(level(10_000, 0, 10), (Fine, Warn));
        assert_eq!(level(10_000, 0, 50), (Fine, Stop));
    }

    #[test]
    fn a_rate_is_counted_for_each_thing_the_mail_has_in_common_and_the_worst_comes_first() {
        let mut rates = Rates::new(24 * HOUR);
        rates.add(&series("news", "mx"), counts(1_000, 60, 0), NOW, NOW);
        rates.add(&series("alerts", "mx"), counts(1_000, 0, 0), NOW, NOW);
        rates.add(&series("alerts", "smart"), counts(500, 0, 0), NOW, NOW);
        assert_eq!(of(&rates, RateOf::Stream, "news", NOW).level(), Level::Stop);
        assert_eq!(of(&rates, RateOf::Stream, "alerts", NOW).sent, 1_500);
        let route = of(&rates, RateOf::Route, "mx", NOW);
        assert_eq!((route.sent, route.bounced, route.bounce_percent, route.level()), (2_000, 60, 3.0, Level::Warn));
        assert_eq!(of(&rates, RateOf::Provider, "google", NOW).sent, 2_500);
        assert_eq!(of(&rates, RateOf::Sender, "app", NOW).level(), Level::Warn);
        let first = rates.overview(&RateConfig::default(), NOW).remove(0);
        assert_eq!((first.of, &*first.name), (RateOf::Stream, "news"));
        let limits = Limits { warn: 10_000, stop: 25_000 };
        assert_eq!(rates.culprit(&route, What::Bounces, limits, NOW).as_deref(), Some("news"));
        assert_eq!(rates.culprit(&route, What::Complaints, limits, NOW), None);
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten_and_what_is_told_late_counts_when_it_happened() {
        let mut rates = Rates::new(24 * HOUR);
        rates.add(&series("news", "mx"), counts(100, 50, 0), NOW, NOW);
        rates.add(&series("news", "mx"), counts(0, 1, 0), NOW - 5 * HOUR, NOW);
        rates.add(&series("news", "mx"), counts(0, 1, 0), NOW - 25 * HOUR, NOW);
        assert_eq!(of(&rates, RateOf::Stream, "news", NOW).bounced, 51);
        assert_eq!(of(&rates, RateOf::Stream, "news", NOW + 20 * HOUR).bounced, 50);
        assert!(rates.overview(&RateConfig::default(), NOW + 25 * HOUR).is_empty());
        assert_eq!(rates.unsaved(NOW + 25 * HOUR), [(series("news", "mx"), None)]);
    }

    #[test]
    fn what_was_written_down_is_taken_up_again_and_a_stream_can_begin_anew() {
        let mut rates = Rates::new(24 * HOUR);
        rates.add(&series("news", "mx"), counts(100, 50, 0), NOW, NOW);
        rates.add(&series("alerts", "mx"), counts(100, 0, 0), NOW, NOW);
        let saved = rates.unsaved(NOW);
        assert_eq!(saved.len(), 2);
        assert!(rates.unsaved(NOW).is_empty());
        let mut again = Rates::new(24 * HOUR);
        saved.into_iter().for_each(|(series, line)| again.restore(series, line.unwrap()));
        assert_eq!(again.overview(&RateConfig::default(), NOW), rates.overview(&RateConfig::default(), NOW));
        again.forget("news");
        assert_eq!(again.unsaved(NOW), [(series("news", "mx"), None)]);
        assert_eq!(of(&again, RateOf::Route, "mx", NOW).bounced, 0);
    }

    #[test]
    fn the_number_of_series_is_bounded_and_the_oldest_goes() {
        let mut rates = Rates::new(24 * HOUR);
        rates.add(&series("first", "mx"), counts(1, 0, 0), NOW - HOUR, NOW);
        (0..SERIES).for_each(|n| rates.add(&series(&format!("s{n}"), "mx"), counts(1, 0, 0), NOW, NOW));
        assert_eq!(rates.lines.len(), SERIES);
        assert!(!rates.lines.contains_key(&series("first", "mx")));
    }
}
