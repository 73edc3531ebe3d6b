//! Failures grouped by their cause and counted: by rule, with the first and last time, domains, hosts, an example.

use std::collections::HashMap;

use explain::{Basis, Explanation, Finding, Normal, Query, RuleBase, Source, Values, What};
use proto::smtp::reply::Reply;
use proto::transcript::Stage;
use serde::Serialize;

use super::explain_mask::{Memory, mask};
use super::explain_names::{Count, Names};
use super::explain_time::show;

/// Most kinds of unknown texts that are kept; the others are counted only.
const MAX_UNKNOWN: usize = 1000;
/// Most characters shown of a line.
const MAX_SHOWN: usize = 400;

/// What was said, wherever it was read.
#[derive(Debug, Clone, Copy)]
pub enum Words<'a> {
    /// Octets of a line.
    Line(&'a [u8]),
    /// A whole reply.
    Reply(&'a Reply),
}

/// One failure.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// The words.
    pub words: Words<'a>,
    /// Where, if known.
    pub stage: Option<Stage>,
    /// Host that said it.
    pub relay: &'a [u8],
    /// Recipient.
    pub recipient: &'a [u8],
    /// As the log writes it.
    pub time: &'a [u8],
    /// Enhanced code beside the words.
    pub dsn: &'a [u8],
    /// Queue or message id.
    pub id: &'a [u8],
    /// Whoever wrote the log refused a client, not the other way round.
    pub own_refusal: bool,
    /// Library or program that reported it, and what it was doing.
    pub program: Option<(&'static str, &'static str)>,
}

impl<'a> Said<'a> {
    /// Words alone.
    pub const fn new(words: Words<'a>) -> Self {
        Self {
            words,
            stage: None,
            relay: b"",
            recipient: b"",
            time: b"",
            dsn: b"",
            id: b"",
            own_refusal: false,
            program: None,
        }
    }
}

/// Failures with the same rule.
#[derive(Debug, Serialize)]
pub struct Group {
    /// How many.
    pub count: u64,
    /// Time of the first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<String>,
    /// Time of the last of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<String>,
    /// Domains of their recipients, the most frequent first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recipient_domains: Vec<Count>,
    /// Hosts that said so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<Count>,
    /// How many of them the server that wrote the log gave itself.
    #[serde(skip_serializing_if = "is_zero")]
    pub own_refusals: u64,
    /// The first of them; the values in the words are its values.
    pub example: String,
    /// Queue or message id of the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub example_id: Option<String>,
    /// Library or program that reported it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<&'static str>,
    /// What it was doing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<&'static str>,
    /// Only codes decided: the words are not known.
    pub codes_only: bool,
    /// What the finding rests on.
    pub basis: Basis,
    /// Provider that spoke, if it is one.
    pub provider: Option<String>,
    /// Values of the first.
    pub values: Values,
    /// The rule in words.
    pub explanation: Explanation,
    /// Where the knowledge is from.
    pub source: Where,
    #[serde(skip)]
    domains: Names,
    #[serde(skip)]
    relays: Names,
    #[serde(skip)]
    first: Vec<u8>,
    #[serde(skip)]
    last: Vec<u8>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape serde wants")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Where the knowledge is from.
#[derive(Debug, Serialize)]
pub struct Where {
    /// Page, program or corpus.
    pub name: String,
    /// Date of the last check.
    pub checked: String,
}

impl From<&Source> for Where {
    fn from(source: &Source) -> Self {
        Self { name: source.name.clone(), checked: source.checked.clone() }
    }
}

/// Texts of one kind whose words nobody knows.
#[derive(Debug, Serialize)]
pub struct Unknown {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub example: String,
    /// What makes them one kind.
    pub fingerprint: String,
    /// The rule that its codes led to; none without codes.
    pub rule: Option<String>,
    /// Time of the first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<String>,
    /// Time of the last of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<String>,
    #[serde(skip)]
    first: Vec<u8>,
    #[serde(skip)]
    last: Vec<u8>,
}

/// Failures that other rules would judge otherwise.
#[derive(Debug)]
pub struct Change {
    /// How many.
    pub count: u64,
    /// The rule now.
    pub before: Option<String>,
    /// The rule then.
    pub after: Option<String>,
    /// The first of them.
    pub example: String,
}

/// What one text led to.
#[derive(Debug, Clone, Copy)]
struct Verdict {
    change: Option<u32>,
    group: Option<u32>,
    unknown: Option<u32>,
    known: bool,
}

/// Counts failures by cause.
pub struct Tally<'b> {
    base: &'b RuleBase,
    provider: Option<&'b str>,
    /// Where things were said, unless they show it themselves.
    stage: Option<Stage>,
    memory: Memory<Verdict>,
    providers: Memory<Option<&'b str>>,
    key: Vec<u8>,
    by_rule: HashMap<String, u32>,
    by_print: HashMap<String, u32>,
    /// Failures whose words, or whose kind, are known.
    pub known: u64,
    /// The others.
    pub unknown: u64,
    /// The causes.
    pub groups: Vec<Group>,
    /// What nobody knows.
    pub unknowns: Vec<Unknown>,
    /// What other rules would judge otherwise, if they are asked.
    pub changes: Vec<Change>,
    other: Option<&'b RuleBase>,
}

impl<'b> Tally<'b> {
    /// An empty one; `provider`: who spoke, where the caller knows it.
    pub fn new(base: &'b RuleBase, provider: Option<&'b str>) -> Self {
        Self {
            base,
            provider,
            stage: None,
            memory: Memory::default(),
            providers: Memory::default(),
            key: Vec::new(),
            by_rule: HashMap::new(),
            by_print: HashMap::new(),
            known: 0,
            unknown: 0,
            groups: Vec::new(),
            unknowns: Vec::new(),
            changes: Vec::new(),
            other: None,
        }
    }

    /// Asks these rules too, and keeps where they judge otherwise.
    pub const fn compare(&mut self, other: &'b RuleBase) {
        self.other = Some(other);
    }

    /// The rules it judges by.
    pub const fn base(&self) -> &'b RuleBase {
        self.base
    }

    /// Where things were said, unless they show it themselves.
    pub const fn set_stage(&mut self, stage: Option<Stage>) {
        self.stage = stage;
    }

    /// Who spoke, where the caller knows it.
    pub const fn provider(&self) -> Option<&'b str> {
        self.provider
    }

    /// Counts one failure, and judges it if none like it was judged before. Gives whether its words are known.
    pub fn add(&mut self, said: &Said<'_>) -> bool {
        let provider = self.provider.or_else(|| self.provider_of(said.relay));
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        key.extend_from_slice(provider.unwrap_or_default().as_bytes());
        key.extend([0, said.stage.map_or(0, |stage| stage as u8 + 1)]);
        match said.words {
            Words::Line(line) => {
                key.extend_from_slice(said.dsn);
                mask(line, &mut key);
            }
            Words::Reply(reply) => mask(reply.to_string().as_bytes(), &mut key),
        }
        let verdict = match self.memory.get(&key) {
            Some(verdict) => verdict,
            None => {
                let verdict = self.judge(said, provider);
                self.memory.put(&key, verdict);
                verdict
            }
        };
        self.key = key;
        self.count(said, verdict);
        verdict.known
    }

    fn provider_of(&mut self, relay: &[u8]) -> Option<&'b str> {
        if relay.is_empty() {
            return None;
        }
        if let Some(found) = self.providers.get(relay) {
            return found;
        }
        let base = self.base;
        let found = std::str::from_utf8(relay).ok().and_then(|host| base.provider_of_host(host));
        let found = found.map(|provider| provider.id.as_str());
        self.providers.put(relay, found);
        found
    }

    fn count(&mut self, said: &Said<'_>, verdict: Verdict) {
        match verdict.known {
            true => self.known += 1,
            false => self.unknown += 1,
        }
        if let Some(group) = verdict.group.and_then(|at| self.groups.get_mut(at as usize)) {
            group.count += 1;
            group.own_refusals += u64::from(said.own_refusal);
            if let Some(at) = memchr::memrchr(b'@', said.recipient) {
                group.domains.add(said.recipient.get(at + 1..).unwrap_or_default());
            }
            group.relays.add(said.relay);
            stamp(&mut group.first, &mut group.last, said.time);
        }
        if let Some(unknown) = verdict.unknown.and_then(|at| self.unknowns.get_mut(at as usize)) {
            unknown.count += 1;
            stamp(&mut unknown.first, &mut unknown.last, said.time);
        }
        if let Some(change) = verdict.change.and_then(|at| self.changes.get_mut(at as usize)) {
            change.count += 1;
        }
    }

    fn judge(&mut self, said: &Said<'_>, provider: Option<&str>) -> Verdict {
        let text = match said.words {
            Words::Line(line) => String::from_utf8_lossy(line).trim().to_owned(),
            Words::Reply(reply) => reply.to_string(),
        };
        let what = match said.words {
            Words::Line(_) => What::Text(&text),
            Words::Reply(reply) => What::Reply(reply),
        };
        let query = Query { stage: said.stage.or(self.stage), provider, what };
        let finding = judge(self.base, &query, said.dsn, &text);
        let known = finding.as_ref().is_some_and(|finding| !finding.is_by_class());
        let rule = finding.as_ref().map(|finding| finding.rule.clone());
        let change = self.other.and_then(|other| {
            let after = judge(other, &query, said.dsn, &text).map(|finding| finding.rule);
            self.change_of(rule.clone(), after, &text)
        });
        let unknown = if known { None } else { self.unknown_of(said, &text, rule) };
        let group = finding.and_then(|finding| self.group_of(said, finding, &text));
        Verdict { change, group, unknown, known }
    }

    fn change_of(&mut self, before: Option<String>, after: Option<String>, text: &str) -> Option<u32> {
        if before == after {
            return None;
        }
        let same = self.changes.iter().position(|change| change.before == before && change.after == after);
        let at = same.unwrap_or_else(|| {
            let example = shown(text);
            self.changes.push(Change { count: 0, before, after, example });
            self.changes.len() - 1
        });
        u32::try_from(at).ok()
    }

    fn group_of(&mut self, said: &Said<'_>, finding: Finding, text: &str) -> Option<u32> {
        if let Some(&at) = self.by_rule.get(&finding.rule) {
            // A cause that several providers name belongs to none of them.
            let group = self.groups.get_mut(at as usize);
            if let Some(group) = group.filter(|group| group.provider != finding.provider) {
                group.provider = None;
            }
            return Some(at);
        }
        // The rule comes from the base it is looked up in.
        let (explanation, rule) = (self.base.explain(&finding)?, self.base.rule(&finding.rule)?);
        let at = u32::try_from(self.groups.len()).ok()?;
        let (program, step) = said.program.unzip();
        self.by_rule.insert(finding.rule.clone(), at);
        self.groups.push(Group {
            count: 0,
            first_seen: None,
            last_seen: None,
            recipient_domains: Vec::new(),
            hosts: Vec::new(),
            own_refusals: 0,
            example: shown(text),
            example_id: (!said.id.is_empty()).then(|| String::from_utf8_lossy(said.id).into_owned()),
            program,
            step: step.filter(|step| !step.is_empty()),
            codes_only: finding.is_by_class(),
            basis: finding.basis,
            provider: finding.provider,
            values: finding.values,
            explanation,
            source: (&rule.source).into(),
            domains: Names::default(),
            relays: Names::default(),
            first: Vec::new(),
            last: Vec::new(),
        });
        Some(at)
    }

    fn unknown_of(&mut self, said: &Said<'_>, text: &str, rule: Option<String>) -> Option<u32> {
        let fingerprint = match said.words {
            Words::Line(_) => Normal::of_text(text).fingerprint(),
            Words::Reply(reply) => Normal::of_reply(reply).fingerprint(),
        };
        if let Some(&at) = self.by_print.get(&fingerprint) {
            return Some(at);
        }
        if self.unknowns.len() >= MAX_UNKNOWN {
            return None;
        }
        let at = u32::try_from(self.unknowns.len()).ok()?;
        self.unknowns.push(Unknown {
            count: 0,
            example: shown(text),
            fingerprint: fingerprint.clone(),
            rule,
            first_seen: None,
            last_seen: None,
            first: Vec::new(),
            last: Vec::new(),
        });
        self.by_print.insert(fingerprint, at);
        Some(at)
    }

    /// Everything is counted: the most frequent first, names and times in words.
    pub fn finish(&mut self) {
        for group in &mut self.groups {
            group.recipient_domains = group.domains.top();
            group.hosts = group.relays.top();
            group.first_seen = show(&group.first);
            group.last_seen = show(&group.last);
        }
        for unknown in &mut self.unknowns {
            unknown.first_seen = show(&unknown.first);
            unknown.last_seen = show(&unknown.last);
        }
        self.groups.sort_by_key(|group| std::cmp::Reverse(group.count));
        self.unknowns.sort_by_key(|unknown| std::cmp::Reverse(unknown.count));
    }
}

/// Words that say nothing alone are judged with the enhanced code beside them.
fn judge(base: &RuleBase, query: &Query<'_>, dsn: &[u8], text: &str) -> Option<Finding> {
    let found = base.judge(query);
    if found.is_some() || dsn.is_empty() {
        return found;
    }
    let coded = format!("{} {text}", String::from_utf8_lossy(dsn));
    base.judge(&Query { what: What::Text(&coded), ..*query })
}

/// A text on one line, cut where it is long.
fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN).map(|c| if matches!(c, '\n' | '\t') { ' ' } else { c }).collect()
}

/// Notes a time: logs are in order.
fn stamp(first: &mut Vec<u8>, last: &mut Vec<u8>, time: &[u8]) {
    if time.is_empty() {
        return;
    }
    let time = time.get(..time.len().min(40)).unwrap_or_default();
    if first.is_empty() {
        first.extend_from_slice(time);
    }
    last.clear();
    last.extend_from_slice(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_grouped_by_cause_with_times_and_names() {
        let mut tally = Tally::new(RuleBase::builtin(), None);
        for n in 0..1000 {
            let line = format!("550 5.1.1 <u{n}@b{}.example>: Recipient address rejected: User unknown", n % 3);
            let recipient = format!("u{n}@b{}.example", n % 3);
            let time = format!("May  3 00:{:02}:{:02}", n / 60, n % 60);
            tally.add(&Said {
                recipient: recipient.as_bytes(),
                time: time.as_bytes(),
                ..Said::new(Words::Line(line.as_bytes()))
            });
        }
        tally.finish();
        assert_eq!((tally.known, tally.unknown, tally.groups.len()), (1000, 0, 1));
        let group = &tally.groups[0];
        assert_eq!((group.count, group.recipient_domains[0].count), (1000, 334));
        assert_eq!(group.first_seen.as_deref(), Some("May  3 00:00:00"));
        assert_eq!(group.last_seen.as_deref(), Some("May  3 00:16:39"));
    }

    #[test]
    fn unknown_words_are_counted_by_kind() {
        let mut tally = Tally::new(RuleBase::builtin(), None);
        for n in 0..10 {
            let line = format!("550 5.9.9 qwertz {n}1234567890 uiop");
            assert!(!tally.add(&Said::new(Words::Line(line.as_bytes()))));
        }
        tally.finish();
        assert_eq!((tally.unknowns.len(), tally.unknowns[0].count), (1, 10));
        assert!(tally.unknowns[0].rule.is_some());
    }
}
