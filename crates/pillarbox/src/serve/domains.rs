//! The keys of domains against what is published: asks every authoritative name server, changes keys that are ready,
//! retires old ones. On request, and by itself while the server runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use net::authority::Survey;
use net::{Authority, Outcome};
use parking_lot::Mutex;
use proto::policy::dkim::{DkimKey, KeyAlgorithm, is_record, key_name, parse_key, public_key_of};
use relay::domain::{Checked, DomainRecord, KeyRecord, KeyState, Secrets};
use serde::{Deserialize, Serialize};
use store::Selector;
use store::settings::{Document, Kind, SecretChange};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::http::Shared;
use crate::http::api::settings;
use crate::http::problem::Problem;

/// How often the job looks whether there is something to do; keys that wait for being published are checked each time.
const ROUND: Duration = Duration::from_secs(300);
/// How often the keys of a domain are checked when nothing waits.
const EVERY_MS: i64 = 3_600_000;
/// Domains that are checked at the same time.
const AT_ONCE: usize = 8;
/// Most notes that are shown.
const MAX_NOTES: usize = 100;

/// What the keys of domains need while the server runs.
pub struct Domains {
    /// Asks authoritative servers; `Err` says why there is no resolver.
    pub authority: Result<Authority, String>,
    /// Seconds that a message may wait here.
    pub expiry_s: u64,
    /// Something changed: the job shall look at once.
    pub wake: Notify,
    notes: Mutex<BTreeMap<(NoteOf, String), Vec<String>>>,
}

/// What a note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoteOf {
    /// A channel that takes no alerts. It is shown and becomes no alert: alerts are never about alerts.
    AlertChannel,
    /// Records in the DNS that lack something.
    Dns,
    /// A webhook that takes nothing.
    Webhook,
}

impl Domains {
    /// With the resolver of the configuration.
    pub fn new(authority: Result<Authority, String>, expiry_s: u64) -> Self {
        Self { authority, expiry_s, wake: Notify::new(), notes: Mutex::default() }
    }

    /// What an operator should know, for the status.
    pub fn notes(&self) -> Vec<String> {
        self.notes.lock().values().flatten().take(MAX_NOTES).cloned().collect()
    }

    /// Those of one kind, each with its subject.
    pub fn notes_of(&self, of: NoteOf) -> Vec<(String, String)> {
        let notes = self.notes.lock();
        let about = notes.iter().filter(|((about, _), _)| *about == of);
        let each = about.flat_map(|((_, subject), lines)| lines.iter().map(|line| (subject.clone(), line.clone())));
        each.take(MAX_NOTES).collect()
    }

    /// Notes on a route.
    pub fn notes_about(&self, route: &str) -> Vec<String> {
        let begin = format!("route {route} ");
        let notes = self.notes.lock();
        let about = notes.iter().filter(|((_, subject), _)| subject.starts_with(&begin));
        about.flat_map(|(_, lines)| lines).take(MAX_NOTES).cloned().collect()
    }

    /// Replaces the notes on a subject; new ones go to the log too.
    pub fn note(&self, of: NoteOf, subject: &str, lines: Vec<String>) {
        let mut notes = self.notes.lock();
        let key = (of, subject.to_owned());
        let before = notes.get(&key);
        for line in lines.iter().filter(|line| !before.is_some_and(|before| before.contains(line))) {
            tracing::warn!("{line}");
        }
        match lines.is_empty() {
            true => drop(notes.remove(&key)),
            false => drop(notes.insert(key, lines)),
        }
    }
}

/// What one server said of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSaid {
    /// Its name.
    pub server: String,
    /// Its address.
    pub address: Option<String>,
    /// `published`, `missing`, `other_key`, `several`, `unusable` or `unreachable`.
    pub result: String,
    /// More about it.
    pub detail: Option<String>,
}

/// What all servers said of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySeen {
    /// Its selector.
    pub selector: String,
    /// Name of its record.
    pub name: String,
    /// The zone the record is in.
    pub zone: Option<String>,
    /// Every authoritative server has it.
    pub published: bool,
    /// What is wrong, one line each.
    pub problems: Vec<String>,
    /// Each address of each server.
    pub servers: Vec<ServerSaid>,
}

/// Looks at one key; `Ok` does not mean that it is published.
async fn look(authority: &Authority, domain: &str, key: &KeyRecord) -> KeySeen {
    let name = key_name(&key.selector, domain);
    let mut seen = KeySeen {
        selector: key.selector.clone(),
        name: name.clone(),
        zone: None,
        published: false,
        problems: Vec::new(),
        servers: Vec::new(),
    };
    match authority.txt(&name).await {
        Ok(survey) => judge(key, &survey, &mut seen),
        Err(problem) => seen.problems.push(problem.to_string()),
    }
    seen.published = seen.problems.is_empty();
    seen
}

/// A server counts as having the record if one of its addresses has and none says otherwise: some of its addresses may
/// not be reachable from here.
fn judge(key: &KeyRecord, survey: &Survey, seen: &mut KeySeen) {
    let own = parse_key(key.record().as_bytes()).record;
    let mut by_server: BTreeMap<&str, Vec<(&'static str, Option<String>)>> = BTreeMap::new();
    for said in &survey.said {
        let (result, detail) = result_of(&said.answer, own.as_ref());
        by_server.entry(&said.server).or_default().push((result, detail.clone()));
        let address = said.address.map(|address| address.to_string());
        seen.servers.push(ServerSaid { server: said.server.clone(), address, result: result.into(), detail });
    }
    seen.zone = Some(survey.zone.clone());
    if by_server.is_empty() {
        seen.problems.push(format!("the zone {} has no name servers", survey.zone));
    }
    for (server, said) in by_server {
        let wrong = said.iter().find(|(result, _)| !matches!(*result, "published" | "unreachable"));
        let Some((result, detail)) = wrong.or_else(|| {
            let has = said.iter().any(|(result, _)| *result == "published");
            said.first().filter(|_| !has)
        }) else {
            continue;
        };
        let what = match *result {
            "missing" => "does not have the record",
            "other_key" => "has another key",
            "several" => "has several keys at this name",
            "unusable" => "has a key that cannot be used",
            _ => "cannot be asked",
        };
        let detail = detail.as_ref().map_or_else(String::new, |detail| format!(" ({detail})"));
        seen.problems.push(format!("{server} {what}{detail}"));
    }
}

fn result_of(answer: &net::Answer, own: Option<&DkimKey>) -> (&'static str, Option<String>) {
    if let Outcome::Failed(reason) = &answer.outcome {
        return ("unreachable", Some(reason.clone()));
    }
    let reply = answer.reply();
    let texts: Vec<&[u8]> = reply.texts().filter(|text| is_record(text)).collect();
    let parsed = match texts.as_slice() {
        [] => return ("missing", None),
        [one] => parse_key(one),
        many => return ("several", Some(format!("{} records", many.len()))),
    };
    match (parsed.record, own) {
        (Some(key), Some(own)) if !is_same(&key, own) => ("other_key", None),
        (Some(key), _) if key.revoked => ("unusable", Some("p= is empty".into())),
        (Some(_), _) if !parsed.remarks.iter().any(|remark| remark.level == proto::policy::Level::Error) => {
            ("published", None)
        }
        _ => {
            let first = parsed.remarks.iter().find(|remark| remark.level == proto::policy::Level::Error);
            ("unusable", first.map(|remark| remark.text.clone()))
        }
    }
}

fn is_same(a: &DkimKey, b: &DkimKey) -> bool {
    if a.revoked {
        return true;
    }
    a.algorithm == b.algorithm
        && match a.algorithm {
            KeyAlgorithm::Ed25519 => a.key == b.key,
            KeyAlgorithm::Rsa => public_key_of(&a.key).map(|(key, _)| key) == public_key_of(&b.key).map(|(key, _)| key),
        }
}

/// Asks about all keys of a domain that have to be published, and draws the consequences.
pub async fn check(app: &Shared, name: &str) -> Result<(Document, Vec<KeySeen>), Problem> {
    let document = settings::find(app, Kind::Domain, name).await?;
    let record: DomainRecord = settings::record(&document)?;
    let no_resolver = |error: &String| Problem::new(axum::http::StatusCode::SERVICE_UNAVAILABLE, error.clone());
    let authority = app.domains.authority.as_ref().map_err(no_resolver)?;
    let wanted = record.keys.iter().filter(|key| key.is_wanted());
    let seen = futures_util::future::join_all(wanted.map(|key| look(authority, name, key))).await;
    let _one = app.settings.lock().await;
    // It may have changed meanwhile; what was seen is true all the same.
    let document = settings::find(app, Kind::Domain, name).await?;
    let before: DomainRecord = settings::record(&document)?;
    let document = conclude(app, document, &before, &seen).await?;
    Ok((document, seen))
}

/// Writes what was seen, and lets keys sign or retire whose time has come.
async fn conclude(
    app: &Shared,
    document: Document,
    before: &DomainRecord,
    seen: &[KeySeen],
) -> Result<Document, Problem> {
    let now_ms = app.clock.now_ms();
    let mut record = before.clone();
    for key in seen {
        record.seen(&key.selector, Checked { at_ms: now_ms, problems: key.problems.clone() });
    }
    let ready = record.ready(now_ms);
    if !ready.is_empty() {
        record.activate(&ready, now_ms, app.domains.expiry_s);
        tracing::info!(domain = %document.name, selectors = %ready.join(" "), "every name server has the keys: they sign from now on");
    }
    let mut retired = Vec::new();
    if record.keys.iter().any(|key| key.state == KeyState::Retiring) {
        retired = record.retire(now_ms, oldest_ms(app).await?);
    }
    let mut secret = SecretChange::Keep;
    if !retired.is_empty() {
        tracing::info!(domain = %document.name, selectors = %retired.join(" "), "keys are retired: their records can be removed");
        let mut secrets = read_secrets(&document)?;
        retired.iter().for_each(|selector| secrets.remove(selector));
        secret = SecretChange::Set(secrets.write());
    }
    app.domains.note(NoteOf::Dns, &format!("dkim {}", document.name), lost(&document.name, &record));
    settings::write(app, Kind::Domain, &document.name, &record, secret).await?;
    settings::find(app, Kind::Domain, &document.name).await
}

/// Keys that sign though their record is not everywhere.
fn lost(domain: &str, record: &DomainRecord) -> Vec<String> {
    let active = record.active().filter_map(|key| Some((key, key.checked.as_ref()?)));
    active
        .filter(|(_, checked)| !checked.problems.is_empty())
        .map(|(key, checked)| {
            let name = key_name(&key.selector, domain);
            format!(
                "Mail of {domain} is signed with {name}, which receivers may not find: {}",
                checked.problems.join("; ")
            )
        })
        .collect()
}

/// The private keys of a domain.
pub fn read_secrets(document: &Document) -> Result<Secrets, Problem> {
    Secrets::read(document.secret.as_ref()).map_err(|error| {
        tracing::error!(domain = %document.name, %error, "the keys of a domain cannot be read");
        Problem::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    })
}

/// When the oldest message that is still here was accepted.
async fn oldest_ms(app: &Shared) -> Result<Option<i64>, Problem> {
    let everything = Selector { all: true, ..Selector::default() };
    let oldest = app.store.recipients(everything, None, 1).await?;
    Ok(oldest.first().map(|recipient| recipient.id.message.created_ms()))
}

/// Checks by itself until the server stops.
pub async fn run(app: Shared, closing: CancellationToken) {
    loop {
        if let Err(problem) = round(&app).await {
            tracing::warn!(error = %problem.detail, "the keys of domains were not checked");
        }
        tokio::select! {
            () = app.domains.wake.notified() => {}
            () = tokio::time::sleep(ROUND) => {}
            () = closing.cancelled() => return,
        }
    }
}

async fn round(app: &Shared) -> Result<(), Problem> {
    use futures_util::StreamExt as _;
    let now_ms = app.clock.now_ms();
    let due: Vec<String> = app
        .store
        .documents(Kind::Domain)
        .await?
        .into_iter()
        .filter(|one| is_due(one, now_ms))
        .map(|one| one.name)
        .collect();
    futures_util::stream::iter(due)
        .for_each_concurrent(AT_ONCE, async |name| {
            if let Err(problem) = check(app, &name).await {
                tracing::warn!(domain = %name, error = %problem.detail, "the keys of a domain were not checked");
            }
        })
        .await;
    Ok(())
}

fn is_due(document: &Document, now_ms: i64) -> bool {
    let Ok(record) = settings::record::<DomainRecord>(document) else { return false };
    let waits = |key: &KeyRecord| key.when_published;
    let late = |key: &KeyRecord| key.checked.as_ref().is_none_or(|checked| checked.at_ms + EVERY_MS <= now_ms);
    record.keys.iter().filter(|key| key.is_wanted()).any(|key| waits(key) || late(key))
}

/// The configuration's resolver for questions to authoritative servers.
pub fn authority(config: &crate::config::Config) -> Result<Authority, String> {
    let settings = net::ResolverSettings {
        servers: config.dns_servers.clone(),
        timeout: config.dns_timeout,
        ..net::ResolverSettings::default()
    };
    let resolver = net::Resolver::new(settings).map_err(|error| error.to_string())?;
    Ok(Authority::new(resolver, config.dns_timeout.min(Duration::from_secs(5))))
}

/// Shared by the job and the handlers.
pub fn of(config: &crate::config::Config) -> Arc<Domains> {
    Arc::new(Domains::new(authority(config), config.expiry.as_secs()))
}

#[cfg(test)]
#[path = "domains_tests.rs"]
mod tests;
