//! Facts about ourselves that change without anybody changing a setting: our version, our addresses, the certificates of our
//! listeners. When one differs from what was noted last, that is noted in the audit log, as `itself/…`.

use std::sync::Arc;
use std::time::Duration;

use net::ServerTls;
use serde_json::{Value, json};
use store::{RecordKind, RecordQuery, RecordWrite, StoreError};
use tokio_util::sync::CancellationToken;

use crate::audit::diff::Change;
use crate::audit::{Entry, ITSELF};
use crate::http::Shared;

/// How often is looked.
const EVERY: Duration = Duration::from_secs(3_600);
/// Entries that are looked at for what was noted last.
const LOOKED_AT: u32 = 5;

/// Looks at the start and every hour until the server stops.
pub async fn run(app: Shared, certificates: Vec<Arc<ServerTls>>, closing: CancellationToken) {
    loop {
        for (name, value) in facts(&certificates) {
            if let Err(error) = note(&app, &name, value).await {
                tracing::warn!(%error, fact = %name, "a change of our own could not be noted");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = closing.cancelled() => return,
        }
    }
}

fn facts(certificates: &[Arc<ServerTls>]) -> Vec<(String, Value)> {
    let mut addresses: Vec<String> = relay::transport::usual_sources().iter().map(ToString::to_string).collect();
    addresses.sort();
    let mut facts =
        vec![("version".to_owned(), json!(env!("CARGO_PKG_VERSION"))), ("addresses".to_owned(), json!(addresses))];
    for certificate in certificates {
        let Some(end) = certificate.not_after() else { continue };
        let file = certificate
            .certificate_path()
            .file_name()
            .map_or_else(|| "certificate".into(), |name| name.to_string_lossy());
        let ends = crate::http::time::show(end.saturating_mul(1_000));
        facts.push((format!("certificate {file}"), json!(format!("ends {ends}"))));
    }
    facts
}

/// Notes a fact if it is not what was noted last.
async fn note(app: &Shared, fact: &str, value: Value) -> Result<(), StoreError> {
    let name = format!("itself/{fact}");
    let query = RecordQuery { limit: LOOKED_AT, ..RecordQuery::named(RecordKind::Audit, name.clone()) };
    let last = app.store.records(query).await?;
    let before = last.iter().find_map(|record| record.body["changes"][0].get("after").cloned());
    if before.as_ref() == Some(&value) {
        return Ok(());
    }
    let action = if before.is_some() { "change" } else { "add" };
    let change = Change { field: format!("/{fact}"), before, after: Some(value), secret: false };
    let entry = Entry {
        who: ITSELF.into(),
        address: None,
        request: None,
        action: action.into(),
        changes: vec![change],
        detail: None,
    };
    let body = serde_json::to_value(entry).map_err(|error| StoreError::Internal(error.to_string()))?;
    let add = RecordWrite::Add { kind: RecordKind::Audit, name, open: false, at_ms: app.clock.now_ms(), body };
    app.store.write_records(vec![add]).await.map(drop)
}
