//! Domains we sign for. Private keys go in, or are made here, and never come out.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use proto::policy::dkim::key_name;
use relay::domain::{Checked, DomainRecord, KeyKind, KeyRecord, KeyState, NewKey, Secrets, is_selector};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::settings::{Document, Kind, SecretChange};

use super::settings;
use crate::cluster;
use crate::http::auth::Admin;
use crate::http::json::{Json, Query};
use crate::http::problem::Problem;
use crate::http::views::{Names, Page};
use crate::http::{Shared, time};
use crate::serve::domains::{self, KeySeen, NoteOf};

/// Octets of a character string in a TXT record (RFC 1035 §3.3.14).
const STRING: usize = 255;

/// A domain.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DomainOut {
    /// Its name, A-labels.
    pub domain: String,
    /// It has keys that sign.
    pub signs: bool,
    /// Mail from domains below is signed too.
    pub subdomains: bool,
    /// Fields that are not signed.
    pub leave_out: Vec<String>,
    /// Its keys, oldest first.
    pub keys: Vec<KeyOut>,
    /// Last change, RFC 3339.
    pub updated: String,
}

/// A key without its private half.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeyOut {
    /// `s=`
    pub selector: String,
    /// `rsa` or `ed25519`.
    pub kind: KeyKind,
    /// Its size.
    pub bits: u32,
    /// Where it stands.
    pub state: KeyState,
    /// Since when, RFC 3339.
    pub since: String,
    /// RFC 3339.
    pub created: String,
    /// Signs as soon as every authoritative server has it.
    pub when_published: bool,
    /// While retiring: until when its record is needed at least, RFC 3339.
    pub needed_until: Option<String>,
    /// The record to publish.
    pub record: RecordOut,
    /// When the name servers were asked last, RFC 3339.
    pub checked: Option<String>,
    /// What they lack; empty with `checked`: every authoritative server has the record.
    pub problems: Vec<String>,
}

/// A record ready to paste.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecordOut {
    /// Its whole name.
    pub name: String,
    /// `TXT`
    #[serde(rename = "type")]
    pub kind: String,
    /// The value in one piece, for most forms on the web.
    pub value: String,
    /// The value as the DNS has it: strings of at most 255 octets.
    pub strings: Vec<String>,
    /// A line for a zone file.
    pub zone_line: String,
}

impl RecordOut {
    fn new(domain: &str, key: &KeyRecord) -> Self {
        let (name, value) = (key_name(&key.selector, domain), key.record());
        let strings: Vec<String> =
            value.as_bytes().chunks(STRING).map(|piece| String::from_utf8_lossy(piece).into_owned()).collect();
        let quoted: Vec<String> = strings.iter().map(|string| format!("\"{string}\"")).collect();
        let zone_line = format!("{name}. 3600 IN TXT ( {} )", quoted.join(" "));
        Self { name, kind: "TXT".into(), value, strings, zone_line }
    }
}

/// The view of a document.
pub fn view(document: &Document) -> Result<DomainOut, Problem> {
    let record: DomainRecord = settings::record(document)?;
    let key = |key: &KeyRecord| KeyOut {
        selector: key.selector.clone(),
        kind: key.kind,
        bits: key.bits,
        state: key.state,
        since: time::show(key.changed_ms),
        created: time::show(key.created_ms),
        when_published: key.when_published,
        needed_until: key.retire_ms.map(time::show),
        record: RecordOut::new(&document.name, key),
        checked: key.checked.as_ref().map(|checked| time::show(checked.at_ms)),
        problems: key.checked.as_ref().map(|checked| checked.problems.clone()).unwrap_or_default(),
    };
    Ok(DomainOut {
        domain: document.name.clone(),
        signs: record.active().next().is_some(),
        subdomains: record.subdomains,
        leave_out: record.leave_out.clone(),
        keys: record.keys.iter().map(key).collect(),
        updated: time::show(document.updated_ms),
    })
}

/// Which keys are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithms {
    /// One of each.
    #[default]
    Both,
    /// RSA alone.
    Rsa,
    /// Ed25519 alone: many receivers do not verify it yet.
    Ed25519,
}

impl Algorithms {
    fn kinds(self) -> &'static [KeyKind] {
        match self {
            Self::Both => &[KeyKind::Rsa, KeyKind::Ed25519],
            Self::Rsa => &[KeyKind::Rsa],
            Self::Ed25519 => &[KeyKind::Ed25519],
        }
    }
}

/// Keys to be added.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddIn {
    domain: String,
    selector: Option<String>,
    #[serde(default)]
    algorithm: Algorithms,
    bits: Option<u32>,
    private_key: Option<SecretString>,
    #[serde(default)]
    when_published: bool,
}

/// All domains.
pub async fn list(
    State(app): State<Shared>,
    _: Admin,
    Query(names): Query<Names>,
) -> Result<axum::Json<Page<DomainOut>>, Problem> {
    let all = app.store.documents(Kind::Domain).await?;
    Ok(axum::Json(names.page(all.iter().map(view).collect::<Result<_, _>>()?, |one| &one.domain)))
}

/// One domain.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<DomainOut>, Problem> {
    view(&settings::find(&app, Kind::Domain, &domain_name(&name)?).await?).map(axum::Json)
}

/// Adds keys to a domain, which need not be there yet.
pub async fn add(
    State(app): State<Shared>,
    _: Admin,
    Json(input): Json<AddIn>,
) -> Result<(StatusCode, axum::Json<DomainOut>), Problem> {
    let name = domain_name(&input.domain)?;
    let new = match &input.private_key {
        Some(pem) => {
            let key = NewKey::import(pem).map_err(|error| Problem::field("/private_key", error.to_string()))?;
            if input.selector.is_none() {
                return Err(Problem::field("/selector", "is missing: an imported key has one in the DNS already"));
            }
            vec![key]
        }
        None => generate(input.algorithm.kinds().to_vec(), input.bits).await?,
    };
    let _one = app.settings.lock().await;
    let document = match settings::find(&app, Kind::Domain, &name).await {
        Ok(document) => Some(document),
        Err(problem) if problem.status == StatusCode::NOT_FOUND.as_u16() => None,
        Err(problem) => return Err(problem),
    };
    let mut record: DomainRecord = document.as_ref().map(settings::record).transpose()?.unwrap_or_default();
    let mut secrets = document.as_ref().map_or_else(|| Ok(Secrets::default()), domains::read_secrets)?;
    put(&app, &mut record, &mut secrets, new, input.selector.as_deref(), input.when_published)?;
    let document = write(&app, &name, &record, SecretChange::Set(secrets.write())).await?;
    if !cluster::tell(&app, || cluster::Word::Keys) {
        app.domains.wake.notify_one();
    }
    Ok((StatusCode::CREATED, axum::Json(view(&document)?)))
}

/// Makes keys on a thread that may take its time.
async fn generate(kinds: Vec<KeyKind>, bits: Option<u32>) -> Result<Vec<NewKey>, Problem> {
    let make = move || kinds.into_iter().map(|kind| NewKey::generate(kind, bits.unwrap_or(2048))).collect();
    let made: Result<Vec<NewKey>, _> = tokio::task::spawn_blocking(make)
        .await
        .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "a key could not be made"))?;
    made.map_err(|error| Problem::field("/bits", error.to_string()))
}

/// Puts new keys into a record.
fn put(
    app: &Shared,
    record: &mut DomainRecord,
    secrets: &mut Secrets,
    new: Vec<NewKey>,
    selector: Option<&str>,
    when_published: bool,
) -> Result<(), Problem> {
    let now_ms = app.clock.now_ms();
    let wanted = selector.map(str::to_ascii_lowercase);
    if let Some(wanted) = &wanted
        && !is_selector(wanted)
    {
        return Err(Problem::field("/selector", "a selector has 1 to 63 letters, digits, inner hyphens and dots"));
    }
    let base = wanted.clone().unwrap_or_else(|| free_base(record, now_ms));
    let single = new.len() == 1 && wanted.is_some();
    for key in new {
        let selector = if single { base.clone() } else { format!("{base}-{}", key.kind.name()) };
        if record.key(&selector).is_some() {
            let detail = format!("there is already a key with the selector {selector}");
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
        secrets.add(&selector, &key);
        record.keys.push(KeyRecord {
            selector,
            kind: key.kind,
            bits: key.bits,
            public: key.public,
            state: KeyState::Prepared,
            created_ms: now_ms,
            changed_ms: now_ms,
            when_published,
            retire_ms: None,
            checked: None::<Checked>,
        });
    }
    match record.problems().first() {
        Some(problem) => Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, problem.clone())),
        None => Ok(()),
    }
}

/// `pb20261121`, or with a letter behind it if that day has keys already.
fn free_base(record: &DomainRecord, now_ms: i64) -> String {
    let day: String = time::show(now_ms).chars().filter(char::is_ascii_digit).take(8).collect();
    let is_free = |base: &String| {
        let used = |key: &KeyRecord| key.selector.strip_prefix(base.as_str()).is_some_and(|rest| rest.starts_with('-'));
        !record.keys.iter().any(used)
    };
    let letters = ('b'..='z').map(|letter| letter.to_string());
    let mut bases = std::iter::once(String::new()).chain(letters).map(|letter| format!("pb{day}{letter}"));
    bases.find(is_free).unwrap_or_else(|| format!("pb{now_ms}"))
}

/// Changes `subdomains` and `leave_out` by a merge patch (RFC 7396).
pub async fn change(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
    Json(patch): Json<serde_json::Map<String, Value>>,
) -> Result<axum::Json<DomainOut>, Problem> {
    if let Some(field) = patch.keys().find(|field| !matches!(field.as_str(), "subdomains" | "leave_out")) {
        return Err(Problem::field(format!("/{field}"), "cannot be changed here"));
    }
    let name = domain_name(&name)?;
    let _one = app.settings.lock().await;
    let mut body = settings::find(&app, Kind::Domain, &name).await?.body;
    settings::merge(&mut body, Value::Object(patch));
    let record: DomainRecord = settings::read(body)?;
    if let Some(problem) = record.problems().first() {
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, problem.clone()));
    }
    view(&write(&app, &name, &record, SecretChange::Keep).await?).map(axum::Json)
}

/// What a check found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CheckOut {
    /// The domain after it: keys that waited may sign now.
    pub domain: DomainOut,
    /// Every key that has to be published, and what each server said.
    pub keys: Vec<KeySeen>,
    /// All of them are at every authoritative server.
    pub published: bool,
}

/// Asks every authoritative server now.
pub async fn check(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<CheckOut>, Problem> {
    let (document, keys) = domains::check(&app, &domain_name(&name)?).await?;
    let published = keys.iter().all(|key| key.published);
    Ok(axum::Json(CheckOut { domain: view(&document)?, keys, published }))
}

/// Keys that shall sign.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivateIn {
    /// Which; empty: all that are prepared or published.
    #[serde(default)]
    selectors: Vec<String>,
    /// Whatever the name servers say.
    #[serde(default)]
    force: bool,
}

/// Lets keys sign, if every authoritative server has them.
pub async fn activate(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
    Json(input): Json<ActivateIn>,
) -> Result<axum::Json<DomainOut>, Problem> {
    let name = domain_name(&name)?;
    let seen = if input.force { Vec::new() } else { domains::check(&app, &name).await?.1 };
    let _one = app.settings.lock().await;
    let document = settings::find(&app, Kind::Domain, &name).await?;
    let mut record: DomainRecord = settings::record(&document)?;
    let chosen = chosen(&record, &input.selectors)?;
    let lacking: Vec<String> = seen
        .iter()
        .filter(|key| chosen.contains(&key.selector))
        .flat_map(|key| key.problems.iter().map(move |problem| format!("{}: {problem}", key.name)))
        .collect();
    if !input.force && !lacking.is_empty() {
        let detail = format!("mail would be signed with keys that receivers cannot find: {}", lacking.join("; "));
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    record.activate(&chosen, app.clock.now_ms(), app.domains.expiry_s);
    view(&write(&app, &name, &record, SecretChange::Keep).await?).map(axum::Json)
}

fn chosen(record: &DomainRecord, wanted: &[String]) -> Result<Vec<String>, Problem> {
    let usable = |key: &KeyRecord| key.state != KeyState::Retired;
    let conflict = |detail: String| Err(Problem::new(StatusCode::CONFLICT, detail));
    for selector in wanted {
        match record.key(selector) {
            None => return Err(Problem::field("/selectors", format!("there is no key {}", selector.escape_debug()))),
            Some(key) if !usable(key) => return conflict(format!("the key {selector} is retired")),
            Some(_) => {}
        }
    }
    if !wanted.is_empty() {
        return Ok(wanted.to_vec());
    }
    let waiting = |key: &&KeyRecord| matches!(key.state, KeyState::Prepared | KeyState::Published);
    let found: Vec<&KeyRecord> = record.keys.iter().filter(waiting).collect();
    // Two of a kind: one would replace the other at once.
    if let Some(twice) =
        found.iter().enumerate().find(|(n, key)| found[..*n].iter().any(|other| other.kind == key.kind))
    {
        return conflict(format!("there are several new keys of the kind {}: name the selectors", twice.1.kind.name()));
    }
    match found.is_empty() {
        true if record.active().next().is_some() => Ok(Vec::new()),
        true => conflict("there is no key to activate".into()),
        false => Ok(found.into_iter().map(|key| key.selector.clone()).collect()),
    }
}

/// How to rotate.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateIn {
    selector: Option<String>,
    bits: Option<u32>,
}

/// Prepares successors of the keys that sign. They take over as soon as every authoritative server has them.
pub async fn rotate(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
    Json(input): Json<RotateIn>,
) -> Result<(StatusCode, axum::Json<DomainOut>), Problem> {
    let name = domain_name(&name)?;
    let record: DomainRecord = settings::record(&settings::find(&app, Kind::Domain, &name).await?)?;
    let mut kinds: Vec<KeyKind> = record.active().map(|key| key.kind).collect();
    kinds.dedup();
    if kinds.is_empty() {
        return Err(Problem::new(StatusCode::CONFLICT, "no key of this domain signs: activate one instead"));
    }
    let new = generate(kinds, input.bits).await?;
    let _one = app.settings.lock().await;
    let document = settings::find(&app, Kind::Domain, &name).await?;
    let mut record: DomainRecord = settings::record(&document)?;
    if record.keys.iter().any(|key| key.when_published) {
        return Err(Problem::new(StatusCode::CONFLICT, "a rotation is under way: its keys wait for being published"));
    }
    let mut secrets = domains::read_secrets(&document)?;
    put(&app, &mut record, &mut secrets, new, input.selector.as_deref(), true)?;
    let document = write(&app, &name, &record, SecretChange::Set(secrets.write())).await?;
    if !cluster::tell(&app, || cluster::Word::Keys) {
        app.domains.wake.notify_one();
    }
    Ok((StatusCode::CREATED, axum::Json(view(&document)?)))
}

/// Whether to remove what is in use.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveQuery {
    #[serde(default)]
    force: bool,
}

/// Removes a domain with all its keys.
pub async fn remove(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
    Query(query): Query<RemoveQuery>,
) -> Result<StatusCode, Problem> {
    let name = domain_name(&name)?;
    let _one = app.settings.lock().await;
    let record: DomainRecord = settings::record(&settings::find(&app, Kind::Domain, &name).await?)?;
    if !query.force && record.active().next().is_some() {
        return Err(Problem::new(StatusCode::CONFLICT, format!("mail of {name} would not be signed any more")));
    }
    settings::remove(&app, Kind::Domain, &name).await?;
    app.domains.note(NoteOf::Dns, &format!("dkim {name}"), Vec::new());
    Ok(StatusCode::NO_CONTENT)
}

/// Removes one key.
pub async fn remove_key(
    State(app): State<Shared>,
    _: Admin,
    Path((name, selector)): Path<(String, String)>,
    Query(query): Query<RemoveQuery>,
) -> Result<StatusCode, Problem> {
    let name = domain_name(&name)?;
    let _one = app.settings.lock().await;
    let document = settings::find(&app, Kind::Domain, &name).await?;
    let mut record: DomainRecord = settings::record(&document)?;
    let state = record.key(&selector).ok_or_else(Problem::not_found)?.state;
    if !query.force && state == KeyState::Active {
        return Err(Problem::new(StatusCode::CONFLICT, "the key signs; rotate or activate another one first"));
    }
    record.keys.retain(|key| key.selector != selector);
    let mut secrets = domains::read_secrets(&document)?;
    secrets.remove(&selector);
    write(&app, &name, &record, SecretChange::Set(secrets.write())).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn write(app: &Shared, name: &str, record: &DomainRecord, secret: SecretChange) -> Result<Document, Problem> {
    settings::write(app, Kind::Domain, name, record, secret).await?;
    settings::find(app, Kind::Domain, name).await
}

/// A domain as it is stored: lower case, A-labels.
fn domain_name(text: &str) -> Result<String, Problem> {
    let text = text.trim().trim_end_matches('.');
    match proto::address::parse_domain(text) {
        Ok(name) if name.contains('.') && !name.starts_with('[') => Ok(name),
        _ => Err(Problem::field("/domain", "is not a domain")),
    }
}
