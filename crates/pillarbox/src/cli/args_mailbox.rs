//! What can be typed for `mailbox`.

use clap::{Args, Subcommand};

use super::args_oauth::OauthOptions;
use super::args_settings::{SOURCE_HELP, Source};

/// Commands on mailboxes that are polled for what comes back.
#[derive(Debug, Subcommand)]
pub enum MailboxCommand {
    /// List mailboxes with their state.
    #[command(after_help = "Examples:\n  pillarbox mailbox ls\n  pillarbox mailbox ls --json")]
    Ls,
    /// Show one.
    #[command(after_help = "Examples:\n  pillarbox mailbox show bounces")]
    Show {
        /// Its name.
        name: String,
    },
    /// Poll a mailbox for bounces, complaints, and reports of DMARC and TLS.
    #[command(
        after_help = "Examples:\n  pillarbox mailbox add bounces --host imap.example.com --username bounces@example.com --password-from file:secret\n  pillarbox mailbox add ndr --host outlook.office365.com --username app@example.com --oauth microsoft --tenant example.com --client-id ID --client-secret-file secret --scope https://outlook.office365.com/.default --after move --move-to Processed"
    )]
    Add {
        /// Its name.
        name: String,
        /// Settings.
        #[command(flatten)]
        options: Box<MailboxOptions>,
    },
    /// Change one.
    #[command(
        after_help = "Examples:\n  pillarbox mailbox set bounces --after seen\n  pillarbox mailbox set bounces --disabled=true"
    )]
    Set {
        /// Its name.
        name: String,
        /// Settings.
        #[command(flatten)]
        options: Box<MailboxOptions>,
    },
    /// Poll one no more. Added again under the same name it goes on where it was.
    #[command(after_help = "Examples:\n  pillarbox mailbox rm bounces")]
    Rm {
        /// Its name.
        name: String,
    },
}

/// Settings of a mailbox.
#[derive(Debug, Clone, Default, Args)]
pub struct MailboxOptions {
    /// IMAP server.
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Port (993; with STARTTLS 143).
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// TLS from the first octet, or by STARTTLS.
    #[arg(long, value_name = "MODE", value_parser = ["implicit", "starttls"])]
    pub tls: Option<String>,
    /// PEM file of authorities to trust instead of the system's.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<String>,
    /// User name.
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// Where the password comes from.
    #[arg(long, value_name = "SOURCE", help = SOURCE_HELP)]
    pub password_from: Option<Source>,
    /// Folder (INBOX).
    #[arg(long, value_name = "FOLDER")]
    pub folder: Option<String>,
    /// What happens to a mail that was taken.
    #[arg(long, value_name = "WHAT", value_parser = ["keep", "seen", "move", "delete"])]
    pub after: Option<String>,
    /// Folder for --after move.
    #[arg(long, value_name = "FOLDER")]
    pub move_to: Option<String>,
    /// Seconds between looks where the server does not offer IDLE (60).
    #[arg(long, value_name = "SECONDS")]
    pub poll: Option<u32>,
    /// Wait for the server's word (IDLE).
    #[arg(long, value_name = "BOOL")]
    pub idle: Option<bool>,
    /// Where a mailbox that was never read begins.
    #[arg(long, value_name = "WHERE", value_parser = ["new", "all"])]
    pub first: Option<String>,
    /// Not polled while true.
    #[arg(long, value_name = "BOOL")]
    pub disabled: Option<bool>,
    /// Access tokens instead of a password.
    #[command(flatten)]
    pub oauth: OauthOptions,
}
