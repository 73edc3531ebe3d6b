//! `top` as text: lines that fit the terminal, the most pressing first.

use std::fmt::Write as _;

use super::args_top::Order;
use super::output::clean;
use super::top_rates::{QueueLine, Rates};
use crate::config::values::show_size;
use crate::http::api::admin::StatusOut;
use crate::http::forecast::thousands;

/// What is shown at once.
pub struct View<'a> {
    /// The server's word of itself.
    pub status: &'a StatusOut,
    /// What the figures say.
    pub rates: &'a Rates,
    /// What needs looking at, in sentences.
    pub troubles: &'a [String],
    /// Order of the queue.
    pub order: Order,
    /// Nothing is asked for meanwhile.
    pub paused: bool,
}

/// All lines; the caller cuts what does not fit. Without colours.
pub fn lines(view: &View<'_>) -> Vec<String> {
    let (status, rates) = (view.status, view.rates);
    let state = match (&status.reason, view.paused) {
        (_, true) => "PAUSED".to_owned(),
        (Some(why), _) => format!("NOT ACCEPTING: {why}"),
        (None, _) => "accepting".to_owned(),
    };
    let mut out = vec![
        format!("Pillarbox {} {}   {state}   order: {}", status.version, status.hostname, view.order.word()),
        format!(
            "a second   accepted {}   delivered {}   deferred {}   failed {}   refused {}   connections {}",
            speed(rates.rates.accepted),
            speed(rates.rates.delivered),
            speed(rates.rates.deferred),
            speed(rates.rates.failed),
            speed(rates.rates.refused),
            speed(rates.rates.connections),
        ),
        format!(
            "half/99 %   accept {}   delivery {}   commit {}",
            latency(rates.latency.accept),
            latency(rates.latency.delivery),
            latency(rates.latency.commit),
        ),
        format!(
            "now   memory {}   disk free {}   in memory {}   connections {}   incidents {}",
            show_size(rates.memory_bytes as u64),
            show_size(rates.disk_free_bytes as u64),
            thousands(rates.window as u64),
            thousands(rates.connections as u64),
            thousands(rates.incidents as u64),
        ),
        String::new(),
    ];
    out.extend(queue(&rates.queue, view.order));
    if !rates.reasons.is_empty() {
        out.push(String::new());
        out.push(format!("{:>10}  {:<28}  {}", "A SECOND", "WHY NOT", "ROUTE"));
        let why =
            |one: &super::top_rates::Reason| format!("{:>10}  {:<28}  {}", speed(one.rate), one.reason, one.route);
        out.extend(rates.reasons.iter().take(8).map(why));
    }
    if !view.troubles.is_empty() {
        out.push(String::new());
        out.push("TO LOOK AT".into());
        out.extend(view.troubles.iter().map(|line| format!("  {}", clean(line))));
    }
    out
}

fn queue(all: &[QueueLine], order: Order) -> Vec<String> {
    if all.is_empty() {
        return vec!["The queue is empty.".into()];
    }
    let mut all: Vec<&QueueLine> = all.iter().collect();
    let name = |line: &QueueLine| (line.route.clone(), line.stream.clone());
    all.sort_by(|a, b| {
        let pending = |line: &QueueLine| line.waiting + line.leased + line.held;
        let first = match order {
            Order::Waiting => pending(b).total_cmp(&pending(a)),
            Order::Oldest => b.oldest_s.total_cmp(&a.oldest_s),
            Order::Name => std::cmp::Ordering::Equal,
        };
        first.then_with(|| name(a).cmp(&name(b)))
    });
    let mut out =
        vec![format!("{:>10} {:>8} {:>8} {:>8}  {:<20} {}", "WAITING", "ACTIVE", "HELD", "OLDEST", "ROUTE", "STREAM")];
    out.extend(all.into_iter().map(|line| {
        let count = |value: f64| thousands(value as u64);
        format!(
            "{:>10} {:>8} {:>8} {:>8}  {:<20} {}",
            count(line.waiting),
            count(line.leased),
            count(line.held),
            age(line.oldest_s),
            line.route,
            line.stream
        )
    }));
    out
}

/// `1,234`, `12.3` or `0.05`.
fn speed(value: f64) -> String {
    match value {
        value if value >= 100.0 => thousands(value.round() as u64),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value > 0.0 => format!("{value:.2}"),
        _ => "0".into(),
    }
}

fn latency(both: Option<[f64; 2]>) -> String {
    both.map_or_else(|| "-".into(), |[half, most]| format!("{}/{}", duration(half), duration(most)))
}

/// `850 µs`, `12 ms`, `3.4 s`.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.001 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 60.0 => format!("{s:.1} s"),
        s => age(s),
    }
}

/// `45 s`, `12 min`, `3.5 h`, `2.1 d`.
fn age(seconds: f64) -> String {
    let mut text = String::new();
    let _ = match seconds {
        s if s <= 0.0 => write!(text, "-"),
        s if s < 120.0 => write!(text, "{s:.0} s"),
        s if s < 7_200.0 => write!(text, "{:.0} min", s / 60.0),
        s if s < 172_800.0 => write!(text, "{:.1} h", s / 3_600.0),
        s => write!(text, "{:.1} d", s / 86_400.0),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_in_the_order_that_was_asked_for() {
        let line = |route: &str, waiting, oldest_s| QueueLine {
            route: route.into(),
            stream: "default".into(),
            waiting,
            oldest_s,
            ..QueueLine::default()
        };
        let all = [line("b", 5.0, 10.0), line("a", 1.0, 90_000.0), line("c", 12_345.0, 70.0)];
        let routes = |order| {
            let lines = queue(&all, order);
            let route = |line: &String| line.split_whitespace().rev().nth(1).unwrap_or_default().to_owned();
            lines.iter().skip(1).map(route).collect::<Vec<_>>()
        };
        assert_eq!(routes(Order::Waiting), ["c", "b", "a"]);
        assert_eq!(routes(Order::Oldest), ["a", "c", "b"]);
        assert_eq!(routes(Order::Name), ["a", "b", "c"]);
        assert!(queue(&all, Order::Waiting)[1].starts_with("    12,345        0        0     70 s  c "));
    }

    #[test]
    fn times_have_the_unit_that_fits() {
        let all = [0.00085, 0.0124, 3.44, 75.0, 5_000.0, 90_000.0, 400_000.0];
        assert_eq!(all.map(duration), ["850 µs", "12 ms", "3.4 s", "75 s", "83 min", "25.0 h", "4.6 d"]);
        assert_eq!([0.0, 0.051, 12.34, 1234.5].map(speed), ["0", "0.05", "12.3", "1,235"]);
    }
}
