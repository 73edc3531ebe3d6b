//! "Why didn't it arrive?": what is known of an address, what to check next in order, and whom it touches.
//!
//! It reads what is stored, and sends nothing. A 250 of a next hop is an answer to "who has it", never to "is it in the inbox".

mod known;
mod out;
mod scope;
mod steps;

use std::collections::HashSet;

use proto::Address;
use store::{
    Event, EventKind, RecipientView, RecordKind, RecordQuery, SearchHit, SearchQuery, State, Suppression,
    SuppressionReason, Whom,
};

use crate::dossier::{self, FindingFullOut};
use crate::http::api::incidents::IncidentOut;
use crate::http::api::search::FoundOut;
use crate::http::api::streams;
use crate::http::problem::Problem;
use crate::http::{Shared, time};
use crate::incident::book;

pub use out::*;

/// Messages to the address that are looked at, and shown.
const OWN: u32 = 50;
const SHOWN: usize = 10;
/// Events of a message that are read, the newest.
const EVENTS: u32 = 200;
/// Addresses told of that look like this one.
const ALIKE: usize = 5;

/// All that was gathered of an address; [`known`], [`scope`] and [`steps`] make words of it.
struct Gathered {
    address: Address,
    /// The stream that was asked for, or that of the latest message.
    stream: Option<String>,
    /// Messages to it, newest first.
    own: Vec<SearchHit>,
    /// There are older ones.
    more: bool,
    /// The latest message's recipient, and its events.
    latest: Option<RecipientView>,
    events: Vec<Event>,
    suppressions: Vec<Suppression>,
    /// Streams that are off or paused, with the words for it.
    stopped: Vec<(String, String)>,
    /// Streams whose mail nobody can opt out of.
    unleavable: Vec<String>,
    /// What the latest failure means.
    finding: Option<FindingFullOut>,
    /// Addresses like it that mail was sent to.
    alike: Vec<String>,
}

/// Answers the question.
pub async fn of(app: &Shared, address: Address, stream: Option<String>) -> Result<WhyOut, Problem> {
    let gathered = gather(app, address, stream).await?;
    let state = gathered.state();
    let scope = scope::of(app, &gathered).await?;
    let rules = app.rules();
    let incidents = incidents(app, &gathered).await?;
    let known = known::of(&gathered, state);
    let next = steps::of(&gathered, state, &rules);
    let (title, meaning) = known::title(&gathered, state);
    Ok(WhyOut {
        address: gathered.address.to_string(),
        domain: gathered.address.domain().to_owned(),
        state,
        title,
        meaning,
        known,
        next,
        scope,
        finding: gathered.finding.clone(),
        messages: gathered.own.iter().take(SHOWN).map(|hit| FoundOut::of(hit, &rules)).collect(),
        more_messages: gathered.more || gathered.own.len() > SHOWN,
        suppressions: gathered.suppressions.iter().map(Into::into).collect(),
        incidents,
        alike: gathered.alike,
    })
}

async fn gather(app: &Shared, address: Address, stream: Option<String>) -> Result<Gathered, Problem> {
    let store = &app.store;
    let to = |recipient| SearchQuery { recipient: Some(recipient), stream: stream.clone(), ..SearchQuery::default() };
    let page = store.search(to(Whom::Address(address.to_string())), None, OWN).await?;
    let latest = page.hits.first().and_then(|hit| hit.recipients.first()).cloned();
    let mut events = match &latest {
        Some(latest) => store.events(latest.id.message, EVENTS).await?,
        None => Vec::new(),
    };
    if let Some(latest) = &latest {
        events.retain(|event| event.n.is_none_or(|n| n == latest.id.n));
    }
    let suppressions = store.suppressions_of(address.clone(), app.clock.now_ms()).await?;
    let (mut stopped, mut unleavable) = (Vec::new(), Vec::new());
    for known in streams::known(app).await? {
        if let Some(why) = known.record.stops() {
            stopped.push((known.name.to_string(), why));
        }
        if !known.record.opt_out {
            unleavable.push(known.name.to_string());
        }
    }
    let rules = app.rules();
    // The latest failure that was not followed by a delivery.
    let failed = events.iter().rev().find(|event| event.detail.cause.is_some() || event.kind == EventKind::Delivered);
    let finding = failed.and_then(|event| event.detail.cause.as_ref()).and_then(|cause| dossier::judged(&rules, cause));
    let alike = if page.hits.is_empty() { alike(app, &address).await? } else { Vec::new() };
    let stream = stream.or_else(|| latest.as_ref().map(|latest| latest.lane.stream.to_string()));
    Ok(Gathered {
        address,
        stream,
        more: page.next.is_some(),
        own: page.hits,
        latest,
        events,
        suppressions,
        stopped,
        unleavable,
        finding,
        alike,
    })
}

impl Gathered {
    /// What stops mail of its stream to the address; without a stream, what stops any mail to it.
    fn hits(&self) -> impl Iterator<Item = &Suppression> {
        let stream = self.stream.as_deref();
        let may_leave = stream.is_none_or(|stream| !self.unleavable.iter().any(|name| name == stream));
        self.suppressions.iter().filter(move |one| {
            let scope = one.scope.as_str();
            let of_stream = scope == "*" || stream.is_none_or(|stream| scope == stream);
            of_stream && (may_leave || one.reason != SuppressionReason::OptOut)
        })
    }

    /// Its stream, if that is off or paused, with the words for it.
    fn off(&self) -> Option<&(String, String)> {
        let stream = self.stream.as_deref()?;
        self.stopped.iter().find(|(name, _)| name == stream)
    }

    /// Whatever became of the latest mail: all that would stop the next one, in words.
    fn stops(&self) -> Vec<String> {
        let off = self.off().map(|(name, why)| format!("stream {name} is not on: {why}"));
        self.hits().map(relay::suppress::words).chain(off).collect()
    }

    /// What stops or became of the latest mail.
    fn state(&self) -> WhyState {
        let suppressed = self.hits().next().map(|one| match one.reason {
            SuppressionReason::OptOut => WhyState::OptedOut,
            _ => WhyState::Suppressed,
        });
        let off = self.off().is_some();
        let Some(latest) = &self.latest else {
            return suppressed.unwrap_or(if off { WhyState::StreamOff } else { WhyState::NotSubmitted });
        };
        match latest.state {
            State::Suppressed => suppressed.unwrap_or(if off { WhyState::StreamOff } else { WhyState::Suppressed }),
            State::Held if off => WhyState::StreamOff,
            State::Held => WhyState::Held,
            State::Waiting | State::Leased if latest.cause.is_some() => WhyState::Failing,
            State::Waiting | State::Leased => WhyState::Waiting,
            State::Delivered => WhyState::Accepted,
            State::Failed => WhyState::Failed,
            State::Expired => WhyState::Expired,
            State::Canceled => WhyState::Canceled,
            State::Bounced => WhyState::Bounced,
            State::Complained => WhyState::Complained,
        }
    }

    /// The attempt that was accepted.
    fn delivered(&self) -> Option<&Event> {
        self.events.iter().rev().find(|event| event.kind == EventKind::Delivered)
    }

    /// A report that came later.
    fn report(&self) -> Option<&Event> {
        self.events.iter().rev().find(|event| event.detail.report.is_some())
    }
}

/// Incidents that are open and touch it, and the one it is held for.
async fn incidents(app: &Shared, gathered: &Gathered) -> Result<Vec<IncidentOut>, Problem> {
    let Some(latest) = &gathered.latest else { return Ok(Vec::new()) };
    let view = match app.store.message(latest.id.message, 1_000).await {
        Ok(view) => view,
        Err(store::StoreError::NotFound) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = dossier::incidents_of(app, &view, &gathered.events).await?;
    let held = latest.why.as_deref().and_then(dossier::of_held);
    if let Some(id) = held
        && !found.iter().any(|one| one.id == crate::incident::model::name(id))
    {
        let query = RecordQuery::one(RecordKind::Incident, id);
        found.extend(book::list(&*app.store, query).await?.iter().map(|one| IncidentOut::of(app, one)));
    }
    Ok(found)
}

/// Addresses that mail was sent to and that are one or two slips of typing away.
async fn alike(app: &Shared, address: &Address) -> Result<Vec<String>, Problem> {
    let look = async |recipient| {
        let query = SearchQuery { recipient: Some(recipient), ..SearchQuery::default() };
        app.store.search(query, None, 200).await
    };
    let (of_domain, of_name) = tokio::try_join!(
        look(Whom::Domain(address.domain().to_owned())),
        look(Whom::Prefix(format!("{}@", address.local_part()))),
    )?;
    let mut seen = HashSet::new();
    let mut found: Vec<(usize, String)> = Vec::new();
    let wanted = address.as_str().to_lowercase();
    for view in of_domain.hits.iter().chain(&of_name.hits).flat_map(|hit| &hit.recipients) {
        let other = view.address.as_str().to_lowercase();
        if !seen.insert(other.clone()) || other == wanted {
            continue;
        }
        let slips = distance(&wanted, &other);
        if slips <= 2 {
            found.push((slips, view.address.to_string()));
        }
    }
    found.sort();
    Ok(found.into_iter().take(ALIKE).map(|(_, address)| address).collect())
}

/// Slips of typing between two texts: letters put in, left out, changed, or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 2 || a.len() > 320 {
        return usize::MAX;
    }
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// An event's time as people and programs read it.
fn at(event: &Event) -> String {
    time::show(event.at_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_typing_are_counted() {
        for (a, b, slips) in [
            ("ann@one.example", "ann@one.example", 0),
            ("ann@one.example", "anna@one.example", 1),
            ("ann@one.example", "nan@one.example", 1),
            ("ann@gmial.com", "ann@gmail.com", 1),
            ("ann@one.example", "bob@one.example", 3),
            ("a@x", "a@xyzzy", usize::MAX),
        ] {
            assert_eq!(distance(a, b), slips, "{a} {b}");
        }
    }
}
