//! The first start: a store without any settings gets a capture route, a default rule, and a sender to begin with.
//!
//! Several nodes may start on one store at the same time: what one of them has made stays, and the node that made the
//! sender tells its password.

use anyhow::Result;
use relay::credential::{hash_password, new_api_key, new_password};
use relay::directory::DEFAULT_RULE;
use relay::route::{RouteKind, RuleRecord};
use relay::sender::SenderRecord;
use secrecy::SecretString;
use serde_json::{Value, json};
use store::Store;
use store::settings::{Expected, Kind, SecretChange};

/// Name of the first sender.
pub const FIRST_SENDER: &str = "app";
/// Name of the first route.
pub const CAPTURE: &str = "capture";
/// Order of the default rule: behind all others.
const LAST: i32 = i32::MAX;

/// What the first sender logs in with; shown once.
#[derive(Debug)]
pub struct Credentials {
    /// SMTP password.
    pub password: SecretString,
    /// API key.
    pub key: SecretString,
}

/// Makes the first settings, unless there are any. Gives what has to be shown; another node may be the one that shows it.
pub async fn prepare(store: &dyn Store, now_ms: i64) -> Result<Option<Credentials>> {
    for kind in [Kind::Sender, Kind::Route, Kind::Rule] {
        if !store.documents(kind).await?.is_empty() {
            return Ok(None);
        }
    }
    let capture = json!({ "kind": RouteKind::Capture });
    make(store, Kind::Route, CAPTURE, capture, now_ms).await?;
    let rule =
        RuleRecord { order: LAST, route: CAPTURE.into(), sender_domain: None, recipient_domain: None, stream: None };
    make(store, Kind::Rule, DEFAULT_RULE, serde_json::to_value(rule)?, now_ms).await?;
    // Last: a password that was stored but never shown would help nobody.
    first_sender(store, now_ms).await
}

async fn first_sender(store: &dyn Store, now_ms: i64) -> Result<Option<Credentials>> {
    let password = new_password();
    let (key, key_record) = new_api_key(now_ms);
    let mut record: SenderRecord = serde_json::from_value(json!({ "allowed_from": ["*"] }))?;
    record.password_hash = Some(hash_password(&password)?);
    record.api_keys.push(key_record);
    let made = make(store, Kind::Sender, FIRST_SENDER, serde_json::to_value(record)?, now_ms).await?;
    Ok(made.then_some(Credentials { password, key }))
}

/// Whether it was made here: where another node was faster, its one stays.
async fn make(store: &dyn Store, kind: Kind, name: &str, body: Value, now_ms: i64) -> Result<bool> {
    let made = store.put_document_if(kind, name.to_owned(), body, SecretChange::Keep, Expected::Absent, now_ms);
    Ok(made.await?.is_some())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use relay::credential::{Gate, key_hash};
    use relay::stream::unsubscribe::Links;
    use secrecy::ExposeSecret;
    use store::secret::Keyring;
    use store::sqlite::{Options, SqliteStore};

    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn opened(dir: &tempfile::TempDir) -> Arc<dyn Store> {
        SqliteStore::open(Options::new(dir.path(), Keyring::from_key(&[7; 32])), NOW).unwrap()
    }

    async fn first_record(store: &dyn Store) -> SenderRecord {
        let senders = store.documents(Kind::Sender).await.unwrap();
        assert_eq!(senders.len(), 1);
        serde_json::from_value(senders[0].body.clone()).unwrap()
    }

    async fn is_told(record: SenderRecord, told: &Credentials) -> bool {
        let hashes: Vec<String> = record.api_keys.into_iter().map(|key| key.hash).collect();
        hashes == [key_hash(told.key.expose_secret())]
            && Gate::default().check_hash(record.password_hash, &told.password).await
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn of_nodes_that_start_at_once_one_tells_what_is_stored_and_all_have_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let store = opened(&dir);
        let start = || {
            let store = store.clone();
            tokio::spawn(async move {
                let told = prepare(&*store, NOW).await.unwrap();
                (told, Links::open(&*store, None, NOW).await.unwrap())
            })
        };
        let nodes: Vec<_> = (0..4).map(|_| start()).collect();
        let (mut told, mut tokens) = (Vec::new(), Vec::new());
        let address = proto::Address::parse("ann@example.com").unwrap();
        for node in nodes {
            let (credentials, links) = node.await.unwrap();
            told.extend(credentials);
            tokens.push(links.token("news", &address));
        }
        assert_eq!(told.len(), 1);
        assert!(is_told(first_record(&*store).await, &told[0]).await);
        let after = Links::open(&*store, None, NOW).await.unwrap().token("news", &address);
        assert!(tokens.iter().all(|token| *token == after), "{tokens:?}");
        assert!(prepare(&*store, NOW).await.unwrap().is_none(), "shown once");
    }

    #[tokio::test]
    async fn a_node_that_comes_late_to_the_sender_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = opened(&dir);
        let told = prepare(&*store, NOW).await.unwrap().unwrap();
        // It saw no settings before the other one made them.
        assert!(first_sender(&*store, NOW + 1).await.unwrap().is_none());
        assert!(!make(&*store, Kind::Route, CAPTURE, json!({}), NOW + 1).await.unwrap());
        assert!(is_told(first_record(&*store).await, &told).await);
    }
}
