//! What can be typed about senders and routes.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};

use super::args_oauth::{NewCredential, OauthOptions};
use super::args_presets::{CheckOptions, DerivedOptions, ExportOptions, GuardOptions, PresetOptions};
use super::route_rates::RateOptions;

/// Commands on senders.
#[derive(Debug, Subcommand)]
pub enum SenderCommand {
    /// Add a sender. Without --password-from a password is made and shown once.
    #[command(
        after_help = "Examples:\n  pillarbox sender add shop --allow-from shop.example.com\n  pillarbox sender add printer --allow-from scan@example.com --trust-address 192.0.2.7 --no-password\n  pillarbox sender add ops --allow-from '*' --api-key --admin --no-password"
    )]
    Add {
        /// Name, also the SMTP user name.
        name: String,
        /// Its rights and limits.
        #[command(flatten)]
        options: SenderOptions,
        /// Where the password comes from.
        #[arg(long, value_name = "SOURCE", help = SOURCE_HELP)]
        password_from: Option<Source>,
        /// No SMTP password.
        #[arg(long, conflicts_with = "password_from")]
        no_password: bool,
        /// Make an API key too, shown once.
        #[arg(long)]
        api_key: bool,
    },
    /// List senders.
    #[command(after_help = "Examples:\n  pillarbox sender ls")]
    Ls,
    /// Show a sender.
    #[command(after_help = "Examples:\n  pillarbox sender show shop")]
    Show {
        /// Name.
        name: String,
    },
    /// Change a sender. Lists are replaced as a whole.
    #[command(
        after_help = "Examples:\n  pillarbox sender set shop --allow-from shop.example.com --allow-from .shop.example.net\n  pillarbox sender set shop --rate 600\n  pillarbox sender set shop --clear rate\n  pillarbox sender set shop --disabled\n  pillarbox sender set shop --disabled=false"
    )]
    Set {
        /// Name.
        name: String,
        /// What changes.
        #[command(flatten)]
        options: SenderOptions,
        /// What is removed.
        #[arg(long, value_enum)]
        clear: Vec<SenderClear>,
    },
    /// Remove a sender. Its queued mail stays.
    #[command(after_help = "Examples:\n  pillarbox sender remove shop")]
    Remove {
        /// Name.
        name: String,
    },
    /// Set the SMTP password. Without --from one is made and shown once.
    #[command(
        after_help = "Examples:\n  pillarbox sender password shop\n  pillarbox sender password shop --from prompt\n  pillarbox sender password shop --from file:/run/secrets/shop"
    )]
    Password {
        /// Name.
        name: String,
        /// Where the password comes from.
        #[arg(long, value_name = "SOURCE", help = SOURCE_HELP)]
        from: Option<Source>,
        /// Remove the password instead.
        #[arg(long, conflicts_with = "from")]
        remove: bool,
    },
    /// Hold a sender's queued mail, and hold or refuse its new mail, until `sender resume`.
    #[command(
        after_help = "Examples:\n  pillarbox sender pause shop\n  pillarbox sender pause shop --new-mail refuse --why 'key was stolen'\n\nRefused is with 450 4.7.1, or HTTP 429: a program that keeps its mail and tries again loses nothing."
    )]
    Pause {
        /// Name.
        name: String,
        /// Reason, shown with the held mail.
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
        /// What becomes of new mail.
        #[arg(long, value_enum, default_value = "hold")]
        new_mail: OnPauseArg,
    },
    /// Let a paused sender go on, with what was held by the pause.
    #[command(
        after_help = "Examples:\n  pillarbox sender resume shop\n  pillarbox sender resume shop --false-alarm\n\nCancel mail that is not yours before: `pillarbox queue cancel --sender shop`."
    )]
    Resume {
        /// Name.
        name: String,
        /// All that came was the sender's own: as much is less of a surprise the next time.
        #[arg(long)]
        false_alarm: bool,
    },
    /// API keys.
    #[command(subcommand)]
    Key(KeyCommand),
}

/// What becomes of new mail of a paused sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnPauseArg {
    /// It is accepted and held.
    Hold,
    /// It is refused for the time being.
    Refuse,
}

impl OnPauseArg {
    /// As the API says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Refuse => "refuse",
        }
    }
}

/// Commands on API keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make another API key, shown once.
    #[command(after_help = "Examples:\n  pillarbox sender key add shop")]
    Add {
        /// Sender.
        name: String,
    },
    /// Revoke an API key.
    #[command(after_help = "Examples:\n  pillarbox sender key revoke shop pbx_4f9k2c")]
    Revoke {
        /// Sender.
        name: String,
        /// The key's first characters, as `sender show` lists them.
        prefix: String,
    },
}

/// A sender's rights and limits.
#[derive(Debug, Clone, Default, Args)]
pub struct SenderOptions {
    /// What may stand in From: user@example.com, example.com, .example.com (and below), or '*'; may be repeated.
    #[arg(long, value_name = "PATTERN")]
    pub allow_from: Vec<String>,
    /// Addresses or networks it may connect from; may be repeated.
    #[arg(long, value_name = "CIDR")]
    pub network: Vec<String>,
    /// Addresses or networks that are this sender without any password; may be repeated.
    #[arg(long, value_name = "CIDR")]
    pub trust_address: Vec<String>,
    /// Most messages a minute.
    #[arg(long, value_name = "N")]
    pub rate: Option<u32>,
    /// Largest message, such as 10MiB.
    #[arg(long, value_name = "SIZE")]
    pub max_size: Option<String>,
    /// Stream of messages that name none.
    #[arg(long, value_name = "NAME")]
    pub stream: Option<String>,
    /// May manage queue and settings by the API.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub admin: Option<bool>,
    /// Refuses everything.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub disabled: Option<bool>,
    /// Pause it by itself when it sends far more than it uses to; says what becomes of new mail then.
    #[arg(long, value_enum)]
    pub pause_on_spike: Option<OnPauseArg>,
}

/// What can be removed from a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SenderClear {
    /// Networks.
    Network,
    /// Trusted addresses.
    TrustAddress,
    /// Rate.
    Rate,
    /// Largest message.
    MaxSize,
    /// Stream.
    Stream,
    /// No pause by itself.
    PauseOnSpike,
}

pub(super) const SOURCE_HELP: &str =
    "Where the password comes from: prompt, stdin, env:NAME or file:PATH (never the command line)";

/// Where a secret comes from; never from the command line, which others can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Asked for on the terminal.
    Prompt,
    /// First line of standard input.
    Stdin,
    /// Environment variable.
    Env(String),
    /// First line of a file.
    File(PathBuf),
}

impl FromStr for Source {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.split_once(':')) {
            ("prompt", _) => Ok(Self::Prompt),
            ("stdin", _) => Ok(Self::Stdin),
            (_, Some(("env", name))) if !name.is_empty() => Ok(Self::Env(name.to_owned())),
            (_, Some(("file", path))) if !path.is_empty() => Ok(Self::File(path.into())),
            _ => Err("expected prompt, stdin, env:NAME or file:PATH".into()),
        }
    }
}

/// Commands on routes.
#[derive(Debug, Subcommand)]
pub enum RouteCommand {
    /// Add a route. One to a known provider is tried first, and saved only if it works.
    #[command(
        after_help = "Examples:\n  pillarbox route add mail microsoft365 --username relay@example.com --password-from file:/run/secrets/relay --from relay@example.com --default\n  pillarbox route add aws ses --region eu-west-1 --username AKIAIOSFODNN7EXAMPLE --secret-access-key-file /run/secrets/aws\n  pillarbox route add provider --smarthost smtp.example.com:587 --username shop --password-from prompt --default\n  pillarbox route add office --smarthost smtp.office365.com --username relay@example.com --oauth microsoft --tenant example.com --client-id 11111111-2222-3333-4444-555555555555 --client-secret-file secret.txt\n  pillarbox route add office microsoft365-graph --username relay@example.com --tenant example.com --client-id 11111111-2222-3333-4444-555555555555 --client-secret-file secret.txt\n  pillarbox route add direct --mx\n  pillarbox route add look --capture"
    )]
    Add {
        /// Name.
        name: String,
        /// What it is.
        #[command(flatten)]
        kind: RouteKindArgs,
        /// How.
        #[command(flatten)]
        options: Box<RouteOptions>,
        /// What the provider leaves open.
        #[command(flatten)]
        preset: PresetOptions,
        /// A secret to derive the password from.
        #[command(flatten)]
        derived: DerivedOptions,
        /// The test before saving.
        #[command(flatten)]
        guard: GuardOptions,
        /// Try a smart host before it is saved, as a known provider is.
        #[arg(long)]
        test: bool,
        /// Let all mail that no other rule takes go this way.
        #[arg(long)]
        default: bool,
    },
    /// List routes.
    #[command(after_help = "Examples:\n  pillarbox route ls")]
    Ls,
    /// Show a route.
    #[command(after_help = "Examples:\n  pillarbox route show provider")]
    Show {
        /// Name.
        name: String,
    },
    /// Change a route. Another host or sign-in is tried first; if it does not work the route stays as it is.
    #[command(
        after_help = "Examples:\n  pillarbox route set provider --connections 5\n  pillarbox route set provider --per-minute 25 --recipients-per-day 10000\n  pillarbox route set provider --password-from prompt\n  pillarbox route set provider --clear ca-file"
    )]
    Set {
        /// Name.
        name: String,
        /// Smart host, HOST or HOST:PORT.
        #[arg(long, value_name = "HOST")]
        smarthost: Option<String>,
        /// What changes.
        #[command(flatten)]
        options: Box<RouteOptions>,
        /// A secret to derive the password from.
        #[command(flatten)]
        derived: DerivedOptions,
        /// The test before saving.
        #[command(flatten)]
        guard: GuardOptions,
        /// What is removed.
        #[arg(long, value_enum)]
        clear: Vec<RouteClear>,
    },
    /// Sign in for a route that uses OAuth with somebody's account: shows an address and a code, and waits.
    #[command(after_help = "Examples:\n  pillarbox route login office")]
    Login {
        /// Name.
        name: String,
    },
    /// Replace a route's credential without a gap: the new one is tried at the server first, without sending mail; where it
    /// is a password, the old one is kept for an hour after that, for the case that the new one stops working.
    #[command(
        after_help = "Examples:\n  pillarbox route rotate provider --password-from prompt\n  pillarbox route rotate office --client-secret-file /run/secrets/office --secret-expires 2028-11-21"
    )]
    Rotate {
        /// Name.
        name: String,
        /// What is new.
        #[command(flatten)]
        new: NewCredential,
    },
    /// Compare a route's settings with what its provider documents, and try its server.
    #[command(
        after_help = "Examples:\n  pillarbox route check provider\n  pillarbox route check provider --from app@example.com --to ann@example.net\n\nExit code 1: the server does not work, or a setting is a problem; warnings do not count."
    )]
    Check {
        /// Name.
        name: String,
        /// How.
        #[command(flatten)]
        options: CheckOptions,
    },
    /// Document a route as Markdown: settings, provider, limits, DNS records, tests. No secrets.
    #[command(
        after_help = "Examples:\n  pillarbox route export provider > route.md\n  pillarbox route export provider --domain example.com --json"
    )]
    Export {
        /// Name.
        name: String,
        /// What.
        #[command(flatten)]
        options: ExportOptions,
    },
    /// Remove a route that no rule uses.
    #[command(after_help = "Examples:\n  pillarbox route remove provider")]
    Remove {
        /// Name.
        name: String,
    },
    /// Let all mail that no other rule takes go this way.
    #[command(after_help = "Examples:\n  pillarbox route default provider")]
    Default {
        /// Route.
        name: String,
    },
    /// Which mail takes which route.
    #[command(subcommand)]
    Rule(RuleCommand),
}

/// What a route is.
#[derive(Debug, Clone, Default, Args)]
#[group(required = true, multiple = false)]
pub struct RouteKindArgs {
    /// A known provider (see `pillarbox provider ls`): host, port, TLS and limits come from there.
    #[arg(value_name = "PROVIDER")]
    pub provider: Option<String>,
    /// To one server, HOST or HOST:PORT.
    #[arg(long, value_name = "HOST")]
    pub smarthost: Option<String>,
    /// To the mail exchangers of each recipient's domain.
    #[arg(long)]
    pub mx: bool,
    /// Into the capture mailbox; nothing is sent.
    #[arg(long)]
    pub capture: bool,
    /// Nowhere: accepted and forgotten.
    #[arg(long)]
    pub discard: bool,
}

/// How a route works.
#[derive(Debug, Clone, Default, Args)]
pub struct RouteOptions {
    /// TLS; a smart host needs `required` unless said otherwise, MX uses `opportunistic`.
    #[arg(long, value_enum)]
    pub tls: Option<Tls>,
    /// User name for AUTH.
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// Where the password comes from.
    #[arg(long, value_name = "SOURCE", help = SOURCE_HELP)]
    pub password_from: Option<Source>,
    /// PEM file of authorities to trust instead of the general ones.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Verify the certificate.
    #[arg(long, value_name = "BOOL")]
    pub verify: Option<bool>,
    /// How to authenticate, such as SCRAM-SHA-256, CRAM-MD5, PLAIN, XOAUTH2 or NTLM; by default the strongest that both
    /// sides have.
    #[arg(long, value_name = "MECHANISM")]
    pub auth_mechanism: Option<String>,
    /// Access tokens instead of a password.
    #[command(flatten)]
    pub oauth: OauthOptions,
    /// Let the password cross the network in clear.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub auth_without_tls: Option<bool>,
    /// Most connections at once for each destination.
    #[arg(long, value_name = "N")]
    pub connections: Option<u32>,
    /// Most messages on one connection.
    #[arg(long, value_name = "N")]
    pub messages_per_connection: Option<u32>,
    /// Most recipients in one transaction.
    #[arg(long, value_name = "N")]
    pub recipients_per_transaction: Option<u32>,
    /// How long an idle connection is kept, such as 10s.
    #[arg(long, value_name = "DURATION")]
    pub idle: Option<String>,
    /// Waits between attempts, such as 1m,5m,30m.
    #[arg(long, value_name = "DURATIONS")]
    pub retry: Option<String>,
    /// Local address to connect from.
    #[arg(long, value_name = "ADDRESS")]
    pub source_address: Option<std::net::IpAddr>,
    /// Name in EHLO.
    #[arg(long, value_name = "NAME")]
    pub helo: Option<String>,
    /// Rates.
    #[command(flatten)]
    pub rates: RateOptions,
    /// A local address of a pool to connect from, with its name in EHLO; may be given several times.
    #[arg(long = "source", value_name = "ADDRESS[=NAME]")]
    pub sources: Vec<String>,
    /// Honour certificates pinned in signed DNS (mail exchangers).
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub dane: Option<bool>,
    /// Honour MTA-STS policies (mail exchangers; on by default).
    #[arg(long, value_name = "BOOL")]
    pub mta_sts: Option<bool>,
    /// Deliver to mail exchangers with addresses of loopback and private networks.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub allow_private: Option<bool>,
    /// Return path next hops get: one of ours for each message, or the sender's own (by default `bounce.return_path`).
    #[arg(long, value_name = "WHICH", value_parser = ["signed", "original"])]
    pub return_path: Option<String>,
}

/// When TLS is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tls {
    /// Never.
    None,
    /// STARTTLS where offered.
    Opportunistic,
    /// STARTTLS or nothing.
    Required,
    /// From the first octet.
    Implicit,
}

/// What can be removed from a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RouteClear {
    /// TLS mode.
    Tls,
    /// User name and password.
    Username,
    /// OAuth with all that belongs to it.
    Oauth,
    /// Authorities.
    CaFile,
    /// Connections.
    Connections,
    /// Messages per connection.
    MessagesPerConnection,
    /// Recipients per transaction.
    RecipientsPerTransaction,
    /// Idle time.
    Idle,
    /// Waits.
    Retry,
    /// Local address.
    SourceAddress,
    /// Name in EHLO.
    Helo,
    /// Rate limits of the route.
    Rates,
    /// Fallback routes.
    Fallback,
    /// How long nothing works before a fallback takes over.
    FailoverAfter,
    /// Return path next hops get.
    ReturnPath,
    /// Rate limits of each destination.
    DestinationRates,
    /// Pool of local addresses.
    Sources,
}

/// Commands on rules.
#[derive(Debug, Subcommand)]
pub enum RuleCommand {
    /// Add or replace a rule. The first one whose conditions all hold decides.
    #[command(
        after_help = "Examples:\n  pillarbox route rule add partner --route direct --to-domain .partner.example\n  pillarbox route rule add newsletters --route bulk --stream newsletter --order 10"
    )]
    Add {
        /// Name.
        name: String,
        /// Route to take.
        #[arg(long)]
        route: String,
        /// Domain of the envelope sender; .example.com means everything below too.
        #[arg(long, value_name = "DOMAIN")]
        from_domain: Option<String>,
        /// Domain of the recipient; .example.com means everything below too.
        #[arg(long, value_name = "DOMAIN")]
        to_domain: Option<String>,
        /// Stream.
        #[arg(long, value_name = "NAME")]
        stream: Option<String>,
        /// Lower comes first.
        #[arg(long, default_value_t = 100, allow_hyphen_values = true, value_name = "N")]
        order: i32,
    },
    /// List rules, first one first.
    #[command(after_help = "Examples:\n  pillarbox route rule ls")]
    Ls,
    /// Remove a rule.
    #[command(after_help = "Examples:\n  pillarbox route rule remove partner")]
    Remove {
        /// Name.
        name: String,
    },
}
