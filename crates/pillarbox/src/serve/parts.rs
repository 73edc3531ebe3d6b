//! The configuration's values as the other crates want them.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use net::server::{Limits, ListenMode, Listener};
use net::{ClientTls, Clock, Net, Resolver, ResolverSettings, ServerTls};
use proto::smtp::server::{AuthOffer, Settings};
use relay::rates::{self, RateConfig};
use relay::suppress::policy::{Policy, Threshold};
use relay::verp::{ReturnPath, Verp};
use relay::{Keep, RelayConfig, StreamConfig, TlsReportConfig, TransportConfig};
use secrecy::ExposeSecret;
use store::postgres::PostgresStore;
use store::secret::Keyring;
use store::sqlite::{Options, SqliteStore, Stopwatch};
use store::{Retention, Store};
use tokio::sync::Notify;

use crate::batch::merge::Press;
use crate::config::checked::{self, AuthWithoutTls, Config, ListenerKind, Mode, Roots};
use crate::config::key::{self, Origin};
use crate::config::values;
use crate::oauth::TokenSource;
use crate::returned::listener::BounceFactory;

/// Opens the store; makes directory and key if they are not there.
pub fn store(config: &Config, clock: &Clock) -> Result<(Arc<dyn Store>, Origin)> {
    make_private_directory(&config.data_dir)?;
    let (key, origin) = key::load(&config.key, &config.data_dir)?;
    let keyring = Keyring::from_key(key.expose_secret());
    if let Some(url) = &config.store {
        let mut options = store::postgres::Options::new(url.0.clone(), keyring);
        options.retention = retention(config);
        let watch = clock.clone();
        options.stopwatch = Stopwatch::new(move || watch.mono_us());
        let store = PostgresStore::open(options, clock.now_ms()).context("the database of `store` cannot be used")?;
        return Ok((store, origin));
    }
    let mut options = Options::new(&config.data_dir, keyring);
    options.min_free_bytes = config.limits.free_disk;
    options.retention = retention(config);
    let watch = clock.clone();
    options.stopwatch = Stopwatch::new(move || watch.mono_us());
    let store = SqliteStore::open(options, clock.now_ms())?;
    Ok((store, origin))
}

/// The name that leases belong to. Nodes on one queue have names of their own: the default is made one, by the machine's name
/// and a word that is kept in the data directory, so that a node that starts again knows what it held.
pub fn node(config: &Config) -> Result<String> {
    if config.store.is_none() || config.node != DEFAULT_NODE {
        return Ok(config.node.clone());
    }
    let path = config.data_dir.join("node");
    let unreadable = || format!("cannot keep the node's name in {}", path.display());
    let word = match std::fs::read_to_string(&path) {
        Ok(word) => word.trim().to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let word = format!("{:08x}", rand::random::<u32>());
            std::fs::write(&path, format!("{word}\n")).with_context(unreadable)?;
            word
        }
        Err(error) => return Err(error).with_context(unreadable),
    };
    let machine: String = config.hostname.chars().take(50).collect();
    Ok(format!("{machine}-{word}"))
}

/// What `node` is where nobody said otherwise.
const DEFAULT_NODE: &str = "main";

fn make_private_directory(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot create the data directory {}", path.display()))
}

/// Whom to trust.
pub fn roots(config: &Config) -> net::Roots {
    match &config.roots {
        Roots::System => net::Roots::System,
        Roots::Web => net::Roots::Web,
        Roots::Both => net::Roots::Both,
        Roots::File(path) => net::Roots::Pem(path.clone()),
    }
}

/// HTTPS with the authorities that mail is sent with.
pub fn https(config: &Config, clock: Clock) -> Result<rustls::ClientConfig> {
    net::https(&roots(config), clock).context("`tls.roots` cannot be used")
}

/// Where access tokens come from: identity providers over HTTPS, with the same authorities as mail.
pub fn tokens(config: &Config, store: Arc<dyn Store>, clock: Clock) -> Result<Arc<TokenSource>> {
    let tls = net::https(&roots(config), clock.clone()).context("`tls.roots` cannot be used")?;
    Ok(Arc::new(TokenSource::new(crate::oauth::client(tls)?, store, clock)))
}

/// Clock, resolver and outgoing TLS.
pub fn net(config: &Config, clock: Clock) -> Result<Net> {
    let roots = roots(config);
    let resolver = ResolverSettings {
        servers: config.dns_servers.clone(),
        timeout: config.dns_timeout,
        ..ResolverSettings::default()
    };
    Ok(Net {
        resolver: Resolver::new(resolver)?,
        tls: ClientTls::new(&roots, clock.clone()).context("`tls.roots` cannot be used")?,
        clock,
    })
}

fn milliseconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn retention(config: &Config) -> Retention {
    Retention {
        content_ms: milliseconds(config.retention.content),
        events_ms: milliseconds(config.retention.events),
        captured_ms: milliseconds(config.retention.captured),
        streams: Arc::default(),
    }
}

/// The streams of the configuration.
pub fn streams(config: &Config) -> Vec<StreamConfig> {
    let stream = |stream: &checked::Stream| StreamConfig {
        name: stream.name.clone(),
        priority: stream.priority,
        deadline_s: stream.deadline.map(|deadline| deadline.as_secs()),
        allow_duplicates: stream.allow_duplicates,
    };
    config.streams.iter().map(stream).collect()
}

/// The relay's settings.
pub fn relay(config: &Config) -> RelayConfig {
    let seconds = |duration: &std::time::Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
    RelayConfig {
        hostname: config.hostname.clone(),
        node: config.node.clone(),
        retry_s: config.retry.iter().map(seconds).collect(),
        expiry_s: config.expiry.as_secs(),
        notices: config.notices,
        delay_notice_s: config.notice_delay.as_secs(),
        max_message_size: config.limits.message_size,
        max_recipients: config.limits.recipients,
        window_recipients: config.queue.window_recipients,
        window_octets: config.queue.window_size,
        memory_in_flight: config.limits.memory,
        keep_transcripts: if config.queue.all_transcripts { Keep::All } else { Keep::Failures },
        retention: retention(config),
        streams: streams(config),
        public_url: config.public_url.clone(),
        shutdown_s: config.shutdown.as_secs(),
        suppression: suppression(&config.suppression),
        rates: rates(&config.rates),
        incidents: relay::incident::Opening {
            recipients: config.incidents.recipients,
            messages: config.incidents.recipients.min(2),
            share_percent: config.incidents.share,
            window_ms: milliseconds(config.incidents.window),
            ..relay::incident::Opening::default()
        },
        transport: transport(config),
        return_path: if config.bounce.original { ReturnPath::Original } else { ReturnPath::Signed },
        tls_reports: config.tls_report.as_ref().map(|report| TlsReportConfig {
            organization: report.organization.clone().unwrap_or_else(|| config.hostname.clone()),
            contact: report.contact.clone(),
            allow_private: report.private,
        }),
        renderer: Some(Arc::new(Press { hostname: config.hostname.clone() })),
        ..RelayConfig::default()
    }
}

fn suppression(config: &checked::Suppression) -> Policy {
    let threshold = |threshold: Option<values::Threshold>| {
        let values::Threshold { need, within_days, keep_days } = threshold?;
        Some(Threshold { need, within_days, keep_days })
    };
    Policy {
        unknown_user: threshold(config.unknown_user),
        // One that is given up is as good as none.
        mailbox_closed: threshold(config.unknown_user),
        mailbox_full: threshold(config.mailbox_full),
        complaint: threshold(config.complaint),
    }
}

fn rates(config: &checked::Rates) -> RateConfig {
    let limits = |limits: Option<(u32, u32)>| limits.map(|(warn, stop)| rates::Limits { warn, stop });
    RateConfig {
        minimum: config.minimum,
        bounces: limits(config.bounces),
        complaints: limits(config.complaints),
        pauses: config.pauses,
        ..RateConfig::default()
    }
}

/// Policies are kept in the data directory. Answers are validated from the root's keys, by a resolver that only routes with
/// `dane` ask.
fn transport(config: &Config) -> TransportConfig {
    let settings = ResolverSettings {
        servers: config.dns_servers.clone(),
        timeout: config.dns_timeout,
        dnssec: net::Dnssec::Root,
    };
    let validating =
        Resolver::new(settings).inspect_err(|error| tracing::warn!(%error, "no answer can be validated")).ok();
    TransportConfig { validating, directory: Some(config.data_dir.clone()), ..TransportConfig::default() }
}

/// Makes return paths of our own, if there is a domain for them.
pub fn verp(config: &Config) -> Result<Option<Arc<Verp>>> {
    let Some(domain) = &config.bounce.domain else { return Ok(None) };
    let (key, _) = key::load(&config.key, &config.data_dir)?;
    Ok(Some(Arc::new(Verp::new(domain, key.expose_secret()))))
}

/// What listeners of kind `bounce` serve.
pub fn bounces(
    config: &Config,
    store: &Arc<dyn Store>,
    verp: Arc<Verp>,
    clock: &Clock,
    came: &Arc<Notify>,
) -> BounceFactory {
    let reports = config.bounce.report_address.as_deref();
    BounceFactory::new(store.clone(), clock.clone(), verp, reports, config.limits.memory, came.clone())
}

/// A listener with its certificate; a self-signed one is made if none is configured.
pub fn listener(config: &Config, listener: &checked::Listener, clock: &Clock) -> Result<Listener> {
    let tls = match (listener.mode, &listener.certificate) {
        (Mode::Plain, _) => None,
        (_, Some((certificate, key))) => Some(ServerTls::load(certificate, key, clock.clone())?),
        (_, None) => {
            let directory = config.data_dir.join("tls").join(&listener.name);
            make_private_directory(&directory)?;
            let names = [config.hostname.clone(), "localhost".into()];
            Some(ServerTls::self_signed(&names, &directory, clock.clone())?)
        }
    };
    let machine = Settings {
        max_size: config.limits.message_size,
        max_recipients: if listener.kind == ListenerKind::Bounce { 10 } else { config.limits.recipients },
        max_commands: config.limits.commands,
        auth: match listener.auth_without_tls {
            _ if listener.kind == ListenerKind::Bounce => AuthOffer::Never,
            AuthWithoutTls::Never => AuthOffer::UnderTls,
            AuthWithoutTls::Loopback => AuthOffer::Always,
        },
        ..Settings::new(&*config.hostname)
    };
    Ok(Listener {
        address: listener.address,
        mode: match listener.mode {
            Mode::StartTls => ListenMode::StartTls,
            Mode::Implicit => ListenMode::Implicit,
            Mode::Plain => ListenMode::Plain,
        },
        tls: tls.map(Arc::new),
        proxy: listener.proxy_from.clone(),
        xclient: listener.xclient_from.clone(),
        machine: Arc::new(machine),
        limits: Limits {
            per_address: config.limits.connections_per_address,
            total: config.limits.connections,
            command_timeout: config.limits.command_timeout,
            data_timeout: config.limits.data_timeout,
            grace: config.shutdown,
            ..Limits::default()
        },
    })
}
