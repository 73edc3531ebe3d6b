//! One attempt: connects, or uses a connection again, sends the signed request and says in words what came of it.

use std::net::SocketAddr;
use std::time::Duration;

use net::Net;
use net::address::Guard;
use net::https::{Ending, FetchError, Link, Outgoing, Patience, Response, Target};
use parking_lot::Mutex;
use proto::smtp::reply::escape;
use serde::{Deserialize, Serialize};

use super::health::Refused;
use super::payload::Request;
use super::sign::Secrets;
use crate::http::words;

/// Octets of an answer that are kept.
const MOST_BODY: usize = 1_000;
/// Limit of a connection's set-up, and of its handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a connection serves: then names are looked up again.
const AGE: Duration = Duration::from_secs(60);
/// Connections kept for later.
const MOST_LINKS: usize = 8;

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// What is wrong, in words; empty if nothing is.
    pub problem: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// What the endpoint said, its first 1,000 octets, escaped.
    pub body: String,
    /// Where it is.
    pub peer: Option<String>,
    /// Milliseconds.
    pub took_ms: u64,
    /// Seconds it asked to be left alone for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<i64>,
}

impl Answer {
    /// The endpoint took it: any status 2xx.
    pub fn taken(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }

    /// What it says about the endpoint as a whole.
    pub fn refused(&self) -> Refused {
        match (self.status, self.retry_after) {
            (Some(410), _) => Refused::Gone,
            (Some(429 | 503), Some(seconds)) => Refused::Later(seconds),
            _ => Refused::Usual,
        }
    }
}

/// An endpoint, and the connections to it.
pub struct Poster {
    net: Net,
    target: Target,
    guard: Guard,
    secrets: Option<Secrets>,
    limit: Duration,
    links: Mutex<Vec<Link>>,
}

impl Poster {
    /// For an endpoint.
    /// Without secrets nothing is signed: for those who know a format of their own.
    pub fn new(net: Net, target: Target, guard: Guard, secrets: Option<Secrets>, timeout_s: u32) -> Self {
        let limit = Duration::from_secs(u64::from(timeout_s));
        Self { net, target, guard, secrets, limit, links: Mutex::default() }
    }

    /// Makes an attempt. It ends within the limits of connection and answer.
    pub async fn post(&self, request: &Request) -> Answer {
        let started_us = self.net.clock.mono_us();
        let mut peer = None;
        let outcome = self.exchange(request, &mut peer).await;
        let took_ms = self.net.clock.mono_us().saturating_sub(started_us) / 1_000;
        let empty = Answer {
            status: None,
            problem: String::new(),
            advice: None,
            body: String::new(),
            peer: peer.map(|peer| peer.to_string()),
            took_ms,
            retry_after: None,
        };
        match outcome {
            Ok(response) => answered(empty, &response),
            Err(error) => {
                Answer { problem: self.problem(&error), advice: Some(advice_on_error(&error).to_owned()), ..empty }
            }
        }
    }

    async fn exchange(&self, request: &Request, peer: &mut Option<SocketAddr>) -> Result<Response, FetchError> {
        let now_ms = self.net.clock.now_ms();
        let signature = self.secrets.as_ref().map(|secrets| secrets.sign(&request.id, now_ms, &request.body));
        let signature = signature.transpose().map_err(|error| FetchError::Response(error.to_string()))?;
        let seconds = (now_ms / 1_000).to_string();
        let mut fields = vec![("Content-Type", "application/json")];
        if let Some(signature) = &signature {
            fields.push(("webhook-id", &request.id));
            fields.push(("webhook-timestamp", &seconds));
            fields.push(("webhook-signature", signature));
        }
        let outgoing = Outgoing { method: "POST", fields: &fields, body: Some(&request.body) };
        let patience = Patience { limit: self.limit, body: MOST_BODY };
        if let Some(mut link) = self.kept() {
            *peer = Some(link.peer);
            match link.ask(&self.target, outgoing, patience).await {
                // It was closed while it lay idle: nothing is known of the request, and it is repeated at once.
                Err(FetchError::Closed) => {}
                outcome => return self.keep(link, outcome),
            }
        }
        let port = self.target.port;
        let gate = |ip| self.guard.permits(ip).then(|| SocketAddr::new(ip, port));
        let mut link = Link::open(&self.net, &self.target, CONNECT, &gate).await?;
        *peer = Some(link.peer);
        let outcome = link.ask(&self.target, outgoing, patience).await;
        self.keep(link, outcome)
    }

    fn kept(&self) -> Option<Link> {
        let mut links = self.links.lock();
        links.retain(|link| link.is_fresh(AGE));
        links.pop()
    }

    fn keep(&self, link: Link, outcome: Result<Response, FetchError>) -> Result<Response, FetchError> {
        let mut links = self.links.lock();
        if outcome.is_ok() && link.is_fresh(AGE) && links.len() < MOST_LINKS {
            links.push(link);
        }
        outcome
    }

    fn problem(&self, error: &FetchError) -> String {
        match error {
            FetchError::Reach(failure) | FetchError::Tls(failure) => words::failure(failure),
            FetchError::Private => {
                format!("{} leads to this machine or to a private network only", self.target.host)
            }
            FetchError::Timeout => format!("no answer within {} s", self.limit.as_secs()),
            other => other.to_string(),
        }
    }
}

fn answered(empty: Answer, response: &Response) -> Answer {
    let status = response.status;
    let taken = (200..300).contains(&status);
    let problem = match (&response.ending, response.field("location")) {
        (Ending::Broken(why), _) if taken => format!("{}, but {why}", response.in_words()),
        _ if taken => String::new(),
        (_, Some(place)) if (300..400).contains(&status) => {
            format!("{} to {}: redirects are not followed", response.in_words(), escape(place.as_bytes(), 200))
        }
        _ => response.in_words(),
    };
    Answer {
        status: Some(status),
        problem,
        advice: advice_on_status(status).map(str::to_owned),
        body: escape(&response.body, MOST_BODY),
        retry_after: response.field("retry-after").and_then(|value| value.parse().ok()),
        ..empty
    }
}

fn advice_on_status(status: u16) -> Option<&'static str> {
    Some(match status {
        200..=299 => return None,
        300..=399 => "Set the address to where it redirects to, if that is yours.",
        400 | 422 => {
            "The application does not like the body: look into its log; the body is JSON as the manual shows it."
        }
        401 | 403 => {
            "The application or something before it wants to be convinced: verify `webhook-signature` with this webhook's secret, and ask for no other credentials at this address."
        }
        404 | 405 => "Nothing takes POST at this path: check the path of the address.",
        410 => "The application wants no more events. Resume the webhook when it does again.",
        413 => "Something before the application takes only small requests: allow 256 KiB.",
        415 => "The application has to take Content-Type: application/json.",
        429 => "The application is asked too often: it is left alone for the time it names in Retry-After.",
        _ => "The application or the proxy before it failed: look into its log.",
    })
}

fn advice_on_error(error: &FetchError) -> &'static str {
    match error {
        FetchError::Private => {
            "Addresses inside of networks are not called, so that nobody's DNS leads in. If it is meant, allow the network: `pillarbox webhook set NAME --network 10.1.2.0/24`."
        }
        FetchError::Reach(_) => {
            "Check the host name and port, that the application runs, and that this server may connect to it."
        }
        FetchError::Tls(_) => {
            "The certificate has to be for this name and signed by an authority that `tls.roots` trusts."
        }
        FetchError::Timeout => "Answer at once and do the work later: put the event in a queue of your own.",
        FetchError::Closed | FetchError::Response(_) => "Check that an HTTP/1.1 server answers at this address.",
    }
}
