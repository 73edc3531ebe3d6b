//! Group commit: what comes while a commit is under way goes together with the next one.
//!
//! One alone is not kept waiting; a crowd shares its round trips and its commit. One that cannot be stored is found by
//! halves, and does not harm the others.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::fault::Fault;
use super::shared::{Shared, VerbPlace};
use crate::{Pending, StoreError};

/// Most requests in one transaction.
const MOST: usize = 256;
/// Most octets in one transaction; a single request may have more.
const MOST_OCTETS: usize = 8 << 20;
/// Most octets that wait.
const WAITING_OCTETS: usize = 256 << 20;

/// A request and who waits for it.
pub(super) struct Job<R, T> {
    pub(super) request: R,
    octets: usize,
    reply: oneshot::Sender<Result<T, StoreError>>,
    _place: VerbPlace,
}

struct Waiting<R, T> {
    jobs: VecDeque<Job<R, T>>,
    octets: usize,
    closed: bool,
}

/// Requests of one kind on their way to a transaction.
pub(super) struct Group<R, T> {
    waiting: Mutex<Waiting<R, T>>,
    bell: Notify,
}

impl<R: Send + Sync + 'static, T: Send + 'static> Group<R, T> {
    pub(super) fn new() -> Arc<Self> {
        let waiting = Waiting { jobs: VecDeque::new(), octets: 0, closed: false };
        Arc::new(Self { waiting: Mutex::new(waiting), bell: Notify::new() })
    }

    /// Adds a request; `Overloaded` if too much waits.
    pub(super) fn push(&self, shared: &Arc<Shared>, request: R, octets: usize) -> Pending<T> {
        let place = match shared.place() {
            Ok(place) => place,
            Err(error) => return Pending::ready(Err(error)),
        };
        let (reply, pending) = Pending::channel();
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Pending::ready(Err(StoreError::Closed));
        }
        if waiting.octets.saturating_add(octets) > WAITING_OCTETS && !waiting.jobs.is_empty() {
            return Pending::ready(Err(StoreError::Overloaded));
        }
        waiting.octets += octets;
        waiting.jobs.push_back(Job { request, octets, reply, _place: place });
        drop(waiting);
        self.bell.notify_one();
        pending
    }

    /// Ends the group's worker when nothing waits any more.
    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.bell.notify_one();
    }

    /// What waits, within the bounds; `None` when it is closed and empty.
    async fn take(&self) -> Option<Vec<Job<R, T>>> {
        loop {
            {
                let mut waiting = self.waiting.lock();
                let mut taken = Vec::new();
                let mut octets = 0;
                while let Some(next) = waiting.jobs.front() {
                    if taken.len() >= MOST || (!taken.is_empty() && octets + next.octets > MOST_OCTETS) {
                        break;
                    }
                    octets += next.octets;
                    taken.extend(waiting.jobs.pop_front());
                }
                waiting.octets -= octets;
                if !taken.is_empty() {
                    return Some(taken);
                }
                if waiting.closed {
                    return None;
                }
            }
            self.bell.notified().await;
        }
    }

    /// Serves the group until it is closed. `run` does all requests in one transaction, or none.
    pub(super) async fn serve<F>(self: Arc<Self>, run: F)
    where
        F: AsyncFn(Arc<Vec<R>>) -> Result<Vec<Result<T, StoreError>>, Fault>,
        R: Clone,
    {
        while let Some(jobs) = self.take().await {
            // Halves of what failed together, the first half first.
            let mut todo = vec![jobs];
            while let Some(mut jobs) = todo.pop() {
                let requests = Arc::new(jobs.iter().map(|job| job.request.clone()).collect::<Vec<R>>());
                match run(requests).await {
                    Ok(answers) => {
                        for (job, answer) in jobs.into_iter().zip(answers) {
                            let _ = job.reply.send(answer);
                        }
                    }
                    Err(Fault::Command(_) | Fault::Exists(_)) if jobs.len() > 1 => {
                        let second = jobs.split_off(jobs.len() / 2);
                        todo.push(second);
                        todo.push(jobs);
                    }
                    Err(fault) => {
                        let error = StoreError::from(fault);
                        for job in jobs {
                            let _ = job.reply.send(Err(error.clone()));
                        }
                    }
                }
            }
        }
    }
}
