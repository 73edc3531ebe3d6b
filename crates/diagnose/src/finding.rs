//! From something seen to a finding with its words: the one way from a diagnosis to the rules.

use std::sync::Arc;

use explain::{Explanation, Finding, Query, ResultWord, RuleBase, Severity, Values};
use proto::smtp::reply::Reply;
use proto::transcript::{Failure, Stage};
use serde::Serialize;

/// One thing found, with its words.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    /// Where, for a probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// How bad it is.
    pub severity: Severity,
    /// Kind of the sign, if it rests on one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sign: Option<String>,
    /// The reply it rests on, if the server spoke.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
    /// Rule, reason, basis and values.
    pub finding: Finding,
    /// In words.
    pub explanation: Explanation,
}

/// The rules, and who is spoken with.
#[derive(Debug, Clone)]
pub struct Judge {
    rules: Arc<RuleBase>,
    provider: Option<String>,
}

impl Judge {
    /// Judges by these rules; the provider is not known yet.
    pub fn new(rules: Arc<RuleBase>) -> Self {
        Self { rules, provider: None }
    }

    /// The rules.
    pub fn rules(&self) -> &RuleBase {
        &self.rules
    }

    /// Id of the provider or program spoken with, once it is known.
    pub fn provider(&self) -> Option<&str> {
        self.provider.as_deref()
    }

    /// Remembers the provider told by a host name, a greeting or the operator. The first one stays.
    pub fn met(&mut self, provider: Option<&str>) {
        if self.provider.is_none() {
            self.provider = provider.map(str::to_owned);
        }
    }

    /// Judges a failed step.
    pub fn failure(&self, stage: Stage, failure: &Failure) -> Option<Judged> {
        self.judged(&Query::failure(stage, failure), None, failure.reply())
    }

    /// Judges something noticed. `None` only for a kind without a rule, which the tests exclude.
    pub fn sign(&self, stage: Option<Stage>, kind: &str, values: &Values) -> Option<Judged> {
        self.judged(&Query::sign(stage, kind, values), Some(kind), None)
    }

    fn judged(&self, query: &Query<'_>, sign: Option<&str>, reply: Option<&Reply>) -> Option<Judged> {
        let finding = self.rules.judge(&query.at(self.provider()))?;
        let mut explanation = self.rules.explain(&finding)?;
        if sign.is_none() {
            explanation.result = result_at(query.stage, explanation.result);
        }
        Some(Judged {
            stage: query.stage,
            severity: explanation.severity,
            sign: sign.map(str::to_owned),
            reply: reply.cloned(),
            finding,
            explanation,
        })
    }
}

/// Where no result word covers the reason, the stage that failed says which of them it is.
fn result_at(stage: Option<Stage>, result: ResultWord) -> ResultWord {
    match (result, stage) {
        (ResultWord::None, Some(Stage::Banner)) => ResultWord::ConnectionFailed,
        (ResultWord::None, Some(Stage::Tls)) => ResultWord::TlsError,
        (ResultWord::None, Some(Stage::Auth)) => ResultWord::AuthenticationFailed,
        (result, _) => result,
    }
}
