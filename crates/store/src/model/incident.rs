//! Whom trouble touches: the scope of an incident, with its text form. What an incident is besides is its keeper's affair.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Whom an incident touches. Its text form is `kind:name`, as in `route:o365`; that of [`IncidentScope::Everyone`] is `everyone`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum IncidentScope {
    /// All mail that leaves this machine.
    Everyone,
    /// All mail by a route.
    Route(String),
    /// All that signs in with a route's credential.
    Credential(String),
    /// All that leaves from one of our addresses: an IP address, or the name a hop knows us by.
    Source(String),
    /// All that goes over one family of addresses.
    Family(Family),
    /// All mail that a provider takes in, whatever the domain.
    Provider(String),
    /// All mail for a destination: domains that share their mail exchangers.
    Destination(String),
    /// All mail for a domain.
    Domain(String),
    /// All mail from a domain.
    SenderDomain(String),
    /// All mail of a stream.
    Stream(String),
    /// All mail that a sender submits.
    Sender(String),
    /// All mail for one address.
    Address(String),
    /// Pillarbox itself: the part that is not well.
    Itself(String),
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Of an address; an IPv4 address in IPv6 clothes is IPv4.
    pub fn of(address: std::net::IpAddr) -> Self {
        if address.to_canonical().is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// `v4` or `v6`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        }
    }
}

impl IncidentScope {
    /// What kind of thing it names: the part before the colon.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Everyone => "everyone",
            Self::Route(_) => "route",
            Self::Credential(_) => "credential",
            Self::Source(_) => "source",
            Self::Family(_) => "family",
            Self::Provider(_) => "provider",
            Self::Destination(_) => "destination",
            Self::Domain(_) => "domain",
            Self::SenderDomain(_) => "sender-domain",
            Self::Stream(_) => "stream",
            Self::Sender(_) => "sender",
            Self::Address(_) => "address",
            Self::Itself(_) => "itself",
        }
    }

    /// The name: the part after the colon; empty for [`IncidentScope::Everyone`].
    pub fn name(&self) -> &str {
        match self {
            Self::Everyone => "",
            Self::Family(family) => family.as_str(),
            Self::Route(name)
            | Self::Credential(name)
            | Self::Source(name)
            | Self::Provider(name)
            | Self::Destination(name)
            | Self::Domain(name)
            | Self::SenderDomain(name)
            | Self::Stream(name)
            | Self::Sender(name)
            | Self::Address(name)
            | Self::Itself(name) => name,
        }
    }
}

impl fmt::Display for IncidentScope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everyone => formatter.write_str(self.kind()),
            _ => write!(formatter, "{}:{}", self.kind(), self.name()),
        }
    }
}

/// A text that is no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no scope: it is `everyone`, or `kind:name` as in `route:o365`")]
pub struct NoScope(String);

impl FromStr for IncidentScope {
    type Err = NoScope;

    fn from_str(text: &str) -> Result<Self, NoScope> {
        let none = || NoScope(text.chars().take(100).collect());
        if text == "everyone" {
            return Ok(Self::Everyone);
        }
        let (kind, name) = text.split_once(':').filter(|(_, name)| !name.is_empty()).ok_or_else(none)?;
        let named = name.to_owned();
        Ok(match kind {
            "route" => Self::Route(named),
            "credential" => Self::Credential(named),
            "source" => Self::Source(named),
            "family" if name == "v4" => Self::Family(Family::V4),
            "family" if name == "v6" => Self::Family(Family::V6),
            "provider" => Self::Provider(named),
            "destination" => Self::Destination(named),
            "domain" => Self::Domain(named),
            "sender-domain" => Self::SenderDomain(named),
            "stream" => Self::Stream(named),
            "sender" => Self::Sender(named),
            "address" => Self::Address(named),
            "itself" => Self::Itself(named),
            _ => return Err(none()),
        })
    }
}

impl From<IncidentScope> for String {
    fn from(scope: IncidentScope) -> Self {
        scope.to_string()
    }
}

impl TryFrom<String> for IncidentScope {
    type Error = NoScope;

    fn try_from(text: String) -> Result<Self, NoScope> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_reads_back_from_its_text() {
        for text in [
            "everyone",
            "route:o365",
            "credential:o365",
            "source:2001:db8::1",
            "family:v6",
            "provider:google",
            "destination:mx/mx.example.net",
            "domain:example.net",
            "sender-domain:shop.example",
            "stream:receipts",
            "sender:app",
            "address:\"a:b\"@example.net",
            "itself:store",
        ] {
            let scope: IncidentScope = text.parse().unwrap();
            assert_eq!(scope.to_string(), text);
            let json = serde_json::to_string(&scope).unwrap();
            assert_eq!(serde_json::from_str::<IncidentScope>(&json).unwrap(), scope);
        }
    }

    #[test]
    fn what_is_no_scope_is_refused() {
        for text in ["", "route", "route:", "family:v5", "planet:mars", "everyone:else"] {
            assert!(text.parse::<IncidentScope>().is_err(), "{text}");
        }
    }
}
