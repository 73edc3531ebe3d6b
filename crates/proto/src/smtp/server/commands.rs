//! Which command may come when, and what it is answered (RFC 5321 §4.1.4, §4.3).

use secrecy::ExposeSecret;

use super::{AuthOffer, Event, Phase, Question, Server};
use crate::address::ReversePath;
use crate::envelope::{MailParameters, Recipient};
use crate::smtp::capability::Offer;
use crate::smtp::command::Command;
use crate::smtp::sasl::{Exchange, Mechanism, Step};

const WRONG_ORDER: &str = "503 5.5.1 wrong order of commands";
const NEEDS_TLS: &str = "530 5.7.0 say STARTTLS first";
const OK: &str = "250 2.0.0 ok";

impl Server {
    pub(super) fn command_line(&mut self, start: usize, end: usize) -> Option<Event> {
        let parsed = Command::parse(self.input.slice(start, end));
        self.commands = self.commands.saturating_add(1);
        if self.commands > self.settings.max_commands {
            self.say_and_close("421 4.7.0 too many commands without a message");
            return None;
        }
        match parsed {
            Ok(command) => {
                if matches!(command, Command::Auth { .. }) {
                    self.input.wipe(start, end);
                }
                self.command(command)
            }
            Err(error) => {
                let broken_chunk =
                    self.input.slice(start, end).get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"BDAT"));
                self.input.wipe(start, end);
                self.reply(&error.reply());
                self.count_error();
                // Whatever follows may be content: reading it as commands would be smuggling.
                if broken_chunk {
                    self.shut();
                }
                None
            }
        }
    }

    fn command(&mut self, command: Command) -> Option<Event> {
        if self.settings.require_tls && !self.facts.tls && !allowed_in_clear(&command) {
            return self.wrong(NEEDS_TLS, &command);
        }
        match command {
            Command::Mail { reverse_path, parameters } => return self.mail(reverse_path, parameters),
            Command::Rcpt { address, parameters } => return self.rcpt(Recipient { address, parameters }),
            Command::Data => self.data(),
            Command::Bdat { size, last } => self.bdat(size, last),
            Command::Rset => {
                self.reset();
                self.say(OK);
            }
            Command::Ehlo(name) => self.hello(name, true),
            Command::Helo(name) => self.hello(name, false),
            Command::StartTls => return self.start_tls(),
            Command::Auth { mechanism, initial } => {
                return self.auth(&mechanism, initial.as_ref().map(|secret| secret.expose_secret().as_bytes()));
            }
            Command::Noop => self.say(OK),
            Command::Quit => self.say_and_close("221 2.0.0 bye"),
            Command::Vrfy(_) => self.say("252 2.0.0 send mail to find out"),
            Command::Expn => self.fail("502 5.5.1 EXPN is not offered"),
            Command::Help => {
                self.say("214 2.0.0 EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY AUTH STARTTLS QUIT: RFC 5321")
            }
            Command::XClient(attributes) => return self.xclient(attributes),
            Command::Http => self.say_and_close("421 4.7.0 this port speaks SMTP, not HTTP"),
            Command::Unknown => self.fail("500 5.5.1 command not known"),
        }
        None
    }

    /// A refusal that still has to read the chunk of a BDAT.
    fn wrong(&mut self, line: &str, command: &Command) -> Option<Event> {
        match command {
            Command::Bdat { size, last } => self.refuse_chunk(*size, *last, line),
            _ => self.fail(line),
        }
        None
    }

    fn hello(&mut self, name: String, esmtp: bool) {
        self.reset();
        self.facts.helo = name;
        self.facts.esmtp = esmtp;
        if !esmtp {
            let line = format!("250 {}", self.settings.hostname);
            return self.say(&line);
        }
        let offer = Offer {
            hostname: &self.settings.hostname,
            max_size: self.settings.max_size,
            max_recipients: self.settings.max_recipients,
            starttls: self.settings.starttls && !self.facts.tls,
            auth: self.auth_allowed() && self.facts.authenticated.is_none(),
            xclient: self.settings.xclient,
            requiretls: self.facts.tls,
        };
        offer.encode_into(&mut self.output);
    }

    fn mail(&mut self, reverse_path: ReversePath, parameters: MailParameters) -> Option<Event> {
        let (size, limit) = (parameters.size.unwrap_or(0), self.settings.max_size);
        let refusal = if self.facts.helo.is_empty() {
            "503 5.5.1 say EHLO first"
        } else if self.transaction.is_some() {
            "503 5.5.1 a transaction is open already"
        } else if self.settings.require_auth && self.facts.authenticated.is_none() {
            "530 5.7.0 authentication required"
        } else if limit > 0 && size > limit {
            "552 5.3.4 message is larger than the limit"
        } else if parameters.require_tls && !self.facts.tls {
            // RFC 8689 §4.1: it is not offered here.
            "555 5.7.30 REQUIRETLS needs a connection under TLS"
        } else if !parameters.smtputf8 && reverse_path.0.as_ref().is_some_and(|address| address.needs_smtputf8()) {
            "553 5.6.7 the address needs SMTPUTF8"
        } else {
            self.phase = Phase::Waiting(Question::Mail(reverse_path.clone(), parameters.clone()));
            return Some(Event::Mail(reverse_path, parameters));
        };
        self.fail(refusal);
        None
    }

    fn rcpt(&mut self, recipient: Recipient) -> Option<Event> {
        let Some(envelope) = self.transaction.as_ref().filter(|_| !self.chunking) else {
            self.fail(WRONG_ORDER);
            return None;
        };
        if !envelope.parameters.smtputf8 && recipient.address.needs_smtputf8() {
            self.fail("553 5.6.7 the address needs SMTPUTF8");
            return None;
        }
        if envelope.recipients.len() >= self.settings.max_recipients {
            // Not an error: the client sends the others in another transaction (RFC 5321 §4.5.3.1.10).
            self.say("452 4.5.3 too many recipients");
            return None;
        }
        self.phase = Phase::Waiting(Question::Recipient(recipient.clone()));
        Some(Event::Recipient(recipient))
    }

    fn start_tls(&mut self) -> Option<Event> {
        if self.facts.tls {
            self.fail("503 5.5.1 TLS is on already");
        } else if !self.settings.starttls {
            self.fail("502 5.5.1 STARTTLS is not offered");
        } else if !self.input.is_empty() {
            // Commands sent in clear must never run inside TLS (RFC 3207 §6).
            self.say_and_close("503 5.5.1 nothing may follow STARTTLS before the handshake");
        } else {
            self.say("220 2.0.0 ready for TLS");
            self.phase = Phase::Handshake;
            return Some(Event::StartTls);
        }
        None
    }

    fn auth_allowed(&self) -> bool {
        match self.settings.auth {
            AuthOffer::Never => false,
            AuthOffer::UnderTls => self.facts.tls,
            AuthOffer::Always => true,
        }
    }

    fn auth(&mut self, mechanism: &str, initial: Option<&[u8]>) -> Option<Event> {
        let refusal = match (self.settings.auth, Mechanism::parse(mechanism)) {
            (AuthOffer::Never, _) => "502 5.5.1 AUTH is not offered",
            _ if !self.auth_allowed() => "538 5.7.11 say STARTTLS before AUTH",
            _ if !self.facts.esmtp => "503 5.5.1 say EHLO first",
            _ if self.facts.authenticated.is_some() => "503 5.5.1 authenticated already",
            _ if self.transaction.is_some() => WRONG_ORDER,
            (_, None) => "504 5.5.4 mechanism not known",
            (_, Some(mechanism)) => {
                let (exchange, step) = Exchange::start(mechanism, initial);
                return self.auth_step(exchange, step);
            }
        };
        self.fail(refusal);
        None
    }

    pub(super) fn auth_line(&mut self, start: usize, end: usize) -> Option<Event> {
        let Phase::Auth(mut exchange) = std::mem::replace(&mut self.phase, Phase::Command) else { return None };
        let step = exchange.line(self.input.slice(start, end));
        self.input.wipe(start, end);
        self.auth_step(exchange, step)
    }

    fn auth_step(&mut self, exchange: Exchange, step: Step) -> Option<Event> {
        match step {
            Step::Challenge(text) => {
                self.output.extend_from_slice(b"334 ");
                self.say(text);
                self.phase = Phase::Auth(exchange);
                None
            }
            Step::Credentials(credentials) => {
                self.phase = Phase::Waiting(Question::Auth(credentials.username.clone()));
                Some(Event::Authenticate(credentials))
            }
            Step::Failed(error) => {
                self.reply(&error.reply());
                self.count_error();
                None
            }
        }
    }

    pub(super) fn too_long(&mut self) -> Option<Event> {
        match std::mem::replace(&mut self.phase, Phase::Command) {
            Phase::Auth(_) => self.fail("500 5.5.6 authentication line too long"),
            _ => self.fail("500 5.5.2 line too long"),
        }
        None
    }

    fn xclient(&mut self, attributes: Vec<(String, String)>) -> Option<Event> {
        if !self.settings.xclient {
            self.fail("550 5.7.0 XCLIENT is not offered");
        } else if self.transaction.is_some() {
            self.fail(WRONG_ORDER);
        } else {
            self.phase = Phase::Waiting(Question::XClient);
            return Some(Event::XClient(attributes));
        }
        None
    }
}

/// RFC 3207 §4; the others lead nowhere and end the session or are known to do no harm.
fn allowed_in_clear(command: &Command) -> bool {
    matches!(
        command,
        Command::Ehlo(_)
            | Command::Helo(_)
            | Command::Noop
            | Command::StartTls
            | Command::Quit
            | Command::Http
            | Command::XClient(_)
    )
}
