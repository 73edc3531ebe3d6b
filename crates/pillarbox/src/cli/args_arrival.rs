//! What can be typed for `arrival`.

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::config::values::duration;

/// Commands on test mails that prove arrival.
#[derive(Debug, Subcommand)]
pub enum ArrivalCommand {
    /// Send a test mail by a route, and look whether it arrives.
    #[command(
        after_help = "Examples:\n  pillarbox arrival send --route out --to probe@example.net --mailbox probe --wait\n  pillarbox arrival send --route out --wait\n  pillarbox arrival send --route out --to somebody@example.net --from app@example.com --within 30m\n\nWithout --to it goes to the bounce domain and is confirmed by our own listener. With --mailbox the recipient's mailbox is searched, every folder, and nothing is changed in it. Otherwise paste the header of the mail into `pillarbox arrival confirm -`.\n\nExit codes with --wait: 0 arrived and nothing is wrong, 1 it did not, or something is, 2 wrong usage, 3 could not run."
    )]
    Send(Box<SendOptions>),
    /// List test mails.
    #[command(after_help = "Examples:\n  pillarbox arrival ls\n  pillarbox arrival ls --state missing --json")]
    Ls {
        /// Only those that are waiting, arrived, late, missing or failed.
        #[arg(long, value_name = "STATE")]
        state: Option<String>,
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Show one: folder, delay, what the receiver found out, and the way it took.
    #[command(
        after_help = "Examples:\n  pillarbox arrival show 17\n  pillarbox arrival show arrival-0123456789abcdefghjk"
    )]
    Show {
        /// Its number or token.
        id: String,
    },
    /// Prove that one arrived, with the header of the mail as the recipient's program shows it.
    #[command(
        after_help = "Examples:\n  pillarbox arrival confirm - < header.txt\n  pillarbox arrival confirm mail.eml"
    )]
    Confirm {
        /// File with the header or the whole mail; `-` reads standard input.
        file: String,
    },
}

/// A test mail.
#[derive(Debug, Args)]
pub struct SendOptions {
    /// The route to try.
    #[arg(long, value_name = "NAME")]
    pub route: String,
    /// Recipient; by default an address of the bounce domain.
    #[arg(long, value_name = "ADDRESS")]
    pub to: Option<String>,
    /// Sender; by default postmaster of a domain that writes by the route.
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// Mailbox (`pillarbox mailbox`) to look for it in.
    #[arg(long, value_name = "NAME")]
    pub mailbox: Option<String>,
    /// How long it may take (10s to 1d).
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = length)]
    pub within: Duration,
    /// Wait until it is known.
    #[arg(long)]
    pub wait: bool,
}

fn length(text: &str) -> Result<Duration, String> {
    duration(text).ok_or_else(|| "a duration such as 10m".into())
}
