//! Figures for those who watch: gathered from relay, store and process, written out for Prometheus and as JSON.
//!
//! Whoever looks costs the same, however many look: figures are gathered at most once a second, those that take a walk
//! through the queue at most every five. Nothing of it is waited for by mail.

pub mod access;
mod gather;
mod process;
mod records;
pub mod text;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use net::{Cidr, Clock};
use relay::metrics::Figure;
use tokio::sync::Mutex;

use crate::config::Config;
use crate::http::App;

/// For how long gathered figures are good enough, milliseconds.
const FRESH_MS: i64 = 1_000;
/// For how long those are that cost more.
const QUEUE_FRESH_MS: i64 = 5_000;
/// Longest wait for the store.
const PATIENCE: Duration = Duration::from_secs(5);

/// What all who look share.
#[derive(Debug)]
pub struct Desk {
    /// Networks that may look without a token, besides this machine.
    from: Vec<Cidr>,
    /// Where the token is that opens to everybody else.
    token_file: Option<PathBuf>,
    started_ms: i64,
    latest: Mutex<Latest>,
}

#[derive(Debug, Default)]
struct Latest {
    all: Option<Snapshot>,
    queue: Option<Snapshot>,
}

/// Figures at a moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// In the order they are shown.
    pub figures: Arc<[Figure]>,
}

impl Desk {
    /// For a configuration; the process is taken to start now.
    pub fn new(config: &Config, clock: &Clock) -> Self {
        Self {
            from: config.metrics.networks.clone(),
            token_file: config.metrics.token_file.clone(),
            started_ms: clock.now_ms(),
            latest: Mutex::default(),
        }
    }

    /// When the process started, Unix milliseconds.
    pub fn started_ms(&self) -> i64 {
        self.started_ms
    }
}

/// All figures, fresh enough. Several who ask at once share one gathering.
pub async fn snapshot(app: &App) -> Snapshot {
    let mut latest = app.metrics.latest.lock().await;
    let now_ms = app.clock.now_ms();
    if let Some(known) = latest.all.as_ref().filter(|known| (0..FRESH_MS).contains(&(now_ms - known.at_ms))) {
        return known.clone();
    }
    if !latest.queue.as_ref().is_some_and(|known| (0..QUEUE_FRESH_MS).contains(&(now_ms - known.at_ms))) {
        let figures = gather::queue(app, now_ms).await;
        latest.queue = Some(Snapshot { at_ms: now_ms, figures: figures.into() });
    }
    let mut figures = gather::now(app, now_ms);
    figures.extend(latest.queue.iter().flat_map(|known| known.figures.iter().cloned()));
    let all = Snapshot { at_ms: now_ms, figures: figures.into() };
    latest.all = Some(all.clone());
    all
}
