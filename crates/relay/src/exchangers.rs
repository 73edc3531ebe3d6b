//! Which hosts take a domain's mail, remembered for as long as the answer is good, and which domains share them.
//!
//! Domains with the same mail exchangers are one destination: their connections and limits are shared.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use net::Net;
use net::resolver::MxHost;
use parking_lot::Mutex;
use proto::transcript::Failure;

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
}

/// The memory.
pub(crate) struct Exchangers {
    net: Net,
    hostname: String,
    known: Mutex<HashMap<Arc<str>, (i64, Exchange)>>,
}

impl Exchangers {
    pub(crate) fn new(net: Net, hostname: String) -> Self {
        Self { net, hostname, known: Mutex::default() }
    }

    /// What is remembered of a domain.
    pub(crate) fn known(&self, domain: &str) -> Option<Exchange> {
        let now_ms = self.net.clock.now_ms();
        let known = self.known.lock();
        known.get(domain).filter(|(until, _)| *until > now_ms).map(|(_, exchange)| exchange.clone())
    }

    /// Asks the DNS.
    pub(crate) async fn find(&self, domain: &Arc<str>) -> Result<Exchange, Failure> {
        if let Some(exchange) = self.known(domain) {
            return Ok(exchange);
        }
        let answer = self.net.resolver.mail_hosts(domain).await?;
        let hosts = self.without_ourselves(answer.hosts)?;
        let exchange = Exchange { group: group_of(&hosts), hosts: hosts.into() };
        let until = self.net.clock.now_ms() + (answer.ttl.as_millis() as i64).clamp(LEAST_MS, MOST_MS);
        let mut known = self.known.lock();
        if known.len() >= DOMAINS {
            known.clear();
        }
        known.insert(domain.clone(), (until, exchange.clone()));
        Ok(exchange)
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

fn group_of(hosts: &[MxHost]) -> Arc<str> {
    let mut names: Vec<(u16, &str)> = hosts.iter().map(|mx| (mx.preference, mx.host.as_str())).collect();
    names.sort_unstable();
    let mut text = names.iter().map(|(_, host)| *host).collect::<Vec<_>>().join(",");
    if text.len() > NAME {
        let hash = blake3::hash(text.as_bytes()).to_hex();
        text = names.first().map_or(String::new(), |(_, host)| (*host).to_owned());
        let _ = write!(text, ",…{}", &hash[..8]);
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
        assert_eq!(group_of(&one), group_of(&other));
        assert_ne!(group_of(&one), group_of(&one[..1]));
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
