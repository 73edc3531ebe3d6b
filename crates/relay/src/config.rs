//! What the relay is told by its operator. Checked by the binary; plain values here.

use std::sync::Arc;

use store::Retention;

use crate::batch::Renderer;
use crate::pulse::Part;
use crate::tls_report::TlsReportConfig;
use crate::token::Tokens;
use crate::transport::TransportConfig;
use crate::verp::{ReturnPath, Verp};

/// Which conversations are kept with their attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// Those that did not deliver to everyone.
    #[default]
    Failures,
    /// All.
    All,
}

/// A named class of mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamConfig {
    /// Name.
    pub name: String,
    /// 0 (most urgent) to 3 (bulk).
    pub priority: u8,
    /// Seconds after which a message is worthless; `None`: the general expiry.
    pub deadline_s: Option<u64>,
    /// A message that may have been delivered by one route may be sent again by another.
    pub allow_duplicates: bool,
}

/// Settings of a relay.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// Our name in EHLO, Received and Message-ID.
    pub hostname: String,
    /// Name of this node: leases of its earlier runs are taken back at start.
    pub node: String,
    /// Loops that stand from the start until they are let go on.
    pub paused: Vec<Part>,
    /// Seconds between attempts; the last one repeats.
    pub retry_s: Vec<u32>,
    /// Senders by SMTP are told when mail fails (RFC 3461).
    pub notices: bool,
    /// Seconds after which those who asked are told that a message is late.
    pub delay_notice_s: u64,
    /// Seconds until a message expires.
    pub expiry_s: u64,
    /// Most octets a message.
    pub max_message_size: u64,
    /// Most recipients a message.
    pub max_recipients: usize,
    /// Most `Received` fields (RFC 5321 §6.3).
    pub max_hops: u32,
    /// Recipients in memory.
    pub window_recipients: usize,
    /// Octets of content in memory, waiting for delivery.
    pub window_octets: usize,
    /// Octets of content in memory, being received.
    pub memory_in_flight: usize,
    /// Connections to next hops at once, in all.
    pub max_connections: u32,
    /// Which conversations are kept.
    pub keep_transcripts: Keep,
    /// How long things are kept.
    pub retention: Retention,
    /// Named classes of mail; others are taken with priority 2.
    pub streams: Vec<StreamConfig>,
    /// Where the public finds this server by HTTP, as `https://mail.example.com`: for links by which recipients leave streams.
    pub public_url: Option<String>,
    /// Seconds that what is in flight may take at a stop.
    pub shutdown_s: u64,
    /// What suppresses an address.
    pub suppression: crate::suppress::policy::Policy,
    /// Which rates of bounces and complaints warn and stop.
    pub rates: crate::rates::RateConfig,
    /// When failures are an incident.
    pub incidents: crate::incident::Opening,
    /// What receiving domains may demand of the transport.
    pub transport: TransportConfig,
    /// Where this node's pages and API are, for people.
    pub address: String,
    /// Makes return paths of our own; without it next hops get what the sender gave.
    pub bounce: Option<Arc<Verp>>,
    /// Which return path a route uses that does not say.
    pub return_path: ReturnPath,
    /// Reports about TLS to receiving domains; none are made without.
    pub tls_reports: Option<TlsReportConfig>,
    /// Where access tokens come from; without it, routes that need them fail.
    pub tokens: Option<Arc<dyn Tokens>>,
    /// Who reads the bodies of batches; without it, batches wait.
    pub renderer: Option<Arc<dyn Renderer>>,
}

impl Default for RelayConfig {
    fn default() -> Self {
        const DAY_MS: i64 = 86_400_000;
        Self {
            hostname: "localhost".into(),
            node: "main".into(),
            paused: Vec::new(),
            retry_s: crate::backoff::DEFAULT_INTERVALS_S.to_vec(),
            notices: true,
            delay_notice_s: 4 * 3_600,
            expiry_s: 5 * 86_400,
            max_message_size: 25 * 1024 * 1024,
            max_recipients: 1_000,
            max_hops: 100,
            window_recipients: 20_000,
            window_octets: 32 * 1024 * 1024,
            memory_in_flight: 64 * 1024 * 1024,
            max_connections: 500,
            keep_transcripts: Keep::Failures,
            retention: Retention {
                content_ms: 0,
                events_ms: 30 * DAY_MS,
                captured_ms: 7 * DAY_MS,
                streams: Arc::default(),
            },
            streams: Vec::new(),
            public_url: None,
            shutdown_s: 60,
            suppression: crate::suppress::policy::Policy::default(),
            rates: crate::rates::RateConfig::default(),
            incidents: crate::incident::Opening::default(),
            transport: TransportConfig::default(),
            address: String::new(),
            bounce: None,
            return_path: ReturnPath::default(),
            tls_reports: None,
            tokens: None,
            renderer: None,
        }
    }
}
