//! What can be typed for `spf`, `dkim` and `dmarc`. What it means is in the files of those names.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::{Args, Subcommand};

use super::args_dkim::{
    ADD_EXAMPLES, CHECK_EXAMPLES, DkimActivateArgs, DkimAddArgs, DkimRemoveArgs, DkimRotateArgs, DkimSetArgs,
    ROTATE_EXAMPLES,
};

/// Whom to ask, and how long.
#[derive(Debug, Clone, Args)]
pub struct ResolverArgs {
    /// Ask this name server instead of the system's; may be repeated.
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = server)]
    pub resolver: Vec<SocketAddr>,
    /// Limit of one question with its retries, in seconds (0.1 to 60).
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub timeout: Duration,
}

fn server(text: &str) -> Result<SocketAddr, String> {
    let ip = |text: &str| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
    ip(text).or_else(|_| text.parse()).map_err(|_| "neither an IP address nor one with a port".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=60.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("a number of seconds from 0.1 to 60".to_owned()),
    }
}

/// A client to judge.
#[derive(Debug, Args)]
pub struct SpfArgs {
    /// Address of the sending host.
    pub ip: IpAddr,
    /// Name it gives in HELO or EHLO.
    #[arg(allow_hyphen_values = true)]
    pub helo: String,
    /// Envelope sender; '' or '<>' judges the HELO name.
    #[arg(allow_hyphen_values = true)]
    pub mail_from: String,
    /// Name of the receiver, as explanations of a fail may show it.
    #[arg(long, value_name = "NAME", default_value = "unknown")]
    pub receiver: String,
    /// Whom to ask.
    #[command(flatten)]
    pub resolver: ResolverArgs,
}

/// Commands on DKIM.
#[derive(Debug, Subcommand)]
pub enum DkimCommand {
    /// Verify the signatures of a message.
    #[command(
        after_help = "Examples:\n  pillarbox dkim verify message.eml\n  pillarbox dkim verify - --json < message.eml\n  pillarbox dkim verify old.eml --at 2026-01-31T00:00:00Z\n\nExit codes: 0 a signature is good, 1 none is, 2 wrong usage, 3 could not run."
    )]
    Verify {
        /// A file, or `-` for standard input.
        #[arg(value_name = "FILE|-")]
        file: String,
        /// Judge expiry as of this time (RFC 3339) instead of now.
        #[arg(long, value_name = "TIME")]
        at: Option<jiff::Timestamp>,
        /// Whom to ask.
        #[command(flatten)]
        resolver: ResolverArgs,
    },
    /// Look at a key in DNS.
    #[command(
        after_help = "Examples:\n  pillarbox dkim key s1 example.com\n  pillarbox dkim key s1 example.com --json\n\nExit codes: 0 the key can be used, 1 it cannot, 2 wrong usage, 3 could not run."
    )]
    Key {
        /// Selector: s= of a signature.
        selector: String,
        /// Domain: d= of a signature.
        domain: String,
        /// Whom to ask.
        #[command(flatten)]
        resolver: ResolverArgs,
    },
    /// Make or import keys for a domain, and see the records to publish.
    #[command(after_help = ADD_EXAMPLES)]
    Add(DkimAddArgs),
    /// List the keys of all domains.
    #[command(after_help = "Examples:\n  pillarbox dkim ls\n  pillarbox dkim ls --json")]
    Ls,
    /// Show the keys of a domain with their records, ready to paste.
    #[command(after_help = "Examples:\n  pillarbox dkim show example.com\n  pillarbox dkim show example.com --json")]
    Show {
        /// The domain.
        domain: String,
    },
    /// Ask every authoritative name server for the keys of a domain.
    #[command(after_help = CHECK_EXAMPLES)]
    Check {
        /// The domain.
        domain: String,
    },
    /// Sign with new keys, if every authoritative name server has them.
    #[command(
        after_help = "Examples:\n  pillarbox dkim activate example.com\n  pillarbox dkim activate example.com --selector mail2026 --force\n\nExit codes: 0 done, 1 refused, 2 wrong usage, 3 could not run."
    )]
    Activate(DkimActivateArgs),
    /// Replace the keys that sign, without a gap.
    #[command(after_help = ROTATE_EXAMPLES)]
    Rotate(DkimRotateArgs),
    /// Change how a domain signs.
    #[command(
        after_help = "Examples:\n  pillarbox dkim set example.com --leave-out message-id,date\n  pillarbox dkim set example.com --leave-out none\n  pillarbox dkim set example.com --subdomains false"
    )]
    Set(DkimSetArgs),
    /// Remove a domain, or one of its keys.
    #[command(
        after_help = "Examples:\n  pillarbox dkim rm example.com --selector pb20261121-rsa\n  pillarbox dkim rm example.com --force"
    )]
    Rm(DkimRemoveArgs),
}

/// A domain, or a message's identities.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct DmarcArgs {
    /// Domain as in a From header.
    #[arg(required = true)]
    pub domain: Option<String>,
    /// Whom to ask.
    #[command(flatten)]
    pub resolver: ResolverArgs,
    /// Something else than to look at a domain.
    #[command(subcommand)]
    pub command: Option<DmarcCommand>,
}

/// Commands on DMARC.
#[derive(Debug, Subcommand)]
pub enum DmarcCommand {
    /// Judge a message by what SPF and DKIM gave.
    #[command(
        after_help = "Examples:\n  pillarbox dmarc check --from example.com --spf-domain bounce.example.com --spf-result pass\n  pillarbox dmarc check --from example.com --dkim d=example.com --dkim d=mailer.example.net,result=fail\n\nExit codes: 0 pass, 1 fail, 2 wrong usage, 3 could not run."
    )]
    Check(DmarcCheckArgs),
}

/// What is known of a message.
#[derive(Debug, Args)]
pub struct DmarcCheckArgs {
    /// Domain of the From header.
    #[arg(long, value_name = "DOMAIN")]
    pub from: String,
    /// Domain that SPF was judged for: of the envelope sender, or the HELO name.
    #[arg(long, value_name = "DOMAIN", requires = "spf_result")]
    pub spf_domain: Option<String>,
    /// What SPF gave.
    #[arg(long, value_name = "RESULT", requires = "spf_domain", value_parser = spf_result)]
    pub spf_result: Option<proto::policy::spf::SpfResult>,
    /// A signature: d=DOMAIN, with ,result=fail if it did not verify; may be repeated.
    #[arg(long, value_name = "d=DOMAIN", value_parser = dkim_claim)]
    pub dkim: Vec<(String, bool)>,
    /// Whom to ask.
    #[command(flatten)]
    pub resolver: ResolverArgs,
}

fn spf_result(text: &str) -> Result<proto::policy::spf::SpfResult, String> {
    proto::policy::spf::SpfResult::from_name(text)
        .ok_or_else(|| "none, neutral, pass, fail, softfail, temperror or permerror".to_owned())
}

fn dkim_claim(text: &str) -> Result<(String, bool), String> {
    let (mut domain, mut pass) = (None, true);
    for part in text.split([',', ' ']).filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some(("d", value)) if !value.is_empty() => domain = Some(value.to_owned()),
            Some(("result", "pass")) => pass = true,
            Some(("result", _)) => pass = false,
            None => domain = Some(part.to_owned()),
            Some(_) => return Err(format!("`{part}` is neither d= nor result=")),
        }
    }
    domain.map(|domain| (domain, pass)).ok_or_else(|| "d=DOMAIN is missing".to_owned())
}
