//! What nodes tell the one that leads: failures, what goes well beside them, and what others above the relay have to say.
//!
//! Words are records, written in batches and taken away by whoever leads. What cannot be written waits here, bounded; what finds
//! no room is lost: it costs exactness of what is counted, never mail.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Cause, MessageId, RecordKind, RecordQuery, RecordWrite, StoreError};
use tokio::sync::{Notify, mpsc};

use crate::brake;
use crate::incident::Sample;
use crate::incident::watch;
use crate::rates;
use crate::run::Relay;
use crate::shared::Shared;

/// How long words wait for others to go with.
const GATHER: Duration = Duration::from_millis(100);
/// How often the one that leads looks for words.
const LOOK: Duration = Duration::from_millis(500);
/// Words that wait to be written.
const MOST: usize = 2_000;
/// Failures beyond so many that wait are added to ones that are alike.
const APART: usize = 100;
/// Combinations of sender, stream, route and provider whose deliveries are counted between two words.
const SERIES: usize = 2_000;
/// Of these told with one word.
const TOOK: usize = 200;
/// Words of one record.
const TOGETHER: usize = 40;
/// Records read at once.
const PAGE: u32 = 100;
/// Words for others that wait to be heard.
const OTHERS: usize = 1_000;
/// Failures and successes that nobody heard for so long say nothing any more, milliseconds.
const STALE_MS: i64 = 120_000;

/// Something that the leading node has to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Word {
    /// An attempt failed.
    Failed { sample: Box<Sample>, message: i64, cause: Arc<Cause> },
    /// Attempts that went well.
    Fine(Box<Sample>),
    /// A next hop failed as a whole, where a brake was coming off.
    Again { route: Arc<str>, destination: Arc<str>, cause: Box<Cause> },
    /// A credential was rejected.
    Rejected { route: Arc<str>, cause: Box<Cause> },
    /// A credential that was rejected is accepted again.
    Accepted { route: Arc<str> },
    /// An operator thinks that what is braked is worth a try.
    Hasten,
    /// Recipients that next hops took.
    Took(Vec<(rates::Series, u64)>),
    /// For whoever is above the relay.
    Other(Value),
}

impl Word {
    /// Adds a failure to one that is like it.
    fn takes(&mut self, other: &Self) -> bool {
        let (Self::Failed { sample, cause, .. }, Self::Failed { sample: more, cause: why, .. }) = (self, other) else {
            return false;
        };
        let alike = sample.route == more.route
            && sample.rule == more.rule
            && sample.domain == more.domain
            && sample.sender_domain == more.sender_domain
            && sample.stream == more.stream
            && cause.stage == why.stage;
        if alike {
            sample.recipients = sample.recipients.saturating_add(more.recipients);
            sample.at_ms = sample.at_ms.max(more.at_ms);
        }
        alike
    }

    /// How things went a while ago, which says nothing about how they go.
    fn is_evidence(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Fine(_))
    }
}

/// Words on their way.
#[derive(Debug)]
pub(crate) struct Words {
    waiting: Mutex<VecDeque<Word>>,
    wake: Notify,
    took: Mutex<HashMap<rates::Series, u64>>,
    others: mpsc::Sender<Value>,
    heard: Mutex<Option<mpsc::Receiver<Value>>>,
}

impl Default for Words {
    fn default() -> Self {
        let (others, heard) = mpsc::channel(OTHERS);
        Self {
            waiting: Mutex::default(),
            wake: Notify::new(),
            took: Mutex::default(),
            others,
            heard: Mutex::new(Some(heard)),
        }
    }
}

impl Words {
    /// Says it to whoever leads.
    pub(crate) fn say(&self, word: Word) {
        {
            let mut waiting = self.waiting.lock();
            let crowded = waiting.len() >= APART;
            if crowded && waiting.iter_mut().any(|known| known.takes(&word)) {
                return;
            }
            if waiting.len() >= MOST {
                return;
            }
            waiting.push_back(word);
        }
        self.wake.notify_one();
    }

    /// Recipients that a next hop took: told now and then, all together.
    pub(crate) fn took(&self, series: &rates::Series, recipients: u64) {
        let mut took = self.took.lock();
        if let Some(known) = took.get_mut(series) {
            *known += recipients;
        } else if took.len() < SERIES {
            took.insert(series.clone(), recipients);
        }
    }

    /// Tells what was taken since the last time.
    pub(crate) fn tell_took(&self) {
        let took: Vec<_> = std::mem::take(&mut *self.took.lock()).into_iter().collect();
        for some in took.chunks(TOOK) {
            self.say(Word::Took(some.to_vec()));
        }
    }

    fn take(&self, most: usize) -> Vec<Word> {
        let mut waiting = self.waiting.lock();
        let most = most.min(waiting.len());
        waiting.drain(..most).collect()
    }

    fn put_back(&self, words: Vec<Word>) {
        let mut waiting = self.waiting.lock();
        words.into_iter().rev().for_each(|word| waiting.push_front(word));
    }
}

/// Writes words down as they come, until the relay stops.
pub(crate) async fn post(shared: Arc<Shared>) {
    while !shared.is_stopping() {
        tokio::select! {
            () = shared.words.wake.notified() => {}
            () = shared.stopping.cancelled() => {}
        }
        tokio::select! {
            () = tokio::time::sleep(GATHER) => {}
            () = shared.stopping.cancelled() => {}
        }
        loop {
            let words = shared.words.take(TOGETHER);
            if words.is_empty() {
                break;
            }
            match write(&shared, &words).await {
                Ok(()) => {}
                Err(StoreError::Closed) => return,
                // Too long to be written is too long to be waited for.
                Err(StoreError::Invalid(error)) => tracing::warn!(%error, "the leading node is not told something"),
                Err(error) => {
                    tracing::debug!(%error, "the leading node is not told yet");
                    shared.words.put_back(words);
                    tokio::select! {
                        () = tokio::time::sleep(LOOK) => {}
                        () = shared.stopping.cancelled() => return,
                    }
                }
            }
        }
    }
}

async fn write(shared: &Shared, words: &[Word]) -> Result<(), StoreError> {
    let body = serde_json::to_value(words).map_err(|error| StoreError::Internal(error.to_string()))?;
    let (kind, name, at_ms) = (RecordKind::Word, shared.config.node.clone(), shared.now_ms());
    let add = |body| RecordWrite::Add { kind, name: name.clone(), open: false, at_ms, body };
    if body.to_string().len() <= store::MOST_RECORD_BODY || words.len() == 1 {
        return shared.store.write_records(vec![add(body)]).await.map(drop);
    }
    let mut writes = Vec::with_capacity(words.len());
    for word in words {
        let body = serde_json::to_value([word]).map_err(|error| StoreError::Internal(error.to_string()))?;
        if body.to_string().len() <= store::MOST_RECORD_BODY {
            writes.push(add(body));
        }
    }
    shared.store.write_records(writes).await.map(drop)
}

/// Hears what others say while this node leads, until the relay stops.
pub(crate) async fn hear(shared: Arc<Shared>) {
    while shared.until_lead().await {
        match listen(&shared).await {
            Ok(()) => {}
            Err(StoreError::Closed) => return,
            Err(error) => tracing::debug!(%error, "what other nodes tell is not heard yet"),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shared.stopping.cancelled() => return,
        }
    }
}

async fn listen(shared: &Arc<Shared>) -> Result<(), StoreError> {
    loop {
        let query = RecordQuery { after: Some(0), limit: PAGE, ..RecordQuery::of(RecordKind::Word) };
        let page = shared.store.records(query).await?;
        if page.is_empty() {
            return Ok(());
        }
        let full = page.len() == PAGE as usize;
        let gone = page.iter().map(|record| RecordWrite::Remove { kind: RecordKind::Word, id: record.id }).collect();
        // Taken away first: whoever takes over meanwhile hears none of them a second time.
        shared.store.write_records(gone).await?;
        for record in page {
            let stale = shared.now_ms() - record.at_ms > STALE_MS;
            let Value::Array(words) = record.body else { continue };
            for word in words {
                // A node of a later version may have words that we do not know.
                let Ok(word) = serde_json::from_value::<Word>(word) else { continue };
                if !(stale && word.is_evidence()) {
                    heed(shared, word).await;
                }
            }
        }
        if !full || !shared.leads() {
            return Ok(());
        }
    }
}

async fn heed(shared: &Arc<Shared>, word: Word) {
    match word {
        Word::Failed { sample, message, cause } => watch::heard(shared, *sample, MessageId(message), cause),
        Word::Fine(sample) => watch::heard_fine(shared, *sample),
        Word::Again { route, destination, cause } => {
            if let Some(route) = shared.directory().route(&route).cloned() {
                brake::noticed(shared, &route, &destination, || *cause);
            }
        }
        Word::Rejected { route, cause } => brake::rejected(shared, &route, *cause),
        Word::Accepted { route } => brake::accepted(shared, &route),
        Word::Hasten => brake::hasten(shared),
        Word::Took(took) => rates::watch::heard(shared, took),
        Word::Other(value) => {
            if shared.words.others.send(value).await.is_err() {
                tracing::debug!("nobody hears what other nodes tell");
            }
        }
    }
}

impl Shared {
    /// Another node has to know this; false: this one leads, and does it itself.
    pub(crate) fn tells(&self, word: impl FnOnce() -> Word) -> bool {
        if self.leads() {
            return false;
        }
        self.words.say(word());
        true
    }
}

impl Relay {
    /// Tells the node that leads.
    pub fn tell_leader(&self, word: Value) {
        self.shared().words.say(Word::Other(word));
    }

    /// What other nodes tell, while this one leads; there is one to hear it.
    pub fn told(&self) -> Option<mpsc::Receiver<Value>> {
        self.shared().words.heard.lock().take()
    }
}

#[cfg(test)]
mod tests {
    use proto::transcript::Failure;

    use super::*;

    fn failed(domain: &str, recipients: u32) -> Word {
        let sample = Sample {
            at_ms: 1,
            failed: Some("x".into()),
            rule: Some("x".into()),
            route: "out".into(),
            provider: None,
            destination: "out".into(),
            domain: domain.into(),
            address: "a@x".into(),
            sender_domain: "s".into(),
            sender: "app".into(),
            stream: "default".into(),
            source: None,
            peer: None,
            recipients,
        };
        let cause = Cause {
            stage: proto::transcript::Stage::Recipient,
            failure: Failure::Refused(proto::smtp::reply::Reply::new(451, "4.3.0 later")),
            provider: None,
            rule: Some("x".into()),
            unknown_via: None,
        };
        Word::Failed { sample: Box::new(sample), message: 7, cause: cause.into() }
    }

    #[test]
    fn words_read_back_and_failures_that_are_many_become_one_that_stands_for_them() {
        let word = failed("example.net", 3);
        let text = serde_json::to_string(&word).unwrap();
        assert_eq!(serde_json::from_str::<Word>(&text).unwrap(), word);
        let words = Words::default();
        for n in 0..APART + 50 {
            words.say(failed(if n % 2 == 0 { "a.example" } else { "b.example" }, 1));
        }
        let all = words.take(usize::MAX);
        assert_eq!(all.len(), APART);
        let recipients = |word: &Word| match word {
            Word::Failed { sample, .. } => sample.recipients,
            _ => 0,
        };
        assert_eq!(all.iter().map(recipients).sum::<u32>() as usize, APART + 50);
    }
}
