//! Test mails that prove arrival: sending one, what became of them, and the header that a person pastes.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use store::{RecordKind, RecordQuery};

use crate::arrival::confirm::confirm;
use crate::arrival::judge::{Judgement, Seen, Way};
use crate::arrival::record::{self, Stored};
use crate::arrival::send::{self, ArrivalIn};
use crate::arrival::{ArrivalState, Token};
use crate::http::Shared;
use crate::http::auth::Admin;
use crate::http::json::{Json, Query};
use crate::http::problem::Problem;
use crate::http::time;
use crate::http::views::Page;

/// Largest header, octets.
const MOST: usize = 512 << 10;

/// A test mail.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ArrivalOut {
    /// Its number.
    pub id: String,
    /// What names it in the mail.
    pub token: String,
    /// The route it took.
    pub route: String,
    /// From.
    pub from: String,
    /// To.
    pub to: String,
    /// The mailbox it is looked for in.
    pub mailbox: Option<String>,
    /// Its message in the queue.
    pub message: Option<String>,
    /// When it was queued, RFC 3339.
    pub sent: String,
    /// When it is too late, RFC 3339.
    pub deadline: String,
    /// `waiting`, `arrived`, `late`, `missing`, `failed`.
    pub state: String,
    /// It arrived in time, not among the spam, and nothing is wrong with it.
    pub good: bool,
    /// Why it did not arrive as far as is known, or why the mailbox cannot be read.
    pub problem: Option<String>,
    /// When it came, RFC 3339.
    pub arrived: Option<String>,
    /// How it came.
    pub judgement: Option<Judgement>,
}

impl ArrivalOut {
    fn of(stored: Stored) -> Self {
        let arrival = stored.arrival;
        let found = arrival.judgement.as_ref();
        Self {
            id: stored.id.to_string(),
            sent: time::show(arrival.sent_ms),
            deadline: time::show(arrival.deadline_ms()),
            state: arrival.state.as_str().into(),
            good: arrival.state == ArrivalState::Arrived && found.is_some_and(Judgement::is_good),
            arrived: found.map(|found| time::show(found.at_ms)),
            token: arrival.token.as_str().into(),
            route: arrival.route,
            from: arrival.from,
            to: arrival.to,
            mailbox: arrival.mailbox,
            message: arrival.message,
            problem: arrival.problem,
            judgement: arrival.judgement,
        }
    }
}

/// Which ones.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Which {
    /// Only those in this state.
    state: Option<String>,
    /// `next` of the page before.
    before: Option<String>,
    limit: Option<u32>,
}

/// Test mails, newest first. With `state` a page may be shorter than asked for.
pub async fn list(
    State(app): State<Shared>,
    _: Admin,
    Query(which): Query<Which>,
) -> Result<axum::Json<Page<ArrivalOut>>, Problem> {
    let limit = which.limit.unwrap_or(100).clamp(1, 1_000);
    let wrong = |_| Problem::field("/before", "is not the `next` of a page");
    let before = which.before.map(|text| text.parse::<i64>().map_err(wrong)).transpose()?;
    let unknown = || Problem::field("/state", "is waiting, arrived, late, missing or failed");
    let state = which.state.map(|name| ArrivalState::from_name(&name).ok_or_else(unknown)).transpose()?;
    let query = RecordQuery { before, limit, ..RecordQuery::of(RecordKind::Arrival) };
    let found = record::find(&*app.store, query).await?;
    let next = found.last().filter(|_| found.len() == limit as usize).map(|last| last.id.to_string());
    let of_state = |one: &Stored| state.is_none_or(|state| one.arrival.state == state);
    Ok(axum::Json(Page { items: found.into_iter().filter(of_state).map(ArrivalOut::of).collect(), next }))
}

/// Sends one.
pub async fn add(
    State(app): State<Shared>,
    _: Admin,
    Json(wanted): Json<ArrivalIn>,
) -> Result<(StatusCode, axum::Json<ArrivalOut>), Problem> {
    let stored = send::send(&app, wanted).await?;
    Ok((StatusCode::CREATED, axum::Json(ArrivalOut::of(stored))))
}

/// One of them, by its number or its token.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<axum::Json<ArrivalOut>, Problem> {
    let found = match (id.parse::<i64>(), Token::all_in(id.as_bytes()).pop()) {
        (Ok(id), _) => record::find(&*app.store, RecordQuery::one(RecordKind::Arrival, id)).await?.pop(),
        (_, Some(token)) => record::by_token(&*app.store, &token).await?,
        _ => None,
    };
    found.map(|found| axum::Json(ArrivalOut::of(found))).ok_or_else(Problem::not_found)
}

/// A header.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderIn {
    /// The header of the mail as the recipient's program shows it, or the whole mail; at most 512 KiB.
    header: String,
}

/// Takes the header that a person pastes as the proof.
pub async fn proof(
    State(app): State<Shared>,
    _: Admin,
    Json(HeaderIn { header }): Json<HeaderIn>,
) -> Result<axum::Json<ArrivalOut>, Problem> {
    if header.len() > MOST {
        return Err(Problem::field("/header", "is longer than 512 KiB"));
    }
    if Token::all_in(header.as_bytes()).is_empty() {
        let text = "has no token (`arrival-…`) in it: paste the whole header, with Subject or Message-ID";
        return Err(Problem::field("/header", text));
    }
    let seen = Seen { way: Way::Pasted, folder: None, at_ms: None, now_ms: app.clock.now_ms() };
    let found = confirm(&app, header.as_bytes(), &seen).await?;
    let unknown = || Problem::new(StatusCode::NOT_FOUND, "the token in it is of no test mail that is known here");
    found.map(|found| axum::Json(ArrivalOut::of(found))).ok_or_else(unknown)
}
