//! What is raised now: one entry for each key, however often it is raised. Written down before [`Alerts::raise`] returns,
//! so that a restart forgets nothing.
//!
//! Telling somebody is not done here: this notes, and wakes whoever tells.

use std::collections::BTreeMap;
use std::sync::Arc;

use net::Clock;
use parking_lot::{Mutex, RwLock};
use relay::Relay;
use serde::{Deserialize, Serialize};
use store::{Record, RecordKind, RecordQuery, RecordWrite, RecordWritten, Store, StoreError};
use tokio::sync::Notify;

use super::entry::{Acknowledged, Alert, Entry, Resolved};
use super::rule::{AlertRule, Severity};
use super::setting::Settings;
use super::state::ChannelState;
use crate::cluster;

/// Most alerts that are raised at once; what comes on top is only logged.
const MOST: usize = 10_000;
/// Most entries written at once.
const AT_ONCE: usize = 500;
/// An alert that is raised again without news is written down so seldom, milliseconds.
const AGAIN_MS: i64 = 600_000;

/// An entry, and where it is written down.
pub(super) struct Slot {
    pub(super) entry: Entry,
    pub(super) id: Option<i64>,
    /// It was changed after it was written down.
    dirty: bool,
    /// Nothing is to be told of it any more.
    pub(super) closed: bool,
    written_ms: i64,
}

impl Slot {
    /// Changes the entry; it is written down at the next opportunity.
    pub(super) fn change(&mut self) -> &mut Entry {
        self.dirty = true;
        &mut self.entry
    }

    /// Nothing is to be told of it any more.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.dirty = true;
    }
}

/// What a node tells the one that leads about alerts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertWord {
    /// Something is worth telling.
    Raise(Box<Alert>),
    /// It is over.
    Resolve {
        /// The alert's key.
        key: String,
        /// Why.
        why: String,
    },
    /// All whose keys begin so are over, but these.
    ResolveOthers {
        /// How the keys begin.
        prefix: String,
        /// These still hold.
        still: Vec<String>,
        /// Why the others do not.
        why: String,
    },
    /// Somebody looks after it.
    Acknowledge {
        /// Number.
        id: i64,
        /// Who.
        who: String,
        /// In their words.
        note: Option<String>,
    },
    /// Somebody ended it.
    Close {
        /// Number.
        id: i64,
        /// Why.
        why: String,
    },
}

/// An alert that is raised, and its number.
#[derive(Debug, Clone)]
pub struct Raised {
    /// Number; `None` while it could not be written down.
    pub id: Option<i64>,
    /// The alert.
    pub entry: Entry,
}

/// All alerts.
pub struct Alerts {
    store: Arc<dyn Store>,
    clock: Clock,
    /// Says whether this node leads: without it, it does.
    relay: Option<Arc<Relay>>,
    slots: Mutex<BTreeMap<String, Slot>>,
    /// As of which time that this node leads they were read.
    loaded: tokio::sync::Mutex<Option<u64>>,
    /// One at a time writes, so that what is older never replaces what is newer.
    writing: tokio::sync::Mutex<()>,
    /// What is set.
    pub(super) settings: RwLock<Arc<Settings>>,
    /// How channels are, while the server runs.
    pub(super) states: Mutex<BTreeMap<String, ChannelState>>,
    /// Wakes whoever tells.
    pub(super) wake: Notify,
}

impl Alerts {
    /// With what is written down in the store; it is read when it is needed first.
    pub fn new(store: Arc<dyn Store>, clock: Clock) -> Self {
        Self {
            store,
            clock,
            relay: None,
            slots: Mutex::default(),
            loaded: tokio::sync::Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            settings: RwLock::default(),
            states: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// Where several nodes may run: what is raised is kept by the one that leads.
    pub fn of(mut self, relay: Option<Arc<Relay>>) -> Self {
        self.relay = relay;
        self
    }

    /// Which time it is that this node leads; `None`: another does.
    fn term(&self) -> Option<u64> {
        self.relay.as_ref().map_or(Some(0), |relay| relay.term())
    }

    /// Tells the node that leads. False: it is this one.
    fn tell(&self, word: impl FnOnce() -> AlertWord) -> bool {
        if self.term().is_some() {
            return false;
        }
        if let (Some(relay), Ok(word)) = (&self.relay, serde_json::to_value(cluster::Word::Alert(word()))) {
            relay.tell_leader(word);
        }
        true
    }

    /// What another node has told.
    pub async fn heard(&self, word: AlertWord) {
        match word {
            AlertWord::Raise(alert) => self.raise(*alert).await,
            AlertWord::Resolve { key, why } => self.resolve(&key, &why).await,
            AlertWord::ResolveOthers { prefix, still, why } => self.resolve_others(&prefix, &still, &why).await,
            AlertWord::Acknowledge { id, who, note } => drop(self.acknowledge(id, &who, note).await),
            AlertWord::Close { id, why } => drop(self.close(id, &why).await),
        }
    }

    /// Notes that something is worth telling. Raised again it is not told again, unless it has become worse.
    pub async fn raise(&self, alert: Alert) {
        if !self.tell(|| AlertWord::Raise(Box::new(alert.clone()))) {
            self.raise_here(alert).await;
        }
    }

    /// The same, of what no other node may hear of: the store is away.
    pub async fn raise_here(&self, alert: Alert) {
        if !self.settings.read().is_on(alert.rule) {
            return;
        }
        let _ = self.load().await;
        let alert = alert.bounded();
        let now_ms = self.clock.now_ms();
        if self.note(alert, now_ms) {
            self.flush().await;
            self.wake.notify_one();
        }
    }

    /// True: there is something to tell, or to write down.
    fn note(&self, alert: Alert, now_ms: i64) -> bool {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get_mut(&alert.key) {
            let over = slot.entry.resolved.is_some();
            let news = over || slot.closed || !slot.entry.alert.says_the_same(&alert);
            let worse = alert.severity > slot.entry.alert.severity;
            slot.dirty |= news || now_ms - slot.written_ms >= AGAIN_MS;
            slot.closed = false;
            slot.entry.again(alert, now_ms);
            return over || worse || slot.dirty;
        }
        if slots.len() >= MOST {
            tracing::error!(key = %alert.key, title = %alert.title, "too many alerts are raised: this one is only here");
            return false;
        }
        tracing::warn!(key = %alert.key, rule = alert.rule.as_str(), severity = alert.severity.as_str(), "alert: {}", alert.title);
        let key = alert.key.clone();
        let entry = Entry::new(alert, now_ms);
        slots.insert(key, Slot { entry, id: None, dirty: true, closed: false, written_ms: 0 });
        true
    }

    /// Notes that it is over. Nothing happens if it is not raised.
    pub async fn resolve(&self, key: &str, why: &str) {
        if self.tell(|| AlertWord::Resolve { key: key.to_owned(), why: why.to_owned() }) {
            return;
        }
        let _ = self.load().await;
        let now_ms = self.clock.now_ms();
        {
            let mut slots = self.slots.lock();
            let Some(slot) = slots.get_mut(key).filter(|slot| slot.entry.resolved.is_none()) else { return };
            tracing::info!(key, why, "alert is over: {}", slot.entry.alert.title);
            slot.change().resolved = Some(Resolved { at_ms: now_ms, why: super::entry::cut(why, 1_000) });
        }
        self.flush().await;
        self.wake.notify_one();
    }

    /// Ends all alerts of a rule whose keys begin like this and are not among those that still hold.
    pub async fn resolve_others(&self, prefix: &str, still: &[String], why: &str) {
        let word =
            || AlertWord::ResolveOthers { prefix: prefix.to_owned(), still: still.to_vec(), why: why.to_owned() };
        if self.tell(word) {
            return;
        }
        let _ = self.load().await;
        let over: Vec<String> = {
            let slots = self.slots.lock();
            let begun = slots.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
            let raised = begun.filter(|(_, slot)| slot.entry.resolved.is_none());
            raised.map(|(key, _)| key.clone()).filter(|key| !still.contains(key)).collect()
        };
        for key in over {
            self.resolve(&key, why).await;
        }
    }

    /// Somebody looks after it: nobody else is told. Gives the alert; `None`: it is not raised.
    pub async fn acknowledge(&self, id: i64, who: &str, note: Option<String>) -> Option<Raised> {
        let _ = self.load().await;
        let (now_ms, noted) = (self.clock.now_ms(), note.clone());
        let raised = {
            let mut slots = self.slots.lock();
            let slot = slots.values_mut().find(|slot| slot.id == Some(id) && slot.entry.resolved.is_none())?;
            let entry = slot.change();
            entry.acknowledged.get_or_insert(Acknowledged { at_ms: now_ms, who: who.to_owned(), note });
            Raised { id: Some(id), entry: entry.clone() }
        };
        if self.tell(|| AlertWord::Acknowledge { id, who: who.to_owned(), note: noted.clone() }) {
            return Some(raised);
        }
        self.flush().await;
        self.wake.notify_one();
        Some(raised)
    }

    /// The same by its key.
    pub async fn acknowledge_of(&self, key: &str, who: &str, note: Option<String>) -> Option<Raised> {
        let _ = self.load().await;
        let id = self.slots.lock().get(key).filter(|slot| slot.entry.resolved.is_none()).and_then(|slot| slot.id)?;
        self.acknowledge(id, who, note).await
    }

    /// Ends one by its number, by hand. `None`: it is not raised.
    pub async fn close(&self, id: i64, why: &str) -> Option<()> {
        let _ = self.load().await;
        let key = {
            let slots = self.slots.lock();
            let slot = slots.values().find(|slot| slot.id == Some(id) && slot.entry.resolved.is_none())?;
            slot.entry.alert.key.clone()
        };
        if self.tell(|| AlertWord::Close { id, why: why.to_owned() }) {
            return Some(());
        }
        self.resolve(&key, why).await;
        Some(())
    }

    /// What is raised and not over.
    pub async fn raised(&self) -> Vec<Raised> {
        let _ = self.load().await;
        let slots = self.slots.lock();
        let open = slots.values().filter(|slot| slot.entry.resolved.is_none() && !slot.closed);
        open.map(|slot| Raised { id: slot.id, entry: slot.entry.clone() }).collect()
    }

    /// Whether something is raised under this key and not over.
    pub async fn is_raised(&self, key: &str) -> bool {
        let _ = self.load().await;
        self.slots.lock().get(key).is_some_and(|slot| slot.entry.resolved.is_none() && !slot.closed)
    }

    /// How a channel is.
    pub fn state(&self, channel: &str) -> ChannelState {
        self.states.lock().get(channel).cloned().unwrap_or_default()
    }

    /// How bad an alert is, as the settings say.
    pub fn severity(&self, rule: AlertRule, found: Severity) -> Severity {
        self.settings.read().severity(rule, found)
    }

    /// Whether an entry is to be told here. Where this node only led last, another may lead by now and tell what is written down.
    pub(super) fn tells(&self, slot: &Slot) -> bool {
        !slot.closed && (slot.id.is_none() || self.term().is_some())
    }

    /// Looks at all entries and may change them; what was changed is written down by [`Alerts::flush`].
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<String, Slot>) -> T) -> T {
        work(&mut self.slots.lock())
    }

    /// Threshold of a rule as it is set.
    pub fn threshold(&self, rule: AlertRule) -> f64 {
        self.settings.read().threshold(rule)
    }

    /// Reads settings again.
    pub async fn reload(&self) -> Result<(), StoreError> {
        let settings = Settings::load(&*self.store).await?;
        for problem in &settings.problems {
            tracing::warn!("{problem}");
        }
        *self.settings.write() = Arc::new(settings);
        self.wake.notify_one();
        Ok(())
    }

    /// Reads what an earlier run has left, or another node: once for each time that this node leads, and each time while
    /// another does.
    pub(super) async fn load(&self) -> Result<(), StoreError> {
        let mut loaded = self.loaded.lock().await;
        let term = self.term();
        if term.is_some() && *loaded == term {
            return Ok(());
        }
        // One that hangs would keep back what is to be told of it.
        if let Err(error @ StoreError::Away(_)) = self.store.ready() {
            return Err(error);
        }
        let read = self.read().await.inspect_err(|error| {
            tracing::warn!(%error, "alerts that were raised before cannot be read yet");
        })?;
        let mut slots = self.slots.lock();
        // What was raised meanwhile is newer; of what was known at an earlier time others know better.
        slots.retain(|_, slot| term.is_some() && slot.dirty && slot.id.is_none());
        for (key, slot) in read {
            slots.entry(key).or_insert(slot);
        }
        *loaded = term;
        Ok(())
    }

    async fn read(&self) -> Result<Vec<(String, Slot)>, StoreError> {
        self.reload().await?;
        let (mut after, mut all) = (Some(0), Vec::new());
        loop {
            let query = RecordQuery { after, ..RecordQuery::open(RecordKind::Alert) };
            let page = self.store.records(query).await?;
            let Some(last) = page.last().map(|record| record.id) else { return Ok(all) };
            after = Some(last);
            all.extend(page.into_iter().filter_map(|record| Some((record.name.clone(), slot_of(record)?))));
        }
    }

    /// Writes down what was changed. What cannot be written stays in memory, and is told all the same.
    pub(super) async fn flush(&self) {
        if self.term().is_none() {
            return;
        }
        let _one = self.writing.lock().await;
        loop {
            let batch = self.changed();
            if batch.is_empty() {
                return;
            }
            let (keys, writes): (Vec<String>, Vec<RecordWrite>) = batch.into_iter().unzip();
            match self.store.write_records(writes).await {
                Ok(written) => self.written(&keys, &written),
                Err(error) => {
                    tracing::warn!(%error, "alerts are not written down yet");
                    let mut slots = self.slots.lock();
                    for key in keys {
                        if let Some(slot) = slots.get_mut(&key) {
                            slot.dirty = true;
                        }
                    }
                    // Stays for the next time; nothing waits for it.
                    return;
                }
            }
        }
    }

    /// What has to be written, marked as written; an error marks it again.
    fn changed(&self) -> Vec<(String, RecordWrite)> {
        let now_ms = self.clock.now_ms();
        let mut slots = self.slots.lock();
        let dirty = slots.iter_mut().filter(|(_, slot)| slot.dirty).take(AT_ONCE);
        dirty
            .map(|(key, slot)| {
                slot.dirty = false;
                slot.written_ms = now_ms;
                let (kind, open) = (RecordKind::Alert, !slot.closed);
                let body = serde_json::to_value(&slot.entry).unwrap_or_default();
                let write = match slot.id {
                    Some(id) => RecordWrite::Change { kind, id, version: None, open, body },
                    None => RecordWrite::Add { kind, name: key.clone(), open, at_ms: slot.entry.first_ms, body },
                };
                (key.clone(), write)
            })
            .collect()
    }

    fn written(&self, keys: &[String], written: &[RecordWritten]) {
        let mut slots = self.slots.lock();
        for (key, written) in keys.iter().zip(written) {
            let Some(slot) = slots.get_mut(key) else { continue };
            match written {
                RecordWritten::Added(id) => slot.id = Some(*id),
                // One that an earlier run has left and that could not be read: it goes on.
                RecordWritten::There(id) => {
                    slot.id = Some(*id);
                    slot.dirty = true;
                }
                // It was removed: it is written anew.
                RecordWritten::Missing | RecordWritten::Removed | RecordWritten::Stale => {
                    slot.id = None;
                    slot.dirty = !slot.closed;
                }
                RecordWritten::Changed(_) => {}
            }
            if slot.closed && !slot.dirty {
                slots.remove(key);
            }
        }
    }
}

fn slot_of(record: Record) -> Option<Slot> {
    match serde_json::from_value::<Entry>(record.body) {
        Ok(entry) => Some(Slot { entry, id: Some(record.id), dirty: false, closed: false, written_ms: record.at_ms }),
        Err(error) => {
            tracing::warn!(%error, id = record.id, "an alert cannot be read and is left out");
            None
        }
    }
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
