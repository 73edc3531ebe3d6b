//! Requests as providers document them, proven with keys made here.

use std::path::Path;
use std::process::Command;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use relay::token::Boxed;
use secrecy::SecretString;
use serde_json::{Value, json};
use std::sync::Arc;

use super::sns::Fetch;
use super::*;

const NOW_MS: i64 = 1_795_230_509_000;
const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:ses-events";

fn record(provider: Provider) -> InletRecord {
    let topic = (provider == Provider::Ses).then(|| TOPIC.to_owned());
    let username = (provider == Provider::Postmark).then(|| "hooks".to_owned());
    InletRecord { provider, topic, username, disabled: false }
}

/// Gives what it was told to, and remembers what it was asked for.
#[derive(Clone, Default)]
struct Web {
    certificate: Vec<u8>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Fetch for Web {
    fn fetch<'a>(&'a self, host: &'a str, path: &'a str) -> Boxed<'a, Result<Vec<u8>, String>> {
        self.asked.lock().push(format!("{host}{path}"));
        Box::pin(async move { Ok(self.certificate.clone()) })
    }
}

async fn told(
    record: &InletRecord,
    secret: Option<&str>,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Told, Refused> {
    told_by(record, secret, headers, body, &Sns::new(Box::new(Web::default())), &Seen::default()).await
}

async fn told_by(
    record: &InletRecord,
    secret: Option<&str>,
    headers: &[(&str, &str)],
    body: &[u8],
    sns: &Sns,
    seen: &Seen,
) -> Result<Told, Refused> {
    let named = |(name, value): &(&str, &str)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
    };
    let headers: HeaderMap = headers.iter().map(named).collect();
    let secret = secret.map(|secret| SecretString::from(secret.to_owned()));
    take(record, secret.as_ref(), sns, seen, Incoming { headers: &headers, body, now_ms: NOW_MS }).await
}

fn only(told: Result<Told, Refused>) -> ProviderEvent {
    match told {
        Ok(Told::Events(events)) if events.len() == 1 => events.into_iter().next().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn unproven<T: std::fmt::Debug>(told: Result<T, Refused>) -> bool {
    matches!(told, Err(Refused::Unproven(_)))
}

fn openssl(dir: &Path, args: &[&str]) {
    let output = Command::new("openssl").args(args).current_dir(dir).output().expect("openssl");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Amazon, with a key of its own.
struct Amazon(tempfile::TempDir);

impl Amazon {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        openssl(
            dir.path(),
            &[
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=sns", "-keyout", "key",
                "-out", "cert",
            ],
        );
        Self(dir)
    }

    fn web(&self) -> Web {
        Web { certificate: std::fs::read(self.0.path().join("cert")).unwrap(), ..Web::default() }
    }

    /// Signed after the documented form: names and values, a line each.
    fn sign(&self, mut envelope: Value, version: &str, fields: &[&str]) -> Vec<u8> {
        let text: String =
            fields.iter().map(|name| format!("{name}\n{}\n", envelope[*name].as_str().unwrap())).collect();
        std::fs::write(self.0.path().join("text"), text).unwrap();
        let digest = if version == "1" { "-sha1" } else { "-sha256" };
        openssl(self.0.path(), &["dgst", digest, "-sign", "key", "-out", "signature", "text"]);
        envelope["SignatureVersion"] = version.into();
        envelope["Signature"] = STANDARD.encode(std::fs::read(self.0.path().join("signature")).unwrap()).into();
        envelope.to_string().into_bytes()
    }

    fn notification(&self, message: &Value, version: &str) -> Vec<u8> {
        let envelope = json!({
            "Type": "Notification", "MessageId": "5f1a8e0e", "TopicArn": TOPIC, "Subject": "Amazon SES Email Event Notification",
            "Message": message.to_string(), "Timestamp": "2026-11-21T10:00:00.000Z",
            "SigningCertURL": "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-01d088a6f77103d0fe307c0069e40ed6.pem",
            "UnsubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=Unsubscribe",
        });
        self.sign(envelope, version, &["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"])
    }
}

fn ses_bounce() -> Value {
    json!({
        "notificationType": "Bounce",
        "bounce": {
            "bounceType": "Permanent", "bounceSubType": "General", "feedbackId": "0100018b-feed-000000",
            "bouncedRecipients": [{"emailAddress": "ann@one.test", "action": "failed", "status": "5.1.1",
                "diagnosticCode": "smtp; 550 5.1.1 user unknown"}],
            "timestamp": "2026-11-21T10:00:00.000Z", "reportingMTA": "dsn; a8-70.smtp-out.amazonses.com"
        },
        "mail": {
            "timestamp": "2026-11-21T09:59:00.000Z", "messageId": "0100018b-aaaa-bbbb-000000", "source": "b-1@bounces.shop.test",
            "destination": ["ann@one.test"], "headersTruncated": false,
            "headers": [{"name": "From", "value": "app@shop.test"}, {"name": "Message-ID", "value": "<m1@shop.test>"}],
            "commonHeaders": {"messageId": "0100018b-aaaa-bbbb-000000", "subject": "x"}
        }
    })
}

#[tokio::test]
async fn ses_through_sns_is_believed_with_either_signature_and_never_without() {
    let amazon = Amazon::new();
    let web = amazon.web();
    let sns = Sns::new(Box::new(web.clone()));
    let ask = async |body: &[u8]| told_by(&record(Provider::Ses), None, &[], body, &sns, &Seen::default()).await;
    for version in ["1", "2"] {
        let event = only(ask(&amazon.notification(&ses_bounce(), version)).await);
        assert_eq!((event.what.as_str(), event.recipient.as_str()), ("bounced", "ann@one.test"));
        assert_eq!(event.id, "0100018b-feed-000000");
        assert_eq!(event.return_path.as_deref(), Some("b-1@bounces.shop.test"));
        assert_eq!(event.message_id.as_deref(), Some("<m1@shop.test>"));
        assert_eq!((event.words.as_str(), event.status.as_deref()), ("550 5.1.1 user unknown", Some("5.1.1")));
    }
    assert_eq!(web.asked.lock().len(), 1, "the certificate is fetched once");
    let good = amazon.notification(&ses_bounce(), "2");
    let change = |name: &str, value: &str| {
        let mut envelope: Value = serde_json::from_slice(&good).unwrap();
        envelope[name] = value.into();
        envelope.to_string().into_bytes()
    };
    for (name, value) in [
        ("Message", "{}"),
        ("Timestamp", "2026-11-22T10:00:00.000Z"),
        ("TopicArn", "arn:aws:sns:eu-west-1:666:evil"),
        ("SignatureVersion", "1"),
        ("SignatureVersion", "3"),
        ("Signature", "AAAA"),
        ("SigningCertURL", "https://evil.test/SimpleNotificationService.pem"),
        ("SigningCertURL", "http://sns.eu-west-1.amazonaws.com/x.pem"),
    ] {
        assert!(unproven(ask(&change(name, value)).await), "{name} {value}");
    }
    assert!(web.asked.lock().iter().all(|asked| asked.starts_with("sns.eu-west-1.amazonaws.com/")));
    assert!(matches!(ask(b"{}").await, Err(Refused::Unreadable(_))));
}

#[tokio::test]
async fn a_subscription_is_confirmed_at_sns_and_nowhere_else() {
    let amazon = Amazon::new();
    let subscription = |url: &str| {
        let envelope = json!({
            "Type": "SubscriptionConfirmation", "MessageId": "165545c9", "Token": "2336412f37", "TopicArn": TOPIC,
            "Message": "You have chosen to subscribe to the topic.", "SubscribeURL": url, "Timestamp": "2026-11-21T10:00:00.000Z",
            "SigningCertURL": "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem",
        });
        amazon.sign(envelope, "2", &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"])
    };
    let web = amazon.web();
    let sns = Sns::new(Box::new(web.clone()));
    let ask = async |body: &[u8]| told_by(&record(Provider::Ses), None, &[], body, &sns, &Seen::default()).await;
    let good = subscription("https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=2336412f37");
    assert_eq!(ask(&good).await, Ok(Told::Confirmed));
    let asked = "sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=2336412f37";
    assert!(web.asked.lock().iter().any(|one| one == asked), "{:?}", web.asked.lock());
    let before = web.asked.lock().len();
    assert!(unproven(ask(&subscription("https://169.254.169.254/latest/meta-data/")).await));
    assert_eq!(web.asked.lock().len(), before, "nothing else was asked");
}

#[tokio::test]
async fn other_words_of_ses_are_told_apart() {
    let amazon = Amazon::new();
    let sns = Sns::new(Box::new(amazon.web()));
    let ask = async |message: &Value| {
        told_by(&record(Provider::Ses), None, &[], &amazon.notification(message, "2"), &sns, &Seen::default()).await
    };
    let mut complaint = json!({"eventType": "Complaint", "complaint": {"feedbackId": "f2", "complaintFeedbackType": "abuse",
        "complainedRecipients": [{"emailAddress": "bob@one.test"}]}});
    complaint["mail"] = ses_bounce()["mail"].clone();
    let event = only(ask(&complaint).await);
    assert_eq!((event.what.as_str(), event.words.as_str(), event.id.as_str()), ("complained", "abuse", "f2"));
    for other in
        [json!({"notificationType": "Delivery", "mail": {}}), json!("Successfully validated SNS topic"), json!({})]
    {
        assert_eq!(ask(&other).await, Ok(Told::Events(Vec::new())), "{other}");
    }
}

#[tokio::test]
async fn sendgrid_signs_timestamp_and_body() {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref()).unwrap();
    let spki =
        [STANDARD.decode("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgA=").unwrap(), key.public_key().as_ref().to_vec()].concat();
    let public = STANDARD.encode(spki);
    let body = json!([
        {"email": "ann@one.test", "timestamp": 1795230500, "smtp-id": "<m1@shop.test>", "event": "bounce", "sg_event_id": "ev1",
         "sg_message_id": "14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0", "reason": "500 unknown recipient", "status": "5.0.0", "type": "bounce"},
        {"email": "bob@one.test", "timestamp": 1795230500, "smtp-id": "<m2@shop.test>", "event": "spamreport", "sg_event_id": "ev2"},
        {"email": "eve@one.test", "timestamp": 1795230500, "event": "delivered", "sg_event_id": "ev3", "response": "250 OK"},
        {"email": "kim@one.test", "timestamp": 1795230500, "event": "open", "sg_event_id": "ev4"},
        {"email": "dan@one.test", "timestamp": 1795230500, "event": "dropped", "sg_event_id": "ev5", "reason": "Bounced Address", "status": "5.0.0"}
    ])
    .to_string();
    let sign = |timestamp: &str, body: &str| {
        STANDARD.encode(key.sign(&random, format!("{timestamp}{body}").as_bytes()).unwrap().as_ref())
    };
    let (signature, record) = (sign("1795230501", &body), record(Provider::Sendgrid));
    let headers = |timestamp: &'static str, signature: &str| {
        vec![
            ("X-Twilio-Email-Event-Webhook-Signature", signature.to_owned()),
            ("X-Twilio-Email-Event-Webhook-Timestamp", timestamp.to_owned()),
        ]
    };
    let ask = async |secret: &str, headers: Vec<(&str, String)>, body: &str| {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        told(&record, Some(secret), &headers, body.as_bytes()).await
    };
    let Ok(Told::Events(events)) = ask(&public, headers("1795230501", &signature), &body).await else {
        panic!("taken")
    };
    let short: Vec<_> = events.iter().map(|one| (one.id.as_str(), one.what.as_str(), one.recipient.as_str())).collect();
    assert_eq!(
        short,
        [("ev1", "bounced", "ann@one.test"), ("ev2", "complained", "bob@one.test"), ("ev5", "bounced", "dan@one.test")]
    );
    assert_eq!(events[0].message_id.as_deref(), Some("<m1@shop.test>"));
    assert_eq!(events[0].queued.as_deref(), Some("14c5d75ce93"));
    assert!(unproven(ask(&public, headers("1795230502", &signature), &body).await));
    assert!(unproven(ask(&public, headers("1795230501", &signature), &body.replace("ann", "eve")).await));
    assert!(unproven(ask(&public, Vec::new(), &body).await));
    assert!(unproven(ask("not a key", headers("1795230501", &signature), &body).await));
}

#[tokio::test]
async fn postmark_and_brevo_show_what_they_were_given() {
    let bounce = json!({
        "RecordType": "Bounce", "MessageStream": "outbound", "ID": 4323372036854775807u64, "Type": "HardBounce", "TypeCode": 1,
        "Name": "Hard bounce", "Tag": "x", "MessageID": "883953f4-6105-42a2-a16a-77a8eac79483", "Description": "The server was unable to deliver your message",
        "Details": "smtp;550 5.1.1 The email account that you tried to reach does not exist.", "Email": "ann@one.test", "From": "app@shop.test",
        "BouncedAt": "2026-11-21T10:00:00Z", "Inactive": true, "CanActivate": true
    });
    let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
    let ask = async |authorization: &str, body: &Value| {
        told(&record(Provider::Postmark), Some("pw"), &[("Authorization", authorization)], body.to_string().as_bytes())
            .await
    };
    let event = only(ask(&basic("hooks:pw"), &bounce).await);
    assert_eq!((event.id.as_str(), event.what.as_str()), ("4323372036854775807", "bounced"));
    assert_eq!(event.queued.as_deref(), Some("883953f4-6105-42a2-a16a-77a8eac79483"));
    for wrong in ["", "Basic x", &basic("hooks:pW"), &basic("hooks:pw2"), &basic("other:pw"), "Bearer pw"] {
        assert!(unproven(ask(wrong, &bounce).await), "{wrong}");
    }
    let of = |kind: &str, value: &str| {
        let mut other = bounce.clone();
        other[kind] = value.into();
        other
    };
    for kind in ["AutoResponder", "ChallengeVerification"] {
        assert_eq!(ask(&basic("hooks:pw"), &of("Type", kind)).await, Ok(Told::Events(Vec::new())));
    }
    assert_eq!(only(ask(&basic("hooks:pw"), &of("Type", "Transient")).await).what, "late");
    assert_eq!(only(ask(&basic("hooks:pw"), &of("RecordType", "SpamComplaint")).await).what, "complained");
    assert_eq!(ask(&basic("hooks:pw"), &of("RecordType", "Delivery")).await, Ok(Told::Events(Vec::new())));

    let brevo = json!({"event": "hard_bounce", "email": "ann@one.test", "id": 26224, "date": "2026-11-21 10:00:00", "ts_event": 1795230500,
        "message-id": "<202611211000.1@smtp-relay.mailin.fr>", "subject": "x", "reason": "550 5.1.1 no such user", "ts_epoch": 1795230500123i64});
    let ask = async |authorization: &str, body: &Value| {
        told(
            &record(Provider::Brevo),
            Some("token-1"),
            &[("Authorization", authorization)],
            body.to_string().as_bytes(),
        )
        .await
    };
    let event = only(ask("Bearer token-1", &brevo).await);
    assert_eq!((event.what.as_str(), event.words.as_str()), ("bounced", "550 5.1.1 no such user"));
    assert_eq!(event.message_id.as_deref(), Some("<202611211000.1@smtp-relay.mailin.fr>"));
    assert!(event.id.contains("1795230500123"), "{}", event.id);
    assert!(unproven(ask("Bearer token-2", &brevo).await));
    assert!(unproven(ask("", &brevo).await));
}

#[tokio::test]
async fn mailgun_signs_a_fresh_token_that_is_taken_once() {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"signing-key");
    let body = |seconds: i64, token: &str, event: &str, severity: &str| {
        let tag = hmac::sign(&key, format!("{seconds}{token}").as_bytes());
        let signature: String = tag.as_ref().iter().map(|octet| format!("{octet:02x}")).collect();
        json!({
            "signature": {"timestamp": seconds.to_string(), "token": token, "signature": signature},
            "event-data": {
                "id": "G9Bn5sl1TC6nu79C8C0bwg", "timestamp": 1521233195.375624, "event": event, "severity": severity, "log-level": "error",
                "reason": "suppress-bounce", "recipient": "ann@one.test",
                "delivery-status": {"attempt-no": 1, "message": "", "code": 605, "enhanced-code": "5.1.1", "description": "Not delivering to previously bounced address"},
                "message": {"headers": {"to": "ann@one.test", "message-id": "20130503192659.13651.20287@shop.test", "from": "app@shop.test"}},
                "envelope": {"sender": "b-1@bounces.shop.test", "targets": "ann@one.test", "transport": "smtp"}
            }
        })
        .to_string()
    };
    let seen = Seen::default();
    let sns = Sns::new(Box::new(Web::default()));
    let ask = async |secret: &str, body: &str| {
        told_by(&record(Provider::Mailgun), Some(secret), &[], body.as_bytes(), &sns, &seen).await
    };
    let now_s = NOW_MS / 1_000;
    let good = body(now_s - 60, "token-1", "failed", "permanent");
    let event = only(ask("signing-key", &good).await);
    assert_eq!((event.what.as_str(), event.status.as_deref()), ("bounced", Some("5.1.1")));
    assert_eq!(event.message_id.as_deref(), Some("<20130503192659.13651.20287@shop.test>"));
    assert_eq!(event.return_path.as_deref(), Some("b-1@bounces.shop.test"));
    assert!(event.words.contains("previously bounced"), "{}", event.words);
    // Not kept yet: it may come again. Kept: it is nothing new.
    assert!(ask("signing-key", &good).await.is_ok());
    seen.remember(&mailgun_token(good.as_bytes()).unwrap());
    assert_eq!(ask("signing-key", &good).await, Err(Refused::Replayed));
    assert_eq!(only(ask("signing-key", &body(now_s, "t2", "failed", "temporary")).await).what, "late");
    assert_eq!(only(ask("signing-key", &body(now_s, "t3", "complained", "")).await).what, "complained");
    assert_eq!(ask("signing-key", &body(now_s, "t4", "delivered", "")).await, Ok(Told::Events(Vec::new())));
    assert!(unproven(ask("other-key", &body(now_s, "t5", "failed", "permanent")).await));
    assert!(unproven(ask("signing-key", &body(now_s - 86_400, "t6", "failed", "permanent")).await));
    assert!(unproven(ask("signing-key", &good.replace("token-1", "token-2")).await));
    assert!(unproven(ask("signing-key", "{}").await));
}

#[tokio::test]
async fn no_piece_of_a_request_makes_anything_panic() {
    let bodies =
        [ses_bounce().to_string(), json!([{"event": "bounce", "email": 7, "smtp-id": ["x"]}, null, 5]).to_string()];
    for body in &bodies {
        for at in 0..body.len() {
            let piece = body.get(..at).unwrap_or_default();
            let _ = read::ses(piece);
            for reads in [read::sendgrid, read::postmark, read::mailgun, read::brevo] {
                let _ = reads(piece.as_bytes());
            }
        }
        for reads in [read::sendgrid, read::postmark, read::mailgun, read::brevo] {
            let _ = reads(body.as_bytes());
        }
    }
}
