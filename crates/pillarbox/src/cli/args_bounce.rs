//! What can be typed for `bounce`.

use clap::{Args, Subcommand};

/// Commands on mail that came back and is kept.
#[derive(Debug, Subcommand)]
pub enum BounceCommand {
    /// List kept mail, newest first.
    #[command(
        after_help = "Examples:\n  pillarbox bounce ls --unmatched\n  pillarbox bounce ls --reports --json\n\nMail that was matched is not kept: it is an event of its message (`pillarbox queue show ID`)."
    )]
    Ls {
        /// Which list.
        #[command(flatten)]
        list: ListArgs,
        /// Most lines.
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: u32,
        /// Continue before this id.
        #[arg(long, value_name = "ID")]
        before: Option<String>,
    },
    /// Print the octets of a kept mail.
    #[command(
        after_help = "Examples:\n  pillarbox bounce raw 17 | pillarbox explain -\n  pillarbox bounce raw 17 > bounce.eml"
    )]
    Raw {
        /// Its id.
        id: String,
    },
    /// Remove kept mail.
    #[command(after_help = "Examples:\n  pillarbox bounce rm 17 --unmatched\n  pillarbox bounce rm --all --reports")]
    Rm {
        /// Its id.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        id: Option<String>,
        /// The whole list.
        #[arg(long)]
        all: bool,
        /// Which list.
        #[command(flatten)]
        list: ListArgs,
    },
}

/// Which list.
#[derive(Debug, Clone, Copy, Args)]
#[group(required = true, multiple = false)]
pub struct ListArgs {
    /// Mail whose message was not found, or that is no report.
    #[arg(long)]
    pub unmatched: bool,
    /// Mail that brings reports of DMARC and TLS.
    #[arg(long)]
    pub reports: bool,
}

impl ListArgs {
    /// Its name in the API.
    pub const fn name(self) -> &'static str {
        if self.reports { "reports" } else { "unmatched" }
    }
}
