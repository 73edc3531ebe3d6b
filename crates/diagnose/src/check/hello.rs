//! Greeting and EHLO: is it a mail server, does it talk to us, and what does it offer.

use std::time::Duration;

use proto::smtp::capability::Capabilities;
use proto::smtp::reply::Reply;
use proto::transcript::{Failure, Stage};

use super::peek::{self, Service};
use super::plan::Tls;
use super::probe::{Halt, Probe};
use super::software::{self, Outdated};
use super::summary;

/// How long a greeting may take before the port is looked at in other ways.
const QUIET: Duration = Duration::from_secs(2);
/// A greeting that took this long is worth a word.
const SLOW_SECONDS: u64 = 5;

impl Probe<'_> {
    /// The greeting.
    pub(super) async fn banner(&mut self) -> Result<(), Halt> {
        self.begin(Stage::Banner);
        let began = self.session.now_us();
        let greeting = self.wait_for_greeting(began).await;
        let reply = match greeting {
            Ok(reply) => reply,
            Err(failure) => return Err(self.no_greeting(failure).await),
        };
        let seconds = self.session.now_us().saturating_sub(began) / 1_000_000;
        let text = reply.text();
        self.greeting.clone_from(&text);
        self.meet(&text);
        self.pass(Stage::Banner, &text, Some(reply));
        if seconds >= SLOW_SECONDS {
            let host = self.way.host.clone();
            self.sign(Stage::Banner, "slow_banner", &[("seconds", &seconds.to_string()), ("host", &host)]);
        }
        if is_masked(&text) {
            self.sign(Stage::Banner, "banner_masked", &[("text", &text)]);
        }
        if let Some(Outdated { program, version, oldest }) = software::outdated(&text) {
            let host = self.way.host.clone();
            let values = [("host", &*host), ("program", program), ("version", &*version), ("oldest", &*oldest)];
            self.sign(Stage::Banner, "software_outdated", &values);
        }
        Ok(())
    }

    /// Waits; after a while of silence, looks whether the port speaks something else.
    async fn wait_for_greeting(&mut self, began: u64) -> Result<Reply, Failure> {
        let quiet = QUIET.min(self.plan.timeout / 2);
        if let Ok(outcome) = tokio::time::timeout(quiet, self.session.greeting_since(began)).await {
            return outcome;
        }
        let looks = self.plan.explore && self.tls != Tls::Implicit && self.peeked.is_none();
        // Half a greeting is a sign of life: servers that test the patience of clients send the rest later.
        let Some(peer) = self.peer.filter(|_| looks && !self.session.has_unread()) else {
            return self.session.greeting_since(began).await;
        };
        let (net, settings, host) = (self.net, self.settings, self.way.host.clone());
        {
            let mut greeting = std::pin::pin!(self.session.greeting_since(began));
            let look = peek::look(net, &host, peer, settings);
            tokio::select! {
                outcome = &mut greeting => return outcome,
                peeked = look => {
                    let known = peeked.inside.is_some() || matches!(peeked.clear, Service::Other(_));
                    self.peeked = Some(peeked);
                    if !known {
                        return greeting.await;
                    }
                }
            }
        }
        let waited = self.session.now_us().saturating_sub(began) / 1_000_000;
        let failure = Failure::Timeout { seconds: u32::try_from(waited).unwrap_or(u32::MAX) };
        self.session.note(Stage::Banner, began, Err(&failure));
        Err(failure)
    }

    async fn no_greeting(&mut self, failure: Failure) -> Halt {
        if self.plan.explore
            && self.peeked.is_none()
            && !matches!(failure, Failure::Refused(_))
            && self.tls != Tls::Implicit
        {
            self.peek().await;
        }
        let implicit_works = self.peeked.as_ref().is_some_and(|peeked| peeked.inside == Some(Service::Smtp));
        if self.may_switch() && self.tls != Tls::Implicit && implicit_works {
            return Halt::Switch(Tls::Implicit);
        }
        Halt::Stop(self.fail(Stage::Banner, failure))
    }

    /// Looks at the port in both modes, once.
    pub(super) async fn peek(&mut self) {
        let Some(peer) = self.peer else { return };
        let began = self.net.clock.mono_us();
        let peeked = peek::look(self.net, &self.way.host, peer, self.settings).await;
        self.waited_us += self.net.clock.mono_us().saturating_sub(began);
        self.peeked = Some(peeked);
    }

    /// Remembers who a greeting says it is.
    fn meet(&mut self, text: &str) {
        let provider = self.judge.rules().provider_of_banner(text).map(|provider| provider.id.clone());
        self.judge.met(provider.as_deref());
    }

    /// EHLO before TLS, or under implicit TLS.
    pub(super) async fn ehlo(&mut self) -> Result<(), Halt> {
        let host = self.way.host.clone();
        self.begin(Stage::Ehlo);
        let hello = match self.session.hello().await {
            Ok(hello) => hello,
            Err(failure) => {
                let out_of_step = matches!(&failure, Failure::Refused(reply) if reply.class() < 4);
                let stop = self.fail(Stage::Ehlo, failure);
                let greeting = self.greeting.clone();
                if out_of_step {
                    return Err(stop.into());
                }
                if let Service::Other(service) = peek::service_of(format!("220 {greeting}").as_bytes()) {
                    self.not_mail(service, &greeting);
                }
                return Err(stop.into());
            }
        };
        self.meet(&hello.reply.text());
        self.pass(Stage::Ehlo, summary::capabilities(&hello.capabilities), Some(hello.reply));
        if let Some(refused) = &hello.refused {
            self.sign(Stage::Ehlo, "helo_only", &[("host", &host), ("code", &refused.code.to_string())]);
        }
        self.caps = hello.capabilities;
        if !self.caps.starttls && self.session.tls().is_none() {
            self.note_masked_keyword();
        }
        self.note_auth_in_clear();
        Ok(())
    }

    /// EHLO again, under TLS, and what changed.
    pub(super) async fn ehlo_again(&mut self) -> Result<(), Halt> {
        self.begin(Stage::Ehlo);
        let hello = match self.session.hello().await {
            Ok(hello) => hello,
            Err(failure) => return Err(self.fail(Stage::Ehlo, failure).into()),
        };
        self.pass(Stage::Ehlo, summary::capabilities(&hello.capabilities), Some(hello.reply));
        let before = std::mem::replace(&mut self.caps, hello.capabilities);
        let host = self.way.host.clone();
        if self.caps.starttls {
            self.sign(Stage::Ehlo, "starttls_twice", &[("host", &host)]);
        }
        let (lost, gained) = (missing(&before, &self.caps), missing(&self.caps, &before));
        if !lost.is_empty() || !gained.is_empty() {
            self.sign(Stage::Ehlo, "capabilities_differ", &[("lost", &lost), ("gained", &gained)]);
        }
        self.before_tls = Some(before);
        Ok(())
    }

    fn note_masked_keyword(&mut self) {
        let masked = self.caps.keywords.iter().find(|keyword| is_crossed_out(keyword)).cloned();
        if let Some(keyword) = masked {
            self.stripped(Stage::Ehlo, &keyword);
        }
    }

    pub(super) fn stripped(&mut self, stage: Stage, keyword: &str) {
        let (host, port) = self.place();
        self.sign(stage, "starttls_stripped", &[("host", &host), ("port", &port), ("keyword", keyword)]);
    }

    pub(super) fn not_mail(&mut self, service: &str, text: &str) {
        if self.found.iter().any(|found| found.judged.sign.as_deref() == Some("not_a_mail_server")) {
            return;
        }
        let (host, port) = self.place();
        let values = [("host", &*host), ("port", &*port), ("service", service), ("text", text)];
        self.sign(Stage::Banner, "not_a_mail_server", &values);
    }

    fn note_auth_in_clear(&mut self) {
        let in_clear: Vec<&str> =
            self.caps.auth.iter().map(String::as_str).filter(|name| matches!(*name, "PLAIN" | "LOGIN")).collect();
        if self.session.tls().is_none() && !in_clear.is_empty() {
            let (mechanisms, host) = (in_clear.join(" "), self.way.host.clone());
            self.sign(Stage::Auth, "auth_in_clear_offered", &[("mechanisms", &mechanisms), ("host", &host)]);
        }
    }
}

/// Keywords of one side that the other lacks; STARTTLS and AUTH change by design.
fn missing(from: &Capabilities, than: &Capabilities) -> String {
    let words = from.keywords.iter().filter_map(|line| line.split([' ', '=', '\t']).next());
    let mut lacking: Vec<&str> = words
        .filter(|word| !than.has(word) && !is_crossed_out(word))
        .filter(|word| !["STARTTLS", "AUTH", "REQUIRETLS"].iter().any(|usual| word.eq_ignore_ascii_case(usual)))
        .collect();
    lacking.dedup();
    lacking.truncate(10);
    lacking.join(", ")
}

/// As Cisco's SMTP inspection writes a keyword over: `XXXXXXXA`.
fn is_crossed_out(keyword: &str) -> bool {
    keyword.len() >= 6
        && keyword.starts_with("XXXXX")
        && keyword.bytes().all(|octet| matches!(octet, b'X' | b'A'..=b'D'))
}

fn is_masked(text: &str) -> bool {
    text.bytes().filter(|octet| *octet == b'*').count() >= 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_crossed_out_by_a_device_are_told_from_real_ones() {
        for word in ["XXXXXXXA", "XXXXXXXX", "XXXXXXXB"] {
            assert!(is_crossed_out(word), "{word}");
        }
        for word in ["XEXCH50", "XCLIENT NAME", "X-ANONYMOUSTLS", "XXXX"] {
            assert!(!is_crossed_out(word), "{word}");
        }
        assert!(is_masked("************************0*2******"));
        assert!(!is_masked("mx.example.net ESMTP *** no spam ***"));
    }
}
