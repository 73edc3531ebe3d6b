//! Where log lines go: standard error, for people or as JSON, written by a thread of its own.
//!
//! Whoever logs never waits: lines stand in a bounded queue, and what finds no room there, or comes in a flood, is counted
//! and left out. A pipe that nobody reads, or a log daemon that stands still, costs lines, not mail. What is said can be
//! changed while the server runs.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use net::Clock;
use parking_lot::Mutex;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::Handle;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

use crate::config::checked::Log;

/// Lines that wait to be written.
const WAITING: usize = 512;
/// Lines a second; errors may be twice as many.
const A_SECOND: u64 = 2_000;

/// The variable that wins over `log.level`, as in other programs.
pub const VARIABLE: &str = "RUST_LOG";

static DROPPED: AtomicU64 = AtomicU64::new(0);
static RUNNING: OnceLock<Running> = OnceLock::new();

struct Running {
    filter: Handle<EnvFilter, Registry>,
    /// The filter in use, as it was typed.
    level: Mutex<String>,
    lines: SyncSender<Piece>,
}

enum Piece {
    Line(Vec<u8>),
    /// All before it is written.
    Flush(SyncSender<()>),
}

/// Lines that were left out since the start.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// The filter in use; empty before logging has started.
pub fn level() -> String {
    RUNNING.get().map(|running| running.level.lock().clone()).unwrap_or_default()
}

/// The filter of the environment, if it gives one that makes sense, else the given one.
pub fn effective(level: &str) -> String {
    let wanted = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty() && EnvFilter::try_new(text).is_ok());
    wanted.unwrap_or_else(|| level.to_owned())
}

/// Changes what is said from now on.
pub fn set(level: &str) -> Result<(), String> {
    let wrong = || "expected error, warn, info, debug, trace or a filter such as info,relay=debug".to_owned();
    // A word alone that is no level would be taken for a part of the program, and everything else be silent.
    if !level.contains(['=', '[', ',']) && level.parse::<LevelFilter>().is_err() {
        return Err(wrong());
    }
    let filter = EnvFilter::try_new(level).map_err(|_| wrong())?;
    let Some(running) = RUNNING.get() else { return Err("the server is not running".into()) };
    running.filter.reload(filter).map_err(|error| error.to_string())?;
    // What libraries log by the older way is dropped before it gets to the filter.
    log::set_max_level(match LevelFilter::current().into_level() {
        None => log::LevelFilter::Off,
        Some(Level::ERROR) => log::LevelFilter::Error,
        Some(Level::WARN) => log::LevelFilter::Warn,
        Some(Level::INFO) => log::LevelFilter::Info,
        Some(Level::DEBUG) => log::LevelFilter::Debug,
        Some(Level::TRACE) => log::LevelFilter::Trace,
    });
    let before = std::mem::replace(&mut *running.level.lock(), level.to_owned());
    if before != level {
        tracing::info!(%before, now = %level, "the log's level was changed");
    }
    Ok(())
}

/// Starts logging. A second call changes nothing.
pub fn start(log: &Log) {
    let level = effective(&log.level);
    let filter = EnvFilter::try_new(&level).unwrap_or_else(|_| EnvFilter::new("info"));
    let (filter, handle) = tracing_subscriber::reload::Layer::new(filter);
    let (lines, waiting) = sync_channel(WAITING);
    let json = log.json;
    let tap = Tap { lines: lines.clone(), clock: Clock::system(), second: AtomicU64::new(0), count: AtomicU64::new(0) };
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(tap);
    let begun = if log.json {
        registry.with(layer.json().flatten_event(true).with_span_events(FmtSpan::NONE)).try_init()
    } else {
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        registry.with(layer.with_ansi(colour).with_target(false)).try_init()
    };
    let spawned =
        std::thread::Builder::new().name("log".into()).spawn(move || write(&waiting, std::io::stderr(), json));
    if begun.is_ok() && spawned.is_ok() {
        let _ = RUNNING.set(Running { filter: handle, level: Mutex::new(level), lines });
    }
}

/// Waits until what was said is written, but not for ever.
pub fn flush(patience: Duration) {
    let Some(running) = RUNNING.get() else { return };
    let (done, written) = sync_channel(1);
    if running.lines.try_send(Piece::Flush(done)).is_ok() {
        let _ = written.recv_timeout(patience);
    }
}

/// Writes lines until nobody can log any more; says how many were left out when there is room again.
fn write(waiting: &Receiver<Piece>, mut to: impl Write, json: bool) {
    let mut told = 0;
    while let Ok(piece) = waiting.recv() {
        match piece {
            Piece::Line(line) => {
                let _ = to.write_all(&line);
            }
            Piece::Flush(done) => {
                let _ = to.flush();
                let _ = done.try_send(());
            }
        }
        let all = dropped();
        if all > told {
            let lines = all - told;
            let _ = match json {
                true => writeln!(to, r#"{{"level":"WARN","message":"log lines were left out","lines":{lines}}}"#),
                false => writeln!(to, "WARN {lines} log lines were left out"),
            };
            told = all;
        }
    }
}

/// Where the formatter writes to.
struct Tap {
    lines: SyncSender<Piece>,
    clock: Clock,
    second: AtomicU64,
    count: AtomicU64,
}

impl Tap {
    /// Whether a line of this level may be said in this second.
    fn admits(&self, level: Level) -> bool {
        let second = self.clock.mono_us() / 1_000_000;
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.count.store(0, Ordering::Relaxed);
        }
        let most = if level == Level::ERROR { 2 * A_SECOND } else { A_SECOND };
        self.count.fetch_add(1, Ordering::Relaxed) < most
    }
}

/// One line on its way.
struct Line<'a> {
    tap: &'a Tap,
    admitted: bool,
}

impl Write for Line<'_> {
    /// The formatter hands over whole lines.
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let kept = self.admitted
            && match self.tap.lines.try_send(Piece::Line(line.to_vec())) {
                Ok(()) => true,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
            };
        if !kept {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Tap {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { tap: self, admitted: self.admits(Level::INFO) }
    }
    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line<'a> {
        Line { tap: self, admitted: self.admits(*meta.level()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tap(room: usize) -> (Tap, Receiver<Piece>) {
        let (lines, waiting) = sync_channel(room);
        let (second, count) = (AtomicU64::new(0), AtomicU64::new(0));
        (Tap { lines, clock: Clock::manual(0), second, count }, waiting)
    }

    #[test]
    fn a_log_that_nobody_takes_costs_lines_and_no_time() {
        let (tap, waiting) = tap(10);
        let before = dropped();
        for n in 0..1_000 {
            let _ = tap.make_writer().write_all(format!("line {n}\n").as_bytes());
        }
        assert!(dropped() - before >= 990);
        drop(tap);
        let mut out = Vec::new();
        write(&waiting, &mut out, true);
        let out = String::from_utf8_lossy(&out).into_owned();
        assert!(out.starts_with("line 0\n{\"level\":\"WARN\"") && out.contains("line 9\n"), "{out}");
        assert!(!out.contains("line 10\n"), "{out}");
    }

    #[test]
    fn a_flood_is_cut_errors_have_room_beside_it_and_the_next_second_is_free() {
        let (tap, _waiting) = tap(10);
        let admitted = |level, times| (0..times).filter(|_| tap.admits(level)).count() as u64;
        assert_eq!(admitted(Level::INFO, 3_000), A_SECOND);
        assert_eq!(admitted(Level::ERROR, 3_000), 1_000);
        tap.clock.advance(Duration::from_secs(1));
        assert_eq!(admitted(Level::INFO, 3_000), A_SECOND);
    }
}
