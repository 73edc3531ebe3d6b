//! The queue: looking, counting, and an operator's wishes.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use futures_util::future::join_all;
use serde::Deserialize;
use store::{GroupBy, MessageId, Operation, QueueCount, RecipientId, RecipientView, Selector, State as RecipientState};

use crate::http::Shared;
use crate::http::auth::Admin;
use crate::http::finding::FindingOut;
use crate::http::json::{Json, Query};
use crate::http::kept::Worth;
use crate::http::problem::Problem;
use crate::http::views::{CauseDetailOut, CauseOut, CountOut, Operated, Page, RecipientOut, SharedOut};
use crate::http::{time, words};
use crate::incident::words::FixOut;

/// A preview stops counting here what has to be looked at one by one.
const MOST_COUNTED: u32 = 100_000;
/// Most recipients that are named one by one.
const MOST_NAMED: usize = 1_000;
/// Addresses that a preview shows.
const SHOWN: u32 = 10;
/// Most groups in one answer.
pub const MOST_GROUPS: u32 = 1_000;
/// So many recipients are counted by their causes whenever somebody asks.
const FEW: u64 = 5_000;
/// Groups for which the oldest recipient is looked up: each takes a question to the store.
pub const MOST_OLDEST: usize = 50;
/// Recipients that are looked at for what those of one cause have in common.
const MOST_LOOKED: u32 = 200;
/// Values of each kind that are told of one cause.
const MOST_SHARED: usize = 5;

/// Which recipients to list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct List {
    message: Option<String>,
    recipient: Option<String>,
    domain: Option<String>,
    route: Option<String>,
    sender: Option<String>,
    stream: Option<String>,
    state: Option<RecipientState>,
    cause: Option<String>,
    after: Option<String>,
    limit: Option<u32>,
}

/// Recipients, oldest message first. Without a state: those that are not final.
pub async fn list(
    State(app): State<Shared>,
    _: Admin,
    Query(query): Query<List>,
) -> Result<axum::Json<Page<RecipientOut>>, Problem> {
    let limit = query.limit.unwrap_or(100).clamp(1, 1000);
    let after = query.after.as_deref().map(|text| recipient_id(text, "/after")).transpose()?;
    let message: Option<MessageId> = match &query.message {
        Some(text) => {
            Some(text.parse().map_err(|error: store::IdError| Problem::field("/message", error.to_string()))?)
        }
        None => None,
    };
    let selector = Selector {
        message,
        recipient: query.recipient,
        domain: query.domain,
        route: query.route,
        sender: query.sender,
        stream: query.stream,
        state: query.state,
        cause: query.cause,
        ..Selector::default()
    };
    let found = app.store.recipients(selector, after, limit).await?;
    let rules = app.rules();
    let next = (found.len() == limit as usize).then(|| found.last().map(|view| view.id.to_string())).flatten();
    Ok(axum::Json(Page { items: found.iter().map(|view| RecipientOut::of(view, &rules)).collect(), next }))
}

/// `<message>.<n>`.
fn recipient_id(text: &str, pointer: &str) -> Result<RecipientId, Problem> {
    let wrong = || Problem::field(pointer, "is not a recipient id such as 01k2mzq8v4t7e.0");
    let (message, n) = text.split_once('.').ok_or_else(wrong)?;
    Ok(RecipientId { message: message.parse().map_err(|_| wrong())?, n: n.parse().map_err(|_| wrong())? })
}

/// How to count.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    by: GroupBy,
    #[serde(default)]
    limit: Option<u32>,
    /// Looks up the oldest recipient of each of the first 50 groups too, and why it is still here.
    #[serde(default)]
    oldest: bool,
}

/// The queue by domain, route, sender or stream; most pending first.
pub async fn counts(
    State(app): State<Shared>,
    _: Admin,
    Query(query): Query<Counts>,
) -> Result<axum::Json<Page<CountOut>>, Problem> {
    let counts = counted(&app, query.by, query.limit).await?;
    let mut items: Vec<CountOut> = counts.iter().map(Into::into).collect();
    if query.oldest {
        let oldest = oldest(&app, query.by, &counts).await?;
        for (item, view) in items.iter_mut().zip(oldest) {
            (item.oldest, item.why) = (view.as_ref().map(|view| time::show(view.accepted_ms)), view.as_ref().map(why));
        }
    }
    Ok(axum::Json(Page { items, next: None }))
}

/// Groups with most pending first. Those by cause are counted one by one: with many of them the answer is kept for a while.
async fn counted(app: &Shared, by: GroupBy, limit: Option<u32>) -> Result<Vec<QueueCount>, Problem> {
    let limit = limit.unwrap_or(100).clamp(1, MOST_GROUPS);
    if by != GroupBy::Cause {
        return Ok(app.store.counts(by, limit).await?);
    }
    let find = |app: Shared| async move {
        let counts = app.store.counts(GroupBy::Cause, MOST_GROUPS).await?;
        let read: u64 = counts.iter().map(|count| count.pending + count.held).sum();
        Ok((counts, if read > FEW { Worth::Keeping } else { Worth::Nothing }))
    };
    let mut counts = app.by_cause.get(app, (), find).await?;
    counts.truncate(limit as usize);
    Ok(counts)
}

/// The oldest recipient of each group, as far as they are looked up.
async fn oldest(app: &Shared, by: GroupBy, counts: &[QueueCount]) -> Result<Vec<Option<RecipientView>>, Problem> {
    let asked = counts.iter().take(MOST_OLDEST).map(|count| app.store.recipients(of_group(by, &count.group), None, 1));
    let found = join_all(asked).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(found.into_iter().map(|mut list| list.pop()).collect())
}

fn of_group(by: GroupBy, group: &str) -> Selector {
    let group = Some(group.to_owned());
    match by {
        GroupBy::Domain => Selector { domain: group, ..Selector::default() },
        GroupBy::Route => Selector { route: group, ..Selector::default() },
        GroupBy::Sender => Selector { sender: group, ..Selector::default() },
        GroupBy::Stream => Selector { stream: group, ..Selector::default() },
        GroupBy::Cause => Selector { cause: group, ..Selector::default() },
    }
}

/// Why a recipient is still here: what keeps it back now, or what went wrong last.
fn why(view: &RecipientView) -> String {
    match (view.state, view.failure()) {
        (RecipientState::Waiting, Some(failure)) => words::failure(failure),
        _ => words::meaning(view),
    }
}

/// How many causes to list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Causes {
    #[serde(default)]
    limit: Option<u32>,
    /// Looks up the oldest recipient of each of the first 50 causes too.
    #[serde(default)]
    oldest: bool,
}

/// The queue by the cause of the last failure, each explained; most pending first.
pub async fn causes(
    State(app): State<Shared>,
    _: Admin,
    Query(query): Query<Causes>,
) -> Result<axum::Json<Page<CauseOut>>, Problem> {
    let counts = counted(&app, GroupBy::Cause, query.limit).await?;
    let rules = app.rules();
    let mut items: Vec<CauseOut> = counts.iter().map(|count| CauseOut::of(count, &rules)).collect();
    if query.oldest {
        let oldest = oldest(&app, GroupBy::Cause, &counts).await?;
        for (item, view) in items.iter_mut().zip(oldest) {
            item.oldest = view.map(|view| time::show(view.accepted_ms));
        }
    }
    Ok(axum::Json(Page { items, next: None }))
}

/// One cause: what it means, what to do in order, and what those who wait for it have in common.
pub async fn cause(
    State(app): State<Shared>,
    _: Admin,
    Path(rule): Path<String>,
) -> Result<axum::Json<CauseDetailOut>, Problem> {
    let rules = app.rules();
    let known = rules.rule(&rule);
    let counts = counted(&app, GroupBy::Cause, Some(MOST_GROUPS)).await?;
    let none = QueueCount { group: rule.clone(), pending: 0, urgent: 0, held: 0, next_due_ms: None };
    let count = counts.into_iter().find(|count| count.group == rule);
    // A cause for which nothing waits any more is still one, if there is a rule for it.
    let count = count.or_else(|| known.is_some().then_some(none)).ok_or_else(Problem::not_found)?;
    let selector = of_group(GroupBy::Cause, &rule);
    let found = app.store.recipients(selector, None, MOST_LOOKED).await?;
    let mut cause = CauseOut::of(&count, &rules);
    cause.oldest = found.first().map(|view| time::show(view.accepted_ms));
    // The oldest one's own values stand in the words: the server's name, the limit.
    let told = found.first().and_then(|view| FindingOut::explained(&rules, view.cause.as_ref()?));
    let told = told.or_else(|| known.map(|rule| rule.explain(&explain::Values::new())));
    let shared = |of: fn(&RecipientView) -> &str| shared(found.iter().map(of));
    Ok(axum::Json(CauseDetailOut {
        cause,
        causes: told.as_ref().map(|told| told.causes.clone()).unwrap_or_default(),
        fixes: told.map(|told| told.fixes.iter().map(FixOut::of).collect()).unwrap_or_default(),
        looked_at: found.len() as u64,
        routes: shared(|view| &view.lane.route),
        domains: shared(|view| &view.lane.domain),
        senders: shared(|view| &view.lane.sender),
        streams: shared(|view| &view.lane.stream),
        example: found.first().and_then(|view| view.failure()).map(words::failure),
    }))
}

/// How many of them have which value, most first.
fn shared<'a>(values: impl Iterator<Item = &'a str>) -> Vec<SharedOut> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    let mut list: Vec<SharedOut> =
        counts.into_iter().map(|(name, recipients)| SharedOut { name: name.to_owned(), recipients }).collect();
    list.sort_by(|a, b| b.recipients.cmp(&a.recipients).then_with(|| a.name.cmp(&b.name)));
    list.truncate(MOST_SHARED);
    list
}

/// What an operator wishes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// All that meet these conditions; this or `ids`.
    #[serde(default)]
    selector: Selector,
    /// These recipients, at most 1,000.
    #[serde(default)]
    ids: Vec<String>,
    #[serde(default)]
    dry_run: bool,
    /// For `hold`.
    #[serde(default)]
    reason: Option<String>,
}

/// Whom a wish is about, as the store is asked: one selection, or one for each that was named.
fn meant(wish: &Wish) -> Result<Vec<Selector>, Problem> {
    match (wish.selector == Selector::default(), wish.ids.len()) {
        (true, 0) => {
            let detail =
                "name at least one of message, recipient, domain, route, sender, stream, state, cause, or all; or ids";
            Err(Problem::field("/selector", detail))
        }
        (true, 1..=MOST_NAMED) => wish.ids.iter().map(|id| one(id)).collect(),
        (true, _) => Err(Problem::field("/ids", format!("has at most {MOST_NAMED}"))),
        (false, 0) => Ok(vec![wish.selector.clone()]),
        (false, _) => Err(Problem::field("/ids", "goes without a selector")),
    }
}

fn one(id: &str) -> Result<Selector, Problem> {
    let id = recipient_id(id, "/ids")?;
    Ok(Selector { message: Some(id.message), n: Some(id.n), ..Selector::default() })
}

/// Retry, hold, release or cancel all that are selected and not final.
pub async fn operate(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Path(operation): Path<String>,
    Json(wish): Json<Wish>,
) -> Result<axum::Json<Operated>, Problem> {
    let selectors = meant(&wish)?;
    let reason = wish.reason.clone().unwrap_or_else(|| format!("by {}", caller.who()));
    if reason.len() > 500 || reason.chars().any(char::is_control) {
        return Err(Problem::field("/reason", "at most 500 octets without control characters"));
    }
    let operation = match operation.as_str() {
        "retry" => Operation::Retry,
        "hold" => Operation::Hold(reason),
        "release" => Operation::Release,
        "cancel" => Operation::Cancel,
        _ => return Err(Problem::new(StatusCode::NOT_FOUND, "operations are retry, hold, release and cancel")),
    };
    if wish.dry_run {
        crate::audit::nothing();
        return preview(&app, &wish, &operation).await.map(axum::Json);
    }
    let who = caller.who();
    let done = selectors.into_iter().map(|selector| {
        let (operation, who) = (operation.clone(), who.clone());
        async {
            match &app.relay {
                Some(relay) => relay.operate(selector, operation, who).await,
                None => app.store.operate(selector, operation, who, app.clock.now_ms()).await,
            }
        }
    });
    // Together, so that they share commits.
    let done = join_all(done).await;
    let recipients: u64 = done.iter().filter_map(|one| one.as_ref().ok()).sum();
    let selected = match wish.ids.is_empty() {
        true => serde_json::to_value(&wish.selector).unwrap_or_default(),
        false => serde_json::json!({ "ids": wish.ids }),
    };
    crate::audit::tell(serde_json::json!({ "selector": selected, "recipients": recipients }));
    app.by_cause.forget();
    // What was done before one failed stays done; another try does the rest.
    done.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(axum::Json(Operated { recipients, dry_run: false, at_least: false, examples: Vec::new() }))
}

/// How many an operation would be about, and the first of them.
async fn preview(app: &Shared, wish: &Wish, operation: &Operation) -> Result<Operated, Problem> {
    let release = *operation == Operation::Release;
    if !wish.ids.is_empty() {
        let names = wish.ids.iter().map(|id| recipient_id(id, "/ids")).collect::<Result<Vec<_>, _>>()?;
        let mut found = app.store.recipients_named(names).await?;
        found.retain(|view| if release { view.state == RecipientState::Held } else { !view.state.is_final() });
        return Ok(foreseen(found.len() as u64, &found));
    }
    let mut selector = wish.selector.clone();
    if release {
        selector.state = selector.state.or(Some(RecipientState::Held));
    }
    if selector.state.is_some_and(RecipientState::is_final) {
        return Ok(foreseen(0, &[]));
    }
    let count = app.store.count(selector.clone(), MOST_COUNTED);
    let found = app.store.recipients(selector, None, SHOWN);
    Ok(foreseen(count.await?, &found.await?))
}

fn foreseen(recipients: u64, found: &[RecipientView]) -> Operated {
    let examples = found.iter().take(SHOWN as usize).map(|view| view.address.to_string()).collect();
    Operated { recipients, dry_run: true, at_least: recipients == u64::from(MOST_COUNTED), examples }
}
