//! The zone behind the records: name servers that answer and agree, numbers of the SOA record, wildcards, parking.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use explain::lists::is_parking_host;
use futures_util::future::join_all;
use net::{Answer, Outcome, Resolver, lookup::Data, lookup::Kind};

use super::audit::Scene;
use super::mx::{Receiving, addresses, parked};
use super::notes::Notes;
use super::plan::Section;
use super::text::{dotted, shown};

/// Most name servers that are asked, and most addresses of each.
const MAX_SERVERS: usize = 8;
const MAX_ADDRESSES: usize = 2;
/// RFC 2308 §5 proposes one to three hours; above a day a forgotten record hurts.
const LONG_MINIMUM: u32 = 86_400;

/// Whether names that nobody published answer; says so for TXT.
pub(super) async fn wildcard(scene: Scene<'_>, notes: &mut Notes) -> bool {
    if !scene.wants(Section::Domain) && !scene.wants(Section::Dkim) {
        return false;
    }
    let name = format!("{}.{}", scene.auditor.random_label(), scene.domain);
    let key = format!("{}._domainkey.{}", scene.auditor.random_label(), scene.domain);
    let (mx, txt, key_txt) = tokio::join!(
        scene.auditor.query(&name, Kind::Mx),
        scene.auditor.query(&name, Kind::Txt),
        scene.auditor.query(&key, Kind::Txt),
    );
    // A wildcard address is usual for web sites and harms no mail, so nobody asks for that.
    let real =
        |answer: &Answer| answer.records.iter().any(|data| !matches!(data, Data::Mx { host, .. } if host == "."));
    if real(&mx) {
        notes.sign("mx_wildcard", [("domain", scene.domain), ("name", &name)]);
    }
    if !txt.records.is_empty() {
        notes.sign("domain_wildcard", [("domain", scene.domain), ("name", &name), ("type", "TXT")]);
    }
    !txt.records.is_empty() || !key_txt.records.is_empty()
}

/// Notes a domain that waits for a buyer.
pub(super) fn parking(scene: Scene<'_>, notes: &mut Notes, receiving: &Receiving, servers: &[String]) {
    let host = parked(receiving).or_else(|| servers.iter().map(String::as_str).find(|host| is_parking_host(host)));
    if let Some(host) = host {
        let record = format!("{} IN MX 0 .", dotted(scene.domain));
        notes.sign("domain_parked", [("domain", scene.domain), ("host", host), ("record", &record)]);
    }
}

/// The name servers of the zone.
pub(super) struct Servers {
    pub(super) notes: Notes,
    pub(super) hosts: Vec<String>,
}

/// Asks each name server of the zone and compares what they say.
pub(super) async fn servers(scene: Scene<'_>) -> Servers {
    let mut this = Servers { notes: Notes::new(Section::Ns), hosts: Vec::new() };
    if !scene.wants(Section::Ns) && !scene.wants(Section::Domain) {
        return this;
    }
    let Some((zone, answer)) = apex(scene).await else {
        this.notes.idle("the name servers are not known here");
        return this;
    };
    this.hosts = answer
        .records
        .iter()
        .filter_map(|data| match data {
            Data::Ns(host) => Some(host.clone()),
            _ => None,
        })
        .collect();
    this.hosts.sort();
    if !scene.wants(Section::Ns) {
        return this;
    }
    this.notes.records(&zone, Kind::Ns, &answer);
    soa(scene, &zone, &mut this.notes).await;
    if let [only] = this.hosts.as_slice() {
        this.notes.sign("ns_single", [("domain", zone.as_str()), ("host", only)]);
    }
    this.notes.summary(this.hosts.join(", "));
    compare(scene, &zone, &mut this).await;
    this
}

/// The zone a domain is in: the nearest name above it that has name servers. Never a public suffix.
async fn apex(scene: Scene<'_>) -> Option<(String, Answer)> {
    let top = proto::policy::dmarc::organizational_by_list(scene.domain);
    let mut at = scene.domain.to_owned();
    loop {
        let answer = scene.auditor.query(&at, Kind::Ns).await;
        if !answer.records.is_empty() {
            return Some((at, answer));
        }
        if at == top {
            return None;
        }
        at = at.split_once('.')?.1.to_owned();
    }
}

async fn soa(scene: Scene<'_>, zone: &str, notes: &mut Notes) {
    let answer = scene.auditor.query(zone, Kind::Soa).await;
    let Some(Data::Soa { contact, minimum, .. }) = answer.records.first() else { return };
    notes.records(zone, Kind::Soa, &answer);
    if *minimum > LONG_MINIMUM {
        notes.sign("soa_minimum", [("domain", zone), ("seconds", &minimum.to_string())]);
    }
    if contact.contains('@') || !contact.contains('.') {
        notes.sign("soa_contact", [("domain", zone), ("found", contact)]);
    }
}

/// What one address of one name server says.
struct Said {
    host: String,
    serial: Option<u32>,
    /// By name and type, each sorted.
    records: BTreeMap<(String, &'static str), BTreeSet<String>>,
}

async fn compare(scene: Scene<'_>, zone: &str, this: &mut Servers) {
    let asked = this.hosts.iter().take(MAX_SERVERS).map(|host| async move {
        let addresses = match addresses(scene, host).await.0 {
            Ok(addresses) => addresses,
            Err(_) => return (host.clone(), Vec::new()),
        };
        // One of each family at most: a second address of the same kind is the same server.
        let four = addresses.iter().find(|ip| ip.is_ipv4());
        let chosen = four.or_else(|| addresses.first()).into_iter().take(MAX_ADDRESSES).copied();
        let said = join_all(chosen.map(|ip| server(scene, zone, host, ip))).await;
        (host.clone(), said)
    });
    let answers = join_all(asked).await;
    // Silence of every server is more likely a firewall on our side than the end of the zone: the resolver had answers.
    let reached = answers.iter().flat_map(|(_, said)| said).any(|(_, said)| match said {
        Ok(_) => true,
        Err(problem) => !is_silence(problem),
    });
    let mut all: Vec<Said> = Vec::new();
    for (host, said) in answers {
        if said.is_empty() {
            this.notes.sign("ns_unresolvable", [("domain", zone), ("host", &host)]);
        }
        for (ip, said) in said {
            match said {
                Ok(said) => {
                    let serial = said.serial.map_or_else(|| "none".to_owned(), |serial| serial.to_string());
                    this.notes.detail(format!("{host} ({ip}): serial {serial}"));
                    all.push(said);
                }
                Err(problem) if !reached => {
                    this.notes.detail(format!("{host} ({ip}) cannot be asked from here: {problem}"))
                }
                Err(problem) => {
                    let ip = ip.to_string();
                    this.notes.sign("ns_lame", [("domain", zone), ("host", &host), ("ip", &ip), ("problem", &problem)]);
                }
            }
        }
    }
    differences(zone, &all, &mut this.notes);
}

async fn server(scene: Scene<'_>, zone: &str, host: &str, ip: IpAddr) -> (IpAddr, Result<Said, String>) {
    let plan = &scene.auditor.plan;
    let peer = plan.redirected(SocketAddr::new(ip, 53));
    let resolver = match Resolver::at(peer, plan.timeout) {
        Ok(resolver) => resolver,
        Err(error) => return (ip, Err(error.to_string())),
    };
    let soa = resolver.query(zone, Kind::Soa).await;
    let serial = soa.records.iter().find_map(|data| match data {
        Data::Soa { serial, .. } => Some(*serial),
        _ => None,
    });
    match soa.outcome {
        Outcome::Failed(reason) => return (ip, Err(reason)),
        Outcome::NxDomain => return (ip, Err("NXDOMAIN for the zone itself".into())),
        Outcome::NoData | Outcome::Records => {}
    }
    let mut records = BTreeMap::new();
    let dmarc = format!("_dmarc.{}", scene.domain);
    for (name, kind) in [(scene.domain, Kind::Mx), (scene.domain, Kind::Txt), (dmarc.as_str(), Kind::Txt)] {
        let answer = resolver.query(name, kind).await;
        if answer.is_known() {
            records.insert((name.to_owned(), kind.name()), answer.records.iter().map(shown).collect());
        }
    }
    (ip, Ok(Said { host: host.to_owned(), serial, records }))
}

/// No answer of a server, but of the network.
pub(crate) fn is_silence(problem: &str) -> bool {
    const ANSWERS: [&str; 6] = ["REFUSED", "SERVFAIL", "NOTAUTH", "NOTIMP", "FORMERR", "NXDOMAIN"];
    !problem.contains("referral") && !ANSWERS.iter().any(|answer| problem.contains(answer))
}

fn differences(zone: &str, all: &[Said], notes: &mut Notes) {
    let Some((first, others)) = all.split_first() else { return };
    let mut differ = false;
    for ((name, kind), mine) in &first.records {
        let key = (name.clone(), *kind);
        let Some(other) = others.iter().find(|said| said.records.get(&key).is_some_and(|theirs| theirs != mine)) else {
            continue;
        };
        differ = true;
        let theirs = &other.records[&key];
        let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| {
            let lines: Vec<&str> = a.difference(b).map(String::as_str).collect();
            if lines.is_empty() { "nothing".to_owned() } else { lines.join(" and ") }
        };
        let words =
            format!("only {} has {}; only {} has {}", first.host, only(mine, theirs), other.host, only(theirs, mine));
        let values = [("domain", zone), ("name", name), ("type", kind), ("differences", &words)];
        let servers = [("server_a", first.host.as_str()), ("server_b", other.host.as_str())];
        notes.sign("ns_differ", values.into_iter().map(|(n, v)| (n, v as &str)).chain(servers));
    }
    let serials: BTreeSet<u32> = all.iter().filter_map(|said| said.serial).collect();
    if serials.len() > 1 && !differ {
        let list: Vec<String> = all.iter().filter_map(|said| Some(format!("{} {}", said.host, said.serial?))).collect();
        notes.sign("ns_serial_differ", [("domain", zone), ("serials", &list.join(", "))]);
    }
}
