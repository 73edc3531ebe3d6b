//! The SMTP side of the door: what the session machine asks, answered from senders, limits and the store.
//!
//! Nobody relays without being a sender: by AUTH, or by an address that was explicitly given to a sender.

use std::net::IpAddr;
use std::sync::Arc;

use net::server::{Peer, Service, ServiceFactory};
use proto::message::Protocol;
use proto::smtp::reply::Reply;
use proto::smtp::sasl::Credentials;
use proto::smtp::server::{Content, SessionFacts};
use proto::{Envelope, MailParameters, Recipient, ReversePath};
use store::{Committed, Origin};

use crate::accept::{DRAINING, Door, Receipt, Submission, may_not_use, refuse_paused};
use crate::budget::Share;
use crate::incident::signins::SignInBy;
use crate::sender::Sender;

/// Longest HELO name that is kept.
const MAX_HELO: usize = 255;

/// Makes a [`Session`] for each connection.
#[derive(Debug, Clone)]
pub struct SmtpFactory {
    door: Door,
}

impl SmtpFactory {
    pub(crate) fn new(door: Door) -> Self {
        Self { door }
    }
}

impl ServiceFactory for SmtpFactory {
    type Service = Session;

    fn connected(&self, peer: &Peer) -> Result<Session, Reply> {
        if self.door.shared.is_stopping() {
            return Err(Reply::new(421, "4.3.2 Shutting down"));
        }
        if self.door.shared.node.is_draining() {
            return Err(Reply::new(421, DRAINING));
        }
        let by_address = self.door.shared.directory().sender_by_address(peer.address.ip()).cloned();
        let address = peer.address.ip();
        Ok(Session { door: self.door.clone(), address, sender: by_address, proof: Proof::Address, receiving: None })
    }
}

/// How a session's sender is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    Address,
    Password,
}

/// One client's session.
#[derive(Debug)]
pub struct Session {
    door: Door,
    address: IpAddr,
    sender: Option<Arc<Sender>>,
    proof: Proof,
    /// Memory of the message that is being received.
    receiving: Option<Share>,
}

impl Session {
    async fn check(&mut self, credentials: Credentials, address: IpAddr) -> Reply {
        let shared = &self.door.shared;
        let name = credentials.username.as_str();
        let delay = shared.gate.delay(address, name, shared.now_ms());
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let directory = shared.directory();
        let sender = directory.sender(name);
        let right = shared.gate.check_password(sender, &credentials.password).await;
        let usable = sender.filter(|sender| right && !sender.record.disabled && sender.may_connect_from(address));
        match usable {
            Some(sender) => {
                shared.gate.right(address, name);
                shared.sign_ins.right(address, name, shared.now_ms());
                shared.metrics.authenticated("smtp", true);
                self.sender = Some(sender.clone());
                self.proof = Proof::Password;
                Reply::new(235, "2.7.0 Authenticated")
            }
            None => {
                shared.gate.wrong(address, name, shared.now_ms());
                shared.sign_ins.wrong(address, name, SignInBy::Smtp, sender.is_some(), shared.now_ms());
                shared.metrics.authenticated("smtp", false);
                tracing::warn!(%address, user = ?name, mechanism = ?credentials.mechanism, "AUTH failed");
                Reply::new(535, "5.7.8 Authentication credentials invalid")
            }
        }
    }

    /// Takes up what has changed about the sender since it proved who it is. False: it has to prove it anew.
    fn still_valid(&mut self) -> bool {
        let Some(before) = &self.sender else { return true };
        let now = self.door.shared.directory().sender(&before.name).cloned();
        self.sender = now.filter(|now| {
            let record = &now.record;
            let proven = || match self.proof {
                Proof::Address => record.trusted_addresses.iter().any(|network| network.contains(self.address)),
                Proof::Password => {
                    record.password_hash == before.record.password_hash && now.may_connect_from(self.address)
                }
            };
            now.version == before.version || !record.disabled && proven()
        });
        self.sender.is_some()
    }

    fn submission(
        &mut self,
        envelope: Envelope,
        content: Content,
        session: &SessionFacts,
        peer: &Peer,
    ) -> Option<Submission> {
        let sender = self.sender.clone()?;
        let protocol = if session.esmtp {
            let utf8 = envelope.parameters.smtputf8;
            Protocol::Esmtp { tls: session.tls, authenticated: session.authenticated.is_some(), utf8 }
        } else {
            Protocol::Smtp
        };
        let origin = Origin {
            protocol: protocol.as_str().to_owned(),
            address: Some(peer.address.ip()),
            helo: Some(session.helo.chars().take(MAX_HELO).collect()),
        };
        Some(Submission {
            sender,
            envelope,
            content: content.octets,
            eight_bit: content.eight_bit,
            longest_line: content.longest_line,
            origin,
            protocol,
            stream: None,
            tags: Vec::new(),
            metadata: serde_json::Map::new(),
            send_at_ms: None,
            deliver_by_ms: None,
            idempotency: None,
            batch: None,
            digest_key: None,
        })
    }
}

/// The 250 that takes responsibility: there is no other way to it than a message that is durable.
fn queued(committed: &Committed) -> Reply {
    Reply::new(250, format!("2.0.0 Ok: queued as {}", committed.id()))
}

impl Service for Session {
    async fn authenticate(&mut self, credentials: Credentials, peer: &Peer) -> Reply {
        self.check(credentials, peer.address.ip()).await
    }

    async fn mail(&mut self, from: &ReversePath, parameters: &MailParameters, _session: &SessionFacts) -> Reply {
        if !self.still_valid() {
            // AUTH cannot be given twice in a session (RFC 4954 §4).
            return Reply::new(421, "4.7.0 This sender has changed, connect again");
        }
        let Some(sender) = &self.sender else {
            return Reply::new(530, "5.7.0 Authentication required");
        };
        if let Err(refusal) = self.door.ready() {
            return refusal.reply;
        }
        if let Err(refusal) = refuse_paused(&self.door.shared.directory(), sender) {
            return refusal.reply;
        }
        if let (Some(size), Some(limit)) = (parameters.size, sender.record.max_size)
            && size > limit
        {
            return Reply::new(552, format!("5.3.4 Message is larger than {limit} octets"));
        }
        match &from.0 {
            Some(address) if !sender.may_use(address) => may_not_use(sender, address, "").reply,
            _ => Reply::new(250, "2.1.0 Sender ok"),
        }
    }

    async fn recipient(&mut self, _recipient: &Recipient) -> Reply {
        Reply::new(250, "2.1.5 Recipient ok")
    }

    async fn message(&mut self, envelope: Envelope, content: Content, session: &SessionFacts, peer: &Peer) -> Reply {
        let Some(submission) = self.submission(envelope, content, session, peer) else {
            return Reply::new(530, "5.7.0 Authentication required");
        };
        let answer = self.door.submit(submission).await;
        self.receiving = None;
        match answer {
            Ok(Receipt { committed: Some(committed), .. }) => queued(&committed),
            // Only a request with an `Idempotency-Key` is answered without a commit of its own, and SMTP has none.
            Ok(_) => Reply::new(451, "4.3.0 Message could not be stored, try again later"),
            Err(refusal) => refusal.reply,
        }
    }

    fn memory(&mut self, octets: usize) -> Result<(), Reply> {
        let granted = match &mut self.receiving {
            Some(share) => share.grow_to(octets),
            none => {
                *none = self.door.shared.receiving.take(octets);
                none.is_some()
            }
        };
        if granted { Ok(()) } else { Err(Reply::new(452, "4.3.1 Too much mail at once, try again later")) }
    }

    fn reset(&mut self) {
        self.receiving = None;
    }
}
