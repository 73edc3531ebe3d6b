//! The rule base: all rules of the program and of the user, checked and indexed. Judging is [`crate::judge`]'s.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use aho_corasick::{AhoCorasick, MatchKind};

use crate::embedded;
use crate::error::RulesError;
use crate::model::Rule;
use crate::provider::{Provider, Submission, is_slip};
use crate::raw;
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
    /// Finds the longest literal of every text of every rule in one pass.
    prefilter: AhoCorasick,
    /// Rule of each literal of the prefilter.
    prefilter_rules: Vec<u32>,
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
        let mut reasons = Vec::new();
        let mut providers = Vec::new();
        let mut parsed = Vec::new();
        let embedded = embedded::FILES.iter().map(|file| (file, Origin::BuiltIn));
        for (&(name, text), origin) in embedded.chain(files.iter().map(|file| (file, Origin::User))) {
            let mut file = raw::parse(name, text)?;
            reasons.extend(file.reason.drain(..).map(raw::RawReason::check));
            providers.append(&mut file.provider);
            parsed.push((name, file, origin));
        }
        let mut rules = Vec::new();
        let mut by_id = HashMap::new();
        for (name, file, origin) in parsed {
            for rule in file.rules(name, &reasons)? {
                if by_id.insert(rule.id.clone(), rules.len()).is_some() {
                    return Err(RulesError::Duplicate { file: name.to_owned(), rule: rule.id });
                }
                rules.push((rule, origin));
            }
        }
        Self::index(rules, reasons, providers, by_id)
    }

    fn index(
        rules: Vec<(Rule, Origin)>,
        reasons: Vec<ReasonText>,
        providers: Vec<Provider>,
        by_id: HashMap<String, usize>,
    ) -> Result<Self, RulesError> {
        let mut literals = Vec::new();
        let mut prefilter_rules = Vec::new();
        let mut without_text = Vec::new();
        let mut by_sign: HashMap<String, Vec<u32>> = HashMap::new();
        for (index, (rule, _)) in rules.iter().enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            for text in &rule.texts {
                literals.push(text.longest_literal());
                prefilter_rules.push(index);
            }
            for sign in &rule.signs {
                by_sign.entry(sign.clone()).or_default().push(index);
            }
            let only_signs = rule.codes.is_empty() && rule.enhanced.is_empty() && rule.failures.is_empty();
            if !rule.failures.is_empty() || (rule.texts.is_empty() && !only_signs) {
                without_text.push(index);
            }
        }
        let prefilter = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .build(&literals)
            .map_err(|error| RulesError::Rule {
                file: "all".into(),
                rule: "all".into(),
                problem: format!("texts cannot be indexed: {error}"),
            })?;
        Ok(Self { rules, reasons, providers, by_id, prefilter, prefilter_rules, without_text, by_sign })
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

    /// Rules whose texts may stand in `text`, in order and once each.
    pub(crate) fn candidates_by_text(&self, text: &str) -> Vec<u32> {
        let mut found: Vec<u32> = self
            .prefilter
            .find_overlapping_iter(text)
            .filter_map(|hit| self.prefilter_rules.get(hit.pattern().as_usize()).copied())
            .collect();
        found.sort_unstable();
        found.dedup();
        found
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
