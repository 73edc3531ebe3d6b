//! What the stories share: a store, a run, a clock, and short ways to say the usual things.

use std::sync::Arc;

use bytes::Bytes;
use proto::smtp::reply::Reply;
use proto::transcript::{Failure, Stage};
use proto::{Address, MailParameters, RcptParameters, ReversePath};

use super::Engine;
use crate::model::*;
use crate::verbs::Store;

/// The content of the usual message.
pub const MESSAGE_BODY: &[u8] = b"From: a@example.org\r\nSubject: hello\r\n\r\nhello\r\n";

/// A store with a run and a clock.
pub struct Scene {
    /// The engine under test.
    pub engine: Box<dyn Engine>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The run that claims.
    pub run: Incarnation,
    /// Now, Unix milliseconds.
    pub now: i64,
}

pub(super) const HOUR: i64 = 3_600_000;

pub(super) fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

pub(super) fn lane(route: &str, to: &str, priority: u8) -> Arc<Lane> {
    Arc::new(Lane::new(LaneKey {
        route: route.into(),
        domain: address(to).domain().into(),
        sender: "app".into(),
        stream: "news".into(),
        priority,
    }))
}

pub(super) fn refused() -> Cause {
    because("greylisted")
}

/// A refusal that a rule of this name explains.
pub(super) fn because(rule: &str) -> Cause {
    Cause {
        stage: Stage::Recipient,
        failure: Failure::Refused(Reply::new(451, "4.7.1 try later")),
        provider: Some("postfix".into()),
        rule: Some(rule.into()),
        unknown_via: None,
    }
}

pub(super) fn attempt(at_ms: i64) -> Attempt {
    Attempt {
        route: "mx".into(),
        peer: Some("mx.example.net [192.0.2.1]:25".into()),
        tls: Some("TLSv1.3 TLS13_AES_128_GCM_SHA256".into()),
        started_ms: at_ms,
        took_ms: 12,
        stage: None,
        reply: Some(Reply::new(250, "2.0.0 queued as 1234")),
        transcript: None,
    }
}

impl Scene {
    /// A new store with its first run.
    pub fn new(engine: Box<dyn Engine>) -> Self {
        let store = engine.open();
        let now = 1_800_000_000_000;
        let (run, taken) = store.start_run("node", now).wait().unwrap();
        assert_eq!(taken, 0);
        Self { engine, store, run, now }
    }

    /// A message for these recipients, each with its first state, in lanes of the route "mx".
    pub fn message(&self, to: &[&str], start: Start) -> NewMessage {
        let recipients = to
            .iter()
            .map(|to| NewRecipient {
                address: address(to),
                parameters: RcptParameters::default(),
                lane: lane("mx", to, 2),
                start: start.clone(),
            })
            .collect();
        let message = Message {
            id: self.store.next_id(self.now),
            accepted_ms: self.now,
            sender: "app".into(),
            stream: "news".into(),
            priority: 2,
            reverse_path: ReversePath(Some(address("a@example.org"))),
            parameters: MailParameters { envid: Some("e1".into()), size: Some(47), ..MailParameters::default() },
            size: MESSAGE_BODY.len() as u32,
            eight_bit: false,
            not_before_ms: None,
            expires_ms: self.now + 120 * HOUR,
            details: Arc::new(MessageDetails { subject: Some("hello".into()), ..MessageDetails::default() }),
        };
        NewMessage::plain(Arc::new(message), Bytes::from_static(MESSAGE_BODY), recipients, self.run)
    }

    /// Accepts a message.
    pub fn accept(&self, to: &[&str], start: Start) -> MessageId {
        self.accept_this(self.message(to, start))
    }

    /// Accepts this message.
    pub fn accept_this(&self, new: NewMessage) -> MessageId {
        let id = new.message.id;
        match self.store.accept(new).wait().unwrap() {
            Accepted::Committed(committed) => assert_eq!(committed.id(), id),
            other => panic!("not committed: {other:?}"),
        }
        id
    }

    /// Accepts a message that is due now.
    pub fn waiting(&self, to: &[&str]) -> MessageId {
        self.accept(to, Start::Waiting(self.now))
    }

    /// Claims whatever is due.
    pub fn claim(&self) -> Vec<Claim> {
        self.claim_some(1_000, 1_000, &[]).claims
    }

    /// Claims within limits.
    pub fn claim_some(&self, max: u32, max_per_lane: u32, skip: &[LaneId]) -> Claimed {
        let request = ClaimRequest { by: self.run, now_ms: self.now, max, max_per_lane, skip: skip.to_vec() };
        self.store.claim(request).wait().unwrap()
    }

    /// Settles one recipient after an attempt.
    pub fn settle(&self, message: MessageId, n: u32, outcome: Outcome) -> u32 {
        self.settle_all(message, vec![(n, outcome)])
    }

    /// Settles recipients after an attempt.
    pub fn settle_all(&self, message: MessageId, outcomes: Vec<(u32, Outcome)>) -> u32 {
        let settlement = Settlement {
            by: self.run,
            lapses: self.store.lapses(),
            at_ms: self.now,
            message,
            attempt: Some(attempt(self.now)),
            outcomes,
            capture: false,
        };
        self.store.settle(settlement).wait().unwrap()
    }

    /// Defers one recipient by an hour.
    pub fn defer(&self, message: MessageId, n: u32) -> u32 {
        self.settle(message, n, Outcome::Deferred { until_ms: self.now + HOUR, cause: refused() })
    }

    /// A recipient as people see it.
    pub fn view(&self, message: MessageId, n: u32) -> RecipientView {
        let view = self.store.message(message, 1_000).wait().unwrap();
        view.recipients.into_iter().find(|view| view.id.n == n).unwrap()
    }

    /// A recipient's state.
    pub fn state(&self, message: MessageId, n: u32) -> State {
        self.view(message, n).state
    }

    /// Kinds of a message's events, oldest first.
    pub fn kinds(&self, message: MessageId) -> Vec<EventKind> {
        self.store.events(message, 1_000).wait().unwrap().into_iter().map(|event| event.kind).collect()
    }

    /// Applies an operation as "op".
    pub fn operate(&self, selector: Selector, operation: Operation) -> u64 {
        self.store.operate(selector, operation, "op".into(), self.now).wait().unwrap()
    }

    /// Pending and held of a domain.
    pub fn count(&self, domain: &str) -> (u64, u64) {
        let counts = self.store.counts(GroupBy::Domain, 1_000).wait().unwrap();
        counts.iter().find(|count| count.group == domain).map_or((0, 0), |count| (count.pending, count.held))
    }

    /// Closes the store and opens it again, with a new run.
    pub fn restart(&mut self) -> u64 {
        self.store.close().wait().unwrap();
        self.store = self.engine.open();
        let (run, taken) = self.store.start_run("node", self.now).wait().unwrap();
        self.run = run;
        taken
    }

    /// Asserts that the store finds nothing wrong with itself.
    pub fn sound(&self) {
        let problems = self.store.verify(true).wait().unwrap();
        assert!(problems.is_empty(), "{problems:?}");
    }
}
