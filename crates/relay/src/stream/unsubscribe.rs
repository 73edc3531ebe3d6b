//! One-click unsubscribe (RFC 8058, RFC 2369 §3.2): the link of one recipient of one stream.
//!
//! The link holds stream and address and a keyed hash over both: nobody can make one for somebody else, and nothing has to be
//! remembered of the message. It does not expire: a link in an old mail has to work.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proto::Address;
use secrecy::{ExposeSecret, SecretString};
use store::settings::{Document, Expected, Kind, SecretChange};
use store::{Store, StoreError};
use subtle::ConstantTimeEq;

/// Field that names the link.
pub const FIELD: &str = "List-Unsubscribe";
/// Field that promises that one POST is enough.
pub const POST_FIELD: &str = "List-Unsubscribe-Post";
/// Path of the link, before the token.
pub const PATH: &str = "/u/";
/// Name of the key among the program's own.
const KEY: &str = "unsubscribe";
const FORMAT: u8 = 1;
const MAC: usize = 16;
/// Longest token; an address has at most 320 octets, a stream's name 64.
const LONGEST: usize = 600;

/// Makes and reads links.
pub struct Links {
    key: [u8; 32],
    /// Without a last slash.
    base: Option<String>,
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Links {
    /// With the store's key, which is made where there is none. `base`: where the public finds this server, as
    /// `https://mail.example.com`; without it no links are made, but those of before are read.
    pub async fn open(store: &dyn Store, base: Option<&str>, now_ms: i64) -> Result<Self, StoreError> {
        let text = key(store, now_ms).await?;
        // Whatever the text is, the key is made of all of it.
        let key = blake3::derive_key("pillarbox 2026 unsubscribe links", text.expose_secret().as_bytes());
        Ok(Self { key, base: base.map(|base| base.trim_end_matches('/').to_owned()) })
    }

    /// Whether links can be made.
    pub fn is_public(&self) -> bool {
        self.base.is_some()
    }

    fn mac(&self, body: &[u8]) -> [u8; MAC] {
        let mut mac = [0; MAC];
        mac.copy_from_slice(&blake3::keyed_hash(&self.key, body).as_bytes()[..MAC]);
        mac
    }

    /// The token of a recipient.
    pub fn token(&self, stream: &str, address: &Address) -> String {
        let mut body = vec![FORMAT, stream.len() as u8];
        body.extend_from_slice(stream.as_bytes());
        body.extend_from_slice(address.as_str().as_bytes());
        let mac = self.mac(&body);
        body.extend_from_slice(&mac);
        URL_SAFE_NO_PAD.encode(body)
    }

    /// Stream and address of a token that was made here.
    pub fn read(&self, token: &str) -> Option<(String, Address)> {
        if token.len() > LONGEST {
            return None;
        }
        let octets = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (body, mac) = octets.split_at_checked(octets.len().checked_sub(MAC)?)?;
        if !bool::from(self.mac(body).ct_eq(mac)) {
            return None;
        }
        let (head, rest) = body.split_at_checked(2)?;
        let (stream, address) = rest.split_at_checked(usize::from(head[1]))?;
        if head[0] != FORMAT {
            return None;
        }
        let stream = String::from_utf8(stream.to_vec()).ok()?;
        Some((stream, Address::parse(std::str::from_utf8(address).ok()?).ok()?))
    }

    /// The two header fields of a recipient's message, with their line ends; none without a public address.
    pub fn fields(&self, stream: &str, address: &Address) -> Option<String> {
        let base = self.base.as_ref()?;
        let mut fields = String::new();
        // Only ASCII, and the address of a link is not folded: readers differ in what they make of a fold within it.
        let _ = write!(fields, "{FIELD}: <{base}{PATH}{}>\r\n", self.token(stream, address));
        let _ = write!(fields, "{POST_FIELD}: List-Unsubscribe=One-Click\r\n");
        Some(fields)
    }
}

/// The store's key. Of nodes that start at once each may make one: the first that is stored is everybody's.
async fn key(store: &dyn Store, now_ms: i64) -> Result<SecretString, StoreError> {
    let known = stored(store).await?;
    if let Some(secret) = known.as_ref().and_then(|document| document.secret.clone()) {
        return Ok(secret);
    }
    let made: [u8; 32] = rand::random();
    let secret = SecretString::from(URL_SAFE_NO_PAD.encode(made));
    let (body, change) = (serde_json::json!({}), SecretChange::Set(secret.clone()));
    let expected = Expected::of(known.as_ref());
    match store.put_document_if(Kind::Key, KEY.into(), body, change, expected, now_ms).await? {
        Some(_) => Ok(secret),
        None => stored(store).await?.and_then(|document| document.secret).ok_or(StoreError::NotFound),
    }
}

async fn stored(store: &dyn Store) -> Result<Option<Document>, StoreError> {
    Ok(store.documents(Kind::Key).await?.into_iter().find(|document| document.name == KEY))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Links {
        Links { key: [7; 32], base: Some("https://mail.example.com".into()) }
    }

    #[test]
    fn a_token_gives_its_stream_and_address_and_nothing_else_does() {
        let links = links();
        for (stream, address) in
            [("newsletter", "ann@example.com"), ("a", "\"a b\"@example.com"), ("x.y", "jö@example.com")]
        {
            let address = Address::parse(address).unwrap();
            let token = links.token(stream, &address);
            assert_eq!(links.read(&token), Some((stream.to_owned(), address.clone())));
            for at in 0..token.len() {
                let mut forged = token.clone().into_bytes();
                forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
                let forged = String::from_utf8(forged).unwrap();
                // The last character may hold bits that mean nothing; a strict reader refuses those too.
                assert_ne!(links.read(&forged), Some((stream.to_owned(), Address::parse("bob@example.com").unwrap())));
                assert!(links.read(&forged).is_none(), "{at}");
            }
            let other = Links { key: [8; 32], base: None };
            assert!(other.read(&token).is_none() && other.fields(stream, &address).is_none());
        }
        assert!(links.read("").is_none() && links.read(&"A".repeat(5_000)).is_none());
    }

    #[test]
    fn the_fields_are_those_of_rfc_8058_and_short_enough_for_a_line() {
        let address = Address::parse(&format!("{}@{}.example.com", "a".repeat(64), "b".repeat(60))).unwrap();
        let fields = links().fields(&"s".repeat(64), &address).unwrap();
        assert!(fields.starts_with("List-Unsubscribe: <https://mail.example.com/u/"), "{fields}");
        assert!(fields.ends_with(">\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"));
        assert!(fields.is_ascii() && fields.lines().all(|line| line.len() < 998));
    }
}
