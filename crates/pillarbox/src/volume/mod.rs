//! Watches how much comes in: a sender or a stream that sends far more than it uses to, and clients that cannot sign in.
//!
//! The detector is `relay::incident::volume`, pure; here it gets what came every few seconds, what it learned is kept as
//! records, and what it notices becomes an alert and, where the sender wants it, a pause.

mod keep;
pub mod pause;
mod signins;
mod words;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use relay::incident::intake::CameIn;
use relay::incident::volume::{Came, Count, Spike, Volume, VolumeNews};
use relay::sender::OnPause;
use tokio_util::sync::CancellationToken;

use crate::cluster;
use crate::http::Shared;

/// How often is looked.
const EVERY: Duration = Duration::from_secs(5);
/// How often what was learned is written down.
const KEEP_EVERY_MS: i64 = 300_000;
/// Senders and streams that are watched, in all.
const MOST: usize = 2_000;
/// Without mail for so long it is forgotten.
const FORGOTTEN_MS: i64 = 120 * 86_400_000;
/// Looks whose clients and domains are told with an alert: about 5 minutes.
const LATELY: usize = 60;

/// Whose volume.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// A sender's.
    Sender(String),
    /// A stream's.
    Stream(String),
}

impl Whose {
    /// `sender` or `stream`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sender(_) => "sender",
            Self::Stream(_) => "stream",
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        match self {
            Self::Sender(name) | Self::Stream(name) => name,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once('/')?;
        match kind {
            "sender" => Some(Self::Sender(name.to_owned())),
            "stream" => Some(Self::Stream(name.to_owned())),
            _ => None,
        }
    }

    /// What makes its alert one and the same.
    pub fn key(&self) -> String {
        format!("volume:{}:{}", self.kind(), self.name())
    }

    fn of_key(key: &str) -> Option<Self> {
        Self::parse(&key.strip_prefix("volume:")?.replacen(':', "/", 1))
    }
}

impl std::fmt::Display for Whose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind(), self.name())
    }
}

/// One that is watched.
#[derive(Debug, Clone, Default)]
struct Line {
    volume: Volume,
    /// The last looks, newest last.
    lately: VecDeque<CameIn>,
    /// When mail came last, Unix milliseconds.
    last_ms: i64,
    spike: Option<Spike>,
    silent_ms: Option<i64>,
    /// Its record.
    record: Option<i64>,
}

/// All that are watched.
#[derive(Debug, Default)]
pub struct Volumes {
    lines: Mutex<BTreeMap<Whose, Line>>,
    /// What came in on other nodes.
    elsewhere: Mutex<BTreeMap<Whose, CameIn>>,
    /// Records of those whom senders wrote to, by sender.
    sets: Mutex<HashMap<String, i64>>,
}

/// One of them at a moment.
#[derive(Debug, Clone)]
pub struct State {
    /// Whose volume.
    pub whose: Whose,
    /// It is in its first week.
    pub learning: bool,
    /// Recipients of the last 5 minutes.
    pub lately: u64,
    /// More than this in 5 minutes would be told.
    pub limit: u64,
    /// Most in 5 minutes in the busiest hour of the week.
    pub busiest: u64,
    /// What stands out now.
    pub spike: Option<Spike>,
    /// Nothing comes, where something always came, since; Unix milliseconds.
    pub silent_ms: Option<i64>,
}

impl Volumes {
    /// All that are watched, senders first.
    pub fn overview(&self, now_ms: i64) -> Vec<State> {
        let lines = self.lines.lock();
        let state = |(whose, line): (&Whose, &Line)| {
            let (lately, limit) = line.volume.burst(now_ms);
            let busiest = line.volume.week(Count::Recipients).iter().copied().fold(0.0, f32::max);
            State {
                whose: whose.clone(),
                learning: line.volume.is_learning(),
                lately,
                limit,
                busiest: busiest as u64,
                spike: line.spike,
                silent_ms: line.silent_ms,
            }
        };
        lines.iter().map(state).collect()
    }

    /// What stood out was somebody else's doing: nothing of it is learned.
    pub fn was_bad(&self, whose: &Whose) {
        if let Some(line) = self.lines.lock().get_mut(whose) {
            line.volume.was_bad();
            line.spike = None;
        }
    }

    /// What came in on another node.
    pub fn heard(&self, came: BTreeMap<String, CameIn>) {
        let mut elsewhere = self.elsewhere.lock();
        for (name, came) in came {
            let Some(whose) = Whose::parse(&name) else { continue };
            if elsewhere.len() < MOST || elsewhere.contains_key(&whose) {
                merge(elsewhere.entry(whose).or_default(), &came);
            }
        }
    }

    /// Adds what came; gives what is worth telling.
    fn push(&self, mut came: BTreeMap<Whose, CameIn>, now_ms: i64) -> Vec<Told> {
        let mut lines = self.lines.lock();
        for whose in came.keys() {
            if lines.len() < MOST && !lines.contains_key(whose) {
                lines.insert(whose.clone(), Line::default());
            }
        }
        let mut told = Vec::new();
        for (whose, line) in lines.iter_mut() {
            let came_in = came.remove(whose).unwrap_or_default();
            let news = line.take(came_in, now_ms);
            told.extend(news.into_iter().map(|news| Told { whose: whose.clone(), news, lately: line.together() }));
        }
        told
    }
}

impl Line {
    fn take(&mut self, came_in: CameIn, now_ms: i64) -> Vec<VolumeNews> {
        let came: Came = came_in.came;
        if came.recipients > 0 {
            self.last_ms = now_ms;
            self.silent_ms = None;
        }
        if self.lately.len() >= LATELY {
            self.lately.pop_front();
        }
        self.lately.push_back(came_in);
        let news = self.volume.push(now_ms, came);
        for one in &news {
            match one {
                VolumeNews::Spike(spike) => self.spike = Some(*spike),
                VolumeNews::Calm { .. } => self.spike = None,
                VolumeNews::Silent { at_ms, .. } => self.silent_ms = Some(*at_ms),
            }
        }
        news
    }

    /// The last minutes in one.
    fn together(&self) -> CameIn {
        let mut all = CameIn::default();
        for one in &self.lately {
            merge(&mut all, one);
        }
        all.from.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        all.to.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        all
    }
}

fn merge(all: &mut CameIn, one: &CameIn) {
    all.came.recipients = all.came.recipients.saturating_add(one.came.recipients);
    all.came.new = all.came.new.saturating_add(one.came.new);
    all.messages = all.messages.saturating_add(one.messages);
    for (name, n) in &one.from {
        add(&mut all.from, name, *n);
    }
    for (name, n) in &one.to {
        add(&mut all.to, name, *n);
    }
}

fn add<T: Clone + PartialEq>(list: &mut Vec<(T, u32)>, name: &T, n: u32) {
    match list.iter().position(|(known, _)| known == name) {
        Some(at) => list[at].1 += n,
        None => list.push((name.clone(), n)),
    }
}

/// News with what came in the last minutes.
#[derive(Debug)]
struct Told {
    whose: Whose,
    news: VolumeNews,
    lately: CameIn,
}

/// Watches until the server stops.
pub async fn run(app: Shared, closing: CancellationToken) {
    let Some(relay) = app.relay.clone() else { return };
    if let Err(error) = keep::restore(&app, &relay).await {
        tracing::warn!(%error, "what was learned of volumes cannot be read: it is learned anew");
    }
    let mut term = relay.term();
    if term.is_some() {
        forgotten(&app).await;
    }
    let mut sign_ins = signins::Watch::default();
    let mut kept_ms = app.clock.now_ms();
    loop {
        let now_ms = app.clock.now_ms();
        let counted = relay.intake().take();
        let senders = counted.senders.into_iter().map(|(name, came)| (Whose::Sender(name.to_string()), came));
        let streams = counted.streams.into_iter().map(|(name, came)| (Whose::Stream(name.to_string()), came));
        let mut came: BTreeMap<Whose, CameIn> = senders.chain(streams).collect();
        let before = std::mem::replace(&mut term, relay.term());
        if term.is_some() && term != before {
            // What others learned meanwhile.
            app.volumes.lines.lock().clear();
            if let Err(error) = keep::restore(&app, &relay).await {
                tracing::warn!(%error, "what was learned of volumes cannot be read: it is learned anew");
            }
            forgotten(&app).await;
        }
        let mut news = false;
        if term.is_some() {
            for (whose, more) in std::mem::take(&mut *app.volumes.elsewhere.lock()) {
                merge(came.entry(whose).or_default(), &more);
            }
            let told = app.volumes.push(came, now_ms);
            news = told.iter().any(|told| !matches!(told.news, VolumeNews::Silent { .. }));
            tell(&app, told).await;
        } else if !came.is_empty() {
            let named = || came.iter().map(|(whose, came)| (whose.to_string(), came.clone())).collect();
            cluster::tell(&app, || cluster::Word::Came(named()));
        }
        sign_ins.look(&app.alerts, &relay.failed_sign_ins(), term, now_ms).await;
        let last = closing.is_cancelled();
        // An alarm that began or ended is written down at once, as its alert is.
        if term.is_some() && (last || news || now_ms - kept_ms >= KEEP_EVERY_MS) {
            kept_ms = now_ms;
            if let Err(error) = keep::keep(&app, &relay, now_ms).await {
                tracing::warn!(%error, "what was learned of volumes cannot be written down");
            }
        }
        if last {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = closing.cancelled() => {}
        }
    }
}

/// Ends alerts whose alarm nobody remembers: whoever raised them was killed before it was written down, and no calm would come.
async fn forgotten(app: &Shared) {
    for raised in app.alerts.raised().await {
        let key = &raised.entry.alert.key;
        let Some(whose) = Whose::of_key(key) else { continue };
        let alarmed = app.volumes.lines.lock().get(&whose).is_some_and(|line| line.volume.is_alarmed());
        // That of a paused sender ends when it goes on.
        if !alarmed && !matches!(&whose, Whose::Sender(name) if pause::is_paused(app, name)) {
            let why = "it was not written down before the server was killed; if it goes on it is told anew";
            app.alerts.resolve(key, why).await;
        }
    }
}

async fn tell(app: &Shared, told: Vec<Told>) {
    // A stream that is above the usual because of one of its senders needs no alert of its own.
    let sender_alarmed =
        app.volumes.lines.lock().iter().any(|(whose, line)| matches!(whose, Whose::Sender(_)) && line.spike.is_some());
    for Told { whose, news, lately } in told {
        match (news, &whose) {
            (VolumeNews::Spike(_), Whose::Stream(_)) if sender_alarmed => {}
            (VolumeNews::Spike(spike), _) => spiked(app, &whose, &spike, &lately).await,
            (VolumeNews::Calm { .. }, Whose::Sender(name)) if pause::is_paused(app, name) => {}
            (VolumeNews::Calm { .. }, _) => app.alerts.resolve(&whose.key(), "an hour of the usual volume").await,
            (VolumeNews::Silent { least, .. }, _) => {
                tracing::info!(%whose, least, "nothing came for three hours in which at least so many recipients always came");
            }
        }
    }
}

async fn spiked(app: &Shared, whose: &Whose, spike: &Spike, lately: &CameIn) {
    let wish = match whose {
        Whose::Sender(name) => pause::wish(app, name),
        Whose::Stream(_) => None,
    };
    let mut paused = None;
    if let (Some(on_pause), Whose::Sender(name)) = (wish, whose) {
        match pause::pause(app, name, words::short(spike), on_pause).await {
            Ok(()) => paused = Some(on_pause),
            Err(problem) => tracing::error!(sender = name, "the sender could not be paused: {}", problem.detail),
        }
    }
    app.alerts.raise(words::alert(whose, spike, lately, paused)).await;
}

/// How a setting is called.
pub fn on_pause_word(on_pause: OnPause) -> &'static str {
    match on_pause {
        OnPause::Hold => "hold",
        OnPause::Refuse => "refuse",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use net::Clock;
    use relay::incident::volume::Window;

    use super::*;

    #[tokio::test]
    async fn an_alert_whose_alarm_was_lost_ends_and_one_that_is_remembered_stays() {
        let place = tempfile::tempdir().unwrap();
        let text = format!("hostname = \"relay.test\"\ndata_dir = \"{}\"\n", place.path().join("data").display());
        let config = crate::config::read(None, &text, std::iter::empty()).unwrap().config;
        let clock = Clock::manual(1_790_000_000_000);
        let (store, _) = crate::serve::parts::store(&config, &clock).unwrap();
        let app: Shared = Arc::new(crate::serve::app(&config, store.clone(), None, None, clock));

        // Two weeks of a mail every ten minutes, then far more.
        let mut volume = Volume::default();
        for minute in (1..14 * 1_440).rev() {
            let recipients = u32::from(minute % 10 == 0);
            volume.push(app.clock.now_ms() - minute * 60_000, Came { recipients, new: 0 });
        }
        volume.push(app.clock.now_ms(), Came { recipients: 5_000, new: 0 });
        assert!(volume.is_alarmed());
        let spike = Spike {
            at_ms: app.clock.now_ms(),
            count: Count::Recipients,
            window: Window::Burst,
            seen: 5_000,
            usual: 1,
            limit: 60,
        };
        let whose = [Whose::Sender("kept".into()), Whose::Sender("lost".into()), Whose::Stream("lost".into())];
        for one in &whose {
            app.alerts.raise(words::alert(one, &spike, &CameIn::default(), None)).await;
        }
        app.volumes.lines.lock().insert(whose[0].clone(), Line { volume, ..Line::default() });
        app.volumes.lines.lock().insert(whose[1].clone(), Line::default());
        forgotten(&app).await;
        let raised = app.alerts.raised().await;
        let keys: Vec<&str> = raised.iter().map(|one| one.entry.alert.key.as_str()).collect();
        assert_eq!(keys, ["volume:sender:kept"]);
        store.close().await.unwrap();
    }
}
