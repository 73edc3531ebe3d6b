//! A batch on its way in: what all its messages have in common is checked once, rows are stored out of sight as they come,
//! and one transaction at the end makes the whole visible.

use std::sync::Arc;

use proto::Address;
use store::{BatchAccepted, BatchCommit, BatchId, Idempotency, NewBatch, NewRow, Pending};

use crate::accept::{Door, may_not_use, no_route, stream_named};
use crate::directory::Directory;
use crate::refusal::{Refusal, RefusalKind};
use crate::sender::Sender;
use crate::shared::Shared;

/// What is stored with a batch besides its rows.
#[derive(Debug, Clone)]
pub struct BatchOptions {
    /// For lists.
    pub label: String,
    /// No row becomes a message before, Unix milliseconds.
    pub start_ms: Option<i64>,
    /// The rows are spread evenly over this many milliseconds.
    pub spread_ms: Option<i64>,
    /// Everything but the last hop.
    pub test: bool,
    /// What the [`super::Renderer`] reads.
    pub body: String,
}

/// A batch that is coming in. Dropped without a commit, it never was.
#[derive(Debug)]
pub struct BatchIntake {
    shared: Arc<Shared>,
    directory: Arc<Directory>,
    sender: Arc<Sender>,
    stream: Arc<str>,
    from_domain: String,
    id: BatchId,
    begun: bool,
}

impl Door {
    /// Whether this sender may submit a batch from this address, in this stream.
    pub fn batch(&self, sender: &Arc<Sender>, from: &Address, stream: Option<&str>) -> Result<BatchIntake, Refusal> {
        self.ready()?;
        if sender.record.disabled {
            return Err(Refusal::new(RefusalKind::Forbidden, 550, format!("5.7.1 Sender {} is disabled", sender.name)));
        }
        if !sender.may_use(from) {
            return Err(may_not_use(sender, from, ""));
        }
        let stream = stream_named(stream.or(sender.record.stream.as_deref()))?;
        let shared = &self.shared;
        Ok(BatchIntake {
            shared: shared.clone(),
            directory: shared.directory(),
            sender: sender.clone(),
            stream,
            from_domain: from.domain().to_owned(),
            id: BatchId(shared.store.next_id(shared.now_ms()).0),
            begun: false,
        })
    }
}

impl BatchIntake {
    /// The batch's name.
    pub fn id(&self) -> BatchId {
        self.id
    }

    /// Its messages' stream.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// Most octets a message of this sender may have.
    pub fn max_size(&self) -> u64 {
        self.sender.record.max_size.unwrap_or(u64::MAX).min(self.shared.config.max_message_size)
    }

    /// Where its messages would go.
    pub fn routes(&self) -> Routes {
        Routes { directory: self.directory.clone(), from_domain: self.from_domain.clone(), stream: self.stream.clone() }
    }

    /// Begins to store it, out of sight.
    pub async fn begin(&mut self, options: BatchOptions) -> Result<(), Refusal> {
        let now_ms = self.shared.now_ms();
        let batch = NewBatch {
            id: self.id,
            by: self.shared.run,
            sender: self.sender.name.clone(),
            stream: self.stream.clone(),
            label: options.label,
            created_ms: now_ms,
            start_ms: options.start_ms.unwrap_or(now_ms).max(now_ms),
            spread_ms: options.spread_ms,
            test: options.test,
            body: options.body,
        };
        self.begun = true;
        self.shared.store.begin_batch(batch).await.map_err(Refusal::from)
    }

    /// Stores more rows, out of sight.
    pub fn add(&self, rows: Vec<NewRow>) -> Pending<()> {
        self.shared.store.add_rows(self.id, rows)
    }

    /// Makes it visible with all its rows: durable when this returns `Ok`. Gives the name of the batch there is now: that of an
    /// earlier one if the key was used before for the same request.
    pub async fn commit(mut self, rows: u32, idempotency: Option<(String, [u8; 32])>) -> Result<BatchId, Refusal> {
        let now_ms = self.shared.now_ms();
        let idempotency = idempotency.map(|(key, fingerprint)| Idempotency {
            sender: self.sender.name.clone(),
            key,
            fingerprint,
            answer: self.id.to_string(),
        });
        let accepted = self.shared.store.commit_batch(self.id, BatchCommit { rows, idempotency, now_ms }).await?;
        self.begun = false;
        let conflict =
            || Refusal::new(RefusalKind::KeyConflict, 554, "5.6.0 Idempotency-Key was used for another request");
        match accepted {
            BatchAccepted::Committed => {
                self.shared.batch_wake.notify_one();
                Ok(self.id)
            }
            // A message's answer looks alike, but was given for another body.
            BatchAccepted::Replayed(answer) => answer.parse().map_err(|_| conflict()),
            BatchAccepted::KeyConflict => Err(conflict()),
        }
    }
}

/// Where the messages of a batch would go now.
#[derive(Debug, Clone)]
pub struct Routes {
    directory: Arc<Directory>,
    from_domain: String,
    stream: Arc<str>,
}

impl Routes {
    /// Why there can be no message for a recipient.
    pub fn check(&self, address: &Address) -> Result<(), String> {
        match self.directory.route_for(&self.from_domain, address.domain(), &self.stream) {
            Some(_) => Ok(()),
            None => Err(no_route(&self.directory, address).detail()),
        }
    }
}

impl Drop for BatchIntake {
    fn drop(&mut self) {
        if self.begun {
            // Should it not get through, the next start removes the rows.
            drop(self.shared.store.drop_batch(self.id));
        }
    }
}
