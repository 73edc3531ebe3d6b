//! Names in a group of failures, counted: of very many the frequent ones are kept.

use std::collections::HashMap;

use serde::Serialize;

/// Most names counted in one group.
const MAX_NAMES: usize = 500;
/// Names shown of a group.
const SHOWN_NAMES: usize = 5;

/// A name and how often it was there.
#[derive(Debug, Clone, Serialize)]
pub struct Count {
    /// Domain or host.
    pub name: String,
    /// How often; at least so often where there were very many names.
    pub count: u64,
}

/// Names with their counts; of very many the frequent ones.
#[derive(Debug, Default)]
pub struct Names {
    counts: HashMap<Box<[u8]>, u64>,
}

impl Names {
    /// Counts one.
    pub fn add(&mut self, name: &[u8]) {
        if name.is_empty() || name.len() > 255 {
            return;
        }
        if let Some(count) = self.counts.get_mut(name) {
            *count += 1;
            return;
        }
        // The rare ones make room. They may come back: their counts are lower bounds then.
        let mut least = 1;
        while self.counts.len() >= MAX_NAMES {
            self.counts.retain(|_, count| *count > least);
            least *= 2;
        }
        self.counts.insert(name.into(), 1);
    }

    /// The most frequent.
    pub fn top(&self) -> Vec<Count> {
        let mut by_name: HashMap<String, u64> = HashMap::new();
        for (name, count) in &self.counts {
            *by_name.entry(String::from_utf8_lossy(name).to_ascii_lowercase()).or_default() += count;
        }
        let mut all: Vec<Count> = by_name.into_iter().map(|(name, count)| Count { name, count }).collect();
        all.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
        all.truncate(SHOWN_NAMES);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn very_many_names_keep_the_frequent_ones() {
        let mut names = Names::default();
        for n in 0..100_000 {
            names.add(format!("rare{n}.example").as_bytes());
            names.add(b"often.example");
        }
        assert!(names.counts.len() <= MAX_NAMES);
        assert_eq!(names.top()[0].count, 100_000);
    }
}
