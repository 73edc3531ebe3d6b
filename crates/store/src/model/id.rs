//! Names: of messages, recipients, runs and lanes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// 2024-01-01T00:00:00Z, where message ids begin, Unix milliseconds.
pub const EPOCH_MS: i64 = 1_704_067_200_000;

/// A message's name: 42 bits of milliseconds since 2024 and 21 bits that make it unique, so ids sort by time.
///
/// Shown as 13 characters of Crockford's base 32, lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub i64);

/// One recipient of one message; shown as `<message id>.<n>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecipientId {
    /// The message.
    pub message: MessageId,
    /// Position in the envelope, from 0.
    pub n: u32,
}

/// One run of one node: leases carry it, so a late settle of a dead run changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub i64);

/// A lane's name: 63 bits of BLAKE3 over its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId(pub i64);

impl MessageId {
    /// When it was made, Unix milliseconds.
    pub fn created_ms(self) -> i64 {
        (self.0 >> 21) + EPOCH_MS
    }
}

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.0 as u64;
        let mut text = [0u8; 13];
        for (i, slot) in text.iter_mut().enumerate() {
            *slot = ALPHABET[(value >> (60 - 5 * i)) as usize & 31];
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// A text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a message id: expected 13 characters such as 01k2mzq8v4t7e")]
pub struct IdError;

impl FromStr for MessageId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() != 13 {
            return Err(IdError);
        }
        let mut value: u64 = 0;
        for octet in text.bytes() {
            let digit = match octet.to_ascii_lowercase() {
                b'o' => 0,
                b'i' | b'l' => 1,
                other => ALPHABET.iter().position(|a| *a == other).ok_or(IdError)? as u64,
            };
            value = value << 5 | digit;
        }
        i64::try_from(value).map(MessageId).map_err(|_| IdError)
    }
}

impl Serialize for MessageId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MessageId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for RecipientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.message, self.n)
    }
}
