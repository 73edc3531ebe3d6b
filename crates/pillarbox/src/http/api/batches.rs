//! `/batches`: many messages from one template, submitted as JSON lines; their progress, and what became of each row.

use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use relay::batch::{Wish, change_stored};
use serde::Deserialize;
use store::{BatchId, BatchView};

use super::messages::{idempotency_key, text_header};
use crate::batch::engine::Data;
use crate::batch::merge::Merge;
use crate::batch::upload::{self, Header, Lines, Outcome, Plan};
use crate::http::auth::{Caller, SENDER_HEADER, submitter};
use crate::http::json::Query;
use crate::http::problem::Problem;
use crate::http::views::Page;
use crate::http::views_batch::{BatchOut, CheckedBatch, RowOut, ShownRow, row_state};
use crate::http::{SMALL_BODY, Shared};

/// Media types of JSON lines.
const JSON_LINES: [&str; 4] =
    ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"];
/// Most rows a dry run shows.
const MAX_SHOWN: usize = 100;

/// What is asked of a submission.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Submit {
    dry_run: bool,
    show: Option<usize>,
}

/// Takes a batch, whole or not at all: 202 only after it is durable.
pub async fn submit(
    State(app): State<Shared>,
    caller: Caller,
    Query(query): Query<Submit>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let kind = text_header(&parts.headers, "content-type")?.unwrap_or("").split(';').next().unwrap_or("").trim();
    if !JSON_LINES.contains(&kind.to_ascii_lowercase().as_str()) {
        let detail = "send Content-Type: application/x-ndjson, one JSON object on each line";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let sender = submitter(&app, &caller, text_header(&parts.headers, SENDER_HEADER)?)?;
    let door = app.relay()?.door();
    door.ready()?;
    let now_ms = app.clock.now_ms();
    let plan = Plan {
        dry_run: query.dry_run.then(|| query.show.unwrap_or(1).min(MAX_SHOWN)),
        key: idempotency_key(&parts.headers)?,
        hostname: app.hostname.clone(),
    };
    let declared = text_header(&parts.headers, "content-length")?.and_then(|length| length.parse().ok());
    let largest = app.room.largest;
    let mut lines = Lines::new(body.into_data_stream());
    let taken = async {
        // The first line may be large; rows are small and few at a time.
        let room = app.room.take(declared.unwrap_or(largest).min(largest))?;
        let header = Header::read(&mut lines, largest, now_ms).await?;
        drop(room);
        let _room = app.room.take(SMALL_BODY)?;
        let intake = door.batch(&sender, &header.batch.from.address, header.batch.stream.as_deref())?;
        upload::receive(&mut lines, header, intake, plan).await
    };
    match taken.await {
        Ok(Outcome::Accepted { id, replayed }) => accepted(&app, id, replayed).await,
        Ok(Outcome::Checked { rows, shown, merge }) => {
            Ok(axum::Json(checked(rows, &shown, &merge, now_ms)).into_response())
        }
        Err(problem) => {
            lines.drain().await;
            Err(problem)
        }
    }
}

async fn accepted(app: &Shared, id: BatchId, replayed: bool) -> Result<Response, Problem> {
    let view = app.store.batch(id).await?;
    let mut response = (StatusCode::ACCEPTED, axum::Json(BatchOut::of(&view, None))).into_response();
    if let Ok(location) = HeaderValue::from_str(&format!("/api/v1/batches/{id}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    if replayed {
        response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
    }
    Ok(response)
}

fn checked(rows: u32, shown: &[Data], merge: &Merge, now_ms: i64) -> CheckedBatch {
    let show = |data: &Data| {
        let made = merge.message(data, now_ms).ok()?;
        let texts = merge.texts(data).ok()?;
        Some(ShownRow {
            to: made.envelope.recipients.first().map(|to| to.address.to_string()).unwrap_or_default(),
            subject: texts.subject,
            text: texts.text,
            html: texts.html,
            size: made.content.len() as u64,
        })
    };
    CheckedBatch { rows, shown: shown.iter().filter_map(show).collect() }
}

fn id(text: &str) -> Result<BatchId, Problem> {
    text.parse().map_err(|_| Problem::not_found())
}

/// A batch the caller may see; those of others do not exist.
async fn own(app: &Shared, caller: &Caller, name: &str) -> Result<BatchView, Problem> {
    let view = app.store.batch(id(name)?).await?;
    if caller.may_see(&view.sender) { Ok(view) } else { Err(Problem::not_found()) }
}

/// Which batches to list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    #[serde(default)]
    sender: Option<String>,
    #[serde(default)]
    before: Option<String>,
    #[serde(default)]
    limit: Option<u32>,
}

/// Batches, newest first: one's own, or for administrators all.
pub async fn list(
    State(app): State<Shared>,
    caller: Caller,
    Query(query): Query<List>,
) -> Result<axum::Json<Page<BatchOut>>, Problem> {
    let sender = caller.own().map(str::to_owned).or(query.sender);
    let before = match query.before {
        Some(text) => Some(text.parse().map_err(|_| Problem::field("/before", "is not a batch id"))?),
        None => None,
    };
    let limit = query.limit.unwrap_or(100).clamp(1, 1000);
    let found = app.store.batches(sender, before, limit).await?;
    let next = (found.len() == limit as usize).then(|| found.last().map(|view| view.id.to_string())).flatten();
    Ok(axum::Json(Page { items: found.iter().map(|view| BatchOut::of(view, None)).collect(), next }))
}

/// One batch with what became of its rows, in numbers.
pub async fn show(
    State(app): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<axum::Json<BatchOut>, Problem> {
    let view = own(&app, &caller, &name).await?;
    let counts = app.store.row_counts(view.id).await?;
    Ok(axum::Json(BatchOut::of(&view, Some(&counts))))
}

/// Pauses, resumes or cancels one.
pub async fn change(
    State(app): State<Shared>,
    caller: Caller,
    Path((name, wish)): Path<(String, String)>,
) -> Result<axum::Json<BatchOut>, Problem> {
    let wish = match wish.as_str() {
        "pause" => Wish::Pause,
        "resume" => Wish::Resume,
        "cancel" => Wish::Cancel,
        _ => return Err(Problem::not_found()),
    };
    let view = own(&app, &caller, &name).await?;
    let who = caller.who();
    let changed = match &app.relay {
        Some(relay) => relay.change_batch(view.id, wish, &who).await,
        None => change_stored(&*app.store, view.id, wish, &who, app.clock.now_ms()).await,
    };
    let view = changed.map_err(|error| match error {
        store::StoreError::Invalid(detail) => Problem::new(StatusCode::CONFLICT, detail),
        other => other.into(),
    })?;
    let counts = app.store.row_counts(view.id).await?;
    Ok(axum::Json(BatchOut::of(&view, Some(&counts))))
}

/// Which rows to list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rows {
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    after: Option<u32>,
    #[serde(default)]
    limit: Option<u32>,
}

/// Its rows in order, each with what became of it.
pub async fn rows(
    State(app): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<Rows>,
) -> Result<axum::Json<Page<RowOut>>, Problem> {
    let view = own(&app, &caller, &name).await?;
    let state = match query.state.as_deref() {
        None => None,
        Some(word) => Some(row_state(word).ok_or_else(|| {
            Problem::field("/state", "is queued, refused, gone, or the state of a recipient such as delivered")
        })?),
    };
    // People count from 1, the store from 0.
    let after = query.after.and_then(|after| after.checked_sub(1));
    let limit = query.limit.unwrap_or(100).clamp(1, 1000);
    let found = app.store.rows(view.id, state, after, limit).await?;
    let next = (found.len() == limit as usize).then(|| found.last().map(|row| (row.n + 1).to_string())).flatten();
    let rules = app.rules();
    Ok(axum::Json(Page { items: found.iter().map(|row| RowOut::of(row, &rules)).collect(), next }))
}
