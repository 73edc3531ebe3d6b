//! Searching messages: what the query says, and what is found, newest first.

use axum::extract::State;
use proto::Address;
use serde::{Deserialize, Serialize};
use store::{MessageId, SearchHit, SearchPage, SearchQuery, State as RecipientState, Whom};

use crate::http::auth::Caller;
use crate::http::json::Query;
use crate::http::problem::Problem;
use crate::http::views::RecipientOut;
use crate::http::{Shared, time};

/// Longest text of a condition, octets.
const MOST_TEXT: usize = 512;
/// Most words of a subject.
const MOST_WORDS: usize = 10;

/// Which messages to find: all conditions must hold, those on recipients for the same recipient.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Conditions {
    /// An address, a Message-ID in its brackets, one of our ids, or words of a subject.
    q: Option<String>,
    /// Exactly this message.
    id: Option<String>,
    /// `ann@one.example`, its beginning (`ann*`, `ann`), or a domain (`@one.example`).
    recipient: Option<String>,
    /// A recipient's domain, without its subdomains.
    domain: Option<String>,
    /// Envelope sender or From header: an address, `@one.example`, or a part of either.
    from: Option<String>,
    /// Words that are all in the subject.
    subject: Option<String>,
    /// Message-ID header, with or without brackets.
    message_id: Option<String>,
    /// Stream.
    stream: Option<String>,
    /// Route.
    route: Option<String>,
    /// Sender: the credential that submitted it.
    sender: Option<String>,
    /// State of a recipient.
    state: Option<RecipientState>,
    /// Id of the rule that explains a recipient's last failure, or how the words begin for which it is held or suppressed.
    reason: Option<String>,
    /// Accepted at or after, RFC 3339.
    since: Option<String>,
    /// Accepted before, RFC 3339.
    until: Option<String>,
    /// Cursor: `next` of the page before.
    before: Option<String>,
    /// 1 to 500; 50.
    limit: Option<u32>,
}

/// One page of what was found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SearchOut {
    /// Newest first.
    pub items: Vec<FoundOut>,
    /// Cursor to go on; none: there is no more. A page that is not full and has one was ended so that nobody waits.
    pub next: Option<String>,
    /// All that was accepted since then was looked at, RFC 3339; only with `next`.
    pub back_to: Option<String>,
    /// Messages that were looked at one by one; 0 where an index knew.
    pub looked: u64,
}

/// A message that was found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FoundOut {
    /// Message id.
    pub id: String,
    /// RFC 3339.
    pub accepted: String,
    /// Sender name.
    pub sender: String,
    /// Stream.
    pub stream: String,
    /// MAIL FROM; empty for the null reverse-path.
    pub envelope_from: String,
    /// From header.
    pub from: Option<String>,
    /// Decoded.
    pub subject: Option<String>,
    /// Message-ID header.
    pub message_id: Option<String>,
    /// Octets.
    pub size: u32,
    /// The content is still stored.
    pub has_content: bool,
    /// Recipients that meet the conditions.
    pub matching: u64,
    /// The first five of them.
    pub recipients: Vec<RecipientOut>,
}

/// Messages that meet all conditions, newest first: one's own, or for people all.
pub async fn search(
    State(app): State<Shared>,
    caller: Caller,
    Query(conditions): Query<Conditions>,
) -> Result<axum::Json<SearchOut>, Problem> {
    let before = match &conditions.before {
        Some(text) => Some(text.parse::<MessageId>().map_err(|_| Problem::field("/before", "is not a message id"))?),
        None => None,
    };
    let limit = conditions.limit.unwrap_or(50).clamp(1, store::MOST_FOUND);
    let mut query = read(conditions)?;
    if let Some(own) = caller.own() {
        query.sender = Some(own.to_owned());
    }
    find(&app, query, before, limit).await.map(axum::Json)
}

/// Searches.
pub async fn find(
    app: &Shared,
    query: SearchQuery,
    before: Option<MessageId>,
    limit: u32,
) -> Result<SearchOut, Problem> {
    let SearchPage { hits, next, looked } = app.store.search(query, before, limit).await?;
    let rules = app.rules();
    Ok(SearchOut {
        items: hits.iter().map(|hit| FoundOut::of(hit, &rules)).collect(),
        next: next.map(|next| next.to_string()),
        back_to: next.map(|next| time::show(next.created_ms())),
        looked,
    })
}

impl FoundOut {
    /// As it is shown.
    pub fn of(hit: &SearchHit, rules: &explain::RuleBase) -> Self {
        let message = &hit.message;
        let details = &message.details;
        Self {
            id: message.id.to_string(),
            accepted: time::show(message.accepted_ms),
            sender: message.sender.to_string(),
            stream: message.stream.to_string(),
            envelope_from: message.reverse_path.0.as_ref().map_or_else(String::new, ToString::to_string),
            from: details.from.clone(),
            subject: details.subject.clone(),
            message_id: details.message_id.clone(),
            size: message.size,
            has_content: hit.has_content,
            matching: hit.matching,
            recipients: hit.recipients.iter().map(|view| RecipientOut::of(view, rules)).collect(),
        }
    }
}

/// The conditions as the store knows them.
fn read(conditions: Conditions) -> Result<SearchQuery, Problem> {
    let text = |field: &str, value: Option<String>| -> Result<Option<String>, Problem> {
        let Some(value) = value else { return Ok(None) };
        let value = value.trim().to_owned();
        if value.len() > MOST_TEXT || value.chars().any(char::is_control) {
            return Err(Problem::field(field, format!("at most {MOST_TEXT} octets without control characters")));
        }
        Ok((!value.is_empty()).then_some(value))
    };
    let moment = |field: &str, value: Option<String>| -> Result<Option<i64>, Problem> {
        let wrong = || Problem::field(field, "is not an RFC 3339 time such as 2026-11-21T09:00:00Z");
        text(field, value)?.map(|value| time::read(&value).ok_or_else(wrong)).transpose()
    };
    let id = |field: &str, value: Option<String>| -> Result<Option<MessageId>, Problem> {
        let wrong = |error: store::IdError| Problem::field(field, error.to_string());
        text(field, value)?.map(|value| value.parse().map_err(wrong)).transpose()
    };
    let mut query = SearchQuery {
        id: id("/id", conditions.id)?,
        recipient: text("/recipient", conditions.recipient)?.map(|text| whom(&text)),
        from: text("/from", conditions.from)?,
        subject: words(text("/subject", conditions.subject)?.as_deref()),
        message_id: text("/message_id", conditions.message_id)?,
        stream: text("/stream", conditions.stream)?,
        sender: text("/sender", conditions.sender)?,
        route: text("/route", conditions.route)?,
        state: conditions.state,
        reason: text("/reason", conditions.reason)?,
        since_ms: moment("/since", conditions.since)?,
        until_ms: moment("/until", conditions.until)?,
    };
    if let Some(domain) = text("/domain", conditions.domain)? {
        if query.recipient.is_some() {
            return Err(Problem::field("/domain", "goes without `recipient`"));
        }
        query.recipient = Some(whom(&format!("@{}", domain.trim_start_matches('@'))));
    }
    if let Some(free) = text("/q", conditions.q)? {
        guess(&free, &mut query)?;
    }
    Ok(query)
}

/// What somebody means who typed this into one field.
fn guess(free: &str, query: &mut SearchQuery) -> Result<(), Problem> {
    let taken = || Problem::field("/q", "says what another condition says too: leave one of them out");
    // Ids begin with a nought until the year 2058; words do not.
    if let Some(id) = free.parse().ok().filter(|_| free.starts_with('0')) {
        return if query.id.replace(id).is_some() { Err(taken()) } else { Ok(()) };
    }
    if free.starts_with('<') && free.contains('@') {
        return if query.message_id.replace(free.to_owned()).is_some() { Err(taken()) } else { Ok(()) };
    }
    if free.contains('@') && !free.contains(' ') {
        return if query.recipient.replace(whom(free)).is_some() { Err(taken()) } else { Ok(()) };
    }
    query.subject.extend(words(Some(free)));
    query.subject.truncate(MOST_WORDS);
    Ok(())
}

fn words(text: Option<&str>) -> Vec<String> {
    text.unwrap_or_default().split_whitespace().take(MOST_WORDS).map(str::to_owned).collect()
}

/// Whom a text means: `@domain`, an address, or the beginning of one.
fn whom(text: &str) -> Whom {
    if let Some(prefix) = text.strip_suffix('*') {
        return Whom::Prefix(prefix.to_owned());
    }
    match (text.strip_prefix('@'), Address::parse(text)) {
        // The name as it stands in DNS, whatever it was typed in.
        (Some(domain), _) => Whom::Domain(
            Address::parse(&format!("x@{domain}"))
                .map_or_else(|_| domain.to_owned(), |address| address.domain().into()),
        ),
        (None, Ok(address)) => Whom::Address(address.to_string()),
        (None, Err(_)) => Whom::Prefix(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipient_is_an_address_its_beginning_or_a_domain() {
        assert_eq!(whom("ann@one.example"), Whom::Address("ann@one.example".into()));
        assert_eq!(whom("ann@bücher.example"), Whom::Address("ann@xn--bcher-kva.example".into()));
        assert_eq!(whom("@bücher.example"), Whom::Domain("xn--bcher-kva.example".into()));
        assert_eq!(whom("ann*"), Whom::Prefix("ann".into()));
        assert_eq!(whom("ann"), Whom::Prefix("ann".into()));
        assert_eq!(whom("@one*"), Whom::Prefix("@one".into()));
    }

    #[test]
    fn one_field_is_understood_by_its_shape() {
        let guess = |free: &str| read(Conditions { q: Some(free.into()), ..Conditions::default() }).unwrap();
        assert!(guess("<1@shop.example>").message_id.is_some());
        assert!(guess("05k2mzq8v4t7e").id.is_some());
        assert_eq!(guess("international").subject, ["international"]);
        assert_eq!(guess("your invoice").subject, ["your", "invoice"]);
        assert_eq!(guess("ann@one.example").recipient, Some(Whom::Address("ann@one.example".into())));
        assert_eq!(guess("  ").subject, [""; 0]);
        let twice = Conditions { q: Some("a@b.example".into()), recipient: Some("c".into()), ..Conditions::default() };
        assert!(read(twice).is_err());
        assert!(read(Conditions { since: Some("yesterday".into()), ..Conditions::default() }).is_err());
        assert!(read(Conditions { subject: Some("x".repeat(600)), ..Conditions::default() }).is_err());
    }
}
