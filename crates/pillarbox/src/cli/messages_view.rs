//! A dossier, and why mail did not arrive, in words for a terminal.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use super::output::{clean, clean_lines, short_time};
use crate::dossier::{DossierOut, FindingFullOut, Tone, TriedOut};
use crate::why::{Answer, WhyOut};

fn heading(out: &mut String, text: &str) {
    let bold = Style::new().bold();
    let _ = writeln!(out, "\n{bold}{text}{bold:#}");
}

fn fact(out: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        let dim = Style::new().dimmed();
        let _ = writeln!(out, "{dim}{name:<12}{dim:#}  {}", clean(value));
    }
}

/// All of a dossier; headers and text if `text`.
pub fn dossier(one: &DossierOut, text: bool) -> String {
    let mut out = String::new();
    let message = &one.message;
    fact(&mut out, "message", &message.id);
    fact(&mut out, "accepted", &short_time(&message.accepted));
    fact(&mut out, "from", message.from.as_deref().unwrap_or(&message.envelope_from));
    fact(&mut out, "return path", if message.envelope_from.is_empty() { "<>" } else { &message.envelope_from });
    fact(&mut out, "subject", message.subject.as_deref().unwrap_or_default());
    fact(&mut out, "Message-ID", message.message_id.as_deref().unwrap_or_default());
    fact(&mut out, "sender", &message.sender);
    fact(&mut out, "stream", &message.stream);
    fact(&mut out, "size", &format!("{} octets", message.size));
    heading(&mut out, "Recipients");
    for to in &message.recipients {
        let _ = writeln!(out, "  {}  {}", clean(&to.address), clean(&to.meaning));
    }
    heading(&mut out, "What happened");
    for moment in &one.timeline {
        let style = match moment.tone {
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Wait => AnsiColor::Yellow.on_default(),
            Tone::Bad => AnsiColor::Red.on_default(),
            Tone::Plain => Style::new(),
        };
        let whom = match (moment.recipients.as_slice(), moment.count) {
            ([], _) => String::new(),
            ([only], 1) => format!("{}: ", clean(only)),
            ([first, ..], count) => format!("{} and {} more: ", clean(first), count - 1),
        };
        let _ = writeln!(out, "  {}  {whom}{style}{}{style:#}", short_time(&moment.at), clean(&moment.text));
    }
    one.findings.iter().for_each(|found| finding(&mut out, found));
    one.attempts.iter().for_each(|attempt| tried(&mut out, attempt));
    if !one.incidents.is_empty() {
        heading(&mut out, "Incidents");
        for incident in &one.incidents {
            let _ = writeln!(out, "  {} ({}): {}", incident.id, incident.state, clean(&incident.title));
        }
    }
    if text {
        content(&mut out, one);
    }
    out
}

fn content(out: &mut String, one: &DossierOut) {
    let Some(content) = &one.content else {
        let _ = writeln!(out, "\nThe content is no longer kept.");
        return;
    };
    heading(out, "Header");
    for field in &content.headers {
        let _ = writeln!(out, "  {}: {}", clean(&field.name), clean(&field.value));
    }
    if let Some(text) = &content.text {
        heading(out, "Text");
        let _ = writeln!(out, "{}{}", clean_lines(text), if content.text_cut { "\n… (there is more)" } else { "" });
    }
    if let Some(why) = &content.text_withheld {
        let _ = writeln!(out, "\nThe text is not shown: {}", clean(why));
    }
    for part in &content.attachments {
        let name = part.filename.as_deref().unwrap_or("without a name");
        let _ = writeln!(out, "Attachment: {} ({} octets)", clean(name), part.size);
    }
}

fn finding(out: &mut String, found: &FindingFullOut) {
    heading(out, &format!("{} ({}, turn of {})", clean(&found.title), found.rule, found.owner.replace('_', " ")));
    let _ = writeln!(out, "  {}\n  {}", clean(&found.failure), clean(&found.meaning));
    for (n, fix) in found.fixes.iter().enumerate() {
        step(out, n + 1, &fix.who, &fix.text, fix.run.as_deref(), None);
    }
}

fn step(out: &mut String, n: usize, who: &str, text: &str, run: Option<&str>, known: Option<&str>) {
    let dim = Style::new().dimmed();
    let _ = writeln!(out, "  {n}. {} {dim}({}){dim:#}", clean(text), who.replace('_', " "));
    if let Some(known) = known {
        let _ = writeln!(out, "     {dim}known: {}{dim:#}", clean(known));
    }
    if let Some(run) = run {
        let _ = writeln!(out, "     $ {}", clean(run));
    }
}

fn tried(out: &mut String, one: &TriedOut) {
    heading(out, &format!("Attempt {} by route {}: {}", one.n, clean(&one.route), one.results.join(", ")));
    fact(out, "  started", &format!("{}, took {} ms", short_time(&one.started), one.took_ms));
    fact(out, "  next hop", one.peer.as_deref().unwrap_or("no connection"));
    for answer in &one.dns {
        fact(out, "  DNS", &format!("{} has {}", answer.host, answer.addresses.join(", ")));
    }
    fact(out, "  TLS", one.tls.as_deref().unwrap_or(if one.peer.is_some() { "none, in clear" } else { "" }));
    for certificate in one.tls_facts.iter().flat_map(|tls| tls.certificates.first()) {
        let text =
            format!("{} by {}, until {}", certificate.subject, certificate.issuer, short_time(&certificate.not_after));
        fact(out, "  certificate", &text);
    }
    fact(out, "  reply", one.reply.as_deref().unwrap_or_default());
    fact(out, "  failure", one.failure.as_deref().unwrap_or_default());
    let red = AnsiColor::Red.on_default();
    for step in &one.steps {
        let at = format!("  {:>6} ms", step.at_ms);
        if let Some(fact) = &step.fact {
            let _ = writeln!(out, "{at} * {}", clean(fact));
        }
        if let Some(sent) = &step.sent {
            let _ = writeln!(out, "{at} > {}", clean(sent));
        }
        for line in step.reply.iter().flat_map(|reply| reply.lines()) {
            let _ = writeln!(out, "{at} < {}", clean(line));
        }
        if let (Some(failure), None) = (&step.failure, &step.reply) {
            let _ = writeln!(out, "{at} {red}! {}{red:#}", clean(failure));
        }
    }
}

/// Why mail did not arrive.
pub fn why(one: &WhyOut) -> String {
    let bold = Style::new().bold();
    let mut out = format!("{bold}{}{bold:#}\n{}\n", clean(&one.title), clean(&one.meaning));
    heading(&mut out, "What is known");
    for known in &one.known {
        let mark = match (known.stops, known.answer) {
            (true, _) => "✗",
            (false, Answer::Unknown) => "?",
            (false, _) => "·",
        };
        let at = known.at.as_deref().map(|at| format!(" ({})", short_time(at))).unwrap_or_default();
        let _ = writeln!(out, "  {mark} {} {}{at}", clean(&known.question), clean(&known.text));
    }
    heading(&mut out, "Whom it touches");
    let _ = writeln!(out, "  {}", clean(&one.scope.words));
    if let Some(since) = &one.scope.since {
        let _ = writeln!(out, "  Since {}", short_time(since));
    }
    for row in &one.scope.rows {
        let _ =
            writeln!(out, "  {:<9} {}: {} accepted, {} failed", row.group, clean(&row.name), row.accepted, row.failed);
    }
    heading(&mut out, "What to check next, in order");
    for (n, todo) in one.next.iter().enumerate() {
        step(&mut out, n + 1, &todo.who, &todo.text, todo.run.as_deref(), todo.known.as_deref());
    }
    if !one.incidents.is_empty() {
        heading(&mut out, "Incidents");
        for incident in &one.incidents {
            let _ = writeln!(out, "  {} ({}): {}", incident.id, incident.state, clean(&incident.title));
        }
    }
    out
}
