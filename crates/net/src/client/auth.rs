//! AUTH (RFC 4954) as a client: the strongest mechanism that both sides have, and only where it may be used.

use proto::smtp::reply::Reply;
use proto::smtp::sasl::{self, Mechanism};
use proto::transcript::{Fact, Failure, Stage};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use super::link::Link;
use super::record::Recorder;
use super::{ClientAuth, Timeouts};

/// Authenticates, recording commands without what is secret in them. With a mechanism that is wanted, no other.
pub(super) async fn authenticate(
    link: &mut Link,
    offered: &[String],
    auth: &ClientAuth,
    wanted: Option<&str>,
    timeouts: &Timeouts,
    recorder: &mut Recorder,
) -> Result<(), Failure> {
    let began = recorder.now();
    let failed = |recorder: &mut Recorder, sent, failure| {
        recorder.failure(Stage::Auth, began, sent, &failure);
        Err(failure)
    };
    if !link.is_tls() && !auth.allow_plaintext {
        return failed(recorder, None, Failure::AuthNeedsTls);
    }
    let has = |name: &str| {
        let chosen = wanted.is_none_or(|wanted| wanted.eq_ignore_ascii_case(name));
        chosen && offered.iter().any(|mechanism| mechanism.eq_ignore_ascii_case(name))
    };
    // PLAIN first: both reveal the password to the server, but only PLAIN is one round trip and a standard.
    let mechanism = match (has("PLAIN"), has("LOGIN")) {
        (true, _) => Mechanism::Plain,
        (false, true) => Mechanism::Login,
        (false, false) => return failed(recorder, None, Failure::NoMechanism { offered: offered.to_vec() }),
    };
    let sent = match mechanism {
        Mechanism::Plain => "AUTH PLAIN ***",
        Mechanism::Login => "AUTH LOGIN",
    };
    let outcome = exchange(link, mechanism, auth, timeouts).await;
    recorder.outcome(Stage::Auth, began, Some(sent), &outcome);
    outcome?;
    recorder.fact(Stage::Auth, began, Fact::Authenticated { mechanism: mechanism.name().into() });
    Ok(())
}

async fn exchange(
    link: &mut Link,
    mechanism: Mechanism,
    auth: &ClientAuth,
    timeouts: &Timeouts,
) -> Result<Reply, Failure> {
    let first = format!("AUTH {}", mechanism.name());
    let (first, answers) = match mechanism {
        Mechanism::Plain => {
            let initial = sasl::plain_initial(&auth.username, &auth.password);
            (Zeroizing::new(format!("{first} {}", initial.expose_secret())), vec![])
        }
        Mechanism::Login => {
            let username = SecretString::from(sasl::login_username(&auth.username));
            (Zeroizing::new(first), vec![username, sasl::login_password(&auth.password)])
        }
    };
    let mut reply = line(link, &first, timeouts).await?;
    for answer in &answers {
        if reply.code != 334 {
            break;
        }
        reply = line(link, answer.expose_secret(), timeouts).await?;
    }
    if reply.code == 334 {
        // A further challenge where none is due: RFC 4954 §4 lets the client give up.
        reply = line(link, "*", timeouts).await?;
    }
    if reply.code == 235 { Ok(reply) } else { Err(Failure::Refused(reply)) }
}

async fn line(link: &mut Link, text: &str, timeouts: &Timeouts) -> Result<Reply, Failure> {
    let mut octets = Zeroizing::new(Vec::with_capacity(text.len() + 2));
    octets.extend_from_slice(text.as_bytes());
    octets.extend_from_slice(b"\r\n");
    link.send(&octets, timeouts.block).await?;
    link.reply(timeouts.ehlo).await
}
