//! Blocklists, usual DKIM selectors and hosts of parked domains: knowledge as data for the audit of a domain.
//!
//! Only what the lists are and what their answers mean; asking them, and whether to believe them, is the audit's.

use std::net::Ipv4Addr;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::embedded;

/// What a list is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListFor {
    /// IP addresses.
    Ip,
    /// Domain names.
    Domain,
}

/// How many receivers refuse mail because of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// Many.
    Major,
    /// Few.
    Minor,
}

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListingKind {
    /// Misbehaviour.
    #[default]
    Listed,
    /// The network does not want mail sent from there; nobody is accused.
    Policy,
    /// Worth knowing only.
    Minor,
}

/// What a range of answers means.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Codes {
    /// First last octet, or the bit of a mask.
    pub from: u8,
    /// Last one; the same if missing.
    pub to: Option<u8>,
    /// Name of the part of the list.
    pub name: Option<String>,
    /// What it means, a fragment.
    pub means: String,
    /// How much it says.
    #[serde(default)]
    pub kind: ListingKind,
}

/// An answer that says that the question was not answered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefusedCode {
    /// The address answered.
    pub code: Ipv4Addr,
    /// Why, a fragment.
    pub means: String,
}

/// One blocklist.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blocklist {
    /// Short name.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Zone that is asked.
    pub zone: String,
    /// What it lists.
    #[serde(rename = "for")]
    pub of: ListFor,
    /// Who believes it.
    pub weight: Weight,
    /// The same in words, one sentence without its full stop.
    pub used: String,
    /// Where removal is asked for; empty if nowhere.
    pub url: String,
    /// A name that is always listed (lists of domains; for addresses it is 127.0.0.2, RFC 5782 §5).
    pub test_listed: Option<String>,
    /// A name that is never listed (for addresses it is 127.0.0.1).
    pub test_clean: Option<String>,
    /// Third octet of answers.
    #[serde(default)]
    pub third: u8,
    /// The last octet is a sum of bits.
    #[serde(default)]
    pub mask: bool,
    /// What answers mean.
    pub codes: Vec<Codes>,
    /// Answers of this list that are no listings.
    #[serde(default)]
    pub refused: Vec<RefusedCode>,
    /// Month of its end: it is not asked any more.
    pub retired: Option<String>,
    /// About its end.
    #[serde(default)]
    pub note: String,
}

/// What one answer of a list says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListAnswer {
    /// It is on the list: name of the part, what it means, how much it says.
    Listed(String, String, ListingKind),
    /// The list did not answer the question, and why.
    Refused(String),
    /// No answer a list gives: outside of 127.0.0.0/8, or a code it does not have.
    Nonsense,
}

impl Blocklist {
    /// What an address in the answer means.
    pub fn read(&self, answer: Ipv4Addr) -> ListAnswer {
        let refused = self.refused.iter().chain(&FILE.refused).find(|refused| refused.code == answer);
        if let Some(refused) = refused {
            return ListAnswer::Refused(refused.means.clone());
        }
        let [first, second, third, last] = answer.octets();
        if (first, second) == (127, 255) {
            return ListAnswer::Refused("the question was not answered".into());
        }
        if (first, second, third) != (127, 0, self.third) {
            return ListAnswer::Nonsense;
        }
        let fits = |codes: &&Codes| match self.mask {
            true => last & codes.from != 0,
            false => (codes.from..=codes.to.unwrap_or(codes.from)).contains(&last),
        };
        match self.codes.iter().find(fits) {
            Some(codes) => {
                let name = codes.name.clone().unwrap_or_else(|| self.name.clone());
                ListAnswer::Listed(name, codes.means.clone(), codes.kind)
            }
            None => ListAnswer::Nonsense,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListFile {
    #[expect(dead_code, reason = "for readers of the file")]
    checked: String,
    list: Vec<Blocklist>,
    refused: Vec<RefusedCode>,
    parking: Parking,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parking {
    hosts: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SelectorFile {
    #[expect(dead_code, reason = "for readers of the file")]
    checked: String,
    common: Vec<String>,
}

static FILE: LazyLock<ListFile> = LazyLock::new(|| embedded::data!("blocklists"));
static SELECTORS: LazyLock<SelectorFile> = LazyLock::new(|| embedded::data!("dkim_selectors"));

/// All lists, those that were closed too.
pub fn blocklists() -> &'static [Blocklist] {
    &FILE.list
}

/// Selectors that are worth a try for any domain.
pub fn common_selectors() -> &'static [String] {
    &SELECTORS.common
}

/// Whether a host belongs to a service for parked domains.
pub fn is_parking_host(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let ends =
        |end: &String| host.strip_suffix(end.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    FILE.parking.hosts.iter().any(ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(id: &str) -> &'static Blocklist {
        blocklists().iter().find(|list| list.id == id).unwrap()
    }

    #[test]
    fn an_answer_is_a_listing_a_refusal_or_nonsense() {
        let zen = list("spamhaus-zen");
        let read = |list: &Blocklist, text: &str| list.read(text.parse().unwrap());
        assert!(
            matches!(read(zen, "127.0.0.4"), ListAnswer::Listed(name, _, ListingKind::Listed) if name.ends_with("XBL"))
        );
        assert!(matches!(read(zen, "127.0.0.10"), ListAnswer::Listed(_, _, ListingKind::Policy)));
        for code in ["127.255.255.252", "127.255.255.254", "127.255.255.255", "127.255.1.1"] {
            assert!(matches!(read(zen, code), ListAnswer::Refused(_)), "{code}");
        }
        for code in ["127.0.0.1", "127.0.0.99", "127.0.1.2", "192.0.2.1"] {
            assert_eq!(read(zen, code), ListAnswer::Nonsense, "{code}");
        }
        assert!(matches!(read(list("surbl"), "127.0.0.1"), ListAnswer::Refused(_)));
        assert!(matches!(read(list("surbl"), "127.0.0.72"), ListAnswer::Listed(_, means, _) if means == "phishing"));
    }

    #[test]
    fn a_list_that_is_asked_has_codes_a_page_and_test_points() {
        for list in blocklists().iter().filter(|list| list.retired.is_none()) {
            assert!(!list.codes.is_empty() && list.url.starts_with("https://"), "{}", list.id);
            assert_eq!(list.of == ListFor::Domain, list.test_listed.is_some() && list.test_clean.is_some());
        }
        assert!(common_selectors().len() > 20);
    }

    #[test]
    fn a_parking_host_is_known_by_whole_labels() {
        assert!(is_parking_host("ns1.sedoparking.com.") && is_parking_host("bodis.com"));
        assert!(!is_parking_host("notbodis.com") && !is_parking_host("ns1.example.com"));
    }
}
