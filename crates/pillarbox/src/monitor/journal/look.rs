//! One record looked at: compared with what is kept, stored when it changed, told to the alerts.

use diagnose::journal::{Difference, Snapshot, What};
use explain::Severity;
use store::{RecordKind, RecordWrite, StoreError};

use super::affected;
use super::entry::{self, Entry, Stored};
use crate::alert::{self, Alert, AlertRule};
use crate::http::Shared;
use crate::monitor::Level;

/// An alert about a change that left nothing wrong ends with the first look after so long, milliseconds.
const ALERT_KEPT_MS: i64 = 6 * 3_600_000;

/// How one record is.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// Something changed since the last look.
    pub changed: bool,
    /// Sentences about what is wrong at this moment.
    pub troubles: Vec<String>,
    /// It is gone, or its zone is.
    pub gone: bool,
}

impl Noted {
    /// As a check says it.
    pub fn level(&self, what: &What) -> Level {
        match (self.gone, self.troubles.is_empty(), what) {
            (true, ..) => Level::Problem,
            (false, true, _) => Level::Ok,
            // Name servers of a provider are not ours to mend.
            (false, false, What::SpfOf(_)) => Level::Note,
            (false, false, _) => Level::Warning,
        }
    }
}

/// What is new, if anything.
enum News {
    Nothing,
    First,
    Change(Difference),
}

/// Compares, stores and tells.
pub(super) async fn note(app: &Shared, domain: &str, what: &What, mut now: Snapshot) -> Result<Noted, StoreError> {
    let before = entry::newest(&*app.store, domain, what).await?;
    let earlier = before.as_ref().map(|before| &before.entry.snapshot);
    let sure = now.be_patient(domain, earlier, &mut app.dns.patience.lock());
    let news = match &before {
        // Keys are looked for at names that providers use; most are not there, and that is nothing to keep.
        None if now.is_empty() && matches!(what, What::Dkim(_)) => return Ok(Noted::default()),
        None if !sure => return Ok(Noted::default()),
        None => News::First,
        Some(before) => match Difference::between(what, domain, &before.entry.snapshot, &now) {
            Some(change) => News::Change(change),
            None => News::Nothing,
        },
    };
    let mut noted = Noted { changed: false, troubles: now.troubles(), gone: is_gone(before.as_ref(), &now, what) };
    let key = format!("dns:{}", Entry::name(domain, what));
    let change = match news {
        News::Nothing => {
            let old = before.is_none_or(|before| app.clock.now_ms() - before.at_ms > ALERT_KEPT_MS);
            if old && noted.level(what) < Level::Warning && app.alerts.is_raised(&key).await {
                app.alerts.resolve(&key, "nothing changed since, and all name servers agree").await;
            }
            return Ok(noted);
        }
        News::First => None,
        News::Change(change) => Some(change),
    };
    noted.changed = change.is_some();
    let affected = match (what, domain.parse()) {
        (What::Ptr, Ok(address)) => affected::of_address(app, address),
        _ => affected::of_domain(app, domain, what).await,
    };
    let entry = Entry { domain: domain.to_owned(), what: what.clone(), snapshot: now, change, affected };
    let body = serde_json::to_value(&entry).map_err(|error| StoreError::Internal(error.to_string()))?;
    let (kind, at_ms) = (RecordKind::DnsSnapshot, app.clock.now_ms());
    let write = RecordWrite::Add { kind, name: Entry::name(domain, what), open: false, at_ms, body };
    app.store.write_records(vec![write]).await?;
    if let Some(change) = entry.change.as_ref().filter(|change| is_worth_telling(change, what)) {
        tracing::warn!(%domain, %what, "{}", change.lines.join("; "));
        app.alerts.raise(alert(key, &entry, change)).await;
    }
    Ok(noted)
}

/// What mail needs was there once and is on no server now.
fn is_gone(before: Option<&Stored>, now: &Snapshot, what: &What) -> bool {
    let Some(before) = before else { return now.zone.is_none() };
    let was = |stored: &Stored| {
        let change = stored.entry.change.as_ref();
        !stored.entry.snapshot.is_empty() || change.is_some_and(|change| !change.gone.is_empty())
    };
    now.zone.is_none() || (what.is_vital() && now.answering().next().is_some() && now.is_empty() && was(before))
}

/// Records that came or went; and servers that died, where they are ours to mend.
fn is_worth_telling(change: &Difference, what: &What) -> bool {
    let records = !change.gone.is_empty() || !change.came.is_empty();
    records || change.severity != Severity::Note || !matches!(what, What::SpfOf(_))
}

fn alert(key: String, entry: &Entry, change: &Difference) -> Alert {
    let severity = match change.severity {
        Severity::Problem => alert::Severity::Problem,
        _ => alert::Severity::Warning,
    };
    let mut text = change.lines.iter().map(|line| sentence(line)).collect::<Vec<_>>().join("\n");
    let Entry { affected, domain, .. } = entry;
    for warning in &affected.warnings {
        text.push_str("\n\n");
        text.push_str(warning);
    }
    let shown = if entry.what == What::Ptr {
        format!("pillarbox journal {domain}")
    } else {
        format!("pillarbox journal {domain}; pillarbox domain {domain} --routes")
    };
    text.push_str(&format!("\n\nIf nobody of you changed it, ask who may. Look closer: {shown}"));
    let mut about = vec![("domain".to_owned(), domain.clone()), ("record".to_owned(), entry.what.to_string())];
    for (name, values) in
        [("gone", &change.gone), ("came", &change.came), ("senders", &affected.senders), ("routes", &affected.routes)]
    {
        if !values.is_empty() {
            about.push((name.to_owned(), values.join(", ")));
        }
    }
    let title = change.lines.first().cloned().unwrap_or_else(|| format!("DNS of {domain} changed"));
    Alert { key, rule: AlertRule::DnsChanged, severity, title, text, about, avoid: Vec::new(), link: None }
}

fn sentence(line: &str) -> String {
    let mut chars = line.chars();
    let first = chars.next().map(|first| first.to_uppercase().collect::<String>()).unwrap_or_default();
    // A domain keeps its case.
    let is_name = line.split(' ').next().is_some_and(|word| word.contains('.'));
    if is_name { format!("{line}.") } else { format!("{first}{}.", chars.as_str()) }
}
