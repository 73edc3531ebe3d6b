//! MAIL, each RCPT by itself, and the message: before its final dot, or really sent.

use net::client::{End, Expect};
use proto::address::{Address, ReversePath};
use proto::envelope::{BodyType, MailParameters, RcptParameters};
use proto::message::rfc5322_date;
use proto::smtp::command::{encode_mail, encode_rcpt};
use proto::transcript::{Failure, Stage};

use super::plan::Message;
use super::probe::{Probe, Stop};
use super::report::Outcome;

impl Probe<'_> {
    /// MAIL FROM, RCPT TO and the message, as far as the plan goes; says whether the link is still open.
    pub(super) async fn envelope(&mut self) -> Result<bool, Stop> {
        self.begin(Stage::Sender);
        let Some(from) = &self.plan.from else {
            self.skip(Stage::Sender, "no sender given");
            return Ok(true);
        };
        let reverse_path =
            if from.is_empty() { Ok(ReversePath(None)) } else { parse(from).map(|one| ReversePath(Some(one))) };
        let recipients: Result<Vec<Address>, Failure> = self.plan.to.iter().map(|to| parse(to)).collect();
        let (reverse_path, recipients) = match (reverse_path, recipients) {
            (Ok(reverse_path), Ok(recipients)) => (reverse_path, recipients),
            (Err(failure), _) | (_, Err(failure)) => return Err(self.fail(Stage::Sender, failure)),
        };
        let content = self.content(&reverse_path, recipients.first());
        self.sender(&reverse_path, &recipients, &content).await?;
        if !self.reaches(Stage::Recipient) {
            return Ok(true);
        }
        let accepted = self.recipients(&recipients).await?;
        if !self.reaches(Stage::Message) || accepted == 0 {
            return Ok(true);
        }
        self.message(&content).await
    }

    async fn sender(&mut self, from: &ReversePath, to: &[Address], content: &[u8]) -> Result<(), Stop> {
        let smtputf8 = from.0.iter().chain(to).any(Address::needs_smtputf8);
        let lacks = if smtputf8 && !self.caps.smtputf8 {
            Some(Failure::MissingExtension { extension: "SMTPUTF8".into() })
        } else if !content.is_ascii() && !self.caps.eight_bit_mime {
            Some(Failure::MissingExtension { extension: "8BITMIME".into() })
        } else {
            let size = content.len() as u64;
            let small = self.caps.size_limit().filter(|limit| size > *limit && self.plan.message != Message::No);
            small.map(|limit| Failure::TooLarge { size, limit })
        };
        if let Some(failure) = lacks {
            let began = self.session.now_us();
            self.session.note(Stage::Sender, began, Err(&failure));
            return Err(self.fail(Stage::Sender, failure));
        }
        let parameters = MailParameters {
            body: if content.is_ascii() { BodyType::SevenBit } else { BodyType::EightBitMime },
            size: self.caps.size.filter(|_| self.plan.message != Message::No).map(|_| content.len() as u64),
            smtputf8,
            ..MailParameters::default()
        };
        let mut command = Vec::new();
        encode_mail(from, &parameters, &mut command);
        match self.session.command(Stage::Sender, &line(&command), Expect::Class(2)).await {
            Ok(reply) => {
                self.pass(Stage::Sender, reply.to_string(), Some(reply));
                Ok(())
            }
            Err(failure) => Err(self.fail(Stage::Sender, failure)),
        }
    }

    /// Each recipient; refusals of some do not end the conversation while another is accepted.
    async fn recipients(&mut self, recipients: &[Address]) -> Result<usize, Stop> {
        self.begin(Stage::Recipient);
        if recipients.is_empty() {
            self.skip(Stage::Recipient, "no recipient given");
            return Ok(0);
        }
        let mut refused: Vec<Failure> = Vec::new();
        let mut last = None;
        for address in recipients {
            let mut command = Vec::new();
            encode_rcpt(address, &RcptParameters::default(), &mut command);
            match self.session.command(Stage::Recipient, &line(&command), Expect::Class(2)).await {
                Ok(reply) => last = Some(reply),
                Err(failure @ Failure::Refused(_)) => {
                    let over = failure.codes().is_some_and(|(code, _)| code == 421);
                    refused.push(failure);
                    if over {
                        break;
                    }
                }
                Err(failure) => {
                    refused.push(failure);
                    break;
                }
            }
            self.tell();
        }
        let ended = refused.last().is_some_and(|failure| failure.codes().is_none_or(|(code, _)| code == 421));
        let accepted = recipients.len() - refused.len();
        let Some(first) = refused.first().cloned() else {
            let summary = match (&last, accepted) {
                (Some(reply), 1) => reply.to_string(),
                _ => format!("all {accepted} accepted"),
            };
            self.pass(Stage::Recipient, summary, last);
            return Ok(accepted);
        };
        let summary = match recipients.len() {
            1 => super::summary::failure(&first),
            all => format!("{accepted} of {all} accepted; {}", super::summary::failure(&first)),
        };
        self.end(Stage::Recipient, Outcome::Failed, &summary, first.reply().cloned());
        for failure in &refused {
            self.failed(Stage::Recipient, failure);
        }
        if ended || last.is_none() {
            return Err(Stop { stage: Stage::Recipient, failure: first });
        }
        Ok(accepted)
    }

    /// DATA and the content; says whether the link is still open.
    async fn message(&mut self, content: &[u8]) -> Result<bool, Stop> {
        self.begin(Stage::Message);
        let end = match self.plan.message {
            Message::No => {
                self.skip(Stage::Message, "not asked for");
                return Ok(true);
            }
            Message::BeforeDot => End::Close,
            Message::Send => End::Dot,
        };
        let granted = match self.session.command(Stage::Message, "DATA", Expect::Class(3)).await {
            Ok(reply) => reply,
            // Nothing of the message was sent yet: a broken conversation leaves no doubt about it.
            Err(failure @ (Failure::Timeout { .. } | Failure::Disconnected)) => {
                return Err(self.fail_as(Stage::Message, Stage::Sender, failure));
            }
            Err(failure) => return Err(self.fail(Stage::Message, failure)),
        };
        match self.session.content(content, end).await {
            Ok(Some(reply)) => {
                self.pass(Stage::Message, reply.to_string(), Some(reply));
                Ok(true)
            }
            Ok(None) => {
                self.pass(
                    Stage::Message,
                    "content sent, closed before the final dot: nothing is delivered",
                    Some(granted),
                );
                Ok(false)
            }
            Err(failure @ (Failure::Timeout { .. } | Failure::Disconnected)) if end == End::Close => {
                Err(self.fail_as(Stage::Message, Stage::Sender, failure))
            }
            Err(failure) => Err(self.fail(Stage::Message, failure)),
        }
    }

    /// A small well-formed message (RFC 5322 §3.6), without a word that a filter would mind.
    fn content(&self, from: &ReversePath, to: Option<&Address>) -> Vec<u8> {
        let helo = &self.settings.helo;
        let from = from.0.as_ref().map_or_else(|| format!("postmaster@{helo}"), ToString::to_string);
        let domain = from.rsplit_once('@').map_or(helo.as_str(), |(_, domain)| domain);
        let to = to.map_or_else(|| "undisclosed-recipients:;".to_owned(), |address| format!("<{address}>"));
        let id = format!("{:x}.{:x}", self.started_ms, self.net.clock.mono_us());
        let text = format!(
            "Date: {}\r\n\
             From: <{from}>\r\n\
             To: {to}\r\n\
             Subject: Test message\r\n\
             Message-ID: <{id}@{domain}>\r\n\
             Auto-Submitted: auto-generated\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\
             \r\n\
             This is a test message. It was sent with `pillarbox check` by {helo}\r\n\
             to see whether {} takes mail. Nothing has to be done.\r\n",
            rfc5322_date(self.started_ms),
            self.way.host,
        );
        text.into_bytes()
    }
}

fn parse(text: &str) -> Result<Address, Failure> {
    Address::parse(text).map_err(|error| Failure::Local { reason: format!("{text}: {error}") })
}

fn line(command: &[u8]) -> String {
    String::from_utf8_lossy(command).trim_end().to_owned()
}
