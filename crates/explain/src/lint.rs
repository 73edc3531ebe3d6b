//! Checks of the rules themselves: samples hit, ties, unreachable texts, missing parts. For tests and for users' rules.

use std::collections::BTreeSet;
use std::fmt;

use proto::transcript::Stage;

use crate::base::RuleBase;
use crate::judge::{Query, What};
use crate::model::{Retry, Rule};
use crate::reason::Reason;
use crate::render::names;
use crate::sample::{Sample, SampleWhat};
use crate::values::COMMON;

/// Something wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Id of the rule, or of the reason.
    pub rule: String,
    /// What is wrong, one line.
    pub problem: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.problem)
    }
}

/// What became of one sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleCheck {
    /// Rule that owns the sample.
    pub rule: String,
    /// The sample as written.
    pub sample: String,
    /// Rule that was found, and whether the provider was told.
    pub found: Option<String>,
    /// A rule that fits exactly as well.
    pub tie: Option<String>,
}

impl SampleCheck {
    /// Whether the sample hits its rule and no other fits as well.
    pub fn is_right(&self) -> bool {
        self.found.as_deref() == Some(self.rule.as_str()) && self.tie.is_none()
    }
}

impl Sample {
    /// The question this sample asks.
    pub fn query<'a>(&'a self, provider: Option<&'a str>) -> Query<'a> {
        let what = match &self.what {
            SampleWhat::Reply(reply) => What::Reply(reply),
            SampleWhat::Failure(failure) => What::Failure(failure),
            SampleWhat::Text(text) => What::Text(text),
            SampleWhat::Sign(kind, values) => What::Sign { kind, values },
        };
        Query { stage: self.stage, provider, what }
    }
}

impl RuleBase {
    /// Judges the samples of a rule: with its provider known, and without where its texts are its own.
    pub fn test(&self, rule: &Rule) -> Vec<SampleCheck> {
        let mut checks = Vec::new();
        for sample in rule.samples() {
            checks.push(self.test_sample(rule, sample, rule.provider.as_deref()));
            if sample.stage.is_none() && matches!(sample.what, SampleWhat::Reply(_)) && !rule.texts.is_empty() {
                let played = Sample { stage: Some(Stage::Message), ..sample.clone() };
                checks.push(self.test_sample(rule, &played, rule.provider.as_deref()));
            }
            if rule.provider.is_some() && !rule.provider_only && !rule.texts.is_empty() {
                checks.push(self.test_sample(rule, sample, None));
            }
        }
        checks
    }

    fn test_sample(&self, rule: &Rule, sample: &Sample, provider: Option<&str>) -> SampleCheck {
        let query = sample.query(provider);
        let found = self.judge(&query).map(|finding| finding.rule);
        let candidates = self.candidates(&query);
        let tie = match candidates.as_slice() {
            [first, second, ..] if first.0 == second.0 && found.as_deref() == Some(&first.1.id) => {
                Some(second.1.id.clone())
            }
            _ => None,
        };
        let told = if provider.is_none() && rule.provider.is_some() { " (provider not told)" } else { "" };
        SampleCheck { rule: rule.id.clone(), sample: format!("{}{told}", sample.source), found, tie }
    }

    /// Everything wrong with the rules and their texts.
    pub fn lint(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for rule in self.rules() {
            problems.extend(self.lint_rule(rule).into_iter().map(|problem| Problem { rule: rule.id.clone(), problem }));
        }
        problems.extend(self.lint_reasons());
        problems
    }

    /// Everything wrong with one rule.
    pub fn lint_rule(&self, rule: &Rule) -> Vec<String> {
        let mut problems = Vec::new();
        for check in self.test(rule).iter().filter(|check| !check.is_right()) {
            let found = check.found.as_deref().unwrap_or("nothing");
            problems.push(match &check.tie {
                Some(tie) => format!("sample `{}` fits `{tie}` as well", check.sample),
                None => format!("sample `{}` hits `{found}`", check.sample),
            });
        }
        lint_parts(rule, &mut problems);
        lint_texts(rule, &mut problems);
        lint_retry(rule, &mut problems);
        if rule.provider.as_deref().is_some_and(|provider| self.provider(provider).is_none()) {
            problems.push("its provider is not in the list of providers".into());
        }
        problems
    }

    fn lint_reasons(&self) -> Vec<Problem> {
        let used: BTreeSet<Reason> = self.rules().map(|rule| rule.reason).collect();
        let mut problems = Vec::new();
        for &reason in Reason::ALL {
            let mut add = |problem: &str| problems.push(Problem { rule: reason.to_string(), problem: problem.into() });
            if !used.contains(&reason) {
                add("no rule has this reason");
            }
            match self.reason(reason) {
                None => add("the reason has no texts"),
                Some(text) if text.fixes.is_empty() || text.causes.is_empty() => {
                    add("the reason lacks causes or fixes")
                }
                Some(_) => {}
            }
        }
        problems
    }
}

fn lint_parts(rule: &Rule, problems: &mut Vec<String>) {
    if rule.samples().is_empty() {
        problems.push("no samples".into());
    }
    if rule.source.name.is_empty() {
        problems.push("no source".into());
    }
    let date = rule.source.checked.as_bytes();
    if date.len() != 10 || date[4] != b'-' || date[7] != b'-' {
        problems.push("the date of the source is not like 2026-11-21".into());
    }
    if !rule.id.bytes().all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-') {
        problems.push("an id has lower case letters, digits and hyphens only".into());
    }
    if rule.provider_only && rule.provider.is_none() {
        problems.push("`provider_only` without a provider".into());
    }
    if rule.fixes.is_empty() {
        problems.push("no fixes".into());
    }
}

fn lint_texts(rule: &Rule, problems: &mut Vec<String>) {
    let sentences = rule.causes.iter().chain(rule.fixes.iter().map(|fix| &fix.text)).chain([&rule.meaning]);
    for text in sentences.clone().filter(|text| !text.ends_with(['.', '?', ':'])) {
        problems.push(format!("`{text}` is no full sentence"));
    }
    if rule.title.ends_with('.') || rule.title.len() > 90 {
        problems.push("a title is one short line without a full stop".into());
    }
    let commands = rule.fixes.iter().filter_map(|fix| fix.run.as_ref());
    let in_texts = |name: &str| rule.texts.iter().any(|text| text.names().any(|own| own == name));
    // What a sign has is what the samples show of it.
    let in_signs = |name: &str| {
        let mut signs = rule.samples().iter().filter_map(|sample| match &sample.what {
            SampleWhat::Sign(_, values) => Some(values),
            _ => None,
        });
        signs.any(|values| values.contains_key(name))
    };
    let known = |name: &str| COMMON.contains(&name) || in_texts(name) || in_signs(name);
    for name in sentences.chain(commands).chain([&rule.title]).flat_map(|text| names(text)) {
        if !known(name) {
            problems.push(format!("nothing gives the value `{name}`"));
        }
    }
    for pattern in &rule.texts {
        let hit = rule
            .samples()
            .iter()
            .any(|sample| text_of(sample).iter().any(|text| pattern.find(text, &text.to_ascii_lowercase()).is_some()));
        if !hit {
            problems.push(format!("no sample has the text `{pattern}`"));
        }
    }
}

fn lint_retry(rule: &Rule, problems: &mut Vec<String>) {
    let mut classes = rule.samples().iter().filter_map(|sample| match &sample.what {
        SampleWhat::Reply(reply) => Some(reply.class()),
        _ => None,
    });
    let on_message = rule.stages.is_empty() || {
        rule.stages.iter().any(|stage| matches!(stage, Stage::Sender | Stage::Recipient | Stage::Message))
    };
    let soft = matches!(rule.retry, Retry::Retry | Retry::Slow | Retry::HoldRoute);
    let permanent = classes.any(|class| class == 5);
    if soft && permanent && on_message && !rule.softens {
        problems.push("tries a 5yz reply again without `softens = true`".into());
    }
    if rule.softens && !(soft && permanent) {
        problems.push("`softens` without a 5yz sample and a retry advice".into());
    }
}

/// The texts of a sample that patterns may look at, one per layer.
fn text_of(sample: &Sample) -> Vec<String> {
    let normal = match &sample.what {
        SampleWhat::Reply(reply) => crate::normal::Normal::of_reply(reply),
        SampleWhat::Text(text) => crate::normal::Normal::of_text(text),
        SampleWhat::Sign(..) => return Vec::new(),
        SampleWhat::Failure(failure) => {
            let words = crate::sample::kind_of(failure).and_then(|(_, words)| words);
            return words.map(str::to_owned).into_iter().collect();
        }
    };
    normal.layers.into_iter().map(|layer| layer.text).collect()
}
