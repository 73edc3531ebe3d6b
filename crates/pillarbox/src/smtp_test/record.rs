//! A test as it is kept.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{MOST_RECORD_BODY, RecordKind, RecordQuery, RecordWrite, RecordWritten, Store, StoreError};

use super::KEPT;
use crate::check::CheckIn;

/// All tests have one name, so that the newest of all are kept.
const NAME: &str = "test";
/// Room in a record for what is not the report.
const ROOM: usize = 16 << 10;

/// How far a test is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It runs.
    Running,
    /// There is a report.
    Done,
    /// It could not be run.
    Failed,
    /// The server stopped before it ended.
    Interrupted,
}

/// A test.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Test {
    /// How far it is.
    pub state: State,
    /// Who asked for it.
    pub by: String,
    /// The machine it was made on; none where there is one node and this is it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What is tested: a route or a server.
    pub subject: String,
    /// As it was asked for; without the password.
    pub asked: CheckIn,
    /// Why it could not be run, a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Value>,
}

/// A test in the store.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its number.
    pub id: i64,
    /// When it began, Unix milliseconds.
    pub at_ms: i64,
    /// The test.
    pub test: Test,
}

/// Adds one, and forgets the oldest; gives its number.
pub async fn add(store: &dyn Store, test: &Test, now_ms: i64) -> Result<i64, StoreError> {
    let add = RecordWrite::Add {
        kind: RecordKind::SmtpTest,
        name: NAME.into(),
        open: false,
        at_ms: now_ms,
        body: body(test)?,
    };
    let written = store.write_records(vec![add]).await?;
    let Some(RecordWritten::Added(id)) = written.first().copied() else {
        return Err(StoreError::Internal(format!("a record was not added: {written:?}")));
    };
    store.prune_records(RecordKind::SmtpTest, now_ms.saturating_add(1), KEPT).await?;
    Ok(id)
}

/// Writes how it ended.
pub async fn end(store: &dyn Store, id: i64, test: &Test) -> Result<(), StoreError> {
    let write = RecordWrite::Change { kind: RecordKind::SmtpTest, id, version: None, open: false, body: body(test)? };
    store.write_records(vec![write]).await.map(drop)
}

/// Those that match; newest first.
pub async fn find(store: &dyn Store, query: RecordQuery) -> Result<Vec<Stored>, StoreError> {
    let read = |record: store::Record| {
        let test = serde_json::from_value(record.body).ok()?;
        Some(Stored { id: record.id, at_ms: record.at_ms, test })
    };
    Ok(store.records(query).await?.into_iter().filter_map(read).collect())
}

/// One of them.
pub async fn one(store: &dyn Store, id: i64) -> Result<Option<Stored>, StoreError> {
    Ok(find(store, RecordQuery::one(RecordKind::SmtpTest, id)).await?.pop())
}

/// What is too long loses conversations, the last ones first: what was found stays.
fn body(test: &Test) -> Result<Value, StoreError> {
    let mut test = test.clone();
    if let Some(report) = &mut test.report {
        shorten(report);
    }
    serde_json::to_value(test).map_err(|error| StoreError::Internal(error.to_string()))
}

fn shorten(report: &mut Value) {
    let is_long = |report: &Value| report.to_string().len() > MOST_RECORD_BODY - ROOM;
    while is_long(report) {
        match report.get_mut("transcripts").and_then(Value::as_array_mut) {
            Some(conversations) if !conversations.is_empty() => drop(conversations.pop()),
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_long_report_keeps_its_verdict_and_loses_conversations() {
        let mut report = json!({ "result": "Success", "transcripts": ["a".repeat(200_000), "b".repeat(200_000)] });
        shorten(&mut report);
        assert_eq!((report["result"].as_str(), report["transcripts"].as_array().unwrap().len()), (Some("Success"), 1));
    }

    #[test]
    fn a_password_is_in_no_record() {
        let asked: CheckIn =
            serde_json::from_value(json!({ "target": "a", "username": "u", "password": "geheim-7" })).unwrap();
        let test = Test {
            state: State::Running,
            by: "x".into(),
            node: None,
            subject: "a".into(),
            asked,
            problem: None,
            report: None,
        };
        assert!(!body(&test).unwrap().to_string().contains("geheim-7"));
    }
}
