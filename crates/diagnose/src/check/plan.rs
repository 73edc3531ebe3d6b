//! What is to be probed, and how far.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proto::transcript::Stage;
use secrecy::SecretString;

/// What was named on the command line, in a route or on a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Host name, domain, IP address or address literal, as given but without blanks around it.
    pub host: String,
    /// Port; `None`: 587, or 465 with implicit TLS, or 25 for the mail hosts of a domain.
    pub port: Option<u16>,
}

/// How the connection is to be secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tls {
    /// What the port stands for (465 implicit, else STARTTLS where offered), and the way that works where that does not.
    #[default]
    Auto,
    /// STARTTLS is required.
    StartTls,
    /// From the first octet.
    Implicit,
    /// Never.
    None,
}

/// Address families to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Families {
    /// Both: each address of each family is tried by itself and reported.
    #[default]
    Both,
    /// IPv4 only.
    Four,
    /// IPv6 only.
    Six,
}

/// How to sign in.
#[derive(Debug, Clone)]
pub struct Auth {
    /// User name.
    pub username: String,
    /// Password, API key or access token.
    pub password: SecretString,
    /// SASL mechanism by name, upper case; `None` takes the strongest that both sides have.
    pub mechanism: Option<String>,
    /// Signing in although the link is not encrypted.
    pub allow_plaintext: bool,
}

/// What is sent at the message stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Message {
    /// The stage is left out.
    #[default]
    No,
    /// DATA and the content; the connection is closed before the final dot, so that nothing is delivered.
    BeforeDot,
    /// A test message is really sent.
    Send,
}

/// A probe to be made.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Server.
    pub target: Target,
    /// How it is secured.
    pub tls: Tls,
    /// Families.
    pub families: Families,
    /// Address to connect from.
    pub source: Option<IpAddr>,
    /// Address to connect to instead of asking the DNS, for tests and for `--connect-to`.
    pub connect_to: Option<SocketAddr>,
    /// Our name in EHLO.
    pub helo: String,
    /// Signing in; `None` leaves the stage out.
    pub auth: Option<Auth>,
    /// MAIL FROM; `None` leaves the stage out, and those behind it. `Some("")` is the null reverse-path.
    pub from: Option<String>,
    /// RCPT TO, each tried.
    pub to: Vec<String>,
    /// The message stage.
    pub message: Message,
    /// Last stage.
    pub last: Stage,
    /// Id of the provider or program spoken with, if the operator names it.
    pub provider: Option<String>,
    /// Limit of each wait.
    pub timeout: Duration,
    /// Go on although the certificate does not verify. Said loudly in the report.
    pub insecure: bool,
    /// Whether, after a failure, other ports and hosts may be tried to find the reason.
    pub explore: bool,
    /// Ports of the same host that are tried then, with the mode each stands for.
    pub siblings: Vec<(u16, Tls)>,
    /// Whether hosts of others may be asked for a greeting, to tell a blocked network from a dead server.
    pub outside: bool,
    /// Host names asked then, instead of those that the rules know.
    pub landmarks: Vec<String>,
    /// A second resolver, usually the system's beside one that was given: differences are told.
    pub compare: Option<net::Resolver>,
    /// Test for an open relay: asks for recipients that are not the server's, without sending anything.
    pub open_relay: bool,
}

impl Plan {
    /// Everything up to the EHLO behind TLS, with limits of ten seconds.
    pub fn new(target: Target, helo: impl Into<String>) -> Self {
        Self {
            target,
            tls: Tls::Auto,
            families: Families::Both,
            source: None,
            connect_to: None,
            helo: helo.into(),
            auth: None,
            from: None,
            to: Vec::new(),
            message: Message::No,
            last: Stage::Message,
            provider: None,
            timeout: Duration::from_secs(10),
            insecure: false,
            explore: true,
            siblings: vec![(587, Tls::StartTls), (465, Tls::Implicit), (25, Tls::StartTls), (2525, Tls::StartTls)],
            outside: false,
            landmarks: Vec::new(),
            compare: None,
            open_relay: false,
        }
    }

    /// The mode that a well-known port stands for.
    pub fn stands_for(&self, port: u16) -> Option<Tls> {
        self.siblings.iter().find(|(known, _)| *known == port).map(|(_, tls)| *tls)
    }
}
