//! Which rules may have a text in a reply: four octets of each text, the rarest among all texts, are looked up at every
//! place of the reply. Cheap to build, because it is built at every start; what it finds is looked at closely later.

use crate::pattern::Pattern;

/// Lists of octets; a power of two.
const BUCKETS: usize = 1 << 13;
/// The octets of a text too short for four.
const SHORT: u32 = 0x00ff_ffff;

/// The index.
#[derive(Debug)]
pub(crate) struct Prefilter {
    /// Where the entries of each bucket begin; one more at the end.
    heads: Vec<u32>,
    /// By bucket.
    entries: Vec<Entry>,
}

/// What has to stand at a place for a rule to be looked at.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Three or four octets, by which it is found.
    octets: u32,
    /// Up to eight, so that few are looked at in vain.
    more: u64,
    /// Which of the eight count.
    mask: u64,
    rule: u32,
}

impl Entry {
    fn new(literal: &[u8], rule: u32) -> Self {
        let start = literal.get(..8).unwrap_or(literal);
        let octets = start.get(..4).unwrap_or(start);
        let mask = if start.len() == 8 { u64::MAX } else { (1 << (8 * start.len())) - 1 };
        Self { octets: number(octets), more: long_number(start), mask, rule }
    }
}

const fn bucket(octets: u32) -> usize {
    (octets.wrapping_mul(0x9e37_79b1) >> (32 - BUCKETS.trailing_zeros())) as usize
}

/// Three or four octets as a number.
fn number(octets: &[u8]) -> u32 {
    octets.iter().rev().fold(0, |number, &octet| number << 8 | u32::from(octet))
}

/// Up to eight octets as a number.
fn long_number(octets: &[u8]) -> u64 {
    octets.iter().rev().fold(0, |number, &octet| number << 8 | u64::from(octet))
}

impl Prefilter {
    /// Of texts, each with its rule.
    pub(crate) fn new<'a>(texts: impl Iterator<Item = (&'a Pattern, u32)> + Clone) -> Self {
        let mut common = vec![0_u16; BUCKETS];
        for octets in texts.clone().flat_map(|(text, _)| text.literals()).flat_map(|text| text.as_bytes().windows(4)) {
            let count = &mut common[bucket(number(octets))];
            *count = count.saturating_add(1);
        }
        // From the rarest four octets of a text on.
        let rarest = |(text, rule): (&'a Pattern, u32)| {
            let rests = text.literals().map(str::as_bytes).flat_map(|text| (0..text.len()).map(move |at| &text[at..]));
            let count = |rest: &&[u8]| rest.get(..4).map_or(u16::MAX, |four| common[bucket(number(four))]);
            let best = rests.filter(|rest| rest.len() >= 3).min_by_key(count);
            Entry::new(best.unwrap_or_default(), rule)
        };
        let mut entries: Vec<Entry> = texts.map(rarest).collect();
        entries.sort_by_key(|entry| (bucket(entry.octets), entry.rule));
        let mut heads = vec![0; BUCKETS + 1];
        for entry in &entries {
            heads[bucket(entry.octets) + 1] += 1;
        }
        for at in 1..heads.len() {
            heads[at] += heads[at - 1];
        }
        Self { heads, entries }
    }

    /// Rules whose texts may stand in `lower`, in order and once each. Some that do not stand there are among them.
    pub(crate) fn find(&self, lower: &str) -> Vec<u32> {
        let mut found = Vec::new();
        for at in 0..lower.len().saturating_sub(2) {
            let rest = &lower.as_bytes()[at..];
            let more = long_number(rest.get(..8).unwrap_or(rest));
            let octets = (more & u64::from(u32::MAX)) as u32;
            self.look_up(octets, more, &mut found);
            if octets > SHORT {
                self.look_up(octets & SHORT, more, &mut found);
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn look_up(&self, octets: u32, more: u64, found: &mut Vec<u32>) {
        let bucket = bucket(octets);
        let entries = self.heads[bucket] as usize..self.heads[bucket + 1] as usize;
        let fits = |entry: &&Entry| entry.octets == octets && entry.more == more & entry.mask;
        found.extend(self.entries[entries].iter().filter(fits).map(|entry| entry.rule));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_found_wherever_it_stands() {
        let texts = ["abc", "user unknown", "user * full", "|ünïcode|", "mailbox {word} is unknown"];
        let patterns: Vec<Pattern> = texts.iter().map(|text| Pattern::parse(text).unwrap()).collect();
        let filter = Prefilter::new(patterns.iter().zip(0..));
        for (text, wanted) in [
            ("abc", vec![0]),
            ("x abc", vec![0]),
            ("user unknown", vec![1]),
            ("the user is full; abc", vec![0, 2]),
            ("an ünïcode text", vec![3]),
            ("mailbox x is unknown", vec![4]),
        ] {
            let found = filter.find(text);
            assert!(wanted.iter().all(|rule| found.contains(rule)), "{text}: {found:?}");
        }
        for nothing in ["", "a", "ab", "nothing of it"] {
            assert_eq!(filter.find(nothing), Vec::<u32>::new(), "{nothing}");
        }
    }
}
