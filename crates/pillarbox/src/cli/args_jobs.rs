//! What can be typed about jobs and scheduled checks.

use clap::{Args, Subcommand, ValueEnum};

/// Commands on jobs.
#[derive(Debug, Subcommand)]
pub enum JobsCommand {
    /// List what runs by itself: when it ran, how it went, when it runs next.
    #[command(
        alias = "list",
        after_help = "Examples:\n  pillarbox jobs ls\n  pillarbox jobs ls --group mail\n  pillarbox jobs ls --json"
    )]
    Ls {
        /// Only of this sort.
        #[arg(long, value_enum)]
        group: Option<JobGroup>,
    },
    /// Show a job. Exit code 1: its last run went wrong.
    #[command(after_help = "Examples:\n  pillarbox jobs show check-results")]
    Show {
        /// Name.
        name: String,
    },
    /// Run a job now, also one that is paused. Exit code 1: it went wrong.
    #[command(
        after_help = "Examples:\n  pillarbox jobs run check-results\n  pillarbox jobs run certificate:route.out --wait 0"
    )]
    Run {
        /// Name.
        name: String,
        /// Seconds to wait for its end (0 to 110).
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(0..=110))]
        wait: u32,
    },
    /// Keep a job from running until it is resumed.
    #[command(after_help = "Examples:\n  pillarbox jobs pause sign-in:out --why 'the provider works on it'")]
    Pause {
        /// Name.
        name: String,
        /// Why, for others.
        #[arg(long, default_value = "")]
        why: String,
    },
    /// Let a paused job go on.
    #[command(after_help = "Examples:\n  pillarbox jobs resume sign-in:out")]
    Resume {
        /// Name.
        name: String,
    },
    /// End the run under way and begin another.
    #[command(after_help = "Examples:\n  pillarbox jobs restart mailboxes")]
    Restart {
        /// Name.
        name: String,
    },
}

/// Sorts of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum JobGroup {
    /// Scheduled checks.
    Check,
    /// Reports and digests.
    Report,
    /// What looks after stored and published things.
    Care,
    /// Parts of the way of mail.
    Mail,
}

impl JobGroup {
    /// As in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Report => "report",
            Self::Care => "care",
            Self::Mail => "mail",
        }
    }
}

/// Commands on scheduled checks.
#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    /// List checks and what they found. Exit code 1: one found a problem.
    #[command(
        alias = "list",
        after_help = "Examples:\n  pillarbox schedule ls\n  pillarbox schedule ls --kind certificate\n  pillarbox schedule ls --level warning --json"
    )]
    Ls {
        /// Only of this kind, such as certificate, port, sign-in, own.
        #[arg(long)]
        kind: Option<String>,
        /// Only those that are at least so bad.
        #[arg(long, value_enum)]
        level: Option<AtLeast>,
    },
    /// Show a check with its last result. Exit code 1: it found a problem.
    #[command(
        after_help = "Examples:\n  pillarbox schedule show certificate:route.out\n  pillarbox schedule show nightly"
    )]
    Show {
        /// Name.
        name: String,
    },
    /// Show what a check found, newest first: a line for each period of equal results.
    #[command(
        after_help = "Examples:\n  pillarbox schedule history port:out\n  pillarbox schedule history nightly --limit 5 --json"
    )]
    History {
        /// Name.
        name: String,
        /// Go on behind this entry.
        #[arg(long, value_name = "ID")]
        after: Option<i64>,
        /// Most entries (1 to 1000).
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Run a check now and show what it found. Exit code 1: a problem.
    #[command(
        after_help = "Examples:\n  pillarbox schedule run sign-in:out\n  pillarbox schedule run nightly --wait 110"
    )]
    Run {
        /// Name.
        name: String,
        /// Seconds to wait for its end (0 to 110).
        #[arg(long, default_value_t = 110, value_parser = clap::value_parser!(u32).range(0..=110))]
        wait: u32,
    },
    /// Add a check of one's own.
    #[command(
        after_help = "Examples:\n  pillarbox schedule add nightly --host smtp.example.com:587 --at '30 2 * * *' --time-zone Europe/Berlin\n  pillarbox schedule add office --route office --at 'every 2h'\n  pillarbox schedule add shop --domain shop.example --at '0 7 * * 1' --section spf --section dmarc --changes\n  pillarbox schedule add partner --host mx.partner.example:25 --at 'every 1h' --from probe@example.com --to postmaster@partner.example\n\nNothing is sent: a check with recipients ends before the message."
    )]
    Add {
        /// Name.
        name: String,
        /// What and when.
        #[command(flatten)]
        options: ScheduleOptions,
    },
    /// Change a check of one's own. Lists are replaced as a whole.
    #[command(
        after_help = "Examples:\n  pillarbox schedule set nightly --at '0 5 * * *' --jitter 10m\n  pillarbox schedule set nightly --disabled\n  pillarbox schedule set nightly --disabled=false --clear jitter"
    )]
    Set {
        /// Name.
        name: String,
        /// What changes.
        #[command(flatten)]
        options: ScheduleOptions,
        /// What is removed.
        #[arg(long, value_enum)]
        clear: Vec<ScheduleClear>,
    },
    /// Remove a check of one's own; its results are kept for 90 days.
    #[command(alias = "remove", after_help = "Examples:\n  pillarbox schedule rm nightly")]
    Rm {
        /// Name.
        name: String,
    },
}

/// How bad at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AtLeast {
    /// Also what is only worth knowing.
    Note,
    /// Weaknesses and what will be a problem.
    Warning,
    /// What is wrong now.
    Problem,
}

impl AtLeast {
    /// As in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// What and when.
#[derive(Debug, Args)]
pub struct ScheduleOptions {
    /// Look at this server, stage by stage: host, host:port or URL.
    #[arg(long, value_name = "TARGET", group = "what")]
    pub host: Option<String>,
    /// Look at this route: its settings, and its server with its credential.
    #[arg(long, value_name = "ROUTE", group = "what")]
    pub route: Option<String>,
    /// Look at this domain.
    #[arg(long, value_name = "DOMAIN", group = "what")]
    pub domain: Option<String>,
    /// Send a test mail by this route, and see whether it arrives.
    #[arg(long, value_name = "ROUTE", group = "what")]
    pub arrival: Option<String>,
    /// Mailbox that a test mail is looked for in.
    #[arg(long, value_name = "NAME")]
    pub mailbox: Option<String>,
    /// Five fields of cron (minute, hour, day, month, weekday) or `every 6h`.
    #[arg(long, value_name = "SCHEDULE")]
    pub at: Option<String>,
    /// Time zone of the fields, such as Europe/Berlin; by default the server's.
    #[arg(long, value_name = "ZONE")]
    pub time_zone: Option<String>,
    /// Each run is later by a part of this, at most 6h.
    #[arg(long, value_name = "DURATION")]
    pub jitter: Option<String>,
    /// Longest a run may take, 10s to 10m.
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<String>,
    /// Bad results in a row before somebody is told (1 to 10).
    #[arg(long, value_name = "N")]
    pub confirm: Option<u32>,
    /// How a host is secured: auto, starttls, implicit, none.
    #[arg(long, value_name = "MODE", value_parser = ["auto", "starttls", "implicit", "none"])]
    pub tls: Option<String>,
    /// MAIL FROM when asking about recipients.
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// A recipient to ask about; may be repeated. Nothing is sent.
    #[arg(long, value_name = "ADDRESS")]
    pub to: Vec<String>,
    /// A part of a domain: mx, spf, dkim, dmarc, …; may be repeated.
    #[arg(long, value_name = "PART")]
    pub section: Vec<String>,
    /// Tell findings that differ from the last run's, too.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    pub changes: Option<bool>,
    /// Switch it off, or on with =false.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    pub disabled: Option<bool>,
    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
}

/// What can be removed from a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScheduleClear {
    /// The time zone.
    TimeZone,
    /// The jitter.
    Jitter,
    /// Its own time-out.
    Timeout,
    /// How often it must be bad.
    Confirm,
    /// How it is secured.
    Tls,
    /// Sender and recipients.
    Envelope,
    /// The parts of a domain.
    Sections,
    /// The description.
    Description,
}
