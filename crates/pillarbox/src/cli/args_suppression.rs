//! What can be typed about suppressions.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// The reasons.
const REASONS: [&str; 6] = ["unknown-user", "mailbox-closed", "mailbox-full", "complaint", "opt-out", "manual"];

/// Commands on suppressions.
#[derive(Debug, Subcommand)]
pub enum SuppressionCommand {
    /// List suppressed addresses, in order of address.
    #[command(
        after_help = "Examples:\n  pillarbox suppression ls --domain example.com\n  pillarbox suppression ls --reason complaint --limit 1000\n  pillarbox suppression ls --search ann"
    )]
    Ls {
        /// Which.
        #[command(flatten)]
        filter: SuppressionFilterArgs,
        /// Most addresses.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// Where a list before ended.
        #[arg(long, value_name = "CURSOR")]
        after: Option<String>,
    },
    /// Show what stops mail to an address, on what evidence, and what happened to it before.
    #[command(after_help = "Examples:\n  pillarbox suppression show ann@example.com")]
    Show {
        /// The address.
        address: String,
    },
    /// Say whether addresses would get mail. Exit code 1 if one would not.
    #[command(
        after_help = "Examples:\n  pillarbox suppression check ann@example.com\n  pillarbox suppression check --stream newsletter ann@example.com bob@example.com"
    )]
    Check {
        /// Addresses.
        #[arg(required = true)]
        addresses: Vec<String>,
        /// Mail of this stream.
        #[arg(long, value_name = "NAME", default_value = "default")]
        stream: String,
    },
    /// Suppress addresses: they get no mail from now on. What is there already is replaced.
    #[command(
        after_help = "Examples:\n  pillarbox suppression add ann@example.com --reason complaint\n  pillarbox suppression add ann@example.com --scope newsletter --until 90d --note 'asked by phone'"
    )]
    Add {
        /// Addresses, at most 1,000.
        #[arg(required = true)]
        addresses: Vec<String>,
        /// Only mail of this stream; without it all mail.
        #[arg(long, value_name = "STREAM")]
        scope: Option<String>,
        /// Why.
        #[arg(long, value_name = "REASON", value_parser = REASONS, default_value = "manual")]
        reason: String,
        /// Until when: a duration such as 30d, a date, an RFC 3339 time, or never.
        #[arg(long, value_name = "WHEN", default_value = "never")]
        until: String,
        /// For whoever looks at it later.
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Let addresses get mail again. The log keeps who removed them and why.
    #[command(
        visible_alias = "remove",
        after_help = "Examples:\n  pillarbox suppression rm ann@example.com --why 'mailbox works again'\n  pillarbox suppression rm ann@example.com --scope newsletter"
    )]
    Rm {
        /// Addresses, at most 1,000.
        #[arg(required = true)]
        addresses: Vec<String>,
        /// Only in this scope (* or a stream); without it in all.
        #[arg(long, value_name = "SCOPE")]
        scope: Option<String>,
        /// For the log.
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Add the addresses of a CSV file. Its first line names the columns: address (or email), and if there are any scope, reason,
    /// added, expires, who, note, reply, rule. Rows that are wrong are named with their line, the others count; exit code 1 then.
    #[command(
        after_help = "Examples:\n  pillarbox suppression import bounces.csv --dry-run\n  pillarbox suppression import bounces.csv --reason unknown-user\n  pillarbox suppression export | ssh other pillarbox suppression import -"
    )]
    Import {
        /// The file; - is standard input.
        file: PathBuf,
        /// This reason for all, whatever the file says.
        #[arg(long, value_name = "REASON", value_parser = REASONS)]
        reason: Option<String>,
        /// This scope for all (* or a stream), whatever the file says.
        #[arg(long, value_name = "SCOPE")]
        scope: Option<String>,
        /// Replace what is there already. Without it the one that holds longer stays, and what somebody removed after the date in
        /// the column added does not come back.
        #[arg(long)]
        replace: bool,
        /// Only say what is wrong with the file.
        #[arg(long)]
        dry_run: bool,
    },
    /// Write the list as CSV, to standard output or to a file that does not exist yet.
    #[command(
        after_help = "Examples:\n  pillarbox suppression export > suppressions.csv\n  pillarbox suppression export complaints.csv --reason complaint"
    )]
    Export {
        /// The file.
        file: Option<PathBuf>,
        /// Which.
        #[command(flatten)]
        filter: SuppressionFilterArgs,
    },
    /// Show changes of the list, removals too, oldest first.
    #[command(after_help = "Examples:\n  pillarbox suppression log\n  pillarbox suppression log --since 1200")]
    Log {
        /// After this change.
        #[arg(long, value_name = "NUMBER")]
        since: Option<u64>,
        /// Most changes.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
}

/// Which suppressions.
#[derive(Debug, Clone, Default, Args)]
pub struct SuppressionFilterArgs {
    /// Scope: * or a stream.
    #[arg(long, value_name = "SCOPE")]
    pub scope: Option<String>,
    /// Reason.
    #[arg(long, value_name = "REASON", value_parser = REASONS)]
    pub reason: Option<String>,
    /// Domain of the address.
    #[arg(long, value_name = "DOMAIN")]
    pub domain: Option<String>,
    /// Part of the address.
    #[arg(long, value_name = "TEXT")]
    pub search: Option<String>,
    /// Added at this time or later, RFC 3339.
    #[arg(long, value_name = "TIME")]
    pub added_from: Option<String>,
    /// Added before this time, RFC 3339.
    #[arg(long, value_name = "TIME")]
    pub added_before: Option<String>,
}
