//! What can be typed about messages that were submitted, and about addresses that got none.

use clap::{Args, Subcommand, ValueEnum};

/// Commands on messages.
#[derive(Debug, Subcommand)]
pub enum MessagesCommand {
    /// Find messages, newest first. All conditions must hold.
    #[command(
        after_help = "Examples:\n  pillarbox messages search ann@example.com\n  pillarbox messages search 'your invoice' --since 7d\n  pillarbox messages search --recipient 'ann*' --state failed\n  pillarbox messages search --domain example.com --reason user-unknown --json\n  pillarbox messages search --message-id '<17@shop.example>'\n  pillarbox --server https://mail.example.com --token-file key messages search ann@example.com\n\nRecipients, their domains and Message-IDs are indexed. Other conditions are looked at message by message, from the newest on; the search goes on until it has as many as --limit, or has looked at --most messages."
    )]
    Search(Box<SearchArgs>),
    /// Show all that is known of a message: what happened, attempts with their conversation, what failures mean and how to mend them.
    #[command(
        after_help = "Examples:\n  pillarbox messages show 01k2mzq8v4t7e\n  pillarbox messages show 01k2mzq8v4t7e --text\n  pillarbox messages show 01k2mzq8v4t7e --json"
    )]
    Show {
        /// Message id.
        id: String,
        /// Show its header fields and its text too.
        #[arg(long)]
        text: bool,
    },
    /// Print what may be given away of a message: addresses are masked, the content is left out.
    #[command(after_help = "Examples:\n  pillarbox messages export 01k2mzq8v4t7e > message.json")]
    Export {
        /// Message id.
        id: String,
    },
}

/// Which messages.
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// An address, a Message-ID in its brackets, a message id, or words of a subject.
    #[arg(value_name = "TEXT")]
    pub text: Option<String>,
    /// To whom: an address, its beginning (`ann*`), or a domain (`@example.com`).
    #[arg(long, value_name = "WHOM")]
    pub recipient: Option<String>,
    /// To this domain, without its subdomains.
    #[arg(long, value_name = "DOMAIN", conflicts_with = "recipient")]
    pub domain: Option<String>,
    /// From whom, by envelope or From header: an address, `@example.com`, or a part.
    #[arg(long, value_name = "WHOM")]
    pub from: Option<String>,
    /// Words that are all in the subject.
    #[arg(long, value_name = "WORDS")]
    pub subject: Option<String>,
    /// Message-ID header, with or without its brackets.
    #[arg(long, value_name = "ID")]
    pub message_id: Option<String>,
    /// Stream.
    #[arg(long, value_name = "NAME")]
    pub stream: Option<String>,
    /// Route.
    #[arg(long, value_name = "NAME")]
    pub route: Option<String>,
    /// Sender: the credential that submitted it.
    #[arg(long, value_name = "NAME")]
    pub sender: Option<String>,
    /// State of a recipient.
    #[arg(long, value_name = "STATE")]
    pub state: Option<StateArg>,
    /// Id of the rule that explains the last failure, or how the reason begins for which it is held or suppressed.
    #[arg(long, value_name = "RULE")]
    pub reason: Option<String>,
    /// Accepted at or after: an RFC 3339 time, or so long ago (`90m`, `24h`, `7d`).
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Accepted before, as --since.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Before this message.
    #[arg(long, value_name = "ID")]
    pub before: Option<String>,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub limit: u32,
    /// Look at so many messages at most where no index serves.
    #[arg(long, value_name = "N", default_value_t = 2_000_000)]
    pub most: u64,
}

/// States of recipients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StateArg {
    /// To be sent when due.
    Waiting,
    /// Being sent.
    Leased,
    /// Has to be released.
    Held,
    /// The next hop has it.
    Delivered,
    /// Refused for good.
    Failed,
    /// Its time was over.
    Expired,
    /// Withdrawn.
    Canceled,
    /// Was not to be sent.
    Suppressed,
    /// Came back later.
    Bounced,
    /// The recipient complained.
    Complained,
}

/// Whose mail did not arrive.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// The address.
    pub address: String,
    /// Only mail of this stream.
    #[arg(long, value_name = "NAME")]
    pub stream: Option<String>,
}

/// Below the options of `why`.
pub const WHY_EXAMPLES: &str = "Examples:\n  pillarbox why ann@example.com\n  pillarbox why ann@example.com --stream password-reset\n  pillarbox why ann@example.com --json\n\nNothing is sent. Exit codes: 0 the next hop accepted the latest mail, or it is under way; 1 something stops it; 2 wrong usage; 3 could not run.";
