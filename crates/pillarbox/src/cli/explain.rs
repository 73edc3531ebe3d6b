//! `pillarbox explain`: what pasted replies and log lines mean. Works without server, data and network.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::Path;

use anyhow::Context;
use explain::{Basis, Explanation, Finding, Normal, Owner, Query, ResultWord, RuleBase, Source, Values, What};
use serde::Serialize;

use super::Fault;
use super::args::Global;
use super::args_rules::ExplainArgs;
use super::explain_input::{Piece, Pieces};
use super::output::{clean, json as print_json, plural, print};

/// Most kinds of lines without a finding that are kept; the others are counted only.
const MAX_UNKNOWN: usize = 50;
/// Most characters shown of a line.
const MAX_SHOWN: usize = 400;

/// Lines with the same rule and provider.
#[derive(Debug, Serialize)]
struct Group {
    /// How many.
    count: u64,
    /// The first of them; the values in the words are its values.
    example: String,
    /// Only codes decided: the words are not known.
    codes_only: bool,
    basis: Basis,
    provider: Option<String>,
    values: Values,
    explanation: Explanation,
    source: Where,
}

/// Where the knowledge is from.
#[derive(Debug, Serialize)]
struct Where {
    name: String,
    checked: String,
}

impl From<&Source> for Where {
    fn from(source: &Source) -> Self {
        Self { name: source.name.clone(), checked: source.checked.clone() }
    }
}

/// Lines of one kind without a finding.
#[derive(Debug, Serialize)]
struct Unknown {
    count: u64,
    example: String,
    #[serde(skip)]
    fingerprint: String,
}

/// All that was found.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// Replies and lines whose words, or whose kind of failure, are known.
    known: u64,
    /// The others: those that only codes decided, and those without any finding.
    unknown: u64,
    findings: Vec<Group>,
    /// Without any finding, at most 50 kinds.
    no_finding: Vec<Unknown>,
}

/// Does what was asked.
pub fn run(global: &Global, args: &ExplainArgs) -> Result<(), Fault> {
    let base = RuleBase::builtin();
    if let Some(id) = args.provider.as_deref().filter(|id| base.provider(id).is_none()) {
        let known: Vec<&str> = base.providers().iter().map(|provider| provider.id.as_str()).collect();
        return Err(Fault::Usage(format!("no provider `{id}`; there are {}", known.join(", "))));
    }
    let mut pieces = Pieces::new(open(&args.what)?);
    let mut report = Report::default();
    while let Some(piece) =
        pieces.next().map_err(|error| Fault::cannot(anyhow::Error::new(error).context("cannot read")))?
    {
        report.add(base, args.provider.as_deref(), &piece);
    }
    if report.known + report.unknown == 0 {
        return Err(Fault::Usage("there is nothing to explain: the input is empty".into()));
    }
    report.findings.sort_by_key(|group| std::cmp::Reverse(group.count));
    report.no_finding.sort_by_key(|unknown| std::cmp::Reverse(unknown.count));
    if global.json {
        print_json(&report)?;
    } else {
        print(&report.words())?;
    }
    if report.unknown > 0 { Err(Fault::Told) } else { Ok(()) }
}

/// A file if there is one of this name, standard input, or the words themselves.
fn open(what: &[String]) -> Result<Box<dyn BufRead>, Fault> {
    match what {
        [] if std::io::stdin().is_terminal() => {
            Err(Fault::Usage("name a file, `-`, or the reply itself; see `pillarbox explain --help`".into()))
        }
        [] => Ok(Box::new(std::io::stdin().lock())),
        [dash] if dash == "-" => Ok(Box::new(std::io::stdin().lock())),
        [one] if looks_like_a_path(one) || Path::new(one).exists() => {
            let opened = File::open(one).and_then(|file| match file.metadata()?.is_dir() {
                true => Err(std::io::ErrorKind::IsADirectory.into()),
                false => Ok(file),
            });
            let file = opened.with_context(|| format!("cannot read {one}")).map_err(Fault::cannot)?;
            Ok(Box::new(BufReader::new(file)))
        }
        words => Ok(Box::new(std::io::Cursor::new(words.join(" ")))),
    }
}

/// A mistyped name of a file is not a reply nobody knows.
fn looks_like_a_path(text: &str) -> bool {
    let file = [".log", ".txt", ".eml", ".json"].iter().any(|ending| text.ends_with(ending));
    !text.contains(char::is_whitespace) && !text.contains("://") && (file || text.contains('/'))
}

impl Report {
    fn add(&mut self, base: &RuleBase, provider: Option<&str>, piece: &Piece) {
        let (what, normal, text) = match piece {
            Piece::Reply(reply) => (What::Reply(reply), Normal::of_reply(reply), reply.to_string()),
            Piece::Line(line) => (What::Text(line), Normal::of_text(line), line.clone()),
        };
        let finding = base.judge(&Query { stage: None, provider, what });
        match finding.as_ref().is_some_and(|finding| !finding.is_by_class()) {
            true => self.known += 1,
            false => self.unknown += 1,
        }
        match finding {
            Some(finding) => self.group(base, finding, &text),
            None => self.without(normal.fingerprint(), &text),
        }
    }

    fn group(&mut self, base: &RuleBase, finding: Finding, text: &str) {
        let same = |group: &&mut Group| group.explanation.rule == finding.rule && group.provider == finding.provider;
        if let Some(group) = self.findings.iter_mut().find(same) {
            group.count += 1;
            return;
        }
        // The rule comes from the base it is looked up in.
        let (Some(explanation), Some(rule)) = (base.explain(&finding), base.rule(&finding.rule)) else { return };
        self.findings.push(Group {
            count: 1,
            example: text.chars().take(MAX_SHOWN).collect(),
            codes_only: finding.is_by_class(),
            basis: finding.basis,
            provider: finding.provider,
            values: finding.values,
            explanation,
            source: (&rule.source).into(),
        });
    }

    fn without(&mut self, fingerprint: String, text: &str) {
        if let Some(unknown) = self.no_finding.iter_mut().find(|unknown| unknown.fingerprint == fingerprint) {
            unknown.count += 1;
        } else if self.no_finding.len() < MAX_UNKNOWN {
            let example = text.chars().take(MAX_SHOWN).collect();
            self.no_finding.push(Unknown { count: 1, example, fingerprint });
        }
    }

    fn words(&self) -> String {
        let mut out = String::new();
        for group in &self.findings {
            group.words(&mut out);
            out.push('\n');
        }
        for unknown in &self.no_finding {
            let _ = writeln!(
                out,
                "Unknown{}: no rule fits these words, and they hold no reply code.",
                times(unknown.count)
            );
            let _ = writeln!(out, "  {}\n", clean(&unknown.example));
        }
        let _ = writeln!(out, "{} known, {} unknown", self.known, self.unknown);
        out
    }
}

fn times(count: u64) -> String {
    if count == 1 { String::new() } else { format!(" ({})", plural(count, "time")) }
}

/// The owner in words.
fn owner(owner: Owner) -> String {
    owner.as_str().replace('_', " ")
}

impl Group {
    fn words(&self, out: &mut String) {
        let Explanation { rule, reason, result, title, meaning, causes, fixes, dated, .. } = &self.explanation;
        let bold = anstyle::Style::new().bold();
        let _ = writeln!(out, "{bold}{}{bold:#}{}", clean(title), times(self.count));
        let _ = writeln!(out, "  {}", clean(&self.example));
        if self.codes_only {
            out.push_str("  The words of this reply are not known: only its code decided, as the RFCs define it.\n");
        }
        let _ = writeln!(out, "  Rule: {rule} (reason {reason})");
        let word = if *result == ResultWord::None { "none of the six" } else { result.as_str() };
        let _ = writeln!(out, "  Result: {word}. {}", result.meaning());
        if let Some(provider) = &self.provider {
            let _ = writeln!(out, "  Provider: {}", clean(provider));
        }
        let _ = writeln!(out, "  Meaning: {}", clean(meaning));
        let _ = writeln!(out, "  Whose turn: {}", owner(self.explanation.owner));
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
        let _ = writeln!(out, "  Source: {} (checked {})", clean(&self.source.name), clean(&self.source.checked));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_file_is_not_taken_for_a_reply() {
        for path in ["maillog.txt", "./x", "logs/today", "mail.log"] {
            assert!(looks_like_a_path(path), "{path}");
        }
        for reply in ["550 5.1.1 see https://x.example/y", "https://x.example/y", "5.1.1", "451"] {
            assert!(!looks_like_a_path(reply), "{reply}");
        }
    }
}
