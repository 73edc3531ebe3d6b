//! What can be typed for `tlsrpt`. What it means is in the file of that name.

use clap::Subcommand;

/// Commands on reports about TLS.
#[derive(Debug, Subcommand)]
pub enum TlsrptCommand {
    /// List what was counted, by day and domain, and how far each report is.
    #[command(
        after_help = "Examples:\n  pillarbox tlsrpt ls\n  pillarbox tlsrpt ls --domain example.com --limit 14\n  pillarbox tlsrpt ls --json"
    )]
    Ls {
        /// Of this domain only.
        #[arg(long)]
        domain: Option<String>,
        /// At most so many, 1 to 1000.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N")]
        limit: u32,
    },
    /// Show a domain's report: sessions by policy, and what failed.
    #[command(
        after_help = "Examples:\n  pillarbox tlsrpt show example.com\n  pillarbox tlsrpt show example.com --day 2026-11-20 --json"
    )]
    Show {
        /// The recipients' domain.
        domain: String,
        /// UTC day; without it the newest.
        #[arg(long, value_name = "DATE")]
        day: Option<String>,
    },
    /// Send a domain's report now to everybody its record names. Of a day that is not over it tells what was seen so far; the
    /// whole report follows after the day.
    #[command(
        after_help = "Examples:\n  pillarbox tlsrpt send example.com\n  pillarbox tlsrpt send example.com --day 2026-11-20\n\nExit code 1: somebody did not take it, or nobody asks for it."
    )]
    Send {
        /// The recipients' domain.
        domain: String,
        /// UTC day; without it the newest.
        #[arg(long, value_name = "DATE")]
        day: Option<String>,
    },
}
