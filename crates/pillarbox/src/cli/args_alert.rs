//! What can be typed about alerts.

use clap::{Args, Subcommand, ValueEnum};

use super::args_settings::{SOURCE_HELP, Source};

/// Commands on alerts.
#[derive(Debug, Subcommand)]
pub enum AlertCommand {
    /// List what is raised. Exit code 1: something is.
    #[command(after_help = "Examples:\n  pillarbox alert ls\n  pillarbox alert ls --all --limit 20 --json")]
    Ls {
        /// Also what is over, newest first.
        #[arg(long)]
        all: bool,
        /// Since this moment (RFC 3339); with --all.
        #[arg(long, value_name = "TIME", requires = "all")]
        since: Option<String>,
        /// Go on behind this alert; with --all.
        #[arg(long, value_name = "ID", requires = "all")]
        before: Option<String>,
        /// Most alerts (1 to 1000).
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Show an alert: what it is about, and who was told.
    #[command(after_help = "Examples:\n  pillarbox alert show a-17")]
    Show {
        /// Id.
        id: String,
    },
    /// Say that somebody looks after it: channels of the next step are not told.
    #[command(after_help = "Examples:\n  pillarbox alert ack a-17 --note 'new password is on its way'")]
    Ack {
        /// Id.
        id: String,
        /// What to say.
        #[arg(long)]
        note: Option<String>,
    },
    /// End an alert by hand. What is still wrong is raised again.
    #[command(after_help = "Examples:\n  pillarbox alert close a-17")]
    Close {
        /// Id.
        id: String,
        /// What to say.
        #[arg(long)]
        note: Option<String>,
    },
    /// Ways by which alerts are told.
    #[command(subcommand)]
    Channel(ChannelCommand),
    /// What is set for each kind of alert.
    #[command(subcommand)]
    Rule(AlertRuleCommand),
}

/// Commands on channels.
#[derive(Debug, Subcommand)]
pub enum ChannelCommand {
    /// Add a channel.
    #[command(
        after_help = "Examples:\n  pillarbox alert channel add ops slack --secret-from file:/run/secrets/slack-url\n  pillarbox alert channel add mail email --from relay@example.com --to ops@example.com\n  pillarbox alert channel add backup email --from relay@example.com --to ops@example.org --smart-host mail.example.org --username relay --secret-from prompt --step 2\n  pillarbox alert channel add pager pagerduty --secret-from env:PD_KEY --severity critical\n  pillarbox alert channel add log syslog --syslog udp://log.example.com:514\n  pillarbox alert channel add page command --command /usr/local/bin/page --command ops\n  pillarbox alert channel add hook webhook --url https://ops.example.com/in --quiet 22:00-07:00 --zone Europe/Berlin"
    )]
    Add {
        /// Name.
        name: String,
        /// How alerts are told.
        #[arg(value_enum)]
        kind: KindArg,
        /// Settings.
        #[command(flatten)]
        options: Box<ChannelOptions>,
    },
    /// List channels and how they are doing. Exit code 1: one of them fails.
    #[command(alias = "list", after_help = "Examples:\n  pillarbox alert channel ls")]
    Ls,
    /// Show a channel.
    #[command(after_help = "Examples:\n  pillarbox alert channel show ops")]
    Show {
        /// Name.
        name: String,
    },
    /// Change a channel. Lists are replaced as a whole.
    #[command(
        after_help = "Examples:\n  pillarbox alert channel set ops --severity problem --group 300\n  pillarbox alert channel set ops --clear quiet\n  pillarbox alert channel set ops --disabled"
    )]
    Set {
        /// Name.
        name: String,
        /// What changes.
        #[command(flatten)]
        options: Box<ChannelOptions>,
        /// What is as usual again; may be repeated.
        #[arg(long, value_enum)]
        clear: Vec<ChannelClear>,
    },
    /// Send a test by a channel and say what came of it. Exit code 1: it was not taken.
    #[command(after_help = "Examples:\n  pillarbox alert channel test ops")]
    Test {
        /// Name.
        name: String,
    },
    /// Remove a channel.
    #[command(alias = "rm", after_help = "Examples:\n  pillarbox alert channel remove ops")]
    Remove {
        /// Name.
        name: String,
    },
}

/// Commands on kinds of alerts.
#[derive(Debug, Subcommand)]
pub enum AlertRuleCommand {
    /// List all kinds with what is set.
    #[command(after_help = "Examples:\n  pillarbox alert rule ls")]
    Ls,
    /// Change what is set for a kind.
    #[command(
        after_help = "Examples:\n  pillarbox alert rule set queue_age --threshold 30 --severity critical\n  pillarbox alert rule set incident --channel pager --channel mail --escalate-min 10\n  pillarbox alert rule set fallback_unused --off"
    )]
    Set {
        /// Kind.
        name: String,
        /// Tell nobody of it.
        #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
        off: Option<bool>,
        /// How bad it is, whatever was found.
        #[arg(long, value_enum)]
        severity: Option<SeverityArg>,
        /// From where on it is told.
        #[arg(long)]
        threshold: Option<f64>,
        /// A channel that is told; may be repeated. Without it: all that want it.
        #[arg(long, value_name = "NAME")]
        channel: Vec<String>,
        /// Minutes until the next step is told if nobody acknowledges; 0: never.
        #[arg(long, value_name = "MINUTES")]
        escalate_min: Option<u32>,
    },
    /// Everything as usual again for a kind.
    #[command(after_help = "Examples:\n  pillarbox alert rule reset queue_age")]
    Reset {
        /// Kind.
        name: String,
    },
}

/// How alerts are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KindArg {
    /// JSON by HTTP, signed as webhooks are.
    Webhook,
    /// An incoming webhook of Slack.
    Slack,
    /// A workflow of Microsoft Teams.
    Teams,
    /// PagerDuty, Events API v2.
    Pagerduty,
    /// Mail, by another route than the broken one.
    Email,
    /// Syslog.
    Syslog,
    /// A program of this machine.
    Command,
}

/// How bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SeverityArg {
    /// Will be a problem if nobody looks after it.
    Warning,
    /// Some mail does not arrive, or late.
    Problem,
    /// Worth to wake somebody.
    Critical,
}

/// TLS towards a smart host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SmartHostTls {
    /// Never.
    None,
    /// STARTTLS where offered.
    Opportunistic,
    /// STARTTLS or nothing.
    Required,
    /// From the first octet.
    Implicit,
}

/// Settings of a channel.
#[derive(Debug, Args)]
pub struct ChannelOptions {
    /// Webhook: where requests go. PagerDuty: its address, if it is not the usual one.
    #[arg(long)]
    pub url: Option<String>,
    /// Where the secret comes from: Slack and Teams the address to post to, PagerDuty the integration key, e-mail the smart
    /// host's password, webhook the signing secret (made if none is given).
    #[arg(long, value_name = "SOURCE", help = SOURCE_HELP)]
    pub secret_from: Option<Source>,
    /// A network that is not public and may be called all the same; may be repeated.
    #[arg(long, value_name = "NETWORK")]
    pub network: Vec<String>,
    /// Take an address that begins with http://: everything is told in the clear.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub allow_http: Option<bool>,
    /// E-mail: who gets it; may be repeated.
    #[arg(long, value_name = "ADDRESS")]
    pub to: Vec<String>,
    /// E-mail: whom it is from.
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// E-mail: a route to take, the best first; may be repeated. Without it: any that works and is not concerned.
    #[arg(long, value_name = "ROUTE")]
    pub route: Vec<String>,
    /// E-mail: gets the weekly report.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub report: Option<bool>,
    /// E-mail: a server that takes it straight, instead of queue and routes.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub smart_host: Option<String>,
    /// TLS towards it.
    #[arg(long, value_enum, requires = "smart_host")]
    pub tls: Option<SmartHostTls>,
    /// User name there; the password is the secret.
    #[arg(long, requires = "smart_host")]
    pub username: Option<String>,
    /// PEM file of authorities to trust there.
    #[arg(long, value_name = "FILE", requires = "smart_host")]
    pub ca_file: Option<String>,
    /// Syslog: udp://host:514, tcp://host:601, tls://host:6514 or unix:/dev/log.
    #[arg(long, value_name = "WHERE")]
    pub syslog: Option<String>,
    /// Syslog: facility (0 to 23).
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=23))]
    pub facility: Option<u8>,
    /// Command: the program, then each of its arguments with this option again.
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    pub command: Vec<String>,
    /// Seconds it may take (1 to 60).
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u32>,
    /// When its turn is: 1 at once, 2 when nobody of 1 could be told or acknowledged in time (to 9).
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub step: Option<u8>,
    /// The least severity it is told of.
    #[arg(long, value_enum)]
    pub severity: Option<SeverityArg>,
    /// A kind of alert it is told of; may be repeated. Without it: all.
    #[arg(long, value_name = "KIND")]
    pub rule: Vec<String>,
    /// Hours in which it is only told what is critical: 22:00-07:00.
    #[arg(long, value_name = "FROM-TO")]
    pub quiet: Option<String>,
    /// A day that is quiet as a whole: sat, sun; may be repeated.
    #[arg(long, value_name = "DAY", requires = "quiet")]
    pub quiet_day: Vec<String>,
    /// Time zone of the quiet hours: Europe/Berlin.
    #[arg(long, value_name = "ZONE", requires = "quiet")]
    pub zone: Option<String>,
    /// Seconds after a message during which further alerts are gathered into one.
    #[arg(long, value_name = "SECONDS")]
    pub group: Option<u32>,
    /// Seconds between two messages about the same kind of alert.
    #[arg(long, value_name = "SECONDS")]
    pub interval: Option<u32>,
    /// Most messages in an hour.
    #[arg(long, value_name = "N")]
    pub per_hour: Option<u32>,
    /// It is told when an alert is over.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub resolved: Option<bool>,
    /// Tell it nothing.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub disabled: Option<bool>,
}

/// What `alert channel set --clear` puts back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ChannelClear {
    /// Queue and routes again.
    SmartHost,
    /// Any route.
    Routes,
    /// All kinds of alerts.
    Rules,
    /// Public addresses only.
    Networks,
    /// No quiet hours.
    Quiet,
    /// The usual interval.
    Interval,
    /// The usual number of messages.
    PerHour,
    /// No secret.
    Secret,
}
