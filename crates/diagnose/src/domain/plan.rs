//! What is to be audited, and how far.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use explain::lists::Blocklist;
use serde::Serialize;

/// One part of the audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// Whether it exists, is parked, or answers for everything.
    Domain,
    /// Where its mail goes.
    Mx,
    /// Who may send for it.
    Spf,
    /// Keys of its signatures.
    Dkim,
    /// What receivers do with mail that fails both.
    Dmarc,
    /// The policy that asks for encryption.
    MtaSts,
    /// Where reports about encryption go.
    TlsRpt,
    /// Certificates pinned in the DNS.
    Dane,
    /// The logo.
    Bimi,
    /// Who may issue certificates.
    Caa,
    /// Name servers, and whether they agree.
    Ns,
    /// Reverse DNS of the addresses that send.
    Addresses,
    /// Blocklists.
    Blocklists,
}

impl Section {
    /// All, in the order of the report.
    pub const ALL: [Self; 13] = [
        Self::Domain,
        Self::Mx,
        Self::Spf,
        Self::Dkim,
        Self::Dmarc,
        Self::MtaSts,
        Self::TlsRpt,
        Self::Dane,
        Self::Bimi,
        Self::Caa,
        Self::Ns,
        Self::Addresses,
        Self::Blocklists,
    ];

    /// As typed and shown: `mta-sts`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Domain => "domain",
            Self::Mx => "mx",
            Self::Spf => "spf",
            Self::Dkim => "dkim",
            Self::Dmarc => "dmarc",
            Self::MtaSts => "mta-sts",
            Self::TlsRpt => "tls-rpt",
            Self::Dane => "dane",
            Self::Bimi => "bimi",
            Self::Caa => "caa",
            Self::Ns => "ns",
            Self::Addresses => "addresses",
            Self::Blocklists => "blocklists",
        }
    }

    /// The section of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        let plain = name.trim().to_ascii_lowercase().replace('_', "-");
        Self::ALL.into_iter().find(|section| section.name() == plain)
    }
}

/// How mail hosts are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Smtp {
    /// Port; 25 but for tests.
    pub port: u16,
    /// Our name in EHLO.
    pub helo: String,
}

/// Which DKIM selectors are tried beside those that were named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Guess {
    /// None.
    Nothing,
    /// Those of the domain's providers and the most usual: for lists of domains.
    Few,
    /// All that are known.
    #[default]
    Many,
}

/// A way our own mail leaves, to be compared with what the domain allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendingRoute {
    /// Its name.
    pub name: String,
    /// The smart host; `None`: directly to the mail hosts of the recipients.
    pub host: Option<String>,
    /// Address it leaves from, if it is set.
    pub source: Option<IpAddr>,
    /// Name in EHLO.
    pub helo: Option<String>,
}

/// A DKIM key that this Pillarbox signs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnKey {
    /// `d=`
    pub domain: String,
    /// `s=`
    pub selector: String,
    /// It signs mail from domains below, too.
    pub subdomains: bool,
}

/// Connections that go elsewhere than the DNS says: `192.0.2.1:25` to `127.0.0.1:2525`.
pub type Redirects = BTreeMap<SocketAddr, SocketAddr>;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Parts to look at.
    pub sections: BTreeSet<Section>,
    /// DKIM selectors that must exist.
    pub selectors: Vec<String>,
    /// Other selectors that are tried.
    pub guess: Guess,
    /// Addresses that send for the domain.
    pub ips: Vec<IpAddr>,
    /// Our name in EHLO, to be compared with the addresses.
    pub helo: Option<String>,
    /// Own ways out.
    pub routes: Vec<SendingRoute>,
    /// Keys our mail is signed with, whatever its route.
    pub own_keys: Vec<OwnKey>,
    /// Trying the mail hosts; `None` leaves it out.
    pub smtp: Option<Smtp>,
    /// Blocklists; `None`: those that are built in.
    pub lists: Option<Vec<Blocklist>>,
    /// Limit of each wait.
    pub timeout: Duration,
    /// Connections that go elsewhere.
    pub redirects: Redirects,
}

impl Default for Plan {
    /// Everything but the blocklists, without trying the mail hosts.
    fn default() -> Self {
        Self {
            sections: Section::ALL.into_iter().filter(|section| *section != Section::Blocklists).collect(),
            selectors: Vec::new(),
            guess: Guess::Many,
            ips: Vec::new(),
            helo: None,
            routes: Vec::new(),
            own_keys: Vec::new(),
            smtp: None,
            lists: None,
            timeout: Duration::from_secs(5),
            redirects: Redirects::new(),
        }
    }
}

impl Plan {
    /// Whether a part is wanted.
    pub fn wants(&self, section: Section) -> bool {
        self.sections.contains(&section)
    }

    /// Where to connect to.
    pub(super) fn redirected(&self, address: SocketAddr) -> SocketAddr {
        self.redirects.get(&address).copied().unwrap_or(address)
    }

    /// Addresses that send: those given and those of the routes.
    pub(super) fn senders(&self) -> Vec<IpAddr> {
        let mut all: Vec<IpAddr> = Vec::new();
        for ip in self.ips.iter().copied().chain(self.routes.iter().filter_map(|route| route.source)) {
            if !all.contains(&ip) {
                all.push(ip);
            }
        }
        all
    }
}
