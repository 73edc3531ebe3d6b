//! Records steps as they happen, and the replies of a transaction until it is known whether they matter.

use proto::smtp::reply::Reply;
use proto::transcript::{Fact, Failure, Stage, Step, Transcript};

use crate::clock::Clock;

/// Writes the transcript of a connection.
pub(super) struct Recorder {
    clock: Clock,
    start_us: u64,
    transcript: Transcript,
}

/// One reply of a transaction, before it is worth a [`Step`].
pub(super) struct Mark {
    pub(super) stage: Stage,
    /// Index of the recipient, at [`Stage::Recipient`].
    pub(super) recipient: Option<usize>,
    /// The content was sent already.
    pub(super) after_content: bool,
    pub(super) started_us: u64,
    pub(super) took_us: u64,
    pub(super) reply: Reply,
}

impl Recorder {
    pub(super) fn new(clock: Clock) -> Self {
        let mut recorder = Self { start_us: 0, transcript: Transcript::default(), clock };
        recorder.restart();
        recorder
    }

    /// Microseconds since the start of the transcript.
    pub(super) fn now(&self) -> u64 {
        self.clock.mono_us().saturating_sub(self.start_us)
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.transcript.steps
    }

    pub(super) fn take(&mut self) -> Transcript {
        let transcript = std::mem::take(&mut self.transcript);
        self.restart();
        transcript
    }

    fn restart(&mut self) {
        self.start_us = self.clock.mono_us();
        self.transcript.started_ms = self.clock.now_ms();
    }

    pub(super) fn reply(&mut self, stage: Stage, began: u64, sent: Option<&str>, reply: &Reply) {
        let step = self.step(stage, began, sent);
        self.transcript.push(Step { reply: Some(reply.clone()), ..step });
    }

    pub(super) fn fact(&mut self, stage: Stage, began: u64, fact: Fact) {
        let step = self.step(stage, began, None);
        self.transcript.push(Step { fact: Some(fact), ..step });
    }

    pub(super) fn failure(&mut self, stage: Stage, began: u64, sent: Option<&str>, failure: &Failure) {
        let step = self.step(stage, began, sent);
        self.transcript.push(Step { reply: failure.reply().cloned(), failure: Some(failure.clone()), ..step });
    }

    pub(super) fn outcome(&mut self, stage: Stage, began: u64, sent: Option<&str>, outcome: &Result<Reply, Failure>) {
        match outcome {
            Ok(reply) => self.reply(stage, began, sent, reply),
            Err(failure) => self.failure(stage, began, sent, failure),
        }
    }

    fn step(&self, stage: Stage, began: u64, sent: Option<&str>) -> Step {
        Step {
            stage,
            started_us: began,
            took_us: self.now().saturating_sub(began),
            sent: sent.map(str::to_owned),
            reply: None,
            fact: None,
            failure: None,
        }
    }
}
