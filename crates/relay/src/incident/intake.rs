//! What comes in, counted for the volume detectors: recipients of each sender and stream since the last look, and how many of
//! them the sender never wrote to before.
//!
//! Who was written to is remembered as bits of a hash, never as addresses: a set that can say "perhaps" too often and "never" only
//! rightly. It grows with the sender, up to a bound beyond which more and more strangers pass as known; every two months the older
//! half is forgotten.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use proto::Recipient;
use serde::{Deserialize, Serialize};

use super::volume::Came;

/// Senders and streams that are counted, each.
const MOST: usize = 1_000;
/// Senders whose recipients are remembered.
const REMEMBERED: usize = 200;
/// Bits of a set: at first, and at most.
const BITS: (usize, usize) = (1 << 13, 1 << 20);
/// Bits of a recipient.
const HASHES: u64 = 4;
/// After so long a new set is begun, milliseconds.
const AGE_MS: i64 = 60 * 86_400_000;
/// Recipient domains and client addresses that are remembered of a look.
const NOTED: usize = 8;

/// What came since the last look.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CameIn {
    /// How many.
    pub came: Came,
    /// Messages.
    pub messages: u32,
    /// Some of the addresses it came from, with the number of messages.
    pub from: Vec<(String, u32)>,
    /// Some of the domains it goes to, with the number of recipients.
    pub to: Vec<(Arc<str>, u32)>,
}

/// All that came in since the last look.
#[derive(Debug, Clone, Default)]
pub struct Counted {
    /// By sender.
    pub senders: HashMap<Arc<str>, CameIn>,
    /// By stream.
    pub streams: HashMap<Arc<str>, CameIn>,
}

/// The counter.
#[derive(Debug, Default)]
pub struct Intake(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    counted: Counted,
    known: HashMap<Arc<str>, Correspondents>,
}

/// What of a message is counted, taken while it still has its recipients.
#[derive(Debug, Default)]
pub(crate) struct Slip {
    hashes: Vec<u64>,
    domains: Vec<(Arc<str>, u32)>,
}

impl Slip {
    pub(crate) fn of(recipients: &[Recipient]) -> Self {
        let mut domains: Vec<(Arc<str>, u32)> = Vec::with_capacity(1);
        for recipient in recipients {
            let domain = recipient.address.domain();
            match domains.iter().position(|(known, _)| **known == *domain) {
                Some(at) => domains[at].1 += 1,
                None if domains.len() < NOTED => domains.push((domain.into(), 1)),
                None => {}
            }
        }
        Self { hashes: recipients.iter().map(|recipient| hash(recipient.address.as_str())).collect(), domains }
    }
}

impl Intake {
    /// A message was accepted.
    pub(crate) fn note(
        &self,
        sender: &Arc<str>,
        stream: &Arc<str>,
        from: Option<std::net::IpAddr>,
        slip: &Slip,
        now_ms: i64,
    ) {
        let mut inner = self.0.lock();
        let Inner { counted, known } = &mut *inner;
        let new = if known.len() < REMEMBERED || known.contains_key(sender) {
            let mine = known.entry(sender.clone()).or_default();
            slip.hashes.iter().filter(|hash| mine.meet(**hash, now_ms)).count() as u32
        } else {
            0
        };
        let came = Came { recipients: slip.hashes.len() as u32, new };
        for (map, name) in [(&mut counted.senders, sender), (&mut counted.streams, stream)] {
            if map.len() >= MOST && !map.contains_key(name) {
                continue;
            }
            let line = map.entry(name.clone()).or_default();
            line.came.recipients = line.came.recipients.saturating_add(came.recipients);
            line.came.new = line.came.new.saturating_add(came.new);
            line.messages = line.messages.saturating_add(1);
            for (domain, n) in &slip.domains {
                note_one(&mut line.to, domain, *n);
            }
            if let Some(address) = from {
                note_address(&mut line.from, address);
            }
        }
    }

    /// What came since the last time this was asked.
    pub fn take(&self) -> Counted {
        std::mem::take(&mut self.0.lock().counted)
    }

    /// Whom senders wrote to, as far as it has changed since the last time this was asked.
    pub fn changed(&self) -> Vec<(Arc<str>, Correspondents)> {
        let mut inner = self.0.lock();
        let changed = inner.known.iter_mut().filter(|(_, known)| known.changed);
        let take = |(name, known): (&Arc<str>, &mut Correspondents)| {
            known.changed = false;
            (name.clone(), known.clone())
        };
        changed.map(take).collect()
    }

    /// Takes up whom a sender wrote to before this run.
    pub fn restore(&self, sender: Arc<str>, known: Correspondents) {
        self.0.lock().known.insert(sender, known);
    }

    /// Forgets senders that do not exist any more.
    pub fn keep(&self, exists: impl Fn(&str) -> bool) {
        self.0.lock().known.retain(|name, _| exists(name));
    }
}

impl crate::run::Relay {
    /// What comes in, for whoever watches the volume.
    pub fn intake(&self) -> Arc<Intake> {
        self.shared().intake.clone()
    }
}

fn note_one(list: &mut Vec<(Arc<str>, u32)>, name: &Arc<str>, n: u32) {
    match list.iter().position(|(known, _)| known == name) {
        Some(at) => list[at].1 = list[at].1.saturating_add(n),
        None if list.len() < NOTED => list.push((name.clone(), n)),
        None => {}
    }
}

fn note_address(list: &mut Vec<(String, u32)>, address: std::net::IpAddr) {
    let text = address.to_string();
    match list.iter().position(|(known, _)| *known == text) {
        Some(at) => list[at].1 = list[at].1.saturating_add(1),
        None if list.len() < NOTED => list.push((text, 1)),
        None => {}
    }
}

/// Whom a sender wrote to in the last two to four months.
#[derive(Debug, Clone, Default)]
pub struct Correspondents {
    now: Set,
    before: Set,
    changed: bool,
}

/// A set of hashes that never says "no" wrongly.
#[derive(Debug, Clone, Default, PartialEq)]
struct Set {
    bits: Vec<u64>,
    members: u32,
    begun_ms: i64,
}

impl Set {
    fn new(bits: usize, begun_ms: i64) -> Self {
        Self { bits: vec![0; bits / 64], members: 0, begun_ms }
    }

    fn places(&self, hash: u64) -> impl Iterator<Item = (usize, u64)> {
        let bits = self.bits.len() as u64 * 64;
        // Two halves of a hash make as many as are needed (Kirsch and Mitzenmacher).
        let step = hash.rotate_left(32) | 1;
        (0..HASHES).map(move |n| {
            let place = hash.wrapping_add(n.wrapping_mul(step)) % bits;
            ((place / 64) as usize, 1 << (place % 64))
        })
    }

    fn has(&self, hash: u64) -> bool {
        !self.bits.is_empty() && self.places(hash).all(|(word, bit)| self.bits[word] & bit != 0)
    }

    fn add(&mut self, hash: u64) {
        for (word, bit) in self.places(hash).collect::<Vec<_>>() {
            self.bits[word] |= bit;
        }
        self.members = self.members.saturating_add(1);
    }

    /// One member has eight bits: one in forty strangers passes as known.
    fn is_full(&self) -> bool {
        self.members as usize * 8 >= self.bits.len() * 64
    }
}

impl Correspondents {
    /// Remembers a recipient; gives whether it is a new one.
    fn meet(&mut self, hash: u64, now_ms: i64) -> bool {
        if self.now.has(hash) {
            return false;
        }
        let bits = self.now.bits.len() * 64;
        if bits == 0 || self.now.is_full() && bits < BITS.1 || now_ms - self.now.begun_ms > AGE_MS {
            let bits = if self.now.is_full() { bits * 2 } else { bits };
            self.before = std::mem::replace(&mut self.now, Set::new(bits.clamp(BITS.0, BITS.1), now_ms));
        }
        self.now.add(hash);
        self.changed = true;
        !self.before.has(hash)
    }

    /// The sets as they are kept: when each was begun, its members, its bits.
    pub fn kept(&self) -> [(i64, u32, Vec<u8>); 2] {
        [&self.now, &self.before].map(|set| {
            let octets = set.bits.iter().flat_map(|word| word.to_le_bytes()).collect();
            (set.begun_ms, set.members, octets)
        })
    }

    /// From what was kept; `None` if it is not whole.
    pub fn from_kept(kept: [(i64, u32, Vec<u8>); 2]) -> Option<Self> {
        let [now, before] = kept.map(|(begun_ms, members, octets)| {
            let whole = octets.len() % 8 == 0 && octets.len() * 8 <= BITS.1;
            let words = octets.chunks_exact(8).filter_map(|word| Some(u64::from_le_bytes(word.try_into().ok()?)));
            whole.then(|| Set { bits: words.collect(), members, begun_ms })
        });
        Some(Self { now: now?, before: before?, changed: false })
    }
}

/// FNV-1a with a good last stir. It is written down, so it must stay as it is; letters count as small ones, so that two spellings
/// of an address are one.
fn hash(address: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for octet in address.bytes() {
        hash = (hash ^ u64::from(octet.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slip(addresses: &[String]) -> Slip {
        let recipient = |address: &String| Recipient {
            address: proto::Address::parse(address).unwrap(),
            parameters: proto::RcptParameters::default(),
        };
        Slip::of(&addresses.iter().map(recipient).collect::<Vec<_>>())
    }

    fn people(from: u32, to: u32) -> Vec<String> {
        (from..to).map(|n| format!("person{n}@d{}.example", n % 50)).collect()
    }

    #[test]
    fn recipients_are_new_once_however_they_are_spelled() {
        let intake = Intake::default();
        let (app, stream): (Arc<str>, Arc<str>) = ("app".into(), "default".into());
        let address = Some("192.0.2.9".parse().unwrap());
        intake.note(&app, &stream, address, &slip(&["a@x.example".into(), "b@x.example".into()]), 1);
        intake.note(&app, &stream, address, &slip(&["A@X.example".into(), "c@y.example".into()]), 2);
        let counted = intake.take();
        let line = &counted.senders["app"];
        assert_eq!((line.came.recipients, line.came.new, line.messages), (4, 3, 2));
        assert_eq!(line.from, [("192.0.2.9".to_owned(), 2)]);
        assert_eq!(line.to, [("x.example".into(), 3), ("y.example".into(), 1)]);
        assert_eq!(counted.streams["default"].came.new, 3);
        assert!(intake.take().senders.is_empty());
    }

    #[test]
    fn a_long_list_is_known_the_second_time_and_after_a_restart_and_strangers_are_strangers() {
        let mut known = Correspondents::default();
        let list = people(0, 20_000);
        let new =
            |known: &mut Correspondents, list: &[String]| list.iter().filter(|one| known.meet(hash(one), 1)).count();
        assert!(new(&mut known, &list) > 19_000);
        let mut known = Correspondents::from_kept(known.kept()).unwrap();
        // Growing has forgotten the older ones of a list that came at once; they come back with the next issue.
        new(&mut known, &list);
        assert_eq!(new(&mut known, &list), 0);
        assert!(new(&mut known, &people(20_000, 21_000)) > 900);
        assert!(known.kept().iter().all(|(_, _, octets)| octets.len() <= BITS.1 / 8));
    }

    #[test]
    fn who_was_not_written_to_for_months_is_new_again() {
        let mut known = Correspondents::default();
        assert!(known.meet(7, 1));
        assert!(!known.meet(7, AGE_MS));
        known.meet(8, 2 * AGE_MS);
        assert!(!known.meet(7, 2 * AGE_MS + 1), "the older half is still there");
        known.meet(9, 4 * AGE_MS);
        known.meet(10, 6 * AGE_MS);
        assert!(known.meet(7, 6 * AGE_MS));
    }

    #[test]
    fn what_is_damaged_is_not_taken_up() {
        assert!(Correspondents::from_kept([(0, 0, vec![1, 2, 3]), (0, 0, Vec::new())]).is_none());
        assert!(Correspondents::from_kept([(0, 0, vec![0; BITS.1]), (0, 0, Vec::new())]).is_none());
    }
}
