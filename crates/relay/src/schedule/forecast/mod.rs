//! When what waits will be gone: the rolling windows played forward in steps of their buckets, not message by message.
//!
//! Pure: what waits, what was used, how fast it goes and the time are arguments. It foresees what is known now: no new mail,
//! no new failures.

mod play;
#[cfg(test)]
mod tests;

use serde::Serialize;

use super::destination::URGENT_RUN;
use super::limit::WindowStatus;
use play::{Class, Play};

/// What is known of mail that waits for one account.
#[derive(Debug, Clone)]
pub struct Outlook<'a> {
    /// Now, Unix milliseconds.
    pub now_ms: i64,
    /// When today ends, Unix milliseconds.
    pub today_ends_ms: i64,
    /// Recipients of urgent mail, with those under way.
    pub urgent: u64,
    /// Recipients of other mail, with those under way.
    pub ordinary: u64,
    /// Recipients of a transaction, on average; at least 1.
    pub per_message: f64,
    /// All windows that count it.
    pub windows: &'a [WindowStatus],
    /// How fast it goes where no window is in the way; `None`: it was not seen yet.
    pub pace: Option<Pace>,
    /// Nothing goes before this time, Unix milliseconds.
    pub not_before: Option<(i64, Limit)>,
}

/// How fast mail goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Connections at once.
    pub connections: f64,
    /// Milliseconds from one message to the next on one of them.
    pub took_ms: f64,
    /// The receiver asked for less.
    pub slowed: Option<Slowed>,
}

/// A rate that grows back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slowed {
    /// Messages a millisecond now.
    pub now: f64,
    /// Messages a millisecond that were too much.
    pub full: f64,
    /// Milliseconds until it may be as much again.
    pub recovers_ms: f64,
}

/// What keeps mail from going sooner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Limit {
    /// A rolling window.
    Window {
        /// Most in any such time.
        limit: u32,
        /// `messages` or `recipients`.
        unit: &'static str,
        /// `second`, `minute`, `hour` or `day`.
        per: &'static str,
    },
    /// All connections there may be are at work.
    Connections {
        /// How many.
        connections: u32,
    },
    /// The receiver asked for less.
    Slowed {
        /// Messages a minute.
        per_minute: u32,
    },
    /// The receiver wants nothing; a probe goes then.
    Held,
    /// It cannot be reached; it is tried again then.
    Unreachable,
    /// The credential was rejected; one probe signs in then.
    Brake,
    /// What failed before is tried again then.
    Retry,
    /// Nothing works there, and other routes take its mail.
    Failover,
}

/// What is to be expected.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    /// Recipients it is about.
    pub waiting: u64,
    /// Of these, of urgent mail.
    pub urgent: u64,
    /// When all of it is gone, Unix milliseconds; `None`: nothing can be said.
    pub drains_ms: Option<i64>,
    /// When urgent mail is gone, if there is some, Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub urgent_drains_ms: Option<i64>,
    /// What takes most of that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limited_by: Option<Limit>,
    /// Recipients that are still here when today ends.
    pub not_today: u64,
    /// What keeps them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub today_limited_by: Option<Limit>,
}

impl Forecast {
    /// Nothing can be said but why.
    pub fn unknown(urgent: u64, ordinary: u64, why: Option<Limit>) -> Self {
        Self {
            waiting: urgent + ordinary,
            urgent,
            drains_ms: None,
            urgent_drains_ms: None,
            limited_by: why,
            not_today: 0,
            today_limited_by: None,
        }
    }

    /// Two parts of one queue that go beside each other.
    #[must_use]
    pub fn beside(self, other: Self) -> Self {
        let later = |a: Option<i64>, b: Option<i64>| a.zip(b).map(|(a, b)| a.max(b));
        let first = match (self.drains_ms, other.drains_ms) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(a), Some(b)) => a >= b,
        };
        let (urgent_a, urgent_b) = (self.urgent_drains_ms, other.urgent_drains_ms);
        Self {
            waiting: self.waiting + other.waiting,
            urgent: self.urgent + other.urgent,
            drains_ms: later(self.drains_ms, other.drains_ms),
            urgent_drains_ms: later(urgent_a, urgent_b).or(urgent_a).or(urgent_b),
            limited_by: if first { self.limited_by } else { other.limited_by },
            not_today: self.not_today + other.not_today,
            today_limited_by: self.today_limited_by.or(other.today_limited_by),
        }
    }
}

/// Looks ahead.
pub fn forecast(outlook: &Outlook<'_>) -> Forecast {
    let (urgent, ordinary) = (outlook.urgent, outlook.ordinary);
    if urgent + ordinary > 0 && outlook.pace.is_none() && outlook.windows.is_empty() {
        return Forecast::unknown(urgent, ordinary, outlook.not_before.map(|(_, limit)| limit));
    }
    let mut play = Play::new(outlook);
    let mut urgent_drains_ms = None;
    // A little other mail goes between.
    let between = ordinary.min(urgent / u64::from(URGENT_RUN));
    if urgent > 0 {
        play.send((urgent + between) as f64, (ordinary - between) as f64, Class::Urgent);
        urgent_drains_ms = play.ends();
    }
    if ordinary > between {
        play.send((ordinary - between) as f64, 0.0, Class::Ordinary);
    }
    let drains_ms = if urgent + ordinary == 0 { Some(outlook.now_ms) } else { play.ends() };
    let late = drains_ms.is_none_or(|at| at > outlook.today_ends_ms);
    Forecast {
        waiting: urgent + ordinary,
        urgent,
        drains_ms,
        urgent_drains_ms,
        limited_by: (urgent + ordinary > 0).then(|| play.limit()).flatten(),
        not_today: if late { play.not_today.map_or(0, |left| left.round() as u64) } else { 0 },
        today_limited_by: if late { play.today_limit } else { None },
    }
}
