//! Batches: many messages from one template. Rows wait in the store and are rendered when there is room for them.
//!
//! [`intake`] takes a batch in, whole or not at all; [`feed`] makes ordinary messages of its rows, through the same door as all
//! mail; this file changes its state. What a template is, only the [`Renderer`] knows.

mod feed;
mod intake;

use std::fmt::Debug;
use std::sync::Arc;

use proto::Envelope;
use store::{BatchChange, BatchId, BatchView, Operation, RecipientView, RowRef, Selector, State, Store, StoreError};

pub(crate) use feed::run;
pub use intake::{BatchIntake, BatchOptions, Routes};

use crate::run::Relay;
use crate::sender::Sender;

/// Priority of batches that ask for none: bulk.
pub const BATCH_PRIORITY: u8 = 3;
/// Messages of a test that are kept in the capture mailbox: the first rows'.
pub const CAPTURED_ROWS: u32 = 100;
/// Beginning of the reason why a paused batch's messages are held.
const PAUSED: &str = "batch paused";
/// Recipients looked at in one step.
const PAGE: u32 = 1_000;

/// Reads the bodies of batches.
pub trait Renderer: Send + Sync + Debug {
    /// A batch's template with its options, from its body as it was stored. The error is for people.
    fn open(&self, body: &str) -> Result<Arc<dyn Template>, String>;
    /// A sender that is in no directory.
    fn sender(&self, name: &str) -> Option<Arc<Sender>>;
}

/// A batch's template with its options.
pub trait Template: Send + Sync {
    /// The message of a row; the error says why there can be none. Blocks for as long as it takes.
    fn render(&self, data: &str, now_ms: i64) -> Result<Rendered, String>;
}

/// A message made from a row.
#[derive(Debug)]
pub struct Rendered {
    /// One recipient.
    pub envelope: Envelope,
    /// CRLF lines.
    pub content: Vec<u8>,
    /// It has octets over 127.
    pub eight_bit: bool,
    /// Octets of its longest line, without CRLF.
    pub longest_line: usize,
    /// The batch's tags.
    pub tags: Vec<String>,
    /// The batch's metadata.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Not after, Unix milliseconds.
    pub deliver_by_ms: Option<i64>,
    /// See [`BatchPart::priority`].
    pub priority: u8,
}

/// What a message is, besides a message, that is made from a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchPart {
    /// The row.
    pub row: RowRef,
    /// 0 to 3; never more urgent than its stream.
    pub priority: u8,
    /// Everything but the last hop.
    pub test: bool,
}

/// What an operator does to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// No more messages are made, and those that were made and not sent are held.
    Pause,
    /// It goes on, with what the pause held.
    Resume,
    /// Rows that are left never become messages; messages that were not sent are withdrawn.
    Cancel,
}

impl Relay {
    /// Does to a batch what an operator wants, also to what is in memory.
    pub async fn change_batch(&self, id: BatchId, wish: Wish, who: &str) -> Result<BatchView, StoreError> {
        let shared = self.shared();
        let at = Place { store: &*shared.store, relay: Some(self), who, now_ms: shared.now_ms() };
        let view = at.change(id, wish).await;
        shared.batch_wake.notify_one();
        shared.due_at(i64::MIN);
        view
    }

    /// There may be something to do for a batch.
    pub fn batches_changed(&self) {
        self.shared().batch_wake.notify_one();
    }
}

/// The same where no relay runs.
pub async fn change_stored(
    store: &dyn Store,
    id: BatchId,
    wish: Wish,
    who: &str,
    now_ms: i64,
) -> Result<BatchView, StoreError> {
    Place { store, relay: None, who, now_ms }.change(id, wish).await
}

/// Where a wish is granted, and whose it is.
struct Place<'a> {
    store: &'a dyn Store,
    relay: Option<&'a Relay>,
    who: &'a str,
    now_ms: i64,
}

impl Place<'_> {
    async fn change(&self, id: BatchId, wish: Wish) -> Result<BatchView, StoreError> {
        let of_batch = Selector { batch: Some(id), ..Selector::default() };
        let why = format!("by {}", self.who);
        match wish {
            Wish::Pause => {
                let view = self.store.change_batch(id, BatchChange::Pause { why }, self.now_ms).await?;
                self.operate(of_batch, Operation::Hold(format!("{PAUSED} by {}", self.who))).await?;
                Ok(view)
            }
            Wish::Resume => {
                let view = self.store.change_batch(id, BatchChange::Resume, self.now_ms).await?;
                // What somebody else held stays held. None of it is in memory.
                for held in paused(self.store, of_batch).await? {
                    let one = Selector { message: Some(held.id.message), n: Some(held.id.n), ..Selector::default() };
                    self.store.operate(one, Operation::Release, self.who.to_owned(), self.now_ms).await?;
                }
                Ok(view)
            }
            Wish::Cancel => {
                let view = self.store.change_batch(id, BatchChange::Cancel { why }, self.now_ms).await?;
                self.operate(of_batch, Operation::Cancel).await?;
                Ok(view)
            }
        }
    }

    async fn operate(&self, selector: Selector, operation: Operation) -> Result<u64, StoreError> {
        match self.relay {
            Some(relay) => relay.operate(selector, operation, self.who.to_owned()).await,
            None => self.store.operate(selector, operation, self.who.to_owned(), self.now_ms).await,
        }
    }
}

/// Recipients that a pause holds.
async fn paused(store: &dyn Store, of_batch: Selector) -> Result<Vec<RecipientView>, StoreError> {
    let selector = Selector { state: Some(State::Held), ..of_batch };
    let mut held: Vec<RecipientView> = Vec::new();
    let mut after = None;
    loop {
        let page = store.recipients(selector.clone(), after, PAGE).await?;
        after = page.last().map(|view| view.id);
        let whole = page.len() < PAGE as usize;
        held.extend(page.into_iter().filter(|view| view.why.as_deref().is_some_and(|why| why.starts_with(PAUSED))));
        if whole {
            return Ok(held);
        }
    }
}
