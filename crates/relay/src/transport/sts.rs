//! MTA-STS policies that were learnt (RFC 8461 §5.1): fetched when first needed, kept until their age is over and across
//! restarts, renewed in the background when the record's id changes or they grow old.
//!
//! A policy once learnt holds until it expires, whatever becomes of record and file: who can suppress these cannot take
//! the protection away. Bounded by number and by the longest age, a year.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use net::Net;
use net::https::Request;
use net::sts::{StsError, StsRecord};
use parking_lot::Mutex;
use proto::policy::sts::StsPolicy;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{TransportConfig, file};

/// Policies remembered.
const MOST: usize = 10_000;
/// A policy this old is fetched again while it is in use, milliseconds.
const OLD_MS: i64 = 86_400_000;
/// How long a fetch that failed is not repeated (RFC 8461 §3.3), milliseconds.
const FAILED_MS: i64 = 300_000;
/// How soon what was learnt is on disk.
const WRITE_EVERY: Duration = Duration::from_secs(5);
/// The file in the data directory.
const FILE: &str = "mta-sts.json";

/// A policy with its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Learnt {
    id: String,
    policy: StsPolicy,
    fetched_ms: i64,
}

impl Learnt {
    fn until_ms(&self) -> i64 {
        self.fetched_ms.saturating_add(i64::try_from(self.policy.max_age).unwrap_or(0).saturating_mul(1_000))
    }

    /// Valid now. A clock that was set back does not make a policy last longer.
    fn is_live(&self, now_ms: i64) -> bool {
        self.until_ms() > now_ms && self.fetched_ms <= now_ms + OLD_MS
    }
}

/// What is known.
pub(crate) struct Policies {
    net: Net,
    config: TransportConfig,
    known: Mutex<HashMap<Arc<str>, Learnt>>,
    /// Fetches that failed, and until when they are not repeated; with why.
    failed: Mutex<HashMap<Arc<str>, (i64, StsError)>>,
    fetching: Mutex<HashSet<Arc<str>>>,
    changed: Notify,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl Policies {
    /// Reads what an earlier run learnt.
    pub(crate) fn open(
        net: Net,
        config: TransportConfig,
        tasks: TaskTracker,
        stopping: CancellationToken,
    ) -> Arc<Self> {
        let now_ms = net.clock.now_ms();
        let mut known: HashMap<Arc<str>, Learnt> = match &config.directory {
            Some(directory) => file::read::<HashMap<String, Learnt>>(&directory.join(FILE))
                .into_iter()
                .map(|(d, l)| (d.into(), l))
                .collect(),
            None => HashMap::new(),
        };
        known.retain(|_, learnt| learnt.is_live(now_ms));
        Arc::new(Self {
            net,
            config,
            known: Mutex::new(known),
            failed: Mutex::default(),
            fetching: Mutex::default(),
            changed: Notify::new(),
            tasks,
            stopping,
        })
    }

    /// The policy that holds for a domain now. May fetch it; bounded by the settings' limits.
    pub(crate) async fn find(self: &Arc<Self>, domain: &Arc<str>) -> Option<StsPolicy> {
        // No domain is an address literal (RFC 8461 §3.1).
        if domain.starts_with('[') {
            return None;
        }
        let record = net::sts::record(&self.net.resolver, domain).await;
        let now_ms = self.net.clock.now_ms();
        let learnt = self.known.lock().get(domain).filter(|learnt| learnt.is_live(now_ms)).cloned();
        match (record, learnt) {
            (StsRecord::Id(id), Some(learnt)) => {
                if learnt.id != id || now_ms - learnt.fetched_ms > OLD_MS {
                    self.renew(domain.clone(), id);
                }
                Some(learnt.policy)
            }
            (StsRecord::Id(id), None) => self.fetch(domain, id).await,
            (StsRecord::Absent | StsRecord::Unknown, learnt) => learnt.map(|learnt| learnt.policy),
        }
    }

    /// Why the policy of a domain that has a record could not be had lately.
    pub(crate) fn failure(&self, domain: &str) -> Option<StsError> {
        let now_ms = self.net.clock.now_ms();
        self.failed.lock().get(domain).filter(|(until, _)| *until > now_ms).map(|(_, error)| error.clone())
    }

    fn renew(self: &Arc<Self>, domain: Arc<str>, id: String) {
        if !self.fetching.lock().insert(domain.clone()) {
            return;
        }
        let this = self.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                _ = this.fetch(&domain, id) => {}
                () = this.stopping.cancelled() => {}
            }
            this.fetching.lock().remove(&domain);
        });
    }

    async fn fetch(&self, domain: &Arc<str>, id: String) -> Option<StsPolicy> {
        if self.failure(domain).is_some() {
            return None;
        }
        let port = self.config.policy_port;
        let private = self.config.policy_from_private;
        let peer = move |ip| (private || net::address::is_public(ip)).then(|| std::net::SocketAddr::new(ip, port));
        let request = Request { host: "", path: "", limit: self.config.policy_limit, peer: &peer };
        let result = net::sts::fetch(&self.net, domain, request).await;
        let now_ms = self.net.clock.now_ms();
        match result {
            Ok(policy) => {
                self.learn(domain.clone(), Learnt { id, policy: policy.clone(), fetched_ms: now_ms }, now_ms);
                Some(policy)
            }
            Err(error) => {
                tracing::warn!(%domain, %error, "the MTA-STS policy cannot be fetched");
                let mut failed = self.failed.lock();
                if failed.len() >= MOST {
                    failed.clear();
                }
                failed.insert(domain.clone(), (now_ms + FAILED_MS, error));
                None
            }
        }
    }

    fn learn(&self, domain: Arc<str>, learnt: Learnt, now_ms: i64) {
        let mut known = self.known.lock();
        if known.len() >= MOST && !known.contains_key(&domain) {
            known.retain(|_, learnt| learnt.is_live(now_ms));
            let first = known.iter().min_by_key(|(_, learnt)| learnt.until_ms()).map(|(domain, _)| domain.clone());
            if let Some(first) = first.filter(|_| known.len() >= MOST) {
                known.remove(&first);
            }
        }
        tracing::info!(%domain, mode = ?learnt.policy.mode, id = learnt.id, "MTA-STS policy learnt");
        known.insert(domain, learnt);
        self.changed.notify_one();
    }

    /// Keeps the file up to date until the relay stops.
    pub(crate) async fn keep(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.changed.notified() => {}
                () = self.stopping.cancelled() => break,
            }
            tokio::select! {
                () = tokio::time::sleep(WRITE_EVERY) => {}
                () = self.stopping.cancelled() => {}
            }
            self.write().await;
        }
        self.write().await;
    }

    async fn write(&self) {
        let Some(directory) = &self.config.directory else { return };
        let path = directory.join(FILE);
        let known: HashMap<String, Learnt> =
            self.known.lock().iter().map(|(domain, learnt)| (domain.to_string(), learnt.clone())).collect();
        let written = tokio::task::spawn_blocking(move || file::write(&path, &known)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "MTA-STS policies cannot be kept for the next start");
        }
    }
}
