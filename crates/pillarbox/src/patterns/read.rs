//! Failures from the event log: where a time begins is found by halving, and only a bounded number of events is looked at.

use std::collections::HashMap;

use explain::RuleBase;
use store::{Event, EventKind, Store, StoreError};

use super::Fact;
use crate::http::finding::FindingOut;

/// Failures that are looked at; of more the newest.
const MOST: usize = 100_000;
/// Events asked for at once, and how often.
const PAGE: u32 = 1_000;
const PAGES: usize = 2_000;
const KINDS: [EventKind; 4] = [EventKind::Deferred, EventKind::Failed, EventKind::Expired, EventKind::Bounced];

/// What was read.
#[derive(Debug)]
pub struct Gathered {
    /// Failures, oldest first.
    pub facts: Vec<Fact>,
    /// From when all of them are there, Unix milliseconds.
    pub from_ms: i64,
}

/// The failures since a time.
pub async fn gather(store: &dyn Store, rules: &RuleBase, from_ms: i64) -> Result<Gathered, StoreError> {
    let mut seq = start(store, from_ms).await?;
    let mut known = HashMap::new();
    let mut facts = std::collections::VecDeque::new();
    let mut from_ms = from_ms;
    for _ in 0..PAGES {
        let page = store.events_of(seq, KINDS.to_vec(), PAGE).await?;
        for event in &page.events {
            if event.at_ms < from_ms {
                continue;
            }
            facts.extend(fact(event, rules, &mut known));
            if facts.len() > MOST {
                facts.pop_front();
                from_ms = facts.front().map_or(from_ms, |oldest: &Fact| oldest.at_ms);
            }
        }
        if page.upto <= seq {
            break;
        }
        seq = page.upto;
    }
    Ok(Gathered { facts: facts.into(), from_ms })
}

/// An event before which all are older.
async fn start(store: &dyn Store, from_ms: i64) -> Result<i64, StoreError> {
    let is_older = async |seq: i64| -> Result<bool, StoreError> {
        let next = store.events_after(seq, 1).await?;
        Ok(next.first().is_some_and(|event| event.at_ms < from_ms))
    };
    let mut high = 1_024;
    while is_older(high).await? && high < i64::MAX / 4 {
        high *= 2;
    }
    let mut low = 0;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if is_older(middle).await? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// What is known of a rule's words.
type Known = HashMap<String, (String, String, String)>;

fn fact(event: &Event, rules: &RuleBase, known: &mut Known) -> Option<Fact> {
    let cause = event.detail.cause.as_ref()?;
    let rule = match &cause.rule {
        Some(rule) if rules.rule(rule).is_some() => rule.to_string(),
        // The rule is gone, or none was written down: judged anew.
        _ => FindingOut::of(rules, cause)?.rule,
    };
    let (reason, owner, title) = match known.get(&rule) {
        Some(words) => words.clone(),
        None => {
            let words = FindingOut::of_rule(rules, &rule)?;
            let words = (words.reason, words.owner, words.title);
            known.insert(rule.clone(), words.clone());
            words
        }
    };
    let attempt = event.detail.attempt.as_ref();
    Some(Fact {
        at_ms: event.at_ms,
        rule,
        reason,
        owner,
        title,
        stage: crate::http::words::stage(cause.stage).to_owned(),
        route: attempt.map(|attempt| attempt.route.to_string()),
        provider: cause.provider.as_ref().map(ToString::to_string),
        last: event.kind != EventKind::Deferred,
    })
}
