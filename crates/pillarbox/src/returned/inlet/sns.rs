//! Amazon SNS: notifications signed with a certificate that is fetched from Amazon's own hosts, and from nowhere else;
//! subscriptions are confirmed there too.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::signature::{
    RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use net::Net;
use net::https::{Ending, FetchError, Link, Outgoing, Patience, Target, public};
use parking_lot::Mutex;
use relay::token::Boxed;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;

use super::{Incoming, InletRecord, Refused};

/// Certificates that are kept.
const MOST_KEYS: usize = 20;
/// Limit of a fetch's steps.
const LIMIT: Duration = Duration::from_secs(10);
/// Most octets of a certificate, and of an answer to a confirmation.
const MOST: usize = 32 << 10;

/// How a document is fetched by HTTPS from a host of the public network: host and path.
pub trait Fetch: Send + Sync {
    /// The body of a 200.
    fn fetch<'a>(&'a self, host: &'a str, path: &'a str) -> Boxed<'a, Result<Vec<u8>, String>>;
}

impl Fetch for Net {
    fn fetch<'a>(&'a self, host: &'a str, path: &'a str) -> Boxed<'a, Result<Vec<u8>, String>> {
        Box::pin(async move {
            let target = Target::https(host, path);
            let asking = async {
                let mut link = Link::open(self, &target, LIMIT, &public).await?;
                let outgoing = Outgoing { method: "GET", fields: &[("Connection", "close")], body: None };
                link.ask(&target, outgoing, Patience { limit: LIMIT * 2, body: MOST }).await
            };
            let answer = asking.await.map_err(|error: FetchError| error.to_string())?;
            match (answer.status, &answer.ending) {
                (200, Ending::Whole) => Ok(answer.body),
                (200, _) => Err("the answer is too large, or cut off".into()),
                _ => Err(answer.in_words()),
            }
        })
    }
}

/// Keys of Amazon's, and the way to them.
pub struct Sns {
    fetch: Box<dyn Fetch>,
    keys: Mutex<HashMap<String, Vec<u8>>>,
}

impl std::fmt::Debug for Sns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sns").finish_non_exhaustive()
    }
}

/// A request of SNS.
#[derive(Debug, Deserialize)]
struct Envelope {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "MessageId")]
    message_id: String,
    #[serde(rename = "TopicArn")]
    topic: String,
    #[serde(rename = "Message")]
    message: String,
    #[serde(rename = "Timestamp")]
    timestamp: String,
    #[serde(rename = "SignatureVersion")]
    version: String,
    #[serde(rename = "Signature")]
    signature: String,
    #[serde(rename = "SigningCertURL")]
    certificate: String,
    #[serde(default, rename = "Subject")]
    subject: Option<String>,
    #[serde(default, rename = "Token")]
    token: Option<String>,
    #[serde(default, rename = "SubscribeURL")]
    subscribe: Option<String>,
}

impl Envelope {
    /// What is signed: names and values of certain fields, a line each.
    fn signed(&self) -> String {
        let mut fields = vec![("Message", self.message.as_str()), ("MessageId", &self.message_id)];
        if self.kind == "Notification" {
            fields.extend(self.subject.as_deref().map(|subject| ("Subject", subject)));
        } else {
            fields.push(("SubscribeURL", self.subscribe.as_deref().unwrap_or_default()));
        }
        fields.push(("Timestamp", &self.timestamp));
        if self.kind != "Notification" {
            fields.push(("Token", self.token.as_deref().unwrap_or_default()));
        }
        fields.extend([("TopicArn", self.topic.as_str()), ("Type", &self.kind)]);
        fields.into_iter().map(|(name, value)| format!("{name}\n{value}\n")).collect()
    }
}

/// Host and path of a URL at SNS; none of any other.
fn at_sns(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("https://")?;
    let (host, path) = rest.split_at(rest.find('/')?);
    let region = host.strip_prefix("sns.")?;
    let region = region.strip_suffix(".amazonaws.com").or_else(|| region.strip_suffix(".amazonaws.com.cn"))?;
    let plain = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
    let is_region = (3..=40).contains(&region.len()) && region.bytes().all(plain);
    let is_path = path.len() <= 2_000 && path.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'#');
    (is_region && is_path).then_some((host, path))
}

impl Sns {
    /// Keys are fetched this way.
    pub fn new(fetch: Box<dyn Fetch>) -> Self {
        Self { fetch, keys: Mutex::default() }
    }

    /// The message inside of a notification; none for a subscription, which is confirmed.
    pub(super) async fn take(&self, record: &InletRecord, incoming: &Incoming<'_>) -> Result<Option<String>, Refused> {
        let envelope: Envelope =
            serde_json::from_slice(incoming.body).map_err(|error| Refused::Unreadable(error.to_string()))?;
        // Before anything is fetched: strangers' topics cost nothing.
        if record.topic.as_deref() != Some(&envelope.topic) {
            return Err(Refused::Unproven("it is of another topic"));
        }
        self.verify(&envelope).await?;
        match envelope.kind.as_str() {
            "Notification" => Ok(Some(envelope.message)),
            "SubscriptionConfirmation" => {
                let url = envelope.subscribe.unwrap_or_default();
                let (host, path) = at_sns(&url).ok_or(Refused::Unproven("its SubscribeURL is not at SNS"))?;
                self.fetch.fetch(host, path).await.map_err(|why| Refused::Later(format!("cannot confirm: {why}")))?;
                tracing::info!(topic = %envelope.topic, "the subscription is confirmed");
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    async fn verify(&self, envelope: &Envelope) -> Result<(), Refused> {
        let signature = STANDARD.decode(&envelope.signature).map_err(|_| Refused::Unproven("there is no signature"))?;
        let algorithm = match envelope.version.as_str() {
            "1" => &RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
            "2" => &RSA_PKCS1_2048_8192_SHA256,
            _ => return Err(Refused::Unproven("its SignatureVersion is not known")),
        };
        let key = self.key(&envelope.certificate).await?;
        UnparsedPublicKey::new(algorithm, key)
            .verify(envelope.signed().as_bytes(), &signature)
            .map_err(|_| Refused::Unproven("the signature does not hold"))
    }

    async fn key(&self, url: &str) -> Result<Vec<u8>, Refused> {
        if let Some(key) = self.keys.lock().get(url) {
            return Ok(key.clone());
        }
        let (host, path) = at_sns(url).ok_or(Refused::Unproven("its certificate is not at SNS"))?;
        if !path.ends_with(".pem") || path.contains('?') {
            return Err(Refused::Unproven("its certificate is not a PEM file"));
        }
        let pem = self.fetch.fetch(host, path).await;
        let pem = pem.map_err(|why| Refused::Later(format!("the certificate of SNS is not reached: {why}")))?;
        let der = CertificateDer::from_pem_slice(&pem).map_err(|_| Refused::Unproven("its certificate is none"))?;
        let key = net::certificate_key(&der).ok_or(Refused::Unproven("its certificate cannot be read"))?;
        let mut keys = self.keys.lock();
        if keys.len() >= MOST_KEYS {
            keys.clear();
        }
        keys.insert(url.to_owned(), key.clone());
        Ok(key)
    }
}

#[cfg(test)]
mod places {
    use super::at_sns;

    #[test]
    fn only_hosts_of_sns_are_asked() {
        assert_eq!(
            at_sns("https://sns.eu-west-1.amazonaws.com/x.pem"),
            Some(("sns.eu-west-1.amazonaws.com", "/x.pem"))
        );
        assert!(at_sns("https://sns.cn-north-1.amazonaws.com.cn/x.pem").is_some());
        for url in [
            "http://sns.eu-west-1.amazonaws.com/x.pem",
            "https://sns.eu-west-1.amazonaws.com",
            "https://sns.eu-west-1.amazonaws.com.evil.test/x.pem",
            "https://evil.test/sns.eu-west-1.amazonaws.com/x.pem",
            "https://sns.eu-west-1.amazonaws.com@evil.test/x.pem",
            "https://sns.eu-west-1.amazonaws.com:8443/x.pem",
            "https://bucket.s3.amazonaws.com/x.pem",
            "https://sns.a.b.amazonaws.com/x.pem",
            "https://sns.eu-west-1.amazonaws.com/x pem",
            "https://sns.eu-west-1.amazonaws.com/x\r\nHost: y",
        ] {
            assert_eq!(at_sns(url), None, "{url}");
        }
    }
}
