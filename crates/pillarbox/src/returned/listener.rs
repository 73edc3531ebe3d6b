//! The SMTP side of the bounce domain: mail is taken only for return paths that we made for messages we know, and for the
//! address of reports. Nobody relays through here: what is taken goes to [`super::reader`] and nowhere else.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use bytes::Bytes;
use net::Clock;
use net::server::{Peer, Service, ServiceFactory};
use parking_lot::Mutex;
use proto::smtp::reply::Reply;
use proto::smtp::sasl::Credentials;
use proto::smtp::server::{Content, SessionFacts};
use proto::{Envelope, MailParameters, Recipient, ReversePath};
use relay::budget::{Budget, Share};
use relay::verp::{SOURCE, Verp};
use store::{Kept, NewReturned, Store, StoreError};
use tokio::sync::Notify;

use crate::arrival::Token;
use crate::arrival::record as arrival;

/// Mails a minute from one address.
const PER_MINUTE: u32 = 600;
/// Addresses that are counted apart.
const MAX_COUNTED: usize = 10_000;

/// Makes a [`Session`] for each connection.
#[derive(Clone)]
pub struct BounceFactory(Arc<Shared>);

struct Shared {
    store: Arc<dyn Store>,
    clock: Clock,
    verp: Arc<Verp>,
    /// Where reports of DMARC and TLS may go, lower case.
    reports: Option<String>,
    receiving: Arc<Budget>,
    wake: Arc<Notify>,
    rates: Mutex<HashMap<IpAddr, (i64, u32)>>,
}

impl BounceFactory {
    /// For a bounce domain; `memory`: octets of content received at once; `wake`: told of what came.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Clock,
        verp: Arc<Verp>,
        reports: Option<&str>,
        memory: usize,
        wake: Arc<Notify>,
    ) -> Self {
        Self(Arc::new(Shared {
            store,
            clock,
            verp,
            reports: reports.map(str::to_ascii_lowercase),
            receiving: Budget::new(memory),
            wake,
            rates: Mutex::default(),
        }))
    }
}

impl ServiceFactory for BounceFactory {
    type Service = Session;

    fn connected(&self, peer: &Peer) -> Result<Session, Reply> {
        Ok(Session { shared: self.0.clone(), address: peer.address.ip(), receiving: None })
    }
}

/// One client's session.
pub struct Session {
    shared: Arc<Shared>,
    address: IpAddr,
    receiving: Option<Share>,
}

impl Shared {
    /// One more from this address in this minute, if it may.
    fn may_send(&self, address: IpAddr) -> bool {
        let key = match address.to_canonical() {
            IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() & (u128::MAX << 64))),
            four => four,
        };
        let minute = self.clock.now_ms() / 60_000;
        let mut rates = self.rates.lock();
        if rates.len() >= MAX_COUNTED {
            rates.retain(|_, (at, _)| *at == minute);
            if rates.len() >= MAX_COUNTED {
                return false;
            }
        }
        let (at, count) = rates.entry(key).or_insert((minute, 0));
        if *at != minute {
            (*at, *count) = (minute, 0);
        }
        *count += 1;
        *count <= PER_MINUTE
    }

    /// Whether something may come to this address.
    async fn knows(&self, address: &str) -> Result<bool, StoreError> {
        if self.reports.as_deref().is_some_and(|reports| reports.eq_ignore_ascii_case(address)) {
            return Ok(true);
        }
        if let Some(test) = address
            .rsplit_once('@')
            .filter(|(_, domain)| domain.eq_ignore_ascii_case(self.verp.domain()))
            .and_then(|_| Token::of_address(address))
        {
            return Ok(arrival::by_token(&*self.store, &test).await?.is_some());
        }
        let Some(token) = self.verp.read(address) else { return Ok(false) };
        match self.store.message(token.message, 1).await {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// What a client is told when the store cannot do it.
fn trouble(error: &StoreError) -> Reply {
    match error {
        StoreError::Full => Reply::new(452, "4.3.1 No room on the disk, try again later"),
        StoreError::Overloaded => Reply::new(451, "4.3.2 Too much is waiting, try again later"),
        _ => Reply::new(451, "4.3.0 Cannot be stored now, try again later"),
    }
}

impl Service for Session {
    async fn authenticate(&mut self, _credentials: Credentials, _peer: &Peer) -> Reply {
        Reply::new(535, "5.7.8 Nobody signs in here")
    }

    async fn mail(&mut self, _from: &ReversePath, _parameters: &MailParameters, _session: &SessionFacts) -> Reply {
        if let Err(error) = self.shared.store.ready() {
            return trouble(&error);
        }
        match self.shared.may_send(self.address) {
            true => Reply::new(250, "2.1.0 Sender ok"),
            false => Reply::new(450, "4.7.0 Too much mail a minute from your address, try again later"),
        }
    }

    async fn recipient(&mut self, recipient: &Recipient) -> Reply {
        match self.shared.knows(recipient.address.as_str()).await {
            Ok(true) => Reply::new(250, "2.1.5 Recipient ok"),
            Ok(false) => Reply::new(550, "5.1.1 No such address: only reports about mail of ours are taken here"),
            Err(error) => trouble(&error),
        }
    }

    async fn message(&mut self, envelope: Envelope, content: Content, _session: &SessionFacts, _peer: &Peer) -> Reply {
        let content = Bytes::from(content.octets);
        let mut answer = Reply::new(554, "5.5.1 No recipients");
        // One after the other: a failure in between makes the client come again, and a mail that is read twice counts once.
        for recipient in &envelope.recipients {
            let mail = NewReturned {
                source: SOURCE.into(),
                recipient: Some(recipient.address.to_string()),
                at_ms: self.shared.clock.now_ms(),
                content: content.clone(),
                place: None,
            };
            answer = match self.shared.store.keep_returned(mail).await {
                Ok(Kept::Durable | Kept::Repeated) => Reply::new(250, "2.0.0 Ok"),
                Ok(Kept::TooMany) => Reply::new(452, "4.3.1 Too much is waiting to be read, try again later"),
                Err(error) => trouble(&error),
            };
            if answer.code != 250 {
                break;
            }
        }
        self.receiving = None;
        self.shared.wake.notify_one();
        answer
    }

    fn memory(&mut self, octets: usize) -> Result<(), Reply> {
        let granted = match &mut self.receiving {
            Some(share) => share.grow_to(octets),
            none => {
                *none = self.shared.receiving.take(octets);
                none.is_some()
            }
        };
        if granted { Ok(()) } else { Err(Reply::new(452, "4.3.1 Too much mail at once, try again later")) }
    }

    fn reset(&mut self) {
        self.receiving = None;
    }
}
