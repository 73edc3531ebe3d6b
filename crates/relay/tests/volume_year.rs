//! A year of generated traffic of several shapes: few false alarms, and a stolen credential is noticed at once. Seeds are fixed.
//!
//! `cargo test -p pillarbox-relay --test volume_year -- --nocapture` prints the numbers.

use relay::incident::volume::{Came, Count, Volume, VolumeNews};

const MINUTE: i64 = 60_000;
/// Thursday, 1 January 2026, 00:00 UTC.
const START: i64 = 1_767_225_600_000;
const DAYS: i64 = 365;

struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn share(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1u64 << 53) as f64
    }
    fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }
    /// How many come when `mean` are expected: Poisson, or its normal approximation.
    fn come(&mut self, mean: f64) -> u32 {
        if mean > 30.0 {
            let normal: f64 = (0..12).map(|_| self.share()).sum::<f64>() - 6.0;
            return (mean + normal * mean.sqrt()).round().max(0.0) as u32;
        }
        let (mut product, mut n, end) = (self.share(), 0, (-mean).exp());
        while product > end {
            product *= self.share();
            n += 1;
        }
        n
    }
}

/// A minute of the year in local time.
#[derive(Clone, Copy)]
struct When {
    day: i64,
    /// 0 is Monday.
    weekday: i64,
    hour: i64,
    minute: i64,
}

impl When {
    fn of(minute: i64) -> Self {
        // Summer time from the end of March to the end of October.
        let summer = (87..297).contains(&(minute / 1_440));
        let local = minute + 60 + if summer { 60 } else { 0 };
        let day = local / 1_440;
        Self { day, weekday: (day + 3) % 7, hour: local / 60 % 24, minute: local % 60 }
    }
    fn is_work_day(self) -> bool {
        let holiday = [0, 5, 92, 95, 120, 133, 144, 357, 358, 359, 364].contains(&self.day);
        self.weekday < 5 && !holiday
    }
    fn of_month(self) -> i64 {
        let starts = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];
        self.day - starts.iter().rfind(|start| **start <= self.day).copied().unwrap_or(0)
    }
}

/// How much an hour has of the busiest hour of a shop, of 100.
const EVENING: [i64; 24] = [20, 8, 4, 2, 2, 3, 8, 20, 35, 45, 50, 55, 60, 55, 50, 50, 55, 65, 80, 95, 100, 90, 65, 40];

/// What of a shape comes in a minute: recipients, and the share of new ones.
type Shape = (&'static str, fn(When, i64, &mut Dice) -> (f64, f64));

const SHAPES: [Shape; 9] = [
    ("office", |when, _, _| {
        let open = when.is_work_day() && (8..18).contains(&when.hour);
        (if open { 0.8 } else { 0.002 }, 0.15)
    }),
    ("shop", |when, _, _| {
        let mut rate = 10.0 * EVENING[when.hour as usize] as f64 / 100.0;
        if when.day == 330 {
            rate *= 4.0; // The last Friday of November.
        } else if when.day > 334 && when.day < 357 {
            rate *= 1.8;
        }
        (rate, 0.6)
    }),
    ("newsletter", |when, minute, dice| {
        // Tuesdays about ten, a growing list.
        let sends = when.weekday == 1 && (when.hour == 10 || when.hour == 9 && when.minute >= 50);
        let drift = (minute / 10_080 * 7 % 20) - 10;
        let from = 10 * 60 + drift;
        let now = when.hour * 60 + when.minute;
        let list = 15_000.0 * 1.02_f64.powi((when.day / 7) as i32);
        let rate = if sends && (from..from + 20).contains(&now) { list / 20.0 } else { 0.0 };
        (rate * (0.7 + 0.6 * dice.share()), 0.02)
    }),
    ("alerts", |_, minute, _| {
        // A storm of ten minutes about every ten days, at any time, to people who are known.
        let mut storm = Dice(minute as u64 / 10);
        storm.roll();
        let rate = if storm.below(1_440) == 7 { 20.0 + storm.below(30) as f64 } else { 0.03 };
        (rate, 0.001)
    }),
    ("growth", |when, _, _| {
        let grown = 10.0_f64.powf(when.day as f64 / 365.0) * if when.day > 180 { 4.0 } else { 1.0 };
        (1.5 * grown * EVENING[when.hour as usize] as f64 / 100.0, 0.4)
    }),
    ("invoices", |when, _, _| {
        let sends = when.of_month() == 1 && when.hour == 6;
        (if sends { 80.0 } else { 0.0 }, 0.05)
    }),
    ("tiny", |_, _, _| (5.0 / 1_440.0, 0.5)),
    ("school", |when, _, _| {
        let vacation = (180..225).contains(&when.day) || when.day > 354 || when.day < 6 || (85..99).contains(&when.day);
        let open = when.is_work_day() && !vacation && (7..17).contains(&when.hour);
        (if open { 3.5 } else { 0.0 }, 0.1)
    }),
    ("night jobs", |when, _, dice| {
        // Reports at two, of very different size.
        let size = 50.0 + Dice(when.day as u64).below(600) as f64;
        (if when.hour == 2 && when.minute < 15 { size / 15.0 * (0.5 + dice.share()) } else { 0.01 }, 0.05)
    }),
];

/// Numbers of a minute: rates differ from hour to hour by more than chance.
fn minute_of(shape: &Shape, minute: i64, dice: &mut Dice) -> Came {
    let when = When::of(minute);
    let mood = 0.7 + 0.6 * Dice((minute / 60) as u64 ^ 0x55).share();
    let (rate, share) = shape.1(when, minute, dice);
    let recipients = dice.come(rate * mood);
    let new = dice.come(f64::from(recipients) * share).min(recipients);
    Came { recipients, new }
}

/// What a year of one shape gives.
#[derive(Debug, Default)]
struct Year {
    /// Days of the false alarms.
    alarms: Vec<i64>,
    silences: u32,
    /// Minutes until each theft was told.
    thefts: Vec<Option<i64>>,
}

fn year(number: usize) -> Year {
    let shape = &SHAPES[number];
    let mut dice = Dice(number as u64);
    let mut thief = Dice(1_000 + number as u64);
    let mut volume = Volume::default();
    let mut year = Year::default();
    let mut next_theft = 28 * 1_440;
    for minute in 0..DAYS * 1_440 {
        let at_ms = START + minute * MINUTE + 59_000;
        for news in volume.push(at_ms, minute_of(shape, minute, &mut dice)) {
            match news {
                VolumeNews::Spike(_) => year.alarms.push(minute / 1_440),
                VolumeNews::Silent { .. } => year.silences += 1,
                VolumeNews::Calm { .. } => {}
            }
        }
        if minute >= next_theft && !volume.is_alarmed() {
            next_theft = minute + 1_440 + thief.below(14 * 1_440) as i64;
            year.thefts.push(steal(volume.clone(), shape, minute + 1, &mut thief));
        }
    }
    year
}

#[test]
fn a_year_of_ordinary_traffic_raises_less_than_one_alarm_a_week_and_a_stolen_credential_is_told_within_five_minutes() {
    let years: Vec<Year> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..SHAPES.len()).map(|number| scope.spawn(move || year(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (mut alarms, mut thefts, mut slowest) = (0, 0, 0);
    for ((name, _), year) in SHAPES.iter().zip(&years) {
        println!(
            "{name:>10}: alarms on days {:?}, silences {}, thefts {}",
            year.alarms,
            year.silences,
            year.thefts.len()
        );
        let late = year.thefts.iter().find(|took| took.is_none_or(|minutes| minutes > 5));
        assert_eq!(late, None, "{name}");
        alarms += year.alarms.len();
        thefts += year.thefts.len();
        slowest = slowest.max(year.thefts.iter().flatten().copied().max().unwrap_or(0));
    }
    println!(
        "{alarms} alarms in a year of {} senders, {thefts} thefts, the slowest told after {slowest} min",
        SHAPES.len()
    );
    assert!(alarms < 52, "{alarms} for all of them together");
    assert!(thefts > 300, "{thefts}");
}

/// Somebody sends to strangers, on top of what comes anyway: 60 a minute, or four times as many strangers as the sender writes to in
/// its busiest hour.
/// Gives the minutes until it is told.
fn steal(mut volume: Volume, shape: &Shape, from: i64, thief: &mut Dice) -> Option<i64> {
    let busiest = volume.week(Count::NewRecipients).iter().copied().fold(0.0, f32::max) / 5.0;
    let rate = f64::from(60.0_f32.max(4.0 * busiest));
    for minute in from..from + 10 {
        let own = minute_of(shape, minute, thief);
        let stolen = thief.come(rate);
        let came = Came { recipients: own.recipients + stolen, new: own.new + stolen };
        let news = volume.push(START + minute * MINUTE + 59_000, came);
        if news.iter().any(|news| matches!(news, VolumeNews::Spike(_))) {
            return Some(minute - from + 1);
        }
    }
    None
}

#[test]
fn the_first_week_says_nothing_and_unwatched_time_teaches_nothing() {
    let mut volume = Volume::default();
    for minute in 0..7 * 1_440 - 1 {
        let burst = if minute == 4_000 { 50_000 } else { 1 };
        let news = volume.push(START + minute * MINUTE, Came { recipients: burst, new: burst });
        assert_eq!(news, [], "minute {minute}");
    }
    assert!(volume.is_learning());
    let before = volume.week(Count::Recipients).to_vec();
    // Two weeks later: nobody knows what was between.
    volume.push(START + 21 * 1_440 * MINUTE, Came::default());
    assert_eq!(volume.week(Count::Recipients), before);
}

#[test]
fn a_stream_that_always_sends_and_falls_silent_is_told_once() {
    let mut volume = Volume::default();
    let mut told = Vec::new();
    for minute in 0..7 * 7 * 1_440_i64 {
        let silent = minute >= 6 * 7 * 1_440 + 600;
        let came = Came { recipients: if silent { 0 } else { 2 }, new: 0 };
        let news = volume.push(START + minute * MINUTE, came);
        told.extend(news.into_iter().map(|news| (minute, news)));
    }
    let [(minute, VolumeNews::Silent { least, .. })] = told[..] else { panic!("{told:?}") };
    let after = minute - (6 * 7 * 1_440 + 600);
    assert!((180..=240).contains(&after), "{after}");
    assert_eq!(least, 360);
}

#[test]
fn what_was_learned_is_kept_as_a_short_text_and_read_back() {
    let mut volume = Volume::default();
    let mut dice = Dice(5);
    for minute in 0..10 * 1_440 {
        volume.push(START + minute * MINUTE, minute_of(&SHAPES[1], minute, &mut dice));
    }
    let body = serde_json::to_value(&volume).unwrap();
    assert!(body.to_string().len() < 12_000, "{}", body.to_string().len());
    let restored = Volume::restore(&body).unwrap();
    assert_eq!(restored.week(Count::Recipients), volume.week(Count::Recipients));
    assert_eq!(Volume::restore(&serde_json::json!({"weeks": []})), None);
    // Within the hour it goes on, without what came before it was written down.
    let mut restored = restored;
    let burst = Came { recipients: 5_000, new: 5_000 };
    let news = restored.push(START + 10 * 1_440 * MINUTE + 5, burst);
    assert!(matches!(news[..], [VolumeNews::Spike(_)]), "{news:?}");
}
