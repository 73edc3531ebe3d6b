//! The first start: a store without any settings gets a capture route, a default rule, and a sender to begin with.

use anyhow::Result;
use relay::credential::{hash_password, new_api_key, new_password};
use relay::directory::DEFAULT_RULE;
use relay::route::{RouteKind, RuleRecord};
use relay::sender::SenderRecord;
use secrecy::SecretString;
use serde_json::json;
use store::Store;
use store::settings::{Kind, SecretChange};

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

/// Makes the first settings, unless there are any.
pub async fn prepare(store: &dyn Store, now_ms: i64) -> Result<Option<Credentials>> {
    for kind in [Kind::Sender, Kind::Route, Kind::Rule] {
        if !store.documents(kind).await?.is_empty() {
            return Ok(None);
        }
    }
    let capture = json!({ "kind": RouteKind::Capture });
    store.put_document(Kind::Route, CAPTURE.into(), capture, SecretChange::Keep, now_ms).await?;
    let rule =
        RuleRecord { order: LAST, route: CAPTURE.into(), sender_domain: None, recipient_domain: None, stream: None };
    let rule = serde_json::to_value(rule)?;
    store.put_document(Kind::Rule, DEFAULT_RULE.into(), rule, SecretChange::Keep, now_ms).await?;
    // Last: a password that was stored but never shown would help nobody.
    first_sender(store, now_ms).await.map(Some)
}

async fn first_sender(store: &dyn Store, now_ms: i64) -> Result<Credentials> {
    let password = new_password();
    let (key, key_record) = new_api_key(now_ms);
    let mut record: SenderRecord = serde_json::from_value(json!({ "allowed_from": ["*"] }))?;
    record.password_hash = Some(hash_password(&password)?);
    record.api_keys.push(key_record);
    let record = serde_json::to_value(record)?;
    store.put_document(Kind::Sender, FIRST_SENDER.into(), record, SecretChange::Keep, now_ms).await?;
    Ok(Credentials { password, key })
}
