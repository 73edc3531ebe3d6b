//! Watches the rates: counts deliveries as they are settled and bad news as the events tell, warns, pauses.
//!
//! What was counted is written down every few seconds, together with the event it reaches to: a crash forgets some seconds of
//! deliveries, and counts no bounce twice.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use store::{Attempt, Claim, Event, Outcome, RecipientView, StoreError};

use super::{Bad, Counts, Level, Line, Rate, RateOf, Rates, Series, What, pause};
use crate::shared::Shared;
use crate::suppress::follow;

/// How the names of our rows begin among what accounts have used: no account is called so.
pub(crate) const PREFIX: &str = "~rate/";
/// The event that the counts reach to.
const UPTO: &str = "~rate/";
/// How often counts are looked at and written down.
const EVERY: Duration = Duration::from_secs(2);
/// Hosts whose provider is remembered.
const HOSTS: usize = 10_000;

/// The rates with what is known around them.
#[derive(Debug)]
pub(crate) struct Watch {
    rates: Rates,
    /// Events up to this one are counted.
    upto: i64,
    unsaved_upto: bool,
    /// Providers of the hosts seen lately.
    providers: HashMap<Box<str>, Option<Arc<str>>>,
    /// What was said last of each rate that is not fine.
    said: HashMap<(RateOf, Arc<str>), Level>,
    /// Streams that were paused at the last look.
    paused: HashSet<Arc<str>>,
}

impl Watch {
    pub(crate) fn new(window_ms: i64) -> Self {
        Self {
            rates: Rates::new(window_ms),
            upto: 0,
            unsaved_upto: false,
            providers: HashMap::new(),
            said: HashMap::new(),
            paused: HashSet::new(),
        }
    }

    fn provider(&mut self, shared: &Shared, peer: &str) -> Option<Arc<str>> {
        let host = peer.split(' ').next().unwrap_or(peer);
        if let Some(known) = self.providers.get(host) {
            return known.clone();
        }
        if self.providers.len() >= HOSTS {
            self.providers.clear();
        }
        let found: Option<Arc<str>> = shared.rules().provider_of_host(host).map(|provider| provider.id.as_str().into());
        self.providers.insert(host.into(), found.clone());
        found
    }
}

/// Takes up what an earlier run wrote down; gives the rows that are not ours.
pub(crate) fn restore(shared: &Shared, rows: Vec<(String, String)>) -> Vec<(String, String)> {
    let (ours, others): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(name, _)| name.starts_with(PREFIX));
    let mut watch = shared.rates.lock();
    for (name, body) in ours {
        if name == UPTO {
            watch.upto = body.parse().unwrap_or(0);
            continue;
        }
        match serde_json::from_str::<(Series, Line)>(&body) {
            Ok((series, line)) => watch.rates.restore(series, line),
            Err(error) => tracing::warn!(%error, "counts of bounces and complaints cannot be read"),
        }
    }
    others
}

/// This node leads from now on: the counts are as the one before has left them.
pub(crate) async fn take_up(shared: &Shared) -> Result<(), StoreError> {
    let rows = shared.store.usage_under(PREFIX).await?;
    shared.rates.lock().rates = Rates::new(shared.config.rates.window_ms);
    restore(shared, rows);
    begin(shared).await
}

/// A settlement with recipients that a next hop took; gives that one's provider.
pub(crate) fn settled(
    shared: &Shared,
    claim: &Claim,
    attempt: Option<&Attempt>,
    outcomes: &[(u32, Outcome)],
) -> Option<Arc<str>> {
    let attempt = attempt?;
    let peer = attempt.peer.as_deref()?;
    let mut sent = 0;
    // Outcomes are in the order of the recipients.
    let mut recipients = claim.recipients.iter();
    for (n, outcome) in outcomes {
        if !matches!(outcome, Outcome::Delivered | Outcome::Relayed { .. } | Outcome::Noted { .. }) {
            continue;
        }
        sent += 1;
        if let Some(recipient) = recipients.find(|recipient| recipient.n == *n) {
            follow::delivered(shared, &recipient.address);
        }
    }
    if sent == 0 {
        return None;
    }
    let now_ms = shared.now_ms();
    let key = &claim.lane.key;
    let mut watch = shared.rates.lock();
    let provider = watch.provider(shared, peer);
    let series =
        Series { sender: key.sender.clone(), stream: key.stream.clone(), route: attempt.route.clone(), provider };
    match shared.leads() {
        true => watch.rates.add(&series, Counts { sent, ..Counts::default() }, now_ms, now_ms),
        false => shared.words.took(&series, sent),
    }
    series.provider
}

/// Recipients that next hops took from other nodes.
pub(crate) fn heard(shared: &Shared, took: Vec<(Series, u64)>) {
    let now_ms = shared.now_ms();
    let mut watch = shared.rates.lock();
    for (series, sent) in took {
        watch.rates.add(&series, Counts { sent, ..Counts::default() }, now_ms, now_ms);
    }
}

/// Counts what events say; `upto` is the last event that was looked at.
pub(crate) async fn count(
    shared: &Arc<Shared>,
    bad: &[(&Event, &RecipientView, Bad)],
    upto: i64,
) -> Result<(), StoreError> {
    let now_ms = shared.now_ms();
    {
        let mut watch = shared.rates.lock();
        let counted = watch.upto;
        for (event, view, bad) in bad.iter().filter(|(event, ..)| event.seq > counted) {
            let attempt = event.detail.attempt.as_ref();
            // As deliveries are counted: by the host. A later report knows who spoke.
            let provider = match attempt.and_then(|attempt| attempt.peer.as_deref()) {
                Some(peer) => watch.provider(shared, peer),
                None => event.detail.cause.as_ref().and_then(|cause| cause.provider.clone()),
            };
            let lane = &view.lane;
            let route = attempt.map_or_else(|| lane.route.clone(), |attempt| attempt.route.clone());
            let series = Series { sender: lane.sender.clone(), stream: lane.stream.clone(), route, provider };
            watch.rates.add(&series, bad.counts(), event.at_ms, now_ms);
        }
        watch.upto = watch.upto.max(upto);
        watch.unsaved_upto = true;
    }
    save(shared).await
}

/// Writes down what changed.
async fn save(shared: &Shared) -> Result<(), StoreError> {
    let now_ms = shared.now_ms();
    let (lines, upto) = {
        let mut watch = shared.rates.lock();
        let upto = std::mem::take(&mut watch.unsaved_upto).then_some(watch.upto);
        (watch.rates.unsaved(now_ms), upto)
    };
    let mut rows: Vec<(String, Option<String>)> =
        upto.map(|upto| (UPTO.to_owned(), Some(upto.to_string()))).into_iter().collect();
    for (series, line) in &lines {
        let body = line.as_ref().map(|line| serde_json::to_string(&(series, line))).transpose();
        let body = body.map_err(|error| StoreError::Internal(error.to_string()))?;
        rows.push((row_name(series), body));
    }
    if rows.is_empty() {
        return Ok(());
    }
    let saved = shared.store.save_usage(rows).await;
    if saved.is_err() {
        let mut watch = shared.rates.lock();
        watch.rates.not_saved(lines.into_iter().map(|(series, _)| series));
        watch.unsaved_upto |= upto.is_some();
    }
    saved.map(drop)
}

fn row_name(series: &Series) -> String {
    let provider = series.provider.as_deref().unwrap_or("");
    format!("{PREFIX}{}/{}/{}/{provider}", series.sender, series.stream, series.route)
}

/// Notes which streams are paused: one that is let go on from now on begins anew.
pub(crate) async fn begin(shared: &Shared) -> Result<(), StoreError> {
    let paused = pause::paused(&*shared.store).await?;
    shared.rates.lock().paused = paused;
    Ok(())
}

/// Looks at the rates until the relay stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = shared.stopping.cancelled() => break,
        }
        if !shared.leads() {
            shared.words.tell_took();
            continue;
        }
        if let Err(error) = save(&shared).await {
            tracing::warn!(%error, "counts of bounces and complaints are not written down");
        }
        if let Err(error) = look(&shared).await {
            tracing::warn!(%error, "streams are not watched for bounces and complaints");
        }
    }
}

/// Writes down what is left; after the last settlement.
pub(crate) async fn close(shared: &Shared) {
    if !shared.leads() {
        return;
    }
    if let Err(error) = save(shared).await {
        tracing::warn!(%error, "counts of bounces and complaints of the last seconds are not written down");
    }
}

/// The rates at this moment, the worst first.
pub(crate) fn overview(shared: &Shared) -> Vec<Rate> {
    shared.rates.lock().rates.overview(&shared.config.rates, shared.now_ms())
}

/// Says what has become worse or better, and pauses streams.
async fn look(shared: &Arc<Shared>) -> Result<(), StoreError> {
    let paused = pause::paused(&*shared.store).await?;
    {
        let mut watch = shared.rates.lock();
        // Somebody let a stream go on: what it did before would stop it again at once.
        let going: Vec<Arc<str>> = watch.paused.difference(&paused).cloned().collect();
        going.iter().for_each(|stream| watch.rates.forget(stream));
        watch.paused = paused;
    }
    let stops = judge(shared);
    if !shared.config.rates.pauses {
        return Ok(());
    }
    for (stream, why) in stops {
        if pause::pause(&*shared.store, &stream, &why, shared.now_ms()).await? {
            tracing::error!(%stream, "paused: {why}");
            shared.rates.lock().paused.insert(stream);
        }
    }
    Ok(())
}

/// Says what has become worse or better; gives the streams to stop, each once, with the reason.
fn judge(shared: &Shared) -> BTreeMap<Arc<str>, String> {
    let mut stops = BTreeMap::new();
    let now_ms = shared.now_ms();
    let mut watch = shared.rates.lock();
    let rates = watch.rates.overview(&shared.config.rates, now_ms);
    let mut said = std::mem::take(&mut watch.said);
    for rate in rates.iter().filter(|rate| rate.level() > Level::Fine) {
        let before = said.remove(&(rate.of, rate.name.clone()));
        watch.said.insert((rate.of, rate.name.clone()), rate.level());
        let words = words(rate);
        if before.is_none_or(|before| before < rate.level()) {
            tracing::warn!("{words}");
        }
        for (what, level) in [(What::Bounces, rate.bounces), (What::Complaints, rate.complaints)] {
            let Some(limits) = what.limits(&shared.config.rates).filter(|_| level == Level::Stop) else { continue };
            if let Some(stream) = watch.rates.culprit(rate, what, limits, now_ms) {
                stops.entry(stream).or_insert_with(|| words.clone());
            }
        }
    }
    for ((of, name), _) in said {
        tracing::info!(?of, %name, "bounces and complaints are below the thresholds again");
    }
    stops
}

/// What a rate says, for people.
fn words(rate: &Rate) -> String {
    let of = match rate.of {
        RateOf::Stream => "stream",
        RateOf::Sender => "sender",
        RateOf::Route => "route",
        RateOf::Provider => "provider",
    };
    let mut parts = Vec::new();
    if rate.bounces > Level::Fine {
        parts.push(format!("{} of {} recipients bounced ({:.2} %)", rate.bounced, rate.sent, rate.bounce_percent));
    }
    if rate.complaints > Level::Fine {
        let (count, percent) = (rate.complained, rate.complaint_percent);
        parts.push(format!("{count} complaints about {} messages ({percent:.2} %)", rate.sent));
    }
    format!("{of} {}: {}", rate.name, parts.join("; "))
}

/// A handle for the shared state.
pub(crate) fn new(window_ms: i64) -> Mutex<Watch> {
    Mutex::new(Watch::new(window_ms))
}
