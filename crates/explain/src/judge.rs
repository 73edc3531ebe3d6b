//! Finds the most specific rule. The score is computed from what a rule asks for, never from the order of files.
//!
//! A condition that is there must hold; what the query does not say cannot refute it, except that a rule without
//! texts needs its codes. Text weighs more than provider, provider more than enhanced code, then code, then class.

use proto::smtp::reply::{EnhancedCode, Reply};
use proto::transcript::{Failure, Stage};
use serde::{Deserialize, Serialize};

use crate::base::{Origin, RuleBase};
use crate::model::{Code, EnhancedPattern, Rule};
use crate::normal::{Layer, Normal};
use crate::pattern::Pattern;
use crate::reason::Reason;
use crate::sample::kind_of;
use crate::values::{self, Values};

const TEXT: i32 = 400;
const PER_OCTET: i32 = 4;
const MOST_OCTETS: usize = 60;
/// Words without any code may be prose: a short text such as `spam` says nothing there.
const LEAST_IN_PROSE: usize = 8;
/// Words around a cause, against the cause in the same text.
const VAGUE: i32 = -250;
const FAILURE: i32 = 300;
const PROVIDER: i32 = 200;
const OTHER_PROVIDER: i32 = -100;
const USER: i32 = 100;
const OTHER_STAGE: i32 = -60;
const NO_STAGE: i32 = -50;
const ENHANCED: i32 = 60;
const ENHANCED_ANY_CLASS: i32 = 50;
const ENHANCED_ANY_DETAIL: i32 = 40;
const CODE: i32 = 30;
const CLASS: i32 = 10;
const STAGE: i32 = 6;

/// What is to be judged.
#[derive(Debug, Clone, Copy)]
pub enum What<'a> {
    /// A reply.
    Reply(&'a Reply),
    /// A failure, with a reply or without.
    Failure(&'a Failure),
    /// Pasted words.
    Text(&'a str),
    /// Something a diagnosis noticed that is not a failed step: its kind and what is known of it.
    Sign {
        /// Kind, as rules name it.
        kind: &'a str,
        /// Values for the words.
        values: &'a Values,
    },
}

/// A question to the rule base.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// Where it happened, if known.
    pub stage: Option<Stage>,
    /// Provider or program that spoke, if known.
    pub provider: Option<&'a str>,
    /// What is to be judged.
    pub what: What<'a>,
}

impl<'a> Query<'a> {
    /// A failure of a transcript.
    pub const fn failure(stage: Stage, failure: &'a Failure) -> Self {
        Self { stage: Some(stage), provider: None, what: What::Failure(failure) }
    }

    /// A reply at a stage.
    pub const fn reply(stage: Stage, reply: &'a Reply) -> Self {
        Self { stage: Some(stage), provider: None, what: What::Reply(reply) }
    }

    /// Pasted words.
    pub const fn text(text: &'a str) -> Self {
        Self { stage: None, provider: None, what: What::Text(text) }
    }

    /// Something a diagnosis noticed.
    pub const fn sign(stage: Option<Stage>, kind: &'a str, values: &'a Values) -> Self {
        Self { stage, provider: None, what: What::Sign { kind, values } }
    }

    /// With the provider that spoke.
    #[must_use]
    pub const fn at(self, provider: Option<&'a str>) -> Self {
        Self { provider, ..self }
    }
}

/// What a finding rests on, the firmest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// The words of the reply.
    Text,
    /// The kind of failure.
    Failure,
    /// The enhanced code: the words are not known.
    Enhanced,
    /// The reply code: the words are not known.
    Code,
    /// The first digit only: nothing else is known (RFC 5321 §4.2.1).
    Class,
}

/// The rule found, and what was read from the reply. This is what is stored; words come from [`crate::render`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Id of the rule.
    pub rule: String,
    /// Its reason.
    pub reason: Reason,
    /// What it rests on.
    pub basis: Basis,
    /// Provider or program that spoke, as far as known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The reply further in that was judged, if replies were nested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inner: Option<Layer>,
    /// Values for the words.
    #[serde(default, skip_serializing_if = "Values::is_empty")]
    pub values: Values,
}

impl Finding {
    /// Whether the words of the reply were unknown, so that only its codes could be judged.
    pub fn is_by_class(&self) -> bool {
        matches!(self.basis, Basis::Enhanced | Basis::Code | Basis::Class)
    }
}

/// A layer of the query with all that rules ask for.
struct Facts<'a> {
    stage: Option<Stage>,
    provider: Option<&'a str>,
    /// Whether the provider is told or named by a host, not guessed from words of the text.
    certain: bool,
    kind: Option<&'a str>,
    sign: Option<&'a str>,
    code: Option<u16>,
    enhanced: Option<EnhancedCode>,
    /// Words; `None` for a failure that has none.
    text: Option<&'a str>,
    lower: String,
}

impl<'a> Facts<'a> {
    fn of_failure(query: &Query<'a>, kind: &'a str, words: Option<&'a str>) -> Self {
        let lower = words.unwrap_or_default().to_ascii_lowercase();
        Self { kind: Some(kind), text: words, lower, ..Self::without_words(query) }
    }

    fn of_sign(query: &Query<'a>, kind: &'a str) -> Self {
        Self { sign: Some(kind), ..Self::without_words(query) }
    }

    fn without_words(query: &Query<'a>) -> Self {
        let Query { stage, provider, .. } = *query;
        let (kind, sign, code, enhanced, text) = (None, None, None, None, None);
        Self { stage, provider, certain: true, kind, sign, code, enhanced, text, lower: String::new() }
    }
}

struct Match<'b> {
    score: i32,
    basis: Basis,
    rule: &'b Rule,
    values: Vec<(&'b str, String)>,
}

impl RuleBase {
    /// The most specific rule. Always one for a reply and for a failure; `None` only for words that say nothing known.
    pub fn judge(&self, query: &Query<'_>) -> Option<Finding> {
        match query.what {
            What::Reply(reply) => self.judge_normal(query, &Normal::of_reply(reply)),
            What::Text(text) => self.judge_normal(query, &Normal::of_text(text)),
            What::Sign { kind, values } => {
                let facts = Facts::of_sign(query, kind);
                let mut finding = finding(self.best(&facts)?, &facts);
                finding.values.extend(values.iter().map(|(name, value)| (name.clone(), value.clone())));
                Some(finding)
            }
            What::Failure(failure) => match kind_of(failure) {
                None => self.judge_normal(query, &Normal::of_reply(failure.reply()?)),
                Some((kind, words)) => {
                    let facts = Facts::of_failure(query, kind, words);
                    let best = self.best(&facts)?;
                    let mut finding = finding(best, &facts);
                    values::from_failure(&mut finding.values, failure);
                    Some(finding)
                }
            },
        }
    }

    /// All rules that fit the innermost reply, the best first, with their scores: to show why a rule was chosen.
    pub fn candidates(&self, query: &Query<'_>) -> Vec<(i32, &Rule)> {
        let normal;
        let facts = match query.what {
            What::Failure(failure) if kind_of(failure).is_some() => {
                let (kind, words) = kind_of(failure).unwrap_or_default();
                Facts::of_failure(query, kind, words)
            }
            What::Sign { kind, .. } => Facts::of_sign(query, kind),
            What::Failure(Failure::Refused(reply)) | What::Reply(reply) => {
                normal = Normal::of_reply(reply);
                self.facts(query, &normal, normal.layers.len() - 1)
            }
            What::Failure(_) => return Vec::new(),
            What::Text(text) => {
                normal = Normal::of_text(text);
                self.facts(query, &normal, normal.layers.len() - 1)
            }
        };
        let mut all: Vec<_> = self.matches(&facts).into_iter().map(|found| (found.score, found.rule)).collect();
        all.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.id.cmp(&b.1.id)));
        all
    }

    /// From the inside out: the first layer whose words are known decides, else the innermost by its codes.
    fn judge_normal(&self, query: &Query<'_>, normal: &Normal) -> Option<Finding> {
        let mut by_class = None;
        for index in (0..normal.layers.len()).rev() {
            let facts = self.facts(query, normal, index);
            let Some(best) = self.best(&facts) else { continue };
            let mut finding = finding(best, &facts);
            if index > 0 {
                finding.inner = normal.layers.get(index).cloned();
            }
            let only_wraps = finding.reason == Reason::InnerReply && index + 1 < normal.layers.len();
            if finding.is_by_class() || only_wraps {
                by_class.get_or_insert(finding);
            } else {
                return Some(finding);
            }
        }
        by_class
    }

    fn facts<'a>(&'a self, query: &Query<'a>, normal: &'a Normal, index: usize) -> Facts<'a> {
        static NOTHING: Layer = Layer { host: None, code: None, enhanced: None, text: String::new() };
        let layer = normal.layers.get(index).unwrap_or(&NOTHING);
        let told = if index == 0 { query.provider } else { None };
        let by_host = || layer.host.as_deref().and_then(|host| self.provider_of_host(host));
        let certain = told.or_else(|| by_host().map(|provider| provider.id.as_str()));
        let provider = certain.or_else(|| self.provider_of_text(&layer.text).map(|provider| provider.id.as_str()));
        Facts {
            stage: query.stage,
            provider,
            certain: certain.is_some(),
            kind: None,
            sign: None,
            code: layer.code,
            enhanced: layer.enhanced,
            text: Some(&layer.text),
            lower: layer.text.to_ascii_lowercase(),
        }
    }

    fn best(&self, facts: &Facts<'_>) -> Option<Match<'_>> {
        let matches = self.matches(facts).into_iter();
        matches.max_by(|a, b| a.score.cmp(&b.score).then_with(|| b.rule.id.cmp(&a.rule.id)))
    }

    fn matches(&self, facts: &Facts<'_>) -> Vec<Match<'_>> {
        if let Some(sign) = facts.sign {
            let indices = self.candidates_by_sign(sign).iter();
            let rules = indices.filter_map(|&index| self.rule_at(index));
            return rules.filter_map(|(rule, origin)| fit(rule, origin, facts)).collect();
        }
        let by_text = facts.text.map(|_| self.candidates_by_text(&facts.lower)).unwrap_or_default();
        let others = self.candidates_without_text().iter().filter(|index| by_text.binary_search(index).is_err());
        let all = by_text.iter().chain(others);
        all.filter_map(|&index| self.rule_at(index)).filter_map(|(rule, origin)| fit(rule, origin, facts)).collect()
    }
}

fn finding(found: Match<'_>, facts: &Facts<'_>) -> Finding {
    let mut values = Values::new();
    for (name, value) in &found.values {
        values::add(&mut values, name, value);
    }
    if let Some(text) = facts.text {
        values::from_text(&mut values, text, &facts.lower);
    }
    Finding {
        rule: found.rule.id.clone(),
        reason: found.rule.reason,
        basis: found.basis,
        provider: facts.provider.map(str::to_owned).or_else(|| found.rule.provider.clone()),
        inner: None,
        values,
    }
}

fn fit<'b>(rule: &'b Rule, origin: Origin, facts: &Facts<'_>) -> Option<Match<'b>> {
    let (text_score, values) = text_fit(rule, facts)?;
    let has_text = text_score > 0;
    let mut score = text_score + failure_fit(rule, facts)?;
    let basis = match (has_text, facts.kind.or(facts.sign)) {
        (_, Some(_)) => Basis::Failure,
        (true, None) => Basis::Text,
        (false, None) if !rule.enhanced.is_empty() => Basis::Enhanced,
        (false, None) if rule.codes.iter().any(|code| matches!(code, Code::Exact(_))) => Basis::Code,
        (false, None) => Basis::Class,
    };
    score += stage_fit(rule, facts, has_text)?;
    score += provider_fit(rule, facts, has_text)?;
    if facts.kind.is_none() && facts.sign.is_none() {
        score += code_fit(rule, facts, has_text)? + enhanced_fit(rule, facts, has_text)?;
    }
    if origin == Origin::User {
        score += USER;
    }
    if rule.vague && has_text {
        score += VAGUE;
    }
    Some(Match { score, basis, rule, values })
}

/// Texts: any of them, the heaviest counts. A failure without words is not asked for them.
fn text_fit<'b>(rule: &'b Rule, facts: &Facts<'_>) -> Option<(i32, Vec<(&'b str, String)>)> {
    if rule.texts.is_empty() || ((facts.kind.is_some() || facts.sign.is_some()) && facts.text.is_none()) {
        return Some((0, Vec::new()));
    }
    let text = facts.text?;
    let prose = facts.kind.is_none() && facts.code.is_none() && facts.enhanced.is_none();
    let least = if prose { LEAST_IN_PROSE } else { 0 };
    let heaviest_first = |found: &(&'b Pattern, _)| found.0.weight();
    let (pattern, values) = rule
        .texts
        .iter()
        .filter(|pattern| pattern.weight() >= least)
        .filter_map(|pattern| pattern.find(text, &facts.lower).map(|values| (pattern, values)))
        .max_by_key(heaviest_first)?;
    let weight = i32::try_from(pattern.weight().min(MOST_OCTETS)).unwrap_or(0);
    let values = values.into_iter().map(|(name, value): (&str, &str)| (name, value.to_owned())).collect();
    Some((TEXT + PER_OCTET * weight, values))
}

fn failure_fit(rule: &Rule, facts: &Facts<'_>) -> Option<i32> {
    if facts.sign.is_some() {
        return Some(FAILURE);
    }
    match facts.kind {
        Some(kind) => rule.failures.iter().any(|name| name == kind).then_some(FAILURE),
        None if rule.texts.is_empty() && rule.codes.is_empty() && rule.enhanced.is_empty() => None,
        None => Some(0),
    }
}

fn stage_fit(rule: &Rule, facts: &Facts<'_>, has_text: bool) -> Option<i32> {
    match facts.stage {
        _ if rule.stages.is_empty() => Some(0),
        // Where the stage is not known, a rule for any stage says enough.
        None => Some(if has_text { 0 } else { NO_STAGE }),
        Some(stage) if rule.stages.contains(&stage) => Some(STAGE),
        Some(_) if has_text => Some(OTHER_STAGE),
        Some(_) => None,
    }
}

fn provider_fit(rule: &Rule, facts: &Facts<'_>, has_text: bool) -> Option<i32> {
    match (rule.provider.as_deref(), facts.provider) {
        (None, _) => Some(0),
        (Some(wanted), Some(known)) if wanted == known => Some(PROVIDER),
        (Some(_), _) if rule.provider_only || !has_text => None,
        (Some(_), None) => Some(0),
        (Some(_), Some(_)) => Some(if facts.certain { OTHER_PROVIDER } else { 0 }),
    }
}

fn code_fit(rule: &Rule, facts: &Facts<'_>, has_text: bool) -> Option<i32> {
    if rule.codes.is_empty() {
        return Some(0);
    }
    let Some(code) = facts.code else { return has_text.then_some(0) };
    let fitting = rule.codes.iter().filter(|wanted| wanted.matches(code));
    fitting.map(|wanted| if matches!(wanted, Code::Exact(_)) { CODE } else { CLASS }).max()
}

fn enhanced_fit(rule: &Rule, facts: &Facts<'_>, has_text: bool) -> Option<i32> {
    if rule.enhanced.is_empty() {
        return Some(0);
    }
    let Some(code) = facts.enhanced else { return has_text.then_some(0) };
    rule.enhanced.iter().filter(|wanted| wanted.matches(code)).map(weight_of).max()
}

const fn weight_of(wanted: &EnhancedPattern) -> i32 {
    match wanted {
        EnhancedPattern { detail: None, .. } => ENHANCED_ANY_DETAIL,
        EnhancedPattern { class: None, .. } => ENHANCED_ANY_CLASS,
        _ => ENHANCED,
    }
}
