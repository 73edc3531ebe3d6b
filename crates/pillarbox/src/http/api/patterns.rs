//! Patterns in failures.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use store::IncidentScope;

use crate::changes::{self, Trouble};
use crate::http::auth::Admin;
use crate::http::json::Query;
use crate::http::kept::Worth;
use crate::http::problem::Problem;
use crate::http::{Shared, time};
use crate::patterns::{self, Cause, Recurs, ShareOut};

const DAY_MS: i64 = 86_400_000;
/// Days that are looked at, and at most.
const DAYS: (u32, u32) = (28, 366);
/// Failures of which the answer is kept, for up to five minutes; `until` says of when it is.
const MANY: usize = 2_000;
/// New causes for which what changed before is looked up.
const NEW: usize = 5;

/// How far to look back.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PatternsQuery {
    days: Option<u32>,
}

/// What was found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PatternsOut {
    /// From when on, RFC 3339: later than asked for if there were more failures than are looked at (100,000).
    pub from: String,
    /// Until when.
    pub until: String,
    /// Failed attempts of recipients.
    pub failures: usize,
    /// By cause, most failures first.
    pub causes: Vec<CausePatternOut>,
    /// By whose turn it is.
    pub owners: Vec<ShareOut>,
    /// By stage of the conversation.
    pub stages: Vec<ShareOut>,
}

/// One cause.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CausePatternOut {
    /// Id of the rule.
    pub rule: String,
    /// Reason.
    pub reason: String,
    /// Whose turn it is.
    pub owner: String,
    /// One line.
    pub title: String,
    /// Failures.
    pub failures: usize,
    /// Of all, percent.
    pub percent: f64,
    /// Of these, the end for the recipient.
    pub last: usize,
    /// The first, RFC 3339.
    pub first_seen: String,
    /// The last, RFC 3339.
    pub last_seen: String,
    /// Failures of each day, oldest first.
    pub days: Vec<u32>,
    /// When it comes back.
    pub recurs: Option<Recurs>,
    /// The same in words.
    pub recurs_words: Option<String>,
    /// When it began, if it was not there in the first two days.
    pub began: Option<String>,
    /// What changed before it began, the likeliest first.
    pub changes_before: Vec<String>,
    /// Routes, most failures first.
    pub routes: Vec<ShareOut>,
    /// Providers, most failures first.
    pub providers: Vec<ShareOut>,
}

/// Failures by cause over time: shares, what comes back, what is new and what changed before.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Query(query): Query<PatternsQuery>,
) -> Result<axum::Json<PatternsOut>, Problem> {
    let days = query.days.unwrap_or(DAYS.0);
    if !(1..=DAYS.1).contains(&days) {
        return Err(Problem::field("/days", format!("is 1 to {}", DAYS.1)));
    }
    app.patterns.get(&app, days, move |app| look(app, days)).await.map(axum::Json)
}

async fn look(app: Shared, days: u32) -> Result<(PatternsOut, Worth), Problem> {
    let now_ms = app.clock.now_ms();
    let rules = app.rules();
    let gathered = patterns::gather(&*app.store, &rules, now_ms - i64::from(days) * DAY_MS).await?;
    let found = patterns::find(&gathered.facts, gathered.from_ms, now_ms);
    let mut causes = Vec::with_capacity(found.causes.len());
    let mut new = 0;
    for cause in found.causes {
        let changes_before = match cause.began_ms {
            Some(began_ms) if new < NEW => {
                new += 1;
                before(&app, &cause, began_ms).await?
            }
            _ => Vec::new(),
        };
        causes.push(out(cause, changes_before));
    }
    let worth = if gathered.facts.len() >= MANY { Worth::Keeping } else { Worth::Nothing };
    let out = PatternsOut {
        from: time::show(gathered.from_ms),
        until: time::show(now_ms),
        failures: found.times,
        causes,
        owners: found.owners,
        stages: found.stages,
    };
    Ok((out, worth))
}

/// What changed before a cause began, as far as its routes and providers say whom it touches.
async fn before(app: &Shared, cause: &Cause, began_ms: i64) -> Result<Vec<String>, Problem> {
    let mostly = |list: &[ShareOut]| list.first().filter(|share| share.percent >= 80.0).map(|share| share.name.clone());
    let (route, provider) = (mostly(&cause.routes), mostly(&cause.providers));
    let scope = match &route {
        Some(route) if relay::incident::scope::is_of_credential(&cause.reason) => {
            IncidentScope::Credential(route.clone())
        }
        Some(route) => IncidentScope::Route(route.clone()),
        None => IncidentScope::Everyone,
    };
    let trouble = Trouble {
        scope: &scope,
        reason: &cause.reason,
        provider: provider.as_deref(),
        route: route.as_deref(),
        sender_domain: None,
        since_ms: began_ms,
    };
    Ok(changes::sentences(&changes::before(&*app.store, &trouble).await?))
}

fn out(cause: Cause, changes_before: Vec<String>) -> CausePatternOut {
    CausePatternOut {
        rule: cause.rule,
        reason: cause.reason,
        owner: cause.owner,
        title: cause.title,
        failures: cause.times,
        percent: cause.percent,
        last: cause.last,
        first_seen: time::show(cause.between.0),
        last_seen: time::show(cause.between.1),
        days: cause.days,
        recurs: cause.recurs,
        recurs_words: cause.recurs.map(Recurs::words),
        began: cause.began_ms.map(time::show),
        changes_before,
        routes: cause.routes,
        providers: cause.providers,
    }
}
