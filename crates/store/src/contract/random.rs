//! A story told by dice: any order of verbs leaves the store as a small model in memory says.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::scene::{HOUR, lane, refused};
use super::{Scene, Story};
use crate::model::*;

pub(super) const STORIES: &[Story] = &[("states and counts are exact after any operations", any_operations)];

/// What the model knows of a recipient.
#[derive(Debug, Clone)]
struct Known {
    domain: String,
    state: State,
    due: i64,
    attempts: u32,
}

type Model = BTreeMap<RecipientId, Known>;

fn any_operations(scene: &mut Scene) {
    for seed in 0..4 {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut model = Model::new();
        for _ in 0..150 {
            match dice.random_range(0..10) {
                0..=2 => accept(scene, &mut dice, &mut model),
                3..=4 => claim(scene, &mut dice, &mut model),
                5..=7 => settle(scene, &mut dice, &mut model),
                8 => operate(scene, &mut dice, &mut model),
                _ => scene.now += dice.random_range(0..HOUR),
            }
        }
        compare(scene, &model);
        for known in model.values_mut().filter(|known| known.state == State::Leased) {
            known.state = State::Waiting;
            known.due = scene.now;
        }
        scene.restart();
        compare(scene, &model);
        scene.sound();
        scene.operate(Selector { all: true, ..Selector::default() }, Operation::Cancel);
    }
}

fn accept(scene: &Scene, dice: &mut StdRng, model: &mut Model) {
    let to: Vec<String> =
        (0..dice.random_range(1..5)).map(|n| format!("r{n}@d{}.test", dice.random_range(0..4))).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let due = scene.now + dice.random_range(-HOUR..HOUR);
    let mut new = scene.message(&to, Start::Leased);
    for recipient in &mut new.recipients {
        recipient.lane = lane("mx", recipient.address.as_str(), dice.random_range(0..3));
        recipient.start = match dice.random_range(0..4) {
            0 => Start::Held("x".into()),
            1 => Start::Leased,
            2 => Start::Waiting(due),
            _ => Start::Suppressed("y".into()),
        };
    }
    for (n, recipient) in new.recipients.iter().enumerate() {
        let (state, due) = match recipient.start {
            Start::Waiting(due) => (State::Waiting, due),
            Start::Leased => (State::Leased, 0),
            Start::Held(_) => (State::Held, 0),
            Start::Suppressed(_) => (State::Suppressed, 0),
        };
        let id = RecipientId { message: new.message.id, n: n as u32 };
        let domain = recipient.address.domain().to_owned();
        model.insert(id, Known { domain, state, due, attempts: 0 });
    }
    scene.accept_this(new);
}

fn claim(scene: &Scene, dice: &mut StdRng, model: &mut Model) {
    let max = dice.random_range(1..20);
    let claimed = scene.claim_some(max, dice.random_range(1..20), &[]);
    let mut count = 0;
    for claim in &claimed.claims {
        for recipient in &claim.recipients {
            let known = model.get_mut(&RecipientId { message: claim.message.id, n: recipient.n }).unwrap();
            assert_eq!((known.state, known.attempts), (State::Waiting, recipient.attempts));
            assert!(known.due <= scene.now);
            known.state = State::Leased;
            count += 1;
        }
    }
    let last = claimed.claims.last().map_or(0, |claim| claim.recipients.len() as u32);
    assert!(count < max + last.max(1));
    let next = model.values().filter(|known| known.state == State::Waiting).map(|known| known.due).min();
    assert_eq!(claimed.next_due_ms, next);
}

fn settle(scene: &Scene, dice: &mut StdRng, model: &mut Model) {
    let ids: Vec<RecipientId> = model.keys().copied().collect();
    if ids.is_empty() {
        return;
    }
    let id = ids[dice.random_range(0..ids.len())];
    let known = model.get_mut(&id).unwrap();
    let (outcome, state, due) = match dice.random_range(0..5) {
        0 => (Outcome::Delivered, State::Delivered, 0),
        1 => (Outcome::Failed { cause: refused() }, State::Failed, 0),
        2 => (Outcome::Held { why: "z".into() }, State::Held, 0),
        3 => (Outcome::Returned { due_ms: scene.now }, State::Waiting, scene.now),
        _ => {
            let until_ms = scene.now + dice.random_range(0..HOUR);
            (Outcome::Deferred { until_ms, cause: refused() }, State::Waiting, until_ms)
        }
    };
    let attempted = !matches!(outcome, Outcome::Returned { .. });
    let changed = scene.settle(id.message, id.n, outcome);
    assert_eq!(changed, u32::from(known.state == State::Leased));
    if changed == 1 {
        (known.state, known.due) = (state, due);
        known.attempts += u32::from(attempted);
    }
}

fn operate(scene: &Scene, dice: &mut StdRng, model: &mut Model) {
    let domain = format!("d{}.test", dice.random_range(0..4));
    // Without the leased ones: wishes have stories of their own.
    let (state, operation, to) = match dice.random_range(0..4) {
        0 => (State::Waiting, Operation::Hold("h".into()), State::Held),
        1 => (State::Held, Operation::Release, State::Waiting),
        2 => (State::Waiting, Operation::Retry, State::Waiting),
        _ => (State::Held, Operation::Cancel, State::Canceled),
    };
    let mut wanted = 0;
    for known in model.values_mut().filter(|known| known.domain == domain && known.state == state) {
        (known.state, known.due) = (to, scene.now);
        wanted += 1;
    }
    let selector = Selector { domain: Some(domain), state: Some(state), ..Selector::default() };
    assert_eq!(scene.operate(selector, operation), wanted);
}

fn compare(scene: &Scene, model: &Model) {
    for domain in 0..4 {
        let domain = format!("d{domain}.test");
        let count = |states: &[State]| {
            model.values().filter(|known| known.domain == domain && states.contains(&known.state)).count() as u64
        };
        let wanted = (count(&[State::Waiting, State::Leased]), count(&[State::Held]));
        assert_eq!(scene.count(&domain), wanted, "{domain}");
    }
    for (id, known) in model {
        let view = scene.view(id.message, id.n);
        assert_eq!((view.state, view.attempts), (known.state, known.attempts), "{id}");
        assert_eq!(view.due_ms, (known.state == State::Waiting).then_some(known.due), "{id}");
    }
}
