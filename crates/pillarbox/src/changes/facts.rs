//! Facts about ourselves that change without anybody changing a setting: our version, our addresses, the certificates of our
//! listeners. When one differs from what was noted last, that is noted in the audit log, as `itself/…`; where there are several
//! nodes with the node's name, as `itself/addresses of n1`.

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
/// Between a fact and the name of the node.
const OF: &str = " of ";

/// Looks at the start and every hour until the server stops.
pub async fn run(app: Shared, certificates: Vec<Arc<ServerTls>>, closing: CancellationToken) {
    let node = app.relay.as_ref().filter(|relay| relay.has_company()).map(|relay| relay.node());
    loop {
        for (fact, value) in facts(&certificates) {
            if let Err(error) = note(&app, &fact, node, value).await {
                tracing::warn!(%error, %fact, "a change of our own could not be noted");
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

fn name_of(fact: &str, node: Option<&str>) -> String {
    match node {
        Some(node) => format!("itself/{fact}{OF}{node}"),
        None => format!("itself/{fact}"),
    }
}

/// What a note is about, whichever node it is of: the part of its name behind `itself/`.
pub fn of_any_node(name: &str) -> &str {
    name.split_once(OF).map_or(name, |(fact, _)| fact)
}

/// Notes a fact if it is not what was noted last.
async fn note(app: &Shared, fact: &str, node: Option<&str>, value: Value) -> Result<(), StoreError> {
    let name = name_of(fact, node);
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

#[cfg(test)]
mod tests {
    use net::Clock;

    use super::*;

    #[tokio::test]
    async fn nodes_with_addresses_of_their_own_change_none_of_each_others() {
        let place = tempfile::tempdir().unwrap();
        let text = format!("hostname = \"relay.test\"\ndata_dir = \"{}\"\n", place.path().join("data").display());
        let config = crate::config::read(None, &text, std::iter::empty()).unwrap().config;
        let clock = Clock::manual(1_790_000_000_000);
        let (opened, _) = crate::serve::parts::store(&config, &clock).unwrap();
        let app: Shared = Arc::new(crate::serve::app(&config, opened.clone(), None, None, clock));
        for _ in 0..3 {
            note(&app, "addresses", Some("n1"), json!(["192.0.2.1"])).await.unwrap();
            note(&app, "addresses", Some("n2"), json!(["192.0.2.2"])).await.unwrap();
            note(&app, "addresses", None, json!(["192.0.2.3"])).await.unwrap();
        }
        note(&app, "addresses", Some("n1"), json!(["192.0.2.9"])).await.unwrap();
        let noted = opened.records(RecordQuery::of(RecordKind::Audit)).await.unwrap();
        let mut names: Vec<&str> = noted.iter().map(|record| record.name.as_str()).collect();
        names.sort_unstable();
        let expected =
            ["itself/addresses", "itself/addresses of n1", "itself/addresses of n1", "itself/addresses of n2"];
        assert_eq!(names, expected);
        assert_eq!((of_any_node("addresses of n1"), of_any_node("addresses")), ("addresses", "addresses"));
        opened.close().await.unwrap();
    }
}
