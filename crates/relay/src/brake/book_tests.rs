//! Stories of the book of brakes.

use proptest::prelude::*;

use super::*;

const SECOND: i64 = 1_000;

fn scope(text: &str) -> BrakeScope {
    text.parse().unwrap()
}

fn braked(text: &str) -> Book {
    let mut book = Book::default();
    let proof = scope(text).proof();
    assert_eq!(book.brake(7, scope(text), ("because", proof), Some(1), 0), Ok(Braking::New));
    book
}

/// What was let go until this time, of so many that wait.
fn let_go(book: &mut Book, waiting: &mut u64, now_ms: i64) -> u64 {
    let mut gone = 0;
    for (incident, most) in book.to_release(now_ms) {
        let got = most.min(*waiting);
        *waiting -= got;
        gone += got;
        book.released(incident, most, got, now_ms);
    }
    gone
}

#[test]
fn reasons_name_their_incident_and_an_operators_do_not() {
    assert_eq!(incident_of("incident i-17: the password"), Some(17));
    for other in ["incident i-17", "incident i-x: y", "incident i--3: y", "the incident i-17: y", ""] {
        assert_eq!(incident_of(other), None, "{other}");
    }
    assert!(!"incident i-171: x".starts_with(&prefix(17)));
}

#[test]
fn probes_pause_longer_and_longer_with_one_at_a_time() {
    let mut book = braked("credential:out");
    let (mut now, mut pauses) = (0, Vec::new());
    for _ in 0..6 {
        let next = book.next_ms(now).unwrap();
        pauses.push((next - now) / SECOND);
        assert_eq!(book.due(next - 1), []);
        assert_eq!(book.due(next), [(7, scope("credential:out"))]);
        assert_eq!(book.due(next + 900 * SECOND), [], "one is under way");
        assert_eq!(book.begin(&scope("credential:out")), None);
        now = next;
        book.probe_failed(7, &scope("credential:out"), now);
    }
    assert_eq!(pauses, [60, 120, 300, 900, 1_800, 1_800]);
}

#[test]
fn what_was_proven_goes_by_itself_when_nobody_says_so() {
    let mut book = braked("route:out");
    book.brake(7, scope("stream:news"), ("because", Proof::Message), None, 0).unwrap();
    for scope in [scope("route:out"), scope("stream:news")] {
        assert_eq!(book.begin(&scope), Some(7));
        assert_eq!(book.forgotten(i64::MAX), Vec::<i64>::new());
        assert!(book.probe_succeeded(7, &scope, 5_000));
    }
    assert_eq!(book.due(100 * SECOND), []);
    assert_eq!(book.next_ms(5_000), Some(5_000 + BY_ITSELF_MS));
    assert_eq!((book.forgotten(4_999 + BY_ITSELF_MS), book.forgotten(5_000 + BY_ITSELF_MS)), (vec![], vec![7]));
}

#[test]
fn a_release_starts_slowly_ends_with_the_last_and_sweeps_up_what_comes_late() {
    let mut book = braked("route:out");
    let mut waiting = 10_000;
    assert!(book.unbrake(7, Ramp::default(), 0) && !book.unbrake(7, Ramp::default(), 0));
    assert_eq!(let_go(&mut book, &mut waiting, 0), 1);
    assert_eq!(let_go(&mut book, &mut waiting, 1_000), 11);
    let mut now = 1_000;
    while matches!(book.get(7).unwrap().phase, Phase::Releasing { .. }) {
        now = book.next_ms(now).unwrap();
        let_go(&mut book, &mut waiting, now);
    }
    assert!(waiting == 0 && (20_000..30_000).contains(&now), "{now}");
    waiting = 1;
    while waiting > 0 {
        now = book.next_ms(now).unwrap();
        let_go(&mut book, &mut waiting, now);
    }
    assert!(now < 32_000, "{now}");
    assert_eq!(book.forget(now + DRAIN_MS), [7]);
    assert_eq!(book.next_ms(now), None);
}

#[test]
fn a_failure_while_mail_is_let_go_brakes_the_same_incident_again() {
    let mut book = braked("route:out");
    book.take_holds();
    assert_eq!(book.failed(|_| true, 10), None, "it is on");
    book.unbrake(7, Ramp::default(), 1_000);
    assert_eq!(book.failed(|scope| scope.route() == Some("other"), 2_000), None);
    assert_eq!(book.failed(|scope| scope.route() == Some("out"), 2_000), Some((7, scope("route:out"))));
    let again = book.get(7).unwrap();
    assert_eq!((again.phase, again.orders[0].failures, again.orders[0].next_ms), (Phase::On, 1, 22_000));
    assert_eq!(book.take_holds().len(), 1);
    assert_eq!(book.to_release(3_000), []);
}

#[test]
fn a_changed_route_is_probed_at_once_and_a_settled_one_is_not() {
    let mut book = braked("route:out");
    assert_eq!(book.changed(|_| Some(1), 5_000), []);
    book.due(10_000);
    book.probe_failed(7, &scope("route:out"), 10_000);
    assert_eq!(book.changed(|_| Some(2), 11_000), [(7, scope("route:out"))]);
    assert_eq!(book.due(11_000), [(7, scope("route:out"))]);
}

#[test]
fn what_was_written_down_goes_on_where_it_was() {
    let mut book = braked("credential:out");
    book.due(60_000);
    book.probe_failed(7, &scope("credential:out"), 60_000);
    let [(7, saved)] = &book.unsaved()[..] else { panic!("to be written down") };
    assert_eq!(book.unsaved(), []);
    let text = serde_json::to_string(saved).unwrap();
    let mut next = Book::default();
    next.restore(7, serde_json::from_str(&text).unwrap());
    assert_eq!(next.take_holds().len(), 1);
    assert_eq!((next.due(179_999), next.due(180_000)), (vec![], vec![(7, scope("credential:out"))]));
}

#[test]
fn brakes_are_bounded() {
    let mut book = Book::default();
    let mut put = |incident, name: String| book.brake(incident, scope(&name), ("x\r\ny", Proof::Connect), None, 0);
    for n in 0..MOST_INCIDENTS as i64 {
        assert_eq!(put(n, "route:a".into()), Ok(Braking::New));
    }
    assert_eq!(put(-1, "route:a".into()), Err(TooMany));
    for n in 1..MOST_SCOPES {
        assert_eq!(put(0, format!("route:{n}")), Ok(Braking::New));
    }
    assert_eq!(put(0, "route:more".into()), Err(TooMany));
    assert_eq!(put(0, "route:a".into()), Ok(Braking::Known));
    assert_eq!(book.get(0).unwrap().held_why(0), "incident i-0: x  y");
}

#[derive(Debug, Clone)]
enum Step {
    Brake,
    Unbrake,
    Fail,
    Probe(bool),
    Change,
    Arrive(u64),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<(Step, i64)>> {
    let step = prop_oneof![
        Just(Step::Brake),
        Just(Step::Unbrake),
        Just(Step::Fail),
        any::<bool>().prop_map(Step::Probe),
        Just(Step::Change),
        (1..50_u64).prop_map(Step::Arrive),
        Just(Step::Restart),
    ];
    prop::collection::vec((step, 0..40_000_i64), 1..200)
}

proptest! {
    /// Whatever happens in whatever order: nothing goes while a brake is on, probes stay as rare as their pauses, and once
    /// all is well everything held goes in the end.
    #[test]
    fn held_mail_goes_only_when_it_may_and_always_in_the_end(steps in steps()) {
        let (mut book, target) = (braked("credential:out"), scope("credential:out"));
        let (mut now, mut held, mut version) = (0_i64, 0_u64, 1_i64);
        // Each restart forgets what was proven, and each change makes it worth a try.
        let (mut probes, mut occasions) = (0_i64, 0_i64);
        for (step, passed) in steps {
            now += passed;
            let on = book.get(7).is_some_and(|braked| braked.phase == Phase::On);
            match step {
                Step::Brake => drop(book.brake(7, target.clone(), ("because", Proof::SignIn), Some(version), now)),
                Step::Unbrake => drop(book.unbrake(7, Ramp::default(), now)),
                Step::Fail => drop(book.failed(|_| true, now)),
                Step::Probe(well) => {
                    for (incident, scope) in book.due(now) {
                        probes += 1;
                        if well {
                            book.probe_succeeded(incident, &scope, now);
                        } else {
                            book.probe_failed(incident, &scope, now);
                        }
                    }
                }
                Step::Change => {
                    (version, occasions) = (version + 1, occasions + 1);
                    book.changed(|_| Some(version), now);
                }
                Step::Arrive(some) => held += if on { some } else { 0 },
                Step::Restart => {
                    occasions += 1;
                    let saved: Vec<_> = book.all().map(|(id, braked)| (id, braked.clone())).collect();
                    book = Book::default();
                    for (id, braked) in saved {
                        let text = serde_json::to_string(&braked).unwrap();
                        book.restore(id, serde_json::from_str(&text).unwrap());
                    }
                    book.changed(|_| Some(version), now);
                }
            }
            if book.get(7).is_some_and(|braked| braked.phase == Phase::On) {
                prop_assert!(book.to_release(now).is_empty());
            }
            let_go(&mut book, &mut held, now);
            book.forget(now);
        }
        prop_assert!(probes <= 1 + occasions + now / 60_000, "{probes} probes in {now} ms");
        // All is well from now on.
        for _ in 0..10_000 {
            for (incident, scope) in book.due(now) {
                book.probe_succeeded(incident, &scope, now);
            }
            for incident in book.forgotten(now) {
                book.unbrake(incident, Ramp::default(), now);
            }
            let_go(&mut book, &mut held, now);
            book.forget(now);
            let Some(next) = book.next_ms(now) else { break };
            now = next.max(now + 1);
        }
        prop_assert_eq!(held, 0);
    }
}
