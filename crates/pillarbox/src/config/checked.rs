//! What the configuration means: every setting with its type, defaults filled in, contradictions found.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use net::cidr::Cidr;
use secrecy::{ExposeSecret, SecretString};

use super::keys::Key;
use super::raw::{Located, Raw, Typed};
use super::reader::Reader;
use super::values::Threshold;
use super::{Place, Problem};

/// The address of a store in a database. There is a password in it: it is not shown.
#[derive(Debug, Clone)]
pub struct StoreUrl(pub SecretString);

impl PartialEq for StoreUrl {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

/// The whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Our name.
    pub hostname: String,
    /// Name of this instance.
    pub node: String,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where the queue is, if not there.
    pub store: Option<StoreUrl>,
    /// Directory with rules of one's own.
    pub rules_dir: Option<PathBuf>,
    /// How long a stop may take.
    pub shutdown: Duration,
    /// Where the key comes from.
    pub key: KeySource,
    /// SMTP listeners, at least one.
    pub listeners: Vec<Listener>,
    /// HTTP listener.
    pub http: SocketAddr,
    /// Limits.
    pub limits: Limits,
    /// Waits between attempts, at least one.
    pub retry: Vec<Duration>,
    /// When to give up.
    pub expiry: Duration,
    /// Senders by SMTP are told when mail fails.
    pub notices: bool,
    /// When those who asked are told that a message is late.
    pub notice_delay: Duration,
    /// Mail that comes back.
    pub bounce: Bounce,
    /// Reports about TLS; none without a contact.
    pub tls_report: Option<TlsReport>,
    /// The part of the queue in memory.
    pub queue: Queue,
    /// How long things are kept.
    pub retention: Retention,
    /// What suppresses an address.
    pub suppression: Suppression,
    /// Which rates warn and stop.
    pub rates: Rates,
    /// When failed attempts are an incident.
    pub incidents: Incidents,
    /// Name servers; empty: the system's.
    pub dns_servers: Vec<SocketAddr>,
    /// Longest wait for a name server.
    pub dns_timeout: Duration,
    /// Public addresses that mail leaves from, beside those of the machine.
    pub dns_addresses: Vec<IpAddr>,
    /// File with blocklists of one's own.
    pub blocklists: Option<PathBuf>,
    /// Whom to trust.
    pub roots: Roots,
    /// Networks that webhooks may call though they are not public.
    pub webhook_networks: Vec<Cidr>,
    /// Who may look at figures.
    pub metrics: Metrics,
    /// Scheduled checks.
    pub checks: Checks,
    /// Where traces and figures are sent.
    pub otlp: Otlp,
    /// Logging.
    pub log: Log,
    /// Streams that differ from the default.
    pub streams: Vec<Stream>,
    /// Where recipients reach this server by HTTP.
    pub public_url: Option<String>,
    /// How commands reach the server.
    pub client: Client,
}

/// Where the encryption key comes from, besides `PILLARBOX_KEY` and the systemd credential.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KeySource {
    /// A file.
    pub file: Option<PathBuf>,
}

/// How a listener uses TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Offered by STARTTLS.
    StartTls,
    /// From the first octet.
    Implicit,
    /// Not at all.
    Plain,
}

/// Who may log in without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthWithoutTls {
    /// Nobody.
    Never,
    /// Clients on this machine.
    Loopback,
}

/// What a listener takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerKind {
    /// Mail of senders.
    Submission,
    /// Reports about mail of ours.
    Bounce,
}

/// Mail that comes back.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bounce {
    /// Domain of return paths of our own.
    pub domain: Option<String>,
    /// Routes that do not say give the sender's own return path.
    pub original: bool,
    /// Where reports of DMARC and TLS may go.
    pub report_address: Option<String>,
}

/// An SMTP listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// Name.
    pub name: String,
    /// What it takes.
    pub kind: ListenerKind,
    /// Where.
    pub address: SocketAddr,
    /// TLS.
    pub mode: Mode,
    /// Certificate and private key; none: self-signed.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// AUTH without TLS.
    pub auth_without_tls: AuthWithoutTls,
    /// PROXY peers.
    pub proxy_from: Vec<Cidr>,
    /// XCLIENT peers.
    pub xclient_from: Vec<Cidr>,
}

/// See the reference; sizes in octets.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "each has its text in the table of settings")]
pub struct Limits {
    pub message_size: u64,
    pub recipients: usize,
    pub connections: u32,
    pub connections_per_address: u32,
    pub commands: u32,
    pub command_timeout: Duration,
    pub data_timeout: Duration,
    pub memory: usize,
    pub free_disk: u64,
}

/// The part of the queue in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// Recipients.
    pub window_recipients: usize,
    /// Octets.
    pub window_size: usize,
    /// Keep the transcripts of successes too.
    pub all_transcripts: bool,
}

/// Scheduled checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checks {
    /// Those that are there by themselves run.
    pub builtin: bool,
    /// Where the newest version is named.
    pub version_from: Option<String>,
}

/// How long things are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Retention {
    /// Content.
    pub content: Duration,
    /// Events.
    pub events: Duration,
    /// Captured messages.
    pub captured: Duration,
}

/// What suppresses an address by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each has its text in the table of settings")]
pub struct Suppression {
    pub unknown_user: Option<Threshold>,
    pub mailbox_full: Option<Threshold>,
    pub complaint: Option<Threshold>,
}

/// Rates of bounces and complaints; thresholds in millionths.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each has its text in the table of settings")]
pub struct Rates {
    pub minimum: u64,
    pub bounces: Option<(u32, u32)>,
    pub complaints: Option<(u32, u32)>,
    pub pauses: bool,
}

/// When failed attempts are an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each has its text in the table of settings")]
pub struct Incidents {
    pub recipients: u32,
    pub share: u32,
    pub window: Duration,
}

/// Whom to trust when delivering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// The system's store.
    System,
    /// The roots built in.
    Web,
    /// Both.
    Both,
    /// A PEM file.
    File(PathBuf),
}

/// Logging.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// JSON lines.
    pub json: bool,
    /// Filter.
    pub level: String,
}

/// Who may look at figures, besides this machine and administrators.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metrics {
    /// Networks that need no token.
    pub networks: Vec<Cidr>,
    /// A file with the token.
    pub token_file: Option<PathBuf>,
}

/// A collector of OpenTelemetry.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Otlp {
    /// Its URL without `/v1/…`; none: nothing is sent.
    pub endpoint: Option<String>,
    /// A file with more header fields.
    pub headers_file: Option<PathBuf>,
    /// Traces in a hundred.
    pub sample: u64,
}

impl Config {
    /// Whether another configuration differs in nothing but what a reload takes up.
    pub fn but_for_reload(&self, other: &Self) -> bool {
        let level = Log { level: other.log.level.clone(), ..self.log.clone() };
        Self { log: level, ..self.clone() } == *other
    }
}

/// A named class of mail.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// Name.
    pub name: String,
    /// 0 (urgent) to 3 (bulk).
    pub priority: u8,
    /// When to give up.
    pub deadline: Option<Duration>,
    /// A message whose fate is unknown may go by a fallback route too.
    pub allow_duplicates: bool,
}

/// Reports about TLS to receiving domains.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsReport {
    /// Who reports.
    pub organization: Option<String>,
    /// Whom to ask.
    pub contact: proto::Address,
    /// Receivers may be in private networks.
    pub private: bool,
}

/// How commands reach the server when they may not open the control socket.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Client {
    /// URL.
    pub server: Option<String>,
    /// File with the API key.
    pub key_file: Option<PathBuf>,
}

/// Checks all of it. Problems are added to the list; with any of them the result must not be used.
pub fn check(raw: &Raw, base: Option<&Path>, problems: &mut Vec<Problem>) -> Config {
    let mut top = Reader { values: &raw.values, base, problems };
    let bounce = top.bounce();
    let listeners = listeners(raw, base, bounce.domain.is_some(), top.problems);
    Config {
        hostname: top.text("hostname").unwrap_or_else(machine_name),
        node: top.text("node").unwrap_or_default(),
        data_dir: top.path("data_dir").unwrap_or_default(),
        store: top.text("store").map(|url| StoreUrl(SecretString::from(url))),
        rules_dir: top.path("rules_dir"),
        shutdown: top.duration("shutdown_timeout"),
        key: KeySource { file: top.path("key.file") },
        listeners,
        public_url: top.public_url(),
        http: top.socket("http.address").unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8025))),
        limits: top.limits(),
        retry: top.durations("retry.intervals"),
        expiry: top.duration("retry.expiry"),
        notices: top.text("notices.send").as_deref() != Some("no"),
        notice_delay: top.duration("notices.delay"),
        bounce,
        tls_report: top.tls_report(),
        queue: Queue {
            window_recipients: top.number("queue.window_recipients") as usize,
            window_size: top.number("queue.window_size") as usize,
            all_transcripts: top.text("queue.transcripts").as_deref() == Some("all"),
        },
        retention: Retention {
            content: top.duration("retention.content"),
            events: top.duration("retention.events"),
            captured: top.duration("retention.captured"),
        },
        suppression: Suppression {
            unknown_user: top.threshold("suppression.unknown_user"),
            mailbox_full: top.threshold("suppression.mailbox_full"),
            complaint: top.threshold("suppression.complaint"),
        },
        rates: Rates {
            minimum: top.number("rates.minimum"),
            bounces: top.rates("rates.bounces"),
            complaints: top.rates("rates.complaints"),
            pauses: top.text("rates.action").as_deref() != Some("warn"),
        },
        incidents: Incidents {
            recipients: top.number("incidents.recipients") as u32,
            share: top.number("incidents.share") as u32,
            window: top.duration("incidents.window"),
        },
        dns_servers: top.sockets("dns.servers"),
        dns_timeout: top.duration("dns.timeout"),
        dns_addresses: top.networks("dns.addresses").iter().filter_map(Cidr::single).collect(),
        blocklists: top.path("dns.blocklists"),
        roots: top.roots(),
        webhook_networks: top.networks("webhooks.networks"),
        checks: top.checks(),
        metrics: Metrics { networks: top.networks("metrics.networks"), token_file: top.path("metrics.token_file") },
        otlp: Otlp {
            endpoint: top.text("otlp.endpoint"),
            headers_file: top.path("otlp.headers_file"),
            sample: top.number("otlp.sample"),
        },
        log: Log { json: top.text("log.format").as_deref() == Some("json"), level: top.log_level() },
        streams: streams(raw, base, top.problems),
        client: Client { server: top.text("client.server"), key_file: top.path("client.key_file") },
    }
}

/// The machine's name as the kernel has it.
fn machine_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    proto::address::parse_domain(&name).unwrap_or_else(|_| "localhost".into())
}

fn listeners(raw: &Raw, base: Option<&Path>, bounces: bool, problems: &mut Vec<Problem>) -> Vec<Listener> {
    let Some(blocks) = raw.blocks.get("listener") else {
        return vec![Listener {
            name: "default".into(),
            kind: ListenerKind::Submission,
            address: SocketAddr::from(([127, 0, 0, 1], 2525)),
            mode: Mode::StartTls,
            certificate: None,
            auth_without_tls: AuthWithoutTls::Loopback,
            proxy_from: Vec::new(),
            xclient_from: Vec::new(),
        }];
    };
    let mut names = Vec::new();
    let mut all = Vec::new();
    for (n, block) in blocks.iter().enumerate() {
        let mut reader = Reader { values: &block.values, base, problems };
        let name = reader.text("listener.name").unwrap_or_else(|| format!("listener-{}", n + 1));
        if names.contains(&name) {
            reader.problem_at(block, "listener.name", format!("there is already a listener named \"{name}\""));
        }
        names.push(name.clone());
        if !bounces && reader.text("listener.kind").as_deref() == Some("bounce") {
            let message = "a listener of kind \"bounce\" needs `bounce.domain`";
            reader.problem_at(block, "listener.kind", message.into());
        }
        all.extend(reader.listener(name, block));
    }
    all
}

fn streams(raw: &Raw, base: Option<&Path>, problems: &mut Vec<Problem>) -> Vec<Stream> {
    let mut all: Vec<Stream> = Vec::new();
    for block in raw.blocks.get("stream").into_iter().flatten() {
        let mut reader = Reader { values: &block.values, base, problems };
        let priority = match reader.text("stream.priority").as_deref() {
            Some("urgent") => 0,
            Some("high") => 1,
            Some("bulk") => 3,
            _ => 2,
        };
        let deadline = reader.optional_duration("stream.deadline");
        let allow_duplicates = reader.text("stream.allow_duplicates").as_deref() == Some("yes");
        let Some(name) = reader.text("stream.name") else {
            reader.missing(block, "stream.name");
            continue;
        };
        if all.iter().any(|stream| stream.name == name) {
            reader.problem_at(block, "stream.name", format!("there is already a stream named \"{name}\""));
        }
        all.push(Stream { name, priority, deadline, allow_duplicates });
    }
    all
}

/// The default of a key, as if it had been typed.
pub fn default(key: &Key) -> Option<Located> {
    if key.default.is_empty() {
        return None;
    }
    let value = toml::from_str::<toml::Table>(&format!("v = {}", key.default)).ok()?.remove("v")?;
    Some(Located { value: plain(&value), place: Place::Default })
}

fn plain(value: &toml::Value) -> Typed {
    match value {
        toml::Value::String(text) => Typed::Text(text.clone()),
        toml::Value::Integer(number) => Typed::Integer(*number),
        toml::Value::Boolean(flag) => Typed::Flag(*flag),
        toml::Value::Array(items) => Typed::List(items.iter().map(plain).collect()),
        other => Typed::Other(other.type_str()),
    }
}
