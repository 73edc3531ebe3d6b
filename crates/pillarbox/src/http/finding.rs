//! What a stored failure means, for people and JSON: made when somebody looks, from the rules as they are now.
//!
//! The rule base is loaded by the first failure that is looked at, so a server that has none never loads it.

use explain::{Explanation, Query, RuleBase};
use serde::{Deserialize, Serialize};
use store::Cause;

/// The meaning of a failure. Field names are a promise.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FindingOut {
    /// Id of the rule, for `pillarbox rules show`.
    pub rule: String,
    /// Precise reason, one word.
    pub reason: String,
    /// One of the six result words, or `none`.
    pub result: String,
    /// One line.
    pub title: String,
    /// Full sentences.
    pub meaning: String,
    /// Whose turn it is.
    pub owner: String,
    /// The words of the reply are not known: only its codes decided.
    pub codes_only: bool,
    /// What to do first.
    pub fix: Option<String>,
    /// The exact command, DNS record or setting for it.
    pub run: Option<String>,
}

impl FindingOut {
    /// Of why an attempt failed, judged by the rules of today.
    pub fn of(rules: &RuleBase, cause: &Cause) -> Option<Self> {
        let query = Query::failure(cause.stage, &cause.failure).at(cause.provider.as_deref());
        let finding = rules.judge(&query)?;
        Some(Self::in_words(rules.explain(&finding)?, finding.is_by_class()))
    }

    /// All words for why an attempt failed.
    pub fn explained(rules: &RuleBase, cause: &Cause) -> Option<Explanation> {
        let query = Query::failure(cause.stage, &cause.failure).at(cause.provider.as_deref());
        rules.explain(&rules.judge(&query)?)
    }

    /// Of a rule by its id, without the values of one failure; `None` if the rule is gone.
    pub fn of_rule(rules: &RuleBase, id: &str) -> Option<Self> {
        let rule = rules.rule(id)?;
        Some(Self::in_words(rule.explain(&explain::Values::new()), rule.texts.is_empty() && rule.failures.is_empty()))
    }

    fn in_words(words: Explanation, codes_only: bool) -> Self {
        let first = words.fixes.into_iter().next();
        let (fix, run) = first.map(|fix| (fix.text, fix.run)).unzip();
        Self {
            codes_only,
            rule: words.rule,
            reason: words.reason.to_string(),
            result: words.result.to_string(),
            title: words.title,
            meaning: words.meaning,
            owner: words.owner.to_string(),
            fix,
            run: run.flatten(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::smtp::reply::Reply;
    use proto::transcript::{Failure, Stage};

    #[test]
    fn a_failure_has_a_meaning_and_a_first_fix() {
        let of = |failure| {
            let cause = Cause { stage: Stage::Recipient, failure, provider: None, rule: None, unknown_via: None };
            FindingOut::of(RuleBase::builtin(), &cause).unwrap()
        };
        let known = of(Failure::Refused(Reply::new(550, "5.1.1 User unknown")));
        assert!(!known.codes_only && known.fix.is_some() && !known.meaning.is_empty(), "{known:?}");
        let by_code = of(Failure::Refused(Reply::new(550, "5.1.1 qwertz uiop")));
        assert!(by_code.codes_only, "{by_code:?}");
        assert!(!of(Failure::Disconnected).title.is_empty());
    }
}
