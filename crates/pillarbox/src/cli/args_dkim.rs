//! What can be typed for the keys of `dkim`. What it means is in `dkim_keys`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

/// Below the options of `dkim add`.
pub const ADD_EXAMPLES: &str = "Examples:
  pillarbox dkim add example.com
  pillarbox dkim add example.com --when-published
  pillarbox dkim add example.com --algorithm rsa --bits 3072 --selector mail2026
  pillarbox dkim add example.com --selector s1 --import /etc/opendkim/keys/s1.private

The records to publish are printed. Nothing is signed with the new keys before `pillarbox dkim activate`, or with
--when-published before every authoritative name server has them.

Exit codes: 0 done, 1 refused, 2 wrong usage, 3 could not run.";

/// Below the options of `dkim rotate`.
pub const ROTATE_EXAMPLES: &str = "Examples:
  pillarbox dkim rotate example.com

New keys are made and their records printed. Once every authoritative name server has them the server changes over by
itself; the old records are needed until `pillarbox dkim show` calls their keys retired, a week later at least.

Exit codes: 0 done, 1 refused, 2 wrong usage, 3 could not run.";

/// Below the options of `dkim check`.
pub const CHECK_EXAMPLES: &str = "Examples:
  pillarbox dkim check example.com
  pillarbox dkim check example.com --json

Every authoritative name server of the zone is asked by itself. Keys that wait for being published sign from then on if
all servers have them.

Exit codes: 0 every key is published everywhere, 1 one is not, 2 wrong usage, 3 could not run.";

/// Which keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Algorithm {
    /// RSA and Ed25519: two signatures.
    Both,
    /// RSA alone.
    Rsa,
    /// Ed25519 alone; many receivers do not verify it.
    Ed25519,
}

/// Keys to be added.
#[derive(Debug, Args)]
pub struct DkimAddArgs {
    /// Domain of the From field.
    pub domain: String,
    /// Selector; with two keys it gets -rsa and -ed25519 behind it. Default: pb and the date.
    #[arg(long, value_name = "NAME")]
    pub selector: Option<String>,
    /// Which keys to make.
    #[arg(long, value_enum, default_value = "both", conflicts_with = "import")]
    pub algorithm: Algorithm,
    /// Size of the RSA key: 2048, 3072 or 4096.
    #[arg(long, value_name = "BITS", conflicts_with = "import")]
    pub bits: Option<u32>,
    /// Take the private key of this PEM file (PKCS#1 or PKCS#8) instead of making one.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "selector")]
    pub import: Option<PathBuf>,
    /// Sign as soon as every authoritative name server has the records.
    #[arg(long)]
    pub when_published: bool,
}

/// Keys that shall sign.
#[derive(Debug, Args)]
pub struct DkimActivateArgs {
    /// The domain.
    pub domain: String,
    /// Only this key; may be repeated. Default: all that do not sign yet.
    #[arg(long, value_name = "NAME")]
    pub selector: Vec<String>,
    /// Whatever the name servers say.
    #[arg(long)]
    pub force: bool,
}

/// Keys that shall be replaced.
#[derive(Debug, Args)]
pub struct DkimRotateArgs {
    /// The domain.
    pub domain: String,
    /// Selector of the new keys, with -rsa and -ed25519 behind it if there are two. Default: pb and the date.
    #[arg(long, value_name = "NAME")]
    pub selector: Option<String>,
    /// Size of the RSA key: 2048, 3072 or 4096.
    #[arg(long, value_name = "BITS")]
    pub bits: Option<u32>,
}

/// How a domain signs.
#[derive(Debug, Args)]
pub struct DkimSetArgs {
    /// The domain.
    pub domain: String,
    /// Whether mail from domains below it is signed too.
    #[arg(long, value_name = "BOOL")]
    pub subdomains: Option<bool>,
    /// Header fields that are not signed because a provider replaces them; `none` signs all again.
    #[arg(long, value_name = "FIELDS", value_delimiter = ',')]
    pub leave_out: Vec<String>,
}

/// What to remove.
#[derive(Debug, Args)]
pub struct DkimRemoveArgs {
    /// The domain.
    pub domain: String,
    /// Only this key.
    #[arg(long, value_name = "NAME")]
    pub selector: Option<String>,
    /// Even if it signs.
    #[arg(long)]
    pub force: bool,
}
