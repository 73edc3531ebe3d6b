//! The relay's own loops among the jobs: they can be looked at, not touched.

use std::sync::Arc;

use super::Group;
use super::loops::{Loop, LoopState, Spec};
use crate::http::Shared;
use crate::monitor::check::Level;

/// A loop that should go round at least so often, milliseconds, and has not, is stuck.
const STUCK_MS: i64 = 60_000;

const SPECS: [Spec; 5] = [
    Spec::new("claims", "Takes due mail from the queue", Group::Mail, "when mail is due"),
    Spec::new("ticks", "Tries paused destinations again", Group::Mail, "when one is due"),
    Spec::new("settings", "Notices settings changed by others", Group::Mail, "every 1s"),
    Spec::new("retention", "Removes what was kept long enough", Group::Care, "every 10s"),
    Spec::new("expiry", "Gives up mail that is past its time", Group::Care, "every 10s"),
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
