//! The audit log: who changed what, newest first.

use std::net::IpAddr;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use store::{Record, RecordKind, RecordQuery};

use crate::audit::Entry;
use crate::audit::diff::Change;
use crate::http::auth::Admin;
use crate::http::json::Query;
use crate::http::problem::Problem;
use crate::http::views::Page;
use crate::http::{Shared, time};

/// Most records that one request reads while it looks for those that match.
const MOST_READ: usize = 20_000;

/// One act.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditOut {
    /// Its number; grows.
    pub id: i64,
    /// When, RFC 3339.
    pub at: String,
    /// Who: a user, an API key, `control socket`, or `Pillarbox` itself.
    pub who: String,
    /// From where; absent over the control socket.
    pub address: Option<IpAddr>,
    /// The request, as the log names it.
    pub request: Option<String>,
    /// `add`, `change`, `remove`, or the operation, such as `hold`.
    pub action: String,
    /// On what: `route/o365`, `queue`.
    pub what: String,
    /// Fields that changed, without secrets.
    pub changes: Vec<Change>,
    /// What else there is to say, such as how many recipients.
    pub detail: Option<serde_json::Value>,
}

impl AuditOut {
    fn of(record: Record) -> Option<Self> {
        let entry: Entry = serde_json::from_value(record.body).ok()?;
        Some(Self {
            id: record.id,
            at: time::show(record.at_ms),
            who: entry.who,
            address: entry.address,
            request: entry.request,
            action: entry.action,
            what: record.name,
            changes: entry.changes,
            detail: entry.detail,
        })
    }
}

/// Which acts to list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct List {
    /// Who, or a part of it, such as `ann`.
    who: Option<String>,
    /// What: `route/o365`, or all of a kind: `route`.
    what: Option<String>,
    /// The action.
    action: Option<String>,
    /// From this moment on, RFC 3339.
    since: Option<String>,
    /// Before this moment, RFC 3339.
    until: Option<String>,
    /// Continue below this id.
    before: Option<i64>,
    limit: Option<u32>,
}

/// Who changed what, newest first.
pub async fn list(
    State(app): State<Shared>,
    _: Admin,
    Query(query): Query<List>,
) -> Result<axum::Json<Page<AuditOut>>, Problem> {
    let moment = |pointer: &str, text: &Option<String>| match text {
        Some(text) => {
            let wrong = || Problem::field(pointer, "is not a time such as 2026-11-21T03:08:29Z");
            time::read(text).map(Some).ok_or_else(wrong)
        }
        None => Ok(None),
    };
    let limit = query.limit.unwrap_or(100).clamp(1, 1000);
    let mut wanted = RecordQuery {
        kind: RecordKind::Audit,
        name: query.what.clone().filter(|what| what.contains('/')),
        open: None,
        since_ms: moment("/since", &query.since)?,
        until_ms: moment("/until", &query.until)?,
        id: None,
        before: query.before,
        after: None,
        limit: 1000,
    };
    let mut items = Vec::new();
    let mut read = 0;
    let next = loop {
        let found = app.store.records(wanted.clone()).await?;
        let (all, last) = (found.len(), found.last().map(|record| record.id));
        read += all;
        for record in found {
            if items.len() == limit as usize {
                break;
            }
            items.extend(AuditOut::of(record).filter(|one| query.matches(one)));
        }
        if items.len() == limit as usize {
            break items.last().map(|one| one.id.to_string());
        }
        match last {
            Some(last) if all == wanted.limit as usize && read < MOST_READ => wanted.before = Some(last),
            Some(last) if all == wanted.limit as usize => break Some(last.to_string()),
            _ => break None,
        }
    };
    Ok(axum::Json(Page { items, next }))
}

impl List {
    fn matches(&self, one: &AuditOut) -> bool {
        let what = |wanted: &String| {
            one.what == *wanted || one.what.strip_prefix(wanted.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        self.what.as_ref().is_none_or(what)
            && self.action.as_ref().is_none_or(|action| one.action == *action)
            && self.who.as_ref().is_none_or(|who| one.who.to_lowercase().contains(&who.to_lowercase()))
    }
}
