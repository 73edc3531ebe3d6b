//! Failures of Pillarbox itself on nodes that do not lead: each looks at itself and tells the one that leads, whose incidents
//! they become. What concerns all (the store, the queue) the leading node sees itself; what it could not write down before its
//! lead ended it tells the next one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use net::ServerTls;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::own::{self, Wrong};
use super::{manager, opening};
use crate::alert::Severity;
use crate::cluster;
use crate::http::Shared;

/// How often a node looks at itself.
const EVERY: Duration = Duration::from_secs(5);
/// What a node told holds for so long, milliseconds.
const HOLDS_MS: i64 = 15_000;
/// Nodes, and things of each, that are remembered.
const MOST: usize = 100;

/// Something that is wrong with a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct One {
    part: String,
    reason: String,
    severity: Severity,
    detail: String,
}

/// What a node sees of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Seen {
    node: String,
    wrong: Vec<One>,
}

/// What other nodes have told, and when, in steady milliseconds.
#[derive(Debug, Default)]
pub struct Elsewhere(Mutex<BTreeMap<String, (i64, Vec<Wrong>)>>);

impl Elsewhere {
    /// A node has told.
    pub fn heard(&self, seen: Seen, steady_ms: i64) {
        let mut known = self.0.lock();
        known.retain(|_, (at, _)| steady_ms - *at < HOLDS_MS);
        if known.len() < MOST || known.contains_key(&seen.node) {
            // A node of a later version may have reasons that we do not know.
            let wrong = seen.wrong.into_iter().take(MOST).filter_map(|one| {
                let reason = own::OF_A_NODE.into_iter().find(|known| *known == one.reason)?;
                Some(Wrong { part: one.part, reason, severity: one.severity, detail: one.detail })
            });
            known.insert(seen.node, (steady_ms, wrong.collect()));
        }
    }

    /// Adds what holds on others to what is wrong here: the same on several nodes is one thing.
    pub fn merge(&self, all: &mut Vec<Wrong>, steady_ms: i64) {
        let mut known = self.0.lock();
        known.retain(|_, (at, _)| steady_ms - *at < HOLDS_MS);
        for (node, (_, wrong)) in known.iter() {
            for one in wrong {
                let detail = format!("Node {node}: {}", one.detail);
                match all.iter_mut().find(|known| known.part == one.part && known.reason == one.reason) {
                    Some(same) => {
                        same.severity = same.severity.max(one.severity);
                        same.detail = format!("{} {detail}", same.detail).trim_start().to_owned();
                    }
                    None => all.push(Wrong { detail, ..one.clone() }),
                }
            }
        }
    }
}

/// Looks at this node while another leads, until the server stops.
pub async fn run(app: Shared, certificates: Vec<(String, Arc<ServerTls>)>, closing: CancellationToken) {
    let Some(relay) = app.relay.clone().filter(|relay| relay.has_company()) else { return };
    let led_last = relay.led_last();
    let mut turns = tokio::time::interval(EVERY);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        // At once for the first time: a leap is one from what was seen before.
        tokio::select! {
            _ = turns.tick() => {}
            () = closing.cancelled() => return,
        }
        if relay.leads() {
            continue;
        }
        if *led_last.borrow() {
            look_at_store(&app).await;
        } else {
            // What this node saw while it led, and the store could not keep.
            for body in app.incidents.hand_over() {
                if !cluster::tell(&app, || cluster::Word::Unkept(Box::new(body.clone()))) {
                    app.incidents.keep_later(body);
                }
            }
        }
        let steady_ms = i64::try_from(app.clock.mono_us() / 1_000).unwrap_or(i64::MAX);
        let wrong = {
            let mut look = app.incidents.look.lock().await;
            if look.clocks(app.clock.now_ms(), steady_ms) {
                relay.time_has_leapt();
            }
            look.look_at_node(&relay, &certificates, app.clock.now_ms(), steady_ms)
        };
        if !wrong.is_empty() {
            cluster::tell(&app, || cluster::Word::Wrong(seen(relay.node(), wrong)));
        }
    }
}

/// The lead has ended because nobody can ask the store who has it: this node goes on watching the store, and tells.
async fn look_at_store(app: &Shared) {
    let ready = app.store.ready();
    if let (Some(one), Err(error)) = (own::store_state(ready.clone()), ready) {
        let body = opening::own(&one.part, one.reason, one.severity, one.detail, app.clock.now_ms());
        manager::keep_for_later(app, body, &error).await;
    }
}

fn seen(node: &str, wrong: Vec<Wrong>) -> Seen {
    let one =
        |one: Wrong| One { part: one.part, reason: one.reason.to_owned(), severity: one.severity, detail: one.detail };
    Seen { node: node.to_owned(), wrong: wrong.into_iter().map(one).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(part: &str, severity: Severity) -> Wrong {
        Wrong { part: part.into(), reason: own::WORKER_DIED, severity, detail: format!("{part}.") }
    }

    #[test]
    fn what_is_wrong_on_several_nodes_is_one_thing_and_holds_as_long_as_it_is_told() {
        let elsewhere = Elsewhere::default();
        for node in ["n2", "n3"] {
            let told = seen(node, vec![wrong("program", Severity::Critical), wrong(node, Severity::Warning)]);
            let text = serde_json::to_string(&told).unwrap();
            elsewhere.heard(serde_json::from_str(&text).unwrap(), 1_000);
        }
        let later =
            One { part: "x".into(), reason: "later".into(), severity: Severity::Warning, detail: String::new() };
        elsewhere.heard(Seen { node: "n4".into(), wrong: vec![later] }, 1_000);
        let mut all = vec![wrong("program", Severity::Warning)];
        elsewhere.merge(&mut all, 2_000);
        let shown: Vec<_> = all.iter().map(|one| (one.part.as_str(), one.severity, one.detail.as_str())).collect();
        assert_eq!(
            shown,
            [
                ("program", Severity::Critical, "program. Node n2: program. Node n3: program."),
                ("n2", Severity::Warning, "Node n2: n2."),
                ("n3", Severity::Warning, "Node n3: n3."),
            ]
        );
        let mut all = Vec::new();
        elsewhere.merge(&mut all, 1_000 + HOLDS_MS);
        assert!(all.is_empty(), "{all:?}");
    }
}
