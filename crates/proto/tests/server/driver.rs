//! A driver without sockets whose answers depend on what it is asked: names that start with `refuse` or `later`,
//! passwords other than `secret`, content with the word `virus`.

use std::sync::Arc;

use proto::smtp::reply::Reply;
use proto::smtp::server::{Content, Event, Server, Settings};
use proto::{Address, Envelope};
use secrecy::ExposeSecret;

/// Why [`Driver::run`] stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    NeedInput,
    StartTls,
    Closed,
}

/// A session, what it wrote and what it accepted.
pub(crate) struct Driver {
    pub(crate) machine: Server,
    pub(crate) written: String,
    pub(crate) messages: Vec<(Envelope, Content)>,
    pub(crate) stop: Stop,
}

impl Driver {
    pub(crate) fn new(settings: &Arc<Settings>, tls_on: bool) -> Self {
        let mut machine = Server::new(Arc::clone(settings), tls_on);
        machine.greet(None);
        let mut driver = Self { machine, written: String::new(), messages: Vec::new(), stop: Stop::NeedInput };
        driver.run();
        driver
    }

    /// Gives octets in the pieces that `cuts` (lengths, repeated) make.
    pub(crate) fn send(&mut self, octets: &[u8], cuts: &[usize]) {
        let mut rest = octets;
        for cut in cuts.iter().cycle() {
            let (piece, behind) = rest.split_at(rest.len().min(*cut));
            rest = behind;
            self.machine.receive(piece);
            self.run();
            if rest.is_empty() || self.stop == Stop::Closed {
                return;
            }
        }
    }

    pub(crate) fn send_whole(&mut self, octets: &[u8]) {
        self.send(octets, &[octets.len().max(1)]);
    }

    pub(crate) fn tls_started(&mut self) {
        self.machine.tls_started();
        self.run();
    }

    pub(crate) fn run(&mut self) {
        self.stop = loop {
            let event = self.machine.poll();
            let answer = match event {
                Event::NeedInput => break Stop::NeedInput,
                Event::StartTls => break Stop::StartTls,
                Event::Close => break Stop::Closed,
                Event::Authenticate(found) if found.password.expose_secret() == "secret" => {
                    Reply::new(235, "2.7.0 welcome")
                }
                Event::Authenticate(_) => Reply::new(535, "5.7.8 wrong user name or password"),
                Event::Mail(path, _) => path.0.map_or_else(ok, |address| answer(&address)),
                Event::Recipient(recipient) => answer(&recipient.address),
                Event::Message(envelope, content) => {
                    if memchr::memmem::find(&content.octets, b"virus").is_some() {
                        Reply::new(554, "5.7.1 refused")
                    } else {
                        let text =
                            format!("2.0.0 took {} octets for {}", content.octets.len(), envelope.recipients.len());
                        self.messages.push((envelope, content));
                        Reply::new(250, text)
                    }
                }
                Event::XClient(_) => self.machine.greeting(),
            };
            self.machine.answer(answer);
        };
        let output = self.machine.output();
        self.written.push_str(std::str::from_utf8(output).expect("replies are ASCII"));
        output.clear();
    }

    /// What was written since the last call.
    pub(crate) fn take_written(&mut self) -> String {
        std::mem::take(&mut self.written)
    }

    /// Codes of the replies written since the last call.
    pub(crate) fn take_codes(&mut self) -> Vec<u16> {
        let written = self.take_written();
        assert!(written.is_empty() || written.ends_with("\r\n"), "{written:?}");
        let last_lines = written.lines().filter(|line| line.as_bytes().get(3) == Some(&b' '));
        last_lines.map(|line| line[..3].parse().expect("a code")).collect()
    }
}

fn ok() -> Reply {
    Reply::new(250, "2.1.0 ok")
}

fn answer(address: &Address) -> Reply {
    match address.local_part() {
        name if name.starts_with("refuse") => Reply::new(550, "5.1.1 not here"),
        name if name.starts_with("later") => Reply::new(451, "4.3.0 not now"),
        name if name.starts_with("hangup") => Reply::new(421, "4.3.2 going away"),
        _ => ok(),
    }
}
