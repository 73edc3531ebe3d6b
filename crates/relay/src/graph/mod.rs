//! Mail by Microsoft Graph: a connection that takes messages as one by SMTP does, for networks where only HTTPS goes out.
//!
//! Graph has no envelope, so that each request carries a copy addressed to the transaction's recipients only. A link that
//! dies after the end of a request leaves its outcome unknown, as behind the final dot of SMTP (RFC 1047).

pub mod wire;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use net::Net;
use net::client::web::{Unanswered, WebConnection};
use net::client::{ClientSettings, ConnectError, Delivery};
use proto::Address;
use proto::smtp::capability::Capabilities;
use proto::smtp::client::{Plan, RecipientResult, TransactionEnd};
use proto::smtp::reply::Reply;
use proto::transcript::{Failure, Stage, Transcript};
use secrecy::SecretString;

use crate::route::Route;
use crate::token::{Token, Tokens};
use wire::Verdict;

/// Longest wait for the answer to a request; Graph's own gateways give up earlier.
const ANSWER: Duration = Duration::from_secs(180);

/// Where a route's Graph is.
#[derive(Debug, Clone)]
pub struct Place {
    /// How we connect.
    pub net: Net,
    /// From where.
    pub settings: ClientSettings,
    /// The name, which the certificate must have.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Addresses of the host.
    pub addresses: Vec<IpAddr>,
}

impl Place {
    /// Connects, with TLS.
    ///
    /// # Errors
    /// The last failure, with the steps of all addresses.
    pub async fn connect(&self) -> Result<WebConnection, Box<ConnectError>> {
        WebConnection::connect(&self.net, &self.host, self.port, &self.addresses, &self.settings).await
    }

    /// Asks whether a token may send for a mailbox, with a message to nobody.
    ///
    /// # Errors
    /// Why it may not, or why there is no answer; the step is in the connection's transcript.
    pub async fn ask_leave(&self, web: &mut WebConnection, mailbox: &str, token: &SecretString) -> Result<(), Failure> {
        let began = web.now_us();
        let (path, body) = (wire::path_of(mailbox), wire::probe(mailbox));
        let head = wire::head(&self.host, &path, body.len(), token);
        let failure = match web.ask(head.as_bytes(), &body, ANSWER, std::future::ready(true)).await {
            Ok(answer) => match wire::verdict(&answer, self.net.clock.now_ms() / 1_000) {
                Verdict::Accepted(_) => None,
                // What is wrong with the message to nobody is told only to whom may send.
                Verdict::Refused(Failure::Api { status: 400, .. }) => None,
                Verdict::Refused(failure) | Verdict::Unknown(failure) => Some(failure),
            },
            Err(Unanswered { failure, .. }) => Some(failure),
        };
        match failure {
            None => {
                web.note_token();
                Ok(())
            }
            Some(failure) => {
                let sent = format!("POST {path} (a message to nobody)");
                web.note(wire::stage_of(&failure), began, &sent, Some(&failure));
                Err(failure)
            }
        }
    }

    /// Connects, asks, and closes.
    ///
    /// # Errors
    /// Why the token may not send.
    pub async fn probe(&self, mailbox: &str, token: &SecretString) -> Result<(), Box<ConnectError>> {
        let mut web = self.connect().await?;
        let asked = self.ask_leave(&mut web, mailbox, token).await;
        let transcript = web.take_transcript();
        web.close().await;
        asked.map_err(|failure| Box::new(ConnectError { transcript, stage: wire::stage_of(&failure), failure }))
    }
}

/// A connection to Graph, ready for messages of one route.
pub(crate) struct GraphConnection {
    web: WebConnection,
    place: Place,
    route: Arc<Route>,
    tokens: Arc<dyn Tokens>,
    path: String,
    capabilities: Arc<Capabilities>,
    requests: u32,
}

/// How one request ended.
enum Sent {
    Accepted(Reply),
    Refused(Failure),
    /// It may have been taken.
    Unknown(Failure),
    /// Nothing of it was taken. `true`: the connection had gone before.
    Broken(Failure, bool),
}

impl GraphConnection {
    /// Connects.
    pub(crate) async fn open(
        place: Place,
        route: Arc<Route>,
        tokens: Arc<dyn Tokens>,
    ) -> Result<Self, Box<ConnectError>> {
        let web = place.connect().await?;
        let path = wire::path_of(route.record.username.as_deref().unwrap_or_default());
        // Anything may be in a message that crosses in base64; addresses may be in UTF-8 (RFC 6531).
        let capabilities = Capabilities { eight_bit_mime: true, smtputf8: true, ..Capabilities::default() };
        Ok(Self { web, place, route, tokens, path, capabilities: Arc::new(capabilities), requests: 0 })
    }

    pub(crate) fn capabilities(&self) -> &Arc<Capabilities> {
        &self.capabilities
    }

    pub(crate) fn host(&self) -> &str {
        self.web.host()
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.web.peer()
    }

    pub(crate) fn tls(&self) -> Option<&str> {
        self.web.tls()
    }

    pub(crate) fn transactions(&self) -> u32 {
        self.requests
    }

    pub(crate) fn take_transcript(&mut self) -> Transcript {
        self.web.take_transcript()
    }

    pub(crate) async fn closed(&mut self) {
        self.web.closed().await;
    }

    pub(crate) async fn close(self) {
        self.web.close().await;
    }

    /// One message to the recipients of the plan. Where Graph does not say which of several it minds, they go one by one.
    pub(crate) async fn deliver(
        &mut self,
        plan: &Plan<'_>,
        content: &[u8],
        before_end: impl Future<Output = bool>,
    ) -> Delivery {
        let mut before_end = Some(before_end);
        let mut recipients: Vec<&Address> = plan.recipients.iter().map(|(address, _)| *address).collect();
        let mut renewed = false;
        loop {
            let Token { secret, fresh } = match self.tokens.token(&self.route).await {
                Ok(token) => token,
                Err(failure) => return self.ended(plan, &recipients, Sent::Refused(failure)),
            };
            let body = match wire::body(content, &recipients) {
                Ok(body) => body,
                Err(failure) => return self.ended(plan, &recipients, Sent::Refused(failure)),
            };
            let sent = self.post(&secret, &body, before_end.take()).await;
            let Sent::Refused(failure) = &sent else { return self.ended(plan, &recipients, sent) };
            let mut again = false;
            if wire::is_about_the_token(failure) {
                self.tokens.refused(&self.route, &secret);
                // A permission that was given a while ago is in new tokens only.
                again = !fresh && !renewed;
                renewed = true;
            } else if is_about_somebody(failure) && recipients.len() > 1 {
                recipients.truncate(1);
                again = true;
            }
            if !again || !self.is_ready().await {
                return self.ended(plan, &recipients, sent);
            }
        }
    }

    /// A connection for another request of the same delivery: nothing of it was taken so far.
    async fn is_ready(&mut self) -> bool {
        if !self.web.reusable() {
            match self.place.connect().await {
                Ok(web) => self.web = web,
                Err(_) => return false,
            }
        }
        true
    }

    async fn post(
        &mut self,
        token: &SecretString,
        body: &[u8],
        before_end: Option<impl Future<Output = bool>>,
    ) -> Sent {
        self.requests += 1;
        let began = self.web.now_us();
        let head = wire::head(self.web.host(), &self.path, body.len(), token);
        let may_end = async {
            match before_end {
                Some(before_end) => before_end.await,
                None => true,
            }
        };
        let sent = match self.web.ask(head.as_bytes(), body, ANSWER, may_end).await {
            Ok(answer) => match wire::verdict(&answer, self.place.net.clock.now_ms() / 1_000) {
                Verdict::Accepted(reply) => Sent::Accepted(reply),
                Verdict::Refused(failure) => Sent::Refused(failure),
                Verdict::Unknown(failure) => Sent::Unknown(failure),
            },
            Err(Unanswered { failure, past_end: true, .. }) => Sent::Unknown(failure),
            Err(Unanswered { failure, stale, .. }) => Sent::Broken(failure, stale),
        };
        let line = format!("POST {} ({} octets)", self.path, body.len());
        match &sent {
            Sent::Accepted(_) => self.web.note(Stage::Message, began, &line, None),
            Sent::Refused(failure) | Sent::Unknown(failure) | Sent::Broken(failure, _) => {
                self.web.note(wire::stage_of(failure), began, &line, Some(failure));
            }
        }
        sent
    }

    /// As a transaction is told of. Those that were not in the request are for the next one.
    fn ended(&mut self, plan: &Plan<'_>, recipients: &[&Address], sent: Sent) -> Delivery {
        let (result, end, failure, past_dot, stale) = match sent {
            Sent::Accepted(reply) => {
                (RecipientResult::Accepted, Some(TransactionEnd::Delivered(reply)), None, false, false)
            }
            Sent::Refused(failure) => (RecipientResult::Pending, None, Some(failure), false, false),
            Sent::Unknown(failure) => (RecipientResult::Accepted, None, Some(failure), true, false),
            Sent::Broken(failure, stale) => (RecipientResult::Pending, None, Some(failure), false, stale),
        };
        let mut results = vec![result; recipients.len()];
        results.resize(plan.recipients.len(), RecipientResult::Postponed(None));
        Delivery {
            results,
            end,
            failure: failure.map(|failure| (wire::stage_of(&failure), failure)),
            past_dot,
            reusable: self.web.reusable(),
            stale,
            transcript: self.web.take_transcript(),
        }
    }
}

/// Graph minds one of the recipients, and does not say which.
fn is_about_somebody(failure: &Failure) -> bool {
    matches!(failure, Failure::Api { status: 400, error, .. } if error == wire::INVALID_RECIPIENTS)
}
