//! Failures of Pillarbox itself: the store, the queue, the clock, certificates of listeners, parts that ended by a defect.
//!
//! [`Look`] is asked every few seconds what is wrong now. What it says is pure but for the questions it asks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use net::ServerTls;
use net::tls::days_left;
use relay::Relay;
use relay::node::Load;
use relay::pulse::Part;
use store::{GroupBy, Node, Store, StoreError};

use crate::alert::Severity;
use crate::monitor::by_certificate;

/// Mail that has been due for so long, with nothing finished meanwhile, means that the queue stands still, milliseconds.
const STALLED_MS: i64 = 300_000;
/// A difference between wall clock and steady clock from one look to the next that is a leap, milliseconds.
const LEAP_MS: i64 = 60_000;
/// How long what is past is told of, a leap or a part that ended, milliseconds.
const TOLD_MS: i64 = 600_000;
/// So many days before its end the certificate of a listener is an incident; the scheduled check tells of it before.
pub const NEAR_DAYS: i64 = 7;
/// Begins the name of the part whose certificate it is; the listener's follows.
pub const CERTIFICATE_OF: &str = "certificate of ";
/// The reason of a part that ended by a defect.
pub const WORKER_DIED: &str = "worker_died";
/// What nodes that do not lead tell of themselves.
pub const OF_A_NODE: [&str; 3] = ["clock_jumped", WORKER_DIED, "certificate_expires"];
/// Defects kept.
const DEFECTS: usize = 20;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// Part of the program: the scope's name.
    pub part: String,
    /// Reason.
    pub reason: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What, for people.
    pub detail: String,
}

/// Looks, and remembers what it takes to see a leap or a standstill.
#[derive(Debug, Default)]
pub struct Look {
    /// Wall clock and steady clock at the last look, milliseconds.
    clocks: Option<(i64, i64)>,
    /// When the clock leapt last, in steady milliseconds, and by how much all leaps together since it was right.
    leap: Option<(i64, i64)>,
    /// When a part ended by a defect last, in steady milliseconds, and which did.
    defects: Option<(i64, Vec<String>)>,
    /// When there was progress last, in steady milliseconds, and what was counted then.
    progress: Option<(i64, u64)>,
}

impl Look {
    /// Compares the clocks; gives whether there was a leap just now.
    pub fn clocks(&mut self, wall_ms: i64, steady_ms: i64) -> bool {
        let before = self.clocks.replace((wall_ms, steady_ms));
        let Some((wall, steady)) = before else { return false };
        let leap = (wall_ms - wall) - (steady_ms - steady);
        if leap.abs() < LEAP_MS {
            return false;
        }
        let told = self.leap.filter(|(at, _)| steady_ms - at < TOLD_MS).map_or(0, |(_, sum)| sum);
        // Set back to where it was: it is right again.
        self.leap = Some((steady_ms, told + leap)).filter(|(_, sum)| sum.abs() >= LEAP_MS);
        true
    }

    /// A leap that is still worth telling.
    fn leapt(&self, steady_ms: i64) -> Option<Wrong> {
        let (_, leap) = self.leap.filter(|(at, _)| steady_ms - at < TOLD_MS)?;
        let (way, by) = if leap > 0 { ("forward", leap) } else { ("back", -leap) };
        Some(Wrong {
            part: "clock".into(),
            reason: "clock_jumped",
            severity: Severity::Warning,
            detail: format!("It went {way} by {} seconds.", by / 1_000),
        })
    }

    /// Parts that ended by a defect, and are still worth telling: `fresh` since the last look, and connections that ended so
    /// with mail in hand.
    fn ended(&mut self, fresh: Vec<String>, lost: u64, steady_ms: i64) -> Option<Wrong> {
        if !fresh.is_empty() {
            let (at, known) = self.defects.get_or_insert_with(|| (steady_ms, Vec::new()));
            *at = steady_ms;
            known.extend(fresh);
            known.truncate(DEFECTS);
        }
        if self.defects.as_ref().is_some_and(|(at, _)| lost == 0 && steady_ms - at >= TOLD_MS) {
            self.defects = None;
        }
        let (_, known) = self.defects.as_ref()?;
        let mut detail = known.join(" ");
        if lost > 0 {
            detail.push_str(" Mail that a connection had in hand then is tried again after a restart.");
        }
        Some(Wrong { part: "program".into(), reason: WORKER_DIED, severity: Severity::Critical, detail })
    }

    /// Whether the queue stands still: the earliest due time of mail that nothing keeps back, and how many attempts were
    /// finished so far.
    fn stalled(&mut self, earliest_due_ms: Option<i64>, finished: u64, wall_ms: i64, steady_ms: i64) -> Option<Wrong> {
        let due_ms = earliest_due_ms.filter(|due_ms| wall_ms - due_ms >= STALLED_MS);
        let (at, before) = *self.progress.get_or_insert((steady_ms, finished));
        if due_ms.is_none() || finished != before {
            self.progress = Some((steady_ms, finished));
            return None;
        }
        let since = crate::http::time::show(due_ms?);
        (steady_ms - at >= STALLED_MS).then(|| Wrong {
            part: "queue".into(),
            reason: "queue_stalled",
            severity: Severity::Critical,
            detail: format!("Mail has been due since {since}."),
        })
    }

    /// All that is wrong now.
    pub async fn look(
        &mut self,
        store: &dyn Store,
        relay: &Relay,
        certificates: &[(String, Arc<ServerTls>)],
        now_ms: i64,
        steady_ms: i64,
    ) -> Vec<Wrong> {
        let mut all: Vec<Wrong> = self.leapt(steady_ms).into_iter().collect();
        let unwell = store_state(store.ready());
        if unwell.is_none() {
            let mut due = due(store, relay).await.filter(|due_ms| now_ms - due_ms >= STALLED_MS);
            if due.is_some() && relay.has_company() {
                let nodes = store.nodes().await.unwrap_or_default();
                // It stands still when no node finishes anything.
                due = due.filter(|_| !others_work(&nodes, relay.node()));
            }
            // Somebody wants it to stand; pages and the age of the queue remind of it.
            let due = due.filter(|_| !relay.beat(Part::Claims).paused);
            all.extend(self.stalled(due, relay.settled(), now_ms, steady_ms));
        }
        all.extend(unwell);
        self.program(&mut all, relay, certificates, now_ms, steady_ms);
        all
    }

    /// What is wrong with this node alone, whatever store and queue do.
    pub fn look_at_node(
        &mut self,
        relay: &Relay,
        certificates: &[(String, Arc<ServerTls>)],
        now_ms: i64,
        steady_ms: i64,
    ) -> Vec<Wrong> {
        let mut all: Vec<Wrong> = self.leapt(steady_ms).into_iter().collect();
        self.program(&mut all, relay, certificates, now_ms, steady_ms);
        all
    }

    fn program(
        &mut self,
        all: &mut Vec<Wrong>,
        relay: &Relay,
        certificates: &[(String, Arc<ServerTls>)],
        now_ms: i64,
        steady_ms: i64,
    ) {
        let end = |(names, tls): (Vec<&str>, &Arc<ServerTls>)| certificate(&names, tls.not_after()?, now_ms / 1_000);
        all.extend(by_certificate(certificates).into_iter().filter_map(end));
        all.extend(self.ended(defects(), relay.lost_workers(), steady_ms));
    }
}

/// The earliest due time of mail that nothing keeps back.
async fn due(store: &dyn Store, relay: &Relay) -> Option<i64> {
    let counts = store.counts(GroupBy::Route, 1_000).await.ok()?;
    let kept_back = relay.kept_back();
    let free = counts.iter().filter(|count| count.pending > 0 && !kept_back.contains(&count.group));
    free.filter_map(|count| count.next_due_ms).min()
}

/// Whether a node beside this one has finished an attempt within the last minute, as it says every few seconds.
fn others_work(nodes: &[Node], own: &str) -> bool {
    let works = |node: &Node| {
        let load: Load = serde_json::from_value(node.load.clone()).unwrap_or_default();
        load.attempts_per_minute > 0
    };
    nodes.iter().any(|node| node.alive && node.name != own && works(node))
}

pub fn store_state(ready: Result<(), StoreError>) -> Option<Wrong> {
    let wrong = |reason, detail| Some(Wrong { part: "store".into(), reason, severity: Severity::Critical, detail });
    match ready {
        Ok(()) | Err(StoreError::Overloaded | StoreError::Closed) => None,
        Err(StoreError::Full) => wrong("store_full", String::new()),
        Err(StoreError::Away(why)) => wrong("store_away", format!("It says: {why}.")),
        Err(error) => wrong("store_unwell", format!("It says: {error}.")),
    }
}

/// One reason from the first warning to the end, so that it is one incident, which becomes worse.
fn certificate(listeners: &[&str], not_after_s: i64, now_s: i64) -> Option<Wrong> {
    let end = crate::http::time::show(not_after_s.saturating_mul(1_000));
    let (severity, ends) = match days_left(not_after_s, now_s) {
        _ if not_after_s <= now_s => (Severity::Critical, "ended"),
        days if days <= 1 => (Severity::Critical, "ends"),
        ..=NEAR_DAYS => (Severity::Problem, "ends"),
        _ => return None,
    };
    let detail = format!("Listener {}: it {ends} at {end}.", listeners.join(", "));
    Some(Wrong {
        part: format!("{CERTIFICATE_OF}{}", listeners.first()?),
        reason: "certificate_expires",
        severity,
        detail,
    })
}

static HAD_DEFECTS: AtomicBool = AtomicBool::new(false);
static DEFECTS_SEEN: OnceLock<Mutex<Vec<String>>> = OnceLock::new();

/// From now on parts that end by a defect are remembered, with the place in the program. Once for each process.
pub fn remember_defects() {
    if DEFECTS_SEEN.set(Mutex::default()).is_err() {
        return;
    }
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let place =
            info.location().map_or_else(|| "an unknown place".into(), |at| format!("{}:{}", at.file(), at.line()));
        let thread = std::thread::current().name().unwrap_or("without a name").to_owned();
        note_defect(format!("At {place}, thread {thread}."));
        before(info);
    }));
}

/// What is known of a part that ended by a defect.
pub fn note_defect(what: String) {
    if let Some(Ok(mut seen)) = DEFECTS_SEEN.get().map(Mutex::lock)
        && seen.len() < DEFECTS
    {
        HAD_DEFECTS.store(true, Ordering::Relaxed);
        seen.push(what);
    }
}

/// Something of this process ended by a defect.
pub fn had_defects() -> bool {
    HAD_DEFECTS.load(Ordering::Relaxed)
}

/// What ended by a defect since the last look.
fn defects() -> Vec<String> {
    let seen = DEFECTS_SEEN.get().and_then(|seen| seen.lock().ok());
    seen.map(|mut seen| std::mem::take(&mut *seen)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use store::Incarnation;

    use super::*;

    #[test]
    fn a_clock_that_leaps_is_told_of_for_a_while_and_until_it_is_set_back() {
        let mut look = Look::default();
        assert!(!look.clocks(1_000_000, 0));
        assert!(!look.clocks(1_005_000, 5_000));
        assert!(!look.clocks(1_010_500, 10_000), "half a second is no leap");
        assert!(look.clocks(1_010_500 + 3_605_000, 15_000));
        assert!(look.leapt(15_000).unwrap().detail.contains("forward by 3600"));
        assert!(!look.clocks(1_010_500 + 3_610_000, 20_000));
        assert!(look.leapt(15_000 + TOLD_MS).is_none());
        assert!(look.clocks(1_010_500 + 15_000, 25_000));
        assert!(look.leapt(25_000).is_none(), "it is where it was");
        assert!(look.clocks(1_010_500 + 20_000 - 7_200_000, 30_000));
        assert!(look.leapt(30_000).unwrap().detail.contains("back by 7200"));
    }

    #[test]
    fn the_queue_stands_still_when_mail_is_due_for_minutes_and_nothing_is_finished() {
        let mut look = Look::default();
        let due = Some(0);
        assert!(look.stalled(due, 7, STALLED_MS, 0).is_none(), "a first look says nothing");
        assert!(look.stalled(due, 7, STALLED_MS + 1, STALLED_MS - 1).is_none());
        let told = look.stalled(due, 7, 2 * STALLED_MS, STALLED_MS).unwrap();
        assert!(told.detail.contains("since 1970-01-01"), "{told:?}");
        assert!(look.stalled(due, 8, 2 * STALLED_MS, STALLED_MS + 1).is_none(), "something was finished");
        assert!(look.stalled(None, 8, 9 * STALLED_MS, 9 * STALLED_MS).is_none(), "nothing is due");
    }

    #[test]
    fn what_another_node_delivers_is_progress_and_what_a_dead_one_did_is_none() {
        let node = |name: &str, alive: bool, attempts: u64| Node {
            name: name.into(),
            run: Incarnation(1),
            version: String::new(),
            address: String::new(),
            started_ms: 0,
            silent_ms: 0,
            alive,
            leads: false,
            leases: 100,
            load: serde_json::to_value(Load { attempts_per_minute: attempts, ..Load::default() }).unwrap(),
        };
        // What this one does is counted by itself.
        assert!(!others_work(&[node("n1", true, 9), node("n2", true, 0), node("n3", false, 9)], "n1"));
        assert!(others_work(&[node("n1", true, 0), node("n2", true, 1)], "n1"));
        let silent = Node { load: serde_json::Value::Null, ..node("n2", true, 1) };
        assert!(!others_work(&[silent], "n1"), "it does not say");
    }

    #[test]
    fn the_store_and_certificates_say_what_is_wrong() {
        assert_eq!(store_state(Err(StoreError::Full)).unwrap().reason, "store_full");
        assert_eq!(store_state(Err(StoreError::Unhealthy("x".into()))).unwrap().reason, "store_unwell");
        assert_eq!(store_state(Err(StoreError::Away("x".into()))).unwrap().reason, "store_away");
        assert!(store_state(Ok(())).is_none() && store_state(Err(StoreError::Overloaded)).is_none());
        let (now, day) = (1_800_000_000, 86_400);
        let severity = |left_s| certificate(&["in", "too"], now + left_s, now).map(|one| (one.reason, one.severity));
        assert_eq!(severity(8 * day), None);
        for (left_s, expected) in [
            (8 * day - 1, Severity::Problem),
            (2 * day, Severity::Problem),
            (2 * day - 1, Severity::Critical),
            (1, Severity::Critical),
            (0, Severity::Critical),
            (-day, Severity::Critical),
        ] {
            assert_eq!(severity(left_s), Some(("certificate_expires", expected)), "{left_s}");
        }
    }

    #[test]
    fn what_ended_by_a_defect_is_told_until_it_was_calm_or_a_restart_takes_lost_mail_up() {
        let mut look = Look::default();
        assert_eq!(look.ended(Vec::new(), 0, 0), None);
        assert_eq!(look.ended(vec!["At a:1.".into()], 0, 1_000).unwrap().detail, "At a:1.");
        assert_eq!(look.ended(vec!["At b:2.".into()], 0, 300_000).unwrap().detail, "At a:1. At b:2.");
        assert!(look.ended(Vec::new(), 0, 300_000 + TOLD_MS - 1).is_some());
        assert_eq!(look.ended(Vec::new(), 0, 300_000 + TOLD_MS), None);
        assert!(look.ended(vec!["At c:3.".into()], 1, 2_000_000).unwrap().detail.contains("after a restart"));
        assert!(look.ended(Vec::new(), 1, 2_000_000 + 9 * TOLD_MS).is_some());
    }
}
