//! What can be typed about incidents.

use clap::Subcommand;

/// Commands on incidents.
#[derive(Debug, Subcommand)]
pub enum IncidentCommand {
    /// List open incidents, newest first. Exit code 1 if there is one.
    #[command(
        after_help = "Examples:\n  pillarbox incident list\n  pillarbox incident list --all --json\n  pillarbox incident list --closed --scope route:out"
    )]
    List {
        /// Closed ones too.
        #[arg(long, conflicts_with = "closed")]
        all: bool,
        /// Only closed ones.
        #[arg(long)]
        closed: bool,
        /// Only of this scope: everyone, route:NAME, credential:ROUTE, domain:NAME, ….
        #[arg(long)]
        scope: Option<String>,
        /// Only of this reason.
        #[arg(long)]
        reason: Option<String>,
        /// Before this incident.
        #[arg(long, value_name = "ID")]
        before: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Show an incident: what it is, what to do, what changed before, what happened. Exit code 1 while it is open.
    #[command(after_help = "Examples:\n  pillarbox incident show i-17\n  pillarbox incident show i-17 --json")]
    Show {
        /// Name, i-17.
        id: String,
    },
    /// Say that you work on it: nobody else is called.
    #[command(
        after_help = "Examples:\n  pillarbox incident ack i-17\n  pillarbox incident ack i-17 --note 'asked the provider'"
    )]
    Ack {
        /// Name, i-17.
        id: String,
        /// A note for the history.
        #[arg(long)]
        note: Option<String>,
    },
    /// Be told nothing of it for a while.
    #[command(after_help = "Examples:\n  pillarbox incident snooze i-17 --until 2026-11-22T08:00:00Z")]
    Snooze {
        /// Name, i-17.
        id: String,
        /// Until when, RFC 3339, at most 30 days.
        #[arg(long, value_name = "TIME")]
        until: String,
        /// A note for the history.
        #[arg(long)]
        note: Option<String>,
    },
    /// Say that it is over: brakes come off and its mail goes. If it is not, another one is opened.
    #[command(after_help = "Examples:\n  pillarbox incident close i-17 --note 'the provider has unlocked the account'")]
    Close {
        /// Name, i-17.
        id: String,
        /// What fixed it.
        #[arg(long)]
        note: Option<String>,
    },
    /// Write something into its history.
    #[command(after_help = "Examples:\n  pillarbox incident note i-17 'ticket 4711 at the provider'")]
    Note {
        /// Name, i-17.
        id: String,
        /// What.
        text: String,
    },
    /// Find out now whether it works again. Exit code 1 if it does not.
    #[command(after_help = "Examples:\n  pillarbox incident probe i-17")]
    Probe {
        /// Name, i-17.
        id: String,
    },
}
