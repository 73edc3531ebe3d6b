//! What an account may send in a second, a minute, an hour, a day: counted in rolling windows of bounded memory.
//!
//! A message counts from the moment it is handed out until its window has passed after its end, so the next hop, which
//! counts somewhere in between, never sees more than the limit. Counts survive the process: what may be handed out is
//! written down first, in blocks, and what a crash left open counts as sent. Pure: time is an argument.

mod meter;
mod ring;
#[cfg(test)]
mod tests;
mod together;
#[cfg(test)]
mod together_tests;

use serde::{Deserialize, Serialize};

pub use meter::{Ahead, Meter, Permission, SavedMeter};
use ring::Span;
pub use together::Asked;

/// Share of each quota of a minute or more that only urgent mail may use, percent.
pub const DEFAULT_RESERVE: u8 = 10;
/// Priority of urgent mail.
const URGENT: u8 = 0;

/// How much may be sent. What is left out is not limited.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// Messages in any second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
    /// Messages in any minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u32>,
    /// Messages in any hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<u32>,
    /// Messages in any 24 hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_day: Option<u32>,
    /// Recipients in any 24 hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipients_per_day: Option<u32>,
    /// Percent of each quota (but that of a second) that is kept for urgent mail; by default [`DEFAULT_RESERVE`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserve_percent: Option<u8>,
}

impl Rates {
    /// Limits by window, in the order of [`WINDOWS`].
    fn all(&self) -> [Option<u32>; 5] {
        [self.per_second, self.per_minute, self.per_hour, self.per_day, self.recipients_per_day]
    }

    /// Nothing is limited.
    pub fn is_unlimited(&self) -> bool {
        self.all().iter().all(Option::is_none)
    }

    /// What a person has to mend, in full sentences.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.all().contains(&Some(0)) {
            problems.push("A limit of 0 would stop all mail: hold the queue instead.".to_owned());
        }
        if self.reserve_percent.is_some_and(|percent| percent > 90) {
            problems.push("At most 90 percent of a quota can be kept for urgent mail.".to_owned());
        }
        problems
    }

    /// What mail of a priority may use of a limit.
    fn share(&self, window: &Span, limit: u32, priority: u8) -> u32 {
        if priority == URGENT || window.span_ms <= 1_000 {
            return limit;
        }
        let percent = u64::from(self.reserve_percent.unwrap_or(DEFAULT_RESERVE).min(90));
        (limit - (u64::from(limit) * percent / 100) as u32).max(1)
    }
}

/// What may be handed out now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// So many messages, and recipients in all.
    Open {
        /// At least 1.
        messages: u32,
        /// At least 1.
        recipients: u32,
    },
    /// Nothing before this time, Unix milliseconds.
    Full(i64),
    /// Nothing before the next block is written down.
    Unwritten,
}

impl Room {
    /// The lesser of two.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Open { messages: a, recipients: b }, Self::Open { messages: c, recipients: d }) => {
                Self::Open { messages: a.min(c), recipients: b.min(d) }
            }
            (Self::Full(a), Self::Full(b)) => Self::Full(a.max(b)),
            (Self::Full(at), _) | (_, Self::Full(at)) => Self::Full(at),
            _ => Self::Unwritten,
        }
    }
}

/// One limited window of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WindowStatus {
    /// `second`, `minute`, `hour` or `day`.
    pub per: &'static str,
    /// `messages` or `recipients`.
    pub unit: &'static str,
    /// Length, milliseconds.
    #[serde(skip)]
    pub span_ms: i64,
    /// How finely it is counted, milliseconds: what ends is free again when its bucket's end has gone by for that length.
    #[serde(skip)]
    pub bucket_ms: i64,
    /// Most in any such time.
    pub limit: u32,
    /// Of these, what mail that is not urgent may use.
    pub ordinary: u32,
    /// Used now.
    pub used: u32,
    /// When something of it is free again, Unix milliseconds, if nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frees_ms: Option<i64>,
    /// When how much of what was used is free again, soonest first.
    #[serde(skip)]
    pub recent: Vec<(i64, u32)>,
}
