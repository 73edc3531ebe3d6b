//! The DNS journal: what changed at the name servers of domains that write, and how their records are now.

use axum::extract::{Path, State};
use diagnose::journal::{ServerChange, ServerView};
use explain::Severity;
use serde::{Deserialize, Serialize};

use crate::http::Shared;
use crate::http::auth::Admin;
use crate::http::json::Query;
use crate::http::problem::Problem;
use crate::http::time;
use crate::http::views::Page;
use crate::monitor::journal::{self, Affected, Stored};

/// Which changes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Which {
    /// A domain, or an address for its reverse name.
    domain: Option<String>,
    /// From this time on, RFC 3339.
    since: Option<String>,
    /// Before this time, RFC 3339.
    until: Option<String>,
    /// `next` of the page before.
    before: Option<String>,
    limit: Option<u32>,
}

/// A change.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DnsChangeOut {
    /// Cursor.
    pub id: String,
    /// When it was seen, RFC 3339.
    pub seen: String,
    /// The domain, or the address.
    pub domain: String,
    /// Which record: `ns`, `mx`, `spf`, `spf:<included domain>`, `dkim:<selector>`, `dmarc`, `dmarc:<domain above>`, `mta-sts`,
    /// `tls-rpt`, `ptr`.
    pub record: String,
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// How bad it is for mail.
    pub severity: Severity,
    /// What changed, in sentences.
    pub lines: Vec<String>,
    /// Records that no server has any more.
    pub gone: Vec<String>,
    /// Records that a server has now.
    pub came: Vec<String>,
    /// The servers do not agree.
    pub half: bool,
    /// Server by server.
    pub servers: Vec<ServerChange>,
    /// Whose mail depends on it.
    pub affected: Affected,
}

/// How the records of a domain are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DnsStateOut {
    /// The domain, or the address.
    pub domain: String,
    /// Each record.
    pub records: Vec<DnsRecordOut>,
}

/// How one record is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DnsRecordOut {
    /// Which record.
    pub record: String,
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The zone it is in; none if there is no such zone.
    pub zone: Option<String>,
    /// Since when it is so as far as is known, RFC 3339.
    pub since: String,
    /// What at least one server has.
    pub records: Vec<String>,
    /// The servers do not agree.
    pub half: bool,
    /// Who disagrees, who does not answer, in sentences.
    pub troubles: Vec<String>,
    /// Each address of each server.
    pub servers: Vec<ServerView>,
}

impl DnsChangeOut {
    fn of(stored: Stored) -> Option<Self> {
        let Stored { id, at_ms, entry } = stored;
        let change = entry.change?;
        Some(Self {
            id: id.to_string(),
            seen: time::show(at_ms),
            domain: entry.domain,
            record: entry.what.to_string(),
            half: entry.snapshot.is_half(),
            name: entry.snapshot.name,
            kind: entry.snapshot.kind,
            severity: change.severity,
            lines: change.lines,
            gone: change.gone,
            came: change.came,
            servers: change.servers,
            affected: entry.affected,
        })
    }
}

impl DnsRecordOut {
    fn of(stored: Stored) -> Self {
        let Stored { at_ms, entry, .. } = stored;
        let snapshot = entry.snapshot;
        Self {
            record: entry.what.to_string(),
            since: time::show(at_ms),
            records: snapshot.records().into_iter().map(str::to_owned).collect(),
            half: snapshot.is_half(),
            troubles: snapshot.troubles(),
            name: snapshot.name,
            kind: snapshot.kind,
            zone: snapshot.zone,
            servers: snapshot.servers,
        }
    }
}

/// Changes, newest first.
pub async fn list(
    State(app): State<Shared>,
    _: Admin,
    Query(which): Query<Which>,
) -> Result<axum::Json<Page<DnsChangeOut>>, Problem> {
    let limit = which.limit.unwrap_or(100).clamp(1, 1_000) as usize;
    let moment = |field: &str, text: Option<String>| {
        let wrong = || Problem::field(field, "is no time of RFC 3339 with an offset, such as 2026-11-21T06:00:00Z");
        text.map(|text| time::read(&text).ok_or_else(wrong)).transpose()
    };
    let (since, until) = (moment("/since", which.since)?, moment("/until", which.until)?);
    let wrong = |_| Problem::field("/before", "is not the `next` of a page");
    let before = which.before.map(|text| text.parse::<i64>().map_err(wrong)).transpose()?;
    let domain = which.domain.as_deref().map(|text| owner("/domain", text)).transpose()?;
    let found = journal::page(&*app.store, domain.as_deref(), since, until, before, limit).await?;
    let next = found.last().filter(|_| found.len() == limit).map(|last| last.id.to_string());
    Ok(axum::Json(Page { items: found.into_iter().filter_map(DnsChangeOut::of).collect(), next }))
}

/// How the records of a domain are, as they were seen last.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Path(domain): Path<String>,
) -> Result<axum::Json<DnsStateOut>, Problem> {
    let domain = owner("", &domain)?;
    let records: Vec<DnsRecordOut> =
        journal::current(&*app.store, &domain).await?.into_iter().map(DnsRecordOut::of).collect();
    if records.is_empty() {
        return Err(Problem::new(
            axum::http::StatusCode::NOT_FOUND,
            format!("nothing is known of {domain}: only domains that write here, and our addresses, are looked at"),
        ));
    }
    Ok(axum::Json(DnsStateOut { domain, records }))
}

/// A domain or an address, as the journal names it.
fn owner(pointer: &str, text: &str) -> Result<String, Problem> {
    let subject = diagnose::lists::Subject::parse(text);
    subject
        .map(|subject| subject.to_string())
        .ok_or_else(|| Problem::field(pointer, "is neither a domain nor an address"))
}
