//! Evidence: what failed lately, what went well beside it, and whether that is enough to speak of an incident. Pure.
//!
//! Failures are kept by reason. Of what goes well a few samples a second are kept for each lane and domain of the sender, with
//! the number of recipients they stand for. Everything is bounded; what is forgotten costs exactness, never mail.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use explain::Scope;
use store::{Cause, IncidentScope, LaneId, MessageId};

use super::Sample;
use super::scope::{ScopeFound, find, is_inside, is_of_credential};

/// Failures kept of a reason.
const FAILURES: usize = 512;
/// Reasons kept; the one that was quiet for longest gives way.
const REASONS: usize = 64;
/// Samples kept of what goes well.
const FINE: usize = 4_096;
/// Samples taken a second of what goes well.
const FINE_A_SECOND: u32 = 50;
/// Samples taken a second of a lane: little mail counts as fully as it fails.
const OF_LANE: u32 = 4;
/// Lanes, by domain of the sender, whose successes are counted between two samples.
const LANES: usize = 10_000;
/// How far back a failure that lasts is looked for, milliseconds.
const LASTING_WINDOW_MS: i64 = 3_600_000;
/// Messages kept as examples.
pub const EXAMPLES: usize = 10;
/// So much more it takes where the message itself may be to blame.
const OF_MESSAGES: u32 = 4;

/// Reasons that are no incident however often they are met: they concern one recipient, or are how mail works.
const ORDINARY: [&str; 12] = [
    "accepted",
    "greylisted",
    "mailbox_unknown",
    "mailbox_full",
    "mailbox_disabled",
    "mailbox_moved",
    "recipient_syntax",
    "recipient_rate",
    "recipient_suppressed",
    "too_large",
    "expired",
    "null_mx",
];

/// When failures are an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// So many recipients failed for the same reason, within the window.
    pub recipients: u32,
    /// Of so many messages.
    pub messages: u32,
    /// So much of what the scope's attempts came to failed, percent.
    pub share_percent: u32,
    /// The window, milliseconds.
    pub window_ms: i64,
    /// What fails without a success for so long, milliseconds, is an incident with fewer recipients too, unless it concerns
    /// a single message to somebody else's domain.
    pub lasting_ms: i64,
}

impl Default for Opening {
    fn default() -> Self {
        Self { recipients: 5, messages: 2, share_percent: 50, window_ms: 300_000, lasting_ms: 600_000 }
    }
}

/// A failed attempt with what an incident shows of it.
#[derive(Debug, Clone)]
pub struct Failed {
    /// As evidence.
    pub sample: Sample,
    /// The message.
    pub message: MessageId,
    /// Why.
    pub cause: Arc<Cause>,
    /// The scope the rule names.
    pub rule_scope: Option<Scope>,
    /// One is enough: the credential was rejected.
    pub sure: bool,
}

/// Enough evidence for an incident.
#[derive(Debug, Clone)]
pub struct Suspicion {
    /// Reason id.
    pub reason: Arc<str>,
    /// Whom it touches.
    pub found: ScopeFound,
    /// The latest failure.
    pub latest: Failed,
    /// Recipients that failed, inside the scope.
    pub recipients: u32,
    /// Attempts.
    pub attempts: u32,
    /// Messages.
    pub messages: u32,
    /// The first messages, at most [`EXAMPLES`].
    pub examples: Vec<MessageId>,
    /// A recipient that failed, for a check.
    pub address: Arc<str>,
}

/// An incident that is open: failures inside its scope are counted, and tell nothing new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// Number of the incident.
    pub id: i64,
    /// Whom it touches.
    pub scope: IncidentScope,
    /// Reason id.
    pub reason: Arc<str>,
}

/// What was counted for an open incident since the last time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// Number of the incident.
    pub id: i64,
    /// Attempts that failed.
    pub attempts: u32,
    /// Recipients that failed.
    pub recipients: u32,
    /// Messages that failed, each attempt of one counted.
    pub messages: u32,
    /// The last failure, Unix milliseconds.
    pub last_ms: Option<i64>,
    /// Some of the messages.
    pub examples: Vec<MessageId>,
    /// Recipients inside the scope that were delivered.
    pub fine: u32,
    /// The last of them, Unix milliseconds.
    pub fine_ms: Option<i64>,
}

#[derive(Debug, Default)]
struct Lane {
    recipients: u32,
    /// The second that samples are counted in, and how many there were.
    second: (i64, u32),
}

#[derive(Debug, Default)]
struct Kept {
    failures: VecDeque<Failed>,
    last_ms: i64,
    /// There is something new.
    stirred: bool,
}

/// All evidence.
#[derive(Debug)]
pub struct Evidence {
    opening: Opening,
    reasons: HashMap<Arc<str>, Kept>,
    fine: VecDeque<Sample>,
    lanes: HashMap<(LaneId, u64), Lane>,
    /// The second that samples are counted in, and how many there were.
    second: (i64, u32),
    followed: Vec<(Followed, Tally)>,
}

impl Evidence {
    /// Nothing is known yet.
    pub fn new(opening: Opening) -> Self {
        Self {
            opening,
            reasons: HashMap::new(),
            fine: VecDeque::new(),
            lanes: HashMap::new(),
            second: (0, 0),
            followed: Vec::new(),
        }
    }

    /// Recipients of a lane were delivered. Some number: a sample that stands for so many is wanted.
    pub fn fine(&mut self, lane: LaneId, from: u64, recipients: u32, now_ms: i64) -> Option<u32> {
        if self.lanes.len() >= LANES && !self.lanes.contains_key(&(lane, from)) {
            self.lanes.clear();
        }
        let known = self.lanes.entry((lane, from)).or_default();
        known.recipients = known.recipients.saturating_add(recipients);
        let second = now_ms.div_euclid(1_000);
        for (counted, most) in [(&mut known.second, OF_LANE), (&mut self.second, FINE_A_SECOND)] {
            if counted.0 != second {
                *counted = (second, 0);
            }
            if counted.1 >= most {
                return None;
            }
            counted.1 += 1;
        }
        Some(std::mem::take(&mut known.recipients))
    }

    /// The sample that was wanted.
    pub fn sampled(&mut self, sample: Sample) {
        for (followed, tally) in &mut self.followed {
            if is_inside(&followed.scope, &sample) {
                tally.fine = tally.fine.saturating_add(sample.recipients);
                tally.fine_ms = tally.fine_ms.max(Some(sample.at_ms));
            }
        }
        if self.fine.len() >= FINE {
            self.fine.pop_front();
        }
        self.fine.push_back(sample);
    }

    /// An attempt failed. True: it may be enough for an incident at once.
    pub fn failed(&mut self, failed: Failed) -> bool {
        let Some(reason) = failed.sample.failed.clone() else { return false };
        if ORDINARY.contains(&&*reason) || failed.rule_scope == Some(Scope::Recipient) {
            return false;
        }
        let mut known = false;
        for (followed, tally) in &mut self.followed {
            if followed.reason == reason && is_inside(&followed.scope, &failed.sample) {
                known = true;
                tally.attempts += 1;
                tally.recipients = tally.recipients.saturating_add(failed.sample.recipients);
                tally.messages += 1;
                tally.last_ms = tally.last_ms.max(Some(failed.sample.at_ms));
                if tally.examples.len() < EXAMPLES && !tally.examples.contains(&failed.message) {
                    tally.examples.push(failed.message);
                }
            }
        }
        let sure = failed.sure && !known;
        if !self.reasons.contains_key(&reason) && self.reasons.len() >= REASONS {
            let quiet = self.reasons.iter().min_by_key(|(_, kept)| kept.last_ms).map(|(reason, _)| reason.clone());
            quiet.and_then(|quiet| self.reasons.remove(&quiet));
        }
        let kept = self.reasons.entry(reason).or_default();
        kept.last_ms = failed.sample.at_ms;
        kept.stirred |= !known;
        if kept.failures.len() >= FAILURES {
            kept.failures.pop_front();
        }
        kept.failures.push_back(failed);
        sure
    }

    /// From now on these are the incidents that are open. What was counted for those that stay is kept.
    pub fn follow(&mut self, open: Vec<Followed>) {
        let mut before: HashMap<i64, Tally> =
            self.followed.drain(..).map(|(followed, tally)| (followed.id, tally)).collect();
        self.followed = open
            .into_iter()
            .map(|followed| {
                let tally = before.remove(&followed.id).unwrap_or(Tally { id: followed.id, ..Tally::default() });
                (followed, tally)
            })
            .collect();
    }

    /// What was counted since the last time, of incidents where there is something.
    pub fn tallies(&mut self) -> Vec<Tally> {
        let counted = |tally: &Tally| tally.last_ms.is_some() || tally.fine_ms.is_some();
        self.followed
            .iter_mut()
            .filter(|(_, tally)| counted(tally))
            .map(|(_, tally)| std::mem::replace(tally, Tally { id: tally.id, ..Tally::default() }))
            .collect()
    }

    /// Forgets what failed for a reason within a scope: it is over.
    pub fn forget(&mut self, scope: &IncidentScope, reason: &str) {
        if let Some(kept) = self.reasons.get_mut(reason) {
            kept.failures.retain(|failed| !is_inside(scope, &failed.sample));
            kept.stirred = false;
        }
    }

    /// What is to be looked at: reasons with something new, each with what is known. The look itself is [`Question::look`],
    /// which takes a moment and needs no lock.
    pub fn questions(&mut self, now_ms: i64) -> Vec<Question> {
        let since = now_ms - LASTING_WINDOW_MS;
        let opening = self.opening;
        let lasting =
            |kept: &Kept| kept.failures.front().is_some_and(|first| now_ms - first.sample.at_ms >= opening.lasting_ms);
        self.reasons.retain(|_, kept| kept.last_ms >= since);
        while self.fine.front().is_some_and(|sample| sample.at_ms < since) {
            self.fine.pop_front();
        }
        let mut all = Vec::new();
        for (reason, kept) in &mut self.reasons {
            kept.failures.retain(|failed| failed.sample.at_ms >= since);
            if !std::mem::take(&mut kept.stirred) {
                continue;
            }
            let enough = kept.failures.iter().any(|failed| failed.sure)
                || lasting(kept)
                || kept.failures.iter().map(|failed| failed.sample.recipients).sum::<u32>() >= opening.recipients;
            // What an open incident explains is not explained again.
            let explained = |failed: &Failed| {
                self.followed
                    .iter()
                    .any(|(followed, _)| followed.reason == *reason && is_inside(&followed.scope, &failed.sample))
            };
            if enough {
                all.push(Question {
                    reason: reason.clone(),
                    failures: kept.failures.iter().filter(|failed| !explained(failed)).cloned().collect(),
                    fine: self.fine.iter().cloned().collect(),
                    opening,
                    now_ms,
                });
            }
        }
        all
    }
}

/// A reason with what is known of it.
#[derive(Debug, Clone)]
pub struct Question {
    reason: Arc<str>,
    failures: Vec<Failed>,
    fine: Vec<Sample>,
    opening: Opening,
    now_ms: i64,
}

impl Question {
    /// Whether it is an incident, and whose.
    pub fn look(&self) -> Option<Suspicion> {
        let latest = self.failures.last()?;
        let mut samples: Vec<Sample> = self.failures.iter().map(|failed| failed.sample.clone()).collect();
        samples.extend(self.fine.iter().cloned());
        let found = match self.failures.iter().rev().find(|failed| failed.sure) {
            // A rejected credential is one, whatever else is seen.
            Some(sure) if is_of_credential(&self.reason) => ScopeFound {
                scope: IncidentScope::Credential(sure.sample.route.to_string()),
                since_ms: sure.sample.at_ms,
                failing: sure.sample.recipients,
                others_ok: 0,
                looked_at: Vec::new(),
            },
            _ => find(&samples, &self.reason, latest.rule_scope, self.now_ms)?,
        };
        let inside = |sample: &Sample| is_inside(&found.scope, sample);
        let failing: Vec<&Failed> = self.failures.iter().filter(|failed| inside(&failed.sample)).collect();
        let latest = *failing.last()?;
        if !(self.is_enough(&found, &failing) || self.lasts(&found, &failing)) {
            return None;
        }
        let mut messages = HashSet::new();
        let examples: Vec<MessageId> =
            failing.iter().map(|failed| failed.message).filter(|message| messages.insert(*message)).collect();
        Some(Suspicion {
            reason: self.reason.clone(),
            latest: latest.clone(),
            recipients: failing.iter().map(|failed| failed.sample.recipients).sum(),
            attempts: u32::try_from(failing.len()).unwrap_or(u32::MAX),
            messages: u32::try_from(messages.len()).unwrap_or(u32::MAX),
            examples: examples.into_iter().take(EXAMPLES).collect(),
            address: latest.sample.address.clone(),
            found,
        })
    }

    /// Many within the window, or one that is sure.
    fn is_enough(&self, found: &ScopeFound, failing: &[&Failed]) -> bool {
        if failing.iter().any(|failed| failed.sure) {
            return true;
        }
        if matches!(found.scope, IncidentScope::Address(_)) {
            return false;
        }
        let since = self.now_ms - self.opening.window_ms;
        let recent: Vec<&&Failed> = failing.iter().filter(|failed| failed.sample.at_ms >= since).collect();
        let messages: HashSet<MessageId> = recent.iter().map(|failed| failed.message).collect();
        let recipients: u32 = recent.iter().map(|failed| failed.sample.recipients).sum();
        let fine: u32 = self
            .fine
            .iter()
            .filter(|sample| sample.at_ms >= since.max(found.since_ms) && is_inside(&found.scope, sample))
            .map(|sample| sample.recipients)
            .sum();
        let of_messages = recent.last().is_some_and(|failed| failed.rule_scope == Some(Scope::Message));
        let factor = if of_messages { OF_MESSAGES } else { 1 };
        let share = u64::from(recipients) * 100 >= u64::from(self.opening.share_percent) * u64::from(recipients + fine);
        recipients >= self.opening.recipients * factor
            && messages.len() as u32 >= self.opening.messages * factor
            && share
    }

    /// Few, but nothing else, and for long.
    fn lasts(&self, found: &ScopeFound, failing: &[&Failed]) -> bool {
        let of_one = matches!(
            found.scope,
            IncidentScope::Address(_)
                | IncidentScope::Domain(_)
                | IncidentScope::Destination(_)
                | IncidentScope::Stream(_)
        );
        let messages: HashSet<MessageId> = failing.iter().map(|failed| failed.message).collect();
        let [first, .., last] = failing else { return false };
        let fine = self.fine.iter().any(|sample| sample.at_ms >= first.sample.at_ms && is_inside(&found.scope, sample));
        !fine
            && last.sample.at_ms - first.sample.at_ms >= self.opening.lasting_ms
            && !matches!(found.scope, IncidentScope::Address(_))
            && (!of_one || messages.len() >= 2)
    }
}

#[cfg(test)]
#[path = "evidence_tests.rs"]
mod tests;
