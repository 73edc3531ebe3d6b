//! The queue: looking, counting, and an operator's wishes.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use store::{GroupBy, MessageId, Operation, RecipientId, Selector, State as RecipientState};

use crate::http::Shared;
use crate::http::auth::Admin;
use crate::http::json::{Json, Query};
use crate::http::problem::Problem;
use crate::http::views::{CauseOut, CountOut, Operated, Page, RecipientOut};

/// A preview stops counting here.
const MOST_COUNTED: u64 = 100_000;

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
    let after = query.after.as_deref().map(recipient_id).transpose()?;
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
fn recipient_id(text: &str) -> Result<RecipientId, Problem> {
    let wrong = || Problem::field("/after", "is not a recipient id such as 01k2mzq8v4t7e.0");
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
}

/// The queue by domain, route, sender or stream; most pending first.
pub async fn counts(
    State(app): State<Shared>,
    _: Admin,
    Query(query): Query<Counts>,
) -> Result<axum::Json<Page<CountOut>>, Problem> {
    let counts = app.store.counts(query.by, query.limit.unwrap_or(100).clamp(1, 1000)).await?;
    Ok(axum::Json(Page { items: counts.iter().map(Into::into).collect(), next: None }))
}

/// How many causes to list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Causes {
    #[serde(default)]
    limit: Option<u32>,
}

/// The queue by the cause of the last failure, each explained; most pending first.
pub async fn causes(
    State(app): State<Shared>,
    _: Admin,
    Query(query): Query<Causes>,
) -> Result<axum::Json<Page<CauseOut>>, Problem> {
    let counts = app.store.counts(GroupBy::Cause, query.limit.unwrap_or(100).clamp(1, 1000)).await?;
    let rules = app.rules();
    Ok(axum::Json(Page { items: counts.iter().map(|count| CauseOut::of(count, &rules)).collect(), next: None }))
}

/// What an operator wishes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    selector: Selector,
    #[serde(default)]
    dry_run: bool,
    /// For `hold`.
    #[serde(default)]
    reason: Option<String>,
}

/// Retry, hold, release or cancel all that are selected and not final.
pub async fn operate(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Path(operation): Path<String>,
    Json(wish): Json<Wish>,
) -> Result<axum::Json<Operated>, Problem> {
    if wish.selector == Selector::default() {
        let detail = "name at least one of message, recipient, domain, route, sender, stream, state, cause, or all";
        return Err(Problem::field("/selector", detail));
    }
    let reason = wish.reason.unwrap_or_else(|| format!("by {}", caller.who()));
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
        return preview(&app, wish.selector, &operation).await.map(axum::Json);
    }
    let who = caller.who();
    let selected = serde_json::to_value(&wish.selector).unwrap_or_default();
    let recipients = match &app.relay {
        Some(relay) => relay.operate(wish.selector, operation, who).await?,
        None => app.store.operate(wish.selector, operation, who, app.clock.now_ms()).await?,
    };
    crate::audit::tell(serde_json::json!({ "selector": selected, "recipients": recipients }));
    Ok(axum::Json(Operated { recipients, dry_run: false, at_least: false }))
}

async fn preview(app: &Shared, mut selector: Selector, operation: &Operation) -> Result<Operated, Problem> {
    if *operation == Operation::Release && selector.state.is_none() {
        selector.state = Some(RecipientState::Held);
    }
    let mut recipients = 0;
    let mut after = None;
    while recipients < MOST_COUNTED {
        let page = app.store.recipients(selector.clone(), after, 1000).await?;
        recipients += page.iter().filter(|view| !view.state.is_final()).count() as u64;
        match page.last() {
            Some(last) if page.len() == 1000 => after = Some(last.id),
            _ => return Ok(Operated { recipients, dry_run: true, at_least: false }),
        }
    }
    Ok(Operated { recipients, dry_run: true, at_least: true })
}
