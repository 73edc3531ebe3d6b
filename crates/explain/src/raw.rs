//! Rule files as they are written: TOML shapes, and their way into checked rules.

use std::sync::OnceLock;

use proto::transcript::Stage;
use serde::Deserialize;

use crate::base::Origin;
use crate::error::RulesError;
use crate::model::{Code, EnhancedPattern, Fix, Owner, ResultWord, Retry, Rule, Scope, Severity, Source};
use crate::pattern::Pattern;
use crate::provider::Provider;
use crate::reason::{Reason, ReasonText};
use crate::sample::{FAILURE_KINDS, Sample};

/// One file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawFile {
    #[serde(default)]
    file: RawAbout,
    #[serde(default)]
    pub(crate) reason: Vec<RawReason>,
    #[serde(default)]
    pub(crate) provider: Vec<Provider>,
    #[serde(default)]
    pub(crate) rule: Vec<RawRule>,
}

/// What holds for all rules of a file that do not say it themselves.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawAbout {
    provider: Option<String>,
    source: Option<String>,
    checked: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawFix {
    who: Option<Owner>,
    #[serde(rename = "do")]
    text: String,
    run: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawReason {
    id: Reason,
    title: String,
    means: String,
    result: ResultWord,
    scope: Scope,
    owner: Owner,
    #[serde(default = "class")]
    retry: Retry,
    #[serde(default)]
    causes: Vec<String>,
    #[serde(default)]
    fixes: Vec<RawFix>,
}

const fn class() -> Retry {
    Retry::Class
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRule {
    id: String,
    #[serde(default)]
    stage: Vec<Stage>,
    provider: Option<String>,
    #[serde(default)]
    provider_only: bool,
    #[serde(default)]
    code: Vec<u16>,
    class: Option<u8>,
    #[serde(default)]
    enhanced: Vec<String>,
    #[serde(default)]
    text: Vec<String>,
    #[serde(default)]
    failure: Vec<String>,
    #[serde(default)]
    sign: Vec<String>,
    reason: Reason,
    result: Option<ResultWord>,
    severity: Option<Severity>,
    scope: Option<Scope>,
    owner: Option<Owner>,
    retry: Option<Retry>,
    #[serde(default)]
    vague: bool,
    #[serde(default)]
    softens: bool,
    title: Option<String>,
    means: Option<String>,
    #[serde(default)]
    causes: Vec<String>,
    #[serde(default)]
    fixes: Vec<RawFix>,
    dated: Option<String>,
    source: Option<String>,
    checked: Option<String>,
    #[serde(default)]
    samples: Vec<String>,
}

/// Reads one file.
pub(crate) fn parse(file: &str, text: &str) -> Result<RawFile, RulesError> {
    toml::from_str(text).map_err(|source| RulesError::Toml { file: file.to_owned(), source: Box::new(source) })
}

impl RawReason {
    pub(crate) fn check(self) -> ReasonText {
        ReasonText {
            reason: self.id,
            title: self.title,
            meaning: self.means,
            result: self.result,
            scope: self.scope,
            owner: self.owner,
            retry: self.retry,
            causes: self.causes,
            fixes: fixes(self.fixes, self.owner),
        }
    }
}

fn fixes(raw: Vec<RawFix>, owner: Owner) -> Vec<Fix> {
    // Somebody has to act even where waiting is enough.
    let usual = if owner == Owner::Nobody { Owner::You } else { owner };
    raw.into_iter().map(|fix| Fix { who: fix.who.unwrap_or(usual), text: fix.text, run: fix.run }).collect()
}

impl RawFile {
    /// The rules, checked and completed by the texts of their reasons.
    pub(crate) fn rules(self, file: &str, origin: Origin, reasons: &[ReasonText]) -> Result<Vec<Rule>, RulesError> {
        let Self { file: about, rule, .. } = self;
        rule.into_iter()
            .map(|raw| {
                let id = raw.id.clone();
                raw.check(&about, file, origin, reasons).map_err(|problem| RulesError::Rule {
                    file: file.to_owned(),
                    rule: id,
                    problem,
                })
            })
            .collect()
    }
}

impl RawRule {
    fn check(self, about: &RawAbout, file: &str, origin: Origin, reasons: &[ReasonText]) -> Result<Rule, String> {
        let text = reasons
            .iter()
            .find(|text| text.reason == self.reason)
            .ok_or_else(|| format!("reason `{}` has no texts", self.reason))?;
        let (texts, enhanced, samples) = self.parse_lists()?;
        let codes: Vec<Code> = self.code.iter().copied().map(Code::Exact).chain(self.class.map(Code::Class)).collect();
        let coded = !enhanced.is_empty() || !codes.is_empty();
        if texts.is_empty() && !coded && self.failure.is_empty() && self.sign.is_empty() {
            return Err("no condition".into());
        }
        if let Some(unknown) = self.failure.iter().find(|kind| !FAILURE_KINDS.contains(&kind.as_str())) {
            return Err(format!("no failure `{unknown}`"));
        }
        let owner = self.owner.unwrap_or(text.owner);
        let fixes = if self.fixes.is_empty() { text.fixes.clone() } else { fixes(self.fixes, owner) };
        Ok(Rule {
            id: self.id,
            file: file.to_owned(),
            stages: self.stage,
            provider: self.provider.or_else(|| about.provider.clone()).filter(|provider| provider != "any"),
            provider_only: self.provider_only,
            codes,
            enhanced,
            texts,
            failures: self.failure,
            signs: self.sign,
            reason: self.reason,
            result: self.result.unwrap_or(text.result),
            scope: self.scope.unwrap_or(text.scope),
            severity: self.severity.unwrap_or(Severity::Problem),
            owner,
            retry: self.retry.unwrap_or(text.retry),
            vague: self.vague,
            softens: self.softens,
            title: self.title.unwrap_or_else(|| text.title.clone()),
            meaning: self.means.unwrap_or_else(|| text.meaning.clone()),
            causes: if self.causes.is_empty() { text.causes.clone() } else { self.causes },
            fixes,
            dated: self.dated,
            source: Source {
                name: self.source.or_else(|| about.source.clone()).unwrap_or_default(),
                checked: self.checked.or_else(|| about.checked.clone()).unwrap_or_default(),
            },
            // Those inside the program are read when somebody asks for them.
            samples: if origin == Origin::User { OnceLock::from(samples) } else { OnceLock::new() },
        })
    }

    #[expect(clippy::type_complexity, reason = "three lists that are read alike")]
    fn parse_lists(&self) -> Result<(Vec<Pattern>, Vec<EnhancedPattern>, Vec<Sample>), String> {
        let texts = self.text.iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>()?;
        let enhanced = self
            .enhanced
            .iter()
            .map(|code| EnhancedPattern::parse(code).ok_or_else(|| format!("no enhanced code `{code}`")))
            .collect::<Result<_, _>>()?;
        let stage = self.stage.first().copied();
        let samples = self.samples.iter().map(|sample| Sample::parse(sample, stage)).collect::<Result<_, _>>()?;
        Ok((texts, enhanced, samples))
    }
}
