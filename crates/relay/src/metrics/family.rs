//! Bounded sets: names that become numbers, and cells that are found by numbers. Nothing is ever taken out.
//!
//! Both are tables of open addressing whose places are filled once: looking up costs a hash and an acquire load or two.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::figure::OTHER;

/// Names by number; the last number stands for all that found no room.
#[derive(Debug)]
pub(super) struct Names {
    hash: RandomState,
    places: Box<[OnceLock<Box<str>>]>,
    used: AtomicUsize,
    most: usize,
}

impl Names {
    /// Room for so many.
    pub(super) fn new(most: usize) -> Self {
        let places = (0..(most * 2).next_power_of_two()).map(|_| OnceLock::new()).collect();
        Self { hash: RandomState::new(), places, used: AtomicUsize::new(0), most }
    }

    /// The number of a name.
    pub(super) fn number(&self, name: &str) -> u16 {
        let mask = self.places.len() - 1;
        let start = self.hash.hash_one(name) as usize;
        for step in 0..self.places.len() {
            let at = (start + step) & mask;
            let place = &self.places[at];
            let found = match place.get() {
                Some(found) => found,
                None if self.used.load(Ordering::Relaxed) >= self.most => return self.other(),
                // Another thread may be faster, with another name.
                None => place.get_or_init(|| {
                    self.used.fetch_add(1, Ordering::Relaxed);
                    name.into()
                }),
            };
            if **found == *name {
                return at as u16;
            }
        }
        self.other()
    }

    fn other(&self) -> u16 {
        self.places.len() as u16
    }

    /// The name of a number.
    pub(super) fn name(&self, number: u16) -> &str {
        self.places.get(usize::from(number)).and_then(OnceLock::get).map_or(OTHER, |name| name)
    }
}

/// Cells by up to four numbers; one more for all that found no room.
#[derive(Debug)]
pub(super) struct Family<T> {
    places: Box<[OnceLock<(u64, T)>]>,
    used: AtomicUsize,
    most: usize,
    other: OnceLock<T>,
    make: fn() -> T,
}

/// Numbers as one key.
pub(super) fn key(numbers: &[u16]) -> u64 {
    numbers.iter().fold(0, |key, number| key << 16 | u64::from(*number))
}

/// The numbers of a key, of which there are `n`.
pub(super) fn numbers<const N: usize>(key: u64) -> [u16; N] {
    std::array::from_fn(|at| (key >> (16 * (N - 1 - at))) as u16)
}

impl<T> Family<T> {
    /// Room for so many.
    pub(super) fn new(most: usize, make: fn() -> T) -> Self {
        let places = (0..(most * 2).next_power_of_two()).map(|_| OnceLock::new()).collect();
        Self { places, used: AtomicUsize::new(0), most, other: OnceLock::new(), make }
    }

    /// The cell of a key.
    pub(super) fn cell(&self, key: u64) -> &T {
        let mask = self.places.len() - 1;
        // Fibonacci hashing: the numbers are ours, nobody can choose them to collide.
        let start = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize;
        for step in 0..self.places.len() {
            let place = &self.places[(start + step) & mask];
            let (found, cell) = match place.get() {
                Some(found) => found,
                None if self.used.load(Ordering::Relaxed) >= self.most => break,
                None => place.get_or_init(|| {
                    self.used.fetch_add(1, Ordering::Relaxed);
                    (key, (self.make)())
                }),
            };
            if *found == key {
                return cell;
            }
        }
        self.other.get_or_init(self.make)
    }

    /// All cells; the one without a key is the rest.
    pub(super) fn each(&self) -> impl Iterator<Item = (Option<u64>, &T)> {
        let known = self.places.iter().filter_map(OnceLock::get).map(|(key, cell)| (Some(*key), cell));
        known.chain(self.other.get().map(|cell| (None, cell)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn a_name_has_one_number_whoever_asks_first() {
        let names = Names::new(50);
        let all: Vec<Vec<u16>> = std::thread::scope(|scope| {
            let ask = || (0..50).map(|n| names.number(&format!("route-{n}"))).collect();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_default()).collect()
        });
        assert!(all.iter().all(|one| *one == all[0] && one.len() == 50), "{all:?}");
        for (n, number) in all[0].iter().enumerate() {
            assert_eq!(names.name(*number), format!("route-{n}"));
        }
    }

    #[test]
    fn what_comes_too_late_is_other_and_the_first_keep_their_names() {
        let names = Names::new(3);
        let first: Vec<u16> = ["a", "b", "c"].iter().map(|name| names.number(name)).collect();
        for n in 0..1_000 {
            assert_eq!(names.name(names.number(&format!("made-up-{n}"))), OTHER);
        }
        assert_eq!(["a", "b", "c"].map(|name| names.number(name)).to_vec(), first);
    }

    #[test]
    fn a_family_never_grows_beyond_its_room_and_counts_everything() {
        let family: Family<AtomicU64> = Family::new(10, || AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..1_000_u16 {
                        family.cell(key(&[n, n])).fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        let sum: u64 = family.each().map(|(_, cell)| cell.load(Ordering::Relaxed)).sum();
        assert_eq!(sum, 4_000);
        let cells = family.each().count();
        assert!(
            (11..=14).contains(&cells),
            "{cells}: ten, the rest, and at most one for each thread that was on its way"
        );
    }

    #[test]
    fn a_key_gives_its_numbers_back() {
        assert_eq!(numbers::<3>(key(&[1, 65_535, 7])), [1, 65_535, 7]);
    }
}
