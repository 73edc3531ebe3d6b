//! A real server in a directory of its own, and the two ways to it: HTTP and the command line. Its store is the embedded one, or a
//! database of its own where `PILLARBOX_TEST_STORE=postgres` says so.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, reason = "each story uses its part")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use testkit::Postgres;
use testkit::ca::Ca;
use testkit::daemon::{Daemon, DaemonPlan};

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// Between two questions; the server needs the processor too.
const LOOK: Duration = Duration::from_millis(5);

/// The program under test.
pub fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_pillarbox").into()
}

/// A server with its directory.
pub struct Server {
    /// Its directory.
    pub dir: TempDir,
    /// Whoever has signed its certificate.
    pub ca: Ca,
    daemon: Option<Daemon>,
    /// Password of the sender `app`.
    pub password: String,
    /// API key of the sender `app`.
    pub key: String,
    http: reqwest::Client,
}

impl Server {
    /// Starts a fresh one with a certificate for `localhost`.
    pub fn start() -> Self {
        Self::with("")
    }

    /// The same with more lines at the top of its configuration.
    pub fn with(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::new();
        ca.issue(&["localhost"]).write(dir.path());
        let store = match Postgres::wanted() && !more.contains("store = ") {
            true => format!("store = \"{}\"", Postgres::shared().database()),
            false => String::new(),
        };
        let text = format!(
            "hostname = \"relay.test\"\ndata_dir = \"data\"\n{store}\n{more}\n\
             [http]\naddress = \"127.0.0.1:0\"\n\
             [[listener]]\nname = \"smtp\"\naddress = \"127.0.0.1:0\"\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n"
        );
        std::fs::write(dir.path().join("pillarbox.toml"), text).unwrap();
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let mut server = Self { dir, ca, daemon: None, password: String::new(), key: String::new(), http };
        server.restart();
        let output = server.output();
        let after = |label: &str| {
            let line = output.lines().find(|line| line.trim_start().starts_with(label));
            line.and_then(|line| line.split_whitespace().last()).unwrap_or_default().to_owned()
        };
        server.password = after("password");
        server.key = after("API key");
        server
    }

    /// Starts it, again if it has run before.
    pub fn restart(&mut self) {
        let mut plan = DaemonPlan::new(program(), "ready").arg("serve").arg("--config").arg(self.config());
        plan.dir = Some(self.dir.path().to_owned());
        self.daemon = Some(Daemon::start(&plan));
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    /// Stops it in order and expects that it ends well.
    pub fn terminate(&mut self) {
        let status = self.daemon.as_mut().unwrap().terminate(PATIENCE).expect("it ends in time");
        assert!(status.success(), "{status}: {}", self.output());
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.daemon.as_mut().unwrap().kill9();
    }

    /// SIGHUP, until a line says it is done.
    pub fn hangup(&self) {
        self.daemon().hangup();
        self.daemon().wait_output("INFO reloaded", PATIENCE).expect("it says that it has reloaded");
    }

    /// Stands still until it is resumed.
    pub fn pause(&self) {
        self.daemon().pause();
    }

    /// Goes on.
    pub fn resume(&self) {
        self.daemon().resume();
    }

    /// All it has said since its last start.
    pub fn output(&self) -> String {
        self.daemon().output()
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("pillarbox.toml")
    }

    fn address(&self, label: &str) -> SocketAddr {
        let output = self.output();
        let line = output.lines().find(|line| line.trim_start().starts_with(label)).expect(label);
        let word = line.split_whitespace().nth(1).unwrap();
        word.trim_start_matches("http://").trim_end_matches(',').parse().unwrap()
    }

    /// Its SMTP listener.
    pub fn smtp(&self) -> SocketAddr {
        self.address("SMTP")
    }

    /// URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address("HTTP"))
    }

    /// GET with the API key.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.http.get(self.url(path)).bearer_auth(&self.key)).await
    }

    /// POST of JSON with the API key and maybe an Idempotency-Key.
    pub async fn post(&self, path: &str, body: &Value, idempotency: Option<&str>) -> (u16, Value) {
        let mut request = self.http.post(self.url(path)).bearer_auth(&self.key).json(body);
        if let Some(key) = idempotency {
            request = request.header("Idempotency-Key", key);
        }
        answer(request).await
    }

    /// A request as it is.
    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, self.url(path))
    }

    /// Runs a command beside the server; gives what it printed and expects success.
    pub fn run(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same with `--json`, read.
    pub fn run_json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.run(&[args, &["--json"]].concat())).unwrap()
    }

    /// A command to run.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(args).current_dir(self.dir.path()).env("PILLARBOX_CONFIG", self.config());
        command
    }

    /// Runs a command with this on its standard input.
    pub fn run_with_input(&self, command: Command, input: &str) -> Output {
        with_input(command, input)
    }

    /// Asks again and again until the answer is right: what is delivered is delivered by another thread.
    pub async fn until<T>(&self, what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
        let ends = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            assert!(tokio::time::Instant::now() < ends, "{what} did not happen; {}", self.output());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Sends all mail to this port on this machine, in clear. A second attempt comes only when a test asks for it.
    pub fn route_to(&self, port: u16) {
        let host = format!("127.0.0.1:{port}");
        self.run(&["route", "add", "sink", "--smarthost", &host, "--tls", "none", "--retry", "1h", "--default"]);
    }
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
}

/// Runs a command with this on its standard input.
pub fn with_input(mut command: Command, input: &str) -> Output {
    use std::io::Write;
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Reads a file of the repository.
pub fn repository_file(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    std::fs::read_to_string(&root).unwrap_or_else(|error| panic!("{}: {error}", root.display()))
}
