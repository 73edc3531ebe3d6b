//! What happened on one connection, step by step: the hinge between delivery, diagnosis and explanation.
//!
//! Steps keep numbers and names, never only text. Secrets are removed when a step is recorded.
//! Times are milliseconds or microseconds given by the caller; nothing here reads a clock.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::smtp::reply::{EnhancedCode, Reply};

/// Where in the conversation a step belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Name to addresses.
    Dns,
    /// Connect.
    Tcp,
    /// 220 greeting.
    Banner,
    /// EHLO or HELO, before or after TLS.
    Ehlo,
    /// STARTTLS command and handshake, or the handshake of implicit TLS.
    Tls,
    /// AUTH.
    Auth,
    /// MAIL FROM.
    Sender,
    /// RCPT TO.
    Recipient,
    /// DATA, the message, and the answer to the final dot.
    Message,
    /// QUIT or RSET.
    Quit,
}

/// One step of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Where it belongs.
    pub stage: Stage,
    /// Microseconds since the start of the transcript.
    pub started_us: u64,
    /// Microseconds it took.
    pub took_us: u64,
    /// What was sent, one line, without secrets and without message content; at most 2,000 octets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<String>,
    /// The reply, bounded as [`crate::smtp::reply::ReplyReader`] bounds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
    /// A fact learned without a reply (an address, a TLS version).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fact: Option<Fact>,
    /// Why the step failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// A fact learned on the way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// Connected to this address from that one.
    Connected {
        /// Peer.
        peer: SocketAddr,
        /// Our end.
        local: SocketAddr,
    },
    /// Addresses found for a host.
    Resolved {
        /// Host asked for.
        host: String,
        /// What came back, at most 20.
        addresses: Vec<String>,
    },
    /// TLS is on.
    Tls {
        /// "TLSv1.3".
        version: String,
        /// "TLS13_AES_128_GCM_SHA256".
        cipher: String,
        /// Whether the chain was verified for the name.
        verified: bool,
        /// Why it was not, when it was not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        problem: Option<String>,
        /// By what it was verified, if not by the authorities we trust: "DANE".
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// The certificates as the server sent them, its own first, at most 10.
    Chain {
        /// What is in them.
        certificates: Vec<Certificate>,
    },
    /// Authenticated with this mechanism.
    Authenticated {
        /// "PLAIN".
        mechanism: String,
    },
    /// The connection had been used before for this many transactions.
    Reused {
        /// How many.
        transactions: u32,
    },
}

/// One certificate of a chain. Names and texts are escaped and bounded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Distinguished name of the holder, at most 300 octets.
    pub subject: String,
    /// Distinguished name of the signer, at most 300 octets.
    pub issuer: String,
    /// Alternative names, or else the common name; at most 20.
    pub names: Vec<String>,
    /// Start of validity, Unix seconds.
    pub not_before: i64,
    /// End of validity, Unix seconds.
    pub not_after: i64,
    /// "RSA 2048", "EC P-256", "Ed25519".
    pub key: String,
    /// "SHA256-RSA".
    pub signature: String,
    /// SHA-256 of the certificate in lower-case hexadecimal.
    pub sha256: String,
}

/// Why a step failed: by whom and how, with the numbers kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Failure {
    /// The name does not exist (NXDOMAIN).
    NameNotFound {
        /// Name asked for.
        name: String,
    },
    /// The name exists and has neither MX nor address.
    NoAddress {
        /// Name asked for.
        name: String,
    },
    /// `MX 0 .` (RFC 7505): the domain takes no mail.
    NullMx {
        /// Domain.
        domain: String,
    },
    /// SERVFAIL, REFUSED, time-out, bogus: nothing is known.
    DnsUnavailable {
        /// Name asked for.
        name: String,
        /// Response code or reason.
        reason: String,
    },
    /// All MX hosts are ourselves.
    MxLoop {
        /// Host that is us.
        host: String,
    },
    /// RST to SYN.
    ConnectRefused {
        /// Peer.
        peer: SocketAddr,
    },
    /// No answer to SYN.
    ConnectTimeout {
        /// Peer.
        peer: SocketAddr,
    },
    /// No route, or another socket error.
    ConnectFailed {
        /// Peer.
        peer: SocketAddr,
        /// Operating system's words.
        reason: String,
    },
    /// The peer closed or reset the connection.
    Disconnected,
    /// No reply within the stage's time limit, in seconds.
    Timeout {
        /// The limit.
        seconds: u32,
    },
    /// What came is not SMTP.
    BadReply {
        /// The octets as text, escaped, at most 200.
        text: String,
    },
    /// Octets came before they could be asked for, at STARTTLS (RFC 3207 §6).
    EarlyOctets,
    /// A reply that ends the step: 4yz or 5yz, or an unexpected 2yz or 3yz.
    Refused(Reply),
    /// STARTTLS is required and was not offered.
    StartTlsMissing,
    /// The handshake failed.
    TlsHandshake {
        /// What the TLS library says.
        reason: String,
    },
    /// The server speaks only versions of TLS that are too old for us.
    TlsVersion {
        /// The version it chose: "TLSv1.0".
        offered: String,
    },
    /// The certificate was refused.
    Certificate {
        /// What is wrong with it.
        problem: CertificateProblem,
        /// Names in the certificate, at most 20.
        names: Vec<String>,
        /// End of validity, Unix seconds.
        not_after: Option<i64>,
    },
    /// No mechanism that both sides have and the settings allow.
    NoMechanism {
        /// What the server offered.
        offered: Vec<String>,
    },
    /// Credentials would cross an unencrypted link.
    AuthNeedsTls,
    /// The identity provider gives no token (RFC 6749 §5.2).
    TokenRefused {
        /// `invalid_client`, `invalid_grant`, …; `not_signed_in` where there is nothing to ask with.
        error: String,
        /// Its words, escaped, at most 1,000 octets.
        description: String,
    },
    /// The identity provider was not reached, or cannot answer now.
    TokenUnavailable {
        /// Why.
        reason: String,
    },
    /// A provider's HTTP interface answered, and did not take what was asked of it.
    Api {
        /// Status of the response (RFC 9110 §15).
        status: u16,
        /// The interface's own word for it, `ErrorAccessDenied`; empty where it gave none. At most 100 octets.
        error: String,
        /// All of it in one line, `HTTP 403 ErrorAccessDenied: words`, escaped, at most 1,000 octets.
        text: String,
        /// The wait it asks for, seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wait_s: Option<u64>,
    },
    /// The message needs an extension the server lacks.
    MissingExtension {
        /// "8BITMIME", "SMTPUTF8", "SIZE".
        extension: String,
    },
    /// The message is larger than the server's SIZE.
    TooLarge {
        /// Ours, octets.
        size: u64,
        /// Theirs, octets.
        limit: u64,
    },
    /// What the receiving domain, or the message, demands of the transport cannot be had; nothing was sent.
    Policy {
        /// Who demands it.
        policy: TransportPolicy,
        /// What is not so.
        problem: PolicyProblem,
        /// The mail host.
        host: String,
        /// The circumstances, in a few words.
        reason: String,
    },
    /// A domain's mail host has no address in the public network, and the route does not go to others.
    PrivateAddress {
        /// The mail host.
        host: String,
        /// Its first address.
        address: String,
    },
    /// Our own side failed: store, memory, shutdown.
    Local {
        /// What.
        reason: String,
    },
}

/// Who demands something of the transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransportPolicy {
    /// The domain, by a policy file (RFC 8461).
    MtaSts,
    /// The domain, by signed TLSA records (RFC 7672).
    Dane,
    /// The message (RFC 8689).
    RequireTls,
}

impl TransportPolicy {
    /// `MTA-STS`, `DANE`, `REQUIRETLS`.
    pub fn name(self) -> &'static str {
        match self {
            Self::MtaSts => "MTA-STS",
            Self::Dane => "DANE",
            Self::RequireTls => "REQUIRETLS",
        }
    }
}

/// Why a demand on the transport is not met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyProblem {
    /// The policy does not list the host.
    HostNotListed,
    /// TLS is not offered, or was refused, or did not come about.
    NoTls,
    /// The certificate does not fit.
    Certificate,
    /// Whether there is a demand could not be found out.
    Lookup,
    /// The next hop does not offer REQUIRETLS.
    NotOffered,
}

/// What is wrong with a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateProblem {
    /// notAfter is past.
    Expired,
    /// notBefore is to come.
    NotYetValid,
    /// No authority we trust signed it.
    UnknownIssuer,
    /// It is signed by its own key, and that key is not trusted.
    SelfSigned,
    /// The server sent its own certificate without the one that signed it, so that no trusted authority is reached.
    MissingIntermediate,
    /// Its key or signature is too weak: which, in words ("RSA key of 1024 bits").
    Weak(String),
    /// It is not for this name.
    NameMismatch,
    /// Anything else, in the library's words.
    Other(String),
}

impl Failure {
    /// The reply behind the failure, if the server spoke.
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Refused(reply) => Some(reply),
            _ => None,
        }
    }
    /// Reply code and enhanced code, if the server spoke.
    pub fn codes(&self) -> Option<(u16, Option<EnhancedCode>)> {
        self.reply().map(|reply| (reply.code, reply.enhanced()))
    }
}

/// All steps of one connection, in order; at most 200 are kept.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Transcript {
    /// Unix milliseconds at the start.
    pub started_ms: i64,
    /// The steps.
    pub steps: Vec<Step>,
}

impl Transcript {
    /// Most steps kept.
    pub const MAX_STEPS: usize = 200;

    /// Adds a step unless the transcript is full.
    pub fn push(&mut self, step: Step) {
        if self.steps.len() < Self::MAX_STEPS {
            self.steps.push(step);
        }
    }
    /// The last failure, which is why the conversation ended.
    pub fn failure(&self) -> Option<(Stage, &Failure)> {
        self.steps.iter().rev().find_map(|step| step.failure.as_ref().map(|failure| (step.stage, failure)))
    }
}
