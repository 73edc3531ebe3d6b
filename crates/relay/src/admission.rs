//! From a completed message to its place in memory: lanes, room in the window, the store's transaction, the schedule.
//!
//! Recipients that find room are stored as leased by this run and scheduled without being read back. Should the submitter
//! go away in the middle, the rest is finished by a task of its own: a lease without a job would be forgotten.

use std::sync::Arc;

use bytes::Bytes;
use proto::Recipient;
use store::{Accepted, Claim, Lane, LeasedRecipient, Message, NewMessage, NewRecipient, Pending, Start, StoreError};

use crate::accept::no_route;
use crate::budget::Held;
use crate::directory::Directory;
use crate::refusal::Refusal;
use crate::schedule::Job;
use crate::shared::Shared;

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
}

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
        let mut groups: Vec<Group> = Vec::with_capacity(1);
        let mut placed: Vec<(Recipient, usize, Option<Start>)> = Vec::with_capacity(recipients.len());
        let mut stopped = stopped.into_iter();
        for recipient in recipients {
            let domain = recipient.address.domain();
            let route = directory
                .route_for(sender_domain, domain, &message.stream)
                .ok_or_else(|| no_route(directory, &recipient.address))?;
            let known = groups
                .iter()
                .rposition(|group| *group.lane.key.domain == *domain && group.lane.key.route == route.name);
            let at = known.unwrap_or_else(|| {
                let lane = shared.lane(&route.name, domain, message);
                groups.push(Group { lane, recipients: Vec::new(), leased: false });
                groups.len() - 1
            });
            let n = placed.len() as u32;
            let start = stopped.next().flatten().map(Start::Suppressed);
            if start.is_none() {
                let (address, parameters) = (recipient.address.clone(), recipient.parameters.clone());
                groups[at].recipients.push(LeasedRecipient { n, address, parameters, attempts: 0, unknown_via: None });
            }
            placed.push((recipient, at, start));
        }
        let mut admission =
            Self { shared: shared.clone(), message: message.clone(), groups, content: None, pending: None };
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
        if self.message.not_before_ms.is_some() || self.shared.is_stopping() {
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
        self.pending = Some(self.shared.store.accept(new));
        let result = match self.pending.as_mut() {
            Some(pending) => pending.await,
            None => Err(StoreError::Closed),
        };
        self.pending = None;
        self.place(&result);
        result.map_err(|error| {
            if !matches!(error, StoreError::Full | StoreError::Overloaded) {
                tracing::error!(%error, message = %self.message.id, "message could not be stored");
            }
            error.into()
        })
    }

    fn place(&mut self, result: &Result<Accepted, StoreError>) {
        let committed = matches!(result, Ok(Accepted::Committed(_)));
        let content = self.content.take();
        let due_ms = self.message.not_before_ms.unwrap_or(self.message.accepted_ms);
        for group in self.groups.drain(..).filter(|group| !group.recipients.is_empty()) {
            if committed && group.leased {
                let claim = Claim { message: self.message.clone(), lane: group.lane, recipients: group.recipients };
                self.shared.admit(Job { claim, content: content.clone() });
            } else if group.leased {
                self.shared.leave_window(&group.lane, group.recipients.len());
            } else if committed {
                self.shared.due_at(due_ms);
            }
        }
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
        };
        let tasks = self.shared.tasks.clone();
        tasks.spawn(async move {
            let result = pending.await;
            rest.place(&result);
        });
    }
}
