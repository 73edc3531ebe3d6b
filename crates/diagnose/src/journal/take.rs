//! Asking: all records of a domain, each at the servers that have it.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

use futures_util::StreamExt as _;
use net::authority::{AuthorityError, Said};
use net::{Authority, Outcome};
use proto::policy::dmarc::organizational_by_list;
use proto::smtp::reply::escape;

use super::snapshot::{ServerState, ServerView, Snapshot};
use super::what::What;
use crate::domain::{is_silence, shown};

/// Records of one domain that are asked for at the same time.
const AT_ONCE: usize = 4;
/// Policies that an SPF record leads to; more than 10 lookups are an error of the record anyway.
const MAX_INCLUDES: usize = 20;
/// Records of one answer that are kept, and octets of one.
const MAX_RECORDS: usize = 20;
const MAX_OCTETS: usize = 2_000;

/// One kind of record and its snapshot; `Err` says why nothing is known.
pub type Taken = (What, Result<Snapshot, String>);

/// Everything that mail of a domain depends on. `selectors`: of DKIM keys in use.
pub async fn of_domain(authority: &Authority, domain: &str, selectors: &BTreeSet<String>) -> Vec<Taken> {
    let mut all = vec![What::Ns, What::Mx, What::Spf, What::Dmarc, What::MtaSts, What::TlsRpt];
    let above = organizational_by_list(domain);
    if above != domain {
        all.push(What::DmarcOf(above));
    }
    all.extend(selectors.iter().cloned().map(What::Dkim));
    let asked = futures_util::stream::iter(all).map(|what| async move {
        let taken = take(authority, domain, &what).await;
        (what, taken)
    });
    let mut taken: Vec<Taken> = asked.buffered(AT_ONCE).collect().await;
    let spf = taken.iter().find(|(what, _)| *what == What::Spf).and_then(|(_, taken)| taken.as_ref().ok());
    let mut waiting: VecDeque<String> = spf.map(Snapshot::leads_to).unwrap_or_default().into();
    let mut met = BTreeSet::from([domain.to_owned()]);
    while let Some(target) = waiting.pop_front() {
        if met.len() > MAX_INCLUDES || !met.insert(target.clone()) {
            continue;
        }
        let what = What::SpfOf(target);
        let found = take(authority, domain, &what).await;
        waiting.extend(found.as_ref().map(Snapshot::leads_to).unwrap_or_default());
        taken.push((what, found));
    }
    taken
}

/// The reverse name of an address of ours.
pub async fn of_address(authority: &Authority, address: IpAddr) -> Taken {
    (What::Ptr, take(authority, &address.to_string(), &What::Ptr).await)
}

async fn take(authority: &Authority, domain: &str, what: &What) -> Result<Snapshot, String> {
    let (name, kind) = what.question(domain).ok_or_else(|| format!("{domain} has no {what}"))?;
    let survey = match authority.survey(&name, kind).await {
        Ok(survey) => survey,
        Err(AuthorityError::NoZone(_)) => {
            return Ok(Snapshot {
                name,
                kind: kind.name().into(),
                zone: None,
                aliases: Vec::new(),
                servers: Vec::new(),
            });
        }
        Err(error) => return Err(error.to_string()),
    };
    let servers = survey.said.iter().map(|said| view(what, said)).collect();
    let zone = Some(survey.zone);
    let mut snapshot = Snapshot { name, kind: kind.name().into(), zone, aliases: survey.aliases, servers };
    snapshot.forget_unreachable_family();
    if snapshot.answering().next().is_none() && snapshot.servers.iter().all(|view| view.state == ServerState::Silent) {
        // More likely a firewall on our side than the end of the zone: the resolver knew its servers.
        let zone = snapshot.zone.unwrap_or_default();
        return Err(format!("no name server of {zone} can be asked from here"));
    }
    Ok(snapshot)
}

fn view(what: &What, said: &Said) -> ServerView {
    let (state, reason) = match (&said.answer.outcome, said.address) {
        (_, None) => (ServerState::NoAddress, Some("its name has no address".to_owned())),
        (Outcome::Failed(reason), _) if is_silence(reason) => (ServerState::Silent, Some(reason.clone())),
        (Outcome::Failed(reason), _) => (ServerState::Lame, Some(reason.clone())),
        _ => (ServerState::Answers, None),
    };
    let kept = said.answer.records.iter().filter(|data| what.keeps(data)).take(MAX_RECORDS);
    let mut records: Vec<String> = kept.map(|data| escape(shown(data).as_bytes(), MAX_OCTETS)).collect();
    records.sort();
    records.dedup();
    ServerView {
        server: escape(said.server.as_bytes(), 300),
        address: said.address,
        state,
        records,
        reason: reason.map(|reason| escape(reason.as_bytes(), 300)),
    }
}

impl Snapshot {
    /// Domains whose policies an SPF record leads to; those with macros differ by message and are left out.
    pub fn leads_to(&self) -> Vec<String> {
        let mut found = Vec::new();
        for record in self.records() {
            for term in record.replace("\" \"", "").trim_matches('"').split(' ') {
                let bare = term.trim_start_matches(['+', '-', '~', '?']).to_ascii_lowercase();
                let target = bare.strip_prefix("include:").or_else(|| bare.strip_prefix("redirect="));
                let is_name = |target: &&str| target.contains('.') && proto::policy::dns::is_possible(target);
                if let Some(target) = target.filter(|target| !target.contains('%')).filter(is_name) {
                    let target = target.trim_end_matches('.').to_owned();
                    if !found.contains(&target) {
                        found.push(target);
                    }
                }
            }
        }
        found
    }
}
