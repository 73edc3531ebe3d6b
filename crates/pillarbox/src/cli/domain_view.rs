//! An audit in words.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use diagnose::domain::{Audit, Found, SectionReport, State};
use explain::Severity;

use super::output::{clean, plural};

/// Most lines of details shown of a section; all are in the JSON.
const MAX_DETAILS: usize = 40;

/// The whole report.
pub fn words(audit: &Audit) -> String {
    let mut out = String::new();
    let bold = Style::new().bold();
    let provider = audit.provider.as_deref().map(|provider| format!("  (mail at {provider})")).unwrap_or_default();
    let _ = writeln!(out, "{bold}{}{bold:#}{}\n", clean(&audit.domain), clean(&provider));
    for section in &audit.sections {
        self::section(section, &mut out);
    }
    if !audit.findings.is_empty() {
        out.push('\n');
    }
    for found in &audit.findings {
        finding(found, &mut out);
    }
    let _ = writeln!(out, "{}", counts(audit));
    out
}

/// One line for a list of many.
pub fn line(audit: &Audit) -> String {
    let (mark, style) = mark(worst(audit));
    let words = match &audit.error {
        Some(error) => clean(error),
        None => {
            let mut signs: Vec<&str> = audit
                .findings
                .iter()
                .filter(|found| found.severity != Severity::Note)
                .map(|found| found.sign.as_str())
                .collect();
            signs.dedup();
            format!("{}: {}", counts(audit), signs.join(" ")).trim_end_matches([':', ' ']).to_owned()
        }
    };
    format!("{style}{mark}{style:#} {}  {words}\n", clean(&audit.domain))
}

fn counts(audit: &Audit) -> String {
    let count = |severity| u64::try_from(audit.count(severity)).unwrap_or(u64::MAX);
    let parts = [(Severity::Problem, "problem"), (Severity::Warning, "warning"), (Severity::Note, "note")];
    let told: Vec<String> = parts
        .into_iter()
        .filter(|(severity, _)| count(*severity) > 0)
        .map(|(severity, word)| plural(count(severity), word))
        .collect();
    if told.is_empty() { "nothing to complain about".into() } else { told.join(", ") }
}

fn worst(audit: &Audit) -> State {
    if !audit.healthy {
        State::Problem
    } else if audit.count(Severity::Warning) > 0 {
        State::Warning
    } else {
        State::Good
    }
}

fn mark(state: State) -> (&'static str, Style) {
    let colour = |colour: AnsiColor| colour.on_default().bold();
    match state {
        State::Good => ("✓", colour(AnsiColor::Green)),
        State::Warning => ("!", colour(AnsiColor::Yellow)),
        State::Problem => ("✗", colour(AnsiColor::Red)),
        State::Skipped => ("-", Style::new().dimmed()),
    }
}

fn section(section: &SectionReport, out: &mut String) {
    let (mark, style) = mark(section.state);
    let dim = Style::new().dimmed();
    let _ = writeln!(out, "{style}{mark}{style:#} {:<10}  {}", section.section.name(), clean(&section.summary));
    for record in &section.records {
        let _ = writeln!(out, "    {} {} {}", clean(&record.name), record.kind, clean(&record.value));
    }
    for detail in section.details.iter().take(MAX_DETAILS) {
        let _ = writeln!(out, "    {dim}{}{dim:#}", clean(detail));
    }
    if section.details.len() > MAX_DETAILS {
        let _ = writeln!(out, "    {dim}... {} more lines with --json{dim:#}", section.details.len() - MAX_DETAILS);
    }
}

fn finding(found: &Found, out: &mut String) {
    let state = match found.severity {
        Severity::Problem => State::Problem,
        Severity::Warning => State::Warning,
        Severity::Note => State::Good,
    };
    let (symbol, style) = if found.severity == Severity::Note { ("i", Style::new().dimmed()) } else { mark(state) };
    let bold = Style::new().bold();
    let words = &found.explanation;
    let _ = writeln!(out, "{style}{symbol}{style:#} {bold}{}{bold:#}  [{}]", clean(&words.title), found.section.name());
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
    if let Some(dated) = &words.dated {
        let _ = writeln!(out, "    {}", clean(dated));
    }
    let _ = writeln!(out, "    Rule: {}\n", words.rule);
}
