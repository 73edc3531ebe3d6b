//! Domains to mail hosts (RFC 5321 §5.1) and hosts to addresses.
//!
//! Says "does not exist", "exists and has none" and "nothing is known" apart; an unknown is never read as an
//! absence, because that would send mail to the wrong host or bounce it too early. Picks no order among equals
//! and connects to nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::TrustAnchors;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Hosts, TokioResolver};
use proto::transcript::Failure;

use crate::asker::{Asker, Recursion};

/// Most hosts of one domain that are used.
pub const MAX_HOSTS: usize = 20;
/// Most addresses of one host that are used.
pub const MAX_ADDRESSES: usize = 100;

/// Which servers to ask, and how long.
#[derive(Debug, Clone)]
pub struct ResolverSettings {
    /// Name servers; empty means those of the system (and its hosts file).
    pub servers: Vec<SocketAddr>,
    /// Limit of one question with all its retries.
    pub timeout: Duration,
    /// Whether signatures are checked.
    pub dnssec: Dnssec,
}

impl Default for ResolverSettings {
    fn default() -> Self {
        Self { servers: Vec::new(), timeout: Duration::from_secs(10), dnssec: Dnssec::Off }
    }
}

/// Validation of answers (RFC 4035 §5). It costs several questions for each one asked, so delivery leaves it off.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Dnssec {
    /// Not checked; nothing is known then.
    #[default]
    Off,
    /// From the keys of the root zone that are built in.
    Root,
    /// From these keys instead: DNSKEY records in the form of a zone file, one each line.
    Anchors(String),
}

/// Whom a resolver asks.
enum Asking {
    /// A server that finds the answer elsewhere.
    Recursive,
    /// The server that has the answer.
    Directly,
}

/// The resolver could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the resolver: {0}")]
pub struct ResolverError(String);

/// One mail host of a domain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MxHost {
    /// Lower is tried first; 0 for an implicit MX or a literal.
    pub preference: u16,
    /// Host name without the final dot, lower case, or the address literal as it was given.
    pub host: String,
}

/// The mail hosts of a domain, by preference; at least one, at most [`MAX_HOSTS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailHosts {
    /// Hosts; equals are in no meaningful order.
    pub hosts: Vec<MxHost>,
    /// How long the answer may be kept.
    pub ttl: Duration,
}

/// A caching resolver; cheap to clone.
#[derive(Clone)]
pub struct Resolver {
    pub(crate) inner: Arc<TokioResolver>,
    /// For raw lookups; none if signatures are checked.
    pub(crate) asker: Option<Arc<Asker>>,
    pub(crate) timeout: Duration,
    pub(crate) validates: bool,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Resolver {
    /// A resolver for the given servers, or the system's.
    pub fn new(settings: ResolverSettings) -> Result<Self, ResolverError> {
        Self::build(settings, Asking::Recursive)
    }

    /// Asks this one server, without recursion and without a cache: what an authoritative server itself says.
    pub fn at(server: SocketAddr, timeout: Duration) -> Result<Self, ResolverError> {
        let settings = ResolverSettings { servers: vec![server], timeout, dnssec: Dnssec::Off };
        Self::build(settings, Asking::Directly)
    }

    fn build(settings: ResolverSettings, asking: Asking) -> Result<Self, ResolverError> {
        let of_system = settings.servers.is_empty();
        let (config, options) = if of_system {
            // Without a resolv.conf the C library asks the local machine; so do we.
            read_system_conf().unwrap_or_else(|error| {
                tracing::warn!(%error, "no usable resolver configuration on this system, asking 127.0.0.1");
                let servers = vec![server((Ipv4Addr::LOCALHOST, 53).into())];
                (ResolverConfig::from_name_servers(servers), ResolverOpts::default())
            })
        } else {
            let servers = settings.servers.iter().copied().map(server).collect();
            (ResolverConfig::from_name_servers(servers), ResolverOpts::default())
        };
        let asker = (settings.dnssec == Dnssec::Off).then(|| {
            let servers = config.name_servers().iter().filter_map(address_of_server).collect();
            let recursion = match asking {
                Asking::Recursive => Recursion::Desired,
                Asking::Directly => Recursion::No,
            };
            let hosts = of_system.then(|| Hosts::from_system().unwrap_or_default());
            Arc::new(Asker::new(servers, settings.timeout, recursion, hosts))
        });
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options);
        let options = builder.options_mut();
        if !of_system {
            options.use_hosts_file = ResolveHosts::Never;
        }
        options.timeout = (settings.timeout / 3).max(Duration::from_millis(100));
        options.attempts = 2;
        // Over TCP only; the default of 32 makes a burst of lookups fail as "busy".
        options.max_active_requests = 1_000;
        options.positive_max_ttl = Some(Duration::from_secs(86_400));
        options.negative_max_ttl = Some(Duration::from_secs(300));
        if let Asking::Directly = asking {
            options.recursion_desired = false;
            options.cache_size = 0;
        }
        let validates = settings.dnssec != Dnssec::Off;
        options.validate = validates;
        if let Dnssec::Anchors(keys) = &settings.dnssec {
            let anchors = keys.parse::<TrustAnchors>().map_err(|error| ResolverError(error.to_string()))?;
            if anchors.is_empty() {
                return Err(ResolverError("there is no DNSKEY record among the trust anchors".into()));
            }
            builder = builder.with_trust_anchor(Arc::new(anchors));
        }
        let inner = builder.build().map_err(|error| ResolverError(error.to_string()))?;
        Ok(Self { inner: Arc::new(inner), asker, timeout: settings.timeout, validates })
    }

    /// The hosts that take mail for `domain`, as RFC 5321 §5.1 finds them.
    ///
    /// `Err` is [`Failure::NameNotFound`], [`Failure::NoAddress`] or [`Failure::NullMx`] (all final), or
    /// [`Failure::DnsUnavailable`] (nothing is known, try later).
    pub async fn mail_hosts(&self, domain: &str) -> Result<MailHosts, Failure> {
        if literal(domain).is_some() {
            return Ok(implicit(domain, Duration::from_secs(3600)));
        }
        match self.lookup(domain, RecordType::MX).await {
            Ok(lookup) => explicit(domain, &lookup),
            Err(Miss::Absent) => {
                self.addresses(domain).await.map_err(|failure| match failure {
                    Failure::NameNotFound { name } => Failure::NoAddress { name },
                    other => other,
                })?;
                Ok(implicit(domain, Duration::from_secs(300)))
            }
            Err(miss) => Err(miss.failure(domain)),
        }
    }

    /// The addresses of `host`: IPv6 first, then IPv4, at most [`MAX_ADDRESSES`].
    ///
    /// An address literal, or an IP address as text, is its own answer. When one family is found, a failure of the
    /// other does not count.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Failure> {
        if let Some(address) = literal(host).or_else(|| host.parse().ok()) {
            return Ok(vec![address]);
        }
        let (six, four) = tokio::join!(self.lookup(host, RecordType::AAAA), self.lookup(host, RecordType::A));
        let mut found: Vec<IpAddr> = Vec::new();
        for lookup in [&six, &four].into_iter().flatten() {
            found.extend(lookup.answers().iter().filter_map(|record| address_of(&record.data)));
        }
        found.truncate(MAX_ADDRESSES);
        if !found.is_empty() {
            return Ok(found);
        }
        let misses: Vec<Miss> = [six, four].into_iter().map(|result| result.err().unwrap_or(Miss::Absent)).collect();
        let worst = misses.into_iter().max_by_key(Miss::rank).unwrap_or(Miss::Absent);
        Err(worst.failure(host))
    }

    async fn lookup(&self, name: &str, kind: RecordType) -> Result<Lookup, Miss> {
        let Ok(mut name) = Name::from_ascii(name) else {
            return Err(Miss::NoName);
        };
        // Fully qualified: mail is never routed by the search list of this machine.
        name.set_fqdn(true);
        match tokio::time::timeout(self.timeout, self.inner.lookup(name, kind)).await {
            Ok(Ok(lookup)) => Ok(lookup),
            Ok(Err(error)) => Err(Miss::from(error)),
            Err(_) => Err(Miss::Unknown("no answer in time".into())),
        }
    }
}

/// Why a question has no records for an answer.
enum Miss {
    /// The name exists, the record type does not.
    Absent,
    /// The name does not exist.
    NoName,
    /// Nothing is known.
    Unknown(String),
}

impl Miss {
    fn rank(&self) -> u8 {
        match self {
            Self::Absent => 0,
            Self::NoName => 1,
            Self::Unknown(_) => 2,
        }
    }

    fn failure(self, name: &str) -> Failure {
        let name = name.to_owned();
        match self {
            Self::Absent => Failure::NoAddress { name },
            Self::NoName => Failure::NameNotFound { name },
            Self::Unknown(reason) => Failure::DnsUnavailable { name, reason },
        }
    }
}

impl From<NetError> for Miss {
    fn from(error: NetError) -> Self {
        match error {
            NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
                ResponseCode::NXDomain => Self::NoName,
                ResponseCode::NoError => Self::Absent,
                code => Self::Unknown(code.to_string()),
            },
            NetError::Dns(DnsError::ResponseCode(code)) => Self::Unknown(code.to_string()),
            NetError::Timeout => Self::Unknown("no answer in time".into()),
            other => Self::Unknown(other.to_string()),
        }
    }
}

/// `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 §4.1.3).
fn literal(domain: &str) -> Option<IpAddr> {
    let inner = domain.strip_prefix('[')?.strip_suffix(']')?;
    match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("ipv6:") => inner[5..].parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => inner.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

fn address_of(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    }
}

fn implicit(domain: &str, ttl: Duration) -> MailHosts {
    MailHosts { hosts: vec![MxHost { preference: 0, host: domain.to_owned() }], ttl }
}

fn explicit(domain: &str, lookup: &Lookup) -> Result<MailHosts, Failure> {
    let mut ttl = u32::MAX;
    let mut hosts = Vec::new();
    let mut null = false;
    for record in lookup.answers() {
        ttl = ttl.min(record.ttl);
        let RData::MX(mx) = &record.data else { continue };
        if mx.exchange.is_root() {
            null = true;
            continue;
        }
        let mut host = mx.exchange.to_ascii().to_ascii_lowercase();
        if host.ends_with('.') {
            host.pop();
        }
        hosts.push(MxHost { preference: mx.preference, host });
    }
    hosts.sort_unstable();
    // The same host twice is tried once, at its better preference.
    let mut seen = std::collections::HashSet::new();
    hosts.retain(|mx| seen.insert(mx.host.clone()));
    hosts.truncate(MAX_HOSTS);
    match (hosts.is_empty(), null) {
        // RFC 7505 §3: a null MX stands alone; beside other records it is ignored.
        (true, true) => Err(Failure::NullMx { domain: domain.to_owned() }),
        (true, false) => Err(Failure::DnsUnavailable {
            name: domain.to_owned(),
            reason: "the answer to the MX question has no MX records".into(),
        }),
        _ => Ok(MailHosts { hosts, ttl: Duration::from_secs(ttl.into()) }),
    }
}

/// Where a configured server takes UDP.
fn address_of_server(server: &NameServerConfig) -> Option<SocketAddr> {
    let udp = server.connections.iter().find(|connection| matches!(connection.protocol, ProtocolConfig::Udp))?;
    Some(SocketAddr::new(server.ip, udp.port))
}

fn server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_literals_are_read_as_the_rfc_writes_them() {
        for (text, address) in [
            ("[192.0.2.1]", Some("192.0.2.1")),
            ("[IPv6:2001:db8::1]", Some("2001:db8::1")),
            ("[ipv6:2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]", None),
            ("192.0.2.1", None),
            ("[example.com]", None),
            ("[]", None),
        ] {
            assert_eq!(literal(text), address.map(|text| text.parse().unwrap()), "{text}");
        }
    }
}
