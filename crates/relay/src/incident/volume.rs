//! Volume spikes: learns how much a sender or a stream sends in each hour of the week, and tells when there is far more. Pure.
//!
//! Two counts are watched, recipients and recipients never written to before: a newsletter or a storm of alerts goes to people
//! who are known, a stolen credential writes to strangers. Of each count two windows are watched, 5 minutes and an hour. What is
//! unusual depends on the hour of the week and its neighbours, on how the last day went (growth, a launch), on the busiest hours
//! of the week (who sends much may slip much) and on earlier storms: what has happened twice in two months is no alarm the third
//! time. In the first week nothing is said. Hours that were not watched are not learned from.

use serde::{Deserialize, Serialize};

const MINUTE_MS: i64 = 60_000;
/// Hours of a week; the first is Thursday 00:00 UTC, as the first hour of the epoch was.
pub const HOURS: usize = 168;
/// Hours that have to be learned before anything is told.
const LEARN_HOURS: u32 = 168;
/// Minutes of an hour that have to be watched, for the hour to be learned from.
const WATCHED: u32 = 45;
/// What may stand out in a week without being told, as a share of its busiest hour.
const SLIP: f64 = 0.15;
/// How far above the usual it has to be: an hour known for four weeks, for less, never seen.
const FACTORS: [f64; 3] = [3.0, 4.0, 5.0];
/// How far above an earlier storm.
const STORM_FACTOR: f64 = 1.5;
/// Storms remembered, and how long, days.
const STORMS: usize = 6;
const STORM_DAYS: i64 = 60;
/// How much more than learned the last day may have had.
const MOST_LEVEL: f64 = 8.0;
/// Minutes of calm that end an alarm.
const CALM: u32 = 60;
/// Hours without a recipient that are told, if that many usually come in them at the very least.
const SILENT_HOURS: usize = 3;
const SILENT_LEAST: f64 = 30.0;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Count {
    /// Recipients.
    Recipients,
    /// Recipients that this sender or stream never wrote to before.
    NewRecipients,
}

/// Over which time it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Window {
    /// 5 minutes.
    Burst,
    /// 60 minutes.
    Hour,
}

impl Window {
    /// Its length.
    pub fn minutes(self) -> usize {
        match self {
            Self::Burst => 5,
            Self::Hour => 60,
        }
    }
}

/// Far more than usual.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spike {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// What stands out.
    pub count: Count,
    /// Over which time.
    pub window: Window,
    /// How many came.
    pub seen: u64,
    /// Most that came in this hour of the week before.
    pub usual: u64,
    /// How many would have been let pass.
    pub limit: u64,
}

/// What is worth telling.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum VolumeNews {
    /// It began.
    Spike(Spike),
    /// An hour of calm: it is over.
    Calm {
        /// Unix milliseconds.
        at_ms: i64,
    },
    /// Nothing came for hours that always had mail.
    Silent {
        /// Unix milliseconds.
        at_ms: i64,
        /// Recipients that come in these hours at least.
        least: u64,
    },
}

/// Something came, or time has passed.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Came {
    /// Recipients.
    pub recipients: u32,
    /// Of these, never written to before.
    pub new: u32,
}

/// What is learned of one count in one window: most that comes in each hour of the week.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Profile {
    /// Per hour of the week, rounded.
    most: Vec<f32>,
    /// Day and height of what stood out before.
    #[serde(default)]
    storms: Vec<(i64, f32)>,
}

impl Default for Profile {
    fn default() -> Self {
        Self { most: vec![0.0; HOURS], storms: Vec::new() }
    }
}

impl Profile {
    /// Most that came in this hour of the week or the ones beside it (clocks are changed twice a year).
    fn usual(&self, hour: usize) -> f64 {
        let beside = [hour + HOURS - 1, hour, hour + 1];
        beside.iter().map(|at| f64::from(self.most[at % HOURS])).fold(0.0, f64::max)
    }

    fn busiest(&self) -> f64 {
        self.most.iter().copied().map(f64::from).fold(0.0, f64::max)
    }

    /// The second-highest storm of two months: one was perhaps an accident.
    fn storm(&self, day: i64) -> f64 {
        let mut heights: Vec<f64> =
            self.storms.iter().filter(|(at, _)| day - at <= STORM_DAYS).map(|(_, height)| f64::from(*height)).collect();
        heights.sort_by(f64::total_cmp);
        heights.len().checked_sub(2).map_or(0.0, |second| heights[second])
    }

    fn limit(&self, hour: usize, weeks: u8, level: f64, least: f64, day: i64) -> f64 {
        let (usual, busiest) = (self.usual(hour), self.busiest());
        let by_usual = match weeks {
            0 => FACTORS[2] * busiest,
            1..=3 => FACTORS[1] * usual,
            _ => FACTORS[0] * usual,
        };
        least.max(SLIP * busiest).max(by_usual * level).max(STORM_FACTOR * self.storm(day))
    }

    /// Up at once half of the way, down slowly: one holiday does not undo a year.
    fn learn(&mut self, hour: usize, value: f64, known: bool) {
        let most = &mut self.most[hour];
        let value = value as f32;
        let share = if !known {
            1.0
        } else if value > *most {
            0.5
        } else {
            0.1
        };
        // Rounded, so that what is written down stays short.
        *most = ((*most + share * (value - *most)) * 10.0).round() / 10.0;
    }

    fn remember_storm(&mut self, day: i64, height: f64) {
        self.storms.retain(|(at, _)| day - at <= STORM_DAYS);
        if self.storms.len() >= STORMS {
            self.storms.remove(0);
        }
        self.storms.push((day, height as f32));
    }
}

/// An alarm that is on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Alarm {
    /// Minutes of calm.
    calm: u32,
    /// Highest of each profile meanwhile.
    heights: [f64; 4],
    /// What was too much when it began.
    limits: [f64; 4],
}

/// Which profile: [`Count`] times [`Window`].
const PROFILES: [(Count, Window, f64); 4] = [
    (Count::Recipients, Window::Burst, 60.0),
    (Count::Recipients, Window::Hour, 300.0),
    (Count::NewRecipients, Window::Burst, 40.0),
    (Count::NewRecipients, Window::Hour, 200.0),
];

/// One sender or stream: what was learned of it, and how it is now. Serialised it is what is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    profiles: [Profile; 4],
    /// How often each hour of the week was learned, up to 255.
    weeks: Vec<u8>,
    /// The least that comes in each hour of the week.
    least: Vec<f32>,
    /// Hours learned in all.
    hours: u32,
    /// Of the last day: what came an hour, and what had been learned.
    day: (f64, f64),
    /// Hours without anything, and what should have come in them at least.
    silent: (u32, f64),
    alarm: Option<Alarm>,
    /// Of the hour that runs.
    #[serde(skip)]
    now: Now,
}

/// The last hour, minute by minute.
#[derive(Debug, Clone, Default, PartialEq)]
struct Now {
    /// Minutes since the epoch; 0: nothing came yet.
    minute: i64,
    /// The last 60 minutes, the place is the minute of the hour.
    ring: Vec<[u32; 2]>,
    /// Sums of the last 5 and 60 minutes, of both counts, in the order of [`PROFILES`].
    sums: [u64; 4],
    /// Highest of these in the hour that runs.
    highest: [u64; 4],
    /// Minutes of this hour that were watched.
    watched: u32,
    /// What came in it.
    total: u64,
}

impl Default for Volume {
    fn default() -> Self {
        Self {
            profiles: Default::default(),
            weeks: vec![0; HOURS],
            least: vec![0.0; HOURS],
            hours: 0,
            day: (0.0, 0.0),
            silent: (0, 0.0),
            alarm: None,
            now: Now::default(),
        }
    }
}

impl Volume {
    /// From what was kept; `None` if it is not whole.
    pub fn restore(body: &serde_json::Value) -> Option<Self> {
        let volume: Self = serde_json::from_value(body.clone()).ok()?;
        let whole = volume.profiles.iter().all(|profile| profile.most.len() == HOURS);
        (whole && volume.weeks.len() == HOURS && volume.least.len() == HOURS).then_some(volume)
    }

    /// Time has passed and this has come since the last call. Call it every few seconds, also with nothing; after more than an
    /// hour without a call the time between was not watched.
    pub fn push(&mut self, at_ms: i64, came: Came) -> Vec<VolumeNews> {
        let mut news = Vec::new();
        let minute = at_ms.div_euclid(MINUTE_MS);
        let behind = minute - self.now.minute;
        if !(0..=60).contains(&behind) {
            self.now = Now { minute, ring: vec![[0; 2]; 60], ..Now::default() };
        }
        while self.now.minute < minute {
            self.next_minute(&mut news);
        }
        self.add(came);
        news.extend(self.look(at_ms).map(VolumeNews::Spike));
        news
    }

    /// Whether an alarm is on.
    pub fn is_alarmed(&self) -> bool {
        self.alarm.is_some()
    }

    /// Whether it is in its first week, in which nothing is told.
    pub fn is_learning(&self) -> bool {
        self.hours < LEARN_HOURS
    }

    /// What came in the last 5 minutes, and the most that would be let pass now.
    pub fn burst(&self, at_ms: i64) -> (u64, u64) {
        (self.now.sums[0], self.limit(0, at_ms.div_euclid(MINUTE_MS)) as u64)
    }

    /// Most that came in 5 minutes for each hour of the week, from Thursday 00:00 UTC.
    pub fn week(&self, count: Count) -> &[f32] {
        match count {
            Count::Recipients => &self.profiles[0].most,
            Count::NewRecipients => &self.profiles[2].most,
        }
    }

    /// The alarm that is on was real: nothing of it is learned, and it does not count as a storm.
    pub fn was_bad(&mut self) {
        self.alarm = None;
        self.now = Now::default();
    }

    fn add(&mut self, came: Came) {
        let counts = [came.recipients, came.new];
        let now = &mut self.now;
        let place = (now.minute % 60) as usize;
        for (at, count) in counts.into_iter().enumerate() {
            now.ring[place][at] = now.ring[place][at].saturating_add(count);
            now.sums[2 * at] += u64::from(count);
            now.sums[2 * at + 1] += u64::from(count);
        }
        now.total += u64::from(came.recipients);
        for at in 0..4 {
            now.highest[at] = now.highest[at].max(now.sums[at]);
        }
    }

    fn limit(&self, at: usize, minute: i64) -> f64 {
        let hour = hour_of(minute);
        let (.., least) = PROFILES[at];
        self.profiles[at].limit(hour, self.weeks[hour], self.level(), least, minute / 1_440)
    }

    /// How much more than learned came in the last day.
    fn level(&self) -> f64 {
        ((self.day.0 + 10.0) / (self.day.1 + 10.0)).clamp(1.0, MOST_LEVEL)
    }

    fn look(&mut self, at_ms: i64) -> Option<Spike> {
        if self.is_learning() {
            return None;
        }
        let (minute, sums) = (self.now.minute, self.now.sums);
        if let Some(alarm) = &mut self.alarm {
            for (height, sum) in alarm.heights.iter_mut().zip(sums) {
                *height = height.max(sum as f64);
            }
            return None;
        }
        // Most of the time nothing comes near the least that is told: that is found out cheaply.
        let near = (0..4).any(|at| sums[at] as f64 > PROFILES[at].2);
        let limits = near.then(|| [0, 1, 2, 3].map(|at| self.limit(at, minute)))?;
        let at = (0..4).find(|at| sums[*at] as f64 > limits[*at])?;
        let (count, window, _) = PROFILES[at];
        self.alarm = Some(Alarm { calm: 0, heights: sums.map(|sum| sum as f64), limits });
        let usual = self.profiles[at].usual(hour_of(minute)).round() as u64;
        Some(Spike { at_ms, count, window, seen: sums[at], usual, limit: limits[at] as u64 })
    }

    fn next_minute(&mut self, news: &mut Vec<VolumeNews>) {
        let now = &mut self.now;
        now.watched += 1;
        now.minute += 1;
        for at in 0..2 {
            let old =
                |minutes: i64, ring: &[[u32; 2]]| u64::from(ring[((now.minute - minutes).rem_euclid(60)) as usize][at]);
            now.sums[2 * at] -= old(5, &now.ring);
            now.sums[2 * at + 1] -= old(60, &now.ring);
        }
        now.ring[(now.minute % 60) as usize] = [0; 2];
        let at_ms = now.minute * MINUTE_MS;
        if self.now.minute % 60 == 0 {
            self.learn(news);
        }
        if self.calms_down() {
            news.push(VolumeNews::Calm { at_ms });
        }
    }

    /// Ends an alarm after an hour of calm; what it was is remembered as a storm.
    fn calms_down(&mut self) -> bool {
        let sums = self.now.sums;
        let Some(alarm) = &mut self.alarm else { return false };
        let calm = [0, 2].iter().all(|at| sums[*at] as f64 <= alarm.limits[*at] / 2.0);
        alarm.calm = if calm { alarm.calm + 1 } else { 0 };
        if alarm.calm < CALM {
            return false;
        }
        let day = self.now.minute / 1_440;
        if let Some(alarm) = self.alarm.take() {
            for ((profile, height), limit) in self.profiles.iter_mut().zip(alarm.heights).zip(alarm.limits) {
                if height > limit {
                    profile.remember_storm(day, height);
                }
            }
        }
        true
    }

    /// An hour is over.
    fn learn(&mut self, news: &mut Vec<VolumeNews>) {
        let (watched, total, highest) = (self.now.watched, self.now.total, self.now.highest);
        self.now.watched = 0;
        self.now.total = 0;
        self.now.highest = self.now.sums;
        if watched < WATCHED {
            return;
        }
        let minute = self.now.minute - 1;
        let hour = hour_of(minute);
        let known = self.weeks[hour] > 0;
        let limits = [0, 1, 2, 3].map(|at| self.limit(at, minute));
        // While an alarm is on nobody knows yet whether this is to be learned: no more than was let pass.
        let let_pass = |at: usize, value: f64| if self.alarm.is_some() { value.min(limits[at]) } else { value };
        let values = [0, 1, 2, 3].map(|at| let_pass(at, highest[at] as f64));
        let total = let_pass(1, total as f64);
        let expected = f64::from(self.profiles[1].most[hour]);
        if known {
            self.day.0 += (total - self.day.0) / 24.0;
            self.day.1 += (expected - self.day.1) / 24.0;
            self.hear_silence(total, hour, news);
        }
        for (profile, value) in self.profiles.iter_mut().zip(values) {
            profile.learn(hour, value, known);
        }
        let least = &mut self.least[hour];
        let total = total as f32;
        *least =
            if !known || total < *least { total } else { ((*least + 0.2 * (total - *least)) * 10.0).round() / 10.0 };
        self.weeks[hour] = self.weeks[hour].saturating_add(1);
        self.hours = self.hours.saturating_add(1);
    }

    fn hear_silence(&mut self, total: f64, hour: usize, news: &mut Vec<VolumeNews>) {
        if total > 0.0 || self.weeks[hour] < 4 || self.least[hour] < 1.0 {
            self.silent = (0, 0.0);
            return;
        }
        let before = self.silent;
        self.silent = (before.0 + 1, before.1 + f64::from(self.least[hour]));
        let enough = |(hours, least): (u32, f64)| hours as usize >= SILENT_HOURS && least >= SILENT_LEAST;
        if enough(self.silent) && !enough(before) {
            news.push(VolumeNews::Silent { at_ms: self.now.minute * MINUTE_MS, least: self.silent.1 as u64 });
        }
    }
}

/// The hour of the week of a minute since the epoch.
fn hour_of(minute: i64) -> usize {
    (minute / 60).rem_euclid(HOURS as i64) as usize
}
