//! `pillarbox rules unknown` and `backtest`: what the rules do not know yet, and what rules of one's own would change.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use explain::{Query, RuleBase};
use proto::transcript::Stage;
use serde::Serialize;

use super::Fault;
use super::args::Global;
use super::client::{Client, Need, query, read};
use super::explain::read_input;
use super::explain_group::Tally;
use super::output::{clean, json as print_json, plural, print};
use crate::http::api::unknown::FailureKindOut;
use crate::http::views::Page;
use crate::serve::rules::{self as files, RuleFile};

/// Version of the JSON forms.
const UNKNOWN: &str = "pillarbox.rules.unknown/1";
const BACKTEST: &str = "pillarbox.rules.backtest/1";
/// Kinds shown.
const MOST_SHOWN: usize = 50;

/// Rules inside the program and those that the configuration names. Without any configuration the first alone.
pub fn base(global: &Global) -> Result<Arc<RuleBase>, Fault> {
    files::with(&configured(global)?).map_err(|error| Fault::cannot(error.into()))
}

/// The files of rules that the configuration names. A configuration nobody named and that is wrong keeps nobody from
/// explaining a reply.
fn configured(global: &Global) -> Result<Vec<RuleFile>, Fault> {
    let directory = match super::load(global) {
        Ok(loaded) => loaded.config.rules_dir,
        Err(fault) if global.config.is_some() => return Err(fault),
        Err(_) => None,
    };
    files::files(directory.as_deref()).map_err(Fault::cannot)
}

/// A kind of reply that no rule knows.
#[derive(Debug, Serialize)]
struct Kind {
    count: u64,
    first_seen: Option<String>,
    last_seen: Option<String>,
    stage: Option<Stage>,
    provider: Option<String>,
    fingerprint: String,
    example: String,
    /// What its codes led to.
    rule: Option<String>,
    /// A rule to begin with, in TOML.
    stub: String,
}

#[derive(Debug, Serialize)]
struct Unknown {
    schema: &'static str,
    items: Vec<Kind>,
}

/// Unknown replies of a file, or of the server's newest events.
pub fn unknown(global: &Global, file: Option<&str>, events: u32) -> Result<(), Fault> {
    let base = base(global)?;
    let items = match file {
        Some(file) => of_file(&base, file)?,
        None => super::wait(of_server(global, &base, events))?,
    };
    if global.json {
        print_json(&Unknown { schema: UNKNOWN, items: items.into_iter().take(1000).collect() })?;
        return Ok(());
    }
    let mut out = String::new();
    for kind in items.iter().take(MOST_SHOWN) {
        let seen = match (&kind.first_seen, &kind.last_seen) {
            (Some(first), Some(last)) if first != last => format!(", {} – {}", clean(first), clean(last)),
            (Some(first), _) => format!(", {}", clean(first)),
            _ => String::new(),
        };
        let _ = writeln!(out, "{}{seen}\n  {}\n", plural(kind.count, "time"), clean(&kind.example));
        for line in kind.stub.lines() {
            let _ = writeln!(out, "    {}", clean(line));
        }
        out.push('\n');
    }
    let total: u64 = items.iter().map(|kind| kind.count).sum();
    let _ = writeln!(out, "{} unknown, {}", total, plural(items.len() as u64, "kind"));
    if !items.is_empty() {
        out.push_str(
            "Put the rules you complete into a file of `rules_dir`, and try it with `pillarbox rules backtest FILE`.\n",
        );
    }
    print(&out)
}

fn of_file(base: &RuleBase, file: &str) -> Result<Vec<Kind>, Fault> {
    let mut tally = Tally::new(base, None);
    read_input(&[file.to_owned()], &mut tally)?;
    tally.finish();
    let one = |found: super::explain_group::Unknown| Kind {
        stub: stub(base, &found.fingerprint, &found.example, None, found.rule.as_deref()),
        count: found.count,
        first_seen: found.first_seen,
        last_seen: found.last_seen,
        stage: None,
        provider: None,
        fingerprint: found.fingerprint,
        example: found.example,
        rule: found.rule,
    };
    Ok(tally.unknowns.into_iter().map(one).collect())
}

async fn of_server(global: &Global, base: &RuleBase, events: u32) -> Result<Vec<Kind>, Fault> {
    let kinds = stored(global, events, true).await?;
    let one = |kind: FailureKindOut| Kind {
        stub: stub(base, &kind.fingerprint, &kind.example, Some(kind.stage), kind.rule.as_deref()),
        count: kind.count,
        first_seen: Some(kind.first_seen),
        last_seen: Some(kind.last_seen),
        stage: Some(kind.stage),
        provider: kind.provider,
        fingerprint: kind.fingerprint,
        example: kind.example,
        rule: kind.rule,
    };
    Ok(kinds.into_iter().map(one).collect())
}

async fn stored(global: &Global, events: u32, unknown: bool) -> Result<Vec<FailureKindOut>, Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    let asked = query(&[("events", Some(events.to_string())), ("unknown", unknown.then(|| "true".into()))]);
    let page: Page<FailureKindOut> = read(client.get(&format!("/failures{asked}")).await?)?;
    Ok(page.items)
}

/// A rule to begin with: the longest words that do not vary, the reason its codes lead to, the example as sample.
fn stub(base: &RuleBase, fingerprint: &str, example: &str, stage: Option<Stage>, rule: Option<&str>) -> String {
    let words: Vec<&str> =
        fingerprint.split(' ').skip_while(|word| word.starts_with(|c: char| c.is_ascii_digit())).collect();
    let words = words.join(" ");
    let longest = words.split('*').map(str::trim).max_by_key(|part| part.len()).unwrap_or_default();
    let slug: String =
        longest.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let slug: Vec<&str> = slug.split('-').filter(|word| !word.is_empty()).take(4).collect();
    let reason = rule.and_then(|id| base.rule(id)).map_or("unknown", |rule| rule.reason.as_str());
    let stage =
        stage.and_then(|stage| serde_json::to_value(stage).ok()).and_then(|stage| stage.as_str().map(str::to_owned));
    let stage = stage.map(|stage| format!("stage = [{stage:?}]\n")).unwrap_or_default();
    let source = "[file]\nsource = \"replies met here\"\nchecked = \"YYYY-MM-DD\"\n\n";
    format!(
        "{source}[[rule]]\nid = \"own-{}\"\n{stage}text = [{}]\nreason = \"{reason}\"\nsamples = [{}]\n",
        if slug.is_empty() { "reply".to_owned() } else { slug.join("-") },
        toml_text(&escaped(longest)),
        toml_text(example),
    )
}

/// A literal of the language of texts.
fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| "\\*{}^$|".contains(c).then_some('\\').into_iter().chain([c])).collect()
}

fn toml_text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A finding that would change.
#[derive(Debug, Serialize)]
struct Change {
    count: u64,
    before: Option<String>,
    after: Option<String>,
    example: String,
}

#[derive(Debug, Serialize)]
struct Backtest {
    schema: &'static str,
    /// Replies looked at.
    replies: u64,
    /// Those whose rule would be another.
    changes: Vec<Change>,
    /// Samples inside the program whose rule would be another: the new rules are too wide.
    samples: Vec<Change>,
}

/// Which stored or logged replies would be judged otherwise with these rules added; exit code 1 if a sample of the
/// program's own rules would.
pub fn backtest(global: &Global, file: &Path, log: Option<&PathBuf>, events: u32) -> Result<(), Fault> {
    let mut known = configured(global)?;
    // The file may already be one of those in use.
    let same = |name: &str| matches!((Path::new(name).canonicalize(), file.canonicalize()), (Ok(a), Ok(b)) if a == b);
    known.retain(|(name, _)| !same(name));
    let before = files::with(&known).map_err(|error| Fault::cannot(error.into()))?;
    known.push(files::file(file).map_err(Fault::cannot)?);
    let after = match files::with(&known) {
        Ok(after) => after,
        Err(error) => {
            super::output::complain(&super::output::clean_lines(&error.to_string()));
            return Err(Fault::Told);
        }
    };
    let (replies, mut changes) = match log {
        Some(log) => logged(&before, &after, log)?,
        None => super::wait(of_store(global, &before, &after, events))?,
    };
    changes.sort_by_key(|change| std::cmp::Reverse(change.count));
    let report = Backtest { schema: BACKTEST, replies, changes, samples: samples(&before, &after) };
    match global.json {
        true => print_json(&report)?,
        false => print(&report.words())?,
    }
    if report.samples.is_empty() { Ok(()) } else { Err(Fault::Told) }
}

fn logged(before: &RuleBase, after: &RuleBase, log: &Path) -> Result<(u64, Vec<Change>), Fault> {
    let mut tally = Tally::new(before, None);
    tally.compare(after);
    read_input(&[log.display().to_string()], &mut tally)?;
    let one = |change: super::explain_group::Change| Change {
        count: change.count,
        before: change.before,
        after: change.after,
        example: change.example,
    };
    Ok((tally.known + tally.unknown, tally.changes.into_iter().map(one).collect()))
}

async fn of_store(
    global: &Global,
    before: &RuleBase,
    after: &RuleBase,
    events: u32,
) -> Result<(u64, Vec<Change>), Fault> {
    let kinds = stored(global, events, false).await?;
    let replies = kinds.iter().map(|kind| kind.count).sum();
    let mut changes: Vec<Change> = Vec::new();
    for kind in &kinds {
        let asked = Query::failure(kind.stage, &kind.failure).at(kind.provider.as_deref());
        let rule = |base: &RuleBase| base.judge(&asked).map(|finding| finding.rule);
        let (old, new) = (rule(before), rule(after));
        if old == new {
            continue;
        }
        match changes.iter_mut().find(|change| change.before == old && change.after == new) {
            Some(change) => change.count += kind.count,
            None => changes.push(Change { count: kind.count, before: old, after: new, example: kind.example.clone() }),
        }
    }
    Ok((replies, changes))
}

fn samples(before: &RuleBase, after: &RuleBase) -> Vec<Change> {
    let mut changes = Vec::new();
    for rule in before.rules() {
        for sample in rule.samples() {
            let asked = sample.query(rule.provider.as_deref());
            let found = |base: &RuleBase| base.judge(&asked).map(|finding| finding.rule);
            let (old, new) = (found(before), found(after));
            if old != new {
                changes.push(Change { count: 1, before: old, after: new, example: sample.source.clone() });
            }
        }
    }
    changes
}

impl Backtest {
    fn words(&self) -> String {
        let mut out = String::new();
        let name = |rule: &Option<String>| rule.as_deref().map_or_else(|| "nothing".to_owned(), clean);
        for change in &self.changes {
            let _ =
                writeln!(out, "{}: {} → {}", plural(change.count, "time"), name(&change.before), name(&change.after));
            let _ = writeln!(out, "  {}", clean(&change.example));
        }
        for change in &self.samples {
            let _ = writeln!(out, "sample of {} would hit {}", name(&change.before), name(&change.after));
            let _ = writeln!(out, "  {}", clean(&change.example));
        }
        let changed: u64 = self.changes.iter().map(|change| change.count).sum();
        let samples = plural(self.samples.len() as u64, "sample");
        let _ = writeln!(
            out,
            "{} of {} would change; {samples} of the program's own rules would",
            changed,
            plural(self.replies, "reply").replace("replys", "replies")
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stub_is_a_rule_that_hits_its_sample() {
        let base = RuleBase::builtin();
        let example = "550 5.7.1 <ann@b.example> qwertz \"uiop\" {asdf} 4711 * x";
        let print = explain::Normal::of_text(example).fingerprint();
        let rule = base.judge(&Query::text(example)).unwrap().rule;
        let text = stub(base, &print, example, Some(Stage::Recipient), Some(&rule));
        let own = RuleBase::with_user_rules(&[("stub.toml", &text)]).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let found = own.judge(&Query::text(example)).unwrap();
        assert!(found.rule.starts_with("own-qwertz-uiop"), "{found:?}");
    }
}
