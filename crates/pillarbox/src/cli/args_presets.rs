//! What can be typed about providers, presets and the test of a route before it is saved.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Commands on providers.
#[derive(Debug, Subcommand)]
pub enum ProviderCommand {
    /// List the providers that `route add` knows.
    #[command(after_help = "Examples:\n  pillarbox provider ls\n  pillarbox provider ls --json")]
    Ls,
    /// Show what a route to a provider needs, its limits and records, and what it looks like when it is wrong.
    #[command(after_help = "Examples:\n  pillarbox provider show microsoft365\n  pillarbox provider show ses --json")]
    Show {
        /// Name, as `provider ls` lists it.
        name: String,
    },
}

/// What a preset leaves open.
#[derive(Debug, Clone, Default, Args)]
pub struct PresetOptions {
    /// Region of the account, where the provider has several (see `provider show`).
    #[arg(long, value_name = "REGION", requires = "provider")]
    pub region: Option<String>,
    /// Host, where everybody has their own (Exchange, direct send).
    #[arg(long, value_name = "HOST", requires = "provider")]
    pub host: Option<String>,
    /// Another port than the usual one: of the provider, and TLS follows, or of mail exchangers.
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
}

/// How a route is checked.
#[derive(Debug, Clone, Default, Args)]
pub struct CheckOptions {
    /// Sender to try (MAIL FROM).
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// Recipient to try (RCPT TO); nothing is sent.
    #[arg(long, value_name = "ADDRESS", requires = "from")]
    pub to: Vec<String>,
    /// Look at the settings only, without asking the server.
    #[arg(long, conflicts_with_all = ["from", "to"])]
    pub settings_only: bool,
}

/// What is exported.
#[derive(Debug, Clone, Default, Args)]
pub struct ExportOptions {
    /// From domain whose records are looked at, instead of those of the senders; may be repeated.
    #[arg(long, value_name = "DOMAIN")]
    pub domain: Vec<String>,
    /// Ask no name servers.
    #[arg(long)]
    pub no_dns: bool,
}

/// A secret that the password is computed from.
#[derive(Debug, Clone, Default, Args)]
pub struct DerivedOptions {
    /// AWS secret access key to derive the SMTP password of SES from; the key itself is not stored.
    #[arg(long, value_name = "FILE", conflicts_with = "password_from")]
    pub secret_access_key_file: Option<PathBuf>,
}

/// The test before saving.
#[derive(Debug, Clone, Default, Args)]
pub struct GuardOptions {
    /// Sender to try as well (MAIL FROM); nothing is sent.
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// Save it even if the test does not go well.
    #[arg(long)]
    pub force: bool,
}
