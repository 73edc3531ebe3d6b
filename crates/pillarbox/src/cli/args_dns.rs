//! What can be typed for `journal` and `blocklists`.

use clap::Args;

use super::args_policy::ResolverArgs;

/// Below the options of `journal`.
pub const JOURNAL_EXAMPLES: &str = "Examples:
  pillarbox journal
  pillarbox journal --since 7d
  pillarbox journal example.com
  pillarbox journal 192.0.2.9 --since 2026-11-01T00:00:00Z --json

The server asks every authoritative name server of each domain that writes once an hour, and keeps what changed. With a domain
its records as they are now come first. `pillarbox schedule run dns:example.com` looks at once.

Exit codes: 0 all name servers agree, 1 they do not, or one is dead, 2 wrong usage, 3 could not run.";

/// Below the options of `blocklists`.
pub const LISTS_EXAMPLES: &str = "Examples:
  pillarbox blocklists
  pillarbox blocklists 192.0.2.9 example.com
  pillarbox blocklists 192.0.2.9 --guide
  pillarbox blocklists 192.0.2.9 --resolver 127.0.0.1 --json
  pillarbox blocklists --lists

Without a name the running server is asked about its own addresses and domains. With names the lists are asked from here.

Exit codes: 0 on no list that matters, 1 listed, 2 wrong usage, 3 could not run, or no list answers.";

/// What changed in the DNS.
#[derive(Debug, Args)]
pub struct JournalArgs {
    /// Domain that writes, or one of our addresses; all without it.
    #[arg(value_name = "DOMAIN")]
    pub domain: Option<String>,
    /// Changes since then: a time (RFC 3339), or how long ago (`7d`, `12h`).
    #[arg(long, value_name = "TIME", default_value = "30d")]
    pub since: String,
    /// At most so many changes.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
}

/// Whom to look for.
#[derive(Debug, Args)]
pub struct ListsArgs {
    /// Addresses and domains.
    #[arg(value_name = "ADDRESS|DOMAIN")]
    pub subjects: Vec<String>,
    /// Say how to get off each list: cause, fix, evidence, request, and what to do meanwhile.
    #[arg(long)]
    pub guide: bool,
    /// Show the lists, not what they say.
    #[arg(long, conflicts_with_all = ["subjects", "guide"])]
    pub lists: bool,
    /// Whom to ask.
    #[command(flatten)]
    pub resolver: ResolverArgs,
}
