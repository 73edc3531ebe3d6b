//! Counts connections, in all and by address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

/// The counters of one listener.
#[derive(Debug, Default)]
pub(super) struct Counters {
    total: AtomicU32,
    by_address: Mutex<HashMap<IpAddr, u32>>,
}

/// A place in the total; given back when dropped.
pub(super) struct Place(Arc<Counters>);

/// A place among those of one address; given back when dropped.
pub(super) struct Seat {
    counters: Arc<Counters>,
    key: IpAddr,
}

impl Counters {
    pub(super) fn place(self: &Arc<Self>, most: u32) -> Option<Place> {
        let place = Place(self.clone());
        (self.total.fetch_add(1, Ordering::Relaxed) < most).then_some(place)
    }

    pub(super) fn seat(self: &Arc<Self>, address: IpAddr, most: u32) -> Option<Seat> {
        let key = key(address);
        let mut map = self.by_address.lock();
        let count = map.entry(key).or_insert(0);
        if *count >= most {
            if *count == 0 {
                map.remove(&key);
            }
            return None;
        }
        *count += 1;
        Some(Seat { counters: self.clone(), key })
    }
}

/// One customer has one IPv4 address or one IPv6 /64 at least.
fn key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() & (u128::MAX << 64))),
        four => four,
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.total.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut map = self.counters.by_address.lock();
        if let Some(count) = map.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                map.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back_and_nothing_is_left_behind() {
        let counters = Arc::new(Counters::default());
        let one = counters.place(1);
        assert!(one.is_some() && counters.place(1).is_none());
        drop(one);
        assert!(counters.place(1).is_some());

        let four: IpAddr = "192.0.2.1".parse().unwrap();
        let seats = [counters.seat(four, 2), counters.seat("::ffff:192.0.2.1".parse().unwrap(), 2)];
        assert!(seats.iter().all(Option::is_some) && counters.seat(four, 2).is_none());
        assert!(counters.seat("192.0.2.2".parse().unwrap(), 2).is_some());
        let six = counters.seat("2001:db8::1".parse().unwrap(), 1);
        assert!(six.is_some() && counters.seat("2001:db8::ffff".parse().unwrap(), 1).is_none());
        assert!(counters.seat("2001:db8:0:1::1".parse().unwrap(), 1).is_some());
        assert!(counters.seat("198.51.100.1".parse().unwrap(), 0).is_none());
        drop((seats, six));
        assert!(counters.by_address.lock().is_empty());
        assert_eq!(counters.total.load(Ordering::Relaxed), 0);
    }
}
