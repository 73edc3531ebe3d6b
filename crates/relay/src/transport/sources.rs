//! From which of a route's addresses a destination is connected to.
//!
//! The same destination always gets the same address while it is there, as receivers that keep a reputation like it; an
//! address that is not this machine's is passed over, and only its destinations move.

use std::net::{IpAddr, UdpSocket};

use net::client::Source;
use serde::{Deserialize, Serialize};

/// Most addresses of a pool.
pub(crate) const MAX_SOURCES: usize = 256;

/// One address of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceRecord {
    /// Local address to connect from.
    pub address: IpAddr,
    /// Name in EHLO from there, by default the route's: the one that the address's PTR record has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helo: Option<String>,
}

/// At most one address of each IP version. Empty only if none is this machine's.
pub(crate) fn choose(pool: &[SourceRecord], destination: &str, helo: &str) -> Vec<Source> {
    choose_among(pool, destination, helo, is_ours)
}

fn choose_among(pool: &[SourceRecord], destination: &str, helo: &str, ours: impl Fn(IpAddr) -> bool) -> Vec<Source> {
    let best = |four: bool| {
        let mut ranked: Vec<(u64, &SourceRecord)> = pool
            .iter()
            .filter(|source| source.address.is_ipv4() == four)
            .map(|source| (rank(destination, source.address), source))
            .collect();
        ranked.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
        ranked.into_iter().map(|(_, source)| source).find(|source| ours(source.address))
    };
    let chosen = [best(false), best(true)].into_iter().flatten();
    chosen
        .map(|source| Source { address: source.address, helo: source.helo.clone().unwrap_or_else(|| helo.to_owned()) })
        .collect()
}

/// Highest wins: of a pool that changes, only the destinations of what came or went move.
fn rank(destination: &str, address: IpAddr) -> u64 {
    let mut hash = blake3::Hasher::new();
    hash.update(destination.as_bytes());
    hash.update(address.to_string().as_bytes());
    let octets = *hash.finalize().as_bytes();
    u64::from_le_bytes(std::array::from_fn(|at| octets[at]))
}

/// Whether an address is one of this machine's now.
pub(crate) fn is_ours(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(addresses: &[&str]) -> Vec<SourceRecord> {
        addresses.iter().map(|text| SourceRecord { address: text.parse().unwrap(), helo: None }).collect()
    }

    fn four(pool: &[SourceRecord], destination: &str, ours: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        choose_among(pool, destination, "h", ours).into_iter().map(|source| source.address).find(IpAddr::is_ipv4)
    }

    #[test]
    fn a_destination_keeps_its_address_and_only_those_of_a_lost_one_move() {
        let pool = pool(&["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"]);
        let lost: IpAddr = "192.0.2.2".parse().unwrap();
        let mut used = std::collections::HashMap::<IpAddr, u32>::new();
        for n in 0..300 {
            let destination = format!("out/mx{n}.example");
            let before = four(&pool, &destination, |_| true).unwrap();
            let after = four(&pool, &destination, |address| address != lost).unwrap();
            assert_eq!(four(&pool, &destination, |_| true), Some(before));
            assert!(after != lost && (before == lost || before == after), "{destination}");
            *used.entry(before).or_default() += 1;
        }
        assert!(used.len() == 3 && used.values().all(|count| *count > 50), "{used:?}");
    }

    #[test]
    fn each_ip_version_has_its_own_and_none_is_invented() {
        let pool = pool(&["192.0.2.1", "2001:db8::1"]);
        assert_eq!(choose_among(&pool, "d", "h", |_| true).len(), 2);
        assert_eq!(choose_among(&pool, "d", "h", |address| address.is_ipv6()).len(), 1);
        assert_eq!(choose_among(&pool, "d", "h", |_| false), []);
        assert!(is_ours("127.0.0.1".parse().unwrap()) && !is_ours("192.0.2.1".parse().unwrap()));
    }
}
