//! Loops that keep their own time: parts of the server that run as long as it does, and the relay's own.
//!
//! Ours are looked after: one that panics is started again, and an administrator can restart or pause it. The relay looks after
//! its own, which go round when they are asked to.

use std::sync::Arc;
use std::time::Duration;

use ::relay::pulse::Part;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{Group, Refused};
use crate::cluster;
use crate::http::Shared;
use crate::monitor::check::Level;

/// Waits before a loop that ended by a defect is started again: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// What is said of a loop that does not run here.
const ELSEWHERE: &str = "the node that leads does it";
/// A loop that went on so long was well, milliseconds.
const WELL_MS: i64 = 600_000;

/// Where a loop runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// On every node.
    Each,
    /// On the node that leads.
    Lead,
    /// On the node that led when the store answered last.
    LedLast,
}

impl At {
    /// Whether that is this node, now and whenever it changes; `None`: it always is.
    fn here(self, app: &Shared) -> Option<watch::Receiver<bool>> {
        let relay = app.relay.as_ref()?;
        match self {
            Self::Each => None,
            Self::Lead => Some(relay.leading()),
            Self::LedLast => Some(relay.led_last()),
        }
    }
}

/// What a loop is.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Where it runs.
    pub at: At,
    /// Unique among jobs.
    pub name: &'static str,
    /// What it does.
    pub title: &'static str,
    /// What sort it is.
    pub group: Group,
    /// When it does something, in words.
    pub schedule: &'static str,
}

impl Spec {
    /// One line of a list of them.
    pub const fn new(name: &'static str, title: &'static str, group: Group, schedule: &'static str) -> Self {
        Self { at: At::Each, name, title, group, schedule }
    }

    /// Only the node that leads runs it.
    pub const fn at_lead(self) -> Self {
        Self { at: At::Lead, ..self }
    }

    /// Only the node that leads runs it, and goes on while nobody can say who does.
    pub const fn at_last_lead(self) -> Self {
        Self { at: At::LedLast, ..self }
    }
}

/// A loop and how it is.
#[derive(Debug)]
pub struct Loop {
    /// Name.
    pub name: String,
    /// What it does.
    pub title: String,
    /// What sort it is.
    pub group: Group,
    /// When it does something, in words.
    pub schedule: String,
    state: Mutex<LoopState>,
    hand: Hand,
}

/// How a loop is taken hold of.
#[derive(Debug)]
enum Hand {
    Ours(Control),
    Relay(Part),
}

/// How a loop is.
#[derive(Debug, Clone)]
pub struct LoopState {
    /// It is going.
    pub running: bool,
    /// Since when, Unix milliseconds.
    pub since_ms: Option<i64>,
    /// Its last start, or last round, Unix milliseconds.
    pub last_ms: Option<i64>,
    /// Its next round, if it has a time, Unix milliseconds.
    pub next_ms: Option<i64>,
    /// How long a round took, milliseconds; nothing of one that does not end.
    pub took_ms: Option<u64>,
    /// How that went.
    pub level: Level,
    /// In words.
    pub summary: String,
    /// Starts, or rounds.
    pub runs: u64,
    /// Of these in a row that went wrong.
    pub problems: u32,
    /// Why it is paused, and since when.
    pub paused: Option<(i64, String)>,
}

impl Default for LoopState {
    fn default() -> Self {
        Self {
            running: false,
            since_ms: None,
            last_ms: None,
            next_ms: None,
            took_ms: None,
            level: Level::Ok,
            summary: String::new(),
            runs: 0,
            problems: 0,
            paused: None,
        }
    }
}

#[derive(Debug)]
struct Control {
    stop: Mutex<CancellationToken>,
    wake: Notify,
}

impl Loop {
    fn new(spec: &Spec, state: LoopState, hand: Hand) -> Arc<Self> {
        let (name, title, schedule) = (spec.name.into(), spec.title.into(), spec.schedule.into());
        Arc::new(Self { name, title, group: spec.group, schedule, state: Mutex::new(state), hand })
    }

    fn ours(spec: &Spec, paused: Option<(i64, String)>) -> Arc<Self> {
        let control = Control { stop: Mutex::new(CancellationToken::new()), wake: Notify::new() };
        Self::new(spec, LoopState { paused, ..LoopState::default() }, Hand::Ours(control))
    }

    /// One of the relay's, as it is at this moment.
    pub(super) fn seen(spec: &Spec, part: Part, state: LoopState) -> Arc<Self> {
        Self::new(spec, state, Hand::Relay(part))
    }

    /// How it is.
    pub fn state(&self) -> LoopState {
        self.state.lock().clone()
    }

    /// What can be done with it.
    pub fn can(&self) -> &'static [&'static str] {
        match self.hand {
            Hand::Ours(_) => &["pause", "resume", "restart"],
            Hand::Relay(part) if part.can_pause() => &["run", "pause", "resume", "restart"],
            Hand::Relay(_) => &["run", "restart"],
        }
    }

    /// It goes round at once.
    pub(super) fn run(&self, app: &Shared) -> Result<(), Refused> {
        match (&self.hand, &app.relay) {
            (Hand::Relay(_), _) if self.state.lock().paused.is_some() => Err(Refused::Paused),
            (Hand::Relay(part), Some(relay)) => {
                relay.run_part(*part);
                Ok(())
            }
            _ => Err(Refused::GoesOn),
        }
    }

    /// Ends it; it begins anew at once.
    pub(super) fn restart(&self, app: &Shared) {
        match (&self.hand, &app.relay) {
            (Hand::Ours(control), _) => control.stop.lock().cancel(),
            (Hand::Relay(part), Some(relay)) => relay.restart_part(*part),
            (Hand::Relay(_), None) => {}
        }
    }

    /// Ends it until it is resumed.
    pub(super) async fn pause(&self, app: &Shared, paused: Option<(i64, String)>) {
        match (&self.hand, &app.relay) {
            (Hand::Ours(control), _) => {
                let stands = paused.is_some();
                self.state.lock().paused = paused;
                match stands {
                    true => control.stop.lock().cancel(),
                    false => control.wake.notify_one(),
                }
            }
            (Hand::Relay(part), Some(relay)) => relay.pause_part(*part, paused.is_some()).await,
            (Hand::Relay(_), None) => {}
        }
    }
}

/// Runs a loop until the server stops, and starts it again when it ends by a defect.
pub async fn supervise<F>(
    app: Shared,
    spec: Spec,
    closing: CancellationToken,
    work: impl Fn(Shared, CancellationToken) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let this = app.monitor.jobs.add_loop(Loop::ours(&spec, app.monitor.jobs.pause_of(spec.name)));
    let Hand::Ours(control) = &this.hand else { return };
    let mut pause = PAUSES.0;
    let mut here = spec.at.here(&app);
    loop {
        while this.state.lock().paused.is_some() {
            tokio::select! {
                () = control.wake.notified() => {}
                () = closing.cancelled() => return,
            }
        }
        if here.as_ref().is_some_and(|here| !*here.borrow()) {
            this.state.lock().summary = ELSEWHERE.into();
            tokio::select! {
                () = cluster::until(&mut here, true) => {}
                () = closing.cancelled() => return,
            }
            this.state.lock().summary.clear();
            continue;
        }
        let stop = closing.child_token();
        *control.stop.lock() = stop.clone();
        let since_ms = app.clock.now_ms();
        {
            let mut state = this.state.lock();
            state.running = true;
            state.runs += 1;
            (state.since_ms, state.last_ms) = (Some(since_ms), Some(since_ms));
        }
        let mut task = tokio::spawn(work(app.clone(), stop.clone()));
        let ended = tokio::select! {
            ended = &mut task => Some(ended),
            () = cluster::until(&mut here, false), if here.is_some() => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                // Another node does it from now on.
                stop.cancel();
                let _ = task.await;
                this.state.lock().running = false;
                if closing.is_cancelled() {
                    return;
                }
                continue;
            }
        };
        this.state.lock().running = false;
        if closing.is_cancelled() {
            return;
        }
        match ended {
            Err(error) if error.is_panic() => {
                tracing::error!(job = spec.name, %error, "a part of the server ended by a defect of this program and is started again");
                let problems = {
                    let mut state = this.state.lock();
                    state.problems = state.problems.saturating_add(1);
                    state.level = Level::Problem;
                    state.summary = "it ended by a defect of this program and was started again: see the log".into();
                    state.problems
                };
                // The incident tells of it, with the place that is known to the process.
                crate::incident::own::note_defect(format!(
                    "{} ({}) ended by it and is started again; in a row: {problems}.",
                    spec.title, spec.name
                ));
                let was_well = app.clock.now_ms() - since_ms > WELL_MS;
                pause = if was_well { PAUSES.0 } else { (pause * 2).min(PAUSES.1) };
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = closing.cancelled() => return,
                }
            }
            _ if stop.is_cancelled() => {
                let mut state = this.state.lock();
                (state.problems, state.level, state.summary) = (0, Level::Ok, "restarted by hand".into());
            }
            // It has nothing to do in this configuration.
            _ => {
                this.state.lock().summary = "there is nothing for it to do".into();
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = cluster::until(&mut here, false), if here.is_some() => {}
                    () = closing.cancelled() => return,
                }
            }
        }
    }
}
