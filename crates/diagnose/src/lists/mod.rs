//! Blocklists (RFC 5782), asked with distrust: a list counts only after its test points answered as they should.
//!
//! Dead lists answer for everything or for nothing, and refusals look like listings to those who do not read the code.

mod report;
mod trust;

use std::net::{IpAddr, Ipv4Addr};

use explain::lists::{Blocklist, ListAnswer, ListFor, ListingKind};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use net::lookup::{Data, Kind};
use net::{Answer, Outcome, Resolver};
use proto::policy::dmarc::organizational_by_list;
use proto::policy::dns::reversed;
use proto::smtp::reply::escape;
use tokio::sync::OnceCell;

pub use report::{ListRow, ListState, ListingRow, ListsReport, Rank, SCHEMA, SubjectRow};
pub use trust::Trust;

/// Lists that are asked at the same time.
const AT_ONCE: usize = 16;
/// Most answers of one list about one subject that are read.
const MAX_CODES: usize = 8;

/// Who is looked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// An address.
    Ip(IpAddr),
    /// A domain, lower case, in its ASCII form.
    Domain(String),
}

impl Subject {
    /// An address or a domain; `None` if the text is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_end_matches('.');
        if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Some(Self::Ip(ip.to_canonical()));
        }
        let domain = proto::address::parse_domain(text).ok()?.to_ascii_lowercase();
        (!domain.starts_with('[') && domain.contains('.')).then_some(Self::Domain(domain))
    }

    /// What a list is asked about.
    pub fn of(&self) -> ListFor {
        match self {
            Self::Ip(_) => ListFor::Ip,
            Self::Domain(_) => ListFor::Domain,
        }
    }

    /// Names in a list's zone, the more exact first: of a domain also the registered one above it.
    fn names(&self, zone: &str) -> Vec<String> {
        match self {
            Self::Ip(ip) => vec![format!("{}.{zone}", reversed(*ip))],
            Self::Domain(domain) => {
                let above = organizational_by_list(domain);
                let mut names = vec![format!("{domain}.{zone}")];
                if above != *domain {
                    names.push(format!("{above}.{zone}"));
                }
                names
            }
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Domain(domain) => domain.fmt(f),
        }
    }
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The part of the list.
    pub part: String,
    /// What it means, a fragment.
    pub meaning: String,
    /// How much it says.
    pub kind: ListingKind,
    /// The address answered.
    pub code: Ipv4Addr,
}

/// What a list says about a subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// Entries; empty: it is not listed, if nothing below says otherwise.
    pub listings: Vec<Listing>,
    /// The question was refused: code and meaning.
    pub refused: Option<(Ipv4Addr, String)>,
    /// Answers that mean nothing.
    pub nonsense: Vec<Ipv4Addr>,
    /// There was no answer: why.
    pub unknown: Option<String>,
    /// The list's own words about the entry (TXT), escaped, at most 300 octets.
    pub reason: Option<String>,
}

/// One list, and what it says about each subject it is for.
#[derive(Debug, Clone)]
pub struct Asked<'l> {
    /// The list.
    pub list: &'l Blocklist,
    /// Whether it is to be believed.
    pub trust: Trust,
    /// Nothing unless it is.
    pub said: Vec<(Subject, Said)>,
}

struct Entry {
    list: Blocklist,
    trust: OnceCell<Trust>,
}

/// Lists and what became of their test points, which are asked once.
pub struct Lists {
    resolver: Resolver,
    entries: Vec<Entry>,
    /// A label nobody lists.
    random: String,
}

impl std::fmt::Debug for Lists {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lists").field("lists", &self.entries.len()).finish_non_exhaustive()
    }
}

impl Lists {
    /// Asks these lists. `random`: a label that nobody lists, not secret, only unlikely.
    pub fn new(resolver: Resolver, lists: Vec<Blocklist>, random: String) -> Self {
        let entries = lists.into_iter().map(|list| Entry { list, trust: OnceCell::new() }).collect();
        Self { resolver, entries, random }
    }

    /// All lists, closed ones too.
    pub fn table(&self) -> impl Iterator<Item = &Blocklist> {
        self.entries.iter().map(|entry| &entry.list)
    }

    /// Asks every list that is still there about the subjects it is for.
    pub async fn ask(&self, subjects: &[Subject]) -> Vec<Asked<'_>> {
        let open = self.entries.iter().filter(|entry| entry.list.retired.is_none());
        let of_list = open.filter(|entry| subjects.iter().any(|subject| subject.of() == entry.list.of));
        let asking: Vec<_> = of_list.map(|entry| self.one(entry, subjects)).collect();
        futures_util::stream::iter(asking).buffered(AT_ONCE).collect().await
    }

    async fn one<'l>(&self, entry: &'l Entry, subjects: &[Subject]) -> Asked<'l> {
        let list = &entry.list;
        let trust = entry.trust.get_or_init(|| trust::of(&self.resolver, list, &self.random)).await.clone();
        if !matches!(trust, Trust::Good) {
            return Asked { list, trust, said: Vec::new() };
        }
        let wanted = subjects.iter().filter(|subject| subject.of() == list.of);
        let said = wanted.map(|subject| async move { (subject.clone(), self.about(list, subject).await) });
        Asked { list, trust, said: join_all(said).await }
    }

    async fn about(&self, list: &Blocklist, subject: &Subject) -> Said {
        let mut said = Said::default();
        for name in subject.names(&list.zone) {
            let answer = self.resolver.query(&name, Kind::A).await;
            said.read(list, &answer);
            if !said.listings.is_empty() {
                said.reason = self.reason(&name).await;
                break;
            }
        }
        said
    }

    /// RFC 5782 §2.1: a TXT record may say why.
    async fn reason(&self, name: &str) -> Option<String> {
        let texts = self.resolver.query(name, Kind::Txt).await.texts();
        texts.first().map(|text| escape(text.as_bytes(), 300)).filter(|text| !text.is_empty())
    }
}

impl Said {
    fn read(&mut self, list: &Blocklist, answer: &Answer) {
        if let Outcome::Failed(reason) = &answer.outcome {
            self.unknown.get_or_insert_with(|| reason.clone());
        }
        for code in addresses(answer).take(MAX_CODES) {
            self.code(list, code);
        }
    }

    fn code(&mut self, list: &Blocklist, code: Ipv4Addr) {
        match list.read(code) {
            ListAnswer::Listed(part, meaning, kind) => self.listings.push(Listing { part, meaning, kind, code }),
            ListAnswer::Refused(meaning) => drop(self.refused.get_or_insert((code, meaning))),
            ListAnswer::Nonsense => self.nonsense.push(code),
        }
    }
}

fn addresses(answer: &Answer) -> impl Iterator<Item = Ipv4Addr> {
    answer.records.iter().filter_map(|data| match data {
        Data::A(ip) => Some(*ip),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_an_address_or_a_domain() {
        for (text, shown) in [
            ("192.0.2.9", Some("192.0.2.9")),
            ("[192.0.2.9]", Some("192.0.2.9")),
            ("::ffff:192.0.2.9", Some("192.0.2.9")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("Example.COM.", Some("example.com")),
            ("localhost", None),
            ("not a name", None),
        ] {
            assert_eq!(Subject::parse(text).map(|subject| subject.to_string()).as_deref(), shown, "{text}");
        }
        let names = Subject::parse("news.example.com").unwrap().names("dbl.test");
        assert_eq!(names, ["news.example.com.dbl.test", "example.com.dbl.test"]);
        assert_eq!(Subject::parse("192.0.2.9").unwrap().names("bl.test"), ["9.2.0.192.bl.test"]);
    }
}
