//! Suppressions: looking, adding, removing, following, and whole lists as CSV.

use std::collections::VecDeque;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use proto::Address;
use serde::{Deserialize, Serialize};
use store::{Evidence, Existing, StoreError, SuppressCount, Suppression, SuppressionCursor, SuppressionFilter};
use store::{SuppressionReason, SuppressionScope};

use crate::http::auth::Admin;
use crate::http::json::{Json, Query};
use crate::http::problem::Problem;
use crate::http::views::Page;
use crate::http::{Shared, json, time};
use crate::suppression::{self, ChangeOut, ImportOut, MOST_ERRORS, RowError, SuppressionOut, table};

/// Addresses in one request.
const MOST: usize = 1_000;
/// Largest table in one request, octets: some hundred thousand rows. Longer ones come in parts.
pub const LARGEST_TABLE: usize = 16 << 20;
/// Changes shown of one address.
const HISTORY: u32 = 100;

/// Which suppressions, or which changes, to list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct List {
    scope: Option<String>,
    reason: Option<SuppressionReason>,
    domain: Option<String>,
    search: Option<String>,
    added_from: Option<String>,
    added_before: Option<String>,
    after: Option<String>,
    limit: Option<u32>,
    /// A cursor of changes, or `now`.
    since: Option<String>,
}

impl List {
    fn filter(&self) -> Result<SuppressionFilter, Problem> {
        let moment = |name: &str, text: &Option<String>| {
            let wrong = || Problem::field(name, "is not an RFC 3339 time such as 2026-11-21T00:00:00Z");
            text.as_deref().map(|text| time::read(text).ok_or_else(wrong)).transpose()
        };
        Ok(SuppressionFilter {
            scope: self.scope.as_deref().map(|text| scope("/scope", text)).transpose()?,
            reason: self.reason,
            domain: self.domain.clone(),
            text: self.search.clone(),
            added_from_ms: moment("/added_from", &self.added_from)?,
            added_before_ms: moment("/added_before", &self.added_before)?,
        })
    }
}

fn scope(pointer: &str, text: &str) -> Result<SuppressionScope, Problem> {
    suppression::scope(text).map_err(|error| Problem::field(pointer, error))
}

fn address(pointer: &str, text: &str) -> Result<Address, Problem> {
    suppression::address(text).map_err(|error| Problem::field(pointer, error))
}

/// `address scope`: neither holds a blank at its end.
fn cursor(text: &str) -> Result<SuppressionCursor, Problem> {
    let wrong = || Problem::field("/after", "is not a cursor of this list");
    let (address, scope) = text.rsplit_once(' ').ok_or_else(wrong)?;
    Ok(SuppressionCursor { address: address.parse().map_err(|_| wrong())?, scope: scope.into() })
}

fn cursor_text(one: &Suppression) -> String {
    format!("{} {}", one.address, one.scope.as_str())
}

/// Suppressions in order of address; with `since` the changes after that cursor instead.
pub async fn list(State(app): State<Shared>, _: Admin, Query(query): Query<List>) -> Result<Response, Problem> {
    if let Some(since) = &query.since {
        return changes(&app, since, query.limit).await.map(IntoResponse::into_response);
    }
    let limit = query.limit.unwrap_or(100).clamp(1, 1_000);
    let after = query.after.as_deref().map(cursor).transpose()?;
    let found = app.store.suppressions(query.filter()?, after, limit, app.clock.now_ms()).await?;
    let next = (found.len() == limit as usize).then(|| found.last().map(cursor_text)).flatten();
    let items: Vec<SuppressionOut> = found.iter().map(Into::into).collect();
    Ok(axum::Json(Page { items, next }).into_response())
}

/// Changes of the list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Changes {
    /// Oldest first.
    pub items: Vec<ChangeOut>,
    /// What to ask with the next time, also if there was nothing new.
    pub next: String,
    /// There are more at once.
    pub more: bool,
}

async fn changes(app: &Shared, since: &str, limit: Option<u32>) -> Result<axum::Json<Changes>, Problem> {
    let limit = limit.unwrap_or(1_000).clamp(1, 1_000);
    if since == "now" {
        let latest = app.store.suppression_changes(i64::MAX, 1).await?.latest;
        return Ok(axum::Json(Changes { items: Vec::new(), next: latest.to_string(), more: false }));
    }
    let wrong = || Problem::field("/since", "is a number from `next`, 0 for the beginning, or `now`");
    let since: i64 = since.parse().ok().filter(|since| *since >= 0).ok_or_else(wrong)?;
    let found = app.store.suppression_changes(since, limit).await?;
    if found.forgotten > since {
        let detail = format!(
            "changes up to {} are no longer kept: ask with since=now, read the whole list, and go on from there",
            found.forgotten
        );
        return Err(Problem::new(StatusCode::GONE, detail));
    }
    let next = found.changes.last().map_or(since, |change| change.seq);
    let items = found.changes.iter().map(Into::into).collect();
    Ok(axum::Json(Changes { items, next: next.to_string(), more: next < found.latest }))
}

/// An address with all that is known of it here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AddressOut {
    /// The address.
    pub address: String,
    /// It gets no mail, or none of the stream that was asked about.
    pub suppressed: bool,
    /// What its recipient would be told to have become of it.
    pub words: Option<String>,
    /// What stops its mail, in all scopes.
    pub suppressions: Vec<SuppressionOut>,
    /// What happened to it, oldest first, at most the latest hundred.
    pub history: Vec<ChangeOut>,
}

/// For which stream.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Which {
    stream: Option<String>,
}

/// Whether an address is suppressed, why, and what happened to it before.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Path(text): Path<String>,
    Query(which): Query<Which>,
) -> Result<axum::Json<AddressOut>, Problem> {
    let address = address("/address", &text)?;
    let now_ms = app.clock.now_ms();
    let found = app.store.suppressions_of(address.clone(), now_ms).await?;
    let stops = match which.stream {
        Some(stream) => app.store.suppressed(vec![address.clone()], stream.into(), now_ms).await?.pop().flatten(),
        None => found.first().cloned(),
    };
    let history = app.store.suppression_history(address.clone(), HISTORY).await?;
    Ok(axum::Json(AddressOut {
        address: address.to_string(),
        suppressed: stops.is_some(),
        words: stops.as_ref().map(relay::suppress::words),
        suppressions: found.iter().map(Into::into).collect(),
        history: history.iter().map(Into::into).collect(),
    }))
}

/// Addresses to suppress.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddIn {
    addresses: Vec<String>,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    reason: Option<SuppressionReason>,
    /// See [`suppression::until`].
    #[serde(default)]
    until: Option<String>,
    #[serde(default)]
    note: Option<String>,
    /// What becomes of those that are there already; they are replaced.
    #[serde(default)]
    existing: Option<Existing>,
}

/// Adds suppressions; they hold at once.
pub async fn add(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Json(body): Json<AddIn>,
) -> Result<axum::Json<SuppressCount>, Problem> {
    let now_ms = app.clock.now_ms();
    let addresses = addresses(&body.addresses)?;
    let one = Suppression {
        address: addresses[0].clone(),
        scope: body.scope.as_deref().map_or(Ok(SuppressionScope::Global), |text| scope("/scope", text))?,
        reason: body.reason.unwrap_or(SuppressionReason::Manual),
        evidence: Evidence {
            note: body.note.as_deref().map(note).transpose()?,
            source: Some("operator".into()),
            ..Evidence::default()
        },
        who: caller.who(),
        added_ms: now_ms,
        expires_ms: match &body.until {
            Some(text) => suppression::until(text, now_ms).map_err(|error| Problem::field("/until", error))?,
            None => None,
        },
    };
    let list = addresses.into_iter().map(|address| Suppression { address, ..one.clone() }).collect();
    Ok(axum::Json(put(&app, list, body.existing.unwrap_or(Existing::Replace)).await?))
}

fn note(text: &str) -> Result<String, Problem> {
    suppression::note(text).map_err(|error| Problem::field("/note", error))
}

fn addresses(texts: &[String]) -> Result<Vec<Address>, Problem> {
    if texts.is_empty() || texts.len() > MOST {
        return Err(Problem::field("/addresses", format!("name 1 to {MOST} addresses; `import` takes more")));
    }
    texts.iter().enumerate().map(|(n, text)| address(&format!("/addresses/{n}"), text)).collect()
}

async fn put(app: &Shared, list: Vec<Suppression>, existing: Existing) -> Result<SuppressCount, StoreError> {
    match &app.relay {
        Some(relay) => relay.suppress(list, existing).await,
        None => app.store.suppress(list, existing, app.clock.now_ms()).await,
    }
}

/// How an address is removed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RemoveQuery {
    scope: Option<String>,
    why: Option<String>,
}

/// How many were removed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Removed {
    /// Suppressions, of all scopes.
    pub removed: u64,
}

/// Removes one address; the log keeps who did it and why.
pub async fn remove(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Path(text): Path<String>,
    Query(query): Query<RemoveQuery>,
) -> Result<axum::Json<Removed>, Problem> {
    let body = RemoveIn { addresses: vec![text], scope: query.scope, why: query.why };
    let removed = take_out(&app, caller.who(), body).await?;
    crate::audit::tell(serde_json::json!({ "removed": removed }));
    if removed == 0 {
        return Err(Problem::new(StatusCode::NOT_FOUND, "this address is not suppressed"));
    }
    Ok(axum::Json(Removed { removed }))
}

/// Addresses to be mailed again.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveIn {
    addresses: Vec<String>,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    why: Option<String>,
}

/// Removes addresses.
pub async fn remove_many(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Json(body): Json<RemoveIn>,
) -> Result<axum::Json<Removed>, Problem> {
    Ok(axum::Json(Removed { removed: take_out(&app, caller.who(), body).await? }))
}

async fn take_out(app: &Shared, who: String, body: RemoveIn) -> Result<u64, Problem> {
    let scope = body.scope.as_deref().map(|text| scope("/scope", text)).transpose()?;
    let why = body.why.as_deref().map(|text| suppression::note(text).map_err(|error| Problem::field("/why", error)));
    let list = addresses(&body.addresses)?.into_iter().map(|address| (address, scope.clone())).collect();
    Ok(app.store.unsuppress(list, who, why.transpose()?, app.clock.now_ms()).await?)
}

/// How a table is read.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImportQuery {
    scope: Option<String>,
    reason: Option<SuppressionReason>,
    existing: Option<Existing>,
    /// Lines before this part of a file.
    lines_before: u64,
    dry_run: bool,
}

/// Imports a table; rows that are wrong are named, the others count.
pub async fn import(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Query(query): Query<ImportQuery>,
    request: Request,
) -> Result<axum::Json<ImportOut>, Problem> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    if !kind.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("text/csv") {
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send Content-Type: text/csv"));
    }
    let defaults = table::Defaults {
        reason: query.reason,
        scope: query.scope.as_deref().map(|text| scope("/scope", text)).transpose()?,
        who: caller.who(),
        now_ms: app.clock.now_ms(),
        lines_before: query.lines_before,
    };
    if query.dry_run {
        crate::audit::nothing();
    }
    let body = json::body(request).await?;
    let mut rows =
        table::open(&body[..], defaults).map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error))?;
    let existing = query.existing.unwrap_or(Existing::Keep);
    let mut out = ImportOut { ignored_columns: rows.ignored.clone(), ..ImportOut::default() };
    loop {
        let before = out.rows;
        let mut list = Vec::with_capacity(MOST);
        for row in rows.by_ref().take(MOST) {
            out.rows += 1;
            match row {
                Ok(one) => list.push(one),
                Err(error) => wrong(&mut out, error),
            }
        }
        if out.rows == before {
            return Ok(axum::Json(out));
        }
        if !query.dry_run && !list.is_empty() {
            let count = put(&app, list, existing).await?;
            out.added += count.added;
            out.changed += count.changed;
            out.kept += count.kept;
        }
    }
}

fn wrong(out: &mut ImportOut, error: RowError) {
    out.wrong += 1;
    if out.errors.len() < MOST_ERRORS {
        out.errors.push(error);
    }
}

/// Where an export stands.
struct Export {
    app: Shared,
    filter: SuppressionFilter,
    after: Option<SuppressionCursor>,
    now_ms: i64,
    /// Pieces that are ready.
    ready: VecDeque<String>,
    done: bool,
}

/// The whole list, or what matches, as CSV; it begins at once and is as long as it is.
pub async fn export(State(app): State<Shared>, _: Admin, Query(query): Query<List>) -> Result<Response, Problem> {
    if query.after.is_some() || query.limit.is_some() || query.since.is_some() {
        return Err(Problem::field("/after", "an export has no pages and no changes"));
    }
    let now_ms = app.clock.now_ms();
    let ready = VecDeque::from([table::head()]);
    let export = Export { app, filter: query.filter()?, after: None, now_ms, ready, done: false };
    let pieces = stream::try_unfold(export, async |mut export: Export| -> Result<_, StoreError> {
        if let Some(piece) = export.ready.pop_front() {
            return Ok(Some((Bytes::from(piece), export)));
        }
        if export.done {
            return Ok(None);
        }
        let filter = export.filter.clone();
        let page = export.app.store.suppressions(filter, export.after.take(), MOST as u32, export.now_ms).await?;
        export.done = page.len() < MOST;
        export.after =
            page.last().map(|one| SuppressionCursor { address: one.address.clone(), scope: one.scope.clone() });
        let piece: String = page.iter().map(|one| table::line(&SuppressionOut::from(one))).collect();
        Ok(Some((Bytes::from(piece), export)))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"suppressions.csv\""),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}
