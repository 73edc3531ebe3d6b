//! What can be typed for `batch`. What it means is in the files of that name.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Commands on batches.
#[derive(Debug, Subcommand)]
pub enum BatchCommand {
    /// Send one template to many recipients: a CSV file with a column `email`, the other columns are the template's fields.
    #[command(
        after_help = "Examples:\n  pillarbox batch send welcome.html people.csv --subject 'Welcome, {{ name }}' --from 'Shop <shop@example.com>'\n  pillarbox batch send welcome.html people.csv --dry-run --show 5\n  pillarbox batch send news.html people.csv --stream newsletter --spread 2h --follow\n  export-people | pillarbox batch send news.txt - --test\n\nThe template may begin with lines of its own:\n  ---\n  subject: Welcome, {{ name }}\n  from: Shop <shop@example.com>\n  ---\n\nNothing is accepted if one row is wrong. Exit codes: 0 accepted, 1 rows are wrong or it was refused, 2 wrong usage, 3 could not run."
    )]
    Send(Box<BatchSendArgs>),
    /// List batches, newest first.
    #[command(after_help = "Examples:\n  pillarbox batch ls\n  pillarbox batch ls --sender shop --limit 10 --json")]
    Ls {
        /// Of this sender.
        #[arg(long, value_name = "NAME")]
        sender: Option<String>,
        /// Most lines.
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: u32,
        /// Continue before this batch id.
        #[arg(long, value_name = "ID")]
        before: Option<String>,
    },
    /// Show a batch and how many of its rows are in which state.
    #[command(
        after_help = "Examples:\n  pillarbox batch show 01k2mzq8v4t7e\n  pillarbox batch show 01k2mzq8v4t7e --follow"
    )]
    Show {
        /// Batch id.
        id: String,
        /// Wait until nothing is left to be sent.
        #[arg(long)]
        follow: bool,
    },
    /// Stop: no more messages are made, and those that were not sent are held.
    #[command(after_help = "Examples:\n  pillarbox batch pause 01k2mzq8v4t7e")]
    Pause {
        /// Batch id.
        id: String,
    },
    /// Let a paused batch go on.
    #[command(after_help = "Examples:\n  pillarbox batch resume 01k2mzq8v4t7e")]
    Resume {
        /// Batch id.
        id: String,
    },
    /// Withdraw all that was not sent; there is no way back.
    #[command(after_help = "Examples:\n  pillarbox batch cancel 01k2mzq8v4t7e")]
    Cancel {
        /// Batch id.
        id: String,
    },
    /// List rows with what became of them.
    #[command(
        after_help = "Examples:\n  pillarbox batch rows 01k2mzq8v4t7e --state failed\n  pillarbox batch rows 01k2mzq8v4t7e --after 1000 --limit 1000 --json"
    )]
    Rows {
        /// Batch id.
        id: String,
        /// Those in this state: queued, refused, or a recipient's state such as delivered, failed, suppressed.
        #[arg(long, value_name = "STATE")]
        state: Option<String>,
        /// Most lines.
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: u32,
        /// Continue behind this row.
        #[arg(long, value_name = "ROW")]
        after: Option<u32>,
    },
}

/// A batch to send.
#[derive(Debug, Args)]
pub struct BatchSendArgs {
    /// The body: HTML if the name ends with .html or .htm, else plain text.
    pub template: PathBuf,
    /// CSV with a head; `-` reads standard input.
    pub recipients: PathBuf,
    /// From header and envelope sender: user@example.com or 'Name <user@example.com>'.
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// Subject, a template as well.
    #[arg(long, value_name = "TEXT")]
    pub subject: Option<String>,
    /// Reply-To.
    #[arg(long, value_name = "ADDRESS")]
    pub reply_to: Option<String>,
    /// Plain text body beside an HTML one.
    #[arg(long, value_name = "FILE")]
    pub text_file: Option<PathBuf>,
    /// Attach a file, the same for all; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub attach: Vec<PathBuf>,
    /// Another header field, 'Name: value', a template as well; may be repeated.
    #[arg(long, value_name = "FIELD")]
    pub header: Vec<String>,
    /// Named class of mail.
    #[arg(long, value_name = "NAME")]
    pub stream: Option<String>,
    /// Name of the batch in lists.
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,
    /// 0 (most urgent) to 3 (bulk, the default); never more urgent than the stream.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=3))]
    pub priority: Option<u8>,
    /// Spread the rows evenly over this time, such as 2h.
    #[arg(long, value_name = "TIME")]
    pub spread: Option<String>,
    /// Not before this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    pub send_at: Option<String>,
    /// Not after this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    pub deliver_by: Option<String>,
    /// Tag for searching; may be repeated.
    #[arg(long, value_name = "TEXT")]
    pub tag: Vec<String>,
    /// Do everything but the last hop: the first 100 messages are in the capture mailbox, the others are dropped.
    #[arg(long)]
    pub test: bool,
    /// Only check all rows, and show the first messages; nothing is accepted.
    #[arg(long)]
    pub dry_run: bool,
    /// How many messages --dry-run shows (0 to 100).
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub show: u8,
    /// An address in more than one row is an error.
    #[arg(long)]
    pub no_duplicates: bool,
    /// What separates the columns; without it a comma, semicolon or tab is recognised.
    #[arg(long, value_name = "CHARACTER")]
    pub delimiter: Option<char>,
    /// Accept it once, however often this is called with the same key and the same files.
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Submit as this sender (on this machine only).
    #[arg(long = "as", value_name = "NAME")]
    pub sender: Option<String>,
    /// Wait until nothing is left to be sent.
    #[arg(long)]
    pub follow: bool,
}
