//! What can be typed about streams and about the preferences of recipients.

use clap::{Args, Subcommand, ValueEnum};

/// Commands on streams.
#[derive(Debug, Subcommand)]
pub enum StreamCommand {
    /// List streams with what waits in them.
    #[command(after_help = "Examples:\n  pillarbox stream ls\n  pillarbox stream ls --json")]
    Ls,
    /// Show a stream.
    #[command(after_help = "Examples:\n  pillarbox stream show newsletter")]
    Show {
        /// Name.
        name: String,
    },
    /// Add a stream, from a preset or from nothing.
    #[command(
        after_help = "Examples:\n  pillarbox stream add password-reset --preset password-reset\n  pillarbox stream add alerts --preset system-alert --digest 5m\n  pillarbox stream add reports --priority bulk --per-minute 60 --spread 2h --deadline 1d\n  pillarbox stream add newsletter --preset newsletter\n\nA stream that the configuration names can be added to; what the configuration says of it holds."
    )]
    Add {
        /// Name: a-z 0-9 . _ -
        name: String,
        /// Preset to begin with; see `pillarbox stream presets`.
        #[arg(long, value_name = "PRESET")]
        preset: Option<String>,
        /// What differs.
        #[command(flatten)]
        options: StreamOptions,
    },
    /// Change a stream.
    #[command(
        after_help = "Examples:\n  pillarbox stream set newsletter --per-minute 300\n  pillarbox stream set newsletter --clear spread\n  pillarbox stream set alerts --enabled=false"
    )]
    Set {
        /// Name.
        name: String,
        /// What changes.
        #[command(flatten)]
        options: StreamOptions,
        /// What is removed.
        #[arg(long, value_enum)]
        clear: Vec<StreamClear>,
    },
    /// Remove a stream. Mail that names it is taken as mail of any stream.
    #[command(visible_alias = "remove", after_help = "Examples:\n  pillarbox stream rm reports")]
    Rm {
        /// Name.
        name: String,
    },
    /// Hold all mail of a stream, queued and coming, until `stream resume`.
    #[command(
        after_help = "Examples:\n  pillarbox stream pause newsletter\n  pillarbox stream pause newsletter --why 'wrong template'"
    )]
    Pause {
        /// Name.
        name: String,
        /// Reason, shown with the held mail.
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Let a paused stream go on, with what was held by the pause.
    #[command(after_help = "Examples:\n  pillarbox stream resume newsletter")]
    Resume {
        /// Name.
        name: String,
    },
    /// List the presets with their numbers.
    #[command(after_help = "Examples:\n  pillarbox stream presets")]
    Presets,
}

/// What a stream is.
#[derive(Debug, Clone, Default, Args)]
pub struct StreamOptions {
    /// Send its mail; if not, each recipient is recorded as suppressed.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    pub enabled: Option<bool>,
    /// Who goes first when there is a queue.
    #[arg(long, value_enum)]
    pub priority: Option<Priority>,
    /// Fail rather than arrive later than this after acceptance, such as 15m.
    #[arg(long, value_name = "DURATION")]
    pub deadline: Option<String>,
    /// Most recipients that leave in any minute, evenly.
    #[arg(long, value_name = "N")]
    pub per_minute: Option<u32>,
    /// Let what comes in at once leave evenly over this time, such as 2h.
    #[arg(long, value_name = "DURATION")]
    pub spread: Option<String>,
    /// Add the link and header fields by which a recipient leaves with one click (RFC 8058); needs http.public_url.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    pub unsubscribe: Option<bool>,
    /// Recipients may opt out.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    pub opt_out: Option<bool>,
    /// Its bounces and complaints suppress an address for this stream alone.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    pub own_suppressions: Option<bool>,
    /// Send by a fallback route what the first may have delivered.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    pub allow_duplicates: Option<bool>,
    /// Fold equal mails to one recipient within this time: the first goes, the others become one digest.
    #[arg(long, value_name = "DURATION")]
    pub digest: Option<String>,
    /// Keep contents for this time after the end, such as 7d.
    #[arg(long, value_name = "DURATION")]
    pub keep_content: Option<String>,
    /// Keep messages and events for this time after the end, such as 400d.
    #[arg(long, value_name = "DURATION")]
    pub keep_events: Option<String>,
    /// Do everything but the last hop.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    pub test_mode: Option<bool>,
    /// Return path next hops get: one of ours for each message, or the sender's own (by default the route's).
    #[arg(long, value_name = "WHICH", value_parser = ["signed", "original"])]
    pub return_path: Option<String>,
    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
}

/// Who goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Priority {
    /// 0: before all others, with a reserve of memory and quota.
    Urgent,
    /// 1.
    High,
    /// 2.
    Normal,
    /// 3: behind all others.
    Bulk,
}

/// What can be removed from a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StreamClear {
    /// The deadline.
    Deadline,
    /// The pace.
    PerMinute,
    /// The spread.
    Spread,
    /// The digest.
    Digest,
    /// Its own time for contents.
    KeepContent,
    /// Its own time for events.
    KeepEvents,
    /// Its own return path.
    ReturnPath,
    /// The description.
    Description,
}

/// Commands on preferences.
#[derive(Debug, Subcommand)]
pub enum PreferencesCommand {
    /// Show which streams an address gets.
    #[command(after_help = "Examples:\n  pillarbox preferences show ann@example.com")]
    Show {
        /// Address.
        address: String,
    },
    /// Opt an address out of streams, or in again.
    #[command(
        after_help = "Examples:\n  pillarbox preferences set ann@example.com --out newsletter\n  pillarbox preferences set ann@example.com --in newsletter\n  pillarbox preferences set ann@example.com --all out\n\n--all out concerns all streams that allow it. What an address is suppressed for by bounces or complaints stays:\nsee `pillarbox suppression`."
    )]
    Set {
        /// Address.
        address: String,
        /// Stream that it shall not get; may be repeated.
        #[arg(long = "out", value_name = "STREAM")]
        opt_out: Vec<String>,
        /// Stream that it shall get again; may be repeated.
        #[arg(long = "in", value_name = "STREAM")]
        opt_in: Vec<String>,
        /// All mail that may be left.
        #[arg(long, value_enum)]
        all: Option<InOut>,
    },
}

/// In or out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InOut {
    /// It gets mail.
    In,
    /// It gets none.
    Out,
}
