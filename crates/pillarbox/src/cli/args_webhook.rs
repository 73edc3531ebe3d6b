//! What can be typed about webhooks.

use clap::{Args, Subcommand, ValueEnum};

use super::args_settings::{SOURCE_HELP, Source};

/// Commands on webhooks.
#[derive(Debug, Subcommand)]
pub enum WebhookCommand {
    /// Add a webhook. Its signing secret is shown once.
    #[command(
        after_help = "Examples:\n  pillarbox webhook add shop https://shop.example.com/mail-events\n  pillarbox webhook add bounces https://crm.example.com/hook --event failed --event bounced --event suppression.added\n  pillarbox webhook add local http://127.0.0.1:8080/hook --allow-http --network 127.0.0.1 --since 2026-11-20T00:00:00Z"
    )]
    Add {
        /// Name.
        name: String,
        /// Where requests go: https://….
        url: String,
        /// What is told, and how.
        #[command(flatten)]
        options: WebhookOptions,
        /// Begin with what happened since this moment (RFC 3339), not with what happens from now on.
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// A signing secret (whsec_…) that the application has already.
        #[arg(long, value_name = "SOURCE", help = SOURCE_HELP)]
        secret_from: Option<Source>,
    },
    /// List webhooks and how they are doing.
    #[command(after_help = "Examples:\n  pillarbox webhook ls")]
    Ls,
    /// Show a webhook.
    #[command(after_help = "Examples:\n  pillarbox webhook show shop")]
    Show {
        /// Name.
        name: String,
    },
    /// Change a webhook. Lists are replaced as a whole.
    #[command(
        after_help = "Examples:\n  pillarbox webhook set shop --event delivered --event failed\n  pillarbox webhook set shop --clear events\n  pillarbox webhook set shop --disabled\n  pillarbox webhook set shop --disabled=false"
    )]
    Set {
        /// Name.
        name: String,
        /// Where requests go.
        #[arg(long)]
        url: Option<String>,
        /// What changes.
        #[command(flatten)]
        options: WebhookOptions,
        /// What is removed.
        #[arg(long, value_enum)]
        clear: Vec<WebhookClear>,
    },
    /// Remove a webhook with its log and what waits.
    #[command(alias = "remove", after_help = "Examples:\n  pillarbox webhook rm shop")]
    Rm {
        /// Name.
        name: String,
    },
    /// Send a sample event and say what came of it. Exit code 1: it was not taken.
    #[command(after_help = "Examples:\n  pillarbox webhook test shop")]
    Test {
        /// Name.
        name: String,
    },
    /// Tell again what happened since a moment, with the same ids.
    #[command(after_help = "Examples:\n  pillarbox webhook replay shop --since 2026-11-20T06:00:00Z")]
    Replay {
        /// Name.
        name: String,
        /// RFC 3339.
        #[arg(long, value_name = "TIME")]
        since: String,
    },
    /// Show what was sent and what was answered, newest first.
    #[command(
        after_help = "Examples:\n  pillarbox webhook deliveries shop\n  pillarbox webhook deliveries shop --failed --limit 20\n  pillarbox webhook deliveries shop --json"
    )]
    Deliveries {
        /// Name.
        name: String,
        /// Only what was not taken.
        #[arg(long)]
        failed: bool,
        /// Go on behind this entry.
        #[arg(long, value_name = "ID")]
        after: Option<i64>,
        /// Most entries (1 to 1000).
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Go on after a pause.
    #[command(after_help = "Examples:\n  pillarbox webhook resume shop")]
    Resume {
        /// Name.
        name: String,
    },
    /// Replace the signing secret; the old one signs beside the new one for a while.
    #[command(
        after_help = "Examples:\n  pillarbox webhook rotate-secret shop\n  pillarbox webhook rotate-secret shop --overlap-hours 0"
    )]
    RotateSecret {
        /// Name.
        name: String,
        /// Hours during which the old secret signs as well (0 to 720).
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(0..=720))]
        overlap_hours: u32,
        /// A signing secret (whsec_…) that the application has already.
        #[arg(long, value_name = "SOURCE", help = SOURCE_HELP)]
        secret_from: Option<Source>,
    },
}

/// What is told, and how.
#[derive(Debug, Args)]
pub struct WebhookOptions {
    /// What is told: message.failed (or failed), suppression.added, …; may be repeated. Without it: everything.
    #[arg(long, value_name = "EVENT")]
    pub event: Vec<String>,
    /// Only of messages in this stream; may be repeated.
    #[arg(long, value_name = "STREAM")]
    pub stream: Vec<String>,
    /// Only of messages by this sender; may be repeated.
    #[arg(long, value_name = "SENDER")]
    pub sender: Vec<String>,
    /// A network that is not public and may be called all the same; may be repeated.
    #[arg(long, value_name = "NETWORK")]
    pub network: Vec<String>,
    /// Take an address that begins with http://: everything is told in the clear.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub allow_http: Option<bool>,
    /// Seconds it may take to answer (1 to 60).
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u32>,
    /// Send nothing; what happens meanwhile is told later.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub disabled: Option<bool>,
}

/// What `webhook set --clear` removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WebhookClear {
    /// Everything is told.
    Events,
    /// Of all streams.
    Streams,
    /// By all senders.
    Senders,
    /// Public addresses only.
    Networks,
    /// The usual time to answer.
    Timeout,
}
