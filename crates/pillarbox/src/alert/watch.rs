//! What nobody else looks at: the age of the queue, rates, quotas, fallbacks, and the share of attempts and connections
//! that fail. Looks now and then, raises what is above its threshold and ends what is not any more.
//!
//! Mail of our own about alerts is left out: alerts are never about alerts.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use relay::metrics::{Figure, Value};
use relay::own_mail::{SENDER, STREAM};
use relay::rates::{Level, RateOf};
use store::QueueShare;
use tokio_util::sync::CancellationToken;

use super::{Alert, AlertRule, Severity};
use crate::http::{Shared, forecast, time};
use crate::series::fallbacks::{self, Used};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(30);
/// How far back shares are counted, milliseconds.
const WINDOW_MS: i64 = 600_000;
/// Fewer attempts than this say nothing, and fewer connections.
const LEAST_ATTEMPTS: u64 = 20;
const LEAST_CONNECTIONS: u64 = 5;
/// What is due so much later was meant to wait, milliseconds.
const MEANT_MS: i64 = 4 * 3_600_000;
const DAY_MS: i64 = 86_400_000;

/// Looks until the server stops.
pub async fn run(app: Shared, closing: CancellationToken) {
    let mut shares = Shares::default();
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = closing.cancelled() => return,
        }
        look(&app, &mut shares).await;
    }
}

async fn look(app: &Shared, shares: &mut Shares) {
    let Some(relay) = &app.relay else { return };
    let now_ms = app.clock.now_ms();
    if let Ok(figures) = app.store.queue_figures().await {
        let minutes = app.alerts.threshold(AlertRule::QueueAge);
        tell(app, "queue_age:", "nothing waits for that long any more", old(&figures.shares, minutes, now_ms)).await;
    }
    for (prefix, found) in rates(&relay.rates()) {
        tell(app, prefix, "the rate is below its threshold again", found).await;
    }
    if let Ok(forecasts) = forecast::all(app).await {
        let least = app.alerts.threshold(AlertRule::QuotaForecast);
        let found = forecasts.iter().filter(|one| one.not_today as f64 >= least).map(quota).collect();
        tell(app, "quota_forecast:", "all that waits fits into today", found).await;
    }
    let out = relay.status().out;
    let found = out.iter().filter(|one| one.diverted > 0).map(|one| in_use(&one.name, one.since_ms, one.diverted));
    tell(app, "fallback_in_use:", "mail goes by the route itself again", found.collect()).await;

    let figures = relay.metrics().figures();
    shares.add(&figures, now_ms);
    let percent = |rule| app.alerts.threshold(rule);
    let found = shares.attempts(percent(AlertRule::Errors));
    tell(app, "errors:", "most attempts work again", found).await;
    let found = shares.connections(percent(AlertRule::ConnectionErrors));
    tell(app, "connection_errors:", "most connections work again", found).await;
    if let Ok(used) = fallbacks::used(app).await {
        let days = app.alerts.threshold(AlertRule::FallbackUnused);
        let routes = relay.routes();
        let stands = routes.iter().flat_map(|route| {
            route.record.fallback.iter().map(|fallback| (fallback.route.clone(), route.name.to_string()))
        });
        tell(app, "fallback_unused:", "it was used", unused(&used, stands, days, now_ms)).await;
    }
}

/// Raises what was found, and ends what was not.
async fn tell(app: &Shared, prefix: &str, over: &str, found: Vec<Alert>) {
    let keys: Vec<String> = found.iter().map(|alert| alert.key.clone()).collect();
    for alert in found {
        app.alerts.raise(alert).await;
    }
    app.alerts.resolve_others(prefix, &keys, over).await;
}

/// Routes where something waits for longer than this.
fn old(shares: &[QueueShare], minutes: f64, now_ms: i64) -> Vec<Alert> {
    let mut routes: BTreeMap<&str, (i64, u64, &str)> = BTreeMap::new();
    for share in shares.iter().filter(|share| *share.stream != *STREAM) {
        let meant = share.leased == 0 && share.next_due_ms.is_some_and(|due_ms| due_ms - now_ms > MEANT_MS);
        let Some(oldest_ms) = share.oldest_ms.filter(|_| !meant) else { continue };
        let route = routes.entry(&share.route).or_insert((oldest_ms, 0, &share.stream));
        if oldest_ms < route.0 {
            (route.0, route.2) = (oldest_ms, &share.stream);
        }
        route.1 += share.waiting + share.leased;
    }
    let aged = routes.into_iter().map(|(route, one)| (route, one, (now_ms - one.0) / 60_000));
    aged.filter(|(.., age)| *age as f64 >= minutes)
        .map(|(route, (oldest_ms, waiting, stream), age)| Alert {
            key: format!("queue_age:{route}"),
            rule: AlertRule::QueueAge,
            severity: if age as f64 >= minutes * 4.0 { Severity::Problem } else { Severity::Warning },
            title: format!("Mail of route {route} waits for more than {minutes} minutes"),
            text: format!(
                "The oldest message was accepted at {}, in stream {stream}. {waiting} recipients wait.\nFirst: `pillarbox queue counts --by cause` says what they wait for, and `pillarbox incident ls` whether it is known.",
                time::show(oldest_ms)
            ),
            about: vec![("route".into(), route.into()), ("waiting".into(), waiting.to_string())],
            avoid: vec![route.to_owned()],
            link: None,
        })
        .collect()
}

/// Rates of bounces and complaints above their thresholds.
fn rates(rates: &[relay::rates::Rate]) -> [(&'static str, Vec<Alert>); 2] {
    let of = |of: RateOf| match of {
        RateOf::Stream => "stream",
        RateOf::Sender => "sender",
        RateOf::Route => "route",
        RateOf::Provider => "provider",
    };
    let alert = |rule: AlertRule, rate: &relay::rates::Rate, level: Level, percent: f64, count: u64| {
        let name = format!("{} {}", of(rate.of), rate.name);
        let what = if rule == AlertRule::BounceRate { "bounce" } else { "complaint" };
        Alert {
            key: format!("{}:{}:{}", rule.as_str(), of(rate.of), rate.name),
            rule,
            severity: if level == Level::Stop { Severity::Problem } else { Severity::Warning },
            title: format!("The {what} rate of {name} is too high"),
            text: format!(
                "{percent:.2} % of what was sent: {count} of {}. Providers close accounts for less.\nFirst: `pillarbox rates` shows all of them; find out where these addresses come from.",
                rate.sent
            ),
            about: vec![(of(rate.of).into(), rate.name.to_string()), ("percent".into(), format!("{percent:.2}"))],
            avoid: Vec::new(),
            link: None,
        }
    };
    let ours = |rate: &&relay::rates::Rate| ![SENDER, STREAM].contains(&&*rate.name);
    let bounces = rates.iter().filter(ours).filter(|rate| rate.bounces > Level::Fine);
    let complaints = rates.iter().filter(ours).filter(|rate| rate.complaints > Level::Fine);
    [
        (
            "bounce_rate:",
            bounces
                .map(|one| alert(AlertRule::BounceRate, one, one.bounces, one.bounce_percent, one.bounced))
                .collect(),
        ),
        (
            "complaint_rate:",
            complaints
                .map(|one| alert(AlertRule::ComplaintRate, one, one.complaints, one.complaint_percent, one.complained))
                .collect(),
        ),
    ]
}

fn quota(one: &forecast::ForecastOut) -> Alert {
    Alert {
        key: format!("quota_forecast:{}", one.route),
        rule: AlertRule::QuotaForecast,
        severity: Severity::Warning,
        title: format!("Not all mail of route {} fits into today", one.route),
        text: format!(
            "{}.\nFirst: ask the provider for more, or give the route a fallback; urgent mail goes first.",
            one.words
        ),
        about: vec![("route".into(), one.route.clone()), ("not today".into(), one.not_today.to_string())],
        avoid: vec![one.route.clone()],
        link: None,
    }
}

fn in_use(name: &str, since_ms: i64, diverted: u64) -> Alert {
    let route = name.split('/').next().unwrap_or(name);
    Alert {
        key: format!("fallback_in_use:{name}"),
        rule: AlertRule::FallbackInUse,
        severity: Severity::Warning,
        title: format!("Mail of {name} goes by its fallback"),
        text: format!(
            "Nothing works there since {}. {diverted} messages went by a fallback route.\nFirst: `pillarbox check --route {route}`.",
            time::show(since_ms)
        ),
        about: vec![("route".into(), route.into()), ("diverted".into(), diverted.to_string())],
        avoid: vec![route.to_owned()],
        link: None,
    }
}

/// What was counted of a route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    failed: u64,
    all: u64,
    unopened: u64,
    opened: u64,
}

impl Count {
    fn since(self, before: Self) -> Self {
        Self {
            failed: self.failed.saturating_sub(before.failed),
            all: self.all.saturating_sub(before.all),
            unopened: self.unopened.saturating_sub(before.unopened),
            opened: self.opened.saturating_sub(before.opened),
        }
    }
}

/// Counts of the last minutes.
#[derive(Debug, Default)]
struct Shares {
    /// Of all routes at a moment; what failed of our own alerts beside it.
    seen: VecDeque<(i64, HashMap<String, Count>, u64)>,
}

fn points(figures: &[Figure], name: &str) -> Vec<(HashMap<&'static str, String>, u64)> {
    let points = figures.iter().filter(|figure| figure.name == name).flat_map(|figure| &figure.points);
    points
        .filter_map(|point| match point.value {
            Value::Count(count) => Some((point.labels.iter().cloned().collect(), count)),
            _ => None,
        })
        .collect()
}

fn label<'a>(labels: &'a HashMap<&'static str, String>, name: &str) -> &'a str {
    labels.get(name).map_or("", String::as_str)
}

impl Shares {
    fn add(&mut self, figures: &[Figure], now_ms: i64) {
        let mut counts: HashMap<String, Count> = HashMap::new();
        for (labels, count) in points(figures, "pillarbox_recipients_settled") {
            let route = counts.entry(label(&labels, "route").to_owned()).or_default();
            // What the recipient's side refuses is a bounce, and has its own rule.
            match label(&labels, "outcome") {
                "deferred" | "expired" => (route.failed, route.all) = (route.failed + count, route.all + count),
                "delivered" | "failed" => route.all += count,
                _ => {}
            }
        }
        for (labels, count) in points(figures, "pillarbox_connections_opened") {
            counts.entry(label(&labels, "route").to_owned()).or_default().opened += count;
        }
        for (labels, count) in points(figures, "pillarbox_connections_failed") {
            counts.entry(label(&labels, "route").to_owned()).or_default().unopened += count;
        }
        let own = points(figures, "pillarbox_stream_recipients_settled");
        let own = own.iter().filter(|(labels, _)| {
            label(labels, "stream") == STREAM && matches!(label(labels, "outcome"), "deferred" | "expired")
        });
        self.seen.push_back((now_ms, counts, own.map(|(_, count)| count).sum()));
        while self.seen.len() > 2 && self.seen.get(1).is_some_and(|(at_ms, ..)| *at_ms <= now_ms - WINDOW_MS) {
            self.seen.pop_front();
        }
    }

    fn recent(&self) -> Vec<(&str, Count)> {
        let (Some((_, before, own_before)), Some((_, now, own))) = (self.seen.front(), self.seen.back()) else {
            return Vec::new();
        };
        // Which route failed for our own mail is not known: it counts for none.
        let own = own.saturating_sub(*own_before);
        let recent = |(route, count): (&'_ String, &Count)| {
            let mut count = count.since(before.get(route).copied().unwrap_or_default());
            count.failed = count.failed.saturating_sub(own);
            count.all = count.all.saturating_sub(own);
            count
        };
        let mut all: Vec<(&str, Count)> = now.iter().map(|one| (one.0.as_str(), recent(one))).collect();
        all.retain(|(route, _)| !route.is_empty());
        all
    }

    fn attempts(&self, percent: f64) -> Vec<Alert> {
        let bad = |count: &Count| {
            count.all >= LEAST_ATTEMPTS && count.failed as f64 * 100.0 >= count.all as f64 * percent && count.failed > 0
        };
        let found = self.recent().into_iter().filter(|(_, count)| bad(count));
        found
            .map(|(route, count)| {
                share(
                    AlertRule::Errors,
                    route,
                    "attempts",
                    count.failed,
                    count.all,
                    "`pillarbox queue counts --by cause`",
                )
            })
            .collect()
    }

    fn connections(&self, percent: f64) -> Vec<Alert> {
        let all = |count: &Count| count.opened + count.unopened;
        let bad = |count: &Count| {
            all(count) >= LEAST_CONNECTIONS
                && count.unopened as f64 * 100.0 >= all(count) as f64 * percent
                && count.unopened > 0
        };
        let found = self.recent().into_iter().filter(|(_, count)| bad(count));
        found
            .map(|(route, count)| {
                let first = format!("`pillarbox check --route {route}`");
                share(AlertRule::ConnectionErrors, route, "connections", count.unopened, all(&count), &first)
            })
            .collect()
    }
}

fn share(rule: AlertRule, route: &str, what: &str, failed: u64, all: u64, first: &str) -> Alert {
    Alert {
        key: format!("{}:{route}", rule.as_str()),
        rule,
        severity: Severity::Problem,
        title: format!("Many {what} of route {route} fail"),
        text: format!(
            "{failed} of {all} in the last ten minutes ({} %). Mail waits and is tried again.\nFirst: {first} says why.",
            failed * 100 / all.max(1)
        ),
        about: vec![
            ("route".into(), route.into()),
            ("failed".into(), failed.to_string()),
            ("of".into(), all.to_string()),
        ],
        avoid: vec![route.to_owned()],
        link: None,
    }
}

/// Fallback routes that nothing went by for so long. `used`: when each was used last; `fallbacks`: each with the route it stands
/// in for.
fn unused(used: &Used, fallbacks: impl Iterator<Item = (String, String)>, days: f64, now_ms: i64) -> Vec<Alert> {
    let mut stands: BTreeMap<String, Vec<String>> = BTreeMap::new();
    fallbacks.for_each(|(fallback, route)| stands.entry(fallback).or_default().push(route));
    // One that is not known yet has just become a fallback.
    let idle_ms = |route: &str| used.get(route).map_or(0, |at_ms| now_ms - at_ms);
    let unused = stands.into_iter().filter(|(route, _)| idle_ms(route) as f64 >= days * DAY_MS as f64);
    unused
        .map(|(route, stands_for)| Alert {
            key: format!("fallback_unused:{route}"),
            rule: AlertRule::FallbackUnused,
            severity: Severity::Warning,
            title: format!("Nobody knows whether the fallback {route} works"),
            text: format!(
                "No connection was made to it for {days} days. It stands in for {}.\nFirst: `pillarbox check --route {route}`, and send a test mail by it.",
                stands_for.join(", ")
            ),
            about: vec![("route".into(), route.clone())],
            avoid: vec![route],
            link: None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay::metrics::Kind;

    /// Name, labels, count.
    type Given<'a> = (&'static str, &'a [(&'static str, &'a str)], u64);

    fn figures(list: &[Given<'_>]) -> Vec<Figure> {
        let figure = |(name, labels, count): &Given<'_>| {
            let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
            Figure::new(Kind::Counter, name, "").with(labels, Value::Count(*count))
        };
        list.iter().map(figure).collect()
    }

    fn settled(route: &'static str, delivered: u64, deferred: u64) -> Vec<Figure> {
        figures(&[
            ("pillarbox_recipients_settled", &[("route", route), ("outcome", "delivered")], delivered),
            ("pillarbox_recipients_settled", &[("route", route), ("outcome", "deferred")], deferred),
        ])
    }

    #[test]
    fn a_share_counts_only_the_last_minutes_and_only_with_enough_to_tell() {
        let mut shares = Shares::default();
        shares.add(&settled("out", 1_000, 900), 0);
        shares.add(&settled("out", 1_010, 909), 60_000);
        assert!(shares.attempts(50.0).is_empty(), "19 attempts say nothing");
        shares.add(&settled("out", 1_010, 920), 120_000);
        let found = shares.attempts(50.0);
        assert_eq!(found[0].key, "errors:out");
        assert!(found[0].text.starts_with("20 of 30 in the last ten minutes (66 %)"), "{}", found[0].text);
        assert_eq!(found[0].avoid, ["out"]);
        assert!(shares.attempts(70.0).is_empty());
        shares.add(&settled("out", 1_100, 920), 800_000);
        assert!(shares.attempts(50.0).is_empty(), "what was bad is over");
    }

    #[test]
    fn connections_that_fail_are_told_and_those_of_our_own_mail_are_no_failure_of_a_route() {
        let connections = |opened, failed| {
            figures(&[
                ("pillarbox_connections_opened", &[("route", "out")], opened),
                ("pillarbox_connections_failed", &[("route", "out"), ("stage", "tcp")], failed),
            ])
        };
        let mut shares = Shares::default();
        shares.add(&connections(0, 0), 0);
        shares.add(&connections(1, 4), 1_000);
        assert_eq!(shares.connections(50.0)[0].key, "connection_errors:out");

        let mut shares = Shares::default();
        shares.add(&[], 0);
        let mut figures = settled("out", 0, 40);
        let own: &[(&'static str, &str)] = &[("stream", STREAM), ("outcome", "deferred")];
        figures.push(
            Figure::new(Kind::Counter, "pillarbox_stream_recipients_settled", "")
                .with(own.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(), Value::Count(40)),
        );
        shares.add(&figures, 1_000);
        assert!(shares.attempts(50.0).is_empty());
    }

    #[test]
    fn mail_that_was_meant_to_wait_is_not_old() {
        let share = |stream: &str, age_min: i64, due_min: i64| QueueShare {
            route: "out".into(),
            stream: stream.into(),
            waiting: 3,
            oldest_ms: Some(DAY_MS - age_min * 60_000),
            next_due_ms: Some(DAY_MS + due_min * 60_000),
            ..QueueShare::default()
        };
        let keys = |shares: &[QueueShare]| old(shares, 60.0, DAY_MS).iter().map(|one| one.severity).collect::<Vec<_>>();
        assert!(keys(&[share("news", 50, 1), share("later", 600, 600), share(STREAM, 600, 1)]).is_empty());
        assert_eq!(keys(&[share("news", 61, 1)]), [Severity::Warning]);
        assert_eq!(keys(&[share("news", 61, 1), share("shop", 300, 1)]), [Severity::Problem]);
    }

    #[test]
    fn a_fallback_that_nothing_went_by_is_told_after_its_days() {
        let told = |used: &Used, now_ms| {
            let list = [("second", "out"), ("third", "out"), ("third", "in"), ("new", "out")];
            let list = list.map(|(a, b)| (a.to_owned(), b.to_owned()));
            unused(used, list.into_iter(), 30.0, now_ms).into_iter().map(|one| one.key).collect::<Vec<_>>()
        };
        let mut used = Used::from([("second".to_owned(), 0), ("third".to_owned(), 0)]);
        assert!(told(&used, 29 * DAY_MS).is_empty());
        used.insert("second".to_owned(), 29 * DAY_MS);
        assert_eq!(told(&used, 31 * DAY_MS), ["fallback_unused:third"]);
        assert_eq!(told(&used, 60 * DAY_MS).len(), 2);
    }
}
