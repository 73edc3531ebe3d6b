//! `pillarbox spf`: what the policy of a sender gives for a client, and every step on the way there.

use std::fmt::Write as _;

use anyhow::Context;
use net::{Clock, Dnssec, Resolver, ResolverSettings};
use proto::policy::spf::{Client, Evaluation, Limits, SpfOutcome, SpfResult, TermOutcome, TermTrace, Visit};
use proto::policy::{Level, Remark};
use serde::Serialize;

use super::Fault;
use super::args::Global;
use super::args_policy::{ResolverArgs, SpfArgs};
use super::output::{clean, json, plural, print};

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    ip: String,
    helo: &'a str,
    mail_from: &'a str,
    outcome: &'a SpfOutcome,
}

/// Does what was asked.
pub async fn run(global: &Global, args: &SpfArgs) -> Result<(), Fault> {
    let resolver = resolver(&args.resolver)?;
    let mail_from = args.mail_from.trim_start_matches('<').trim_end_matches('>');
    let client = Client {
        ip: args.ip,
        helo: args.helo.clone(),
        mail_from: mail_from.to_owned(),
        receiver: args.receiver.clone(),
        now: u64::try_from(Clock::system().now_ms() / 1000).unwrap_or(0),
    };
    let outcome = resolver.walk(&mut Evaluation::new(client, Limits::default())).await;
    if global.json {
        let ip = args.ip.to_string();
        json(&Report { schema: "pillarbox.spf/1", ip, helo: &args.helo, mail_from, outcome: &outcome })?;
    } else {
        print(&words(&outcome))?;
    }
    if outcome.result == SpfResult::Pass { Ok(()) } else { Err(Fault::Told) }
}

/// The resolver of a command.
pub fn resolver(args: &ResolverArgs) -> Result<Resolver, Fault> {
    let settings = ResolverSettings { servers: args.resolver.clone(), timeout: args.timeout, dnssec: Dnssec::Off };
    Resolver::new(settings).context("cannot ask DNS").map_err(Fault::cannot)
}

fn words(outcome: &SpfOutcome) -> String {
    let mut out = String::new();
    let bold = anstyle::Style::new().bold();
    let _ = writeln!(out, "{bold}{}{bold:#}  {}", outcome.result.name(), clean(&outcome.domain));
    for (name, value) in
        [("decided by", &outcome.decided_by), ("problem", &outcome.problem), ("explanation", &outcome.explanation)]
    {
        if let Some(value) = value {
            let _ = writeln!(out, "{name}: {}", clean(value));
        }
    }
    let voids = plural(outcome.voids.into(), "lookup");
    let _ = writeln!(out, "{} of 10, {voids} of 2 without an answer", plural(outcome.lookups.into(), "lookup"));
    if let Some(trace) = &outcome.trace {
        out.push('\n');
        visit(trace, 0, &mut out);
    }
    out
}

fn visit(visit: &Visit, depth: usize, out: &mut String) {
    let pad = "  ".repeat(depth);
    let record = match (&visit.record, &visit.problem) {
        (Some(record), _) => record.clone(),
        (None, Some(problem)) => format!("({problem})"),
        (None, None) => "(no record)".into(),
    };
    let _ = writeln!(out, "{pad}{}: {}", clean(&visit.domain), clean(&record));
    for several in &visit.several {
        let _ = writeln!(out, "{pad}  {}", clean(several));
    }
    for term in &visit.terms {
        self::term(term, depth + 1, out);
    }
    out.push_str(&remarks(&visit.remarks, &pad));
    let _ = writeln!(out, "{pad}= {}", visit.result.name());
}

fn term(term: &TermTrace, depth: usize, out: &mut String) {
    let pad = "  ".repeat(depth);
    let word = match term.outcome {
        TermOutcome::Matched => "match",
        TermOutcome::NotMatched => "no match",
        TermOutcome::Error => "error",
        TermOutcome::Followed => "followed",
        TermOutcome::Counted => "counted",
    };
    let mut line = format!("{pad}{}: {word}", clean(&term.term));
    if let Some(target) = term.target.as_deref().filter(|target| !term.term.ends_with(*target)) {
        let _ = write!(line, " [{}]", clean(target));
    }
    if let Some(note) = &term.note {
        let _ = write!(line, " ({})", clean(note));
    }
    if term.lookups > 0 {
        let _ = write!(line, ", {}", plural(term.lookups.into(), "lookup"));
    }
    if term.voids > 0 {
        let _ = write!(line, ", {} without an answer", term.voids);
    }
    let _ = writeln!(out, "{line}");
    if let Some(inner) = &term.inner {
        visit(inner, depth + 1, out);
    }
}

/// What is wrong or odd in a record, one line each.
pub fn remarks(remarks: &[Remark], pad: &str) -> String {
    let line = |remark: &Remark| {
        let level = match remark.level {
            Level::Error => "error",
            Level::Warning => "warning",
        };
        format!("{pad}  {level} at octet {}: {}\n", remark.at, clean(&remark.text))
    };
    remarks.iter().map(line).collect()
}
