//! The client's side of one mail transaction over an established session (RFC 5321 §3.3), without I/O.
//!
//! The driver writes [`Transaction::output`], feeds replies in order, and sends the content when asked to. Greeting,
//! TLS and AUTH are the driver's; what a refusal means for the queue is decided elsewhere.

#[cfg(test)]
mod tests;

use crate::address::{Address, ReversePath};
use crate::envelope::{BodyType, MailParameters, RcptParameters};
use crate::smtp::capability::Capabilities;
use crate::smtp::command::{encode_mail, encode_rcpt};
use crate::smtp::reply::Reply;
use crate::transcript::{Failure, Stage};

/// Most commands written before their replies are read. Without a bound, a server that stops reading while it
/// cannot write its replies, and we, who write, would wait for each other (RFC 2920 §3.1).
pub const PIPELINE_WINDOW: usize = 100;

/// What shall be sent, and to a server of which capabilities.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// MAIL FROM.
    pub reverse_path: &'a ReversePath,
    /// MAIL parameters as the message came with; SIZE and BODY are taken from below instead.
    pub parameters: &'a MailParameters,
    /// RCPT TO, at least one. Those over the server's RCPTMAX (RFC 9422) are postponed.
    pub recipients: Vec<(&'a Address, &'a RcptParameters)>,
    /// Octets of the content, before dot-stuffing.
    pub size: u64,
    /// The content has octets over 127.
    pub eight_bit: bool,
    /// What the server offers.
    pub caps: &'a Capabilities,
}

/// What the server said about one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecipientResult {
    /// No answer (yet), or none that counts, since MAIL was refused; then [`Transaction::outcome`] applies.
    Pending,
    /// 2yz to RCPT; the fate is that of the transaction.
    Accepted,
    /// Refused at RCPT, or unanswered when 421 came there.
    Refused(Reply),
    /// Too many recipients for this transaction: send again at once in a further one. Happens only beside an
    /// accepted recipient, so that each transaction makes progress. Without a reply: over the server's RCPTMAX.
    Postponed(Option<Reply>),
}

/// How the transaction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionEnd {
    /// 2yz to the final dot: the accepted recipients are the server's responsibility now.
    Delivered(Reply),
    /// MAIL ([`Stage::Sender`]), DATA or the content ([`Stage::Message`]) was refused, or 421 came; applies to all
    /// recipients that are accepted or pending. The reply is 4yz, 5yz or one that is wrong in its place.
    Refused {
        /// Where.
        stage: Stage,
        /// The words.
        reply: Reply,
    },
    /// No recipient was accepted; each has its own reply.
    NoRecipients,
}

/// What one recipient's part of a finished transaction comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate<'a> {
    /// The server took it, with this reply to the dot.
    Delivered(&'a Reply),
    /// Refused at this stage.
    Refused(Stage, &'a Reply),
    /// Not tried for want of room in the transaction.
    Postponed,
    /// The transaction has not ended (so if the link died, nothing is known).
    Open,
}

/// What the driver shall do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Write the output if there is any, then feed the next reply.
    NeedReply(Stage),
    /// Write the stuffed content with its final dot, then call [`Transaction::content_sent`].
    SendContent,
    /// Nothing more; see [`Transaction::outcome`].
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Commands,
    Content,
    Dot,
    /// DATA was granted although nobody is to receive: an empty content ends it.
    LoneDot,
    Done,
}

/// One transaction. Commands are counted: 0 is MAIL, then one RCPT each, the last is DATA.
#[derive(Debug)]
pub struct Transaction {
    output: Vec<u8>,
    /// Commands not yet moved to the output, from `unsent` on.
    commands: Vec<u8>,
    unsent: usize,
    window: usize,
    /// Index of DATA.
    data: usize,
    sent: usize,
    answered: usize,
    accepted: usize,
    phase: Phase,
    results: Vec<RecipientResult>,
    end: Option<TransactionEnd>,
    /// Recipients were taken although MAIL was not.
    strayed: bool,
    /// The server holds a transaction of ours.
    open: bool,
    closing: bool,
}

impl Transaction {
    /// Prepares the commands; the first of them are in the output.
    ///
    /// Fails with [`Failure::MissingExtension`] if the message needs `8BITMIME` (the caller may convert it) or
    /// `SMTPUTF8` and the server lacks it, with [`Failure::TooLarge`] if it is over the server's SIZE, and with
    /// [`Failure::Local`] without a recipient.
    pub fn new(plan: &Plan<'_>) -> Result<Self, Failure> {
        if plan.recipients.is_empty() {
            return Err(Failure::Local { reason: "transaction without recipients".to_owned() });
        }
        let parameters = mail_parameters(plan)?;
        let room =
            plan.caps.limits.rcptmax.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX).max(1));
        let count = plan.recipients.len().min(room);
        let mut commands = Vec::with_capacity(96 + count * 64);
        encode_mail(plan.reverse_path, &parameters, &mut commands);
        let plain = RcptParameters::default();
        for (address, parameters) in &plan.recipients[..count] {
            encode_rcpt(address, if plan.caps.dsn { parameters } else { &plain }, &mut commands);
        }
        commands.extend_from_slice(b"DATA\r\n");
        let mut results = vec![RecipientResult::Pending; count];
        results.resize(plan.recipients.len(), RecipientResult::Postponed(None));
        let mut transaction = Self {
            output: Vec::new(),
            commands,
            unsent: 0,
            window: if plan.caps.pipelining { PIPELINE_WINDOW } else { 1 },
            data: count + 1,
            sent: 0,
            answered: 0,
            accepted: 0,
            phase: Phase::Commands,
            results,
            end: None,
            open: false,
            closing: false,
            strayed: false,
        };
        transaction.fill();
        Ok(transaction)
    }

    /// Commands to write now; the driver clears it after writing.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// What to do next.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Commands | Phase::Dot | Phase::LoneDot => State::NeedReply(self.stage()),
            Phase::Content => State::SendContent,
            Phase::Done => State::Done,
        }
    }

    /// The recipient whose RCPT the next reply answers.
    pub fn current_recipient(&self) -> Option<usize> {
        (self.phase == Phase::Commands && (1..self.data).contains(&self.answered)).then(|| self.answered - 1)
    }

    /// Takes the next reply. One that comes while the content is being sent ends the transaction as a refusal.
    pub fn reply(&mut self, reply: Reply) {
        if self.phase == Phase::Done {
            return;
        }
        if reply.code == 421 {
            return self.connection_ends(reply);
        }
        match self.phase {
            Phase::Commands => {
                match self.answered {
                    0 => self.mail_answered(reply),
                    data if data == self.data => self.data_answered(reply),
                    recipient => self.recipient_answered(recipient - 1, reply),
                }
                self.answered += 1;
                self.fill();
            }
            Phase::Content => {
                // The rest of the content would be read as commands.
                self.closing = true;
                self.finish(TransactionEnd::Refused { stage: Stage::Message, reply });
            }
            Phase::Dot => {
                self.open = false;
                self.closing |= !is_answer(&reply);
                self.finish(if reply.is_positive() {
                    TransactionEnd::Delivered(reply)
                } else {
                    TransactionEnd::Refused { stage: Stage::Message, reply }
                });
            }
            Phase::LoneDot => {
                self.open = false;
                self.finish(TransactionEnd::NoRecipients);
            }
            Phase::Done => {}
        }
    }

    /// The content and the final dot are written.
    pub fn content_sent(&mut self) {
        if self.phase == Phase::Content {
            self.phase = Phase::Dot;
        }
    }

    /// The link died. What the server had refused by then stands; without a decision the outcome stays `None`.
    pub fn link_died(&mut self) {
        self.closing = true;
        if self.end.is_some() {
            self.phase = Phase::Done;
        }
    }

    /// What is known of each recipient, in the order of the plan.
    pub fn recipients(&self) -> &[RecipientResult] {
        &self.results
    }

    /// How it ended; `None` until the state is [`State::Done`].
    pub fn outcome(&self) -> Option<&TransactionEnd> {
        self.end.as_ref().filter(|_| self.phase == Phase::Done)
    }

    /// Recipient's own reply and the transaction's end taken together.
    pub fn fate(&self, recipient: usize) -> Fate<'_> {
        match (self.results.get(recipient), self.outcome()) {
            (Some(RecipientResult::Refused(reply)), _) => Fate::Refused(Stage::Recipient, reply),
            (Some(RecipientResult::Postponed(_)), _) => Fate::Postponed,
            (Some(RecipientResult::Accepted), Some(TransactionEnd::Delivered(reply))) => Fate::Delivered(reply),
            (Some(_), Some(TransactionEnd::Refused { stage, reply })) => Fate::Refused(*stage, reply),
            _ => Fate::Open,
        }
    }

    /// RSET must precede a further transaction on this connection.
    pub fn needs_reset(&self) -> bool {
        self.open || self.phase != Phase::Done
    }

    /// The connection must not be used again: 421 came, or the two sides no longer agree on where they are.
    pub fn closing(&self) -> bool {
        self.closing
    }

    /// The content is sent and its reply is outstanding: if the link dies now, nobody knows (RFC 1047).
    pub fn past_dot(&self) -> bool {
        self.phase == Phase::Dot
    }

    fn stage(&self) -> Stage {
        match (self.phase, self.answered) {
            (Phase::Commands, 0) => Stage::Sender,
            (Phase::Commands, index) if index < self.data => Stage::Recipient,
            _ => Stage::Message,
        }
    }

    /// Moves as many commands to the output as may be unanswered at a time, once all before are answered.
    fn fill(&mut self) {
        if self.phase != Phase::Commands || self.sent > self.answered {
            return;
        }
        if self.end.is_some() {
            self.phase = Phase::Done;
        } else if self.sent == self.data && self.accepted == 0 {
            self.finish(TransactionEnd::NoRecipients);
        } else if self.sent == 0 && self.data < self.window {
            self.output = std::mem::take(&mut self.commands);
            self.sent = self.data + 1;
        } else {
            let most = self.window.min(self.data + 1 - self.sent);
            let rest = &self.commands[self.unsent..];
            let length = memchr::memchr_iter(b'\n', rest).nth(most - 1).map_or(rest.len(), |end| end + 1);
            self.output.extend_from_slice(&rest[..length]);
            self.unsent += length;
            self.sent += most;
        }
    }

    fn mail_answered(&mut self, reply: Reply) {
        if reply.is_positive() {
            self.open = true;
        } else {
            self.closing |= !is_answer(&reply);
            self.end = Some(TransactionEnd::Refused { stage: Stage::Sender, reply });
        }
    }

    fn recipient_answered(&mut self, index: usize, reply: Reply) {
        if self.end.is_some() {
            // "503 need MAIL first" says nothing about this recipient. One that is taken all the same must not be given
            // the empty content that ends a DATA.
            self.strayed |= reply.is_positive();
            return;
        }
        self.results[index] = if reply.is_positive() {
            self.accepted += 1;
            RecipientResult::Accepted
        } else if self.accepted > 0 && is_too_many(&reply) {
            RecipientResult::Postponed(Some(reply))
        } else {
            self.closing |= !is_answer(&reply);
            RecipientResult::Refused(reply)
        };
    }

    fn data_answered(&mut self, reply: Reply) {
        let granted = reply.class() == 3;
        if granted && self.end.is_none() && self.accepted > 0 {
            self.phase = Phase::Content;
        } else if granted && self.strayed {
            self.closing = true;
            self.finish(TransactionEnd::NoRecipients);
        } else if granted {
            self.output.extend_from_slice(b".\r\n");
            self.phase = Phase::LoneDot;
        } else {
            self.closing |= !matches!(reply.class(), 4 | 5);
            self.finish(match self.accepted {
                0 => TransactionEnd::NoRecipients,
                _ => TransactionEnd::Refused { stage: Stage::Message, reply },
            });
        }
    }

    /// 421 may answer anything and is the last reply (RFC 5321 §3.8).
    fn connection_ends(&mut self, reply: Reply) {
        let stage = self.stage();
        if stage == Stage::Recipient && self.end.is_none() {
            for result in self.results.iter_mut().filter(|result| **result == RecipientResult::Pending) {
                *result = RecipientResult::Refused(reply.clone());
            }
        }
        self.closing = true;
        self.finish(match self.phase {
            Phase::LoneDot => TransactionEnd::NoRecipients,
            _ => TransactionEnd::Refused { stage, reply },
        });
    }

    /// Ends the transaction; an end that was decided before stays.
    fn finish(&mut self, end: TransactionEnd) {
        self.end.get_or_insert(end);
        self.phase = Phase::Done;
    }
}

/// The MAIL parameters that this server understands, or what it lacks for this message.
fn mail_parameters(plan: &Plan<'_>) -> Result<MailParameters, Failure> {
    let Plan { parameters, caps, .. } = plan;
    let missing = |extension: &str| Failure::MissingExtension { extension: extension.to_owned() };
    if let Some(limit) = caps.size.filter(|&limit| limit > 0 && plan.size > limit) {
        return Err(Failure::TooLarge { size: plan.size, limit });
    }
    // A client may ask for SMTPUTF8 by habit: a message of ASCII does not need it (RFC 6531 §3.4).
    let sender_needs = plan.reverse_path.0.as_ref().is_some_and(Address::needs_smtputf8);
    let recipient_needs = plan.recipients.iter().any(|(address, _)| address.needs_smtputf8());
    let smtputf8 = sender_needs || recipient_needs || (parameters.smtputf8 && plan.eight_bit);
    if smtputf8 && !caps.smtputf8 {
        return Err(missing("SMTPUTF8"));
    }
    if plan.eight_bit && !caps.eight_bit_mime {
        return Err(missing("8BITMIME"));
    }
    if parameters.require_tls && !caps.requiretls {
        return Err(missing("REQUIRETLS"));
    }
    Ok(MailParameters {
        require_tls: parameters.require_tls,
        tls_optional: false,
        body: if plan.eight_bit { BodyType::EightBitMime } else { BodyType::SevenBit },
        size: caps.size.map(|_| plan.size),
        smtputf8,
        ret: parameters.ret.filter(|_| caps.dsn),
        envid: if caps.dsn { parameters.envid.clone() } else { None },
        auth: None,
    })
}

/// 2yz, 4yz or 5yz; after anything else where a final answer is due, the two sides disagree on where they are.
fn is_answer(reply: &Reply) -> bool {
    matches!(reply.class(), 2 | 4 | 5)
}

/// The server takes no more recipients in this transaction (RFC 5321 §4.5.3.1.10, RFC 3463 §3.6).
fn is_too_many(reply: &Reply) -> bool {
    match reply.enhanced() {
        Some(enhanced) => enhanced.1 == 5 && enhanced.2 == 3,
        None if reply.code == 452 => true,
        None => reply.code == 552 && reply.text().to_ascii_lowercase().contains("too many recipients"),
    }
}
