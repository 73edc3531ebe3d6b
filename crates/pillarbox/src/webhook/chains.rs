//! What is told in one go: items in chains, one chain for each recipient, so that no event overtakes an older one of its own.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use store::{HookDelivery, HookProgress, HookSource, HookWaiting};

use super::payload::Request;
use super::post::Answer;
use crate::http::time;

/// Where an item comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// Read behind the cursor.
    Fresh,
    /// Among those that waited.
    Waiting,
}

/// Something to tell.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) from: From,
    /// As it is noted while it waits.
    pub(super) note: HookWaiting,
    /// `None`: what it is about is no longer kept.
    pub(super) request: Option<Request>,
}

/// What became of an item.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fate {
    /// The endpoint took it.
    Taken(Answer),
    /// It is tried again at this moment, Unix milliseconds.
    Again(Answer, i64),
    /// It was tried for long enough.
    GivenUp(Answer),
    /// There is nothing to tell any more.
    Gone,
    /// It was not its turn.
    Untried,
}

/// How an attempt ended, in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// The endpoint took it.
    Taken,
    /// It will be tried again.
    Again,
    /// It will not be tried again.
    GivenUp,
}

/// An entry of the delivery log. Field names are a promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logged {
    /// Id of the event, as in `webhook-id`.
    pub event: String,
    /// What happened.
    pub kind: String,
    /// Address it is about.
    pub address: String,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// How it ended.
    pub result: Ended,
    /// Next attempt, RFC 3339.
    pub next: Option<String>,
    /// What the endpoint said; none if there was nothing left to tell.
    pub answer: Option<Answer>,
}

/// Puts fresh items of one key behind each other; every item that waited is alone.
pub(super) fn chains(waited: Vec<Item>, fresh: Vec<Item>) -> Vec<Vec<Item>> {
    let mut chains: Vec<Vec<Item>> = waited.into_iter().map(|item| vec![item]).collect();
    let mut places: HashMap<i64, usize> = HashMap::new();
    for item in fresh {
        let place = *places.entry(item.note.key).or_insert(chains.len());
        match chains.get_mut(place) {
            Some(chain) => chain.push(item),
            None => chains.push(vec![item]),
        }
    }
    chains
}

/// Adds what became of an item to a step.
pub(super) fn note(progress: &mut HookProgress, item: &Item, fate: &Fate, now_ms: i64) {
    let mut waits = item.note;
    let known = item.from == From::Waiting;
    let done = (waits.source, waits.seq, waits.n);
    let attempt = waits.attempts.saturating_add(1);
    match fate {
        Fate::Taken(_) | Fate::GivenUp(_) | Fate::Gone if known => progress.done.push(done),
        Fate::Taken(_) | Fate::GivenUp(_) | Fate::Gone => {}
        Fate::Again(_, due_ms) => {
            waits.attempts = attempt;
            waits.due_ms = *due_ms;
            if waits.first_ms == 0 {
                waits.first_ms = now_ms;
            }
            progress.waiting.push(waits);
        }
        Fate::Untried if known => {}
        Fate::Untried => progress.waiting.push(waits),
    }
    let (result, next, answer) = match fate {
        Fate::Taken(answer) => (Ended::Taken, None, Some(answer)),
        Fate::Again(answer, due_ms) => (Ended::Again, Some(time::show(*due_ms)), Some(answer)),
        Fate::GivenUp(answer) => (Ended::GivenUp, None, Some(answer)),
        Fate::Gone => (Ended::GivenUp, None, None),
        Fate::Untried => return,
    };
    let request = item.request.as_ref();
    let logged = Logged {
        event: request.map_or_else(|| format!("{}.{}", waits.seq, waits.n), |request| request.id.clone()),
        kind: request.map_or("gone", |request| request.kind).to_owned(),
        address: request.map_or_else(String::new, |request| request.about.clone()),
        attempt,
        result,
        next,
        answer: answer.cloned(),
    };
    let body = serde_json::to_value(logged).unwrap_or_default();
    progress.log.push(HookDelivery { id: 0, at_ms: now_ms, taken: result == Ended::Taken, body });
}

/// How many more wait after a step, and how many fewer.
pub(super) fn difference(progress: &HookProgress, items: &[(Item, Fate)]) -> (u64, u64) {
    let fresh =
        |(item, fate): &&(Item, Fate)| item.from == From::Fresh && matches!(fate, Fate::Again(..) | Fate::Untried);
    (items.iter().filter(fresh).count() as u64, progress.done.len() as u64)
}

/// A note of something that was not tried yet.
pub(super) fn untried(source: HookSource, seq: i64, n: u32, key: i64, now_ms: i64) -> HookWaiting {
    HookWaiting { source, seq, n, key, attempts: 0, first_ms: 0, due_ms: now_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(from: From, seq: i64, key: i64) -> Item {
        Item { from, note: untried(HookSource::Event, seq, 0, key, 5), request: None }
    }

    fn answer() -> Answer {
        Answer {
            status: Some(500),
            problem: "status 500".into(),
            advice: None,
            body: String::new(),
            peer: None,
            took_ms: 1,
            retry_after: None,
        }
    }

    #[test]
    fn events_of_one_recipient_are_behind_each_other() {
        let fresh = [(1, 7), (2, 8), (3, 7), (4, 9), (5, 8)].map(|(seq, key)| item(From::Fresh, seq, key));
        let chains = chains(vec![item(From::Waiting, 0, 6)], fresh.to_vec());
        let seqs: Vec<Vec<i64>> = chains.iter().map(|chain| chain.iter().map(|item| item.note.seq).collect()).collect();
        assert_eq!(seqs, [vec![0], vec![1, 3], vec![2, 5], vec![4]]);
    }

    #[test]
    fn what_was_taken_is_forgotten_and_what_was_not_waits() {
        let mut progress = HookProgress::default();
        let fates = [
            (item(From::Fresh, 1, 1), Fate::Taken(answer())),
            (item(From::Fresh, 2, 1), Fate::Again(answer(), 99)),
            (item(From::Fresh, 3, 1), Fate::Untried),
            (item(From::Waiting, 4, 1), Fate::Taken(answer())),
            (item(From::Waiting, 5, 1), Fate::Untried),
            (item(From::Waiting, 6, 1), Fate::GivenUp(answer())),
            (item(From::Waiting, 7, 1), Fate::Gone),
        ];
        for (item, fate) in &fates {
            note(&mut progress, item, fate, 50);
        }
        let done: Vec<i64> = progress.done.iter().map(|(_, seq, _)| *seq).collect();
        assert_eq!(done, [4, 6, 7]);
        let waiting: Vec<_> =
            progress.waiting.iter().map(|one| (one.seq, one.attempts, one.first_ms, one.due_ms)).collect();
        assert_eq!(waiting, [(2, 1, 50, 99), (3, 0, 0, 5)]);
        let results: Vec<&str> = progress.log.iter().map(|entry| entry.body["result"].as_str().unwrap()).collect();
        assert_eq!(results, ["taken", "again", "taken", "given_up", "given_up"]);
        assert_eq!(difference(&progress, &fates), (2, 3));
    }
}
