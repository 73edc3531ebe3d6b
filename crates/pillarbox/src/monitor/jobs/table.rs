//! The table of jobs: which is due, which runs, how each went. Pure: callers tell the time, and run what is due.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{First, Group, Job, Work};
use crate::monitor::check::Level;
use crate::monitor::schedule::seed;

/// Checks at once, and others at once: a job that hangs keeps none of the other sort from running.
const AT_ONCE: usize = 4;
/// A job that never ran, or was missed, starts after this time, and not all together.
const SOON_MS: i64 = 60_000;
/// A clock that went back further than this was set.
const BACK_MS: i64 = 60_000;
/// Longest summary that is kept, characters.
const LONGEST: usize = 500;

/// What is known of a job's runs; kept across restarts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Start of the last run, Unix milliseconds.
    pub last_start_ms: Option<i64>,
    /// How long it took.
    pub duration_ms: u64,
    /// How it went.
    pub level: Option<Level>,
    /// The same in words.
    pub summary: String,
    /// Runs so far.
    pub runs: u64,
    /// Runs in a row that went wrong.
    pub problems: u32,
    /// Why it is paused, and since when (Unix milliseconds).
    pub paused: Option<(i64, String)>,
}

/// A job and where it stands.
#[derive(Debug)]
pub struct Entry {
    /// The job.
    pub job: Job,
    /// Its runs.
    pub state: State,
    /// The run under way.
    pub running: Option<Running>,
    /// Next run, Unix milliseconds; `None` while it is paused or if it never comes.
    pub next_ms: Option<i64>,
    asked: bool,
    again_ms: Option<i64>,
}

/// A run under way.
#[derive(Debug, Clone)]
pub struct Running {
    /// Its start, Unix milliseconds.
    pub since_ms: i64,
    /// Ends it.
    pub stop: CancellationToken,
    number: u64,
}

/// A run to be started.
#[derive(Debug)]
pub struct Start {
    /// The job's name.
    pub name: String,
    /// Longest it may take.
    pub timeout: Duration,
    /// What to do.
    pub work: Work,
    /// Ends it.
    pub stop: CancellationToken,
    /// Which run it is.
    pub number: u64,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// How it went.
    pub level: Level,
    /// In a sentence.
    pub summary: String,
}

/// Why a job was not told what it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There is no such job.
    Unknown,
    /// It is running already.
    Running,
    /// It does not end, so there is no run of it to begin.
    GoesOn,
    /// It is paused, and what others rely on does not run a single time.
    Paused,
    /// Others rely on it at every moment.
    Needed,
    /// The store is away: it could not be written down, and was not done.
    Unwritten,
}

/// Which jobs are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those that are due, or asked for.
    Due,
    /// Those that somebody asked for here: another node does the rest.
    Asked,
}

/// All jobs.
#[derive(Debug, Default)]
pub struct Table {
    entries: BTreeMap<String, Entry>,
    numbers: u64,
    latest_ms: i64,
}

impl Entry {
    /// When it runs next, from what is known of its last run.
    fn plan(&mut self, now_ms: i64) {
        let seed = seed(&self.job.name);
        let soon_ms = SOON_MS + (seed % SOON_MS.unsigned_abs()).cast_signed();
        self.next_ms = match (self.state.last_start_ms, self.job.first) {
            _ if self.state.paused.is_some() => None,
            (None, First::Soon) => Some(now_ms.saturating_add(soon_ms)),
            (None, First::AsScheduled) => self.job.schedule.next_after(now_ms, seed),
            // A start in the future: the clock was set back since. Missed runs, however many, are one run soon.
            (Some(last_ms), _) => match self.job.schedule.next_after(last_ms.min(now_ms), seed) {
                Some(next_ms) if next_ms < now_ms => Some(now_ms.saturating_add(soon_ms)),
                other => other,
            },
        };
    }
}

impl Table {
    /// Adds a job, or replaces one of its name, which keeps what is known of its runs.
    pub fn put(&mut self, job: Job, known: Option<State>, now_ms: i64) {
        match self.entries.get_mut(&job.name) {
            Some(entry) => {
                let same = entry.job.schedule == job.schedule;
                entry.job = job;
                if !same {
                    entry.plan(now_ms);
                }
            }
            None => {
                let name = job.name.clone();
                let state = known.unwrap_or_default();
                let mut entry = Entry { job, state, running: None, next_ms: None, asked: false, again_ms: None };
                entry.plan(now_ms);
                self.entries.insert(name, entry);
            }
        }
    }

    /// Forgets a job; a run under way ends.
    pub fn remove(&mut self, name: &str) {
        if let Some(running) = self.entries.remove(name).and_then(|entry| entry.running) {
            running.stop.cancel();
        }
    }

    /// One job.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// All jobs by name.
    pub fn all(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// All that is to be started now.
    #[cfg(test)]
    fn start(&mut self, now_ms: i64) -> Vec<Start> {
        self.start_some(now_ms, Which::Due)
    }

    /// What of these is to be started now, the longest due first; it counts as running from now on.
    pub fn start_some(&mut self, now_ms: i64, which: Which) -> Vec<Start> {
        if now_ms < self.latest_ms - BACK_MS {
            self.entries.values_mut().for_each(|entry| entry.plan(now_ms));
        }
        self.latest_ms = now_ms;
        let mut due: Vec<(bool, i64, String)> = Vec::new();
        for (name, entry) in &self.entries {
            let is_due = which == Which::Due && entry.next_ms.is_some_and(|next_ms| next_ms <= now_ms);
            if entry.running.is_none() && (entry.asked || is_due) {
                due.push((!entry.asked, entry.next_ms.unwrap_or(now_ms), name.clone()));
            }
        }
        due.sort();
        let mut starts = Vec::new();
        for (_, _, name) in due {
            if let Some(group) = self.entries.get(&name).map(|entry| entry.job.group)
                && self.room(group)
            {
                starts.extend(self.begin(&name, now_ms));
            }
        }
        starts
    }

    fn room(&self, group: Group) -> bool {
        let same = |entry: &&Entry| (entry.job.group == Group::Check) == (group == Group::Check);
        self.entries.values().filter(same).filter(|entry| entry.running.is_some()).count() < AT_ONCE
    }

    fn begin(&mut self, name: &str, now_ms: i64) -> Option<Start> {
        let entry = self.entries.get_mut(name)?;
        self.numbers += 1;
        let stop = CancellationToken::new();
        entry.asked = false;
        entry.running = Some(Running { since_ms: now_ms, stop: stop.clone(), number: self.numbers });
        let (timeout, work) = (entry.job.timeout, entry.job.work.clone());
        Some(Start { name: name.to_owned(), timeout, work, stop, number: self.numbers })
    }

    /// Notes the end of a run; gives what is known of the job now, to be kept. A run of a job that was replaced or
    /// removed meanwhile is nobody's.
    pub fn finished(&mut self, name: &str, number: u64, done: &Done, now_ms: i64) -> Option<State> {
        let entry = self.entries.get_mut(name)?;
        let running = entry.running.take_if(|running| running.number == number)?;
        let state = &mut entry.state;
        state.last_start_ms = Some(running.since_ms.min(now_ms));
        state.duration_ms = u64::try_from(now_ms - running.since_ms).unwrap_or(0);
        state.level = Some(done.level);
        state.summary = done.summary.chars().take(LONGEST).collect();
        state.runs += 1;
        state.problems = if done.level == Level::Problem { state.problems + 1 } else { 0 };
        // What was due while it ran has just been done.
        let next_ms = || entry.job.schedule.next_after(now_ms, seed(name));
        entry.next_ms = if entry.state.paused.is_some() { None } else { next_ms() };
        if let (Some(again_ms), Some(next_ms)) = (entry.again_ms.take(), entry.next_ms) {
            entry.next_ms = Some(next_ms.min(again_ms));
        }
        Some(entry.state.clone())
    }

    /// Besides its schedule a job runs at this moment; said by a run of it.
    pub fn again(&mut self, name: &str, at_ms: i64) {
        if let Some(entry) = self.entries.get_mut(name).filter(|entry| entry.running.is_some()) {
            entry.again_ms = Some(at_ms);
        }
    }

    /// What was known of jobs that are there already.
    pub fn restore(&mut self, known: impl Fn(&str) -> Option<State>, now_ms: i64) {
        for (name, entry) in self.entries.iter_mut().filter(|(_, entry)| entry.state.runs == 0) {
            if let Some(state) = known(name) {
                entry.state = state;
                entry.plan(now_ms);
            }
        }
    }

    /// What other nodes have done meanwhile.
    pub fn adopt(&mut self, known: impl Fn(&str) -> Option<State>, now_ms: i64) {
        for (name, entry) in self.entries.iter_mut().filter(|(_, entry)| entry.running.is_none()) {
            let Some(state) = known(name) else { continue };
            let newer = state.runs > entry.state.runs;
            if newer || state.runs == entry.state.runs && state.paused != entry.state.paused {
                entry.state = state;
                entry.plan(now_ms);
            }
        }
    }

    /// Runs a job as soon as there is room, also one that is paused.
    ///
    /// # Errors
    /// There is no such job, or it is running.
    pub fn ask(&mut self, name: &str) -> Result<(), Refused> {
        let entry = self.entries.get_mut(name).ok_or(Refused::Unknown)?;
        if entry.running.is_some() {
            return Err(Refused::Running);
        }
        entry.asked = true;
        Ok(())
    }

    /// Ends a run under way and runs the job anew.
    ///
    /// # Errors
    /// There is no such job.
    pub fn restart(&mut self, name: &str) -> Result<(), Refused> {
        let entry = self.entries.get_mut(name).ok_or(Refused::Unknown)?;
        entry.asked = true;
        if let Some(running) = &entry.running {
            running.stop.cancel();
        }
        Ok(())
    }

    /// Pauses a job, or lets it go on; a run under way is finished. Gives what is to be kept.
    ///
    /// # Errors
    /// There is no such job.
    pub fn pause(&mut self, name: &str, why: Option<String>, now_ms: i64) -> Result<State, Refused> {
        let entry = self.entries.get_mut(name).ok_or(Refused::Unknown)?;
        entry.state.paused = why.map(|why| (now_ms, why.chars().take(LONGEST).collect()));
        entry.plan(now_ms);
        Ok(entry.state.clone())
    }

    /// When something is due next.
    pub fn next_ms(&self) -> Option<i64> {
        self.entries.values().filter(|entry| entry.running.is_none()).filter_map(|entry| entry.next_ms).min()
    }

    /// Ends all runs.
    pub fn stop(&mut self) {
        self.entries.values().filter_map(|entry| entry.running.as_ref()).for_each(|running| running.stop.cancel());
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
