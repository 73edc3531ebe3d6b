//! What is counted, and where: each method is called at one place of a message's way.

use std::sync::atomic::{AtomicU64, Ordering};

use proto::transcript::Stage;
use store::{Attempt, Cause, Claim, Outcome};

use super::cell::{Counter, Histogram};
use super::family::{Family, Names, key, numbers};
use super::figure::{Figure, Kind, OTHER, Value};
use crate::refusal::RefusalKind;

/// Most names of each set of labels.
const ROUTES: usize = 200;
const STREAMS: usize = 100;
const PROVIDERS: usize = 200;
const REASONS: usize = 300;
/// Most combinations in one figure.
const SERIES: usize = 2_000;

/// Upper bounds of what takes moments, microseconds.
const MOMENTS: &[u64] =
    &[500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000];
/// Upper bounds of what may take days, microseconds.
const DAYS: &[u64] = &[
    10_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    900_000_000,
    3_600_000_000,
    14_400_000_000,
    86_400_000_000,
    432_000_000_000,
];

/// What a recipient's settlement was, in one word.
fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Delivered | Outcome::Relayed { .. } | Outcome::Noted { .. } => "delivered",
        Outcome::Deferred { .. } => "deferred",
        Outcome::Failed { .. } => "failed",
        Outcome::Expired { .. } => "expired",
        Outcome::Held { .. } => "held",
        Outcome::Suppressed { .. } => "suppressed",
        Outcome::Returned { .. } => "returned",
    }
}

fn cause(outcome: &Outcome) -> Option<&Cause> {
    match outcome {
        Outcome::Deferred { cause, .. } | Outcome::Failed { cause } => Some(cause),
        Outcome::Expired { cause } => cause.as_ref(),
        _ => None,
    }
}

/// What the relay counted since the start.
#[derive(Debug)]
pub struct Metrics {
    routes: Names,
    streams: Names,
    providers: Names,
    /// Reasons, outcomes, stages, kinds of refusal: words of the program.
    pub(super) words: Names,
    messages: Family<AtomicU64>,
    pub(super) recipients: Family<AtomicU64>,
    octets: Counter,
    accept: Histogram,
    refused: Family<AtomicU64>,
    auth: Family<AtomicU64>,
    pub(super) settled: Family<AtomicU64>,
    pub(super) of_stream: Family<AtomicU64>,
    attempts: Family<Histogram>,
    pub(super) delivery: Family<Histogram>,
    group: Histogram,
    opened: Family<AtomicU64>,
    unopened: Family<AtomicU64>,
}

fn zero() -> AtomicU64 {
    AtomicU64::new(0)
}

fn days() -> Histogram {
    Histogram::new(DAYS)
}

/// Upper bounds of recipients in one transaction, in millionths as the histogram wants them.
const GROUPS: &[u64] =
    &[1_000_000, 2_000_000, 5_000_000, 10_000_000, 20_000_000, 50_000_000, 100_000_000, 500_000_000, 1_000_000_000];

impl Default for Metrics {
    fn default() -> Self {
        Self {
            routes: Names::new(ROUTES),
            streams: Names::new(STREAMS),
            providers: Names::new(PROVIDERS),
            words: Names::new(REASONS),
            messages: Family::new(STREAMS, zero),
            recipients: Family::new(SERIES, zero),
            octets: Counter::default(),
            accept: Histogram::new(MOMENTS),
            refused: Family::new(50, zero),
            auth: Family::new(8, zero),
            settled: Family::new(SERIES, zero),
            of_stream: Family::new(SERIES, zero),
            attempts: Family::new(ROUTES, days),
            delivery: Family::new(STREAMS, days),
            group: Histogram::new(GROUPS),
            opened: Family::new(ROUTES, zero),
            unopened: Family::new(SERIES, zero),
        }
    }
}

fn add(cell: &AtomicU64, more: u64) {
    cell.fetch_add(more, Ordering::Relaxed);
}

impl Metrics {
    /// Names that exist get their places before others can take them.
    pub(crate) fn expect<'a>(&self, routes: impl Iterator<Item = &'a str>, streams: impl Iterator<Item = &'a str>) {
        routes.for_each(|name| {
            self.routes.number(name);
        });
        streams.for_each(|name| {
            self.streams.number(name);
        });
    }

    /// A message is durable.
    pub(crate) fn accepted(&self, stream: &str, octets: usize, took_us: u64) {
        add(self.messages.cell(key(&[self.streams.number(stream)])), 1);
        self.octets.add(octets as u64);
        self.accept.took_us(took_us);
    }

    /// Recipients of a durable message.
    pub(crate) fn took_in(&self, route: &str, stream: &str, recipients: usize) {
        let key = key(&[self.routes.number(route), self.streams.number(stream)]);
        add(self.recipients.cell(key), recipients as u64);
    }

    /// A submission was refused.
    pub(crate) fn refused(&self, kind: &RefusalKind) {
        let word = match kind {
            RefusalKind::Unauthorized => "unauthorized",
            RefusalKind::Forbidden => "forbidden",
            RefusalKind::TooLarge => "too_large",
            RefusalKind::TooManyRecipients => "too_many_recipients",
            RefusalKind::RateLimited { .. } => "rate_limited",
            RefusalKind::Full => "disk_full",
            RefusalKind::Unhealthy => "unhealthy",
            RefusalKind::Overloaded => "overloaded",
            RefusalKind::Invalid { .. } => "invalid",
            RefusalKind::KeyConflict => "key_conflict",
            RefusalKind::Loop => "loop",
            RefusalKind::NotWanted => "not_wanted",
        };
        add(self.refused.cell(key(&[self.words.number(word)])), 1);
    }

    /// Somebody proved to be a sender, or did not. `door`: `smtp` or `http`.
    pub(crate) fn authenticated(&self, door: &'static str, right: bool) {
        let result = if right { "accepted" } else { "rejected" };
        add(self.auth.cell(key(&[self.words.number(door), self.words.number(result)])), 1);
    }

    /// An attempt has ended, or what was claimed was given back. `provider`: of those who took it. `reason`: of a rule.
    pub(crate) fn settled(
        &self,
        claim: &Claim,
        attempt: Option<&Attempt>,
        outcomes: &[(u32, Outcome)],
        provider: Option<&str>,
        now_ms: i64,
        reason: impl Fn(&str) -> Option<&'static str>,
    ) {
        let lane = &claim.lane.key;
        let route = self.routes.number(attempt.map_or(&lane.route, |attempt| &attempt.route));
        let stream = self.streams.number(&lane.stream);
        let mut delivered = 0;
        for (_, outcome) in outcomes {
            if matches!(outcome, Outcome::Delivered | Outcome::Relayed { .. } | Outcome::Noted { .. }) {
                delivered += 1;
                continue;
            }
            let cause = cause(outcome);
            let provider = self.providers.number(cause.and_then(|cause| cause.provider.as_deref()).unwrap_or(""));
            let why = cause.and_then(|cause| cause.rule.as_deref()).and_then(&reason);
            let why = self.words.number(why.unwrap_or(if cause.is_some() { "unknown" } else { "" }));
            let what = self.words.number(word(outcome));
            add(self.settled.cell(key(&[route, provider, what, why])), 1);
            add(self.of_stream.cell(key(&[stream, what])), 1);
        }
        if delivered > 0 {
            let what = self.words.number("delivered");
            let provider = self.providers.number(provider.unwrap_or(""));
            add(self.settled.cell(key(&[route, provider, what, self.words.number("")])), delivered);
            add(self.of_stream.cell(key(&[stream, what])), delivered);
            let age_us = (now_ms - claim.message.accepted_ms).max(0) as u64 * 1_000;
            self.delivery.cell(key(&[stream])).took_each_us(age_us, delivered);
        }
        if let Some(attempt) = attempt {
            self.attempts.cell(key(&[route])).took_us(u64::from(attempt.took_ms) * 1_000);
            self.group.took_us(outcomes.len() as u64 * 1_000_000);
        }
    }

    /// A connection to a next hop is open.
    pub(crate) fn opened(&self, route: &str) {
        add(self.opened.cell(key(&[self.routes.number(route)])), 1);
    }

    /// No connection came about.
    pub(crate) fn unopened(&self, route: &str, stage: Stage) {
        add(self.unopened.cell(key(&[self.routes.number(route), self.words.number(stage_word(stage))])), 1);
    }

    /// All of it.
    pub fn figures(&self) -> Vec<Figure> {
        let (routes, streams, providers, words) = (&self.routes, &self.streams, &self.providers, &self.words);
        vec![
            counts(
                "pillarbox_messages_accepted",
                "Messages made durable, by stream.",
                &self.messages,
                [("stream", streams)],
            ),
            counts(
                "pillarbox_recipients_accepted",
                "Recipients of messages made durable.",
                &self.recipients,
                [("route", routes), ("stream", streams)],
            ),
            Figure::count("pillarbox_accepted_bytes", "Octets of messages made durable.", self.octets.get()),
            Figure::new(
                Kind::Histogram,
                "pillarbox_accept_seconds",
                "From a complete message to its durable commit, checks included.",
            )
            .with(Vec::new(), Value::Spread(self.accept.spread())),
            counts(
                "pillarbox_refused",
                "Submissions refused at the door, by kind of refusal.",
                &self.refused,
                [("reason", words)],
            ),
            counts(
                "pillarbox_auth",
                "Proofs of senders at our doors (AUTH, API keys), by door and result.",
                &self.auth,
                [("door", words), ("result", words)],
            ),
            counts(
                "pillarbox_recipients_settled",
                "Recipients by what an attempt came to; outcome deferred is counted for each attempt, returned are not attempts.",
                &self.settled,
                [("route", routes), ("provider", providers), ("outcome", words), ("reason", words)],
            ),
            counts(
                "pillarbox_stream_recipients_settled",
                "The same by stream.",
                &self.of_stream,
                [("stream", streams), ("outcome", words)],
            ),
            spreads("pillarbox_attempt_seconds", "Duration of attempts.", &self.attempts, ("route", routes)),
            spreads(
                "pillarbox_delivery_seconds",
                "From accept to the next hop's 250, each recipient.",
                &self.delivery,
                ("stream", streams),
            ),
            Figure::new(Kind::Histogram, "pillarbox_group_recipients", "Recipients of one attempt.")
                .with(Vec::new(), Value::Spread(self.group.spread())),
            counts(
                "pillarbox_connections_opened",
                "Connections to next hops that came about.",
                &self.opened,
                [("route", routes)],
            ),
            counts(
                "pillarbox_connections_failed",
                "Connections that did not, by the stage that failed.",
                &self.unopened,
                [("route", routes), ("stage", words)],
            ),
        ]
    }
}

fn stage_word(stage: Stage) -> &'static str {
    match stage {
        Stage::Dns => "dns",
        Stage::Tcp => "tcp",
        Stage::Banner => "banner",
        Stage::Ehlo => "ehlo",
        Stage::Tls => "tls",
        Stage::Auth => "auth",
        Stage::Sender | Stage::Recipient | Stage::Message | Stage::Quit => "session",
    }
}

fn labelled<const N: usize>(names: [(&'static str, &Names); N], key: Option<u64>) -> Vec<(&'static str, String)> {
    match key {
        Some(key) => {
            let numbers = numbers::<N>(key);
            names.iter().zip(numbers).map(|((label, names), number)| (*label, names.name(number).to_owned())).collect()
        }
        None => names.iter().map(|(label, _)| (*label, OTHER.to_owned())).collect(),
    }
}

fn counts<const N: usize>(
    name: &'static str,
    help: &'static str,
    family: &Family<AtomicU64>,
    names: [(&'static str, &Names); N],
) -> Figure {
    let mut figure = Figure::new(Kind::Counter, name, help);
    for (key, cell) in family.each() {
        figure = figure.with(labelled(names, key), Value::Count(cell.load(Ordering::Relaxed)));
    }
    merged(figure)
}

fn spreads(
    name: &'static str,
    help: &'static str,
    family: &Family<Histogram>,
    names: (&'static str, &Names),
) -> Figure {
    let mut figure = Figure::new(Kind::Histogram, name, help);
    for (key, cell) in family.each() {
        figure = figure.with(labelled([names], key), Value::Spread(cell.spread()));
    }
    merged(figure)
}

/// One point for each set of labels: the rest of a full table may be called as the rest of full names is.
fn merged(mut figure: Figure) -> Figure {
    figure.points.sort_by(|a, b| a.labels.cmp(&b.labels));
    figure.points.dedup_by(|later, kept| {
        let same = later.labels == kept.labels;
        if same {
            match (&mut kept.value, &later.value) {
                (Value::Count(kept), Value::Count(later)) => *kept += later,
                (Value::Spread(kept), Value::Spread(later)) => {
                    kept.counts.iter_mut().zip(&later.counts).for_each(|(kept, later)| *kept += later);
                    kept.sum += later.sum;
                }
                _ => {}
            }
        }
        same
    });
    figure
}
