//! What can be typed for `check`. What it means is in `check.rs` and in [`crate::check`].

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::check::TlsMode;

/// A server to probe, and how far.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Host, domain or address: smtp.example.com, smtp.example.com:465, [2001:db8::1]:25, smtps://ann@smtp.example.com.
    /// A domain without a port is probed at its mail hosts.
    #[arg(value_name = "HOST[:PORT]", required_unless_present_any = ["route", "schema"])]
    pub target: Option<String>,
    /// How the connection is secured.
    #[arg(long, value_enum, value_name = "MODE")]
    pub tls: Option<TlsArg>,
    /// How to sign in.
    #[command(flatten)]
    pub login: LoginArgs,
    /// What to send.
    #[command(flatten)]
    pub mail: MailArgs,
    /// The way there.
    #[command(flatten)]
    pub way: WayArgs,
    /// What to print.
    #[command(flatten)]
    pub show: ShowArgs,
}

/// Signing in.
#[derive(Debug, Args)]
#[command(next_help_heading = "Signing in")]
pub struct LoginArgs {
    /// User name. The password comes from a prompt, or from one of the options below, or from PILLARBOX_PASSWORD.
    #[arg(long, short = 'u', value_name = "NAME")]
    pub user: Option<String>,
    /// File whose first line is the password.
    #[arg(long, value_name = "FILE", conflicts_with = "password_stdin")]
    pub password_file: Option<PathBuf>,
    /// First line of standard input is the password.
    #[arg(long)]
    pub password_stdin: bool,
    /// SASL mechanism; `auto` takes the strongest that both sides have.
    #[arg(long, value_name = "MECHANISM|auto", default_value = "auto", hide_default_value = true)]
    pub auth: String,
    /// Sign in although the connection is not encrypted.
    #[arg(long)]
    pub allow_plaintext_auth: bool,
    /// Use settings and credentials of this route; the check runs where the route's password is, in the server.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["user", "tls", "insecure", "resolver", "connect_to", "ca_file", "allow_plaintext_auth"])]
    pub route: Option<String>,
    /// Only look at the credentials, without any connection.
    #[arg(long)]
    pub lint_only: bool,
}

/// What is sent.
#[derive(Debug, Args)]
#[command(next_help_heading = "Mail")]
pub struct MailArgs {
    /// Sender; '' is the null sender of bounces. Without it the check ends before the sender.
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// Recipient; may be repeated. Then the message stage runs as well, and ends before the final dot: nothing is delivered.
    #[arg(long, value_name = "ADDRESS")]
    pub to: Vec<String>,
    /// Send a test message.
    #[arg(long)]
    pub send: bool,
    /// End after this stage.
    #[arg(long, value_name = "STAGE", value_parser = ["dns", "tcp", "banner", "ehlo", "tls", "auth", "sender", "recipient", "message"])]
    pub quit_after: Option<String>,
    /// Test whether the server relays for strangers. Nothing is sent.
    #[arg(long)]
    pub open_relay: bool,
}

/// How to get there.
#[derive(Debug, Args)]
#[command(next_help_heading = "The way")]
pub struct WayArgs {
    /// IPv4 only.
    #[arg(short = '4', long = "ipv4", conflicts_with = "six")]
    pub four: bool,
    /// IPv6 only.
    #[arg(short = '6', long = "ipv6")]
    pub six: bool,
    /// Address to connect from.
    #[arg(long, value_name = "IP")]
    pub source: Option<IpAddr>,
    /// Name in EHLO; by default the configured host name, or that of this machine.
    #[arg(long, value_name = "NAME")]
    pub helo: Option<String>,
    /// Limit of each wait.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub timeout: u32,
    /// Go on although the certificate does not verify. NOT FOR PRODUCTION: anyone on the way could read along.
    #[arg(long)]
    pub insecure: bool,
    /// Name server to ask; what the usual one says differently is told.
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub resolver: Option<String>,
    /// Address to connect to instead of asking the DNS; names in certificates are still those of HOST.
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub connect_to: Option<String>,
    /// PEM file of the authorities to trust instead of the usual ones.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// After a failure, do not try other ports and modes to find the reason.
    #[arg(long)]
    pub no_explore: bool,
    /// After a failure, also ask well-known mail hosts for a greeting, to tell a blocked network from a dead server.
    #[arg(long)]
    pub outside: bool,
    /// Provider or program that runs the server, if known, as `pillarbox rules list` names it.
    #[arg(long, value_name = "ID")]
    pub provider: Option<String>,
    /// Run the same check on another Pillarbox as well and compare: its URL, or `server` for the one that other commands use.
    #[arg(long, value_name = "URL|server", conflicts_with_all = ["route", "ca_file", "lint_only"])]
    pub via: Option<String>,
    /// File with the API key for --via (otherwise --key-file or PILLARBOX_API_KEY).
    #[arg(long, value_name = "FILE", requires = "via")]
    pub via_key_file: Option<PathBuf>,
}

/// What is printed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct ShowArgs {
    /// Print events as JSON, one a line, while they happen; the report is the last one.
    #[arg(long, conflicts_with_all = ["route", "json"])]
    pub json_lines: bool,
    /// Print the conversation.
    #[arg(long)]
    pub transcript: bool,
    /// Print command lines that do the same by hand.
    #[arg(long)]
    pub commands: bool,
    /// Print the JSON Schema of the output of --json.
    #[arg(long)]
    pub schema: bool,
}

/// How the connection is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TlsArg {
    /// What the port stands for; if that does not work, the way that does is told.
    Auto,
    /// STARTTLS or nothing.
    Starttls,
    /// TLS from the first octet.
    Implicit,
    /// In clear.
    None,
}

impl From<TlsArg> for TlsMode {
    fn from(arg: TlsArg) -> Self {
        match arg {
            TlsArg::Auto => Self::Auto,
            TlsArg::Starttls => Self::Starttls,
            TlsArg::Implicit => Self::Implicit,
            TlsArg::None => Self::None,
        }
    }
}

/// Shown by `--help`.
pub const EXAMPLES: &str = "Examples:
  pillarbox check smtp.example.com
  pillarbox check smtp.example.com:587 --user ann@example.com --from ann@example.com --to bob@example.net
  pillarbox check example.com --from ann@example.org --to bob@example.com --quit-after recipient
  pillarbox check smtps://ann%40example.com@smtp.example.com --password-file password --send --from ann@example.com --to bob@example.net
  pillarbox check --route provider --json
  pillarbox check smtp.example.com:25 --via https://relay.example.net --via-key-file key
  pillarbox check smtp.example.com --commands --quit-after dns

Nothing is delivered without --send. Exit codes: 0 healthy, 1 a problem was found, 2 wrong usage, 3 could not run or interrupted.";
