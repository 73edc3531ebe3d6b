//! XCLIENT: a trusted gateway says for whom it speaks. Only the address and port are used.
//!
//! LOGIN is ignored: authentication is proved to us or does not exist.

use std::net::{IpAddr, SocketAddr};

use super::Peer;

/// The peer as the attributes describe it; `None` if the address is not one.
pub(super) fn apply(peer: &Peer, attributes: &[(String, String)]) -> Option<Peer> {
    let (mut address, mut port) = (peer.address.ip(), peer.address.port());
    for (name, value) in attributes {
        let unknown = value.is_empty() || value.starts_with('[');
        match name.to_ascii_uppercase().as_str() {
            "ADDR" if !unknown => {
                let bare =
                    value.get(..5).filter(|tag| tag.eq_ignore_ascii_case("ipv6:")).map_or(&**value, |_| &value[5..]);
                address = bare.parse::<IpAddr>().ok()?.to_canonical();
            }
            "PORT" if !unknown => port = value.parse().ok()?,
            _ => {}
        }
    }
    let via = Some(peer.via.unwrap_or(peer.address));
    Some(Peer { address: SocketAddr::new(address, port), via, ..peer.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::ListenMode;

    #[test]
    fn only_address_and_port_are_taken_and_the_gateway_is_remembered() {
        let peer = Peer {
            address: "127.0.0.1:4000".parse().unwrap(),
            local: "127.0.0.1:25".parse().unwrap(),
            via: None,
            mode: ListenMode::Plain,
            tls: None,
        };
        let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
            list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let told =
            apply(&peer, &pairs(&[("NAME", "x.example"), ("addr", "192.0.2.9"), ("PORT", "99"), ("LOGIN", "root")]));
        assert_eq!(
            told,
            Some(Peer { address: "192.0.2.9:99".parse().unwrap(), via: Some(peer.address), ..peer.clone() })
        );
        let six = apply(&peer, &pairs(&[("ADDR", "IPv6:2001:db8::7")])).unwrap();
        assert_eq!(six.address, "[2001:db8::7]:4000".parse().unwrap());
        assert_eq!(apply(&peer, &pairs(&[("ADDR", "[UNAVAILABLE]")])).unwrap().address, peer.address);
        assert_eq!(apply(&peer, &pairs(&[("ADDR", "mail.example")])), None);
        assert_eq!(apply(&peer, &pairs(&[("PORT", "70000")])), None);
    }
}
