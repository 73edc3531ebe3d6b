//! How a destination is treated that asks for less: slower for a while, or not at all until a probe is taken.
//!
//! Being told to slow down halves rate and connections; what is taken afterwards raises them again little by little (additive
//! increase, multiplicative decrease). A hold lets one message through after growing pauses. Pure: time is an argument.

use super::forecast::Slowed;
use super::ramp::Ramp;

/// Least rate, messages a millisecond: one a minute.
const LEAST: f64 = 1.0 / 60_000.0;
/// Time without complaint in which a rate grows by as much as it was before it was first halved, milliseconds.
const RECOVERY_MS: f64 = 120_000.0;
/// Complaints closer together are about the same: conversations that were under way, milliseconds.
const ROUND_MS: i64 = 2_000;
/// Longest time without a message that counts as a time without complaint, milliseconds.
const LONGEST_GAIN_MS: i64 = 60_000;
/// What was not used of a rate may be used later, for so long, milliseconds.
const BURST_MS: i64 = 50;
/// First and longest pause of a hold, milliseconds.
const HOLD_MS: (i64, i64) = (60_000, 1_800_000);
/// A probe that was not heard of any more is given up, milliseconds.
const PROBE_MS: i64 = 900_000;
/// Rates are measured over about this time, milliseconds.
const MEASURE_MS: i64 = 5_000;
/// How long a slowed destination without mail is remembered, milliseconds.
const MEMORY_MS: i64 = 600_000;
/// Mail of a hold that is over comes back from the store within this time.
const BACK_MS: i64 = 60_000;

/// What an attempt says about its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// The message was taken.
    Taken,
    /// Too much at once; with the wait that was asked for, milliseconds.
    Slow(i64),
    /// Nothing from us for now, whatever the message; with the wait that was asked for, milliseconds.
    Hold(i64),
    /// None of these.
    Other,
}

#[derive(Debug)]
struct Slow {
    /// Messages a millisecond.
    rate: f64,
    /// The rate that was too much.
    full: f64,
    connections: f64,
    full_connections: f64,
    next_ms: i64,
    complained_ms: i64,
    gained_ms: i64,
}

#[derive(Debug)]
struct Hold {
    until_ms: i64,
    length_ms: i64,
    probing_ms: Option<i64>,
}

/// It stood still, and starts again.
#[derive(Debug)]
struct Rising {
    ramp: Ramp,
    since_ms: i64,
    next_ms: i64,
}

impl Rising {
    fn rate(&self, now_ms: i64) -> Option<f64> {
        self.ramp.rate(now_ms - self.since_ms)
    }
}

/// The treatment of one destination.
#[derive(Debug, Default)]
pub(super) struct Shape {
    rising: Option<Rising>,
    slow: Option<Slow>,
    hold: Option<Hold>,
    /// Messages since `measured_ms`, and messages a millisecond before.
    count: u32,
    measured_ms: i64,
    before: f64,
}

impl Shape {
    /// A message is handed out. True: what becomes of it is worth knowing.
    pub(super) fn hand_out(&mut self, now_ms: i64) -> bool {
        let elapsed = now_ms - self.measured_ms;
        if !(0..MEASURE_MS).contains(&elapsed) {
            self.before = if elapsed < 2 * MEASURE_MS { f64::from(self.count) / elapsed.max(1) as f64 } else { 0.0 };
            (self.count, self.measured_ms) = (0, now_ms);
        }
        self.count += 1;
        if let Some(slow) = &mut self.slow {
            let gap = (1.0 / slow.rate).clamp(1.0, 60_000.0) as i64;
            slow.next_ms = slow.next_ms.max(now_ms - BURST_MS) + gap;
        }
        self.rising = self.rising.take().filter(|rising| rising.rate(now_ms).is_some());
        if let Some(rising) = &mut self.rising {
            let gap = rising.rate(now_ms).map_or(1, |rate| (1_000.0 / rate).max(1.0) as i64);
            rising.next_ms = rising.next_ms.max(now_ms - BURST_MS) + gap;
        }
        if let Some(hold) = &mut self.hold {
            hold.probing_ms = Some(now_ms);
        }
        self.slow.is_some() || self.hold.is_some()
    }

    /// When the next message may go, if not now.
    pub(super) fn wait(&self, now_ms: i64) -> Option<i64> {
        let held = self.hold.as_ref().and_then(|hold| match hold.probing_ms {
            Some(since) if now_ms - since < PROBE_MS => Some(now_ms + 1_000),
            _ => Some(hold.until_ms).filter(|until| *until > now_ms),
        });
        let slow = self.slow.as_ref().map(|slow| slow.next_ms).filter(|next| *next > now_ms);
        let rising = self.rising.as_ref().filter(|rising| rising.rate(now_ms).is_some());
        let rising = rising.map(|rising| rising.next_ms).filter(|next| *next > now_ms);
        held.max(slow).max(rising)
    }

    /// It stood still, and starts again along this ramp.
    pub(super) fn begin_slowly(&mut self, ramp: Ramp, since_ms: i64) {
        if self.rising.as_ref().is_none_or(|known| known.since_ms != since_ms) {
            self.rising = Some(Rising { ramp, since_ms, next_ms: since_ms });
        }
    }

    /// Most connections.
    pub(super) fn connections(&self, most: u32, now_ms: i64) -> u32 {
        let rising = self.rising.as_ref().filter(|rising| rising.rate(now_ms).is_some());
        let most = rising.map_or(most, |rising| most.min(rising.ramp.connections(now_ms - rising.since_ms).max(1)));
        match (&self.hold, &self.slow) {
            (Some(_), _) => 1,
            (None, Some(slow)) => most.min(slow.connections.max(1.0) as u32),
            (None, None) => most,
        }
    }

    /// What became of a message, with the connections there are. Gives when to look again at the latest.
    pub(super) fn heed(&mut self, sign: Sign, open: u32, now_ms: i64) -> Option<i64> {
        match sign {
            Sign::Taken => {
                self.hold = None;
                self.gain(now_ms);
                return None;
            }
            Sign::Slow(wait_ms) => self.slow_down(wait_ms, open, now_ms),
            Sign::Hold(wait_ms) => self.stop(wait_ms, now_ms),
            Sign::Other => {
                if let Some(hold) = self.hold.as_mut().filter(|hold| hold.probing_ms.is_some()) {
                    hold.probing_ms = None;
                    hold.until_ms = now_ms + hold.length_ms;
                }
            }
        }
        Some(self.wait(now_ms).unwrap_or(now_ms).max(now_ms + MEMORY_MS))
    }

    fn measured(&self, now_ms: i64) -> f64 {
        let elapsed = (now_ms - self.measured_ms).max(1);
        let now = f64::from(self.count) / elapsed.max(1_000) as f64;
        if elapsed < 1_000 { now.max(self.before) } else { now }
    }

    fn slow_down(&mut self, wait_ms: i64, open: u32, now_ms: i64) {
        let measured = self.measured(now_ms).max(LEAST);
        let open = f64::from(open.max(1));
        let slow = self.slow.get_or_insert(Slow {
            rate: measured,
            full: measured,
            connections: open,
            full_connections: open,
            next_ms: now_ms,
            complained_ms: i64::MIN,
            gained_ms: now_ms,
        });
        slow.next_ms = slow.next_ms.max(now_ms.saturating_add(wait_ms));
        if now_ms < slow.complained_ms.saturating_add(ROUND_MS) {
            return;
        }
        slow.complained_ms = now_ms;
        slow.gained_ms = now_ms;
        slow.rate = (slow.rate / 2.0).max(LEAST);
        slow.connections = (slow.connections / 2.0).max(1.0);
        // What it complained about now is what to come back to.
        slow.full = (slow.rate * 2.0).max(LEAST);
        slow.next_ms = slow.next_ms.max(now_ms + (1.0 / slow.rate) as i64);
    }

    fn gain(&mut self, now_ms: i64) {
        let Some(slow) = &mut self.slow else { return };
        let elapsed = (now_ms - slow.gained_ms).clamp(0, LONGEST_GAIN_MS) as f64;
        slow.gained_ms = now_ms;
        slow.rate += slow.full * elapsed / RECOVERY_MS;
        slow.connections += slow.full_connections * elapsed / RECOVERY_MS;
        // Well over what was too much before, without complaint: it takes all again.
        if slow.rate >= slow.full * 4.0 {
            self.slow = None;
        }
    }

    fn stop(&mut self, wait_ms: i64, now_ms: i64) {
        let known = self.hold.as_ref().map_or(0, |hold| hold.length_ms);
        if self.hold.as_ref().is_some_and(|hold| hold.probing_ms.is_none() && now_ms < hold.until_ms) {
            // Said of conversations that were under way.
            return;
        }
        let length_ms = (known * 2).clamp(HOLD_MS.0, HOLD_MS.1);
        self.hold = Some(Hold { until_ms: now_ms + length_ms.max(wait_ms), length_ms, probing_ms: None });
    }

    /// An operator says that it is worth a try now.
    pub(super) fn end_wait(&mut self, now_ms: i64) {
        if let Some(hold) = &mut self.hold {
            hold.until_ms = hold.until_ms.min(now_ms);
            hold.probing_ms = None;
        }
    }

    /// It has to be remembered though there is no mail.
    pub(super) fn is_active(&self, now_ms: i64) -> bool {
        self.hold_forgotten().is_some_and(|at| now_ms < at)
            || self.slow.as_ref().is_some_and(|slow| now_ms < slow.complained_ms.saturating_add(MEMORY_MS))
            || self.rising.as_ref().is_some_and(|rising| rising.rate(now_ms).is_some())
    }

    /// When a hold without mail is forgotten. Not at its end: an operator's wish gives mail back to the store first, and
    /// without the hold all of it would be the probe.
    pub(super) fn hold_forgotten(&self) -> Option<i64> {
        self.hold.as_ref().map(|hold| hold.until_ms.saturating_add(BACK_MS))
    }

    /// Until when it is held, Unix milliseconds.
    pub(super) fn held_until(&self) -> Option<i64> {
        self.hold.as_ref().map(|hold| hold.until_ms)
    }

    /// The rate it was slowed down to, and how it comes back.
    pub(super) fn slowed(&self) -> Option<Slowed> {
        let slow = self.slow.as_ref()?;
        // Where it complained before it may well complain again: that is what is counted on.
        let missing = (slow.full - slow.rate).max(0.0);
        let recovers_ms = if slow.full > 0.0 { missing / slow.full * RECOVERY_MS } else { 0.0 };
        Some(Slowed { now: slow.rate.min(slow.full), full: slow.full, recovers_ms })
    }

    /// Messages a minute, if it was slowed down.
    pub(super) fn slowed_to(&self) -> Option<u32> {
        self.slow.as_ref().map(|slow| (slow.rate * 60_000.0).ceil() as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out whenever it may, until this time; gives how many.
    fn send(shape: &mut Shape, from_ms: i64, until_ms: i64, sign: Sign) -> u32 {
        let (mut now_ms, mut sent) = (from_ms, 0);
        while now_ms < until_ms {
            match shape.wait(now_ms) {
                Some(at) => now_ms = at,
                None => {
                    shape.hand_out(now_ms);
                    sent += 1;
                    now_ms += 10;
                    shape.heed(sign, 4, now_ms);
                }
            }
        }
        sent
    }

    #[test]
    fn a_complaint_halves_rate_and_connections_once_a_round_and_a_wait_is_kept() {
        let mut shape = Shape::default();
        assert_eq!(send(&mut shape, 0, 10_000, Sign::Taken), 1_000);
        shape.heed(Sign::Slow(0), 8, 10_000);
        shape.heed(Sign::Slow(30_000), 8, 10_100);
        assert_eq!((shape.connections(20, 0), shape.slowed_to()), (4, Some(3_000)));
        assert_eq!(shape.wait(10_100), Some(40_100));
        let sent = send(&mut shape, 10_100, 50_100, Sign::Other);
        assert!((480..=510).contains(&sent), "{sent} in 10 s at 50 a second");
    }

    #[test]
    fn what_is_taken_raises_the_rate_little_by_little_until_all_is_as_before() {
        let mut shape = Shape::default();
        send(&mut shape, 0, 10_000, Sign::Taken);
        shape.heed(Sign::Slow(0), 8, 10_000);
        let first = send(&mut shape, 10_000, 20_000, Sign::Taken);
        let later = send(&mut shape, 20_000, 70_000, Sign::Taken) / 5;
        assert!(first < later && later < 1_000, "{first} {later}");
        send(&mut shape, 70_000, 600_000, Sign::Taken);
        assert_eq!((shape.slowed_to(), shape.connections(20, 0)), (None, 20));
    }

    #[test]
    fn endless_complaints_end_at_one_message_a_minute() {
        let mut shape = Shape::default();
        send(&mut shape, 0, 10_000, Sign::Taken);
        send(&mut shape, 10_000, 1_000_000, Sign::Slow(0));
        let sent = send(&mut shape, 1_000_000, 4_600_000, Sign::Slow(0));
        assert!((55..=65).contains(&sent), "{sent} in an hour");
    }

    #[test]
    fn a_hold_is_probed_seldom_by_one_message_each_and_ends_with_the_first_that_is_taken() {
        let mut shape = Shape::default();
        let probes = send(&mut shape, 0, 7_200_000, Sign::Hold(0));
        assert!((5..=10).contains(&probes), "{probes} in two hours");
        assert_eq!(shape.connections(20, 0), 1);
        shape.end_wait(7_200_000);
        assert_eq!(shape.wait(7_200_000), None);
        assert!(shape.is_active(7_259_999) && !shape.is_active(7_260_000), "its mail may be in the store just now");
        shape.hand_out(7_200_000);
        assert!(shape.wait(7_200_001).is_some(), "one probe at a time");
        shape.heed(Sign::Taken, 1, 7_200_100);
        assert_eq!((shape.wait(7_200_100), shape.connections(20, 0)), (None, 20));
    }
}
