//! Records on their way in: checked and made text, the same for every engine.

use crate::StoreError;
use crate::model::*;

/// [`RecordWrite`] with its body as it will be stored.
pub(crate) enum Encoded {
    Add { kind: RecordKind, name: String, open: bool, at_ms: i64, body: String },
    Change { kind: RecordKind, id: i64, version: Option<i64>, open: bool, body: String },
    Remove { kind: RecordKind, id: i64 },
}

/// All of a call, or why none of it is written.
pub(crate) fn encode(list: Vec<RecordWrite>) -> Result<Vec<Encoded>, StoreError> {
    if list.len() > MOST_RECORDS {
        return Err(StoreError::Invalid(format!("at most {MOST_RECORDS} records at a time")));
    }
    list.into_iter().map(one).collect()
}

fn one(write: RecordWrite) -> Result<Encoded, StoreError> {
    let text = |body: serde_json::Value| {
        let text = body.to_string();
        if text.len() > MOST_RECORD_BODY {
            return Err(StoreError::Invalid(format!("a record has at most {MOST_RECORD_BODY} octets")));
        }
        Ok(text)
    };
    Ok(match write {
        RecordWrite::Add { kind, name, open, at_ms, body } => {
            if name.is_empty() || name.len() > MOST_RECORD_NAME {
                return Err(StoreError::Invalid(format!("a record's name has 1 to {MOST_RECORD_NAME} octets")));
            }
            Encoded::Add { kind, name, open, at_ms, body: text(body)? }
        }
        RecordWrite::Change { kind, id, version, open, body } => {
            Encoded::Change { kind, id, version, open, body: text(body)? }
        }
        RecordWrite::Remove { kind, id } => Encoded::Remove { kind, id },
    })
}

/// A stored body.
pub(crate) fn read_body(id: i64, text: &str) -> Result<serde_json::Value, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Internal(format!("record {id} is not JSON: {error}")))
}
