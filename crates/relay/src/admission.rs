//! From a completed message to its place in memory: lanes, room in the window, the store's transaction, the schedule.
//!
//! Recipients that find room are stored as leased by this run and scheduled without being read back. Should the submitter
//! go away in the middle, the rest is finished by a task of its own: a lease without a job would be forgotten.

use std::sync::Arc;

use bytes::Bytes;
use proto::Recipient;
use store::{
    Accepted, Claim, Lane, Late, LeasedRecipient, Message, NewMessage, NewRecipient, Pending, Start, StoreError,
};

use crate::accept::no_route;
use crate::brake;
use crate::budget::Held;
use crate::deadline;
use crate::directory::Directory;
use crate::refusal::Refusal;
use crate::route::Route;
use crate::schedule::Job;
use crate::shared::Shared;
use crate::stream::StreamRecord;
use crate::stream::pace::Pace;

/// Recipients of one lane on their way in.
struct Group {
    lane: Arc<Lane>,
    recipients: Vec<LeasedRecipient>,
    /// Room in the window is reserved.
    leased: bool,
}

/// A message between plan and schedule.
pub(crate) struct Admission {
    shared: Arc<Shared>,
    message: Arc<Message>,
    groups: Vec<Group>,
    content: Option<Arc<Held>>,
    pending: Option<Pending<Accepted>>,
    /// [`store::Nodes::lapses`] before it was leased.
    lapses: u64,
    /// When the first of those that wait is due, Unix milliseconds.
    due_ms: Option<i64>,
    /// Recipients that are due after their deadline.
    late: Vec<Late>,
}

/// What a submitter is told of a recipient that does not simply wait for its delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// Number in the envelope.
    pub n: u32,
    /// What became of it.
    pub noting: Noting,
    /// Why, for people.
    pub why: String,
}

/// What became of a recipient at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noting {
    /// It has to be released, or is told of by a digest.
    Held,
    /// It gets nothing.
    Suppressed,
}

impl Noted {
    /// The recipients there is something to tell of.
    pub(crate) fn of(recipients: &[NewRecipient]) -> Vec<Self> {
        let noted = |(n, recipient): (usize, &NewRecipient)| {
            let (noting, why) = match &recipient.start {
                Start::Held(why) => (Noting::Held, why.clone()),
                Start::Suppressed(why) => (Noting::Suppressed, why.clone()),
                Start::Waiting(_) | Start::Leased => return None,
            };
            Some(Self { n: n as u32, noting, why })
        };
        recipients.iter().enumerate().filter_map(noted).collect()
    }
}

/// Recipients of a paced stream that are due so soon, milliseconds, need not be read back from the store.
const SOON_MS: i64 = 1_000;

impl Admission {
    /// Finds lanes for all recipients and reserves room for them. `stopped`: why a recipient gets nothing, by its number;
    /// may be empty.
    pub(crate) fn plan(
        shared: &Arc<Shared>,
        directory: &Directory,
        message: &Arc<Message>,
        content: &Bytes,
        recipients: Vec<Recipient>,
        stopped: Vec<Option<String>>,
    ) -> Result<(Vec<NewRecipient>, Self), Refusal> {
        let sender_domain = message.reverse_path.0.as_ref().map_or("", |address| address.domain());
        let by_rule = |domain: &str| directory.route_for(sender_domain, domain, &message.stream);
        Self::plan_by(shared, directory, message, content, (recipients, stopped), by_rule)
    }

    /// The same where something else than the rules says by which route a domain's mail leaves.
    pub(crate) fn plan_by<'a>(
        shared: &Arc<Shared>,
        directory: &'a Directory,
        message: &Arc<Message>,
        content: &Bytes,
        (recipients, stopped): (Vec<Recipient>, Vec<Option<String>>),
        route_of: impl Fn(&str) -> Option<&'a Arc<Route>>,
    ) -> Result<(Vec<NewRecipient>, Self), Refusal> {
        let mut groups: Vec<Group> = Vec::with_capacity(1);
        let mut placed: Vec<(Recipient, usize, Option<Start>)> = Vec::with_capacity(recipients.len());
        let mut times = Times::of(shared, directory, message);
        let mut stopped = stopped.into_iter();
        for recipient in recipients {
            let domain = recipient.address.domain();
            let route = route_of(domain).ok_or_else(|| no_route(directory, &recipient.address))?;
            let known = groups
                .iter()
                .rposition(|group| *group.lane.key.domain == *domain && group.lane.key.route == route.name);
            let at = known.unwrap_or_else(|| {
                let lane = shared.lane(&route.name, domain, message);
                groups.push(Group { lane, recipients: Vec::new(), leased: false });
                groups.len() - 1
            });
            let n = placed.len() as u32;
            let start = times.start(n, stopped.next().flatten());
            let start = match start {
                Some(Start::Suppressed(_) | Start::Held(_)) => start,
                start => {
                    let braked = brake::gate::at_door(shared, route, &groups[at].lane.key.domain, message);
                    braked.map(Start::Held).or(start)
                }
            };
            if start.is_none() {
                let (address, parameters) = (recipient.address.clone(), recipient.parameters.clone());
                groups[at].recipients.push(LeasedRecipient { n, address, parameters, attempts: 0, unknown_via: None });
            }
            placed.push((recipient, at, start));
        }
        let Times { first_ms, late, .. } = times;
        let mut admission = Self {
            shared: shared.clone(),
            message: message.clone(),
            groups,
            content: None,
            pending: None,
            lapses: 0,
            due_ms: first_ms,
            late,
        };
        admission.reserve(content);
        let due_ms = message.not_before_ms.unwrap_or(message.accepted_ms);
        let new = placed
            .into_iter()
            .map(|(recipient, at, start)| {
                let group = &admission.groups[at];
                let otherwise = || if group.leased { Start::Leased } else { Start::Waiting(due_ms) };
                let start = start.unwrap_or_else(otherwise);
                let Recipient { address, parameters } = recipient;
                NewRecipient { address, parameters, lane: group.lane.clone(), start }
            })
            .collect();
        Ok((new, admission))
    }

    /// The routes of its recipients; one may come twice.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.groups.iter().map(|group| &group.lane.key.route)
    }

    fn reserve(&mut self, content: &Bytes) {
        if self.message.not_before_ms.is_some() || self.shared.is_stopping() || self.shared.rests() {
            return;
        }
        self.content = self.shared.contents.hold(content);
        if self.content.is_none() {
            return;
        }
        let mut schedule = self.shared.schedule.lock();
        for group in self.groups.iter_mut().filter(|group| !group.recipients.is_empty()) {
            group.leased =
                schedule.window_mut().reserve(group.lane.id, group.lane.key.priority, group.recipients.len());
        }
    }

    /// Makes the message durable and hands it to the schedule.
    pub(crate) async fn commit(mut self, new: NewMessage) -> Result<Accepted, Refusal> {
        self.lapses = self.shared.store.lapses();
        self.pending = Some(self.shared.store.accept(new));
        let result = match self.pending.as_mut() {
            Some(pending) => pending.await,
            None => Err(StoreError::Closed),
        };
        self.pending = None;
        self.place(&result);
        result.map_err(|error| {
            if !matches!(error, StoreError::Full | StoreError::Overloaded) {
                tracing::error!(%error, message_id = %self.message.id, "message could not be stored");
            }
            error.into()
        })
    }

    fn place(&mut self, result: &Result<Accepted, StoreError>) {
        let committed = match result {
            Ok(Accepted::Committed(committed)) => Some(committed),
            _ => None,
        };
        let content = self.content.take();
        let due_ms = self.message.not_before_ms.unwrap_or(self.message.accepted_ms);
        if let Some(committed) = committed {
            self.leave_folded(committed.folded());
            crate::deadline::tell(&self.shared, std::mem::take(&mut self.late));
            if let Some(due_ms) = self.due_ms {
                self.shared.due_at(due_ms);
            }
        }
        let committed = committed.is_some();
        for group in self.groups.drain(..).filter(|group| !group.recipients.is_empty()) {
            if committed {
                let key = &group.lane.key;
                self.shared.metrics.took_in(&key.route, &key.stream, group.recipients.len());
            }
            if committed && group.leased {
                let (message, lapses) = (self.message.clone(), self.lapses);
                let claim = Claim { message, lane: group.lane, recipients: group.recipients, lapses };
                self.shared.admit(Job { claim, content: content.clone() });
            } else if group.leased {
                self.shared.leave_window(&group.lane, group.recipients.len());
            } else if committed {
                self.shared.due_at(due_ms);
            }
        }
    }

    /// What was folded into a digest is not in our hands after all.
    fn leave_folded(&mut self, folded: &[u32]) {
        if folded.is_empty() {
            return;
        }
        for group in &mut self.groups {
            let before = group.recipients.len();
            group.recipients.retain(|recipient| folded.binary_search(&recipient.n).is_err());
            if group.leased {
                self.shared.leave_window(&group.lane, before - group.recipients.len());
            }
        }
    }
}

/// When recipients of a message are due, as far as their stream says something of it.
struct Times<'a> {
    shared: &'a Shared,
    message: &'a Message,
    record: &'a StreamRecord,
    stops: Option<Start>,
    pace: Option<Pace>,
    first_ms: Option<i64>,
    late: Vec<Late>,
}

impl<'a> Times<'a> {
    fn of(shared: &'a Shared, directory: &'a Directory, message: &'a Message) -> Self {
        let record = directory.stream_record(&message.stream);
        let paused = || directory.sender(&message.sender).and_then(|sender| sender.record.hold());
        let stops = record.off().map(Start::Suppressed).or_else(|| record.hold().or_else(paused).map(Start::Held));
        let pace = record.per_minute.map(|per_minute| Pace::of(&message.stream, per_minute));
        Self { shared, message, record, stops, pace, first_ms: None, late: Vec::new() }
    }

    /// How a recipient starts, unless it simply waits or is taken into memory.
    fn start(&mut self, n: u32, stopped: Option<String>) -> Option<Start> {
        if let Some(Start::Suppressed(why)) = &self.stops {
            return Some(Start::Suppressed(why.clone()));
        }
        if let Some(why) = stopped {
            return Some(Start::Suppressed(why));
        }
        if let Some(stops) = &self.stops {
            return Some(stops.clone());
        }
        let from_ms = self.message.not_before_ms.unwrap_or(self.message.accepted_ms);
        let due_ms = self.due_ms(from_ms)?;
        if deadline::is_late(self.message, due_ms) {
            self.late.push(deadline::late(self.message, n, due_ms, "the stream's pace"));
        }
        if due_ms <= from_ms + SOON_MS {
            return None;
        }
        self.first_ms = Some(self.first_ms.map_or(due_ms, |first| first.min(due_ms)));
        Some(Start::Waiting(due_ms))
    }

    fn due_ms(&self, from_ms: i64) -> Option<i64> {
        let (message, record) = (self.message, self.record);
        if self.pace.is_none() && record.spread_s.is_none() {
            return None;
        }
        let mut all = self.shared.slots.lock();
        let slots = all.entry(message.stream.clone()).or_default();
        if let Some(window_s) = record.spread_s {
            // Mail that is worth nothing later is not spread beyond that.
            let window_ms = i64::try_from(window_s).unwrap_or(i64::MAX).saturating_mul(1_000);
            let most_ms = (message.expires_ms - from_ms).max(0) / 10 * 9;
            return Some(from_ms + slots.spread(window_ms.min(most_ms)));
        }
        self.pace.as_ref().map(|pace| slots.take(pace, from_ms))
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let Some(pending) = self.pending.take() else {
            if !self.groups.is_empty() {
                self.place(&Err(StoreError::Closed));
            }
            return;
        };
        let mut rest = Self {
            shared: self.shared.clone(),
            message: self.message.clone(),
            groups: std::mem::take(&mut self.groups),
            content: self.content.take(),
            pending: None,
            lapses: self.lapses,
            due_ms: self.due_ms.take(),
            late: std::mem::take(&mut self.late),
        };
        let tasks = self.shared.tasks.clone();
        tasks.spawn(async move {
            let result = pending.await;
            rest.place(&result);
        });
    }
}
