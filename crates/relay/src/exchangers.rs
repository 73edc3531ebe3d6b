//! Which hosts take a domain's mail, remembered for as long as the answer is good, and which domains share them.
//!
//! Domains with the same mail exchangers are one destination: their connections and limits are shared.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use net::dane::HostPins;
use net::resolver::{MailHosts, MxHost};
use net::sts::StsError;
use net::{Net, Resolver};
use parking_lot::Mutex;
use proto::policy::sts::{StsMode, StsPolicy};
use proto::transcript::Failure;

use crate::transport::sts::Policies;

/// Domains remembered.
const DOMAINS: usize = 10_000;
/// An answer is used at least and at most this long, milliseconds.
const LEAST_MS: i64 = 60_000;
const MOST_MS: i64 = 3_600_000;
/// Longest destination name that is spelled out.
const NAME: usize = 120;

/// The hosts of one destination.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    /// The same for all domains with the same hosts.
    pub(crate) group: Arc<str>,
    /// Best preference first.
    pub(crate) hosts: Arc<[MxHost]>,
    /// The DNS proves that these are the domain's hosts.
    pub(crate) secure: bool,
    /// The domain's MTA-STS policy.
    pub(crate) policy: Option<Arc<StsPolicy>>,
    /// Why a policy that the domain announces could not be had.
    pub(crate) unfetched: Option<Arc<StsError>>,
}

/// What a route wants to know beside the hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Wanted {
    /// Proofs for DANE.
    pub(crate) dane: bool,
    /// The MTA-STS policy.
    pub(crate) sts: bool,
}

/// Domain, and with what.
type Key = (Arc<str>, Wanted);

/// The memory.
pub(crate) struct Exchangers {
    net: Net,
    hostname: String,
    validating: Option<Resolver>,
    policies: Arc<Policies>,
    known: Mutex<HashMap<Key, (i64, Exchange)>>,
}

impl Exchangers {
    pub(crate) fn new(net: Net, hostname: String, validating: Option<Resolver>, policies: Arc<Policies>) -> Self {
        Self { net, hostname, validating, policies, known: Mutex::default() }
    }

    /// What is remembered of a domain.
    pub(crate) fn known(&self, domain: &Arc<str>, wanted: Wanted) -> Option<Exchange> {
        let now_ms = self.net.clock.now_ms();
        let known = self.known.lock();
        known.get(&(domain.clone(), wanted)).filter(|(until, _)| *until > now_ms).map(|(_, exchange)| exchange.clone())
    }

    /// What was found last, whatever was wanted of it, if it held at this time.
    pub(crate) fn all_known(&self, domain: &Arc<str>, at_ms: i64) -> Vec<Exchange> {
        let known = self.known.lock();
        let wanted = [(false, false), (true, false), (false, true), (true, true)];
        let found = wanted.into_iter().filter_map(|(dane, sts)| known.get(&(domain.clone(), Wanted { dane, sts })));
        found.filter(|(until, _)| *until > at_ms).map(|(_, exchange)| exchange.clone()).collect()
    }

    /// Asks the DNS, and the domain's policy host where there is one.
    pub(crate) async fn find(&self, domain: &Arc<str>, wanted: Wanted) -> Result<Exchange, Failure> {
        if let Some(exchange) = self.known(domain, wanted) {
            return Ok(exchange);
        }
        let policy = async {
            match wanted.sts {
                true => self.policies.find(domain).await,
                false => None,
            }
        };
        let ((answer, secure), policy) = tokio::join!(self.hosts(domain, wanted), policy);
        let answer = answer?;
        let hosts = self.without_ourselves(answer.hosts)?;
        let policy = policy.filter(|policy| policy.mode != StsMode::None).map(Arc::new);
        let group = group_of(&hosts, domain, secure, policy.as_deref());
        let unfetched = match policy {
            None if wanted.sts => self.policies.failure(domain).map(Arc::new),
            _ => None,
        };
        let exchange = Exchange { group, hosts: hosts.into(), secure, policy, unfetched };
        let until = self.net.clock.now_ms() + (answer.ttl.as_millis() as i64).clamp(LEAST_MS, MOST_MS);
        let mut known = self.known.lock();
        if known.len() >= DOMAINS {
            known.clear();
        }
        known.insert((domain.clone(), wanted), (until, exchange.clone()));
        Ok(exchange)
    }

    async fn hosts(&self, domain: &str, wanted: Wanted) -> (Result<MailHosts, Failure>, bool) {
        match (&self.validating, wanted.dane) {
            (Some(validating), true) => net::dane::mail_hosts(validating, domain).await,
            (None, true) => {
                let reason = "the route wants DANE, and there is no resolver that validates".into();
                (Err(Failure::DnsUnavailable { name: domain.to_owned(), reason }), false)
            }
            (_, false) => (self.net.resolver.mail_hosts(domain).await, false),
        }
    }

    /// What is pinned for one host of an exchange.
    pub(crate) async fn pins(&self, exchange: &Exchange, host: &str, port: u16, domain: &str) -> HostPins {
        match &self.validating {
            Some(validating) if exchange.secure => {
                net::dane::host_pins(validating, host, port, &[host.to_owned(), domain.to_owned()]).await
            }
            _ => HostPins::None,
        }
    }

    /// The addresses of one host of an exchange, validated if the host is.
    pub(crate) async fn addresses(&self, exchange: &Exchange, host: &str) -> Result<Vec<IpAddr>, Failure> {
        match &self.validating {
            Some(validating) if exchange.secure => validating.addresses(host).await,
            _ => self.net.resolver.addresses(host).await,
        }
    }

    /// RFC 5321 §5.1: where we are among the hosts, only better ones than ourselves may be tried.
    fn without_ourselves(&self, mut hosts: Vec<MxHost>) -> Result<Vec<MxHost>, Failure> {
        let our_preference =
            hosts.iter().filter(|mx| mx.host.eq_ignore_ascii_case(&self.hostname)).map(|mx| mx.preference).min();
        if let Some(ours) = our_preference {
            hosts.retain(|mx| mx.preference < ours);
        }
        if hosts.is_empty() { Err(Failure::MxLoop { host: self.hostname.clone() }) } else { Ok(hosts) }
    }
}

/// The hosts' names. A domain whose transport is under a policy is alone with it: a connection that was made under another
/// domain's policy, or under none, says nothing about this one's (RFC 8461 §5, RFC 7672 §2.2.1).
fn group_of(hosts: &[MxHost], domain: &str, secure: bool, policy: Option<&StsPolicy>) -> Arc<str> {
    let mut names: Vec<(u16, &str)> = hosts.iter().map(|mx| (mx.preference, mx.host.as_str())).collect();
    names.sort_unstable();
    let mut text = names.iter().map(|(_, host)| *host).collect::<Vec<_>>().join(",");
    if text.len() > NAME {
        let hash = blake3::hash(text.as_bytes()).to_hex();
        text = names.first().map_or(String::new(), |(_, host)| (*host).to_owned());
        let _ = write!(text, ",…{}", &hash[..8]);
    }
    if secure || policy.is_some() {
        let _ = write!(text, " for {domain}");
    }
    if secure {
        text.push_str(" (signed)");
    }
    if let Some(policy) = policy {
        let mode = if policy.mode == StsMode::Enforce { "enforce" } else { "testing" };
        let _ = write!(text, " (MTA-STS {mode})");
    }
    text.into()
}

/// The order in which hosts are tried: by preference, at random among equals (RFC 5321 §5.1).
pub(crate) fn order(hosts: &[MxHost]) -> Vec<&MxHost> {
    let mut ordered: Vec<(u16, u32, &MxHost)> = hosts.iter().map(|mx| (mx.preference, rand::random(), mx)).collect();
    ordered.sort_by_key(|(preference, random, _)| (*preference, *random));
    ordered.into_iter().map(|(_, _, mx)| mx).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mx(preference: u16, host: &str) -> MxHost {
        MxHost { preference, host: host.into() }
    }

    #[test]
    fn domains_with_the_same_hosts_are_one_destination() {
        let one = [mx(10, "a.example"), mx(20, "b.example")];
        let other = [mx(20, "b.example"), mx(10, "a.example")];
        let group = |hosts: &[MxHost]| group_of(hosts, "x.example", false, None);
        assert_eq!(group(&one), group(&other));
        assert_ne!(group(&one), group(&one[..1]));
    }

    #[test]
    fn a_policy_is_not_shared_with_domains_of_the_same_hosts() {
        let hosts = [mx(10, "a.example")];
        let policy = StsPolicy { mode: StsMode::Enforce, mx: vec!["a.example".into()], max_age: 86_400 };
        let of = |domain, secure, policy| group_of(&hosts, domain, secure, policy);
        assert_ne!(of("x.example", false, Some(&policy)), of("y.example", false, Some(&policy)));
        assert_ne!(of("x.example", false, Some(&policy)), of("x.example", false, None));
        assert_ne!(of("x.example", true, None), of("y.example", true, None));
    }

    #[test]
    fn preference_comes_before_chance() {
        let hosts = [mx(20, "c"), mx(10, "a"), mx(10, "b")];
        let mut firsts = std::collections::HashSet::new();
        for _ in 0..200 {
            let ordered = order(&hosts);
            assert_eq!(ordered[2].host, "c");
            firsts.insert(ordered[0].host.clone());
        }
        assert_eq!(firsts.len(), 2, "equal preferences take turns");
    }
}
