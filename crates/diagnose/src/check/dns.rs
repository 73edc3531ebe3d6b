//! Names to addresses: both families, the mail hosts of a domain, and whether another resolver says the same.

use std::net::{IpAddr, SocketAddr};

use futures_util::future::join_all;
use net::lookup::{Data, Kind};
use net::{Answer, Outcome, Resolver};
use proto::transcript::{Fact, Failure, Stage};
use tokio::task::JoinSet;

use super::plan::{Families, Tls};
use super::probe::{Probe, Stop};

/// Most mail hosts of a domain that are looked at.
const MAX_MAIL_HOSTS: usize = 5;
/// Most addresses of a host and family that are tried.
const MAX_ADDRESSES: usize = 5;

/// A host that may be probed.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) host: String,
    pub(super) addresses: Vec<IpAddr>,
}

/// What the second resolver says, once it has answered.
pub(super) struct Other {
    host: String,
    ours: Vec<IpAddr>,
    answer: JoinSet<Result<Vec<IpAddr>, Failure>>,
}

/// What the questions about one host gave.
struct Names {
    six: Option<Answer>,
    four: Option<Answer>,
}

impl Probe<'_> {
    /// The hosts to try, best first: the host itself, or the mail hosts of a domain.
    pub(super) async fn dns(&mut self) -> Result<Vec<Candidate>, Stop> {
        self.begin(Stage::Dns);
        if let Some(to) = self.plan.connect_to {
            self.skip(Stage::Dns, &format!("connecting to {to} as told"));
            return Ok(vec![Candidate { host: self.way.host.clone(), addresses: vec![to.ip()] }]);
        }
        if let Some(address) = literal(&self.way.host) {
            self.pass(Stage::Dns, "an address, nothing to ask", None);
            return Ok(vec![Candidate { host: self.way.host.clone(), addresses: vec![address] }]);
        }
        let began = self.session.now_us();
        match self.hosts(began).await {
            Ok(candidates) => {
                let addresses: Vec<String> =
                    candidates.iter().flat_map(|one| &one.addresses).take(20).map(IpAddr::to_string).collect();
                let summary = match candidates.first() {
                    Some(first) if first.host != self.target.host => {
                        format!("{}: {}", first.host, addresses.join(", "))
                    }
                    _ => addresses.join(", "),
                };
                self.pass(Stage::Dns, summary, None);
                Ok(candidates)
            }
            Err(failure) => {
                self.session.note(Stage::Dns, began, Err(&failure));
                Err(self.fail(Stage::Dns, failure))
            }
        }
    }

    async fn hosts(&mut self, began: u64) -> Result<Vec<Candidate>, Failure> {
        let host = self.way.host.clone();
        // A name that no resolver could be asked about does not exist.
        let name = proto::address::parse_domain(host.trim_end_matches('.'))
            .or_else(|_| if host.contains('_') { Ok(host.to_ascii_lowercase()) } else { Err(()) })
            .map_err(|()| Failure::NameNotFound { name: host.clone() })?;
        self.ask_another(&name);
        let (plan, resolver) = (self.plan, &self.net.resolver);
        let as_domain = matches!(plan.target.port, None | Some(25)) && plan.tls != Tls::Implicit && !self.is_submission;
        let (names, mail) = tokio::join!(ask(resolver, &name, plan.families), async {
            if as_domain { Some(resolver.query(&name, Kind::Mx).await) } else { None }
        });
        let found = names.addresses();
        let mail = match mail {
            None if found.is_empty() && names.is_known() => Some(resolver.query(&name, Kind::Mx).await),
            mail => mail,
        };
        let hosts = mail.as_ref().map(mail_hosts).unwrap_or_default();
        if hosts.iter().any(|host| host == ".") {
            return Err(Failure::NullMx { domain: name });
        }
        self.note_partial(&host, &names);
        if hosts.is_empty() {
            if found.is_empty() {
                return Err(names.failure(name));
            }
            self.remember(began, &host, &found);
            return Ok(vec![self.candidate(host, found)]);
        }
        if plan.target.port.is_none() {
            self.way.port = 25;
            self.target.port = 25;
        }
        if hosts.contains(&name) && !found.is_empty() {
            self.remember(began, &host, &found);
            return Ok(vec![self.candidate(host, found)]);
        }
        self.mail_candidates(began, &name, hosts).await
    }

    async fn mail_candidates(
        &mut self,
        began: u64,
        domain: &str,
        hosts: Vec<String>,
    ) -> Result<Vec<Candidate>, Failure> {
        let resolver = &self.net.resolver;
        let asked = hosts.iter().take(MAX_MAIL_HOSTS).map(|host| ask(resolver, host, self.plan.families));
        let answers = join_all(asked).await;
        let mut candidates = Vec::new();
        let mut failure = None;
        for (host, names) in hosts.iter().zip(&answers) {
            let found = names.addresses();
            if found.is_empty() {
                failure.get_or_insert_with(|| names.failure(host.clone()));
            } else {
                self.remember(began, host, &found);
                candidates.push(self.candidate(host.clone(), found));
            }
        }
        let Some(first) = candidates.first() else {
            return Err(failure.unwrap_or_else(|| Failure::NoAddress { name: domain.to_owned() }));
        };
        let values = [("domain", domain), ("hosts", &*hosts.join(", ")), ("host", &*first.host.clone())];
        self.sign(Stage::Dns, "mx_used", &values);
        Ok(candidates)
    }

    fn candidate(&self, host: String, mut addresses: Vec<IpAddr>) -> Candidate {
        if let Some(source) = self.plan.source {
            addresses.retain(|address| address.is_ipv4() == source.is_ipv4());
        }
        let (mut six, mut four) = (0, 0);
        addresses.retain(|address| {
            let count = if address.is_ipv4() { &mut four } else { &mut six };
            *count += 1;
            *count <= MAX_ADDRESSES
        });
        Candidate { host, addresses }
    }

    fn remember(&mut self, began: u64, host: &str, addresses: &[IpAddr]) {
        let addresses = addresses.iter().take(20).map(IpAddr::to_string).collect();
        self.session.note(Stage::Dns, began, Ok(Fact::Resolved { host: host.to_owned(), addresses }));
        if let Some(other) = self.other_answers.as_mut().filter(|other| other.host == host) {
            other.ours = addresses_of(&self.session);
        }
    }

    fn note_partial(&mut self, host: &str, names: &Names) {
        let pairs = [("IPv6", &names.six, &names.four), ("IPv4", &names.four, &names.six)];
        for (family, one, other) in pairs {
            let works = other.as_ref().is_some_and(|answer| answer.outcome == Outcome::Records);
            if let (true, Some(Answer { outcome: Outcome::Failed(reason), .. })) = (works, one) {
                let values = [("host", host), ("family", family), ("reason", reason)];
                self.sign(Stage::Dns, "address_lookup_partial", &values);
            }
        }
    }

    fn ask_another(&mut self, name: &str) {
        let Some(resolver) = self.plan.compare.clone() else { return };
        let mut answer = JoinSet::new();
        let asked = name.to_owned();
        answer.spawn(async move { resolver.addresses(&asked).await });
        self.other_answers = Some(Other { host: name.to_owned(), ours: Vec::new(), answer });
    }

    /// Compares with the second resolver, if there is one.
    pub(super) async fn compare_resolvers(&mut self) {
        let Some(mut other) = self.other_answers.take() else { return };
        let began = self.net.clock.mono_us();
        let answer = other.answer.join_next().await;
        self.waited_us += self.net.clock.mono_us().saturating_sub(began);
        let theirs = match answer {
            Some(Ok(Ok(addresses))) => addresses,
            Some(Ok(Err(Failure::NameNotFound { .. } | Failure::NoAddress { .. }))) => Vec::new(),
            _ => return,
        };
        let wanted = |address: &&IpAddr| match self.plan.families {
            Families::Both => true,
            Families::Four => address.is_ipv4(),
            Families::Six => address.is_ipv6(),
        };
        let mut theirs: Vec<IpAddr> = theirs.iter().filter(wanted).copied().collect();
        let mut ours: Vec<IpAddr> = other.ours.iter().filter(wanted).copied().collect();
        theirs.sort_unstable();
        ours.sort_unstable();
        // Large services give each asker other addresses: only a family or all of them missing is a difference.
        let differs = |is: fn(&IpAddr) -> bool| ours.iter().any(is) != theirs.iter().any(is);
        if differs(IpAddr::is_ipv4) || differs(IpAddr::is_ipv6) || ours.iter().all(|one| !theirs.contains(one)) {
            let text = |list: &[IpAddr]| list.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
            let (ours, theirs) = (text(&ours), text(&theirs));
            if ours != theirs {
                let none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
                let (ours, theirs) = (none(ours), none(theirs));
                self.sign(
                    Stage::Dns,
                    "resolver_differs",
                    &[("host", &other.host), ("ours", &ours), ("other", &theirs)],
                );
            }
        }
    }

    /// A slip of typing, told only where the host as written fails.
    pub(super) fn note_slip(&mut self, stage: Stage) {
        let host = self.target.host.clone();
        if let Some(meant) = self.judge.rules().probably_meant(&host).map(|way| way.host.clone()) {
            self.sign(stage, "host_probably_meant", &[("host", &host), ("meant", &meant)]);
        }
    }
}

fn addresses_of(session: &net::client::Session<'_>) -> Vec<IpAddr> {
    let last = session.steps().iter().rev().find_map(|step| match &step.fact {
        Some(Fact::Resolved { addresses, .. }) => Some(addresses),
        _ => None,
    });
    last.map(|texts| texts.iter().filter_map(|text| text.parse().ok()).collect()).unwrap_or_default()
}

async fn ask(resolver: &Resolver, name: &str, families: Families) -> Names {
    let (six, four) = tokio::join!(
        async { if families == Families::Four { None } else { Some(resolver.query(name, Kind::Aaaa).await) } },
        async { if families == Families::Six { None } else { Some(resolver.query(name, Kind::A).await) } },
    );
    Names { six, four }
}

impl Names {
    fn all(&self) -> impl Iterator<Item = &Answer> {
        [&self.six, &self.four].into_iter().flatten()
    }

    /// IPv6 first, as delivery tries them.
    fn addresses(&self) -> Vec<IpAddr> {
        let addresses = self.all().flat_map(|answer| &answer.records).filter_map(|data| match data {
            Data::A(four) => Some(IpAddr::from(*four)),
            Data::Aaaa(six) => Some(IpAddr::from(*six)),
            _ => None,
        });
        addresses.collect()
    }

    fn is_known(&self) -> bool {
        self.all().all(Answer::is_known)
    }

    fn failure(&self, name: String) -> Failure {
        let reason = self.all().find_map(|answer| match &answer.outcome {
            Outcome::Failed(reason) => Some(reason.clone()),
            _ => None,
        });
        if let Some(reason) = reason {
            return Failure::DnsUnavailable { name, reason };
        }
        if self.all().any(|answer| answer.outcome == Outcome::NxDomain) {
            return Failure::NameNotFound { name };
        }
        Failure::NoAddress { name }
    }
}

/// By preference; `.` is the null MX.
fn mail_hosts(answer: &Answer) -> Vec<String> {
    let mut hosts: Vec<(u16, &str)> = answer
        .records
        .iter()
        .filter_map(|data| match data {
            Data::Mx { preference, host } => Some((*preference, host.as_str())),
            _ => None,
        })
        .collect();
    hosts.sort_unstable();
    hosts.into_iter().map(|(_, host)| host.to_owned()).collect()
}

/// The address of an address literal or of an IP address as text.
fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let bare = match bare.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("ipv6:") => &bare[5..],
        _ => bare,
    };
    bare.parse().ok()
}

/// Addresses with a port.
pub(super) fn with_port(addresses: &[IpAddr], port: u16) -> Vec<SocketAddr> {
    addresses.iter().map(|address| SocketAddr::new(*address, port)).collect()
}
