//! The relay's own loops among the jobs.

use std::sync::Arc;

use ::relay::pulse::Part;

use super::Group;
use super::loops::{Loop, LoopState, Spec};
use crate::http::Shared;
use crate::monitor::check::Level;

/// A loop that should go round at least so often, milliseconds, and has not, is stuck.
const STUCK_MS: i64 = 60_000;
/// How often loops go round that have a time of their own, milliseconds.
const CHORES_MS: i64 = 10_000;

const fn spec(part: Part) -> Spec {
    let (title, group, schedule) = match part {
        Part::Claims => ("Takes due mail from the queue", Group::Mail, "when mail is due"),
        Part::Ticks => ("Tries paused destinations again", Group::Mail, "when one is due"),
        Part::Settings => ("Notices settings changed by others", Group::Mail, "every 1s"),
        Part::Retention => ("Removes what was kept long enough", Group::Care, "every 10s"),
        Part::Expiry => ("Gives up mail that is past its time", Group::Care, "every 10s"),
    };
    Spec::new(part.name(), title, group, schedule)
}

/// The loop of this name.
pub(super) fn part(name: &str) -> Option<Part> {
    Part::ALL.into_iter().find(|part| part.name() == name)
}

/// All of them, as they are now.
pub(super) fn seen(app: &Shared) -> Vec<Arc<Loop>> {
    let Some(relay) = &app.relay else { return Vec::new() };
    let now_ms = app.clock.now_ms();
    let one = |part: Part| {
        let beat = relay.beat(part);
        let (level, summary) = match beat.last_ms {
            Some(last_ms) if now_ms - last_ms > STUCK_MS => (Level::Problem, "it has not gone round for a minute"),
            _ if beat.failures > 0 => (Level::Problem, "the store could not do it: see the log"),
            _ => (Level::Ok, ""),
        };
        let chore = matches!(part, Part::Retention | Part::Expiry);
        let why = || app.monitor.jobs.pause_of(part.name()).unwrap_or((now_ms, String::new()));
        let state = LoopState {
            running: true,
            last_ms: beat.last_ms,
            next_ms: beat.last_ms.filter(|_| chore && !beat.paused).map(|last_ms| last_ms + CHORES_MS),
            took_ms: Some(u64::try_from(beat.took.as_millis()).unwrap_or(u64::MAX)),
            level,
            summary: summary.into(),
            runs: beat.rounds,
            problems: beat.failures,
            paused: beat.paused.then(why),
            ..LoopState::default()
        };
        Loop::seen(&spec(part), part, state)
    };
    Part::ALL.into_iter().map(one).collect()
}
