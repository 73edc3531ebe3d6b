//! Limits that other nodes count for too: what the store is asked, what it answers, and what follows for what waits.
//!
//! What the store granted is valid for as long as it said, by a clock that never goes back. When that time is over, nothing
//! is handed out and connections that are counted are given up, whatever the store may say later.

use std::sync::Arc;

use store::{Share, ShareRequest};

use super::limit::{Ahead, Asked};
use super::slots::SlotAsked;
use super::{Action, Schedule};

/// What the store is asked, and by whom.
#[derive(Debug, Default)]
pub struct Questions {
    /// Requests.
    pub list: Vec<ShareRequest>,
    /// Who asked, in the same order.
    pub by: Vec<Question>,
}

/// Who asked, for [`Schedule::answered`].
#[derive(Debug)]
pub struct Question(Asker);

#[derive(Debug)]
enum Asker {
    Meter((Arc<str>, Asked)),
    Slot(SlotAsked),
}

/// What the store answered.
#[derive(Debug)]
pub struct Answers {
    /// Who asked.
    pub by: Vec<Question>,
    /// The answers, in the same order.
    pub shares: Vec<Share>,
    /// [`net::Clock::mono_us`] when it was asked.
    pub asked_us: u64,
}

impl<W> Schedule<W> {
    /// From now on limits and connections are counted together with other nodes.
    pub fn keep_together(&mut self) {
        self.meters.keep_together();
        self.slots.keep_together();
        self.valid_until_us = Some(0);
    }

    /// Whether limits are counted together with other nodes.
    pub fn is_together(&self) -> bool {
        self.valid_until_us.is_some()
    }

    /// What the store is to be told and asked.
    pub fn ask(&mut self, ahead: Ahead, now_ms: i64) -> Questions {
        let mut questions = Questions::default();
        let meters = self.meters.ask(ahead, now_ms).into_iter().map(|(request, by)| (request, Asker::Meter(by)));
        let slots = self.slots.ask(ahead == Ahead::Nothing, now_ms);
        for (request, by) in meters.chain(slots.into_iter().map(|(request, by)| (request, Asker::Slot(by)))) {
            questions.list.push(request);
            questions.by.push(Question(by));
        }
        questions
    }

    /// What the store answered: mail that waited for it goes on.
    pub fn answered(&mut self, answers: &Answers, now_ms: i64, mono_us: u64) -> Vec<Action<W>> {
        // First by what was known so far: what ended meanwhile has ended, and this answer speaks only of what it was asked for.
        let mut actions = self.look(mono_us);
        for (by, share) in answers.by.iter().zip(&answers.shares) {
            match &by.0 {
                Asker::Meter(asked) => self.meters.answered(asked, share, now_ms),
                Asker::Slot(asked) => self.slots.answered(asked, share, now_ms),
            }
        }
        if let Some(valid_ms) = answers.shares.iter().map(|share| share.valid_ms).min() {
            let valid_us = u64::try_from(valid_ms).unwrap_or(0).saturating_mul(1_000);
            self.valid_until_us = Some(answers.asked_us.saturating_add(valid_us));
        }
        actions.extend(self.look(mono_us));
        actions.extend(self.wake_leaving());
        let waiting = std::mem::take(&mut self.unwritten);
        actions.extend(waiting.iter().flat_map(|name| self.stir_all(name, now_ms)).collect::<Vec<_>>());
        actions
    }

    /// The store did not answer.
    pub fn unanswered(&mut self, by: &[Question]) {
        for by in by {
            match &by.0 {
                Asker::Meter((name, _)) => self.meters.unanswered(name),
                Asker::Slot(asked) => self.slots.unanswered(asked),
            }
        }
    }

    /// Ends what is not valid any more. To be called before anything is taken.
    pub fn look(&mut self, mono_us: u64) -> Vec<Action<W>> {
        if self.valid_until_us.is_none_or(|until| until == 0 || mono_us < until) {
            return Vec::new();
        }
        self.valid_until_us = Some(0);
        self.meters.void();
        self.slots.void();
        self.wake_leaving()
    }

    /// Connections to a destination are counted, and what the store granted is not valid any more.
    pub fn is_void(&self, name: &str, mono_us: u64) -> bool {
        self.valid_until_us.is_some_and(|until| mono_us >= until) && self.slots.holds(name)
    }

    /// A connection shall be given up, because others wait for it or because nobody knows whether it may stay.
    pub fn leaves(&mut self, name: &str) -> bool {
        self.slots.leaves(name)
    }

    /// Those that sleep go first.
    fn wake_leaving(&mut self) -> Vec<Action<W>> {
        let mut actions = Vec::new();
        for (name, count) in self.slots.leaving() {
            let Some(destination) = self.destinations.get_mut(&name) else { continue };
            let from = destination.idle.len().saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
            actions.extend(destination.idle.drain(from..).map(|(_, wake)| Action::Wake(wake)));
        }
        actions
    }
}

#[cfg(test)]
mod tests;
