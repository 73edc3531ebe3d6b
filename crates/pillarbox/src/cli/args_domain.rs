//! What can be typed for `domain`. What it means is in the files of that name.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};
use diagnose::domain::Section;

use super::args_policy::ResolverArgs;

/// Below the options.
pub const EXAMPLES: &str = "Examples:
  pillarbox domain example.com
  pillarbox domain example.com --ip 192.0.2.9 --helo mail.example.com --blocklists
  pillarbox domain example.com --only spf,dmarc --json
  pillarbox domain example.com --routes
  pillarbox domain --file domains.txt --csv > audit.csv
  sort -u customers | pillarbox domain --file - --concurrency 100 --json

The domain itself is asked in the DNS, and its mail hosts are connected to on port 25 (EHLO, STARTTLS, QUIT).
Blocklists are asked only with --blocklists. With --file neither mail hosts nor single name servers are asked unless
--only or --smtp says so.

Exit codes: 0 no problem, 1 a problem was found, 2 wrong usage, 3 could not run.";

/// Domains to audit.
#[derive(Debug, Args)]
pub struct DomainArgs {
    /// Domain, or an address or URL with it.
    #[arg(value_name = "NAME", required_unless_present = "file", conflicts_with = "file")]
    pub name: Option<String>,
    /// Many domains, one a line (blank lines and `#` are left out); `-` reads standard input.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// With --file: domains at the same time (1 to 500).
    #[arg(long, value_name = "N", default_value_t = 50, requires = "file", value_parser = clap::value_parser!(u16).range(1..=500))]
    pub concurrency: u16,
    /// With --file: a table as CSV instead of one line of words each.
    #[arg(long, requires = "file", conflicts_with = "json")]
    pub csv: bool,
    /// Only these parts: domain, mx, spf, dkim, dmarc, mta-sts, tls-rpt, dane, bimi, caa, ns, addresses, blocklists.
    #[arg(long, value_name = "PARTS", value_delimiter = ',', value_parser = section)]
    pub only: Vec<Section>,
    /// A DKIM selector that must have a key; may be repeated.
    #[arg(long, visible_alias = "selector", value_name = "NAME", value_delimiter = ',')]
    pub dkim_selector: Vec<String>,
    /// Do not try selectors that are usual or belong to the provider.
    #[arg(long)]
    pub no_guess: bool,
    /// An address that sends for the domain: SPF, reverse DNS and blocklists are checked for it; may be repeated.
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Vec<IpAddr>,
    /// Name in EHLO of the machine that sends.
    #[arg(long, value_name = "NAME")]
    pub helo: Option<String>,
    /// Compare the routes of this Pillarbox with what the domain allows.
    #[arg(long)]
    pub routes: bool,
    /// Ask the blocklists about the addresses and the domain.
    #[arg(long)]
    pub blocklists: bool,
    /// Do not connect to the mail hosts.
    #[arg(long, conflicts_with = "smtp")]
    pub no_smtp: bool,
    /// With --file: connect to the mail hosts too.
    #[arg(long)]
    pub smtp: bool,
    /// Port of the mail hosts.
    #[arg(long, value_name = "PORT", default_value_t = 25)]
    pub smtp_port: u16,
    /// Do not check DNSSEC signatures.
    #[arg(long)]
    pub no_dnssec: bool,
    /// DNSKEY records to trust instead of the keys of the root zone.
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub trust_anchors: Option<PathBuf>,
    /// Connect to another place than the DNS says; may be repeated.
    #[arg(long, value_name = "ADDR:PORT=ADDR:PORT", value_parser = redirect, hide_short_help = true)]
    pub connect_to: Vec<(SocketAddr, SocketAddr)>,
    /// Whom to ask.
    #[command(flatten)]
    pub resolver: ResolverArgs,
}

impl DomainArgs {
    /// Limit of each wait.
    pub fn timeout(&self) -> Duration {
        self.resolver.timeout
    }
}

fn section(text: &str) -> Result<Section, String> {
    let names = || Section::ALL.map(Section::name).join(", ");
    Section::from_name(text).ok_or_else(|| format!("not one of {}", names()))
}

fn redirect(text: &str) -> Result<(SocketAddr, SocketAddr), String> {
    let parsed = text.split_once('=').and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    parsed.ok_or_else(|| "not of the form 192.0.2.1:25=127.0.0.1:2525".into())
}
