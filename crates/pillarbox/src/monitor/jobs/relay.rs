//! The relay's own loops among the jobs: they can be looked at, not touched.

use std::sync::Arc;

use super::Group;
use super::loops::{Loop, LoopState, Spec};
use crate::http::Shared;
use crate::monitor::check::Level;

/// A loop that should go round at least so often, milliseconds, and has not, is stuck.
const STUCK_MS: i64 = 60_000;

const SPECS: [Spec; 5] = [
    Spec { name: "claims", title: "Takes due mail from the queue", group: Group::Mail, schedule: "when mail is due" },
    Spec { name: "ticks", title: "Tries paused destinations again", group: Group::Mail, schedule: "when one is due" },
    Spec { name: "settings", title: "Notices settings changed by others", group: Group::Mail, schedule: "every 1s" },
    Spec { name: "retention", title: "Removes what was kept long enough", group: Group::Care, schedule: "every 10s" },
    Spec { name: "expiry", title: "Gives up mail that is past its time", group: Group::Care, schedule: "every 10s" },
];

/// All of them, as they are now.
pub(super) fn seen(app: &Shared) -> Vec<Arc<Loop>> {
    let Some(relay) = &app.relay else { return Vec::new() };
    let (beats, now_ms) = (relay.beats(), app.clock.now_ms());
    let one = |spec: &Spec| {
        let (_, beat) = beats.iter().find(|(name, _)| *name == spec.name)?;
        let (level, summary) = match beat.last_ms {
            Some(last_ms) if now_ms - last_ms > STUCK_MS => (Level::Problem, "it has not gone round for a minute"),
            _ if beat.failures > 0 => (Level::Problem, "the store could not do it: see the log"),
            _ => (Level::Ok, ""),
        };
        let state = LoopState {
            running: true,
            last_ms: beat.last_ms,
            level,
            summary: summary.into(),
            runs: beat.rounds,
            problems: beat.failures,
            ..LoopState::default()
        };
        Some(Loop::seen(spec, state))
    };
    SPECS.iter().filter_map(one).collect()
}
