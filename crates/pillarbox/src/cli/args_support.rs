//! What can be typed for `support`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

/// What there is for whoever helps.
#[derive(Debug, Subcommand)]
pub enum SupportCommand {
    /// Write an archive for whoever helps: set-up, failures, checks, last changes; no secrets, no content, no names of people.
    #[command(
        after_help = "Examples:\n  pillarbox support bundle\n  pillarbox support bundle --since 2026-11-21T08:00:00Z --sample ann@example.com --proxy none\n  pillarbox support bundle --to case-17.zip --spam-folder not-there --what 'password mails are late'\n\nThe archive is JSON: look through it before you hand it on. Addresses have another name in it; their domains stay."
    )]
    Bundle(BundleArgs),
}

/// What only you know.
#[derive(Debug, Args)]
pub struct BundleArgs {
    /// The file to write; it must not exist.
    #[arg(long, value_name = "FILE", default_value = "pillarbox-support.zip", value_hint = ValueHint::FilePath)]
    pub to: PathBuf,
    /// What goes wrong.
    #[arg(long, value_name = "TEXT")]
    pub what: Option<String>,
    /// Since when: a time (RFC 3339), or words.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// The proxy, firewall or mail gateway between this server and the internet.
    #[arg(long, value_name = "TEXT")]
    pub proxy: Option<String>,
    /// An address that it happens to; at most 10.
    #[arg(long = "sample", value_name = "ADDRESS")]
    pub samples: Vec<String>,
    /// Whether the recipient's spam folder was looked into.
    #[arg(long, value_name = "FOUND")]
    pub spam_folder: Option<SpamFolder>,
}

/// What was in the spam folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SpamFolder {
    /// Nobody has looked.
    NotLooked,
    /// It is not there.
    NotThere,
    /// It is there.
    There,
}

impl SpamFolder {
    /// As the API has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotLooked => "not_looked",
            Self::NotThere => "not_there",
            Self::There => "there",
        }
    }
}
