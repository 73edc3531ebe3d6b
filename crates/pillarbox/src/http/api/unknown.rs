//! Stored failures by kind: which replies the rules know, and which they do not. A bounded look at the newest events.

use std::collections::HashMap;

use axum::extract::State;
use explain::{Normal, Query as Question, RuleBase};
use proto::smtp::reply::escape;
use proto::transcript::{Failure, Stage};
use serde::{Deserialize, Serialize};
use store::{Cause, Event, Store, StoreError};

use crate::http::Shared;
use crate::http::auth::Admin;
use crate::http::json::Query;
use crate::http::problem::Problem;
use crate::http::time;
use crate::http::views::Page;

/// Events looked at without a wish.
const EVENTS: u32 = 10_000;
/// Most events looked at.
const MOST_EVENTS: u32 = 100_000;
/// Events read at once.
const AT_ONCE: u32 = 1000;
/// Most kinds told.
const MOST_KINDS: usize = 2000;

/// How far to look, and for what.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Look {
    /// The newest so many events.
    events: Option<u32>,
    /// Only kinds whose words no rule knows.
    unknown: bool,
}

/// Failures that differ only in names and numbers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FailureKindOut {
    /// How many recipients met it.
    pub count: u64,
    /// First of them, RFC 3339.
    pub first_seen: String,
    /// Last of them, RFC 3339.
    pub last_seen: String,
    /// Where in the conversation.
    pub stage: Stage,
    /// Provider that spoke, if known.
    pub provider: Option<String>,
    /// The rule that fits now.
    pub rule: Option<String>,
    /// No rule knows the words.
    pub unknown: bool,
    /// What makes them one kind.
    pub fingerprint: String,
    /// The first of them in words.
    pub example: String,
    /// The first of them.
    pub failure: Failure,
}

/// Kinds of failures among the newest events, the most frequent first.
pub async fn list(
    State(app): State<Shared>,
    _: Admin,
    Query(look): Query<Look>,
) -> Result<axum::Json<Page<FailureKindOut>>, Problem> {
    let events = look.events.unwrap_or(EVENTS).clamp(1, MOST_EVENTS);
    let rules = app.rules();
    let mut kinds = Kinds::default();
    let mut after = newest(&*app.store).await?.saturating_sub(i64::from(events));
    loop {
        let page = app.store.events_after(after, AT_ONCE).await?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        let more = page.len() == AT_ONCE as usize;
        page.iter().for_each(|event| kinds.add(&rules, event));
        if !more {
            break;
        }
    }
    let mut items: Vec<FailureKindOut> = kinds.all;
    items.retain(|kind| kind.unknown || !look.unknown);
    items.sort_by_key(|kind| std::cmp::Reverse(kind.count));
    Ok(axum::Json(Page { items, next: None }))
}

/// The newest event's number. Numbers only grow, so it is found by halving.
async fn newest(store: &dyn Store) -> Result<i64, StoreError> {
    let (mut low, mut high) = (0, 1);
    while !store.events_after(high, 1).await?.is_empty() {
        low = high;
        high = high.saturating_mul(2);
    }
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        match store.events_after(middle, 1).await?.is_empty() {
            true => high = middle,
            false => low = middle,
        }
    }
    Ok(high)
}

#[derive(Default)]
struct Kinds {
    all: Vec<FailureKindOut>,
    by_print: HashMap<(Stage, String), usize>,
}

impl Kinds {
    fn add(&mut self, rules: &RuleBase, event: &Event) {
        let Some(cause) = &event.detail.cause else { return };
        let (fingerprint, example) = in_words(&cause.failure);
        if let Some(kind) = self.by_print.get(&(cause.stage, fingerprint.clone())).and_then(|&at| self.all.get_mut(at))
        {
            kind.count += 1;
            kind.last_seen = time::show(event.at_ms);
            return;
        }
        if self.all.len() >= MOST_KINDS {
            return;
        }
        self.by_print.insert((cause.stage, fingerprint.clone()), self.all.len());
        self.all.push(kind(rules, cause, event.at_ms, fingerprint, example));
    }
}

fn kind(rules: &RuleBase, cause: &Cause, at_ms: i64, fingerprint: String, example: String) -> FailureKindOut {
    let provider = cause.provider.as_deref();
    let finding = rules.judge(&Question::failure(cause.stage, &cause.failure).at(provider));
    FailureKindOut {
        count: 1,
        first_seen: time::show(at_ms),
        last_seen: time::show(at_ms),
        stage: cause.stage,
        provider: provider.map(str::to_owned),
        unknown: finding.as_ref().is_none_or(explain::Finding::is_by_class),
        rule: finding.map(|finding| finding.rule),
        fingerprint,
        example,
        failure: cause.failure.clone(),
    }
}

/// What makes failures one kind, and one of them in words.
fn in_words(failure: &Failure) -> (String, String) {
    match failure.reply() {
        Some(reply) => (Normal::of_reply(reply).fingerprint(), escape(reply.to_string().as_bytes(), 500)),
        None => {
            let words = serde_json::to_string(failure).unwrap_or_default();
            (Normal::of_text(&words).fingerprint(), escape(words.as_bytes(), 500))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::smtp::reply::Reply;
    use store::{EventDetail, EventKind, MessageId};

    fn event(at_ms: i64, text: &str) -> Event {
        let failure = Failure::Refused(Reply::new(550, text));
        let cause = Cause { stage: Stage::Recipient, failure, provider: None, rule: None, unknown_via: None };
        Event {
            seq: at_ms,
            at_ms,
            message: MessageId(1),
            n: Some(0),
            kind: EventKind::Failed,
            detail: EventDetail { cause: Some(cause), ..EventDetail::default() },
        }
    }

    #[test]
    fn failures_that_differ_in_names_only_are_one_kind() {
        let mut kinds = Kinds::default();
        for n in 0..5 {
            kinds.add(RuleBase::builtin(), &event(n, &format!("5.7.1 <u{n}@b.example> qwertz uiop")));
        }
        kinds.add(RuleBase::builtin(), &event(9, "5.1.1 <a@b.example>: User unknown"));
        assert_eq!(kinds.all.len(), 2);
        assert_eq!((kinds.all[0].count, kinds.all[0].unknown), (5, true));
        assert!(!kinds.all[1].unknown);
    }
}
