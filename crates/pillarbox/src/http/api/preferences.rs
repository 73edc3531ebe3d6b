//! Preferences of recipients: which streams an address gets. Kept as suppressions with the reason `opt-out`.

use axum::extract::{Path, State};
use proto::Address;
use relay::stream::StreamRecord;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use store::{Evidence, Existing, Suppression, SuppressionReason, SuppressionScope};

use super::{settings, streams};
use crate::http::auth::Admin;
use crate::http::json::Json;
use crate::http::problem::{FieldError, Problem};
use crate::http::{Shared, time};

/// What an address wants of a stream, or of all mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// It gets its mail.
    In,
    /// It does not.
    Out,
}

/// The preferences of an address.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PreferencesOut {
    /// The address.
    pub address: String,
    /// What it wants in general.
    pub all: Wish,
    /// Streams that somebody said something of, or that it has left.
    pub streams: Vec<PreferenceOut>,
}

/// What an address wants of one stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PreferenceOut {
    /// The stream.
    pub stream: String,
    /// What it wants, or has to have.
    pub wish: Wish,
    /// Whether it may opt out.
    pub may_opt_out: bool,
    /// Since when it is out, RFC 3339.
    pub since: Option<String>,
    /// How it came to be out: `link`, `api` or what else was noted.
    pub by: Option<String>,
    /// Why it gets no mail of this stream in spite of its wish; see the suppressions.
    pub suppressed: Option<SuppressionReason>,
}

/// What changes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PreferencesIn {
    all: Option<Wish>,
    streams: BTreeMap<String, Wish>,
}

fn address(text: &str) -> Result<Address, Problem> {
    Address::parse(text).map_err(|error| Problem::field("/address", error.to_string()))
}

async fn preferences(app: &Shared, address: &Address) -> Result<PreferencesOut, Problem> {
    let all = app.store.suppressions_of(address.clone(), app.clock.now_ms()).await?;
    let of = |scope: &str| all.iter().find(|one| one.scope.as_str() == scope);
    let is_out = |one: &&Suppression| one.reason == SuppressionReason::OptOut;
    let general = of("*").filter(is_out);
    let mut names: BTreeMap<String, StreamRecord> = BTreeMap::new();
    for stream in streams::known(app).await? {
        names.insert(stream.name.to_string(), stream.record.clone());
    }
    for one in &all {
        if let SuppressionScope::Stream(name) = &one.scope {
            names.entry(name.to_string()).or_default();
        }
    }
    let out = |(name, record): (String, StreamRecord)| {
        let own = of(&name).filter(is_out).or(general).filter(|_| record.opt_out);
        let other = of(&name).or_else(|| of("*")).filter(|one| !is_out(one));
        PreferenceOut {
            wish: if own.is_some() { Wish::Out } else { Wish::In },
            may_opt_out: record.opt_out,
            since: own.map(|one| time::show(one.added_ms)),
            by: own.map(|one| one.evidence.source.clone().unwrap_or_else(|| one.who.clone())),
            suppressed: other.map(|one| one.reason),
            stream: name,
        }
    };
    Ok(PreferencesOut {
        address: address.to_string(),
        all: if general.is_some() { Wish::Out } else { Wish::In },
        streams: names.into_iter().map(out).collect(),
    })
}

/// What an address gets.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Path(text): Path<String>,
) -> Result<axum::Json<PreferencesOut>, Problem> {
    Ok(axum::Json(preferences(&app, &address(&text)?).await?))
}

/// Changes what it names, and nothing else.
pub async fn change(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Path(text): Path<String>,
    Json(body): Json<PreferencesIn>,
) -> Result<axum::Json<PreferencesOut>, Problem> {
    let address = address(&text)?;
    let known = streams::known(&app).await?;
    let mut wrong = Vec::new();
    for (name, wish) in &body.streams {
        let pointer = format!("/streams/{}", name.replace('~', "~0").replace('/', "~1"));
        let record = known.iter().find(|stream| *stream.name == **name).map(|stream| &stream.record);
        if settings::checked_name(name).is_err() {
            wrong.push(FieldError::new(pointer, "a stream's name has 1 to 64 characters of a-z 0-9 . _ -"));
        } else if *wish == Wish::Out && record.is_some_and(|record| !record.opt_out) {
            wrong.push(FieldError::new(pointer, "recipients cannot opt out of this stream"));
        }
    }
    if !wrong.is_empty() {
        return Err(Problem::fields(wrong));
    }
    let scopes = body.streams.iter().map(|(name, wish)| (SuppressionScope::Stream(name.as_str().into()), *wish));
    let all = body.all.map(|wish| (SuppressionScope::Global, wish));
    let wishes: Vec<_> = scopes.chain(all).collect();
    let who = caller.who();
    set(&app, &address, &wishes, Source { who: &who, source: "api" }).await?;
    Ok(axum::Json(preferences(&app, &address).await?))
}

/// Who expressed a wish, and by what way.
pub struct Source<'a> {
    /// For the log of suppressions.
    pub who: &'a str,
    /// `api`, `link`.
    pub source: &'static str,
}

/// Writes down what an address wants. Other reasons why it is suppressed stay.
pub async fn set(
    app: &Shared,
    address: &Address,
    wishes: &[(SuppressionScope, Wish)],
    by: Source<'_>,
) -> Result<(), Problem> {
    let now_ms = app.clock.now_ms();
    let known = app.store.suppressions_of(address.clone(), now_ms).await?;
    let of = |scope: &SuppressionScope| known.iter().find(|one| one.scope == *scope).map(|one| one.reason);
    let mut out = Vec::new();
    let mut back = Vec::new();
    for (scope, wish) in wishes {
        match (wish, of(scope)) {
            (Wish::Out, None) => out.push(Suppression {
                address: address.clone(),
                scope: scope.clone(),
                reason: SuppressionReason::OptOut,
                evidence: Evidence { at_ms: Some(now_ms), source: Some(by.source.into()), ..Evidence::default() },
                who: by.who.to_owned(),
                added_ms: now_ms,
                expires_ms: None,
            }),
            (Wish::In, Some(SuppressionReason::OptOut)) => back.push((address.clone(), Some(scope.clone()))),
            // What is suppressed for a graver reason gets nothing anyway; a wish for mail does not heal it.
            _ => {}
        }
    }
    if !out.is_empty() {
        match &app.relay {
            Some(relay) => relay.suppress(out, Existing::Replace).await?,
            None => app.store.suppress(out, Existing::Replace, now_ms).await?,
        };
    }
    if !back.is_empty() {
        app.store.unsuppress(back, by.who.to_owned(), Some("opted in".into()), now_ms).await?;
    }
    Ok(())
}
