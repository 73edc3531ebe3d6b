//! Address blocks, `192.0.2.0/24` or `2001:db8::/32`: who may speak PROXY, XCLIENT, or submit at all.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// A block of addresses. A single address is a block of full length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    base: IpAddr,
    length: u8,
}

/// Why a text is not a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// The part before the slash is not an IP address.
    #[error("not an IP address")]
    Address,
    /// The part behind the slash is not a number from 0 to 32 (IPv4) or 128 (IPv6).
    #[error("prefix length is not valid")]
    Length,
    /// Bits behind the prefix are set: a typing error more often than not.
    #[error("address has bits behind the prefix; did you mean {0}?")]
    HostBits(Cidr),
}

impl Cidr {
    /// A block; bits behind the prefix are cleared. IPv4-mapped IPv6 becomes IPv4.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let (address, length) = match address {
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) if length >= 96 => (IpAddr::V4(v4), length - 96),
                _ => (address, length),
            },
            IpAddr::V4(_) => (address, length),
        };
        let bits = if address.is_ipv4() { 32 } else { 128 };
        (length <= bits).then(|| Self { base: masked(address, length), length })
    }

    /// The address, if it is just one.
    pub fn single(&self) -> Option<IpAddr> {
        let bits = if self.base.is_ipv4() { 32 } else { 128 };
        (self.length == bits).then_some(self.base)
    }

    /// Whether the address lies in the block. An IPv4-mapped IPv6 address counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.base.is_ipv4() && masked(address, self.length) == self.base
    }
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;
    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, length) = match text.trim().split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text.trim(), None),
        };
        let address: IpAddr = address.parse().map_err(|_| CidrError::Address)?;
        let full = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            Some(digits) if digits.len() <= 3 && digits.bytes().all(|c| c.is_ascii_digit()) => {
                digits.parse().map_err(|_| CidrError::Length)?
            }
            Some(_) => return Err(CidrError::Length),
            None => full,
        };
        let block = Self::new(address, length).ok_or(CidrError::Length)?;
        if block.base != address.to_canonical() {
            return Err(CidrError::HostBits(block));
        }
        Ok(block)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.length)
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;
    fn try_from(text: String) -> Result<Self, CidrError> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> String {
        cidr.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_contains_what_shares_its_prefix() {
        for (block, address, inside) in [
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.0/24", "::ffff:192.0.2.7", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/33", "2001:db8:7fff::1", true),
            ("2001:db8::/33", "2001:db8:8000::1", false),
            ("::ffff:192.0.2.0/120", "192.0.2.9", true),
        ] {
            let cidr: Cidr = block.parse().unwrap();
            assert_eq!(cidr.contains(address.parse().unwrap()), inside, "{block} {address}");
        }
    }

    #[test]
    fn a_text_that_is_not_a_block_is_refused_with_the_reason() {
        assert_eq!("mail.example".parse::<Cidr>(), Err(CidrError::Address));
        assert_eq!("192.0.2.0/33".parse::<Cidr>(), Err(CidrError::Length));
        assert_eq!("192.0.2.0/+8".parse::<Cidr>(), Err(CidrError::Length));
        assert_eq!("192.0.2.0/".parse::<Cidr>(), Err(CidrError::Length));
        assert_eq!("2001:db8::/129".parse::<Cidr>(), Err(CidrError::Length));
        let error = "192.0.2.9/24".parse::<Cidr>().unwrap_err();
        assert_eq!(error.to_string(), "address has bits behind the prefix; did you mean 192.0.2.0/24?");
    }
}
