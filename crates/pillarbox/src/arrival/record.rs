//! A test mail as it is kept, and the token that names it.

use serde::{Deserialize, Serialize};
use store::{RecordKind, RecordQuery, RecordWrite, RecordWritten, Store, StoreError};

use super::judge::Judgement;

/// Begins every token.
const PREFIX: &str = "arrival-";
/// Characters behind it: 100 random bits.
const LENGTH: usize = 20;
/// No letter looks like a digit.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Names one test mail; nobody can guess it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// A new one.
    pub fn new() -> Self {
        let random: [u8; LENGTH] = rand::random();
        let letters = random.iter().map(|octet| char::from(ALPHABET[usize::from(octet & 31)]));
        Self(PREFIX.chars().chain(letters).collect())
    }

    /// As it stands in the mail.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tokens in a text, in their order, each once; at most 10.
    pub fn all_in(text: &[u8]) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        let lower = text.to_ascii_lowercase();
        for at in memchr::memmem::find_iter(&lower, PREFIX.as_bytes()) {
            let rest = &lower[at + PREFIX.len()..];
            let Some(letters) = rest.get(..LENGTH).filter(|all| all.iter().all(|octet| ALPHABET.contains(octet)))
            else {
                continue;
            };
            let token = Self(format!("{PREFIX}{}", String::from_utf8_lossy(letters)));
            if !found.contains(&token) {
                found.push(token);
            }
            if found.len() >= 10 {
                break;
            }
        }
        found
    }

    /// The token of an address `arrival-…@domain`.
    pub fn of_address(address: &str) -> Option<Self> {
        let (local, _) = address.rsplit_once('@')?;
        Self::all_in(local.as_bytes()).into_iter().find(|token| token.0.eq_ignore_ascii_case(local))
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArrivalState {
    /// On its way.
    Waiting,
    /// It came in time.
    Arrived,
    /// It came, too late.
    Late,
    /// The time is over and nothing was seen of it.
    Missing,
    /// The queue gave it up, or it came back.
    Failed,
}

impl ArrivalState {
    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Arrived => "arrived",
            Self::Late => "late",
            Self::Missing => "missing",
            Self::Failed => "failed",
        }
    }

    /// As a command or a query has it.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Waiting, Self::Arrived, Self::Late, Self::Missing, Self::Failed]
            .into_iter()
            .find(|state| state.as_str() == name)
    }
}

/// A test mail. Its record is open until it is known what became of it, and named by the token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Arrival {
    /// The token.
    pub token: Token,
    /// The route it took.
    pub route: String,
    /// From.
    pub from: String,
    /// To.
    pub to: String,
    /// The mailbox it is looked for in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailbox: Option<String>,
    /// Seconds it may take.
    pub within_s: u64,
    /// Its message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it was queued, Unix milliseconds.
    pub sent_ms: i64,
    /// How far it is.
    pub state: ArrivalState,
    /// Why it did not arrive as far as is known, or why the mailbox cannot be read; a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// How it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judgement: Option<Judgement>,
}

impl Arrival {
    /// When it is too late, Unix milliseconds.
    pub fn deadline_ms(&self) -> i64 {
        self.sent_ms.saturating_add(i64::try_from(self.within_s).unwrap_or(i64::MAX / 1_000).saturating_mul(1_000))
    }

    /// Under which key it alerts: one for each way, not for each mail.
    pub fn alert_key(&self) -> String {
        format!("arrival:{}:{}", self.route, self.to)
    }
}

/// A test mail in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Its number.
    pub id: i64,
    /// For compare-and-set.
    pub version: i64,
    /// Not over.
    pub open: bool,
    /// The mail.
    pub arrival: Arrival,
}

/// Test mails that match.
pub async fn find(store: &dyn Store, query: RecordQuery) -> Result<Vec<Stored>, StoreError> {
    let read = |record: store::Record| {
        let arrival = serde_json::from_value(record.body).ok()?;
        Some(Stored { id: record.id, version: record.version, open: record.open, arrival })
    };
    Ok(store.records(query).await?.into_iter().filter_map(read).collect())
}

/// The one of a token.
pub async fn by_token(store: &dyn Store, token: &Token) -> Result<Option<Stored>, StoreError> {
    let query = RecordQuery { limit: 1, ..RecordQuery::named(RecordKind::Arrival, token.as_str()) };
    Ok(find(store, query).await?.pop())
}

/// Adds one; gives its number.
pub async fn add(store: &dyn Store, arrival: &Arrival) -> Result<i64, StoreError> {
    let body = body(arrival)?;
    let (kind, name) = (RecordKind::Arrival, arrival.token.as_str().to_owned());
    let written =
        store.write_records(vec![RecordWrite::Add { kind, name, open: true, at_ms: arrival.sent_ms, body }]).await?;
    match written.first() {
        Some(RecordWritten::Added(id) | RecordWritten::There(id)) => Ok(*id),
        other => Err(StoreError::Internal(format!("a record was not added: {other:?}"))),
    }
}

/// Writes one back unless somebody else did meanwhile; whether it was written.
pub async fn change(store: &dyn Store, stored: &Stored) -> Result<bool, StoreError> {
    let Stored { id, version, open, arrival } = stored;
    let (kind, body) = (RecordKind::Arrival, body(arrival)?);
    let write = RecordWrite::Change { kind, id: *id, version: Some(*version), open: *open, body };
    Ok(matches!(store.write_records(vec![write]).await?.first(), Some(RecordWritten::Changed(_))))
}

fn body(arrival: &Arrival) -> Result<serde_json::Value, StoreError> {
    serde_json::to_value(arrival).map_err(|error| StoreError::Internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_wherever_it_stands() {
        let token = Token::new();
        let shouted = token.as_str().to_ascii_uppercase();
        let text = format!(
            "Subject: test {token}\r\nX: arrival-short\r\nMessage-ID: <{shouted}@a.test>",
            token = token.as_str()
        );
        assert_eq!(Token::all_in(text.as_bytes()), std::slice::from_ref(&token));
        assert_eq!(Token::of_address(&format!("{}@b.test", token.as_str())), Some(token.clone()));
        assert_eq!(Token::of_address(&format!("x{}@b.test", token.as_str())), None);
        assert_eq!(Token::of_address("arrival-@b.test"), None);
        assert!(Token::all_in(b"arrival-").is_empty() && Token::new() != token);
    }
}
