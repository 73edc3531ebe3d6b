//! What can be typed about OAuth of routes. Secrets come from files, never from the command line.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::args_settings::{SOURCE_HELP, Source};

/// OAuth of a route.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "OAuth")]
pub struct OauthOptions {
    /// Sign in by OAuth 2.0 with tokens of this identity provider.
    #[arg(long, value_enum, value_name = "PROVIDER")]
    pub oauth: Option<OauthProvider>,
    /// How tokens are asked for; without it what fits the secrets that are given.
    #[arg(long, value_enum)]
    pub grant: Option<OauthGrant>,
    /// Microsoft: directory (tenant) ID or domain.
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<String>,
    /// Microsoft: which cloud.
    #[arg(long, value_enum)]
    pub cloud: Option<OauthCloud>,
    /// Application (client) ID.
    #[arg(long, value_name = "ID")]
    pub client_id: Option<String>,
    /// The user that a service account stands for.
    #[arg(long, value_name = "ADDRESS")]
    pub subject: Option<String>,
    /// Scope instead of the provider's usual one.
    #[arg(long, value_name = "SCOPE")]
    pub scope: Option<String>,
    /// Token endpoint instead of the provider's.
    #[arg(long, value_name = "URL")]
    pub token_url: Option<String>,
    /// Device authorization endpoint instead of the provider's.
    #[arg(long, value_name = "URL")]
    pub device_url: Option<String>,
    /// What is secret.
    #[command(flatten)]
    pub files: OauthFiles,
}

/// Secrets of OAuth, in files.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "OAuth")]
pub struct OauthFiles {
    /// File with the client secret.
    #[arg(long, value_name = "FILE")]
    pub client_secret_file: Option<PathBuf>,
    /// Last day of the client secret, such as 2028-11-21: warned of 30, 14, 7 and 1 days before.
    #[arg(long, value_name = "DATE")]
    pub secret_expires: Option<String>,
    /// PEM file with the application's certificate, in place of a client secret.
    #[arg(long, value_name = "FILE", requires = "key_file_of_certificate")]
    pub certificate: Option<PathBuf>,
    /// PEM file with the certificate's private key (RSA).
    #[arg(id = "key_file_of_certificate", long = "certificate-key", value_name = "FILE", requires = "certificate")]
    pub certificate_key: Option<PathBuf>,
    /// The JSON file of a Google service account.
    #[arg(long, value_name = "FILE")]
    pub service_account: Option<PathBuf>,
    /// File with a refresh token from elsewhere; `pillarbox route login` makes one.
    #[arg(long, value_name = "FILE")]
    pub refresh_token_file: Option<PathBuf>,
}

/// What takes the place of a credential.
#[derive(Debug, Clone, Default, Args)]
pub struct NewCredential {
    /// Where the new password comes from.
    #[arg(long, value_name = "SOURCE", help = SOURCE_HELP)]
    pub password_from: Option<Source>,
    /// What is new about OAuth.
    #[command(flatten)]
    pub files: OauthFiles,
}

/// Identity providers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OauthProvider {
    /// Microsoft Entra.
    Microsoft,
    /// Google.
    Google,
    /// Any other: needs --token-url.
    Other,
}

/// How tokens are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OauthGrant {
    /// By the application itself.
    ClientCredentials,
    /// In the name of somebody who signs in once.
    RefreshToken,
    /// By a service account.
    ServiceAccount,
}

/// Microsoft's clouds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OauthCloud {
    /// The general one, with GCC.
    Global,
    /// US government, GCC High.
    UsGov,
    /// US department of defense.
    UsDod,
    /// China.
    China,
}
