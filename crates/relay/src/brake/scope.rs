//! What a brake stops, and what shows that it may go on. Names and text forms only.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use proto::transcript::Stage;
use serde::{Deserialize, Serialize};

/// What a brake stops. Its text form is `kind:name`: `credential:out`, `source:192.0.2.1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum BrakeScope {
    /// Signing in at a route's server.
    Credential(Arc<str>),
    /// A route.
    Route(Arc<str>),
    /// One next hop: `route`, `route/mx group`, or an MX group of whatever route.
    Destination(Arc<str>),
    /// One of our addresses, as next hops see it.
    Source(IpAddr),
    /// A stream.
    Stream(Arc<str>),
    /// Mail whose envelope's sender is of this domain.
    SenderDomain(Arc<str>),
}

/// What has to work before a brake may come off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// A connection up to EHLO, with TLS as the route says.
    Connect,
    /// The same, and AUTH.
    SignIn,
    /// One message that is taken.
    Message,
}

impl Proof {
    /// What has to work again where a conversation failed at this stage.
    pub fn of_stage(stage: Stage) -> Self {
        match stage {
            Stage::Sender | Stage::Recipient | Stage::Message => Self::Message,
            Stage::Auth => Self::SignIn,
            _ => Self::Connect,
        }
    }

    /// Milliseconds before the next probe after so many that failed.
    ///
    /// Who counts rejected sign-ins locks accounts, and who gets mail it does not want thinks worse of us; a connection that
    /// does not come about costs nobody anything.
    pub fn pause_ms(self, failures: u32) -> i64 {
        let pauses: &[i64] = match self {
            Self::Connect => &[10_000, 20_000, 40_000, 80_000, 160_000, 300_000],
            Self::SignIn | Self::Message => &[60_000, 120_000, 300_000, 900_000, 1_800_000],
        };
        pauses[(failures as usize).min(pauses.len() - 1)]
    }
}

impl BrakeScope {
    /// What shows that it may go on, unless more is known.
    pub fn proof(&self) -> Proof {
        match self {
            Self::Credential(_) => Proof::SignIn,
            Self::Route(_) | Self::Destination(_) => Proof::Connect,
            Self::Source(_) | Self::Stream(_) | Self::SenderDomain(_) => Proof::Message,
        }
    }

    /// The route it is about, if it is about one.
    pub fn route(&self) -> Option<&str> {
        match self {
            Self::Credential(name) | Self::Route(name) => Some(name),
            _ => None,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Credential(_) => "credential",
            Self::Route(_) => "route",
            Self::Destination(_) => "destination",
            Self::Source(_) => "source",
            Self::Stream(_) => "stream",
            Self::SenderDomain(_) => "sender_domain",
        }
    }
}

impl fmt::Display for BrakeScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.kind())?;
        match self {
            Self::Source(address) => write!(f, "{address}"),
            Self::Credential(name)
            | Self::Route(name)
            | Self::Destination(name)
            | Self::Stream(name)
            | Self::SenderDomain(name) => f.write_str(name),
        }
    }
}

/// A text that names no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} names nothing that can be braked: it is credential, route, destination, source, stream or sender_domain, a colon, and a name"
)]
pub struct NoScope(String);

impl FromStr for BrakeScope {
    type Err = NoScope;

    fn from_str(text: &str) -> Result<Self, NoScope> {
        let wrong = || NoScope(text.to_owned());
        let (kind, name) = text.split_once(':').filter(|(_, name)| !name.is_empty()).ok_or_else(wrong)?;
        let owned = || Arc::from(name);
        Ok(match kind {
            "credential" => Self::Credential(owned()),
            "route" => Self::Route(owned()),
            "destination" => Self::Destination(owned()),
            "source" => Self::Source(name.parse().map_err(|_| wrong())?),
            "stream" => Self::Stream(owned()),
            "sender_domain" => Self::SenderDomain(name.to_lowercase().into()),
            _ => return Err(wrong()),
        })
    }
}

impl TryFrom<String> for BrakeScope {
    type Error = NoScope;

    fn try_from(text: String) -> Result<Self, NoScope> {
        text.parse()
    }
}

impl From<BrakeScope> for String {
    fn from(scope: BrakeScope) -> Self {
        scope.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_read_back_from_its_text() {
        for text in [
            "credential:out",
            "route:out",
            "destination:out/mx.example.net",
            "source:2001:db8::1",
            "stream:news",
            "sender_domain:example.org",
        ] {
            assert_eq!(text.parse::<BrakeScope>().map(|scope| scope.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "out", "route:", "source:out", "moon:out"] {
            assert_eq!(text.parse::<BrakeScope>(), Err(NoScope(text.to_owned())));
        }
    }

    #[test]
    fn pauses_grow_and_end_at_a_longest_one() {
        let minutes = |proof: Proof| (0..8).map(|n| proof.pause_ms(n) / 1_000).collect::<Vec<_>>();
        assert_eq!(minutes(Proof::SignIn), [60, 120, 300, 900, 1_800, 1_800, 1_800, 1_800]);
        assert_eq!(minutes(Proof::Connect), [10, 20, 40, 80, 160, 300, 300, 300]);
    }
}
