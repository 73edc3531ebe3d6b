//! What a policy gives for a client (RFC 7208 §4).

use super::super::dns::{Question, Reply, Step, Steps};
use super::{Client, Limits, SpfOutcome, SpfResult};

/// `check_host()` of RFC 7208 §4, for the envelope sender.
#[derive(Debug)]
pub struct Evaluation {
    client: Client,
    _limits: Limits,
}

impl Evaluation {
    /// For a client; nothing is asked before the first step.
    pub fn new(client: Client, limits: Limits) -> Self {
        Self { client, _limits: limits }
    }
}

impl Steps for Evaluation {
    type Output = SpfOutcome;
    fn step(&mut self) -> Step<SpfOutcome> {
        Step::Done(SpfOutcome {
            result: SpfResult::None,
            domain: self.client.helo.clone(),
            explanation: None,
            problem: None,
            decided_by: None,
            lookups: 0,
            voids: 0,
            trace: None,
        })
    }
    fn answer(&mut self, _question: Question, _reply: Reply) {}
}
