//! What has to hold for one mail host before anything of a message is sent to it, and what a failure under it is called.
//!
//! DANE comes first; where it does not apply, MTA-STS; where neither does, TLS is opportunistic.

use std::sync::Arc;

use net::client::{ClientSettings, ConnectError, TlsMode};
use net::dane::HostPins;
use net::tls::Pins;
use proto::policy::sts::StsMode;
use proto::transcript::{CertificateProblem, Fact, Failure, PolicyProblem, Stage, Transcript, TransportPolicy};

use crate::exchangers::Exchange;

/// What a host has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Demand {
    /// What the route says.
    Nothing,
    /// TLS with a certificate that fits these.
    Pinned(Arc<Pins>),
    /// TLS with any certificate: the TLSA records are of no use.
    Encrypted,
    /// TLS with a certificate that verifies for the host.
    Verified,
    /// As [`Self::Nothing`]; what [`Self::Verified`] would come to is recorded.
    Tested {
        /// The policy names the host.
        listed: bool,
    },
}

impl Demand {
    /// What is demanded of a host; `Err`: it must not be used now.
    pub(crate) fn of(exchange: &Exchange, host: &str, pins: HostPins) -> Result<Self, Failure> {
        let failure =
            |policy, problem, reason: String| Failure::Policy { policy, problem, host: host.to_owned(), reason };
        let by_pins = match pins {
            HostPins::Usable(pins) => return Ok(Self::Pinned(Arc::new(pins))),
            HostPins::Unknown(reason) => {
                return Err(failure(TransportPolicy::Dane, PolicyProblem::Lookup, reason));
            }
            HostPins::Unusable => Self::Encrypted,
            HostPins::None => Self::Nothing,
        };
        let Some(policy) = exchange.policy.as_deref() else { return Ok(by_pins) };
        let listed = policy.allows(host);
        match policy.mode {
            StsMode::None => Ok(by_pins),
            StsMode::Testing if by_pins == Self::Encrypted => Ok(by_pins),
            StsMode::Testing => Ok(Self::Tested { listed }),
            StsMode::Enforce if listed => Ok(Self::Verified),
            StsMode::Enforce => {
                let reason =
                    format!("the policy allows {}", policy.mx.iter().take(5).cloned().collect::<Vec<_>>().join(", "));
                Err(failure(TransportPolicy::MtaSts, PolicyProblem::HostNotListed, reason))
            }
        }
    }

    /// Whose demand it is.
    pub(crate) fn policy(&self) -> Option<TransportPolicy> {
        match self {
            Self::Nothing => None,
            Self::Pinned(_) | Self::Encrypted => Some(TransportPolicy::Dane),
            Self::Verified | Self::Tested { .. } => Some(TransportPolicy::MtaSts),
        }
    }

    /// Whether the domain's own policy names the host.
    pub(crate) fn names_host(&self) -> bool {
        matches!(self, Self::Pinned(_) | Self::Verified | Self::Tested { listed: true })
    }

    /// Turns the route's settings into those for the host.
    pub(crate) fn apply(&self, mut mode: TlsMode, settings: &ClientSettings) -> (TlsMode, ClientSettings) {
        let mut settings = settings.clone();
        match self {
            Self::Nothing | Self::Tested { .. } => return (mode, settings),
            Self::Pinned(pins) => {
                settings.pins = Some(pins.clone());
                settings.verify = true;
            }
            // The route itself may demand more.
            Self::Encrypted => settings.verify &= mode == TlsMode::Required,
            Self::Verified => settings.verify = true,
        }
        mode = TlsMode::Required;
        (mode, settings)
    }

    /// Calls a failure at TLS by what was demanded there. Nothing of a message was sent.
    pub(crate) fn explain(&self, host: &str, mut error: Box<ConnectError>) -> Box<ConnectError> {
        let Some(policy) = self.policy().filter(|_| error.stage == Stage::Tls && !matches!(self, Self::Tested { .. }))
        else {
            return error;
        };
        let (problem, reason) = match &error.failure {
            Failure::StartTlsMissing => (PolicyProblem::NoTls, "STARTTLS is not offered".to_owned()),
            Failure::Refused(reply) => (PolicyProblem::NoTls, format!("STARTTLS is refused: {reply}")),
            Failure::TlsHandshake { reason } => (PolicyProblem::NoTls, format!("the handshake fails: {reason}")),
            Failure::TlsVersion { offered } => (PolicyProblem::NoTls, format!("the server speaks {offered} at most")),
            Failure::Timeout { seconds } => (PolicyProblem::NoTls, format!("no answer within {seconds} s")),
            Failure::Disconnected => (PolicyProblem::NoTls, "the server closed the connection at STARTTLS".to_owned()),
            Failure::Certificate { problem, .. } => (PolicyProblem::Certificate, in_words(problem).to_owned()),
            _ => return error,
        };
        error.failure = Failure::Policy { policy, problem, host: host.to_owned(), reason };
        error
    }

    /// What is written to the attempt beside version and cipher.
    pub(crate) fn note(&self, prelude: &Transcript) -> Option<String> {
        match self {
            Self::Nothing | Self::Encrypted => None,
            Self::Pinned(_) => Some("verified by DANE".into()),
            Self::Verified => Some("verified for MTA-STS".into()),
            Self::Tested { listed } => Some(match (listed, is_verified(prelude)) {
                (true, true) => "verified for MTA-STS (testing)".into(),
                (false, _) => "MTA-STS (testing): the policy does not list the host".into(),
                (true, false) => "MTA-STS (testing): the certificate does not verify".into(),
            }),
        }
    }
}

/// Whether the connection's certificate was verified, by whatever.
pub(crate) fn is_verified(prelude: &Transcript) -> bool {
    prelude.steps.iter().rev().find_map(|step| match &step.fact {
        Some(Fact::Tls { verified, .. }) => Some(*verified),
        _ => None,
    }) == Some(true)
}

fn in_words(problem: &CertificateProblem) -> &str {
    match problem {
        CertificateProblem::Expired => "it has expired",
        CertificateProblem::NotYetValid => "it is not valid yet",
        CertificateProblem::UnknownIssuer => "nobody we trust has signed it",
        CertificateProblem::NameMismatch => "it is for another name",
        CertificateProblem::SelfSigned => "it is signed by its own key",
        CertificateProblem::MissingIntermediate => "the certificate of its signer was not sent",
        CertificateProblem::Weak(what) | CertificateProblem::Other(what) => what,
    }
}
