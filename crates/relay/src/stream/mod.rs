//! Streams: named classes of mail. What one is, where it comes from, and the presets.
//!
//! A stream comes from the store (`stream add`), from the configuration (`[[stream]]`), or from nowhere: mail may name any
//! stream. What the configuration says of a stream holds; what it does not say, a document of the same name adds. Being
//! paused is always in the document.

pub(crate) mod hold;
pub(crate) mod intake;
pub mod pace;
mod presets;
pub mod unsubscribe;

use crate::verp::ReturnPath;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use store::{Retention, StreamRetention};

use crate::accept::DEFAULT_PRIORITY;
use crate::config::StreamConfig;

pub use hold::set as set_paused;
pub use presets::{PRESETS, Preset, preset};

/// How the reason begins why mail of a paused stream is held.
pub const PAUSED: &str = "stream paused";
/// How the reason begins why mail of a stream that is off is suppressed.
pub const OFF: &str = "stream off";
/// Longest window of a digest, seconds.
pub const MOST_DIGEST_S: u64 = 86_400;
/// Longest window over which mail is spread, seconds.
pub const MOST_SPREAD_S: u64 = 7 * 86_400;
/// Fastest pace; what is faster is no pace.
pub const MOST_PER_MINUTE: u32 = 60_000;

/// A stream as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamRecord {
    /// Its mail is sent; otherwise each recipient is `Suppressed`.
    pub enabled: bool,
    /// 0 (most urgent) to 3 (bulk).
    pub priority: u8,
    /// Seconds after which a message is worthless; without it the general expiry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_s: Option<u64>,
    /// Pace: most recipients that leave in any minute, evenly. Each goes in a transaction of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u32>,
    /// What comes in at once leaves evenly over so many seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread_s: Option<u64>,
    /// Each message gets List-Unsubscribe and List-Unsubscribe-Post (RFC 8058).
    pub unsubscribe: bool,
    /// Recipients may opt out. Of mail that has to reach them they may not.
    pub opt_out: bool,
    /// What bounces and complaints about its mail suppress is suppressed for this stream alone.
    pub own_suppressions: bool,
    /// A message that may have been delivered by one route may be sent again by another.
    pub allow_duplicates: bool,
    /// Equal mails to one recipient within so many seconds: the first goes, the others become one digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest_s: Option<u64>,
    /// Seconds for which contents are kept after the end; without it the general time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_retention_s: Option<u64>,
    /// Seconds for which messages and events are kept after the end; without it the general time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_retention_s: Option<u64>,
    /// Everything but the last hop.
    pub test_mode: bool,
    /// Return path next hops get, where the route does not insist on the sender's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub return_path: Option<ReturnPath>,
    /// What it is for, in the operator's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its mail is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
}

/// Since when and why a stream is paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paused {
    /// Unix milliseconds.
    pub since_ms: i64,
    /// For people: who did it, or what went wrong.
    pub why: String,
    /// The stream was not set up before: its document is there for the pause alone, and ends with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only: bool,
}

impl Default for StreamRecord {
    fn default() -> Self {
        Self {
            enabled: true,
            priority: DEFAULT_PRIORITY,
            deadline_s: None,
            per_minute: None,
            spread_s: None,
            unsubscribe: false,
            opt_out: true,
            own_suppressions: false,
            allow_duplicates: false,
            digest_s: None,
            content_retention_s: None,
            event_retention_s: None,
            test_mode: false,
            return_path: None,
            description: None,
            paused: None,
        }
    }
}

impl StreamRecord {
    /// Why its mail is held, if it is.
    pub fn hold(&self) -> Option<String> {
        self.paused.as_ref().map(|paused| format!("{PAUSED}: {}", paused.why))
    }

    /// Why its mail is not sent, if it is not.
    pub fn off(&self) -> Option<String> {
        (!self.enabled).then(|| format!("{OFF}: no mail of this stream is sent"))
    }

    /// Why its mail that is queued already does not go on, if it does not.
    pub fn stops(&self) -> Option<String> {
        self.hold().or_else(|| self.off())
    }

    /// What a person has to mend: the field, and a sentence.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut wrong = |field, text: &str| problems.push((field, text.to_owned()));
        if self.priority > 3 {
            wrong("priority", "A priority is 0 (most urgent), 1, 2 or 3 (bulk).");
        }
        if self.deadline_s == Some(0) {
            wrong("deadline_s", "A deadline of 0 seconds would fail all mail: switch the stream off instead.");
        }
        if self.per_minute.is_some_and(|n| n == 0 || n > MOST_PER_MINUTE) {
            wrong("per_minute", "A pace is 1 to 60,000 a minute; to stop the mail, pause the stream.");
        }
        if self.spread_s.is_some_and(|s| s == 0 || s > MOST_SPREAD_S) {
            wrong("spread_s", "Mail is spread over 1 second to 7 days.");
        }
        if self.digest_s.is_some_and(|s| s == 0 || s > MOST_DIGEST_S) {
            wrong("digest_s", "A digest's window is 1 second to 24 hours.");
        }
        if self.deadline_s.zip(self.digest_s).is_some_and(|(deadline, digest)| digest >= deadline) {
            wrong("digest_s", "A digest's window has to be shorter than the deadline: all mail would go by itself.");
        }
        if self.unsubscribe && !self.opt_out {
            wrong("unsubscribe", "Mail that recipients may not opt out of cannot carry a link for it.");
        }
        problems
    }
}

/// A stream at work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Name.
    pub name: Arc<str>,
    /// What holds for it.
    pub record: StreamRecord,
    /// Where it comes from.
    pub source: Source,
}

/// Where a stream comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The store.
    Store,
    /// The configuration, perhaps with additions from the store.
    Configuration,
    /// Mail names it, and nobody has said more.
    Unconfigured,
}

impl Stream {
    /// A stream of which nobody has said anything.
    pub fn unconfigured(name: Arc<str>) -> Self {
        Self { name, record: StreamRecord::default(), source: Source::Unconfigured }
    }

    /// From what the store and the configuration say.
    pub fn new(name: Arc<str>, stored: Option<StreamRecord>, configured: Option<&StreamConfig>) -> Self {
        let source = match (&stored, configured) {
            (_, Some(_)) => Source::Configuration,
            (Some(_), None) => Source::Store,
            (None, None) => Source::Unconfigured,
        };
        let mut record = stored.unwrap_or_default();
        if let Some(configured) = configured {
            record.priority = configured.priority.min(3);
            record.deadline_s = configured.deadline_s;
            record.allow_duplicates = configured.allow_duplicates;
        }
        Self { name, record, source }
    }

    fn retention(&self) -> Option<StreamRetention> {
        let ms = |seconds: Option<u64>| Some(i64::try_from(seconds?).unwrap_or(i64::MAX).saturating_mul(1_000));
        let (content_ms, events_ms) = (ms(self.record.content_retention_s), ms(self.record.event_retention_s));
        let differs = content_ms.is_some() || events_ms.is_some();
        differs.then(|| StreamRetention { stream: self.name.clone(), content_ms, events_ms })
    }
}

/// The fields that the configuration decides for the streams it names.
pub const CONFIGURED_FIELDS: [&str; 3] = ["priority", "deadline_s", "allow_duplicates"];

/// How long things are kept, with the streams that differ.
pub(crate) fn retention<'a>(general: &Retention, streams: impl Iterator<Item = &'a Arc<Stream>>) -> Retention {
    let mut own: Vec<StreamRetention> = streams.filter_map(|stream| stream.retention()).collect();
    own.sort_by(|a, b| a.stream.cmp(&b.stream));
    Retention { streams: own.into(), ..general.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_a_stream_without_problems() {
        let mut names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
        for wanted in
            ["access-review", "policy-violation", "workflow-approval", "system-alert", "password-reset", "newsletter"]
        {
            assert!(names.contains(&wanted), "{wanted}");
        }
        for preset in PRESETS {
            let record = preset.record();
            assert_eq!(record.problems(), vec![], "{}", preset.name);
            assert!(record.enabled && record.paused.is_none());
        }
        names.dedup();
        assert_eq!(names.len(), PRESETS.len());
    }

    #[test]
    fn the_configuration_decides_what_it_names_and_the_document_the_rest() {
        let configured =
            StreamConfig { name: "login".into(), priority: 0, deadline_s: Some(300), allow_duplicates: false };
        let stored = StreamRecord {
            priority: 3,
            per_minute: Some(5),
            allow_duplicates: true,
            paused: Some(Paused { since_ms: 1, why: "x".into(), only: false }),
            ..StreamRecord::default()
        };
        let stream = Stream::new("login".into(), Some(stored), Some(&configured));
        let record = &stream.record;
        assert_eq!((record.priority, record.deadline_s, record.allow_duplicates), (0, Some(300), false));
        assert_eq!((record.per_minute, record.hold().as_deref()), (Some(5), Some("stream paused: x")));
        assert_eq!(stream.source, Source::Configuration);
    }

    #[test]
    fn what_would_stop_or_contradict_itself_is_refused_with_its_field() {
        let record = StreamRecord {
            priority: 4,
            deadline_s: Some(60),
            per_minute: Some(0),
            digest_s: Some(60),
            unsubscribe: true,
            opt_out: false,
            ..StreamRecord::default()
        };
        let fields: Vec<&str> = record.problems().iter().map(|(field, _)| *field).collect();
        assert_eq!(fields, ["priority", "per_minute", "digest_s", "unsubscribe"]);
    }
}
