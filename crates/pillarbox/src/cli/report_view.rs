//! A summary of reports in words.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use explain::Severity;

use super::output::{clean, plural};
use crate::returned::summary::{Found, Summary};
use crate::returned::summary_aggregate::{Class, Domain, Source};
use crate::returned::summary_tls::TlsDomain;

/// Most sources shown of a domain; up to 1,000 are in the JSON.
const MAX_SOURCES: usize = 15;
/// Most files shown that could not be read.
const MAX_UNREADABLE: usize = 50;

/// All of it.
pub fn words(summary: &Summary) -> String {
    let mut out = String::new();
    let again = match summary.repeated {
        0 => String::new(),
        n => format!(", {n} of them more than once"),
    };
    let _ = writeln!(out, "{}{again}\n", plural(summary.reports, "report"));
    for domain in &summary.dmarc {
        self::domain(domain, &mut out);
    }
    for domain in &summary.tls {
        tls(domain, &mut out);
    }
    for found in &summary.findings {
        finding(found, &mut out);
    }
    for one in summary.unreadable.iter().take(MAX_UNREADABLE) {
        let red = AnsiColor::Red.on_default().bold();
        let _ = writeln!(out, "{red}✗{red:#} {}: {}", clean(&one.file), clean(&one.why));
    }
    out
}

fn share(part: u64, whole: u64) -> String {
    if whole == 0 { "-".into() } else { format!("{:.1} %", part as f64 * 100.0 / whole as f64) }
}

fn times(begin: Option<i64>, end: Option<i64>) -> String {
    let day = |seconds: Option<i64>| {
        let time = seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
        time.map(|time| time.strftime("%Y-%m-%d").to_string())
    };
    match (day(begin), day(end)) {
        (Some(begin), Some(end)) if begin == end => format!(", {begin}"),
        (Some(begin), Some(end)) => format!(", {begin} to {end}"),
        _ => String::new(),
    }
}

fn domain(domain: &Domain, out: &mut String) {
    let bold = Style::new().bold();
    let policy = domain.policy.p.as_deref().unwrap_or("not said");
    let _ = writeln!(
        out,
        "{bold}{}{bold:#}  DMARC p={}{}, as {} see it",
        clean(&domain.domain),
        clean(policy),
        times(domain.begin, domain.end),
        plural(domain.reporters.len() as u64, "receiver"),
    );
    let _ = writeln!(
        out,
        "    {}: {} pass, {} to spam, {} refused",
        plural(domain.messages, "message"),
        share(domain.passed, domain.messages),
        domain.quarantined,
        domain.rejected
    );
    if domain.left_out > 0 {
        let _ = writeln!(out, "    {} more records were not read", domain.left_out);
    }
    let dim = Style::new().dimmed();
    let _ = writeln!(out, "    {dim}{:<39} {:>9} {:>8} {:>8}  {dim:#}", "source", "messages", "DKIM", "SPF");
    for source in domain.sources.iter().take(MAX_SOURCES) {
        let _ = writeln!(
            out,
            "    {:<39} {:>9} {:>8} {:>8}  {}",
            clean(&source.ip),
            source.messages,
            share(source.dkim_aligned, source.messages),
            share(source.spf_aligned, source.messages),
            clean(&about(source)),
        );
    }
    if domain.source_count > MAX_SOURCES {
        let _ = writeln!(out, "    {dim}... {} more sources with --json{dim:#}", domain.source_count - MAX_SOURCES);
    }
    out.push('\n');
}

/// What mostly happens with mail from a source.
fn about(source: &Source) -> String {
    let failing = source.classes.iter().filter(|(class, _)| **class > Class::SpfOnly);
    let class =
        failing.max_by_key(|(_, count)| **count).or_else(|| source.classes.iter().max_by_key(|(_, count)| **count));
    let signer = || source.dkim.iter().chain(&source.spf).next().map_or("", String::as_str);
    match class.map(|(class, _)| class) {
        None | Some(Class::Both) => "passes".into(),
        Some(Class::DkimOnly) => "passes by DKIM".into(),
        Some(Class::SpfOnly) => "passes by SPF".into(),
        Some(Class::BrokenSignature) => format!("signature fails: {}", signer()),
        Some(Class::Unaligned) => format!("not aligned: {}", signer()),
        Some(Class::Forwarded) => "forwarded".into(),
        Some(Class::Unauthenticated) => "nothing vouches for it".into(),
    }
}

fn tls(domain: &TlsDomain, out: &mut String) {
    let bold = Style::new().bold();
    let policies: Vec<&str> = domain.policies.iter().map(String::as_str).collect();
    let _ = writeln!(
        out,
        "{bold}{}{bold:#}  TLS ({}), as {} see it",
        clean(&domain.domain),
        clean(&policies.join(", ")),
        plural(domain.reporters.len() as u64, "sender")
    );
    let _ = writeln!(
        out,
        "    {} secure, {} not ({})",
        plural(domain.successes, "session"),
        domain.failures,
        share(domain.failures, domain.successes.saturating_add(domain.failures))
    );
    for (kind, failure) in &domain.by_type {
        let kind = if kind.is_empty() { "not said" } else { kind };
        let hosts: Vec<&str> = failure.hosts.iter().take(5).map(String::as_str).collect();
        let _ = writeln!(out, "    {:<28} {:>9}  {}", clean(kind), failure.sessions, clean(&hosts.join(", ")));
    }
    out.push('\n');
}

fn finding(found: &Found, out: &mut String) {
    let (mark, style) = match found.severity {
        Severity::Problem => ("✗", AnsiColor::Red.on_default().bold()),
        Severity::Warning => ("!", AnsiColor::Yellow.on_default().bold()),
        Severity::Note => ("i", Style::new().dimmed()),
    };
    let bold = Style::new().bold();
    let words = &found.explanation;
    let _ = writeln!(out, "{style}{mark}{style:#} {bold}{}{bold:#}", clean(&words.title));
    let _ = writeln!(out, "    {}", clean(&words.meaning));
    for cause in &words.causes {
        let _ = writeln!(out, "    - {}", clean(cause));
    }
    for (n, fix) in words.fixes.iter().enumerate() {
        let who = fix.who.as_str().replace('_', " ");
        let _ = writeln!(out, "    {}. [{who}] {}", n + 1, clean(&fix.text));
        if let Some(run) = &fix.run {
            let _ = writeln!(out, "         {}", clean(run));
        }
    }
    let _ = writeln!(out, "    Rule: {}\n", words.rule);
}
