//! A consistent picture of senders, routes, rules and signing domains, read from the store and replaced as a whole when they change.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use store::settings::{Document, Kind};
use store::{Store, StoreError};

use crate::config::StreamConfig;
use crate::domain::{DomainRecord, SigningDomain};
use crate::route::{Route, RouteRecord, RuleRecord, domain_matches};
use crate::secrets::Secrets;
use crate::sender::{Sender, SenderRecord};
use crate::stream::{Stream, StreamRecord};

/// Name of the rule that takes what no other rule took.
pub const DEFAULT_RULE: &str = "default";

/// Senders, routes and rules at one moment.
#[derive(Debug, Default)]
pub struct Directory {
    /// Version of the settings it was made from.
    pub version: i64,
    senders: HashMap<Arc<str>, Arc<Sender>>,
    /// Senders by the hash of their API keys.
    keys: HashMap<String, Arc<Sender>>,
    /// Senders that have trusted addresses.
    trusting: Vec<Arc<Sender>>,
    routes: HashMap<Arc<str>, Arc<Route>>,
    rules: Vec<(String, RuleRecord)>,
    /// Streams that the store or the configuration knows.
    streams: HashMap<Arc<str>, Arc<Stream>>,
    /// Domains with keys that sign.
    domains: HashMap<Arc<str>, Arc<SigningDomain>>,
    /// What could not be read, in words for the log and the health page.
    pub problems: Vec<String>,
}

impl Directory {
    /// Reads everything. A document that makes no sense is left out and named in `problems`: one slip must not stop the others.
    pub async fn load(store: &dyn Store) -> Result<Self, StoreError> {
        let mut directory = Self { version: store.settings_version().await?, ..Self::default() };
        for document in store.documents(Kind::Route).await? {
            directory.add_route(document);
        }
        for document in store.documents(Kind::Rule).await? {
            match serde_json::from_value::<RuleRecord>(document.body) {
                Ok(rule) => directory.rules.push((document.name, rule)),
                Err(error) => directory.problems.push(format!("rule {}: {error}", document.name)),
            }
        }
        directory.rules.sort_by(|a, b| (a.1.order, &a.0).cmp(&(b.1.order, &b.0)));
        for document in store.documents(Kind::Sender).await? {
            directory.add_sender(document);
        }
        directory.trusting.sort_by(|a, b| a.name.cmp(&b.name));
        for document in store.documents(Kind::Stream).await? {
            directory.add_stream(document);
        }
        for document in store.documents(Kind::Domain).await? {
            directory.add_domain(document);
        }
        Ok(directory)
    }

    fn add_route(&mut self, document: Document) {
        match serde_json::from_value::<RouteRecord>(document.body) {
            Ok(record) => {
                let name: Arc<str> = document.name.into();
                let secrets = Secrets::read(document.secret.as_ref()).unwrap_or_else(|error| {
                    self.problems.push(format!("route {name}: {error}"));
                    Secrets::default()
                });
                for problem in record.problems(&secrets) {
                    self.problems.push(format!("route {name}: {problem}"));
                }
                let route = Route::new(name.clone(), record, secrets, document.version);
                self.routes.insert(name, Arc::new(route));
            }
            Err(error) => self.problems.push(format!("route {}: {error}", document.name)),
        }
    }

    fn add_sender(&mut self, document: Document) {
        match serde_json::from_value::<SenderRecord>(document.body) {
            Ok(record) => {
                let sender = Arc::new(Sender::new(document.name.into(), record, document.version));
                for key in &sender.record.api_keys {
                    self.keys.insert(key.hash.clone(), sender.clone());
                }
                if !sender.record.trusted_addresses.is_empty() {
                    self.trusting.push(sender.clone());
                }
                self.senders.insert(sender.name.clone(), sender);
            }
            Err(error) => self.problems.push(format!("sender {}: {error}", document.name)),
        }
    }

    fn add_stream(&mut self, document: Document) {
        match serde_json::from_value::<StreamRecord>(document.body) {
            Ok(record) => {
                let name: Arc<str> = document.name.into();
                for (_, problem) in record.problems() {
                    self.problems.push(format!("stream {name}: {problem}"));
                }
                let stream = Stream::new(name.clone(), Some(record), None);
                self.streams.insert(name, Arc::new(stream));
            }
            Err(error) => self.problems.push(format!("stream {}: {error}", document.name)),
        }
    }

    /// Adds what the configuration says of streams.
    pub(crate) fn configure_streams(&mut self, configured: &[StreamConfig]) {
        for one in configured {
            let name: Arc<str> = one.name.as_str().into();
            let stored = self.streams.get(&name).map(|stream| stream.record.clone());
            let stream = Stream::new(name.clone(), stored, Some(one));
            self.streams.insert(name, Arc::new(stream));
        }
    }

    /// A stream that somebody said something of.
    pub fn stream(&self, name: &str) -> Option<&Arc<Stream>> {
        self.streams.get(name)
    }

    /// What holds for a stream, also for one that nobody said anything of.
    pub fn stream_record(&self, name: &str) -> &StreamRecord {
        static PLAIN: std::sync::LazyLock<StreamRecord> = std::sync::LazyLock::new(StreamRecord::default);
        self.streams.get(name).map_or_else(|| &*PLAIN, |stream| &stream.record)
    }

    /// All streams that somebody said something of, in no order.
    pub fn streams(&self) -> impl Iterator<Item = &Arc<Stream>> {
        self.streams.values()
    }

    fn add_domain(&mut self, document: Document) {
        match serde_json::from_value::<DomainRecord>(document.body) {
            Ok(record) => {
                let name: Arc<str> = document.name.into();
                for problem in record.problems() {
                    self.problems.push(format!("domain {name}: {problem}"));
                }
                if record.active().next().is_some() {
                    let domain = SigningDomain::new(name.clone(), document.version, record, document.secret);
                    self.domains.insert(name, Arc::new(domain));
                }
            }
            Err(error) => self.problems.push(format!("domain {}: {error}", document.name)),
        }
    }

    /// Whether any mail is signed.
    pub(crate) fn signs(&self) -> bool {
        !self.domains.is_empty()
    }

    /// The domain whose keys sign mail from this domain: itself, or the nearest above it that signs for those below.
    pub(crate) fn signer(&self, domain: &str) -> Option<&Arc<SigningDomain>> {
        let mut at = domain;
        loop {
            if let Some(found) = self.domains.get(at).filter(|found| at == domain || found.record.subdomains) {
                return Some(found);
            }
            at = at.split_once('.')?.1;
        }
    }

    /// Keeps senders and domains that did not change, with what they have used of their rate, and their keys as read.
    pub(crate) fn keep_senders_of(&mut self, before: &Self) {
        for domain in self.domains.values_mut() {
            if let Some(known) = before.domains.get(&domain.name).filter(|known| known.version == domain.version) {
                *domain = known.clone();
            }
        }
        let all = self.senders.values_mut().chain(self.keys.values_mut()).chain(&mut self.trusting);
        for sender in all {
            if let Some(known) = before.senders.get(&sender.name).filter(|known| known.version == sender.version) {
                *sender = known.clone();
            }
        }
    }

    /// A sender by its name, which is its SMTP user name.
    pub fn sender(&self, name: &str) -> Option<&Arc<Sender>> {
        self.senders.get(name)
    }

    /// All senders, in no order.
    pub(crate) fn senders(&self) -> impl Iterator<Item = &Arc<Sender>> {
        self.senders.values()
    }

    /// The routes that mail from a domain may take, whatever its recipients and streams.
    pub(crate) fn routes_from(&self, sender_domain: &str) -> Vec<&Arc<Route>> {
        let mut routes = Vec::new();
        for (_, rule) in &self.rules {
            let theirs = rule.sender_domain.as_ref().is_none_or(|wanted| domain_matches(wanted, sender_domain));
            if !theirs {
                continue;
            }
            routes.extend(self.routes.get(rule.route.as_str()));
            if rule.recipient_domain.is_none() && rule.stream.is_none() {
                // It takes all of the rest.
                break;
            }
        }
        routes
    }

    /// A sender by the hash of an API key.
    pub fn sender_by_key(&self, hash: &str) -> Option<&Arc<Sender>> {
        self.keys.get(hash)
    }

    /// The sender whose trusted addresses contain this one.
    pub fn sender_by_address(&self, address: IpAddr) -> Option<&Arc<Sender>> {
        self.trusting.iter().find(|sender| {
            !sender.record.disabled && sender.record.trusted_addresses.iter().any(|network| network.contains(address))
        })
    }

    /// A route by name.
    pub fn route(&self, name: &str) -> Option<&Arc<Route>> {
        self.routes.get(name)
    }

    /// All routes, in no order.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.values()
    }

    /// Number of senders and routes, for the start-up report.
    pub fn counts(&self) -> (usize, usize) {
        (self.senders.len(), self.routes.len())
    }

    /// The route of a recipient: the first rule whose conditions hold and whose route exists.
    pub fn route_for(&self, sender_domain: &str, recipient_domain: &str, stream: &str) -> Option<&Arc<Route>> {
        self.rules
            .iter()
            .filter(|(_, rule)| rule.matches(sender_domain, recipient_domain, stream))
            .find_map(|(_, rule)| self.routes.get(rule.route.as_str()))
    }
}

#[cfg(test)]
impl Directory {
    /// Adds a route that no store knows.
    pub(crate) fn put_route(&mut self, route: Route) {
        self.routes.insert(route.name.clone(), Arc::new(route));
    }

    /// Adds a rule behind the others.
    pub(crate) fn put_rule(&mut self, name: &str, rule: RuleRecord) {
        self.rules.push((name.to_owned(), rule));
    }
}
