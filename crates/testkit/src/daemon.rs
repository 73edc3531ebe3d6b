//! A real process under test: started, watched until it is ready, signalled, killed, and its output kept.
//!
//! Only processes started here are ever signalled, each by its own handle.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::process::{Pid, Signal, kill_process};

/// How to start it.
#[derive(Debug, Clone)]
pub struct DaemonPlan {
    /// The program; in the binary's own tests `env!("CARGO_BIN_EXE_pillarbox")`.
    pub program: PathBuf,
    /// Arguments.
    pub args: Vec<OsString>,
    /// Environment on top of the caller's.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory.
    pub dir: Option<PathBuf>,
    /// A piece of the line (standard output or error) that says it is ready.
    pub ready: String,
    /// How long that may take.
    pub patience: Duration,
}

impl DaemonPlan {
    /// A program that says `ready` when it is, within 30 seconds.
    pub fn new(program: impl Into<PathBuf>, ready: &str) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            dir: None,
            ready: ready.to_owned(),
            patience: Duration::from_secs(30),
        }
    }
    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }
    /// Adds a variable.
    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }
}

#[derive(Default)]
struct Output {
    text: Mutex<(String, u8)>,
    changed: Condvar,
}

/// A running process. Dropping it kills it with SIGKILL and waits for it.
pub struct Daemon {
    child: Child,
    output: Arc<Output>,
    readers: Vec<JoinHandle<()>>,
    /// The line that said it is ready.
    pub ready_line: String,
    /// Time from start to that line.
    pub ready_after: Duration,
}

impl Daemon {
    /// Starts it and waits until it is ready; panics with its output if it ends or stays silent.
    pub fn start(plan: &DaemonPlan) -> Self {
        Self::try_start(plan).unwrap_or_else(|output| panic!("{:?} did not get ready:\n{output}", plan.program))
    }

    /// As [`Daemon::start`], but gives the output of a process that does not get ready.
    pub fn try_start(plan: &DaemonPlan) -> Result<Self, String> {
        let mut command = Command::new(&plan.program);
        command.args(&plan.args).envs(plan.env.iter().cloned()).stdin(Stdio::null());
        if let Some(dir) = &plan.dir {
            command.current_dir(dir);
        }
        let started = Instant::now();
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", plan.program.display()))?;
        let output = Arc::new(Output::default());
        let readers = [
            child.stdout.take().map(|pipe| collect(pipe, Arc::clone(&output))),
            child.stderr.take().map(|pipe| collect(pipe, Arc::clone(&output))),
        ];
        let readers = readers.into_iter().flatten().collect();
        let mut daemon = Self { child, output, readers, ready_line: String::new(), ready_after: Duration::default() };
        match daemon.wait_output(&plan.ready, plan.patience) {
            Some(line) => {
                daemon.ready_line = line;
                daemon.ready_after = started.elapsed();
                Ok(daemon)
            }
            None => {
                daemon.kill9();
                Err(daemon.output())
            }
        }
    }

    /// Waits until a line with this text has been written and gives the line; `None` when time is over or the
    /// process has closed its output.
    pub fn wait_output(&self, text: &str, patience: Duration) -> Option<String> {
        let until = Instant::now() + patience;
        let mut guard = self.output.text.lock();
        loop {
            if let Some(line) = guard.0.lines().find(|line| line.contains(text)) {
                return Some(line.to_owned());
            }
            if guard.1 >= 2 || self.output.changed.wait_until(&mut guard, until).timed_out() {
                return None;
            }
        }
    }

    /// All it has written so far.
    pub fn output(&self) -> String {
        self.output.text.lock().0.clone()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// True while it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }

    /// SIGTERM, and waits for the end; `None` if it is not over in time.
    pub fn terminate(&mut self, patience: Duration) -> Option<ExitStatus> {
        self.signal(Signal::TERM);
        self.wait(patience)
    }

    /// SIGHUP.
    pub fn hangup(&self) {
        self.signal(Signal::HUP);
    }

    /// SIGSTOP: the process stands still, its connections stay open.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits for the end; `None` if it is not over in time.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + patience;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(2)),
                _ => return None,
            }
        }
    }

    /// Resident memory in KiB (`VmRSS`), Linux only.
    pub fn resident_kib(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        let _ = kill_process(pid, signal);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill9();
    }
}

fn collect(pipe: impl Read + Send + 'static, output: Arc<Output>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(n) if n > 0) {
            output.text.lock().0.push_str(&String::from_utf8_lossy(&line));
            output.changed.notify_all();
            line.clear();
        }
        output.text.lock().1 += 1;
        output.changed.notify_all();
    })
}

/// A port of 127.0.0.1 that was free a moment ago: for processes that must come back at the same address after a
/// restart. Everything else binds port 0 and asks.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.local_addr().expect("address").port()
}
