//! The forecast against the simulation: what it says at any moment is what happens then.

use super::world::{Host, World, limited};
use crate::schedule::forecast::{Forecast, Limit, Outlook, forecast};
use crate::schedule::limit::Rates;

/// What the forecast says of the world's only destination.
fn foresee(world: &mut World, today_ends_ms: i64) -> Forecast {
    foresee_with(world, today_ends_ms, 0)
}

/// The same with so many recipients more of each kind.
fn foresee_with(world: &mut World, today_ends_ms: i64, more: i64) -> Forecast {
    let now_ms = world.now_ms;
    let windows = world.schedule.meters_mut().account("account", now_ms);
    let per_message = world.schedule.meters_mut().per_message("account").unwrap_or(1.0);
    let memory = world.schedule.in_memory("host", now_ms).remove(0);
    let [urgent, ordinary] =
        world.waiting().map(|count| if count > 0 { count.saturating_add_signed(more).max(1) } else { 0 });
    forecast(&Outlook {
        now_ms,
        today_ends_ms,
        urgent,
        ordinary,
        per_message,
        windows: &windows,
        pace: memory.pace,
        not_before: memory.not_before,
    })
}

/// A destination with limits of all kinds, by chance.
fn by_chance(world: &mut World) -> (Rates, u32) {
    let dice = &mut world.dice;
    let mut some = |limit: u64, spread: u64| (dice.below(3) > 0).then(|| (limit + dice.below(spread)) as u32);
    let rates = Rates {
        per_second: some(2, 10),
        per_minute: some(20, 200),
        per_hour: some(500, 3_000),
        per_day: some(2_000, 8_000),
        recipients_per_day: some(2_000, 8_000),
        reserve_percent: some(0, 40).map(|percent| percent as u8),
    };
    (rates, 1 + world.dice.below(8) as u32)
}

#[test]
fn what_is_foreseen_is_what_happens() {
    for seed in 0..40 {
        let mut world = World::new(seed, 20_000, 100);
        let (rates, connections) = by_chance(&mut world);
        let takes_ms = 5 + world.dice.below(400);
        let rates_of = rates.clone();
        world.host(
            "host",
            Host { limits: limited(connections, rates), takes_ms, down: None, takes: 1_000, allows: None },
        );
        let (ordinary, urgent) = (world.lane("host", "app", 2), world.lane("host", "login", 0));
        let messages = 200 + world.dice.below(4_000);
        for _ in 0..messages {
            let lane = if world.dice.below(20) == 0 { &urgent } else { &ordinary };
            world.accept(lane, 1);
        }
        // At the start, when only the first messages have told how long one takes, and somewhere on the way.
        let moments = [2_000, 2_000 + world.dice.below(600_000) as i64];
        let mut said = Vec::new();
        for moment in moments {
            world.run(moment);
            if world.is_done() {
                break;
            }
            world.now_ms = world.now_ms.max(moment);
            // Whether the last message fits into a window makes a whole window's difference.
            said.push((world.now_ms, [-2, 0, 2].map(|more| foresee_with(&mut world, i64::MAX, more))));
        }
        world.run(i64::MAX / 2);
        world.check_all_delivered_once(messages as usize);
        for (at, [less, said, more]) in said {
            let context = format!("seed {seed}: {rates_of:?} {connections} connections of {takes_ms} ms, {said:?}");
            let urgent = (&urgent, [less.urgent_drains_ms, said.urgent_drains_ms, more.urgent_drains_ms]);
            let all = (&ordinary, [less.drains_ms, said.drains_ms, more.drains_ms]);
            for (lane, drains) in [urgent, all] {
                let [Some(from), Some(drains), Some(to)] = drains else { continue };
                let ended = world.finished_at(lane).max(at);
                let slack = 1_500 + (ended - at) * 3 / 100;
                let (from, to) = (from.min(drains) - slack, to.max(drains) + slack);
                assert!((from..=to).contains(&ended), "{drains} foreseen, {ended} is what happened; {context}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_today_is_counted_exactly_and_the_window_in_the_way_is_named() {
    for seed in 0..20 {
        let rates = Rates { per_minute: Some(25), recipients_per_day: Some(1_000), ..Rates::default() };
        let mut world = World::new(seed, 5_000, 100);
        let recipients = 1 + world.dice.below(4) as u32;
        let host = limited(3, rates);
        let limits = crate::schedule::Limits { recipients: 10, ..host };
        world.host("host", Host { limits, takes_ms: 300, down: None, takes: 1_000, allows: None });
        let lane = world.lane("host", "app", 2);
        for _ in 0..2_400 / recipients {
            world.accept(&lane, recipients);
        }
        world.run(60_000);
        let today_ends_ms = 20 * 3_600_000;
        let said = foresee(&mut world, today_ends_ms);
        assert_eq!(
            said.limited_by,
            Some(Limit::Window { limit: 1_000, unit: "recipients", per: "day" }),
            "seed {seed}"
        );
        assert_eq!(said.today_limited_by, said.limited_by);
        world.run(today_ends_ms);
        let left: u64 = world.waiting().iter().sum();
        assert!(
            said.not_today.abs_diff(left) <= u64::from(recipients),
            "seed {seed}: {} foreseen, {left} left",
            said.not_today
        );
        world.run(i64::MAX / 2);
        let (ended, drains) = (world.finished_at(&lane), said.drains_ms.unwrap());
        assert!((drains - ended).abs() <= ended * 2 / 100, "seed {seed}: {drains} foreseen, {ended} happened");
    }
}
