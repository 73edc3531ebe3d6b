//! What can be typed for `explain` and `rules`. What it means is in the files of those names.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Replies to explain.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// A file (also packed by gzip), `-` for standard input, the reply itself, or an address: what would become of a
    /// message to it now.
    #[arg(value_name = "FILE|-|TEXT")]
    pub what: Vec<String>,
    /// Provider or program that spoke, if known, as `pillarbox rules list` names it.
    #[arg(long, value_name = "ID")]
    pub provider: Option<String>,
    /// Where in the conversation it was said, if the text does not show it: some words mean another thing elsewhere.
    #[arg(long, value_name = "STAGE", value_parser = ["banner", "ehlo", "tls", "auth", "sender", "recipient", "message"])]
    pub stage: Option<String>,
    /// With an address: the envelope sender.
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// With an address: the stream.
    #[arg(long, value_name = "NAME")]
    pub stream: Option<String>,
}

/// Commands on the rules.
#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// List the rules inside the program.
    #[command(
        after_help = "Examples:\n  pillarbox rules list\n  pillarbox rules list --provider google\n  pillarbox rules list --json"
    )]
    List {
        /// Only those of this provider or program.
        #[arg(long, value_name = "ID")]
        provider: Option<String>,
    },
    /// Show one rule: when it applies, what it means, what to do.
    #[command(
        after_help = "Examples:\n  pillarbox rules show microsoft-smtp-auth-off-tenant\n  pillarbox rules show microsoft-smtp-auth-off-tenant --json"
    )]
    Show {
        /// Rule id.
        id: String,
    },
    /// Find what is wrong with rules: those inside the program, or those of a file.
    #[command(after_help = "Examples:\n  pillarbox rules lint\n  pillarbox rules lint my-rules.toml")]
    Lint {
        /// Rules of your own.
        file: Option<PathBuf>,
    },
    /// Play the samples of rules: those inside the program, or those of a file.
    #[command(after_help = "Examples:\n  pillarbox rules test\n  pillarbox rules test my-rules.toml")]
    Test {
        /// Rules of your own.
        file: Option<PathBuf>,
    },
    /// Count replies that no rule knows, in a file or among the server's newest events, each with a rule to begin with.
    #[command(
        after_help = "Examples:\n  pillarbox rules unknown\n  pillarbox rules unknown /var/log/mail.log\n  pillarbox rules unknown --events 50000 --json"
    )]
    Unknown {
        /// A log, or `-` for standard input; without it the server is asked.
        #[arg(value_name = "FILE|-")]
        file: Option<String>,
        /// How many of the newest events to look at.
        #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
        events: u32,
    },
    /// Show what rules of your own would change: stored or logged replies, and samples of the program's rules.
    #[command(
        after_help = "Examples:\n  pillarbox rules backtest my-rules.toml\n  pillarbox rules backtest my-rules.toml --log /var/log/mail.log\n\nExit code 1: a sample of a rule inside the program would hit another rule."
    )]
    Backtest {
        /// Rules of your own.
        file: PathBuf,
        /// Replies of this log instead of those the server has stored.
        #[arg(long, value_name = "FILE")]
        log: Option<PathBuf>,
        /// How many of the newest events to look at.
        #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
        events: u32,
    },
}
