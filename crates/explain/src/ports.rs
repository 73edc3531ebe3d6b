//! Where outbound mail ports are blocked: data for the words of a probe and for the manual.
//!
//! The data is in `data/ports.toml`. What is blocked here and now is found by the probe; this says why and whom to ask.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::embedded;

/// A cloud, hoster, internet provider or kind of network, and what it does to outbound mail ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortBlock {
    /// Short name.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// `cloud`, `hoster`, `isp` or `network`.
    pub kind: String,
    /// Ends of reverse DNS names, and words of the name or number of the network, in lower case.
    #[serde(default)]
    pub hints: Vec<String>,
    /// Ports that are blocked at first.
    #[serde(default)]
    pub blocked: Vec<u16>,
    /// Ports that are open.
    #[serde(default)]
    pub open: Vec<u16>,
    /// What is blocked for whom, full sentences.
    pub how: String,
    /// Date from which it is so, where known.
    #[serde(default)]
    pub since: String,
    /// What ends it, where known.
    #[serde(default)]
    pub until: String,
    /// How to have it opened.
    #[serde(default)]
    pub ask: String,
    /// The form or page for that.
    #[serde(default)]
    pub url: String,
    /// What works in place of it.
    #[serde(default)]
    pub instead: String,
    /// Date of the last check.
    pub checked: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    place: Vec<PortBlock>,
}

static PLACES: LazyLock<Vec<PortBlock>> = LazyLock::new(|| {
    let file: File = embedded::data!("ports");
    file.place
});

/// Every place known, the clouds first.
pub fn port_blocks() -> &'static [PortBlock] {
    &PLACES
}

/// The place behind a reverse DNS name of our address, the name of its network, or its number (`AS16509`).
pub fn blocked_ports(network_hint: &str) -> Option<&'static PortBlock> {
    let hint = network_hint.trim().trim_end_matches('.').to_ascii_lowercase();
    let fitting = PLACES.iter().flat_map(|place| place.hints.iter().map(move |end| (end, place)));
    let fits = |end: &str| match end {
        number if number.starts_with("as") && number[2..].bytes().all(|octet| octet.is_ascii_digit()) => {
            hint.split(|character: char| !character.is_ascii_alphanumeric()).any(|word| word == number)
        }
        start if start.ends_with('.') => hint.starts_with(start) || hint.contains(&format!(".{start}")),
        name if name.contains('.') => hint == name || hint.ends_with(&format!(".{name}")),
        word => hint.contains(word),
    };
    fitting.filter(|(end, _)| fits(end)).max_by_key(|(end, _)| end.len()).map(|(_, place)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_known_by_reverse_name_network_name_and_number() {
        let id = |hint| blocked_ports(hint).map(|place| place.id.as_str());
        assert_eq!(id("ec2-192-0-2-4.eu-west-1.compute.amazonaws.com."), Some("aws"));
        assert_eq!(id("4.2.0.192.bc.googleusercontent.com"), Some("google-cloud"));
        assert_eq!(id("static.4.2.0.192.clients.your-server.de"), Some("hetzner"));
        assert_eq!(id("AS14061 DigitalOcean, LLC"), Some("digitalocean"));
        assert_eq!(id("p2e3d4.dip0.t-ipconnect.de"), Some("home"));
        assert_eq!(id("host.dynamic.example.net"), Some("home"));
        assert_eq!(id("mail.example.com"), None);
        assert_eq!(id(""), None);
    }

    #[test]
    fn every_place_says_what_is_so_what_to_do_and_when_it_was_checked() {
        for place in port_blocks() {
            assert!(place.how.ends_with('.') && place.instead.ends_with('.'), "{}", place.id);
            assert_eq!(place.checked.len(), 10, "{}", place.id);
            assert!(place.open.iter().all(|port| !place.blocked.contains(port)), "{}", place.id);
            assert!(["cloud", "hoster", "isp", "network"].contains(&place.kind.as_str()), "{}", place.id);
        }
        // Google Cloud blocks port 25 alone today; guides that also name 465 are out of date.
        assert_eq!(blocked_ports("googleusercontent.com").map(|place| place.blocked.clone()), Some(vec![25]));
    }
}
