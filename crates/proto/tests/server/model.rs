//! Random sessions against a reference model: every reply code and every message must be what the model says, and a
//! message is only ever accepted after MAIL and RCPT were accepted in its own transaction.
//!
//! `PROPTEST_CASES` sets how many sessions are tried.

use std::sync::Arc;

use proptest::prelude::*;
use proto::smtp::server::{AuthOffer, Settings};

use crate::driver::{Driver, Stop};

#[derive(Debug, Clone, Copy)]
enum Body {
    Good,
    Dots,
    Eight,
    Virus,
    Large,
    BareLf,
    BareCr,
    Empty,
}

impl Body {
    fn octets(self) -> Vec<u8> {
        match self {
            Self::Good => b"Subject: x\r\n\r\nRSET\r\nQUIT\r\n".to_vec(),
            Self::Dots => b".\r\n..\r\n.RSET\r\n".to_vec(),
            Self::Eight => b"\xff\0\x80\r\n".to_vec(),
            Self::Virus => b"virus\r\n".to_vec(),
            Self::Large => b"0123456789\r\n".repeat(20),
            Self::BareLf => b"a\n.\nMAIL FROM:<x@y>\r\n".to_vec(),
            Self::BareCr => b"a\r.\rb\r\n".to_vec(),
            Self::Empty => Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Verb {
    Ehlo,
    Helo,
    EhloBad,
    Mail,
    MailNull,
    MailRefused,
    MailLater,
    MailLarge,
    MailBad,
    MailUnknown,
    MailUtf8,
    MailUtf8Undeclared,
    Rcpt,
    RcptRefused,
    RcptBad,
    RcptUtf8,
    Data(Body),
    Bdat(Body, bool),
    BdatBad,
    Rset,
    RsetBad,
    Noop,
    Vrfy,
    Expn,
    Help,
    AuthPlain,
    AuthWrong,
    AuthLogin,
    AuthCancelled,
    AuthUnknown,
    StartTls,
    Garbage,
    NotUtf8,
    BareLf,
    LongLine,
    Http,
    XClient,
    Quit,
}

fn body() -> impl Strategy<Value = Body> {
    use Body::*;
    prop_oneof![
        6 => Just(Good), 1 => Just(Dots), 1 => Just(Eight), 1 => Just(Virus), 1 => Just(Large), 1 => Just(Empty),
        1 => prop::sample::select(vec![BareLf, BareCr, Good, Good, Good]),
    ]
}

fn verb() -> impl Strategy<Value = Verb> {
    use Verb::*;
    prop_oneof![
        4 => Just(Ehlo), 8 => Just(Mail), 10 => Just(Rcpt), 6 => body().prop_map(Data),
        6 => (body(), any::<bool>()).prop_map(|(body, last)| Bdat(body, last)),
        3 => Just(AuthPlain), 2 => Just(StartTls),
        20 => prop::sample::select(vec![
            Helo, EhloBad, MailNull, MailRefused, MailLater, MailLarge, MailBad, MailUnknown, MailUtf8, MailUtf8Undeclared, RcptRefused,
            RcptBad, RcptUtf8, Rset, RsetBad, Noop, Vrfy, Expn, Help, AuthWrong, AuthLogin, AuthCancelled, AuthUnknown, Garbage, NotUtf8,
            LongLine, XClient,
        ]),
        1 => prop::sample::select(vec![BdatBad, BareLf, Http, Quit, Noop, Noop, Noop, Noop]),
    ]
}

/// Mostly whole transactions, complete or broken off, and anything in between.
fn verbs() -> impl Strategy<Value = Vec<Verb>> {
    let opening = prop::sample::select(vec![Verb::Ehlo, Verb::Ehlo, Verb::AuthPlain, Verb::Rset]);
    let ending = prop_oneof![
        2 => body().prop_map(Verb::Data),
        2 => (body(), any::<bool>()).prop_map(|(body, last)| Verb::Bdat(body, last)),
        1 => verb(),
    ];
    let transaction = (opening, prop::collection::vec(ending, 1..4))
        .prop_map(|(opening, endings)| [opening, Verb::Mail, Verb::Rcpt].into_iter().chain(endings).collect());
    let piece = prop_oneof![2 => verb().prop_map(|verb| vec![verb]), 1 => transaction];
    prop::collection::vec(piece, 1..25).prop_map(|pieces: Vec<Vec<Verb>>| pieces.concat())
}

#[derive(Debug, Clone, Copy)]
enum Hello {
    None,
    Helo,
    Ehlo,
}

/// The reference: what a reader of the RFCs would keep on a sheet of paper.
#[derive(Debug)]
struct Model {
    settings: Settings,
    hello: Hello,
    tls: bool,
    authenticated: bool,
    /// Whether SMTPUTF8 was declared.
    mail: Option<bool>,
    recipients: usize,
    chunks: Option<Vec<u8>>,
    messages: Vec<(usize, Vec<u8>)>,
    closed: bool,
    /// What the client sends, and the codes it gets.
    octets: Vec<u8>,
    codes: Vec<u16>,
}

impl Model {
    fn new(settings: Settings, tls: bool) -> Self {
        Self {
            settings,
            tls,
            hello: Hello::None,
            authenticated: false,
            mail: None,
            recipients: 0,
            chunks: None,
            messages: Vec::new(),
            closed: false,
            octets: Vec::new(),
            codes: vec![220],
        }
    }

    fn reset(&mut self) {
        self.mail = None;
        self.recipients = 0;
        self.chunks = None;
    }

    fn line(&mut self, line: &str, code: u16) {
        self.octets.extend_from_slice(line.as_bytes());
        self.octets.extend_from_slice(b"\r\n");
        self.codes.push(code);
    }

    fn close(&mut self, line: &str, code: u16) {
        self.line(line, code);
        self.closed = true;
    }

    fn clear_text_forbidden(&self) -> bool {
        self.settings.require_tls && !self.tls
    }

    fn gated(&mut self, line: &str, code: u16) -> bool {
        let forbidden = self.clear_text_forbidden();
        self.line(line, if forbidden { 530 } else { code });
        !forbidden
    }

    fn step(&mut self, verb: Verb) {
        match verb {
            Verb::Ehlo => self.hello("EHLO a.example", Hello::Ehlo),
            Verb::Helo => self.hello("HELO a.example", Hello::Helo),
            Verb::EhloBad => self.line("EHLO", 501),
            Verb::Mail => self.mail("MAIL FROM:<ann@example.org> SIZE=10", 250, false),
            Verb::MailNull => self.mail("MAIL FROM:<> BODY=8BITMIME", 250, false),
            Verb::MailRefused => self.mail("MAIL FROM:<refuse@example.org>", 550, false),
            Verb::MailLater => self.mail("MAIL FROM:<later@example.org>", 451, false),
            Verb::MailLarge => self.mail("MAIL FROM:<ann@example.org> SIZE=201", 552, false),
            Verb::MailUtf8 => self.mail("MAIL FROM:<\u{fc}@example.org> SMTPUTF8", 250, true),
            Verb::MailUtf8Undeclared => self.mail("MAIL FROM:<\u{fc}@example.org>", 553, false),
            Verb::MailBad => self.line("MAIL FROM:ann@example.org", 501),
            Verb::MailUnknown => self.line("MAIL FROM:<ann@example.org> X=1", 555),
            Verb::Rcpt => self.rcpt("RCPT TO:<bob@example.org>", 250, false),
            Verb::RcptRefused => self.rcpt("RCPT TO:<refuse@example.org>", 550, false),
            Verb::RcptUtf8 => self.rcpt("RCPT TO:<\u{fc}@example.org>", 250, true),
            Verb::RcptBad => self.line("RCPT TO:<bob>", 501),
            Verb::Data(body) => self.data(&body.octets()),
            Verb::Bdat(body, last) => self.bdat(body.octets(), last),
            Verb::BdatBad => self.close("BDAT 5 NOW", 501),
            Verb::Rset => {
                if self.gated("RSET", 250) {
                    self.reset();
                }
            }
            Verb::RsetBad => self.line("RSET now", 501),
            Verb::Noop => self.line("NOOP", 250),
            Verb::Vrfy => _ = self.gated("VRFY ann", 252),
            Verb::Expn => _ = self.gated("EXPN all", 502),
            Verb::Help => _ = self.gated("HELP", 214),
            Verb::AuthPlain => self.auth("PLAIN AGFwcABzZWNyZXQ=", &[], 235),
            Verb::AuthWrong => self.auth("PLAIN AGFwcAB3cm9uZw==", &[], 535),
            Verb::AuthLogin => self.auth("LOGIN", &["YXBw", "c2VjcmV0"], 235),
            Verb::AuthCancelled => self.auth("LOGIN", &["*"], 501),
            Verb::AuthUnknown => self.auth("X-NEW", &[], 504),
            Verb::StartTls => self.start_tls(),
            Verb::Garbage => _ = self.gated("\u{fc}ber", 500),
            Verb::NotUtf8 => {
                self.octets.extend_from_slice(b"NOOP \xff");
                self.line("", 500);
            }
            Verb::BareLf => {
                self.octets.extend_from_slice(b"RSET\n");
                self.close("NOOP", 550);
            }
            Verb::LongLine => self.line(&"NOOP".repeat(4000), 500),
            Verb::Http => self.close("GET / HTTP/1.1", 421),
            Verb::XClient => self.line("XCLIENT NAME=evil", 550),
            Verb::Quit => self.close("QUIT", 221),
        }
    }

    fn hello(&mut self, line: &str, hello: Hello) {
        self.line(line, 250);
        self.reset();
        self.hello = hello;
    }

    fn mail(&mut self, line: &str, code: u16, utf8: bool) {
        let code = match self.hello {
            _ if self.clear_text_forbidden() => 530,
            Hello::None => 503,
            _ if self.mail.is_some() => 503,
            _ if self.settings.require_auth && !self.authenticated => 530,
            _ => code,
        };
        self.line(line, code);
        if code == 250 {
            self.mail = Some(utf8);
        }
    }

    fn rcpt(&mut self, line: &str, code: u16, utf8: bool) {
        let code = match self.mail {
            _ if self.clear_text_forbidden() => 530,
            None => 503,
            _ if self.chunks.is_some() => 503,
            Some(declared) if utf8 && !declared => 553,
            _ if self.recipients == self.settings.max_recipients => 452,
            _ => code,
        };
        self.line(line, code);
        self.recipients += usize::from(code == 250);
    }

    fn data(&mut self, body: &[u8]) {
        if !self.gated("DATA", 0) {
            return;
        }
        self.codes.pop();
        if self.mail.is_none() {
            return self.codes.push(503);
        }
        if self.chunks.is_some() {
            self.codes.push(503);
            return self.reset();
        }
        if self.recipients == 0 {
            self.codes.push(554);
            return self.reset();
        }
        self.codes.push(354);
        let mut start = true;
        for octet in body {
            if start && *octet == b'.' {
                self.octets.push(b'.');
            }
            self.octets.push(*octet);
            start = *octet == b'\n';
        }
        self.octets.extend_from_slice(b".\r\n");
        self.message(body.to_vec());
    }

    fn bdat(&mut self, body: Vec<u8>, last: bool) {
        let line = format!("BDAT {}{}", body.len(), if last { " LAST" } else { "" });
        self.line(&line, 0);
        self.codes.pop();
        self.octets.extend_from_slice(&body);
        if self.clear_text_forbidden() {
            self.codes.push(530);
            return self.reset();
        }
        if self.mail.is_none() || self.recipients == 0 {
            self.codes.push(if self.mail.is_none() { 503 } else { 554 });
            return self.reset();
        }
        let mut content = self.chunks.take().unwrap_or_default();
        content.extend(body);
        if last {
            self.message(content);
        } else if content.len() as u64 > self.settings.max_size {
            self.codes.push(552);
            self.reset();
        } else {
            self.codes.push(250);
            self.chunks = Some(content);
        }
    }

    fn message(&mut self, content: Vec<u8>) {
        let text: String = content.iter().map(|octet| char::from(*octet)).collect();
        let bare = text.replace("\r\n", "").contains(['\r', '\n']);
        let large = content.len() as u64 > self.settings.max_size;
        self.closed = bare && !large;
        self.codes.push(match () {
            _ if bare && !large => 550,
            _ if large => 552,
            _ if text.contains("virus") => 554,
            _ => {
                self.messages.push((self.recipients, content));
                250
            }
        });
        self.reset();
    }

    fn auth(&mut self, arguments: &str, answers: &[&str], code: u16) {
        let allowed = self.settings.auth == AuthOffer::Always || self.tls;
        let refusal = match self.hello {
            _ if self.clear_text_forbidden() => Some(530),
            _ if self.settings.auth == AuthOffer::Never => Some(502),
            _ if !allowed => Some(538),
            Hello::None | Hello::Helo => Some(503),
            _ if self.authenticated || self.mail.is_some() => Some(503),
            _ => None,
        };
        let line = format!("AUTH {arguments}");
        if let Some(code) = refusal {
            return self.line(&line, code);
        }
        let mut lines = std::iter::once(line.as_str()).chain(answers.iter().copied()).peekable();
        while let Some(line) = lines.next() {
            self.line(line, if lines.peek().is_some() { 334 } else { code });
        }
        self.authenticated = code == 235;
    }

    fn start_tls(&mut self) {
        if self.tls || !self.settings.starttls {
            return self.line("STARTTLS", if self.tls { 503 } else { 502 });
        }
        self.line("STARTTLS", 220);
        self.tls = true;
        self.hello = Hello::None;
        self.authenticated = false;
        self.reset();
    }
}

fn settings() -> impl Strategy<Value = (Settings, bool)> {
    let auth = prop::sample::select(vec![AuthOffer::Always, AuthOffer::UnderTls, AuthOffer::Never]);
    (auth, any::<[bool; 4]>()).prop_map(|(auth, [require_auth, starttls, require_tls, implicit])| {
        let settings = Settings {
            max_size: 200,
            max_recipients: 3,
            max_commands: 10_000,
            max_errors: 10_000,
            auth,
            require_auth: require_auth && auth == AuthOffer::Always,
            starttls,
            require_tls: require_tls && starttls,
            ..Settings::new("mail.example")
        };
        (settings, implicit && starttls)
    })
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sessions_go_as_the_model_says(
        (settings, implicit_tls) in settings(),
        verbs in verbs(),
        cuts in prop::collection::vec(1usize..400, 1..6),
    ) {
        let shared = Arc::new(settings.clone());
        let mut driver = Driver::new(&shared, implicit_tls);
        let mut model = Model::new(settings, implicit_tls);
        for verb in verbs {
            let clear = !model.tls;
            model.step(verb);
            let handshake = clear && model.tls;
            // Handshakes and the end are where a client has to stop and read.
            if handshake || model.closed {
                driver.send(&std::mem::take(&mut model.octets), &cuts);
                prop_assert_eq!(driver.stop, if handshake { Stop::StartTls } else { Stop::Closed });
                if model.closed {
                    break;
                }
                driver.tls_started();
            }
        }
        if !model.octets.is_empty() {
            driver.send(&model.octets, &cuts);
        }
        prop_assert_eq!(driver.take_codes(), model.codes);
        let messages: Vec<_> =
            driver.messages.iter().map(|(envelope, content)| (envelope.recipients.len(), content.octets.clone())).collect();
        prop_assert_eq!(messages, model.messages);
        for (_, content) in &driver.messages {
            prop_assert_eq!(content.nul, content.octets.contains(&0));
            prop_assert_eq!(content.eight_bit, !content.octets.is_ascii());
        }
    }
}
