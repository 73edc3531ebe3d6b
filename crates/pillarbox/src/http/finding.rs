//! What a stored failure means, for people and JSON: made when somebody looks, from the rules as they are now.
//!
//! The rule base is loaded by the first failure that is looked at, so a server that has none never loads it.

use explain::{Query, RuleBase, What};
use proto::transcript::Failure;
use serde::{Deserialize, Serialize};

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
    /// Of a failure; the stage is not stored with a recipient.
    pub fn of(failure: &Failure) -> Option<Self> {
        let base = RuleBase::builtin();
        let finding = base.judge(&Query { stage: None, provider: None, what: What::Failure(failure) })?;
        let words = base.explain(&finding)?;
        let first = words.fixes.into_iter().next();
        let (fix, run) = first.map(|fix| (fix.text, fix.run)).unzip();
        Some(Self {
            codes_only: finding.is_by_class(),
            rule: words.rule,
            reason: words.reason.to_string(),
            result: words.result.to_string(),
            title: words.title,
            meaning: words.meaning,
            owner: words.owner.to_string(),
            fix,
            run: run.flatten(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::smtp::reply::Reply;

    #[test]
    fn a_failure_has_a_meaning_and_a_first_fix() {
        let known = FindingOut::of(&Failure::Refused(Reply::new(550, "5.1.1 User unknown"))).unwrap();
        assert!(!known.codes_only && known.fix.is_some() && !known.meaning.is_empty(), "{known:?}");
        let by_code = FindingOut::of(&Failure::Refused(Reply::new(550, "5.1.1 qwertz uiop"))).unwrap();
        assert!(by_code.codes_only, "{by_code:?}");
        assert!(FindingOut::of(&Failure::Disconnected).is_some());
    }
}
