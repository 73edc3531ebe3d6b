//! What can be typed for `report`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

/// Below the options.
pub const EXAMPLES: &str = "Examples:
  pillarbox report google.com!example.com!1762992000!1763078399.zip
  pillarbox report *.xml.gz tlsrpt.json.gz
  pillarbox report report.eml --json
  pillarbox report - < report.xml
  pillarbox report --received
  pillarbox report weekly --since 2026-11-14T00:00:00Z

Takes DMARC aggregate reports (RFC 7489, RFC 9990) and TLS reports (RFC 8460): bare XML or JSON, packed by gzip or zip, or
whole mails that bring them; several files are put together, and the same report counts once. At most 32 MiB a file,
64 MiB unpacked, 300 times the packed size, 20 files an archive, 100,000 records a report.

Exit codes: 0 nothing to mend, 1 something to mend or a file without a report, 2 wrong usage, 3 could not run.";

/// Reports to read.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct ReportArgs {
    /// Another report.
    #[command(subcommand)]
    pub command: Option<ReportCommand>,
    /// Files; `-` reads standard input.
    #[arg(value_name = "FILE", required_unless_present = "received", value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    /// The reports that came to the server, by its bounce listener or its mailboxes.
    #[arg(long, conflicts_with = "files")]
    pub received: bool,
}

/// Reports that are not read from files.
#[derive(Debug, Subcommand)]
pub enum ReportCommand {
    /// What was sent in a week, what failed and why, who is slow, what to renew: as it is mailed on Mondays.
    #[command(
        after_help = "Examples:\n  pillarbox report weekly\n  pillarbox report weekly --since 2026-11-01T00:00:00Z --json\n  pillarbox report weekly --html > week.html"
    )]
    Weekly {
        /// From this moment on (RFC 3339); by default a week ago.
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// HTML instead of text.
        #[arg(long)]
        html: bool,
    },
}
