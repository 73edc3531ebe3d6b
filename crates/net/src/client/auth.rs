//! AUTH (RFC 4954) as a client: the strongest mechanism that both sides have, and only where it may be used.
//!
//! A password that is refused is never tried again with another mechanism, since accounts are locked that way. Only a server
//! that says that it cannot do a mechanism which it offered gets the next one, once.

use proto::smtp::reply::{EnhancedCode, Reply};
use proto::smtp::sasl::client::{Choice, ClientError, Exchange, Mechanism, NoChoice, Parameters, looks_like_token};
use proto::transcript::{Fact, Failure, Stage};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use super::link::Link;
use super::record::Recorder;
use super::{ClientAuth, Timeouts};

/// Longest AUTH command with its initial response and CR LF (RFC 4954 §4).
const MAX_COMMAND: usize = 512;

/// Authenticates with the server of this name and port, recording commands without what is secret in them.
///
/// With a mechanism that is wanted, no other is used.
pub(super) async fn authenticate(
    link: &mut Link,
    server: (&str, u16),
    offered: &[String],
    auth: &ClientAuth,
    timeouts: &Timeouts,
    recorder: &mut Recorder,
) -> Result<(), Failure> {
    let began = recorder.now();
    let has_scram = |bound: bool| {
        let upper = offered.iter().map(|name| name.to_ascii_uppercase());
        upper.into_iter().any(|name| name.starts_with("SCRAM-") && (!bound || name.ends_with("-PLUS")))
    };
    let binding = has_scram(false).then(|| link.binding()).flatten();
    let choice = Choice {
        offered,
        wanted: auth.mechanism.as_deref(),
        encrypted: link.is_tls(),
        allow_plaintext: auth.allow_plaintext,
        binding: binding.is_some(),
        token: looks_like_token(&auth.password),
    };
    let candidates = choice.candidates().map_err(|none| {
        let failure = match none {
            NoChoice::Unknown => Failure::NoMechanism { offered: offered.to_vec() },
            NoChoice::NeedsTls => Failure::AuthNeedsTls,
        };
        recorder.failure(Stage::Auth, began, None, &failure);
        failure
    })?;
    let mut last = Failure::NoMechanism { offered: offered.to_vec() };
    for mechanism in candidates.into_iter().take(2) {
        let random: [u8; 32] = crate::tls::random()?;
        let [head @ .., _, _, _, _, _, _, _, _] = &random;
        let mut challenge = [0; 8];
        challenge.copy_from_slice(&random[24..]);
        let parameters = Parameters {
            server: (server.0.to_owned(), server.1),
            binding: binding.clone(),
            secluded: choice.encrypted || choice.allow_plaintext,
            binding_offered: has_scram(true),
            nonce: head.iter().map(|octet| format!("{octet:02x}")).collect(),
            challenge,
            now_ms: recorder.now_ms(),
            ..Parameters::new(&auth.username, &auth.password)
        };
        let exchange = Exchange::new(mechanism, parameters);
        match attempt(link, exchange, timeouts, recorder).await {
            Ok(()) => {
                recorder.fact(Stage::Auth, began, Fact::Authenticated { mechanism: mechanism.name().into() });
                return Ok(());
            }
            Err(failure) if cannot(&failure) => last = failure,
            Err(failure) => return Err(failure),
        }
    }
    Err(last)
}

/// Whether the server says that it cannot do the mechanism, and not that the credentials are wrong.
fn cannot(failure: &Failure) -> bool {
    let Failure::Refused(reply) = failure else { return false };
    reply.code == 504 || (reply.is_permanent() && reply.enhanced() == Some(EnhancedCode(5, 7, 4)))
}

/// One exchange, recorded.
async fn attempt(
    link: &mut Link,
    mut exchange: Exchange,
    timeouts: &Timeouts,
    recorder: &mut Recorder,
) -> Result<(), Failure> {
    let began = recorder.now();
    let mut command = Zeroizing::new(format!("AUTH {}", exchange.mechanism().name()));
    let mut sent = command.to_string();
    let mut initial = exchange.initial();
    if let Some(response) =
        initial.take_if(|response| command.len() + response.expose_secret().len() + 3 <= MAX_COMMAND)
    {
        command = Zeroizing::new(format!("{sent} {}", response.expose_secret()));
        sent.push_str(" ***");
    }
    let outcome = converse(link, &mut exchange, &command, initial, timeouts, |challenge| {
        recorder.reply(Stage::Auth, began, Some(&sent), challenge);
    })
    .await;
    recorder.outcome(Stage::Auth, began, Some(&sent), &outcome);
    outcome.map(|_| ())
}

/// From the command to the last reply. `told` gets the challenge in which a server says why it refuses a token.
async fn converse(
    link: &mut Link,
    exchange: &mut Exchange,
    command: &str,
    mut initial: Option<SecretString>,
    timeouts: &Timeouts,
    mut told: impl FnMut(&Reply),
) -> Result<Reply, Failure> {
    let mut reply = line(link, command, timeouts).await?;
    while reply.code == 334 {
        let answer = match initial.take() {
            Some(initial) => Ok(initial),
            None => step(exchange, reply.lines.concat()).await?,
        };
        if exchange.told().is_some() && answer.is_ok() {
            told(&reply);
        }
        reply = match answer {
            Ok(answer) => line(link, answer.expose_secret(), timeouts).await?,
            Err(error) => return Err(cancelled(link, &error, timeouts).await),
        };
    }
    if let Some(words) = exchange.told().map(|told| told.text()).filter(|words| !words.is_empty()) {
        reply.lines.push(format!("(OAuth: {words})"));
    }
    if reply.code != 235 {
        return Err(Failure::Refused(reply));
    }
    exchange.finish().map_err(|error| Failure::BadReply { text: error.to_string() })?;
    Ok(reply)
}

/// The client's next response; hashing that takes long is done beside.
async fn step(exchange: &mut Exchange, challenge: String) -> Result<Result<SecretString, ClientError>, Failure> {
    if !exchange.mechanism().is_slow() {
        return Ok(exchange.step(&challenge));
    }
    let idle = Exchange::new(Mechanism::Plain, Parameters::new("", &SecretString::from("")));
    let mut busy = std::mem::replace(exchange, idle);
    let work = move || {
        let answer = busy.step(&challenge);
        (busy, answer)
    };
    match tokio::task::spawn_blocking(work).await {
        Ok((busy, answer)) => {
            *exchange = busy;
            Ok(answer)
        }
        Err(_) => Err(Failure::Local { reason: "the hashing of SCRAM was interrupted".into() }),
    }
}

/// Ends the exchange from our side (RFC 4954 §4) and says why.
async fn cancelled(link: &mut Link, error: &ClientError, timeouts: &Timeouts) -> Failure {
    // A server that has said why it refuses gives its reply after an empty response, any other after "*".
    let said = matches!(error, ClientError::Server(_));
    match (error, line(link, if said { "" } else { "*" }, timeouts).await) {
        (_, Err(failure)) => failure,
        (ClientError::Server(words), Ok(mut reply)) if !reply.is_positive() => {
            reply.lines.push(format!("({words})"));
            Failure::Refused(reply)
        }
        (ClientError::TooMany(_), Ok(reply)) if !reply.is_positive() => Failure::Refused(reply),
        (error, Ok(_)) => Failure::BadReply { text: error.to_string() },
    }
}

async fn line(link: &mut Link, text: &str, timeouts: &Timeouts) -> Result<Reply, Failure> {
    let mut octets = Zeroizing::new(Vec::with_capacity(text.len() + 2));
    octets.extend_from_slice(text.as_bytes());
    octets.extend_from_slice(b"\r\n");
    link.send(&octets, timeouts.block).await?;
    link.reply(timeouts.ehlo).await
}
