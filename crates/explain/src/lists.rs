//! Blocklists, usual DKIM selectors and hosts of parked domains: knowledge as data for the audit of a domain. Lists of one's
//! own come from a file of the same form.
//!
//! Only what the lists are and what their answers mean; asking them, and whether to believe them, is the audit's.

use std::net::Ipv4Addr;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::embedded;

/// What a list is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListFor {
    /// IP addresses.
    Ip,
    /// Domain names.
    Domain,
}

/// How many receivers refuse mail because of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// Many.
    Major,
    /// Few.
    Minor,
}

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
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

/// How one gets off a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Removal {
    /// By asking, on its page.
    #[default]
    Request,
    /// By itself, some time after the last trouble; asking helps little or not at all.
    Expires,
    /// Only the operator of the network can ask.
    Provider,
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
    /// How one gets off it.
    #[serde(default)]
    pub removal: Removal,
    /// Hours after the last trouble until an entry ends by itself.
    pub ends_h: Option<u32>,
    /// What its operator wants to read in a request; a sentence without its full stop.
    #[serde(default)]
    pub evidence: String,
    /// The zone as it is shown, where the one that is asked holds a key.
    pub shown: Option<String>,
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
    /// The zone, without a key in it.
    pub fn shown_zone(&self) -> &str {
        self.shown.as_deref().unwrap_or(&self.zone)
    }

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

/// A file of one's own.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct OwnFile {
    /// Ids of built-in lists that are not asked.
    without: Vec<String>,
    list: Vec<Blocklist>,
}

/// Most lists of a file.
const MOST_OWN: usize = 100;

/// The built-in lists with those of a file: lists of the same id are replaced, those named in `without` are left out. `Err` says
/// what is wrong with the file.
pub fn with_own(text: &str) -> Result<Vec<Blocklist>, String> {
    let file: OwnFile = toml::from_str(text).map_err(|error| error.to_string())?;
    if file.list.len() > MOST_OWN {
        return Err(format!("at most {MOST_OWN} lists"));
    }
    let mut all = blocklists().to_vec();
    if let Some(unknown) = file.without.iter().find(|id| !all.iter().any(|list| list.id == **id)) {
        return Err(format!("`without` names {unknown}, which is no built-in list"));
    }
    all.retain(|list| !file.without.contains(&list.id));
    for (at, list) in file.list.iter().enumerate() {
        check(list)?;
        if file.list[..at].iter().any(|other| other.id == list.id) {
            return Err(format!("list {}: there are two of this id", list.id));
        }
        all.retain(|other| other.id != list.id);
        all.push(list.clone());
    }
    Ok(all)
}

fn check(list: &Blocklist) -> Result<(), String> {
    let id = |id: &str| {
        !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    };
    let wrong = |what: &str| Err(format!("list {}: {what}", list.id.escape_debug()));
    if !id(&list.id) {
        return wrong("an id has 1 to 64 of a-z, 0-9, dot, dash, underscore");
    }
    if !proto::policy::dns::is_possible(&list.zone) || !list.zone.contains('.') || list.zone.len() > 150 {
        return wrong("`zone` is no domain name");
    }
    if list.retired.is_none() && list.codes.is_empty() {
        return wrong("`codes` say what its answers mean: at least one is needed");
    }
    if list.of == ListFor::Domain && (list.test_listed.is_none() || list.test_clean.is_none()) {
        return wrong("a list of domains needs `test_listed` and `test_clean`, or it could never be believed");
    }
    if !list.url.is_empty() && !list.url.starts_with("https://") && !list.url.starts_with("http://") {
        return wrong("`url` is no address of a page");
    }
    let texts = [&list.name, &list.used, &list.evidence, &list.note];
    if list.name.is_empty() || texts.iter().any(|text| text.len() > 500 || text.chars().any(char::is_control)) {
        return wrong("names and texts have at most 500 octets, without control characters");
    }
    Ok(())
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

    #[test]
    fn lists_of_ones_own_are_added_replace_built_in_ones_and_leave_others_out() {
        let own = "without = [\"uceprotect-3\"]\n[[list]]\nid = \"ours\"\nname = \"Our list\"\nzone = \"bl.example.net\"\nfor = \"ip\"\n\
                   weight = \"major\"\nused = \"Used by us\"\nurl = \"\"\ncodes = [{ from = 2, means = \"listed\" }]\n\
                   [[list]]\nid = \"spamhaus-zen\"\nname = \"Spamhaus ZEN\"\nzone = \"secret.zen.dq.spamhaus.net\"\nshown = \"zen.dq.spamhaus.net\"\n\
                   for = \"ip\"\nweight = \"major\"\nused = \"x\"\nurl = \"https://check.spamhaus.org/\"\ncodes = [{ from = 2, means = \"spam\" }]\n";
        let all = with_own(own).unwrap();
        let find = |id: &str| all.iter().find(|list| list.id == id);
        assert!(find("ours").is_some() && find("uceprotect-3").is_none());
        assert_eq!(find("spamhaus-zen").unwrap().shown_zone(), "zen.dq.spamhaus.net");
        assert_eq!(all.len(), blocklists().len());
        for (wrong, says) in [
            ("without = [\"nope\"]", "no built-in list"),
            (
                "[[list]]\nid = \"a\"\nname = \"A\"\nzone = \"bl.example.net\"\nfor = \"domain\"\nweight = \"minor\"\nused = \"\"\nurl = \"\"\ncodes = [{ from = 2, means = \"x\" }]",
                "test_listed",
            ),
            (
                "[[list]]\nid = \"a\"\nname = \"A\"\nzone = \"bl\"\nfor = \"ip\"\nweight = \"minor\"\nused = \"\"\nurl = \"\"\ncodes = [{ from = 2, means = \"x\" }]",
                "no domain name",
            ),
            ("lists = 3", "unknown field"),
        ] {
            let error = with_own(wrong).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
