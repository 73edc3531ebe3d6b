//! The weekly report for people: text, and the same with markup.

use minijinja::context;
use minijinja::value::{Serde, Value};

use super::Report;
use super::tally::Slow;
use crate::http::ui::template;

/// `1,234,567`.
fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `2026-11-21 07:00:00Z`; mails need no fractions.
fn short_time(time: &str) -> String {
    match (time.get(..10), time.get(11..19)) {
        (Some(day), Some(clock)) => format!("{day} {clock}Z"),
        _ => time.to_owned(),
    }
}

/// The subject.
pub fn subject(report: &Report) -> String {
    let volumes = &report.volumes;
    let lost = volumes.failed + volumes.expired;
    format!(
        "[{}] Weekly report: {} delivered, {} failed",
        report.hostname,
        thousands(volumes.delivered),
        thousands(lost)
    )
}

fn counts(report: &Report) -> Vec<(&'static str, String)> {
    let volumes = &report.volumes;
    let all = [
        ("Messages accepted", volumes.accepted),
        ("Recipients delivered", volumes.delivered),
        ("Recipients failed", volumes.failed),
        ("Recipients expired", volumes.expired),
        ("Bounced later", volumes.bounced),
        ("Complaints", volumes.complained),
        ("Not sent (suppressed)", volumes.suppressed),
        ("Attempts repeated", volumes.deferred),
    ];
    all.into_iter().map(|(name, count)| (name, thousands(count))).collect()
}

/// In a sentence, if not everything was looked at.
fn sampled(report: &Report) -> Option<String> {
    let share = report.sampled?;
    Some(format!("Estimated from {:.1} % of the events, spread over the whole time.", share * 100.0))
}

fn to_renew(report: &Report) -> Vec<String> {
    let secrets = report.renew.iter().map(|one| one.words());
    secrets.chain(report.also_renew.iter().map(|one| one.text.clone())).collect()
}

/// As text.
pub fn text(report: &Report) -> String {
    let mut text =
        format!("Mail of {} from {} to {}\n\n", report.hostname, short_time(&report.since), short_time(&report.until));
    for (name, count) in counts(report) {
        text.push_str(&format!("{name:<24}{count:>14}\n"));
    }
    if let Some(sampled) = sampled(report) {
        text.push_str(&format!("{sampled}\n"));
    }
    let mut list = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            text.push_str(&format!("\n{title}\n"));
            lines.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
        }
    };
    let top = |top: &super::Top| {
        let title = if top.title.is_empty() { String::new() } else { format!("  {}", top.title) };
        format!("{:>10}  {}{title}", thousands(top.count), top.name)
    };
    list("Failed because", report.failures.iter().map(top).collect());
    list("Late because", report.delays.iter().map(top).collect());
    let slow = |slow: &Slow| {
        let Slow { host, delivered, median_s, p95_s } = slow;
        format!("{host}: half within {median_s:.1} s, 95 % within {p95_s:.1} s ({} delivered)", thousands(*delivered))
    };
    list("Slowest next hops", report.slowest.iter().map(slow).collect());
    list("Domains with most bounces", report.bouncing.iter().map(top).collect());
    list("To renew", to_renew(report));
    let open = |one: &super::OpenThing| format!("{} {} (since {})", one.id, one.title, short_time(&one.since));
    list("Open incidents", report.incidents.iter().map(open).collect());
    list("Raised alerts", report.alerts.iter().map(open).collect());
    text
}

/// With markup; everything of strangers is escaped.
pub fn html(report: &Report) -> Result<String, minijinja::Error> {
    let renew = to_renew(report);
    let (counts, report) = (Value::from(Serde(counts(report))), Value::from(Serde(report)));
    template::pages().get_template("weekly.html")?.render(context! { report, counts, renew })
}

#[cfg(test)]
mod tests {
    use super::super::renew::Renewal;
    use super::super::tally::Volumes;
    use super::super::{OpenThing, Top};
    use super::*;

    fn report() -> Report {
        Report {
            hostname: "relay.example".into(),
            since: "2026-11-14T07:00:00Z".into(),
            until: "2026-11-21T07:00:00Z".into(),
            sampled: Some(0.2),
            volumes: Volumes {
                accepted: 1_234_567,
                delivered: 1_200_000,
                failed: 34,
                expired: 6,
                ..Volumes::default()
            },
            failures: vec![Top {
                name: "no_such_user".into(),
                title: "The <address> does not exist".into(),
                count: 30,
            }],
            delays: Vec::new(),
            slowest: vec![Slow { host: "slow.example".into(), delivered: 9, median_s: 12.34, p95_s: 99.9 }],
            bouncing: vec![Top { name: "a.example".into(), title: String::new(), count: 7 }],
            renew: Vec::new(),
            also_renew: Vec::new(),
            alerts: vec![OpenThing { id: "a-1".into(), title: "x".into(), since: "2026-11-20T07:00:00Z".into() }],
            incidents: Vec::new(),
        }
    }

    #[test]
    fn text_and_markup_say_the_same_and_markup_is_safe() {
        let report = report();
        let (text, html) = (text(&report), html(&report).unwrap());
        assert_eq!(subject(&report), "[relay.example] Weekly report: 1,200,000 delivered, 40 failed");
        for (text, wanted) in [
            (&text, "Messages accepted            1,234,567\n"),
            (&text, "Estimated from 20.0 % of the events"),
            (&text, "        30  no_such_user  The <address> does not exist\n"),
            (&text, "slow.example: half within 12.3 s"),
            (&text, "a-1 x (since 2026-11-20 07:00:00Z)"),
            (&html, "1,234,567"),
            (&html, "The &lt;address&gt; does not exist"),
        ] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
        assert!(!text.contains("To renew") && !html.contains("To renew"), "an empty list has no title");
    }

    #[test]
    fn what_the_checks_found_is_among_what_is_to_be_renewed() {
        let certificate =
            Renewal { check: "certificate:listener.smtp".into(), text: "the certificate <of> smtp ends".into() };
        let report = Report { also_renew: vec![certificate], ..report() };
        assert!(text(&report).contains("\nTo renew\n  the certificate <of> smtp ends\n"));
        assert!(html(&report).unwrap().contains("<li>the certificate &lt;of&gt; smtp ends</li>"));
    }
}
