//! No window ever holds more than its limit, whatever happens in between.

use super::ring::{DAY_MS, WINDOWS};
use super::{Ahead, Meter, Rates, Room, URGENT};

/// Sends as fast as it may, one recipient each, each taking `takes_ms`; gives the times at which the next hop counted.
fn drain(rates: &Rates, priority: u8, takes_ms: i64, until_ms: i64, restart_every: usize) -> Vec<i64> {
    let mut meter = Meter::default();
    meter.set(rates);
    let (mut now_ms, mut counted) = (1_700_000_000_123_i64, Vec::new());
    let end = now_ms + until_ms;
    while now_ms < end {
        match meter.room(priority, now_ms) {
            Room::Open { .. } => {
                meter.hand_out(1);
                counted.push(now_ms + takes_ms / 2);
                if restart_every > 0 && counted.len() % restart_every == 0 {
                    // The process died: only what was written down is left, and that this message was sent is not.
                    let (saved, _) = meter.save(Ahead::Block, now_ms);
                    meter = Meter::restore(saved.unwrap(), now_ms);
                    meter.set(rates);
                } else {
                    now_ms += takes_ms;
                    meter.finish(1, 1, now_ms);
                }
            }
            Room::Full(at) => {
                assert!(at > now_ms, "a time to come");
                now_ms = at;
            }
            Room::Unwritten => {
                let (_, permission) = meter.save(Ahead::Block, now_ms);
                meter.saved(permission);
            }
        }
    }
    counted
}

fn most_in(counted: &[i64], span_ms: i64) -> usize {
    let mut from = 0;
    let mut most = 0;
    for (at, time) in counted.iter().enumerate() {
        while counted[from] <= time - span_ms {
            from += 1;
        }
        most = most.max(at + 1 - from);
    }
    most
}

fn only(window: usize, limit: u32) -> Rates {
    let mut rates = Rates::default();
    match window {
        0 => rates.per_second = Some(limit),
        1 => rates.per_minute = Some(limit),
        2 => rates.per_hour = Some(limit),
        3 => rates.per_day = Some(limit),
        _ => rates.recipients_per_day = Some(limit),
    }
    rates
}

#[test]
fn no_window_ever_holds_more_than_its_limit_and_each_is_used_nearly_in_full() {
    for (window, span) in WINDOWS.iter().enumerate() {
        for limit in [1, 2, 7, 30, 500] {
            for takes_ms in [0, 3, span.span_ms / 200] {
                let counted = drain(&only(window, limit), URGENT, takes_ms, span.span_ms * 5, 0);
                assert!(most_in(&counted, span.span_ms) <= limit as usize, "{span:?} {limit} {takes_ms}");
                // A bucket, and the time mail is under way, are lost of each window.
                let ideal = 5.0 * f64::from(limit);
                let lost = (span.bucket_ms + 2 * takes_ms * i64::from(limit)) as f64 / span.span_ms as f64;
                assert!(
                    counted.len() as f64 >= ideal / (1.0 + lost) - f64::from(limit) * 0.2,
                    "{span:?} {limit} {takes_ms}: {}",
                    counted.len()
                );
            }
        }
    }
}

#[test]
fn a_process_that_dies_again_and_again_never_sends_more_than_the_limit() {
    for (window, span) in WINDOWS.iter().enumerate() {
        for every in [1, 3, 10] {
            let counted = drain(&only(window, 100), URGENT, 0, span.span_ms * 4, every);
            assert!(most_in(&counted, span.span_ms) <= 100, "{span:?}, dying after each {every}");
            assert!(!counted.is_empty());
        }
    }
}

#[test]
fn ordinary_mail_leaves_a_tenth_of_each_quota_to_urgent_mail() {
    let mut meter = Meter::default();
    meter.set(&Rates { per_minute: Some(30), per_day: Some(2_000), ..Rates::default() });
    let now_ms = 1_700_000_000_000;
    let mut sent = 0;
    loop {
        match meter.room(2, now_ms) {
            Room::Open { .. } => {
                meter.hand_out(1);
                meter.finish(1, 1, now_ms);
                sent += 1;
            }
            Room::Unwritten => {
                let permission = meter.save(Ahead::Block, now_ms).1;
                meter.saved(permission);
            }
            Room::Full(at) => {
                assert!((now_ms + 60_000..=now_ms + 61_000).contains(&at));
                break;
            }
        }
    }
    assert_eq!(sent, 27);
    let permission = meter.save(Ahead::Block, now_ms).1;
    meter.saved(permission);
    assert!(matches!(meter.room(0, now_ms), Room::Open { .. }));
}

#[test]
fn an_orderly_stop_leaves_no_more_behind_than_was_sent() {
    let mut meter = Meter::default();
    meter.set(&only(3, 100));
    let permission = meter.save(Ahead::Block, 0).1;
    meter.saved(permission);
    for _ in 0..4 {
        meter.hand_out(3);
        meter.finish(3, 3, 5);
    }
    meter.hand_out(3);
    meter.finish(3, 0, 5);
    let (saved, _) = meter.save(Ahead::Nothing, 10);
    let mut meter = Meter::restore(saved.unwrap(), 20);
    meter.set(&only(3, 100));
    assert_eq!(meter.overview(20)[0].used, 4, "what was not tried at all does not count");
    let (saved, _) = meter.save(Ahead::Nothing, DAY_MS + 600_001);
    assert_eq!(saved, None, "a day later nothing is left to remember");
}

#[test]
fn a_clock_that_is_set_back_neither_frees_a_quota_nor_blocks_it_for_longer_than_its_window() {
    let mut meter = Meter::default();
    meter.set(&only(1, 1));
    let permission = meter.save(Ahead::Block, 10_000_000).1;
    meter.saved(permission);
    meter.hand_out(1);
    meter.finish(1, 1, 10_000_000);
    let back = 10_000_000 - 3_600_000;
    let Room::Full(at) = meter.room(0, back) else { panic!("the minute is used up") };
    assert!((back + 60_000..=back + 61_000).contains(&at), "{}", at - back);
}

#[test]
fn memory_is_bounded_however_much_is_sent() {
    let mut meter = Meter::default();
    meter.set(&only(3, u32::MAX));
    for at in 0..400_000 {
        meter.hand_out(1);
        meter.finish(1, 1, at * 977);
    }
    for (ring, span) in meter.rings.iter().zip(&WINDOWS) {
        assert!(ring.buckets.len() as i64 <= span.span_ms / span.bucket_ms + 2, "{span:?} {}", ring.buckets.len());
    }
}
