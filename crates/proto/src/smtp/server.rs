//! The server's side of an SMTP session as a pure machine: octets in, replies and events out.
//!
//! The driver owns socket, TLS and clock: it gives what it read to [`Server::receive`], calls [`Server::poll`] until it
//! needs input, answers the events, and writes [`Server::output`] once per batch. Policy is in the answers.

mod commands;
mod content;
mod input;
mod settings;

use std::fmt;
use std::sync::Arc;

pub use settings::{AuthOffer, SessionFacts, Settings};

use self::input::{Input, Line};
use super::body::{ContentCheck, DataDecoder};
use super::reply::Reply;
use super::sasl::{Credentials, Exchange};
use crate::address::ReversePath;
use crate::envelope::{Envelope, MailParameters, Recipient};

/// What the driver has to do next.
#[derive(Debug)]
pub enum Event {
    /// Write the output, read more, and give it to [`Server::receive`].
    NeedInput,
    /// Write the output, make the TLS handshake, then call [`Server::tls_started`].
    StartTls,
    /// Verify these; [`Server::answer`] 235, 535, 454 or 421.
    Authenticate(Credentials),
    /// May this sender send? [`Server::answer`].
    Mail(ReversePath, MailParameters),
    /// May it be sent there? [`Server::answer`].
    Recipient(Recipient),
    /// Take responsibility for this message, or do not; [`Server::answer`]. At least one recipient was accepted.
    Message(Envelope, Content),
    /// The peer, which is trusted to, tells whom it speaks for; [`Server::answer`] 220 to start anew.
    XClient(Vec<(String, String)>),
    /// Write the output and close.
    Close,
}

/// A message as it came, un-stuffed; every line ends in CR LF, except maybe the last one of BDAT.
#[derive(Clone, PartialEq, Eq)]
pub struct Content {
    /// Headers and body.
    pub octets: Vec<u8>,
    /// There is an octet above 127.
    pub eight_bit: bool,
    /// Octets of the longest line without CR LF.
    pub longest_line: usize,
    /// There is a NUL.
    pub nul: bool,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} octets)", self.octets.len())
    }
}

/// What the session is in the middle of.
#[derive(Debug)]
enum Phase {
    /// A command is next.
    Command,
    /// A line of a SASL exchange is next.
    Auth(Exchange),
    /// Content up to CR LF . CR LF is next.
    Data(DataDecoder),
    /// This many octets of a chunk are next.
    Chunk { left: u64, last: bool },
    /// A chunk or the content is complete.
    ContentEnd { last: bool },
    /// The driver owes an answer.
    Waiting(Question),
    /// The driver makes a TLS handshake.
    Handshake,
    /// Nothing more is read.
    Closed,
}

/// What the driver was asked.
#[derive(Debug)]
enum Question {
    Auth(String),
    Mail(ReversePath, MailParameters),
    Recipient(Recipient),
    Message,
    XClient,
}

/// The machine.
pub struct Server {
    settings: Arc<Settings>,
    facts: SessionFacts,
    phase: Phase,
    input: Input,
    output: Vec<u8>,
    /// From an accepted MAIL until the message is handed over.
    transaction: Option<Envelope>,
    /// BDAT has begun in this transaction.
    chunking: bool,
    content: Vec<u8>,
    check: ContentCheck,
    /// The content arriving is dropped and this is the answer.
    refusal: Option<Reply>,
    commands: u32,
    errors: u32,
    stopping: bool,
}

impl Server {
    /// A session that has not begun; `tls_on` for implicit TLS.
    pub fn new(settings: Arc<Settings>, tls_on: bool) -> Self {
        Self {
            settings,
            facts: SessionFacts { tls: tls_on, ..SessionFacts::default() },
            phase: Phase::Command,
            input: Input::default(),
            output: Vec::new(),
            transaction: None,
            chunking: false,
            content: Vec::new(),
            check: ContentCheck::default(),
            refusal: None,
            commands: 0,
            errors: 0,
            stopping: false,
        }
    }

    /// Queues the 220 greeting, or the refusal and the end of the session.
    pub fn greet(&mut self, refusal: Option<Reply>) {
        match refusal {
            Some(reply) => self.close(&reply),
            None => self.reply(&self.greeting()),
        }
    }

    /// The 220 reply; also the answer to an accepted XCLIENT.
    pub fn greeting(&self) -> Reply {
        Reply::new(220, format!("{} ESMTP Pillarbox", self.settings.hostname))
    }

    /// Takes what was read. Content goes straight to its buffer; everything else waits for [`Server::poll`].
    ///
    /// Call it after [`Event::NeedInput`] only: otherwise the input buffer grows by what is given.
    pub fn receive(&mut self, octets: &[u8]) {
        match self.phase {
            Phase::Closed => return,
            // Clear-text octets behind STARTTLS belong to no session (RFC 3207 §6).
            Phase::Handshake => return self.phase = Phase::Closed,
            _ => {}
        }
        let taken = if self.input.is_empty() { self.take_content(octets) } else { 0 };
        self.input.push(&octets[taken..]);
    }

    /// Replies to write; the driver clears it after writing.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Runs until the input is used up or something needs the driver.
    pub fn poll(&mut self) -> Event {
        loop {
            let event = match self.phase {
                Phase::Closed => return Event::Close,
                Phase::Waiting(_) | Phase::Handshake => return Event::NeedInput,
                Phase::Data(_) | Phase::Chunk { .. } => {
                    if self.input.is_empty() {
                        return Event::NeedInput;
                    }
                    self.take_buffered_content();
                    None
                }
                Phase::ContentEnd { last } => self.content_end(last),
                Phase::Command | Phase::Auth(_) if self.stopping && self.transaction.is_none() => {
                    self.say_and_close("421 4.3.2 shutting down");
                    None
                }
                Phase::Command | Phase::Auth(_) => match self.input.next_line() {
                    Line::Incomplete => return Event::NeedInput,
                    Line::Complete(start, end) => self.line(start, end),
                    Line::TooLong => self.too_long(),
                    Line::BareLineEnd => {
                        self.say_and_close("550 5.5.2 lines must end in CR LF");
                        None
                    }
                    Line::ClientHello => {
                        self.say_and_close("554 5.5.1 TLS begins with STARTTLS on this port");
                        None
                    }
                },
            };
            if let Some(event) = event {
                return event;
            }
        }
    }

    /// The handshake after [`Event::StartTls`] is done: all knowledge of the session before is dropped (RFC 3207 §4.2).
    pub fn tls_started(&mut self) {
        if !matches!(self.phase, Phase::Handshake) {
            self.phase = Phase::Closed;
            return;
        }
        self.reset();
        self.facts = SessionFacts { tls: true, ..SessionFacts::default() };
        self.phase = Phase::Command;
    }

    /// Answers the last event that asked; 2yz (and 3yz) makes it so, anything else leaves things as they were, except
    /// that a message ends its transaction in any case. 421 ends the session.
    pub fn answer(&mut self, reply: Reply) {
        let question = match std::mem::replace(&mut self.phase, Phase::Command) {
            Phase::Waiting(question) => question,
            other => return self.phase = other,
        };
        self.reply(&reply);
        let accepted = matches!(reply.class(), 2 | 3);
        match question {
            Question::Auth(username) if accepted => self.facts.authenticated = Some(username),
            Question::Auth(_) => self.count_error(),
            Question::Mail(reverse_path, parameters) if accepted => {
                self.transaction = Some(Envelope { reverse_path, parameters, recipients: Vec::new() });
            }
            Question::Recipient(recipient) if accepted => {
                self.commands = self.commands.saturating_sub(1);
                if let Some(envelope) = &mut self.transaction {
                    envelope.recipients.push(recipient);
                }
            }
            Question::Message => {
                self.reset();
                if accepted {
                    (self.commands, self.errors) = (0, 0);
                }
            }
            Question::XClient if accepted => {
                self.facts = SessionFacts { tls: self.facts.tls, ..SessionFacts::default() };
            }
            Question::Mail(..) | Question::Recipient(_) | Question::XClient => {}
        }
    }

    /// While content is arriving (and until its message event): drop what came and what comes, then answer this.
    pub fn refuse_content(&mut self, reply: Reply) {
        if matches!(self.phase, Phase::Data(_) | Phase::Chunk { .. } | Phase::ContentEnd { .. }) {
            self.drop_content(reply);
        }
    }

    /// Octets of content held now.
    pub fn content_len(&self) -> usize {
        self.content.len()
    }
    /// Content is arriving, not a command.
    pub fn in_content(&self) -> bool {
        matches!(self.phase, Phase::Data(_) | Phase::Chunk { .. })
    }
    /// No transaction is open and nothing waits for an answer: the session can be ended without harm.
    pub fn idle(&self) -> bool {
        self.transaction.is_none() && matches!(self.phase, Phase::Command | Phase::Auth(_) | Phase::Closed)
    }
    /// What is known about the session.
    pub fn session(&self) -> &SessionFacts {
        &self.facts
    }

    /// The peer was silent for too long.
    pub fn timeout(&mut self) {
        self.say_and_close("421 4.4.2 timeout, closing connection");
    }

    /// The process stops: the session ends now if it is idle, else when its transaction ends.
    pub fn shutdown(&mut self) {
        self.stopping = true;
        if self.idle() {
            self.say_and_close("421 4.3.2 shutting down");
        }
    }

    fn line(&mut self, start: usize, end: usize) -> Option<Event> {
        if matches!(self.phase, Phase::Auth(_)) { self.auth_line(start, end) } else { self.command_line(start, end) }
    }

    /// Forgets the transaction, not the session.
    fn reset(&mut self) {
        self.transaction = None;
        self.chunking = false;
        self.content = Vec::new();
        self.check = ContentCheck::default();
        self.refusal = None;
    }

    fn say(&mut self, line: &str) {
        self.output.extend_from_slice(line.as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }

    fn say_and_close(&mut self, line: &str) {
        if !matches!(self.phase, Phase::Closed) {
            self.say(line);
            self.shut();
        }
    }

    fn reply(&mut self, reply: &Reply) {
        reply.encode_into(&mut self.output);
        if reply.code == 421 {
            self.shut();
        }
    }

    fn close(&mut self, reply: &Reply) {
        self.reply(reply);
        self.shut();
    }

    fn shut(&mut self) {
        self.reset();
        self.input = Input::default();
        self.phase = Phase::Closed;
    }

    /// The peer's mistake.
    fn fail(&mut self, line: &str) {
        self.say(line);
        self.count_error();
    }

    fn count_error(&mut self) {
        self.errors += 1;
        if self.errors > self.settings.max_errors {
            self.say_and_close("421 4.7.0 too many errors");
        }
    }
}

impl fmt::Debug for Server {
    /// Shows neither input, which may be credentials, nor content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Server");
        shown.field("session", &self.facts).field("phase", &self.phase).field("content", &self.content.len());
        shown.finish_non_exhaustive()
    }
}
