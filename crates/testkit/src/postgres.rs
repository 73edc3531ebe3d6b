//! A PostgreSQL server of one's own: a throw-away cluster of the installed server, behind a socket in a directory that goes
//! with it. It ends with the process that started it, however that ends.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What the server is started with: everything that makes a commit durable stays on, because programs under test look.
/// Between two looks at a server that starts; it needs the processor too.
const LOOK: Duration = Duration::from_millis(10);

const SETTINGS: &[&str] = &[
    "listen_addresses=",
    "fsync=on",
    "full_page_writes=off",
    "shared_buffers=64MB",
    "max_connections=800",
    "max_wal_size=512MB",
    "autovacuum_naptime=5s",
    "log_min_messages=warning",
    "log_min_error_statement=panic",
];

/// A running server.
pub struct Postgres {
    bin: PathBuf,
    dir: PathBuf,
    /// While it is open the server runs.
    leash: Option<ChildStdin>,
    child: Child,
}

/// Where Debian's server keeps its programs; the newest is taken.
fn programs() -> PathBuf {
    if let Some(dir) = std::env::var_os("PILLARBOX_TEST_POSTGRES") {
        return dir.into();
    }
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    found.sort();
    found
        .pop()
        .map(|(_, dir)| dir)
        .expect("PostgreSQL is installed in /usr/lib/postgresql (Debian: apt install postgresql)")
}

/// A command as a user who may run the server: it refuses root.
fn command(program: &Path) -> Command {
    if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
        return command;
    }
    Command::new(program)
}

impl Postgres {
    /// Starts a new cluster; panics if that fails.
    pub fn start() -> Self {
        let bin = programs();
        // Memory, where there is some: tests commit thousands of times.
        let shm = Path::new("/dev/shm");
        let dir = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() };
        let dir = dir.expect("a directory for the cluster").keep();
        if rustix::process::geteuid().is_root() {
            let owned = Command::new("chown").arg("postgres:postgres").arg(&dir).status();
            assert!(owned.is_ok_and(|status| status.success()), "the directory is the server's");
        }
        let data = dir.join("data");
        let made = command(&bin.join("initdb"))
            .args(["--username=pillarbox", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "-D"])
            .arg(&data)
            .current_dir(&dir)
            .output()
            .expect("initdb runs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        // The shell holds the server, and ends it when its own input ends: that is, with us.
        let script = "dir=$1; shift; \"$@\" & server=$!; read -r line; kill -QUIT \"$server\"; wait \"$server\"; cd /; \
                      rm -rf \"$dir\"";
        let mut server = command(Path::new("/bin/sh"));
        server.args(["-c", script, "sh"]).arg(&dir).arg(bin.join("postgres")).arg("-D").arg(&data);
        server.arg("-k").arg(&dir);
        for setting in SETTINGS {
            server.args(["-c", setting]);
        }
        let log = std::fs::File::create(dir.join("log")).expect("a log");
        let errors = log.try_clone().expect("a log");
        let mut child = server
            .current_dir(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::from(log))
            .stderr(Stdio::from(errors))
            .spawn()
            .expect("the server starts");
        let leash = child.stdin.take();
        let server = Self { bin, dir, leash, child };
        server.wait_until_ready();
        server
    }

    /// Whether stories are to be told on PostgreSQL instead of the embedded engine: `PILLARBOX_TEST_STORE` says so.
    pub fn wanted() -> bool {
        match std::env::var("PILLARBOX_TEST_STORE").as_deref() {
            Err(_) | Ok("" | "sqlite") => false,
            Ok("postgres") => true,
            Ok(other) => panic!("PILLARBOX_TEST_STORE is sqlite or postgres, not {other}"),
        }
    }

    /// The one that all tests of this process share. It ends with the process.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn wait_until_ready(&self) {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let ready = Command::new(self.bin.join("pg_isready")).arg("-q").arg("-h").arg(&self.dir).status();
            if ready.is_ok_and(|status| status.success()) {
                return;
            }
            assert!(Instant::now() < until, "PostgreSQL did not get ready:\n{}", self.log());
            std::thread::sleep(LOOK);
        }
    }

    /// What the server wrote to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Makes a database of a new name; gives its URL.
    pub fn database(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        let dir = self.dir.display().to_string().replace('/', "%2F");
        format!("postgres://pillarbox@{dir}/{database}")
    }

    /// The name of the database in a URL made here.
    pub fn name(url: &str) -> &str {
        url.rsplit('/').next().unwrap_or_default()
    }

    /// Runs SQL by psql; gives the rows, columns separated by `|`. Panics with what the server says if it fails.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Like [`sql`](Self::sql) of a server that may not be well: gives what it says against it.
    pub fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut child = Command::new(self.bin.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "pillarbox", "-d", database, "-h"])
            .arg(&self.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql runs");
        child.stdin.take().expect("piped").write_all(sql.as_bytes()).expect("psql reads");
        let done = child.wait_with_output().expect("psql ends");
        if !done.status.success() {
            return Err(String::from_utf8_lossy(&done.stderr).into_owned());
        }
        Ok(String::from_utf8_lossy(&done.stdout).trim_end().to_owned())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.leash.take());
        let _ = self.child.wait();
    }
}
