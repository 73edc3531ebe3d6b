//! Searching: what is compared, and what a message is found by, the same for every engine.

use std::collections::BTreeSet;

use crate::model::*;
use crate::{StoreError, encode};

/// Messages and recipients looked at for one question: some tens of milliseconds.
pub(crate) const LOOK: u64 = 4_000;
/// Events behind the keys that are walked; with more of them the keys are of no use until they were caught up.
pub(crate) const TAIL: i64 = 20_000;
/// Messages one key pattern may have before the walk by age finds some sooner.
pub(crate) const MANY: usize = if cfg!(test) { 20 } else { 10_000 };
/// The same for whether there is more behind a page that is full.
pub(crate) const PEEK: u64 = 1_000;
/// Messages that the database compares at a time, and how many of them cost as much as one that is looked at.
pub(crate) const SCAN: i64 = 2_048;
pub(crate) const SCANNED: u64 = 4;
/// Candidates read from an index at a time.
pub(crate) const CHUNK: i64 = 256;
/// The name in `meta` of the event up to which keys were added.
pub(crate) const PLACE: &str = "sought";

/// The key of an address; what is no address any more has one all the same.
pub(crate) fn folded(address: &str) -> String {
    if address.is_ascii() { address.to_ascii_lowercase() } else { address.to_lowercase() }
}

/// The key of an address's domain.
pub(crate) fn domain_key(folded: &str) -> Option<&str> {
    folded.rfind('@').and_then(|at| folded.get(at..))
}

/// The key of a Message-ID header.
pub(crate) fn header_key(message_id: &str) -> String {
    let bare = message_id.trim().trim_start_matches('<').trim_end_matches('>');
    let hash = blake3::hash(bare.as_bytes());
    let hex = hash.to_hex();
    format!("<{}", hex.as_str().get(..16).unwrap_or_default())
}

/// What a message is found by, besides its recipients: the key of its Message-ID header.
pub(crate) fn details_key(details: Option<&str>) -> Result<Option<String>, StoreError> {
    // Not every message has one, and no other detail is a key.
    match details.filter(|text| text.contains("\"message_id\"")) {
        Some(text) => Ok(encode::read_details(Some(text))?.message_id.as_deref().map(header_key)),
        None => Ok(None),
    }
}

/// Adds the keys of a recipient's address.
pub(crate) fn address_keys(address: &str, message: i64, into: &mut BTreeSet<(String, i64)>) {
    let key = folded(address);
    if let Some(domain) = domain_key(&key) {
        into.insert((domain.to_owned(), message));
    }
    into.insert((key, message));
}

/// Ids in question: from `lowest` on, below `end`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) lowest: i64,
    pub(crate) end: i64,
}

impl Span {
    pub(crate) fn of(query: &SearchQuery, before: Option<MessageId>) -> Self {
        // An id begins with the time it was made.
        let first_at = |ms: i64| ms.saturating_sub(EPOCH_MS).clamp(0, i64::MAX >> 21) << 21;
        let end = query.until_ms.map_or(i64::MAX, first_at);
        Self { lowest: query.since_ms.map_or(0, first_at), end: before.map_or(end, |before| before.0.min(end)) }
    }
    pub(crate) fn has(self, id: i64) -> bool {
        (self.lowest..self.end).contains(&id)
    }
}

/// What names the messages that are asked for, if the keys know it.
pub(crate) enum Wanted {
    Key(String),
    Prefix(String),
}

impl Wanted {
    pub(crate) fn of(query: &SearchQuery) -> Option<Self> {
        match (&query.message_id, &query.recipient) {
            (Some(header), _) => Some(Self::Key(header_key(header))),
            (None, Some(Whom::Address(address))) => Some(Self::Key(folded(address))),
            (None, Some(Whom::Domain(domain))) => Some(Self::Key(format!("@{}", folded(domain)))),
            (None, Some(Whom::Prefix(prefix))) => Some(Self::Prefix(folded(prefix))),
            (None, None) => None,
        }
    }
}

/// The conditions that the database does not compare, in the form in which they are compared.
pub(crate) struct Words {
    from: Option<String>,
    subject: Vec<String>,
    header: Option<String>,
    whom: Option<String>,
}

/// A message's columns that are compared.
pub(crate) struct Compared<'r> {
    pub(crate) sender: &'r str,
    pub(crate) stream: &'r str,
    pub(crate) reverse_path: &'r str,
    pub(crate) details: Option<&'r str>,
}

impl Words {
    pub(crate) fn of(query: &SearchQuery) -> Self {
        let whom = match &query.recipient {
            Some(Whom::Address(text) | Whom::Prefix(text)) => Some(folded(text)),
            Some(Whom::Domain(domain)) => Some(format!("@{}", folded(domain))),
            None => None,
        };
        Self {
            from: query.from.as_ref().map(|from| from.to_lowercase()),
            subject: query.subject.iter().map(|word| word.to_lowercase()).collect(),
            header: query.message_id.as_deref().map(|header| bare(header).to_owned()),
            whom,
        }
    }

    /// Nothing but what a key says.
    pub(crate) fn is_empty(&self) -> bool {
        self.from.is_none() && self.subject.is_empty()
    }

    /// Whether a message meets them, its recipients aside.
    pub(crate) fn message(&self, query: &SearchQuery, row: &Compared<'_>) -> Result<bool, StoreError> {
        let other = |wanted: &Option<String>, is: &str| wanted.as_deref().is_some_and(|wanted| wanted != is);
        if other(&query.sender, row.sender) || other(&query.stream, row.stream) {
            return Ok(false);
        }
        if self.is_empty() && self.header.is_none() {
            return Ok(true);
        }
        let details = encode::read_details(row.details)?;
        if let Some(header) = &self.header
            && details.message_id.as_deref().map(bare) != Some(header)
        {
            return Ok(false);
        }
        if let Some(from) = &self.from
            && !is_from(from, &row.reverse_path.to_lowercase())
            && !details.from.as_ref().is_some_and(|header| is_from(from, &addressed(header).to_lowercase()))
        {
            return Ok(false);
        }
        let subject = details.subject.as_deref().unwrap_or_default();
        Ok(self.subject.is_empty() || has_words(&subject.to_lowercase(), &self.subject))
    }

    /// Whether a recipient is meant.
    pub(crate) fn recipient(&self, query: &SearchQuery, address: &str) -> bool {
        let Some(whom) = &self.whom else { return true };
        let address = folded(address);
        let domain = || domain_key(&address).unwrap_or_default();
        match &query.recipient {
            Some(Whom::Prefix(_)) if whom.starts_with('@') => domain().starts_with(whom.as_str()),
            Some(Whom::Prefix(_)) => address.starts_with(whom.as_str()),
            Some(Whom::Domain(_)) => domain() == whom,
            _ => address == *whom,
        }
    }
}

/// A Message-ID without its brackets.
fn bare(header: &str) -> &str {
    header.trim().trim_start_matches('<').trim_end_matches('>')
}

/// The address in a From header, with its name where somebody asks for a part of it.
fn addressed(header: &str) -> &str {
    header.trim().trim_end_matches('>')
}

/// Whether a sender is meant: all of the address, its domain, or a part of it.
fn is_from(wanted: &str, address: &str) -> bool {
    match wanted.find('@') {
        Some(0) => address.ends_with(wanted),
        Some(_) => address.strip_suffix(wanted).is_some_and(|before| before.is_empty() || before.ends_with(['<', ' '])),
        None => address.contains(wanted),
    }
}

fn has_words(subject: &str, words: &[String]) -> bool {
    words.iter().all(|word| subject.contains(word.as_str()))
}
