//! Blocklists: asking them now about our own addresses and domains, or about others; the way off one.

use axum::extract::State;
use axum::http::StatusCode;
use diagnose::lists::ListsReport;
use explain::lists::Blocklist;
use serde::{Deserialize, Serialize};

use crate::http::Shared;
use crate::http::auth::Admin;
use crate::http::json::Json;
use crate::http::problem::Problem;
use crate::http::views::Page;
use crate::monitor::{dns, lists};

/// Most subjects of one request.
const MOST: usize = 50;

/// A list that is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BlocklistOut {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its zone, without a key in it.
    pub zone: String,
    /// What it lists: `ip` or `domain`.
    #[serde(rename = "for")]
    pub of: String,
    /// Who believes it: `major` (many) or `minor` (few).
    pub weight: String,
    /// The same in words.
    pub used: String,
    /// Where removal is asked for.
    pub url: String,
    /// How one gets off it: `request`, `expires` or `provider`.
    pub removal: String,
    /// Hours after the last trouble until an entry ends by itself.
    pub ends_h: Option<u32>,
    /// Month of its end: it is not asked any more.
    pub retired: Option<String>,
}

impl BlocklistOut {
    /// Of a list.
    pub fn of(list: &Blocklist) -> Self {
        let word = |value: serde_json::Result<serde_json::Value>| {
            value.ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
        };
        Self {
            id: list.id.clone(),
            name: list.name.clone(),
            zone: list.shown_zone().to_owned(),
            of: word(serde_json::to_value(list.of)),
            weight: word(serde_json::to_value(list.weight)),
            used: list.used.clone(),
            url: list.url.clone(),
            removal: word(serde_json::to_value(list.removal)),
            ends_h: list.ends_h,
            retired: list.retired.clone(),
        }
    }
}

/// Whom to ask about.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AskIn {
    /// Addresses and domains, at most 50; none: our own addresses and the domains that write.
    subjects: Vec<String>,
}

fn unusable(why: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why)
}

/// The lists.
pub async fn list(State(app): State<Shared>, _: Admin) -> Result<axum::Json<Page<BlocklistOut>>, Problem> {
    let lists = app.dns.lists().map_err(unusable)?;
    Ok(axum::Json(Page { items: lists.iter().map(BlocklistOut::of).collect(), next: None }))
}

/// Asks the lists now.
pub async fn ask(
    State(app): State<Shared>,
    _: Admin,
    Json(AskIn { mut subjects }): Json<AskIn>,
) -> Result<axum::Json<ListsReport>, Problem> {
    if subjects.len() > MOST {
        return Err(Problem::field("/subjects", format!("at most {MOST}")));
    }
    if subjects.is_empty() {
        subjects = dns::addresses(&app).into_keys().map(|address| address.to_string()).collect();
        subjects.extend(dns::domains(&app).await);
        subjects.truncate(MOST);
    }
    for (at, text) in subjects.iter().enumerate() {
        if diagnose::lists::Subject::parse(text).is_none() {
            return Err(Problem::field(format!("/subjects/{at}"), "is neither an address nor a domain"));
        }
    }
    lists::ask(&app, &subjects).await.map(axum::Json).map_err(unusable)
}
