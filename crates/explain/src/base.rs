//! The rule base: all rules of the program and of the user, checked and indexed. Judging is [`crate::judge`]'s.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use crate::embedded;
use crate::error::RulesError;
use crate::model::Rule;
use crate::prefilter::Prefilter;
use crate::provider::{Provider, Submission, is_slip};
use crate::raw::{self, RawFile};
use crate::reason::{Reason, ReasonText};

/// Who wrote a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Part of the program.
    BuiltIn,
    /// From the user's own file; wins among rules that fit about as well.
    User,
}

/// All rules.
#[derive(Debug)]
pub struct RuleBase {
    rules: Vec<(Rule, Origin)>,
    reasons: Vec<ReasonText>,
    providers: Vec<Provider>,
    by_id: HashMap<String, usize>,
    prefilter: Prefilter,
    /// Rules without texts: few, looked at one by one.
    without_text: Vec<u32>,
    /// Rules of each sign.
    by_sign: HashMap<String, Vec<u32>>,
}

static BUILTIN: LazyLock<Arc<RuleBase>> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the embedded files are checked by the tests")]
    Arc::new(RuleBase::with_user_rules(&[]).expect("the rules inside the program are valid"))
});

impl RuleBase {
    /// The rules inside the program; loaded at the first use.
    pub fn builtin() -> &'static Self {
        &BUILTIN
    }

    /// The rules inside the program, for those who may hold others at another time.
    pub fn shared() -> Arc<Self> {
        BUILTIN.clone()
    }

    /// The rules inside the program and those of the user: (name of the file, its TOML text).
    ///
    /// # Errors
    /// A user's file that is not TOML, has unknown fields or values, or an id that exists already.
    pub fn with_user_rules(files: &[(&str, &str)]) -> Result<Self, RulesError> {
        let mut parsed: Vec<_> =
            embedded::rule_files().into_iter().map(|(name, file)| (name, file, Origin::BuiltIn)).collect();
        for &(name, text) in files {
            parsed.push((name.to_owned(), raw::parse(name, text)?, Origin::User));
        }
        Self::of_files(parsed)
    }

    fn of_files(mut files: Vec<(String, RawFile, Origin)>) -> Result<Self, RulesError> {
        let mut reasons = Vec::new();
        let mut providers = Vec::new();
        for (_, file, _) in &mut files {
            reasons.extend(file.reason.drain(..).map(raw::RawReason::check));
            providers.append(&mut file.provider);
        }
        let mut rules = Vec::new();
        let mut by_id = HashMap::new();
        for (name, file, origin) in files {
            for rule in file.rules(&name, origin, &reasons)? {
                if by_id.insert(rule.id.clone(), rules.len()).is_some() {
                    return Err(RulesError::Duplicate { file: name, rule: rule.id });
                }
                rules.push((rule, origin));
            }
        }
        Ok(Self::index(rules, reasons, providers, by_id))
    }

    fn index(
        rules: Vec<(Rule, Origin)>,
        reasons: Vec<ReasonText>,
        providers: Vec<Provider>,
        by_id: HashMap<String, usize>,
    ) -> Self {
        let numbered = || rules.iter().map(|(rule, _)| rule).zip(0_u32..);
        let mut without_text = Vec::new();
        let mut by_sign: HashMap<String, Vec<u32>> = HashMap::new();
        for (rule, index) in numbered() {
            for sign in &rule.signs {
                by_sign.entry(sign.clone()).or_default().push(index);
            }
            let only_signs = rule.codes.is_empty() && rule.enhanced.is_empty() && rule.failures.is_empty();
            if !rule.failures.is_empty() || (rule.texts.is_empty() && !only_signs) {
                without_text.push(index);
            }
        }
        let texts = numbered().flat_map(|(rule, index)| rule.texts.iter().map(move |text| (text, index)));
        let prefilter = Prefilter::new(texts);
        Self { rules, reasons, providers, by_id, prefilter, without_text, by_sign }
    }

    /// All rules, in the order of their files.
    pub fn rules(&self) -> impl ExactSizeIterator<Item = &Rule> {
        self.rules.iter().map(|(rule, _)| rule)
    }

    /// A rule by its id.
    pub fn rule(&self, id: &str) -> Option<&Rule> {
        self.by_id.get(id).and_then(|&index| self.rules.get(index)).map(|(rule, _)| rule)
    }

    /// The texts of a reason.
    pub fn reason(&self, reason: Reason) -> Option<&ReasonText> {
        self.reasons.iter().find(|text| text.reason == reason)
    }

    /// All providers and programs known.
    pub fn providers(&self) -> &[Provider] {
        &self.providers
    }

    /// A provider by its id.
    pub fn provider(&self, id: &str) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.id == id)
    }

    /// The provider behind the name of an MX or submission host.
    pub fn provider_of_host(&self, host: &str) -> Option<&Provider> {
        self.best_provider(|provider| provider.fits_host(host))
    }

    /// The provider or program behind a greeting or EHLO answer.
    pub fn provider_of_banner(&self, banner: &str) -> Option<&Provider> {
        let lower = banner.to_ascii_lowercase();
        self.best_provider(|provider| provider.fits_banner(&lower))
    }

    /// The provider that words of a reply give away.
    pub fn provider_of_text(&self, text: &str) -> Option<&Provider> {
        let lower = text.to_ascii_lowercase();
        self.best_provider(|provider| provider.fits_text(&lower))
    }

    /// The submission host that was probably meant by a name that is none, one or two slips of typing away.
    pub fn probably_meant(&self, host: &str) -> Option<&Submission> {
        let host = host.trim_end_matches('.');
        let all = || self.providers.iter().flat_map(|provider| &provider.submission);
        if all().any(|submission| submission.host.eq_ignore_ascii_case(host)) {
            return None;
        }
        all().find(|submission| is_slip(host, &submission.host))
    }

    fn best_provider(&self, fits: impl Fn(&Provider) -> Option<usize>) -> Option<&Provider> {
        let fitting = self.providers.iter().filter_map(|provider| fits(provider).map(|length| (length, provider)));
        fitting.max_by_key(|(length, _)| *length).map(|(_, provider)| provider)
    }

    /// Rules whose texts may stand in a text in lower case, in order and once each.
    pub(crate) fn candidates_by_text(&self, lower: &str) -> Vec<u32> {
        self.prefilter.find(lower)
    }

    /// Rules that may fit without any text.
    pub(crate) fn candidates_without_text(&self) -> &[u32] {
        &self.without_text
    }

    /// Rules for a sign.
    pub(crate) fn candidates_by_sign(&self, sign: &str) -> &[u32] {
        self.by_sign.get(sign).map_or(&[], Vec::as_slice)
    }

    /// Every kind of sign a rule speaks of.
    pub fn signs(&self) -> impl Iterator<Item = &str> {
        self.by_sign.keys().map(String::as_str)
    }

    pub(crate) fn rule_at(&self, index: u32) -> Option<(&Rule, Origin)> {
        self.rules.get(index as usize).map(|(rule, origin)| (rule, *origin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files as they are written, samples and all.
    fn of_toml() -> RuleBase {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let files = embedded::rule_files().into_iter().map(|(name, _)| {
            let text = std::fs::read_to_string(root.join(&name)).unwrap();
            let file = raw::parse(&name, &text).unwrap();
            (name, file, Origin::User)
        });
        RuleBase::of_files(files.collect()).unwrap()
    }

    #[test]
    fn the_rules_inside_the_program_are_those_of_the_files() {
        let (inside, written) = (RuleBase::builtin(), of_toml());
        assert_eq!(inside.rules().len(), written.rules().len());
        for (a, b) in inside.rules().zip(written.rules()) {
            assert!(!b.samples().is_empty() && a.samples() == b.samples(), "{}", b.id);
            assert_eq!(format!("{a:?}"), format!("{b:?}"));
        }
        assert_eq!(format!("{:?}", inside.reasons), format!("{:?}", written.reasons));
        assert_eq!(inside.providers, written.providers);
    }
}
