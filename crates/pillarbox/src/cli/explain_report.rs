//! What `explain` found, in words and as JSON.

use std::fmt::Write as _;

use explain::{Explanation, Owner, ResultWord};
use serde::Serialize;

use super::explain_group::{Group, Tally, Unknown};
use super::explain_log::Form;
use super::explain_names::Count;
use super::explain_time::show;
use super::output::{clean, plural};

/// Version of the JSON form: fields may be added under the same number.
const SCHEMA: &str = "pillarbox.explain/1";
/// Most kinds of lines without a finding that are shown; the others are counted only.
const MAX_UNKNOWN: usize = 50;

/// What the input was recognised as.
#[derive(Debug, Default)]
pub struct Recognised {
    /// Form of the log.
    pub form: Option<Form>,
    /// Lines read.
    pub lines: u64,
    /// Octets read.
    pub octets: u64,
    /// Lines or parts that tell of a failure.
    pub failing: u64,
    first: Option<String>,
    last: Option<String>,
    programs: Vec<&'static str>,
}

impl Recognised {
    /// Of a log of this form, or of text.
    pub fn new(form: Option<Form>) -> Self {
        Self { form, ..Self::default() }
    }

    /// Time of the first and last line, as the log writes it.
    pub fn times(&mut self, first: &[u8], last: &[u8]) {
        (self.first, self.last) = (show(first), show(last));
    }

    /// A library or program whose words were there.
    pub fn program(&mut self, program: Option<&'static str>) {
        if let Some(program) = program.filter(|program| !self.programs.contains(program)) {
            self.programs.push(program);
        }
    }
}

/// The same for JSON.
#[derive(Debug, Serialize)]
struct RecognisedOut {
    /// `postfix`, `exim`, ...; none for pasted text.
    form: Option<&'static str>,
    /// In words.
    name: String,
    lines: u64,
    octets: u64,
    first: Option<String>,
    last: Option<String>,
    /// Lines, or parts of pasted text, that tell of a failure.
    failing: u64,
    causes: usize,
}

/// All that was found.
#[derive(Debug, Serialize)]
pub struct Report {
    schema: &'static str,
    recognised: RecognisedOut,
    /// Replies and lines whose words, or whose kind of failure, are known.
    known: u64,
    /// The others: those that only codes decided, and those without any finding.
    unknown: u64,
    findings: Vec<Group>,
    /// Without any finding, at most 50 kinds.
    no_finding: Vec<Unknown>,
}

impl Report {
    /// Of all that was counted.
    pub fn new(recognised: Recognised, mut tally: Tally<'_>) -> Self {
        tally.finish();
        let name = match (recognised.form, recognised.programs.as_slice()) {
            (Some(form), _) => form.name().to_owned(),
            (None, []) => "Text".into(),
            (None, programs) => format!("Output of {}", programs.join(", ")),
        };
        let mut no_finding: Vec<Unknown> =
            tally.unknowns.into_iter().filter(|unknown| unknown.rule.is_none()).collect();
        no_finding.truncate(MAX_UNKNOWN);
        let recognised = RecognisedOut {
            form: recognised.form.map(Form::id),
            name,
            lines: recognised.lines,
            octets: recognised.octets,
            first: recognised.first,
            last: recognised.last,
            failing: recognised.failing,
            causes: tally.groups.len() + no_finding.len(),
        };
        Self {
            schema: SCHEMA,
            recognised,
            known: tally.known,
            unknown: tally.unknown,
            findings: tally.groups,
            no_finding,
        }
    }

    /// For people.
    pub fn words(&self) -> String {
        let mut out = String::new();
        let is_log = self.recognised.form.is_some();
        if is_log || self.recognised.name != "Text" || self.known + self.unknown > 1 {
            let _ = writeln!(out, "{}\n", clean(&self.head(is_log)));
        }
        for group in &self.findings {
            group_words(group, &mut out);
            out.push('\n');
        }
        for unknown in &self.no_finding {
            let times = times(unknown.count);
            let _ = writeln!(out, "Unknown{times}: no rule fits these words, and they hold no reply code.");
            let _ = writeln!(out, "  {}\n", clean(&unknown.example));
        }
        let _ = writeln!(out, "{} known, {} unknown", self.known, self.unknown);
        out
    }

    /// `Postfix log, 1,204,331 lines, May  3 00:00:01 – May  3 23:59:58; 312 failing lines, 2 causes`
    fn head(&self, is_log: bool) -> String {
        let RecognisedOut { name, lines, failing, causes, first, last, .. } = &self.recognised;
        let mut head = format!("{name}, {}", counted(*lines, "line"));
        match (first, last) {
            (Some(first), Some(last)) if first != last => _ = write!(head, ", {first} – {last}"),
            (Some(first), _) => _ = write!(head, ", {first}"),
            _ => {}
        }
        let what = if is_log { "failing line" } else { "failure" };
        let _ = match *failing {
            0 => write!(head, "; no {what}s"),
            n => write!(head, "; {}, {}", counted(n, what), counted(*causes as u64, "cause")),
        };
        head
    }
}

/// `1,204,331 lines`.
fn counted(n: u64, what: &str) -> String {
    let digits = n.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    plural(n, what).replacen(&digits, &grouped, 1)
}

fn times(count: u64) -> String {
    if count == 1 { String::new() } else { format!(" ({})", counted(count, "time")) }
}

/// The owner in words.
fn owner(owner: Owner) -> String {
    owner.as_str().replace('_', " ")
}

fn names(counts: &[Count]) -> String {
    let one = |count: &Count| format!("{} ({})", clean(&count.name), count.count);
    counts.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// When, where and how often.
fn seen_words(group: &Group, out: &mut String) {
    if let Some(program) = group.program {
        let step = group.step.map(|step| format!(", at {step}")).unwrap_or_default();
        let _ = writeln!(out, "  Reported by: {program}{step}");
    }
    match (&group.first_seen, &group.last_seen) {
        (Some(first), Some(last)) if first != last => _ = writeln!(out, "  Seen: {} – {}", clean(first), clean(last)),
        (Some(first), _) => _ = writeln!(out, "  Seen: {}", clean(first)),
        _ => {}
    }
    if !group.recipient_domains.is_empty() {
        let _ = writeln!(out, "  Recipients at: {}", names(&group.recipient_domains));
    }
    if !group.hosts.is_empty() {
        let _ = writeln!(out, "  Said by: {}", names(&group.hosts));
    }
    if group.own_refusals > 0 {
        let _ = writeln!(out, "  Refused by the server of this log itself: {}", group.own_refusals);
    }
}

fn group_words(group: &Group, out: &mut String) {
    let Explanation { rule, reason, result, title, meaning, causes, fixes, dated, .. } = &group.explanation;
    let bold = anstyle::Style::new().bold();
    let _ = writeln!(out, "{bold}{}{bold:#}{}", clean(title), times(group.count));
    let _ = writeln!(out, "  {}", clean(&group.example));
    if group.codes_only {
        out.push_str("  The words of this reply are not known: only its code decided, as the RFCs define it.\n");
    }
    seen_words(group, out);
    let _ = writeln!(out, "  Rule: {rule} (reason {reason})");
    let word = if *result == ResultWord::None { "none of the six" } else { result.as_str() };
    let _ = writeln!(out, "  Result: {word}. {}", result.meaning());
    if let Some(provider) = &group.provider {
        let _ = writeln!(out, "  Provider: {}", clean(provider));
    }
    let _ = writeln!(out, "  Meaning: {}", clean(meaning));
    let _ = writeln!(out, "  Whose turn: {}", owner(group.explanation.owner));
    out.push_str("  Causes, the likeliest first:\n");
    for cause in causes {
        let _ = writeln!(out, "    - {}", clean(cause));
    }
    out.push_str("  Fixes, in this order:\n");
    for (n, fix) in fixes.iter().enumerate() {
        let _ = writeln!(out, "    {}. [{}] {}", n + 1, owner(fix.who), clean(&fix.text));
        if let Some(run) = &fix.run {
            let _ = writeln!(out, "       {}", clean(run));
        }
    }
    if let Some(dated) = dated {
        let _ = writeln!(out, "  Dated: {}", clean(dated));
    }
    let _ = writeln!(out, "  Source: {} (checked {})", clean(&group.source.name), clean(&group.source.checked));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_can_be_read() {
        for (n, shown) in [(1, "1 line"), (999, "999 lines"), (1000, "1,000 lines"), (1_204_331, "1,204,331 lines")] {
            assert_eq!(counted(n, "line"), shown);
        }
    }
}
