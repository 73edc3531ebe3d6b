//! The brake of a route's sign-in: a credential that a server rejects is not tried again by every connection.
//!
//! Accounts are locked by repeated wrong passwords. Until a credential has been accepted, and again when that is a while
//! ago, one connection signs in and all others wait for what comes of it; otherwise a few do at a time. After a rejection
//! nobody does for a growing pause, then one probes. A changed route begins anew. Pure: callers tell the time.

use std::collections::HashMap;
use std::sync::Arc;

use proto::transcript::{Failure, Stage};
use serde::{Deserialize, Serialize};

/// Pauses after the first rejection, the second, and so on, milliseconds; the last one repeats.
const PAUSES_MS: [i64; 6] = [60_000, 120_000, 300_000, 900_000, 1_800_000, 1_800_000];
/// How long an accepted credential is trusted to be accepted again, milliseconds.
const PROOF_MS: i64 = 60_000;
/// Sign-ins at once with a credential that is trusted.
const AT_ONCE: u32 = 2;

/// What a connection that wants to sign in is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Leave {
    /// Go, and say what came of it: [`Brakes::accepted`], [`Brakes::rejected`] or [`Brakes::undecided`].
    Go,
    /// Others are trying: ask again when there are news.
    Queue,
    /// Not before this time, Unix milliseconds, for this reason.
    Wait(Hold),
}

/// Why nobody signs in, and until when.
#[derive(Debug, Clone, PartialEq)]
pub struct Hold {
    /// Unix milliseconds.
    pub until_ms: i64,
    /// What the credential was rejected with.
    pub failure: Failure,
}

/// A sign-in that is stopped, as status pages show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignInStatus {
    /// Route.
    pub route: String,
    /// Next probe, Unix milliseconds.
    pub until_ms: i64,
    /// Since when, Unix milliseconds.
    pub since_ms: i64,
    /// Rejections in a row.
    pub rejections: u32,
    /// The last one.
    pub failure: Failure,
}

#[derive(Debug, Default)]
struct Brake {
    /// Of the route's settings: what was learned of another version counts no more.
    version: i64,
    /// When the first of the rejections came.
    since_ms: i64,
    /// When the credential was last accepted.
    proven_ms: Option<i64>,
    /// Sign-ins under way.
    running: u32,
    /// Rejections in a row.
    rejections: u32,
    hold: Option<Hold>,
}

/// The brakes of all routes that sign in.
#[derive(Debug, Default)]
pub struct Brakes(HashMap<Arc<str>, Brake>);

impl Brakes {
    /// A connection wants to sign in.
    pub fn ask(&mut self, route: &Arc<str>, version: i64, now_ms: i64) -> Leave {
        let brake = self.of(route, version);
        if let Some(hold) = brake.hold.as_ref().filter(|hold| now_ms < hold.until_ms) {
            return Leave::Wait(hold.clone());
        }
        let trusted = brake.proven_ms.is_some_and(|at| (0..PROOF_MS).contains(&(now_ms - at)));
        if brake.running >= if trusted { AT_ONCE } else { 1 } {
            return Leave::Queue;
        }
        brake.running += 1;
        Leave::Go
    }

    /// The credential was accepted: gives whether a brake was on.
    pub fn accepted(&mut self, route: &Arc<str>, version: i64, now_ms: i64) -> bool {
        let Some(brake) = self.known(route, version) else { return false };
        brake.running = brake.running.saturating_sub(1);
        brake.proven_ms = Some(now_ms);
        brake.rejections = 0;
        brake.hold.take().is_some()
    }

    /// The credential was rejected: gives the pause. Rejections of sign-ins that ran beside each other count once.
    pub fn rejected(&mut self, route: &Arc<str>, version: i64, failure: &Failure, now_ms: i64) -> Hold {
        let brake = self.of(route, version);
        brake.running = brake.running.saturating_sub(1);
        brake.proven_ms = None;
        if let Some(hold) = brake.hold.as_ref().filter(|hold| now_ms < hold.until_ms) {
            return hold.clone();
        }
        if brake.rejections == 0 {
            brake.since_ms = now_ms;
        }
        let at = (brake.rejections as usize).min(PAUSES_MS.len() - 1);
        brake.rejections = brake.rejections.saturating_add(1);
        let hold = Hold { until_ms: now_ms + PAUSES_MS[at], failure: failure.clone() };
        brake.hold = Some(hold.clone());
        hold
    }

    /// A sign-in beside all others, without leave, was accepted: gives whether a brake was on.
    pub fn proven(&mut self, route: &Arc<str>, version: i64, now_ms: i64) -> bool {
        self.of(route, version).running += 1;
        self.accepted(route, version, now_ms)
    }

    /// A sign-in beside all others, without leave, was rejected.
    pub fn disproven(&mut self, route: &Arc<str>, version: i64, failure: &Failure, now_ms: i64) -> Hold {
        let brake = self.of(route, version);
        brake.running += 1;
        // It was a probe: what it found counts though nobody was to sign in now.
        if let Some(hold) = &mut brake.hold {
            hold.until_ms = hold.until_ms.min(now_ms);
        }
        self.rejected(route, version, failure, now_ms)
    }

    /// The sign-in ended before the server said anything about the credential.
    pub fn undecided(&mut self, route: &Arc<str>, version: i64) {
        if let Some(brake) = self.known(route, version) {
            brake.running = brake.running.saturating_sub(1);
        }
    }

    /// Whether a route's mail has to wait, and for what.
    pub fn hold(&self, route: &str, version: i64, now_ms: i64) -> Option<&Hold> {
        let brake = self.0.get(route).filter(|brake| brake.version == version)?;
        brake.hold.as_ref().filter(|hold| now_ms < hold.until_ms)
    }

    /// An operator says that it is worth a try: all pauses end, and one connection probes.
    pub fn release(&mut self, now_ms: i64) {
        for hold in self.0.values_mut().filter_map(|brake| brake.hold.as_mut()) {
            hold.until_ms = hold.until_ms.min(now_ms);
        }
    }

    /// The same for one route: nothing is known of its credential any more.
    pub fn release_of(&mut self, route: &str, now_ms: i64) {
        if let Some(hold) = self.0.get_mut(route).and_then(|brake| brake.hold.as_mut()) {
            hold.until_ms = hold.until_ms.min(now_ms);
        }
    }

    /// Settings changed: brakes of routes that are not `current` any more are forgotten. Gives those that were on.
    pub fn changed(&mut self, current: impl Fn(&str) -> Option<i64>) -> Vec<Arc<str>> {
        let mut freed = Vec::new();
        self.0.retain(|route, brake| {
            let same = current(route) == Some(brake.version);
            if !same && brake.hold.is_some() {
                freed.push(route.clone());
            }
            same
        });
        freed
    }

    /// The brakes that are on, by route.
    pub fn overview(&self) -> Vec<SignInStatus> {
        let mut all: Vec<_> = self
            .0
            .iter()
            .filter_map(|(route, brake)| {
                let hold = brake.hold.as_ref()?;
                Some(SignInStatus {
                    route: route.to_string(),
                    until_ms: hold.until_ms,
                    since_ms: brake.since_ms,
                    rejections: brake.rejections,
                    failure: hold.failure.clone(),
                })
            })
            .collect();
        all.sort_by(|a, b| a.route.cmp(&b.route));
        all
    }

    fn known(&mut self, route: &Arc<str>, version: i64) -> Option<&mut Brake> {
        self.0.get_mut(route).filter(|brake| brake.version == version)
    }

    fn of(&mut self, route: &Arc<str>, version: i64) -> &mut Brake {
        let brake = self.0.entry(route.clone()).or_default();
        if brake.version != version {
            *brake = Brake { version, ..Brake::default() };
        }
        brake
    }
}

/// Whether a failure says that the credential itself is not accepted: 5yz to AUTH (RFC 4954 §6), or no token.
///
/// Not so a server that cannot do the mechanism (504, 5.7.4): another credential would not help.
pub fn is_rejection(stage: Stage, failure: &Failure) -> bool {
    match failure {
        Failure::Refused(reply) => stage == Stage::Auth && reply.is_permanent() && reply.code != 504,
        Failure::TokenRefused { .. } => true,
        Failure::Api { .. } => crate::graph::wire::is_about_the_token(failure),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::smtp::reply::Reply;

    use super::*;

    const MINUTE: i64 = 60_000;

    fn wrong() -> Failure {
        Failure::Refused(Reply::new(535, "5.7.8 wrong"))
    }

    fn route() -> Arc<str> {
        "out".into()
    }

    #[test]
    fn one_connection_proves_a_credential_before_others_use_it() {
        let (mut brakes, route) = (Brakes::default(), route());
        assert_eq!(brakes.ask(&route, 1, 0), Leave::Go);
        assert_eq!(brakes.ask(&route, 1, 0), Leave::Queue);
        brakes.accepted(&route, 1, 10);
        for _ in 0..AT_ONCE {
            assert_eq!(brakes.ask(&route, 1, 20), Leave::Go);
        }
        assert_eq!(brakes.ask(&route, 1, 20), Leave::Queue, "a few at a time");
        for _ in 0..AT_ONCE {
            brakes.accepted(&route, 1, 30);
        }
        let later = 30 + PROOF_MS;
        assert_eq!(brakes.ask(&route, 1, later), Leave::Go);
        assert_eq!(brakes.ask(&route, 1, later), Leave::Queue, "the proof has grown old");
    }

    #[test]
    fn rejections_pause_for_1_2_5_15_and_30_minutes_with_one_probe_each() {
        let (mut brakes, route) = (Brakes::default(), route());
        let mut now = 0;
        for minutes in [1, 2, 5, 15, 30, 30, 30] {
            assert_eq!(brakes.ask(&route, 1, now), Leave::Go);
            assert_eq!(brakes.ask(&route, 1, now), Leave::Queue);
            let hold = brakes.rejected(&route, 1, &wrong(), now);
            assert_eq!(hold.until_ms, now + minutes * MINUTE);
            assert_eq!(brakes.ask(&route, 1, hold.until_ms - 1), Leave::Wait(hold.clone()));
            now = hold.until_ms;
        }
        assert_eq!(brakes.ask(&route, 1, now), Leave::Go);
        assert!(brakes.accepted(&route, 1, now));
        assert_eq!(brakes.overview(), []);
        assert_eq!(brakes.ask(&route, 1, now), Leave::Go);
        assert_eq!(brakes.rejected(&route, 1, &wrong(), now).until_ms, now + MINUTE, "the ladder begins anew");
    }

    #[test]
    fn a_probe_that_meets_a_broken_network_leaves_the_place_to_the_next_one() {
        let (mut brakes, route) = (Brakes::default(), route());
        assert_eq!(brakes.ask(&route, 1, 0), Leave::Go);
        brakes.undecided(&route, 1);
        assert_eq!(brakes.ask(&route, 1, 1), Leave::Go);
    }

    #[test]
    fn a_changed_route_is_free_at_once_and_old_news_do_not_concern_it() {
        let (mut brakes, route) = (Brakes::default(), route());
        assert_eq!(brakes.ask(&route, 1, 0), Leave::Go);
        brakes.rejected(&route, 1, &wrong(), 0);
        assert!(brakes.hold("out", 1, 1).is_some() && brakes.hold("out", 2, 1).is_none());
        assert_eq!(brakes.changed(|_| Some(1)), Vec::<Arc<str>>::new());
        assert_eq!(brakes.changed(|_| Some(2)), vec![route.clone()]);
        assert_eq!(brakes.ask(&route, 2, 1), Leave::Go);
        brakes.undecided(&route, 1);
        assert_eq!(brakes.ask(&route, 2, 1), Leave::Queue, "the old version's end is not the new one's");
    }

    #[test]
    fn an_operator_ends_the_pause_for_one_probe() {
        let (mut brakes, route) = (Brakes::default(), route());
        brakes.ask(&route, 1, 0);
        brakes.rejected(&route, 1, &wrong(), 0);
        brakes.release(5);
        assert_eq!(brakes.ask(&route, 1, 5), Leave::Go);
        assert_eq!(brakes.ask(&route, 1, 5), Leave::Queue);
        assert_eq!(brakes.rejected(&route, 1, &wrong(), 6).until_ms, 6 + 2 * MINUTE);
    }

    #[test]
    fn only_what_is_about_the_credential_brakes() {
        let refused = |code, text| Failure::Refused(Reply::new(code, text));
        for (failure, brakes) in [
            (refused(535, "5.7.8 no"), true),
            (refused(550, "5.7.1 no"), true),
            (refused(454, "4.7.0 later"), false),
            (refused(504, "5.5.4 unknown mechanism"), false),
            (Failure::Disconnected, false),
            (Failure::TokenRefused { error: "invalid_client".into(), description: String::new() }, true),
        ] {
            assert_eq!(is_rejection(Stage::Auth, &failure), brakes, "{failure:?}");
        }
        assert!(!is_rejection(Stage::Banner, &refused(554, "go away")));
    }

    proptest! {
        /// Any number of connections ask and end at any time while the password is wrong: sign-ins stay few.
        #[test]
        fn a_wrong_credential_is_tried_about_once_a_pause(steps in prop::collection::vec((0..4_u8, 0..30_000_i64), 1..400)) {
            let (mut brakes, route) = (Brakes::default(), route());
            let (mut now, mut running, mut tried) = (0, 0_u32, 0_i64);
            for (what, passed) in steps {
                now += passed;
                if what == 0 && running > 0 {
                    running -= 1;
                    brakes.rejected(&route, 7, &wrong(), now);
                } else if brakes.ask(&route, 7, now) == Leave::Go {
                    running += 1;
                    tried += 1;
                }
                prop_assert!(running <= 1);
            }
            prop_assert!(tried <= 2 + now / MINUTE, "{tried} in {now} ms");
        }
    }
}
