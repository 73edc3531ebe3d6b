//! Questions to DNS and their answers as plain values, and the shape of a procedure that asks them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

/// A type of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "named as in DNS")]
pub enum Kind {
    A,
    Aaaa,
    Mx,
    Txt,
    Ns,
    Soa,
    Ptr,
    Caa,
    Tlsa,
    Cname,
    Dnskey,
    Ds,
}

impl Kind {
    /// As `dig` writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Mx => "MX",
            Self::Txt => "TXT",
            Self::Ns => "NS",
            Self::Soa => "SOA",
            Self::Ptr => "PTR",
            Self::Caa => "CAA",
            Self::Tlsa => "TLSA",
            Self::Cname => "CNAME",
            Self::Dnskey => "DNSKEY",
            Self::Ds => "DS",
        }
    }
}

/// The name of an address's PTR record: `9.2.0.192.in-addr.arpa` (RFC 1035 §3.5), nibbles under `ip6.arpa` (RFC 3596 §2.5).
pub fn reverse_name(ip: IpAddr) -> String {
    format!("{}.{}", reversed(ip), if ip.is_ipv4() { "in-addr.arpa" } else { "ip6.arpa" })
}

/// The octets or nibbles of an address backwards, as reverse zones and blocklists want them.
pub fn reversed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}")
        }
        IpAddr::V6(ip) => {
            let nibbles = ip.octets().into_iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}")).collect::<Vec<_>>().join(".")
        }
    }
}

/// What one record says. Names are lower case without the final dot; the root is `.`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "fields named as in DNS")]
pub enum Data {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Mx {
        preference: u16,
        host: String,
    },
    /// The strings of the record put together, as octets.
    Txt(Vec<u8>),
    Ns(String),
    Soa {
        primary: String,
        contact: String,
        serial: u32,
        minimum: u32,
    },
    Ptr(String),
    Caa {
        critical: bool,
        tag: String,
        value: String,
    },
    Tlsa {
        usage: u8,
        selector: u8,
        matching: u8,
        data: Vec<u8>,
    },
    Cname(String),
    Dnskey {
        flags: u16,
        algorithm: u8,
        tag: u16,
    },
    Ds {
        tag: u16,
        algorithm: u8,
        digest: u8,
    },
}

/// A question that a procedure wants answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Question {
    /// Domain name without the final dot. May be unfit for DNS (RFC 7208 §4.3); that is answered with [`Reply::NoName`].
    pub name: String,
    /// Record type.
    pub kind: Kind,
}

/// What came back, as far as a policy is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// At least one record of the type asked for.
    Records(Vec<Data>),
    /// The name exists, the type does not.
    NoData,
    /// The name does not exist.
    NoName,
    /// Nothing is known: SERVFAIL, time-out, ...
    Failed(String),
}

impl Reply {
    /// The records; none unless there are some.
    pub fn records(&self) -> &[Data] {
        match self {
            Self::Records(records) => records,
            _ => &[],
        }
    }
    /// An answer without records: what RFC 7208 §4.6.4 calls a void lookup.
    pub fn is_void(&self) -> bool {
        match self {
            Self::Records(records) => records.is_empty(),
            Self::NoData | Self::NoName => true,
            Self::Failed(_) => false,
        }
    }
    /// The texts of TXT records.
    pub fn texts(&self) -> impl Iterator<Item = &[u8]> {
        self.records().iter().filter_map(|data| match data {
            Data::Txt(text) => Some(text.as_slice()),
            _ => None,
        })
    }
}

/// What a procedure wants next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<T> {
    /// An answer to this; give it with [`Steps::answer`], then call [`Steps::step`] again.
    Ask(Question),
    /// It is finished.
    Done(T),
}

/// A procedure that needs DNS and does no I/O.
///
/// `step` gives the same until it was answered. The number of questions of a procedure is bounded.
pub trait Steps {
    /// What comes out.
    type Output;
    /// The next question, or the result.
    fn step(&mut self) -> Step<Self::Output>;
    /// The answer to a question.
    fn answer(&mut self, question: Question, reply: Reply);
}

/// Answers known so far. Procedures are run again from their start with each new answer: they are short, bounded,
/// and easier to read as plain functions than as hand-written states.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known(HashMap<Question, Reply>);

/// A question without an answer yet; travels up through `?`.
pub(crate) struct Missing(pub(crate) Question);

impl Known {
    pub(crate) fn put(&mut self, question: Question, reply: Reply) {
        self.0.insert(question, reply);
    }
    pub(crate) fn get(&self, name: &str, kind: Kind) -> Result<&Reply, Missing> {
        let question = Question { name: name.trim_end_matches('.').to_ascii_lowercase(), kind };
        match self.0.get(&question) {
            Some(reply) => Ok(reply),
            None => Err(Missing(question)),
        }
    }
}

/// Whether DNS could hold this name: labels of 1 to 63 octets, 253 in all; a final dot is allowed.
pub fn is_possible(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    !name.is_empty() && name.len() <= 253 && name.split('.').all(|label| (1..=63).contains(&label.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reverse_names_are_those_of_the_reverse_zones() {
        assert_eq!(reverse_name("192.0.2.9".parse().unwrap()), "9.2.0.192.in-addr.arpa");
        let six = reverse_name("2001:db8::1".parse().unwrap());
        assert!(six.starts_with("1.0.0.0.") && six.ends_with("8.b.d.0.1.0.0.2.ip6.arpa") && six.len() == 72, "{six}");
    }
}
