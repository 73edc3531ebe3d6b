//! Every setting of the file: its path, what it takes, its default, and one or two sentences for the reference.
//!
//! Senders, routes and rules are not here: they live in the store (`pillarbox sender`, `pillarbox route`).

/// What a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Any text.
    Text,
    /// 1 to 64 characters of `a-z 0-9 . _ -`.
    Name,
    /// A host name.
    Host,
    /// A mail address.
    Address,
    /// A path; relative ones start at the directory of the configuration file.
    Path,
    /// A whole number in this range.
    Count(u64, u64),
    /// A duration such as `10m` in this range of seconds.
    Duration(u64, u64),
    /// Durations, at least one.
    Durations,
    /// A size such as `25 MiB` in this range of octets.
    Size(u64, u64),
    /// `address:port`.
    Socket,
    /// Addresses with an optional port (53).
    Servers,
    /// Addresses or networks (`192.0.2.0/24`).
    Networks,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// How much suppresses an address and for how long, `2 in 30d, for 180d`, or `off`.
    Threshold,
    /// Where a rate warns and stops, `2%, 5%`, or `off`.
    Rates,
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// `section.name`.
    pub path: &'static str,
    /// What it takes.
    pub shape: Shape,
    /// As it would be typed; empty: none.
    pub default: &'static str,
    /// For the reference.
    pub doc: &'static str,
}

const MIB: u64 = 1 << 20;
const DAY: u64 = 86_400;

const fn key(path: &'static str, shape: Shape, default: &'static str, doc: &'static str) -> Key {
    Key { path, shape, default, doc }
}

/// Sections that are lists.
pub const BLOCKS: &[&str] = &["listener", "stream"];

/// What stands above the keys of each section in the reference.
pub const SECTIONS: &[(&str, &str)] = &[
    ("", "Settings at the top of the file, before the first section."),
    (
        "key",
        "The key that encrypts stored secrets. `PILLARBOX_KEY` (32 octets in base64 or hex) wins over the systemd credential `pillarbox-key`, which wins over these; without any of them `key` in the data directory is used, and made on the first start.",
    ),
    (
        "listener",
        "One `[[listener]]` for each address that takes mail by SMTP. Without any there is one: `127.0.0.1:2525`, STARTTLS with a self-signed certificate, AUTH without TLS on loopback.",
    ),
    ("http", "The HTTP API and the pages."),
    ("limits", "What one client may use. Each limit has its own reply and loses nothing."),
    ("retry", "When a delivery that failed for now is tried again."),
    ("notices", "What senders by SMTP are told (RFC 3461). Clients of the HTTP API have events."),
    ("bounce", "Mail that comes back later. See bounces.md."),
    (
        "tls_report",
        "Daily reports about TLS to domains that ask for them (RFC 8460), over routes to mail exchangers. Only with a contact.",
    ),
    ("queue", "How much of the queue is in memory, and what is kept of attempts."),
    ("retention", "How long things are kept when nothing is left to do with them."),
    (
        "suppression",
        "What suppresses an address by itself: only what is the recipient's own. Written `2 in 30d, for 180d`: failures on two different days within 30 suppress for 180 days; `for ever` is possible, and `off`. Where the server leaves no doubt the first failure is enough.",
    ),
    (
        "rates",
        "Rates of bounces and complaints, per stream, sender, route and provider, over a rolling window: the first threshold warns, the second pauses the stream.",
    ),
    ("incidents", "When failed attempts are an incident. See incidents.md."),
    ("dns", "Name servers."),
    ("tls", "Whom to trust when delivering."),
    ("webhooks", "Whom to tell of events by HTTP is set with `pillarbox webhook`; here is what holds for all of them."),
    (
        "metrics",
        "Who may look at `/metrics` besides programs on this machine, the control socket and administrators' API keys. See metrics.md.",
    ),
    ("otlp", "Traces and figures for a collector of OpenTelemetry (OTLP over HTTP, JSON). See tracing.md."),
    ("checks", "Scheduled checks. See scheduled-checks.md."),
    ("log", "What the program says while it runs."),
    ("stream", "One `[[stream]]` for each named class of mail that differs from the default."),
    ("client", "How the commands `send` and `sendmail` reach the server when they may not open its control socket."),
];

/// The settings.
pub const KEYS: &[Key] = &[
    key(
        "hostname",
        Shape::Host,
        "",
        "Name in greetings, EHLO, `Received` and message ids. By default the machine's name.",
    ),
    key(
        "node",
        Shape::Name,
        "\"main\"",
        "Name of this instance; leases belong to it. With `store`, the default stands for the machine's name and a word of its own.",
    ),
    key(
        "data_dir",
        Shape::Path,
        "\"data\"",
        "Where everything is kept: queue, settings, key, certificates, control socket.",
    ),
    key(
        "store",
        Shape::Text,
        "",
        "Where the queue is, if not in `data_dir`: `postgres://user:password@host1,host2/database?sslmode=verify-full&sslrootcert=/path`, for several nodes on one queue. See postgresql.md. Better in the environment variable `PILLARBOX_STORE` than in a file that others read.",
    ),
    key(
        "rules_dir",
        Shape::Path,
        "",
        "Directory with rules of one's own, `*.toml`, for explaining failures. Read again on SIGHUP.",
    ),
    key(
        "shutdown_timeout",
        Shape::Duration(1, 3600),
        "\"30s\"",
        "How long SIGTERM waits for deliveries and sessions in flight.",
    ),
    key("key.file", Shape::Path, "", "File with the key: 32 octets, raw, in base64 or hex."),
    key("listener.name", Shape::Name, "", "Shown in logs and used for the files of a self-signed certificate."),
    key("listener.address", Shape::Socket, "", "Where to listen; port 0 takes any free one."),
    key(
        "listener.mode",
        Shape::Choice(&["starttls", "implicit", "plain"]),
        "\"starttls\"",
        "`starttls` (587, 25), `implicit` (465: TLS from the first octet), `plain` (no TLS at all).",
    ),
    key(
        "listener.certificate",
        Shape::Path,
        "",
        "PEM file with the certificate and its chain. Without it a self-signed one is made. Read again on SIGHUP and when it changes.",
    ),
    key("listener.key", Shape::Path, "", "PEM file with the certificate's private key."),
    key(
        "listener.auth_without_tls",
        Shape::Choice(&["never", "loopback"]),
        "\"never\"",
        "`loopback` lets clients on this machine log in without TLS.",
    ),
    key("listener.proxy_from", Shape::Networks, "[]", "Peers that must speak the PROXY protocol, version 2."),
    key("listener.xclient_from", Shape::Networks, "[]", "Peers that may use XCLIENT."),
    key(
        "listener.kind",
        Shape::Choice(&["submission", "bounce"]),
        "\"submission\"",
        "`submission` takes mail of senders. `bounce` takes reports for `bounce.domain` and nothing else, from anybody, without authentication: the MX record of that domain leads to it, usually port 25.",
    ),
    key(
        "http.address",
        Shape::Socket,
        "\"127.0.0.1:8025\"",
        "Where the API and the pages are. Clear text: keep it on loopback or behind a proxy that does TLS.",
    ),
    key(
        "http.public_url",
        Shape::Text,
        "",
        "Where recipients reach this server, `https://mail.example.com`: for the links by which they leave streams (RFC 8058). Only `/u/` has to be public.",
    ),
    key("limits.message_size", Shape::Size(1024, 2048 * MIB), "\"25 MiB\"", "Largest message (552 5.3.4, HTTP 413)."),
    key("limits.recipients", Shape::Count(1, 100_000), "1000", "Most recipients of a message (452 4.5.3, HTTP 422)."),
    key(
        "limits.connections",
        Shape::Count(1, 1_000_000),
        "1000",
        "Most SMTP connections to a listener at once (421 4.7.0).",
    ),
    key(
        "limits.connections_per_address",
        Shape::Count(1, 1_000_000),
        "100",
        "The same from one address. Listed PROXY peers count by the client they name.",
    ),
    key(
        "limits.commands",
        Shape::Count(10, 1_000_000),
        "1000",
        "Most commands of a session without a message (421 4.7.0); 20 that are refused end it too.",
    ),
    key(
        "limits.command_timeout",
        Shape::Duration(5, 3600),
        "\"5m\"",
        "Longest wait for a command (RFC 5321 §4.5.3.2).",
    ),
    key("limits.data_timeout", Shape::Duration(5, 3600), "\"3m\"", "Longest pause while content arrives."),
    key(
        "limits.memory",
        Shape::Size(MIB, 65_536 * MIB),
        "\"64 MiB\"",
        "Content being received at once (452 4.3.1, HTTP 503).",
    ),
    key(
        "limits.free_disk",
        Shape::Size(0, 65_536 * MIB),
        "\"100 MiB\"",
        "Room to leave on the disk (452 4.3.1, HTTP 507).",
    ),
    key(
        "retry.intervals",
        Shape::Durations,
        "[\"1m\", \"5m\", \"15m\", \"30m\", \"1h\", \"2h\", \"4h\"]",
        "Waits between attempts, each with up to a tenth more or less by chance; the last one repeats. A route may have its own.",
    ),
    key(
        "retry.expiry",
        Shape::Duration(60, 30 * DAY),
        "\"5d\"",
        "When to give up (RFC 5321 §4.5.4.1). A stream or a message may have less.",
    ),
    key(
        "notices.send",
        Shape::Choice(&["yes", "no"]),
        "\"yes\"",
        "Mail that failed comes back to its sender as a delivery status notification.",
    ),
    key(
        "notices.delay",
        Shape::Duration(60, 30 * DAY),
        "\"4h\"",
        "When those who asked (NOTIFY=DELAY) are told that a message is late.",
    ),
    key(
        "bounce.domain",
        Shape::Host,
        "",
        "Domain of return paths of our own, `bounces.example.com`: reports that come back name their message by them. It needs an MX record that leads to a listener of kind `bounce`, an SPF record, and should be below the domain in From.",
    ),
    key(
        "bounce.return_path",
        Shape::Choice(&["signed", "original"]),
        "\"signed\"",
        "What next hops get as MAIL FROM on routes that do not say (`return_path`): `signed`, a return path of our own for each message, or `original`, what the sender gave.",
    ),
    key(
        "bounce.report_address",
        Shape::Text,
        "",
        "Address that listeners of kind `bounce` take as well, for reports of DMARC and TLS (`rua=`).",
    ),
    key(
        "tls_report.send",
        Shape::Choice(&["yes", "no"]),
        "\"yes\"",
        "Sessions are counted, and reports sent, once there is a contact.",
    ),
    key(
        "tls_report.contact",
        Shape::Address,
        "",
        "Whom receivers may ask. Reports by mail come from this address: its domain should be one that we sign for.",
    ),
    key("tls_report.organization", Shape::Text, "", "Who reports; by default the host name."),
    key(
        "tls_report.private",
        Shape::Choice(&["yes", "no"]),
        "\"no\"",
        "Reports by HTTPS may go to servers at addresses of private networks.",
    ),
    key(
        "queue.window_recipients",
        Shape::Count(100, 10_000_000),
        "20000",
        "Recipients in memory at once; the rest waits on the disk.",
    ),
    key("queue.window_size", Shape::Size(MIB, 65_536 * MIB), "\"64 MiB\"", "Content in memory for delivery at once."),
    key("queue.transcripts", Shape::Choice(&["failures", "all"]), "\"failures\"", "Whose conversations are kept."),
    key(
        "retention.content",
        Shape::Duration(0, 365 * DAY),
        "\"0s\"",
        "Content after the last recipient is final; 0: gone at once.",
    ),
    key("retention.events", Shape::Duration(0, 3650 * DAY), "\"30d\"", "Messages without content, and their events."),
    key("retention.captured", Shape::Duration(60, 3650 * DAY), "\"7d\"", "The capture mailbox."),
    key(
        "suppression.unknown_user",
        Shape::Threshold,
        "\"2 in 30d, for 180d\"",
        "There is no such mailbox, or it is disabled or given up. Known words together with 5.1.1 or 5.2.1 leave no doubt.",
    ),
    key(
        "suppression.mailbox_full",
        Shape::Threshold,
        "\"5 in 14d, for 30d\"",
        "The mailbox is full for long, whether the mail was refused or expired. A delivery in between begins anew.",
    ),
    key("suppression.complaint", Shape::Threshold, "\"1 in 1d, for ever\"", "The recipient called the mail unwanted."),
    key(
        "rates.minimum",
        Shape::Count(10, 1_000_000),
        "100",
        "Recipients below which no rate is judged. Fewer than 5 bounces or 3 complaints never trip.",
    ),
    key(
        "rates.bounces",
        Shape::Rates,
        "\"2%, 5%\"",
        "Addresses that do not exist or are closed, of all that were sent to.",
    ),
    key("rates.complaints", Shape::Rates, "\"0.1%, 0.5%\"", "Complaints, of all that were sent to."),
    key(
        "rates.action",
        Shape::Choice(&["pause", "warn"]),
        "\"pause\"",
        "What the second threshold does: `pause` the stream (its mail is held, `stream resume` releases it), or only `warn`.",
    ),
    key(
        "incidents.recipients",
        Shape::Count(1, 100_000),
        "5",
        "So many recipients, of two messages at least, have to fail for the same reason within the window; four times as many where the message itself may be to blame.",
    ),
    key(
        "incidents.share",
        Shape::Count(1, 100),
        "50",
        "So much of what was tried in the same scope since it began has to have failed, percent.",
    ),
    key("incidents.window", Shape::Duration(10, 3600), "\"5m\"", "The window."),
    key("dns.servers", Shape::Servers, "[]", "Name servers to ask; none: those of the system."),
    key("dns.timeout", Shape::Duration(1, 60), "\"5s\"", "Longest wait for an answer."),
    key(
        "dns.addresses",
        Shape::Networks,
        "[]",
        "Public addresses that mail of this machine leaves from, single ones, where they are not its own (address translation): their reverse names and blocklists are watched, and SPF is compared with them.",
    ),
    key(
        "dns.blocklists",
        Shape::Path,
        "",
        "File with blocklists of one's own, and names of built-in ones that are not asked; see `blocklists.md` in the manual.",
    ),
    key(
        "tls.roots",
        Shape::Text,
        "\"system\"",
        "`system`, `web` (the roots built in), `both`, or the path of a PEM file.",
    ),
    key(
        "webhooks.networks",
        Shape::Networks,
        "[]",
        "Networks that every webhook may call though they are not public: those of one's own applications. A webhook may have its own.",
    ),
    key(
        "checks.builtin",
        Shape::Choice(&["yes", "no"]),
        "\"yes\"",
        "Credentials, ports, certificates, keys, settings and records are checked without being asked. Checks of one's own run in any case.",
    ),
    key(
        "checks.version_from",
        Shape::Text,
        "",
        "Where the newest version of this program is named: `dns:NAME` of a TXT record, or `https://…` of a text file. Without it nobody is asked.",
    ),
    key("metrics.networks", Shape::Networks, "[]", "Networks that may look at `/metrics` without a token."),
    key(
        "metrics.token_file",
        Shape::Path,
        "",
        "File with a token: whoever sends it (`Authorization: Bearer`) may look at `/metrics`. Read at each request.",
    ),
    key(
        "otlp.endpoint",
        Shape::Text,
        "",
        "URL of the collector without `/v1/traces`, such as `http://127.0.0.1:4318`. Without it nothing is sent.",
    ),
    key("otlp.headers_file", Shape::Path, "", "File with header fields for the collector, `Name: value`, one a line."),
    key(
        "otlp.sample",
        Shape::Count(0, 100),
        "100",
        "Traces in a hundred. A client's own decision (`traceparent`) wins.",
    ),
    key("log.format", Shape::Choice(&["text", "json"]), "\"text\"", "`text` for people, `json` for collectors."),
    key(
        "log.level",
        Shape::Text,
        "\"info\"",
        "`error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,relay=debug`. Read again on SIGHUP. `RUST_LOG` wins over it.",
    ),
    key("stream.name", Shape::Name, "", "As messages name it."),
    key(
        "stream.priority",
        Shape::Choice(&["urgent", "high", "normal", "bulk"]),
        "\"normal\"",
        "Who goes first when there is a queue.",
    ),
    key(
        "stream.deadline",
        Shape::Duration(10, 30 * DAY),
        "",
        "When to give up on its messages, instead of `retry.expiry`.",
    ),
    key(
        "stream.allow_duplicates",
        Shape::Choice(&["yes", "no"]),
        "\"no\"",
        "Send a message by a fallback route although the first route may have delivered it.",
    ),
    key("client.server", Shape::Text, "", "Where the API is, `http://127.0.0.1:8025`; none: the control socket."),
    key("client.key_file", Shape::Path, "", "File with the API key."),
];

impl Key {
    /// The section's name; empty for the top.
    pub fn section(&self) -> &'static str {
        self.path.split_once('.').map_or("", |(section, _)| section)
    }
    /// The name within the section.
    pub fn name(&self) -> &'static str {
        self.path.split_once('.').map_or(self.path, |(_, name)| name)
    }
    /// It belongs to a list.
    pub fn in_block(&self) -> bool {
        BLOCKS.contains(&self.section())
    }
}

/// The key of a path.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// A section that is a list.
pub fn block(name: &str) -> Option<&'static str> {
    BLOCKS.iter().copied().find(|block| *block == name)
}

/// A section that is not.
pub fn is_section(name: &str) -> bool {
    !name.is_empty() && SECTIONS.iter().any(|(section, _)| *section == name) && block(name).is_none()
}

/// A known path that looks like this one.
pub fn nearest(path: &str) -> Option<&'static str> {
    let last = path.rsplit('.').next().unwrap_or(path);
    KEYS.iter()
        .map(|key| (distance(path, key.path).min(distance(last, key.name()) + 1), key.path))
        .min()
        .filter(|(far, _)| *far <= 3)
        .map(|(_, path)| path)
}

/// Levenshtein's distance, of short texts.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().take(100).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_fewer_than_eighty_settings_and_each_is_documented_in_a_known_section() {
        assert!(KEYS.len() < 80, "{}", KEYS.len());
        for key in KEYS {
            assert!(!key.doc.is_empty(), "{}", key.path);
            assert!(SECTIONS.iter().any(|(section, _)| *section == key.section()), "{}", key.path);
        }
    }

    #[test]
    fn a_typing_error_finds_its_setting() {
        assert_eq!(nearest("retry.expiri"), Some("retry.expiry"));
        assert_eq!(nearest("http.adress"), Some("http.address"));
        assert_eq!(nearest("expiry"), Some("retry.expiry"));
        assert_eq!(nearest("something_else_entirely"), None);
    }
}
