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
    /// Octets and rule, by bucket.
    entries: Vec<(u32, u32)>,
}

const fn bucket(octets: u32) -> usize {
    (octets.wrapping_mul(0x9e37_79b1) >> (32 - BUCKETS.trailing_zeros())) as usize
}

/// Three or four octets as a number.
fn number(octets: &[u8]) -> u32 {
    octets.iter().rev().fold(0, |number, &octet| number << 8 | u32::from(octet))
}

impl Prefilter {
    /// Of texts, each with its rule.
    pub(crate) fn new<'a>(texts: impl Iterator<Item = (&'a Pattern, u32)> + Clone) -> Self {
        let mut common = vec![0_u16; BUCKETS];
        for octets in texts.clone().flat_map(|(text, _)| text.literals()).flat_map(|text| text.as_bytes().windows(4)) {
            let count = &mut common[bucket(number(octets))];
            *count = count.saturating_add(1);
        }
        let rarest = |text: &Pattern| {
            let four = text.literals().flat_map(|text| text.as_bytes().windows(4)).map(number);
            let short = || text.literals().find_map(|text| text.as_bytes().get(..3)).map_or(0, number);
            four.min_by_key(|&octets| common[bucket(octets)]).unwrap_or_else(short)
        };
        let mut entries: Vec<(u32, u32)> = texts.map(|(text, rule)| (rarest(text), rule)).collect();
        entries.sort_by_key(|&(octets, rule)| (bucket(octets), rule));
        let mut heads = vec![0; BUCKETS + 1];
        for &(octets, _) in &entries {
            heads[bucket(octets) + 1] += 1;
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
            self.look_up(number(&rest[..3]) & SHORT, &mut found);
            if let Some(four) = rest.get(..4) {
                self.look_up(number(four), &mut found);
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn look_up(&self, octets: u32, found: &mut Vec<u32>) {
        let bucket = bucket(octets);
        let entries = self.heads[bucket] as usize..self.heads[bucket + 1] as usize;
        let same = self.entries[entries].iter().filter(|entry| entry.0 == octets);
        found.extend(same.map(|entry| entry.1));
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
