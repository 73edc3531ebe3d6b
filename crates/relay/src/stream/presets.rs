//! Presets: streams as most people want them, with numbers one can change afterwards.

use super::StreamRecord;

const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;
const DAY: u64 = 86_400;

/// A stream to begin with.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// Name, and the usual name of the stream.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    make: fn() -> StreamRecord,
}

impl Preset {
    /// The stream.
    pub fn record(&self) -> StreamRecord {
        StreamRecord { description: Some(self.about.to_owned()), ..(self.make)() }
    }
}

/// All presets, most urgent first.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "password-reset",
        about: "One-time codes and links: at once, or not at all",
        make: || StreamRecord {
            priority: 0,
            deadline_s: Some(15 * MINUTE),
            opt_out: false,
            // Twice is better than too late.
            allow_duplicates: true,
            ..StreamRecord::default()
        },
    },
    Preset {
        name: "system-alert",
        about: "Alerts of machines: urgent, and a storm of equal ones becomes a digest",
        make: || StreamRecord {
            priority: 0,
            deadline_s: Some(4 * HOUR),
            digest_s: Some(10 * MINUTE),
            opt_out: false,
            event_retention_s: Some(90 * DAY),
            ..StreamRecord::default()
        },
    },
    Preset {
        name: "workflow-approval",
        about: "Somebody waits for a decision: soon, with a record",
        make: || StreamRecord {
            priority: 1,
            deadline_s: Some(3 * DAY),
            opt_out: false,
            event_retention_s: Some(400 * DAY),
            ..StreamRecord::default()
        },
    },
    Preset {
        name: "policy-violation",
        about: "Findings that have to reach the responsible person: soon, folded, with a record",
        make: || StreamRecord {
            priority: 1,
            deadline_s: Some(DAY),
            digest_s: Some(15 * MINUTE),
            opt_out: false,
            event_retention_s: Some(400 * DAY),
            ..StreamRecord::default()
        },
    },
    Preset {
        name: "access-review",
        about: "Campaigns to many reviewers: paced and spread, with a record",
        make: || StreamRecord {
            priority: 2,
            per_minute: Some(120),
            spread_s: Some(HOUR),
            opt_out: false,
            event_retention_s: Some(400 * DAY),
            ..StreamRecord::default()
        },
    },
    Preset {
        name: "newsletter",
        about: "Bulk that recipients can leave by one click: slow, behind all other mail",
        make: || StreamRecord {
            priority: 3,
            deadline_s: Some(3 * DAY),
            per_minute: Some(600),
            unsubscribe: true,
            own_suppressions: true,
            event_retention_s: Some(90 * DAY),
            ..StreamRecord::default()
        },
    },
];

/// A preset by its name.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}
