//! A healthy domain with its name servers, mail host and policy file, of which tests break one part at a time.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses a part of it")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use diagnose::Judge;
use diagnose::domain::{Audit, Auditor, Plan, SIGNS, Section, Smtp};
use explain::RuleBase;
use net::{ClientTls, Clock, Net, Resolver, ResolverSettings, Roots};
use testkit::{Ca, Issued, Sink, SinkOptions, Tls, Zones};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub const KEY_512: &str = "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBALQr2Y4ytxXZHBVKzwTixsZLHTQTv3gGXtd+Zkk7s7Bv5FLgi0k0kj3yONpSdebyWU6V1STPMrkcc8aa5hYishMCAwEAAQ==";
pub const KEY_1024: &str = "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDTdOygxlt8JHl8deQ6MJdTWjqpUqKm1HMhCS4SftiBcqXpNaapi68M28SPgQDYVnofRTwAHEwmI+ZrubxFckUjMnoaufdWvoOhJvdT3MNM/Y8FCF1hSvUXPFhbG3RNpHgKl96eZYC1haXinlRNYdMuPPnku50T4KgT1OMbymX83wIDAQAB";
pub const KEY_2048: &str = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAx9muDVx3C4987YQZomu329S/QC3KcTV/OQLqjYyzQrWBK8NpirmAa6btE7wR6TqggGr21ZtJhx9wOssKyOU6sbAn6bBwXARRDrDgekG9/1HtfU9Fo1/usLoicLBzpFxFUq6kglZ1x1rc0UE1NE+UJJHTUO8F5TEqzBmkf55gXy/mhh/uhdRAscYczWVk6MIR/Bina8WIE/h+Ou6ITjq6Ghbd/CtoQSrXf+V5X0p0aUwVn+8qicGN90o695Wf/FGeiEpN+ZIuVvPUktNo4+oZDvNetC1cwqLWvMKrioOzlZxIQnPgLn8Jq/+D9DPe5ZU9xI3rucbX001mcsfCX3JLwwIDAQAB";

/// Everything a domain needs, as a zone file has it. `KEY` stands for a key of 2048 bits.
pub const HEALTHY: &[&str] = &[
    "example.com SOA ns1.example.com. hostmaster.example.com. 2026112101 7200 900 1209600 3600",
    "example.com NS ns1.example.com.",
    "example.com NS ns2.example.com.",
    "ns1.example.com A 192.0.2.53",
    "ns2.example.com A 192.0.2.53",
    "example.com MX 10 mail.example.com.",
    "mail.example.com A 192.0.2.25",
    "example.com TXT v=spf1 mx -all",
    "s1._domainkey.example.com TXT v=DKIM1; k=rsa; p=KEY",
    "_dmarc.example.com TXT v=DMARC1; p=reject; rua=mailto:dmarc@example.com",
    "_mta-sts.example.com TXT v=STSv1; id=20261121",
    "mta-sts.example.com A 192.0.2.80",
    "_smtp._tls.example.com TXT v=TLSRPTv1; rua=mailto:tls@example.com",
    "example.com CAA 0 issue \"ca.example.net\"",
    "25.2.0.192.in-addr.arpa PTR mail.example.com.",
];

pub const POLICY: &str = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmax_age: 604800\r\n";

pub struct Rig {
    pub zones: Zones,
    pub ca: Ca,
    pub plan: Plan,
    pub clock: Clock,
    pub sink: Option<Sink>,
    pub validating: Option<Resolver>,
    directory: tempfile::TempDir,
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

impl Rig {
    /// Zones without any name.
    pub async fn empty() -> Self {
        let mut plan = Plan { timeout: Duration::from_secs(3), ..Plan::default() };
        let zones = Zones::start().await;
        plan.redirects.insert(at("192.0.2.53:53"), zones.address());
        let directory = tempfile::tempdir().unwrap();
        // 2026-11-21; certificates of the test authority hold from 2020 to 2100.
        let clock = Clock::manual(1_795_219_200_000);
        Self { zones, ca: Ca::new(), plan, clock, sink: None, validating: None, directory }
    }

    /// The healthy domain without some lines (by their beginnings) and with others.
    pub async fn with(without: &[&str], with: &[&str]) -> Self {
        let rig = Self::empty().await;
        let kept = HEALTHY.iter().filter(|line| !without.iter().any(|start| line.starts_with(start)));
        for line in kept.chain(with) {
            let line = line.replace("KEY_512", KEY_512).replace("KEY_1024", KEY_1024);
            rig.zones.line(&line.replace("KEY", KEY_2048));
        }
        rig
    }

    /// A mail host at 192.0.2.25 that offers STARTTLS with this certificate.
    pub async fn mail_host(&mut self, certificate: Option<Issued>) {
        let tls = certificate.map_or(Tls::None, Tls::StartTls);
        let sink = Sink::with(SinkOptions { tls, ..SinkOptions::default() }).await;
        self.plan.redirects.insert(at("192.0.2.25:25"), sink.address());
        self.plan.smtp = Some(Smtp { port: 25, helo: "probe.example.net".into() });
        self.sink = Some(sink);
    }

    /// A web server at 192.0.2.80 that gives this response to everybody.
    pub async fn web_server(&mut self, response: String) {
        let certificate = self.ca.issue(&["mta-sts.example.com"]);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.plan.redirects.insert(at("192.0.2.80:443"), listener.local_addr().unwrap());
        let acceptor = tokio_rustls::TlsAcceptor::from(certificate.server_config());
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, response) = (acceptor.clone(), response.clone());
                tokio::spawn(async move {
                    let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                    let mut request = [0; 2048];
                    let _ = tls.read(&mut request).await;
                    let _ = tls.write_all(response.as_bytes()).await;
                    let _ = tls.shutdown().await;
                });
            }
        });
    }

    /// A web server with this policy file.
    pub async fn policy(&mut self, policy: &str) {
        let length = policy.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n");
        self.web_server(format!("{head}{policy}")).await;
    }

    pub fn auditor(&self) -> Auditor {
        let roots = Roots::Pem(self.ca.write_pem(self.directory.path()));
        let settings = ResolverSettings {
            servers: vec![self.zones.address()],
            timeout: self.plan.timeout,
            ..ResolverSettings::default()
        };
        let net = Net {
            clock: self.clock.clone(),
            resolver: Resolver::new(settings).unwrap(),
            tls: ClientTls::new(&roots, self.clock.clone()).unwrap(),
        };
        let judge = Judge::new(RuleBase::shared());
        Auditor::new(net, self.validating.clone(), judge, self.plan.clone())
    }

    pub async fn audit(&self, domain: &str) -> Audit {
        self.auditor().audit(domain).await
    }

    pub fn only(&mut self, sections: &[Section]) {
        self.plan.sections = sections.iter().copied().collect();
    }
}

/// The signs of the findings; each has to be in the list of all.
pub fn signs(audit: &Audit) -> BTreeSet<&str> {
    let all: BTreeSet<&str> = audit.findings.iter().map(|found| found.sign.as_str()).collect();
    for sign in &all {
        assert!(SIGNS.contains(sign), "{sign} is not in SIGNS");
    }
    all
}
