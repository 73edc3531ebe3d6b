//! What the authoritative name servers of a zone themselves say, each on its own: before a record is relied on, all of
//! them must have it. No cache of a resolver is in between.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;

use crate::lookup::{Answer, Data, Kind, Outcome};
use crate::resolver::Resolver;

/// Most name servers of a zone that are asked.
const MAX_SERVERS: usize = 16;
/// Most addresses of each.
const MAX_ADDRESSES: usize = 4;
/// Aliases that are followed from zone to zone.
const MAX_ALIASES: usize = 3;

/// Why the servers of a name are not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// Nothing is known: the resolver had no answer.
    #[error("the name servers of {name} cannot be found: {reason}")]
    Unknown {
        /// Whose servers.
        name: String,
        /// What the resolver said.
        reason: String,
    },
    /// There is no zone.
    #[error("no zone has {0}: is the domain registered?")]
    NoZone(String),
    /// An alias that leads nowhere.
    #[error("the aliases of {0} go on too long or in a circle")]
    Circle(String),
}

/// Finds and asks authoritative servers.
#[derive(Debug, Clone)]
pub struct Authority {
    /// Finds the servers and their addresses.
    pub resolver: Resolver,
    /// Limit of each question.
    pub timeout: Duration,
    /// Servers that are somewhere else than the DNS says: `192.0.2.1:53` at `127.0.0.1:5353`.
    pub redirects: BTreeMap<SocketAddr, SocketAddr>,
}

/// One answer of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Zone it was asked about; differs from the first one's behind an alias.
    pub zone: String,
    /// Its name.
    pub server: String,
    /// Its address; `None` if it has none that can be found.
    pub address: Option<IpAddr>,
    /// What it said. Behind an alias: of the server that has the target.
    pub answer: Answer,
}

/// All answers about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// The zone the name is in.
    pub zone: String,
    /// Where aliases led, in order.
    pub aliases: Vec<String>,
    /// Each address of each server, servers by name.
    pub said: Vec<Said>,
}

impl Authority {
    /// Asks with this resolver.
    pub fn new(resolver: Resolver, timeout: Duration) -> Self {
        Self { resolver, timeout, redirects: BTreeMap::new() }
    }

    /// Asks every authoritative server for the TXT records at a name. `Err` says why the servers are not known.
    pub async fn txt(&self, name: &str) -> Result<Survey, AuthorityError> {
        self.survey(name, Kind::Txt).await
    }

    /// Asks every authoritative server for the records of one type at a name.
    pub async fn survey(&self, name: &str, kind: Kind) -> Result<Survey, AuthorityError> {
        let mut survey = self.one_zone(name, kind).await?;
        let mut at = name.to_owned();
        let mut seen = BTreeSet::from([name.to_ascii_lowercase()]);
        while let Some((target, by)) = self.alias(&at, &survey).await {
            if survey.aliases.len() >= MAX_ALIASES || !seen.insert(target.clone()) {
                return Err(AuthorityError::Circle(name.to_owned()));
            }
            let behind = self.one_zone(&target, kind).await?;
            // A server that knows neither the record nor the alias stays in the list as one that lacks it.
            survey.said.retain(|said| has_records(&said.answer) || !said.address.is_some_and(|at| by.contains(&at)));
            survey.said.extend(behind.said);
            survey.aliases.push(target.clone());
            at = target;
        }
        Ok(survey)
    }

    async fn one_zone(&self, name: &str, kind: Kind) -> Result<Survey, AuthorityError> {
        let (zone, hosts) = self.apex(name).await?;
        let addresses = join_all(hosts.iter().map(|host| self.resolver.addresses(host))).await;
        let mut questions = Vec::new();
        let mut said = Vec::new();
        for (host, found) in hosts.iter().zip(addresses) {
            match found {
                Ok(found) => {
                    questions.extend(found.into_iter().take(MAX_ADDRESSES).map(|address| (host.clone(), address)));
                }
                Err(_) => said.push(Said {
                    zone: zone.clone(),
                    server: host.clone(),
                    address: None,
                    answer: failed("its address cannot be found"),
                }),
            }
        }
        let asked = questions.iter().map(|(_, address)| self.ask(*address, name, kind));
        for ((server, address), answer) in questions.iter().zip(join_all(asked).await) {
            said.push(Said { zone: zone.clone(), server: server.clone(), address: Some(*address), answer });
        }
        said.sort_by(|a, b| (&a.server, a.address).cmp(&(&b.server, b.address)));
        Ok(Survey { zone, aliases: Vec::new(), said })
    }

    /// One question to one server.
    async fn ask(&self, address: IpAddr, name: &str, kind: Kind) -> Answer {
        let server = SocketAddr::new(address, 53);
        let peer = self.redirects.get(&server).copied().unwrap_or(server);
        match Resolver::at(peer, self.timeout) {
            Ok(resolver) => resolver.query(name, kind).await,
            Err(error) => failed(&error.to_string()),
        }
    }

    /// Where the name is an alias to, and the servers without a record of it that say so.
    async fn alias(&self, name: &str, survey: &Survey) -> Option<(String, BTreeSet<IpAddr>)> {
        let zone = survey.said.last().map(|said| said.zone.clone()).unwrap_or_default();
        let lacking = survey.said.iter().filter(|said| said.zone == zone && !has_records(&said.answer));
        let asked: Vec<IpAddr> = lacking.filter_map(|said| said.address).collect();
        let answers = join_all(asked.iter().map(|address| self.ask(*address, name, Kind::Cname))).await;
        let mut found: Option<(String, BTreeSet<IpAddr>)> = None;
        for (address, answer) in asked.into_iter().zip(answers) {
            for data in answer.records {
                if let Data::Cname(target) = data {
                    found.get_or_insert_with(|| (target, BTreeSet::new())).1.insert(address);
                }
            }
        }
        found
    }

    /// The zone of a name and its servers: the nearest name at or above it that has name servers of its own.
    async fn apex(&self, name: &str) -> Result<(String, Vec<String>), AuthorityError> {
        let mut at = name;
        loop {
            let answer = self.resolver.query(at, Kind::Ns).await;
            if let Outcome::Failed(reason) = &answer.outcome {
                return Err(AuthorityError::Unknown { name: at.to_owned(), reason: reason.clone() });
            }
            // Through an alias the answer is about another name.
            if answer.aliases.is_empty() && !answer.records.is_empty() {
                let hosts: BTreeSet<String> = answer
                    .records
                    .into_iter()
                    .filter_map(|data| match data {
                        Data::Ns(host) => Some(host),
                        _ => None,
                    })
                    .collect();
                return Ok((at.to_owned(), hosts.into_iter().take(MAX_SERVERS).collect()));
            }
            at = match at.split_once('.') {
                // Nobody publishes keys in a top-level domain.
                Some((_, above)) if above.contains('.') => above,
                _ => return Err(AuthorityError::NoZone(name.to_owned())),
            };
        }
    }
}

fn has_records(answer: &Answer) -> bool {
    !answer.records.is_empty()
}

fn failed(reason: &str) -> Answer {
    let outcome = Outcome::Failed(reason.to_owned());
    Answer { outcome, records: Vec::new(), ttl: None, dnssec: crate::lookup::Proof::Unknown, aliases: Vec::new() }
}
