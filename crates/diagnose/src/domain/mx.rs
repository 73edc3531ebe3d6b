//! Where the mail of a domain goes, and whether somebody is at home there (RFC 5321 §5.1, RFC 7505).

use std::net::IpAddr;

use explain::lists::is_parking_host;
use futures_util::future::join_all;
use net::{Answer, Outcome, lookup::Data, lookup::Kind};
use proto::message::iso_date;
use proto::transcript::{CertificateProblem, Failure};

use super::audit::Scene;
use super::notes::Notes;
use super::plan::Section;
use super::smtp::{Miss, Probe, in_words, probe, problem_in_words};
use super::text::{address_line, dotted, is_host_name, is_private};

/// Most mail hosts that are looked at.
const MAX_HOSTS: usize = 10;
/// Most addresses of each family of a host that are tried.
const MAX_TRIED: usize = 1;
/// A certificate that ends sooner deserves a word.
const SOON_DAYS: i64 = 14;

/// Where mail goes.
pub(super) struct Receiving {
    pub(super) notes: Notes,
    /// By preference.
    pub(super) hosts: Vec<Host>,
    /// The domain says that it takes no mail.
    pub(super) null: bool,
    /// The hosts come from MX records.
    pub(super) explicit: bool,
    /// Who takes it.
    pub(super) provider: Option<String>,
}

/// A mail host.
pub(super) struct Host {
    pub(super) name: String,
    pub(super) preference: u16,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) probes: Vec<Probe>,
}

impl Receiving {
    pub(super) fn nothing() -> Self {
        Self { notes: Notes::new(Section::Mx), hosts: Vec::new(), null: false, explicit: false, provider: None }
    }
}

/// Looks at the MX records and, if wanted, at the hosts.
pub(super) async fn look(scene: Scene<'_>) -> Receiving {
    let mut this = Receiving::nothing();
    let (domain, auditor) = (scene.domain, scene.auditor);
    let answer = auditor.ask(domain, domain, Kind::Mx, &mut this.notes).await;
    this.notes.records(domain, Kind::Mx, &answer);
    if let Outcome::Failed(reason) = &answer.outcome {
        this.notes.summary(format!("unknown: {reason}"));
        return this;
    }
    read(scene, &mut this, &answer).await;
    let rules = auditor.judge.rules();
    this.provider =
        this.hosts.iter().find_map(|host| rules.provider_of_host(&host.name)).map(|provider| provider.id.clone());
    if let (Some(smtp), true) = (&auditor.plan.smtp, scene.wants(Section::Mx)) {
        let all = this.hosts.iter().map(|host| async move {
            let tried = [false, true]
                .into_iter()
                .flat_map(|six| host.addresses.iter().copied().filter(move |ip| ip.is_ipv6() == six).take(MAX_TRIED));
            join_all(tried.map(|ip| probe(&auditor.net, &auditor.plan, smtp, &host.name, ip))).await
        });
        let probes = join_all(all).await;
        for (host, probes) in this.hosts.iter_mut().zip(probes) {
            host.probes = probes;
        }
        report(scene, &mut this, smtp.port);
    }
    // Even where it answers us: we may be inside.
    for host in &this.hosts {
        if let Some(ip) = host.addresses.iter().find(|ip| is_private(**ip)) {
            let values = [("domain", domain), ("host", &host.name), ("ip", &ip.to_string())];
            this.notes.sign("mx_target_private", values);
        }
    }
    summarise(&mut this);
    this
}

fn summarise(this: &mut Receiving) {
    let names: Vec<&str> = this.hosts.iter().map(|host| host.name.as_str()).take(5).collect();
    let line = match (this.null, names.is_empty()) {
        (true, _) => "takes no mail (null MX)".to_owned(),
        (_, true) => "no mail host".to_owned(),
        _ => names.join(", "),
    };
    this.notes.summary(line);
    let hosts: Vec<String> = this.hosts.iter().map(|host| host.name.clone()).collect();
    this.notes.fact("hosts", hosts.join(" "));
    if let Some(provider) = &this.provider {
        let provider = provider.clone();
        this.notes.fact("provider", provider);
    }
}

async fn read(scene: Scene<'_>, this: &mut Receiving, answer: &Answer) {
    let domain = scene.domain;
    let mut targets: Vec<(u16, String)> = answer
        .records
        .iter()
        .filter_map(|data| match data {
            Data::Mx { preference, host } => Some((*preference, host.clone())),
            _ => None,
        })
        .collect();
    targets.sort();
    this.explicit = !targets.is_empty();
    let null = targets.iter().any(|(_, host)| host == ".");
    targets.retain(|(_, host)| host != ".");
    if null && targets.is_empty() {
        this.null = true;
        return;
    }
    if null {
        let hosts: Vec<&str> = targets.iter().map(|(_, host)| host.as_str()).collect();
        this.notes.sign("mx_null_mixed", [("domain", domain), ("hosts", &hosts.join(", "))]);
    }
    if !this.explicit {
        implicit(scene, this).await;
        return;
    }
    let mut seen: Vec<String> = Vec::new();
    targets.retain(|(_, host)| {
        if seen.contains(host) {
            this.notes.sign("mx_duplicate", [("domain", domain), ("host", host)]);
            return false;
        }
        seen.push(host.clone());
        true
    });
    targets.truncate(MAX_HOSTS);
    let looks = targets.into_iter().map(|(preference, name)| target(scene, preference, name));
    for (host, notes) in join_all(looks).await {
        for (kind, values) in notes {
            this.notes.sign(kind, values.iter().map(|(name, value)| (*name, value.as_str())));
        }
        this.hosts.extend(host);
    }
}

async fn implicit(scene: Scene<'_>, this: &mut Receiving) {
    let domain = scene.domain;
    let mail = format!("{} 3600 IN MX 10 mail.{}", dotted(domain), dotted(domain));
    match addresses(scene, domain).await.0 {
        Ok(addresses) => {
            let ip = addresses.first().map(ToString::to_string).unwrap_or_default();
            this.notes.sign("mx_implicit", [("domain", domain), ("ip", &ip), ("record", &mail)]);
            this.hosts = vec![Host { name: domain.to_owned(), preference: 0, addresses, probes: Vec::new() }];
        }
        Err(Failure::DnsUnavailable { .. }) => {}
        Err(_) => this.notes.sign("mx_none", [("domain", domain), ("record", &mail)]),
    }
}

type Signs = Vec<(&'static str, Vec<(&'static str, String)>)>;

/// The addresses of a host, and the name it is an alias for.
pub(super) async fn addresses(scene: Scene<'_>, name: &str) -> (Result<Vec<IpAddr>, Failure>, Option<String>) {
    let (six, four) = tokio::join!(scene.auditor.query(name, Kind::Aaaa), scene.auditor.query(name, Kind::A));
    let mut found: Vec<IpAddr> = Vec::new();
    for data in six.records.iter().chain(&four.records) {
        match data {
            Data::A(ip) => found.push((*ip).into()),
            Data::Aaaa(ip) => found.push((*ip).into()),
            _ => {}
        }
    }
    found.truncate(20);
    let alias = four.aliases.last().or(six.aliases.last()).cloned();
    if !found.is_empty() {
        return (Ok(found), alias);
    }
    let name = name.to_owned();
    let failure = match (&four.outcome, &six.outcome) {
        (Outcome::Failed(reason), _) | (_, Outcome::Failed(reason)) => {
            Failure::DnsUnavailable { name, reason: reason.clone() }
        }
        (Outcome::NxDomain, _) => Failure::NameNotFound { name },
        _ => Failure::NoAddress { name },
    };
    (Err(failure), alias)
}

async fn target(scene: Scene<'_>, preference: u16, name: String) -> (Option<Host>, Signs) {
    let domain = scene.domain;
    let mut signs: Signs = Vec::new();
    let base = |host: &str| vec![("domain", domain.to_owned()), ("host", host.to_owned())];
    if let Ok(ip) = name.parse::<IpAddr>() {
        let record = address_line(&format!("mail.{domain}"), ip);
        signs.push(("mx_target_address", [base(&name), vec![("record", record)]].concat()));
        return (None, signs);
    }
    if !is_host_name(&name) {
        signs.push(("mx_target_invalid", base(&name)));
    }
    let (answer, alias) = addresses(scene, &name).await;
    if let Some(real) = alias {
        let record = format!("{} IN MX {preference} {}", dotted(domain), dotted(&real));
        signs.push(("mx_target_cname", [base(&name), vec![("target", real), ("record", record)]].concat()));
    }
    let found = match answer {
        Ok(found) => found,
        Err(failure) => {
            let mut values = [base(&name), vec![("problem", in_words(&failure))]].concat();
            if !matches!(failure, Failure::DnsUnavailable { .. }) {
                values.push(("record", format!("{} IN A (the address of the host)", dotted(&name))));
            }
            signs.push(("mx_target_missing", values));
            Vec::new()
        }
    };
    (Some(Host { name, preference, addresses: found, probes: Vec::new() }), signs)
}

/// What the hosts did when they were tried.
fn report(scene: Scene<'_>, this: &mut Receiving, port: u16) {
    let domain = scene.domain;
    let port = port.to_string();
    let silent = |probe: &Probe| match &probe.outcome {
        Err(Miss::NoConnection(Failure::ConnectTimeout { .. })) => true,
        Err(Miss::NoConnection(failure)) => no_route(failure),
        _ => false,
    };
    let all: Vec<&Probe> = this.hosts.iter().flat_map(|host| &host.probes).collect();
    let timeouts = all.iter().filter(|probe| silent(probe)).count();
    if !all.is_empty() && timeouts == all.len() {
        this.notes
            .sign("mx_port_blocked_here", [("domain", domain), ("count", &timeouts.to_string()), ("port", &port)]);
        return;
    }
    let now = scene.auditor.net.clock.now_ms() / 1000;
    for host in &this.hosts {
        for probe in &host.probes {
            let ip = probe.ip.to_string();
            let name = host.name.as_str();
            let shown = match &probe.outcome {
                Err(Miss::NoConnection(failure)) => {
                    // A machine without IPv6 says nothing about the host.
                    if !(no_route(failure) && probe.ip.is_ipv6()) {
                        let problem = in_words(failure);
                        let values =
                            [("domain", domain), ("host", name), ("ip", &ip), ("port", &port), ("problem", &problem)];
                        this.notes.sign("mx_unreachable", values);
                    }
                    in_words(failure)
                }
                Err(Miss::Greeting(reply)) => {
                    this.notes.sign("mx_greeting", [("domain", domain), ("host", name), ("reply", reply)]);
                    reply.clone()
                }
                Ok(seen) => match &seen.tls {
                    None => {
                        this.notes.sign("mx_no_starttls", [("domain", domain), ("host", name)]);
                        "answers, without STARTTLS".into()
                    }
                    Some(Err(problem)) => {
                        this.notes.sign("mx_tls_failed", [("domain", domain), ("host", name), ("problem", problem)]);
                        format!("TLS fails: {problem}")
                    }
                    Some(Ok(shaken)) => {
                        certificate(&mut this.notes, domain, name, &shaken.problems, shaken.not_after, now);
                        match shaken.problems.first() {
                            None => format!("{}, certificate verifies", shaken.version),
                            Some(problem) => {
                                format!("{}, certificate is {}", shaken.version, problem_in_words(problem))
                            }
                        }
                    }
                },
            };
            this.notes.detail(format!("{} {name} ({ip}): {shown}", host.preference));
        }
    }
}

fn no_route(failure: &Failure) -> bool {
    matches!(failure, Failure::ConnectFailed { reason, .. } if reason.contains("no route"))
}

fn certificate(
    notes: &mut Notes,
    domain: &str,
    host: &str,
    problems: &[CertificateProblem],
    not_after: Option<i64>,
    now: i64,
) {
    if let Some(problem) = problems.first() {
        let values = [("domain", domain), ("host", host), ("problem", &problem_in_words(problem))];
        notes.sign("mx_certificate", values);
        return;
    }
    let Some(end) = not_after else { return };
    let days = (end - now).div_euclid(86_400);
    if days < SOON_DAYS {
        let date = iso_date(end);
        notes.sign(
            "mx_certificate_ends",
            [("domain", domain), ("host", host), ("days", &days.to_string()), ("date", &date)],
        );
    }
}

/// Whether the mail hosts are those of a service for parked domains.
pub(super) fn parked(this: &Receiving) -> Option<&str> {
    this.hosts.iter().map(|host| host.name.as_str()).find(|name| is_parking_host(name))
}
