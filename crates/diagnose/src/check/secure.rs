//! Encryption: STARTTLS and the handshakes of both modes, the certificate, and what failed handshakes were.

use std::time::Duration;

use net::client::Handshake;
use net::dial::dial;
use net::tls::{Verify, days_left, legacy};
use proto::transcript::{CertificateProblem, Fact, Failure, Stage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::peek::Service;
use super::plan::Tls;
use super::probe::{Halt, Probe};
use super::summary;

/// A certificate with less left than this, or than a quarter of its life, ends soon.
const SOON_DAYS: i64 = 14;
/// How the client says that no TLS came.
const PLAIN_TEXT: &str = "speaks plain text where TLS was expected";
/// Longest question after a version.
const LEGACY_LIMIT: Duration = Duration::from_secs(4);

impl Probe<'_> {
    /// The handshake before the greeting.
    pub(super) async fn implicit(&mut self) -> Result<(), Halt> {
        self.begin(Stage::Tls);
        match self.shake().await {
            Ok(()) => Ok(()),
            Err(failure) => {
                let certificate = matches!(failure, Failure::Certificate { .. } | Failure::TlsVersion { .. });
                if self.plan.explore && !certificate && self.peeked.is_none() {
                    self.peek().await;
                }
                let clear_works = self.peeked.as_ref().is_some_and(|peeked| peeked.clear == Service::Smtp);
                if self.may_switch() && clear_works && !certificate {
                    return Err(Halt::Switch(Tls::StartTls));
                }
                Err(self.fail(Stage::Tls, failure).into())
            }
        }
    }

    /// STARTTLS as the plan wants it; says whether the link is encrypted now.
    pub(super) async fn start_tls(&mut self) -> Result<bool, Halt> {
        let required = self.plan.tls == Tls::StartTls;
        let (host, port) = self.place();
        if !self.caps.starttls {
            self.begin(Stage::Tls);
            if required {
                let began = self.session.now_us();
                let granted = self.plan.explore && self.session.start_tls().await.is_ok();
                let failure = Failure::StartTlsMissing;
                self.session.note(Stage::Tls, began, Err(&failure));
                let stop = self.fail(Stage::Tls, failure);
                if granted {
                    self.stripped(Stage::Tls, "STARTTLS");
                }
                return Err(stop.into());
            }
            self.skip(Stage::Tls, "STARTTLS is not offered");
            self.sign(Stage::Tls, "no_starttls", &[("host", &host), ("port", &port)]);
            return Ok(false);
        }
        self.begin(Stage::Tls);
        if let Err(failure) = self.session.start_tls().await {
            return Err(self.fail(Stage::Tls, failure).into());
        }
        match self.shake().await {
            Ok(()) => Ok(true),
            Err(failure) => Err(self.fail(Stage::Tls, failure).into()),
        }
    }

    async fn shake(&mut self) -> Result<(), Failure> {
        let verify = if self.plan.insecure { Verify::Opportunistic } else { Verify::Full };
        let handshake = self.session.handshake_reported(verify).await;
        self.note_inspection(&handshake);
        if let Some(failure) = handshake.failure {
            let better = match &failure {
                Failure::TlsHandshake { .. } | Failure::Disconnected => self.too_old().await,
                _ => None,
            };
            return Err(self.in_clear(better.unwrap_or(failure)));
        }
        let now = self.net.clock.now_ms() / 1000;
        let leaf = summary::chain(self.session.steps()).first().cloned();
        let mut text = self.session.tls().unwrap_or_default().to_owned();
        if let Some(leaf) = &leaf {
            let days = days_left(leaf.not_after, now);
            text = format!(
                "{text}, certificate {}",
                match &handshake.problems[..] {
                    [] => format!("valid for {days} days"),
                    [problem, ..] => format!("not verified: {}", problem_word(problem)),
                }
            );
        }
        self.pass(Stage::Tls, text, None);
        if let (Some(leaf), true) = (&leaf, handshake.problems.is_empty()) {
            self.note_end(leaf.not_before, leaf.not_after, now);
        }
        if self.plan.insecure {
            let problem = handshake.problems.first().map(problem_word).unwrap_or_default();
            let host = self.way.host.clone();
            self.sign(Stage::Tls, "insecure_check", &[("host", &host), ("problem", &problem)]);
        }
        Ok(())
    }

    /// Plain text is another mistake behind STARTTLS than on a port that was thought to begin with TLS.
    fn in_clear(&self, failure: Failure) -> Failure {
        match failure {
            Failure::TlsHandshake { reason } if self.tls != Tls::Implicit && reason.contains(PLAIN_TEXT) => {
                Failure::TlsHandshake { reason: reason.replace(PLAIN_TEXT, "granted STARTTLS and goes on in clear") }
            }
            failure => failure,
        }
    }

    fn note_end(&mut self, from: i64, to: i64, now: i64) {
        let days = days_left(to, now);
        let life = days_left(to, from);
        if days < SOON_DAYS.min(life / 4) {
            let (days, host) = (days.to_string(), self.way.host.clone());
            let date = date(to);
            self.sign(Stage::Tls, "certificate_ends_soon", &[("days", &days), ("not_after", &date), ("host", &host)]);
        }
    }

    /// A certificate for this very host by an authority that only inspecting devices and programs have.
    fn note_inspection(&mut self, handshake: &Handshake) {
        let Some(Fact::Chain { certificates }) = &handshake.chain else { return };
        // A device's own certificate is in its own name.
        if handshake.problems.contains(&CertificateProblem::NameMismatch) {
            return;
        }
        let known = certificates.iter().find_map(|one| explain::interception(&one.issuer).map(|device| (one, device)));
        if let Some((certificate, device)) = known {
            let host = self.way.host.clone();
            let values = [("host", &*host), ("issuer", &*certificate.issuer), ("device", device)];
            self.sign(Stage::Tls, "certificate_intercepted", &values);
        }
    }

    /// Asks with an old ClientHello what the server would have spoken.
    async fn too_old(&mut self) -> Option<Failure> {
        let peer = self.peer.filter(|_| self.plan.explore)?;
        let limit = LEGACY_LIMIT.min(self.plan.timeout);
        let began = self.net.clock.mono_us();
        let starttls = self.tls != Tls::Implicit;
        let helo = self.settings.helo.clone();
        let asked = tokio::time::timeout(limit, async {
            let mut tcp = dial(peer, self.plan.source, limit).await.ok()?;
            if starttls {
                let lines = [String::new(), format!("EHLO {helo}\r\n"), "STARTTLS\r\n".into()];
                for line in lines {
                    tcp.write_all(line.as_bytes()).await.ok()?;
                    answered(&mut tcp).await?;
                }
            }
            Some(legacy::ask(&mut tcp, &self.way.host, limit).await)
        })
        .await;
        self.waited_us += self.net.clock.mono_us().saturating_sub(began);
        asked.ok().flatten()?.failure()
    }
}

/// Reads to the end of a positive reply, octet by octet bounded.
async fn answered(tcp: &mut tokio::net::TcpStream) -> Option<()> {
    let mut reader = proto::smtp::reply::ReplyReader::new();
    let mut buffer = [0; 1024];
    for _ in 0..64 {
        let count = tcp.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        reader.push(&buffer[..count]);
        if let Some(reply) = reader.next().ok()? {
            return reply.is_positive().then_some(());
        }
    }
    None
}

/// `2026-11-21`.
fn date(unix_s: i64) -> String {
    jiff::Timestamp::from_second(unix_s)
        .map_or_else(|_| unix_s.to_string(), |time| time.strftime("%Y-%m-%d").to_string())
}

fn problem_word(problem: &CertificateProblem) -> String {
    let failure = Failure::Certificate { problem: problem.clone(), names: Vec::new(), not_after: None };
    summary::failure(&failure).trim_start_matches("the certificate ").to_owned()
}
