//! Results of checks: kept, compared with the last, and told when they change.
//!
//! A record is a period of equal results: one that says the same again only counts up, so the history of a check is a list
//! of its changes.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{Record, RecordKind, RecordQuery, RecordWrite, RecordWritten, StoreError};

use super::check::{Alerting, Found, Level};
use super::jobs::Done;
use super::judge::{self, Memory, Say};
use crate::alert::{Alert, AlertRule, Severity};
use crate::http::Shared;

/// Results older than this are forgotten, milliseconds.
const KEPT_MS: i64 = 90 * 86_400_000;
/// So many of each check never are.
const KEPT: u32 = 20;
/// Largest detail that is kept, octets of JSON.
const MOST_DETAIL: usize = 32 << 10;
/// Largest facts, octets of JSON.
const MOST_FACTS: usize = 64 << 10;
/// Most lines of advice.
const MOST_ADVICE: usize = 10;
/// What is bad for the first time is looked at again after this time, milliseconds.
pub const AGAIN_MS: i64 = 60_000;

/// A period of equal results, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Result {
    /// How it was.
    pub level: Level,
    /// The last sentence.
    pub summary: String,
    /// What was compared.
    pub facts: Value,
    /// More for people, of the last run.
    #[serde(default)]
    pub detail: Value,
    /// What to do.
    #[serde(default)]
    pub advice: Vec<String>,
    /// How it was before.
    #[serde(default)]
    pub before: Option<Level>,
    /// What differs from before.
    #[serde(default)]
    pub changes: Vec<String>,
    /// Last run of the period, Unix milliseconds.
    pub last_ms: i64,
    /// Runs in this period.
    pub runs: u64,
    /// How long the last of them took.
    pub duration_ms: u64,
    /// What is remembered.
    #[serde(default)]
    pub memory: Memory,
}

/// A result with its place in the history.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Record.
    pub id: i64,
    /// Beginning of the period, Unix milliseconds.
    pub at_ms: i64,
    /// The result.
    pub result: Result,
}

impl Kept {
    fn read(record: Record) -> Option<Self> {
        let result = serde_json::from_value(record.body).ok()?;
        Some(Self { id: record.id, at_ms: record.at_ms, result })
    }
}

/// The newest result of each check.
#[derive(Debug, Default)]
pub struct Results {
    latest: Mutex<BTreeMap<String, Kept>>,
}

/// Whose result it is.
#[derive(Debug, Clone)]
pub struct Whose {
    /// Name of the check.
    pub name: String,
    /// In words.
    pub title: String,
    /// Rule of its alerts.
    pub rule: AlertRule,
    /// What alerts.
    pub alerting: Alerting,
    /// Bad results in a row before it counts.
    pub confirm: u32,
}

impl Results {
    /// The newest result of a check, if it was read.
    pub fn latest(&self, name: &str) -> Option<Kept> {
        self.latest.lock().get(name).cloned()
    }

    /// The newest results of the checks of a kind, by name.
    pub fn of_kind(&self, kind: &str) -> Vec<(String, Kept)> {
        let latest = self.latest.lock();
        let found = latest.iter().filter(|(name, _)| name.split(':').next() == Some(kind));
        found.map(|(name, kept)| (name.clone(), kept.clone())).collect()
    }

    /// How many checks of each kind are how.
    pub fn levels(&self) -> BTreeMap<(String, Level), u64> {
        let mut levels = BTreeMap::new();
        for (name, kept) in self.latest.lock().iter() {
            let kind = name.split(':').next().unwrap_or(name).to_owned();
            *levels.entry((kind, kept.result.level)).or_default() += 1;
        }
        levels
    }

    /// Reads the newest result of a check.
    pub async fn open(&self, app: &Shared, name: &str) -> std::result::Result<(), StoreError> {
        let query = RecordQuery { limit: 1, ..RecordQuery::named(RecordKind::CheckResult, name) };
        if let Some(kept) = app.store.records(query).await?.pop().and_then(Kept::read) {
            self.latest.lock().insert(name.to_owned(), kept);
        }
        Ok(())
    }

    /// The check is no more: its history stays for a while, an alert about it does not.
    pub async fn close(&self, app: &Shared, name: &str) {
        let Some(kept) = self.latest.lock().remove(name) else { return };
        if kept.result.memory.raised {
            app.alerts.resolve(&key(name), "it is not checked any more").await;
        }
        if let Some(key) = &kept.result.memory.changed {
            app.alerts.resolve(key, "it is not checked any more").await;
        }
    }
}

/// The history of a check, newest first.
pub async fn history(
    app: &Shared,
    name: &str,
    before: Option<i64>,
    limit: u32,
) -> std::result::Result<Vec<Kept>, StoreError> {
    let query = RecordQuery { before, limit, ..RecordQuery::named(RecordKind::CheckResult, name) };
    Ok(app.store.records(query).await?.into_iter().filter_map(Kept::read).collect())
}

/// Forgets old results; gives how many.
pub async fn prune(app: &Shared) -> std::result::Result<u64, StoreError> {
    let before_ms = app.clock.now_ms() - KEPT_MS;
    let mut all = 0;
    loop {
        let gone = app.store.prune_records(RecordKind::CheckResult, before_ms, KEPT).await?;
        all += gone;
        if gone < store::MOST_RECORDS as u64 {
            return Ok(all);
        }
    }
}

/// The key of alerts about a check.
pub fn key(name: &str) -> String {
    format!("check:{name}")
}

/// Compares a result with the last, keeps it and tells who has to be told.
pub async fn take(app: &Shared, whose: &Whose, found: Found, began_ms: i64) -> Done {
    let found = bounded(found);
    let done = Done { level: found.level, summary: found.summary.clone() };
    if found.level == Level::Skipped {
        return done;
    }
    let now_ms = app.clock.now_ms();
    let last = app.monitor.results.latest(&whose.name);
    let mut memory = last.as_ref().map(|last| last.result.memory.clone()).unwrap_or_default();
    let confirm = if found.sure { 1 } else { whose.confirm };
    let was_bad = memory.raised;
    let say = match memory.take(found.level, confirm, now_ms) {
        Say::Raise if found.by_incident => Say::Nothing,
        say => say,
    };
    let before_facts = last.as_ref().map(|last| &last.result.facts);
    let changes = before_facts.map(|facts| judge::changes(facts, &found.facts)).unwrap_or_default();
    let over = memory.changed.take();
    // A level that has just become bad, or well again, says it already.
    let turned =
        was_bad != memory.raised || last.as_ref().is_some_and(|last| last.result.level < found.level && was_bad);
    if !turned && !found.by_incident && judge::tells_changes(whose.alerting, before_facts, &found) {
        memory.changed = Some(format!("{}:{now_ms}", key(&whose.name)));
    }
    let duration_ms = u64::try_from(now_ms - began_ms).unwrap_or(0);
    let kept = period(last, &found, changes, memory, now_ms, duration_ms);
    tell(app, whose, &kept, say, over).await;
    if say == Say::LookAgain {
        app.monitor.jobs.again(&whose.name, now_ms + AGAIN_MS);
    }
    match write(app, &whose.name, kept).await {
        Ok(()) => done,
        Err(error) => {
            tracing::error!(check = %whose.name, %error, "the result of a check could not be kept");
            done
        }
    }
}

/// The period this result belongs to: the last one, or a new one.
fn period(
    last: Option<Kept>,
    found: &Found,
    changes: Vec<String>,
    memory: Memory,
    now_ms: i64,
    duration_ms: u64,
) -> Kept {
    let same = |last: &Kept| last.result.level == found.level && last.result.facts == found.facts;
    let new = Result {
        level: found.level,
        summary: found.summary.clone(),
        facts: found.facts.clone(),
        detail: found.detail.clone(),
        advice: found.advice.clone(),
        before: last.as_ref().map(|last| last.result.level),
        changes,
        last_ms: now_ms,
        runs: 1,
        duration_ms,
        memory,
    };
    match last {
        Some(last) if same(&last) => {
            let Result { before, changes, runs, .. } = last.result;
            Kept { result: Result { before, changes, runs: runs + 1, ..new }, ..last }
        }
        _ => Kept { id: 0, at_ms: now_ms, result: new },
    }
}

async fn write(app: &Shared, name: &str, mut kept: Kept) -> std::result::Result<(), StoreError> {
    let kind = RecordKind::CheckResult;
    let body = serde_json::to_value(&kept.result).map_err(|error| StoreError::Internal(error.to_string()))?;
    let add = |body| RecordWrite::Add { kind, name: name.to_owned(), open: false, at_ms: kept.at_ms, body };
    let first = match kept.id {
        0 => add(body.clone()),
        id => RecordWrite::Change { kind, id, version: None, open: false, body: body.clone() },
    };
    match app.store.write_records(vec![first]).await?.first() {
        Some(RecordWritten::Added(id)) => kept.id = *id,
        // It was forgotten meanwhile.
        Some(RecordWritten::Missing) => {
            if let Some(RecordWritten::Added(id)) = app.store.write_records(vec![add(body)]).await?.first() {
                kept.id = *id;
            }
        }
        _ => {}
    }
    app.monitor.results.latest.lock().insert(name.to_owned(), kept);
    Ok(())
}

async fn tell(app: &Shared, whose: &Whose, kept: &Kept, say: Say, over: Option<String>) {
    if let Some(key) = over {
        app.alerts.resolve(&key, "the next run found nothing new").await;
    }
    if whose.alerting == Alerting::Never {
        return;
    }
    let result = &kept.result;
    match say {
        Say::Raise => app.alerts.raise(alert(whose, kept, key(&whose.name), result.summary.clone())).await,
        Say::Resolve => app.alerts.resolve(&key(&whose.name), &result.summary).await,
        Say::Nothing | Say::LookAgain => {}
    }
    if let Some(key) = &result.memory.changed {
        let title = format!("{} has changed", whose.title);
        app.alerts.raise(alert(whose, kept, key.clone(), title)).await;
    }
}

fn alert(whose: &Whose, kept: &Kept, key: String, title: String) -> Alert {
    let result = &kept.result;
    let mut text = format!("{}: {}", whose.title, result.summary);
    for (head, lines) in [("What has changed:", &result.changes), ("What to do:", &result.advice)] {
        if !lines.is_empty() {
            text.push_str(&format!("\n\n{head}"));
            lines.iter().for_each(|line| text.push_str(&format!("\n- {line}")));
        }
    }
    let mut about = vec![
        ("check".to_owned(), whose.name.clone()),
        ("level".to_owned(), result.level.word().to_owned()),
        ("since".to_owned(), crate::http::time::show(kept.at_ms)),
    ];
    about.extend(result.before.map(|before| ("before".to_owned(), before.word().to_owned())));
    about.push(("command".to_owned(), format!("pillarbox schedule show {}", whose.name)));
    let avoid = result.detail.get("avoid").and_then(Value::as_array).cloned().unwrap_or_default();
    Alert {
        key,
        rule: whose.rule,
        severity: if result.level == Level::Problem { Severity::Problem } else { Severity::Warning },
        title,
        text,
        about,
        avoid: avoid.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        link: None,
    }
}

/// Nothing that a peer made long gets into the store.
fn bounded(mut found: Found) -> Found {
    let length = |value: &Value| value.to_string().len();
    if length(&found.facts) > MOST_FACTS {
        let digest = blake3::hash(found.facts.to_string().as_bytes());
        found.facts = json!({ "too_long_to_keep": digest.to_hex().as_str() });
    }
    if length(&found.detail) > MOST_DETAIL {
        found.detail = json!({ "note": "the report was too long to be kept; run the check by hand to see it" });
    }
    if !found.avoid.is_empty() {
        match &mut found.detail {
            Value::Object(detail) => drop(detail.insert("avoid".into(), found.avoid.clone().into())),
            detail => *detail = json!({ "avoid": found.avoid, "report": detail.take() }),
        }
    }
    found.advice.truncate(MOST_ADVICE);
    found.summary = found.summary.chars().take(500).collect();
    found
}
