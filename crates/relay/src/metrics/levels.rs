//! What goes up and down in a relay: its window, its memory, its connections, what it keeps away from.

use super::figure::{Figure, Kind, Value};
use crate::run::Relay;

/// Most destinations and routes that are told apart.
const MOST: usize = 200;

impl Relay {
    /// How it is now.
    pub fn levels(&self) -> Vec<Figure> {
        let shared = self.shared();
        let (window, connections) = {
            let schedule = shared.schedule.lock();
            (schedule.window().recipients(), schedule.connections())
        };
        let (out, by_fallback) = {
            let failover = shared.failover.lock();
            (failover.overview(), failover.delivered)
        };
        let brakes = self.brakes();
        let mut braked = Figure::new(
            Kind::Gauge,
            "pillarbox_credential_brake",
            "Rejections in a row of a route's credential, at least 1; nothing is sent by the route meanwhile.",
        );
        let of_credentials = brakes.iter().filter(|brake| brake.scope.starts_with("credential:"));
        // Two incidents may stop the same one.
        let mut rejected = std::collections::BTreeMap::<&str, u32>::new();
        for brake in of_credentials.filter(|brake| brake.released.is_none()) {
            let rejections = rejected.entry(&brake.route).or_insert(1);
            *rejections = brake.rejections.max(*rejections);
        }
        for (route, rejections) in rejected.into_iter().take(MOST) {
            braked = braked.with(vec![("route", route.to_owned())], Value::Level(f64::from(rejections)));
        }
        let mut kinds = std::collections::BTreeMap::<String, (u64, u64)>::new();
        let mut known = std::collections::HashSet::new();
        for brake in &brakes {
            let kind = brake.scope.split(':').next().unwrap_or_default();
            let (count, waiting) = kinds.entry(kind.to_owned()).or_default();
            *count += 1;
            // All brakes of an incident hold the same mail.
            if brake.incident.as_ref().is_none_or(|incident| known.insert(incident.clone())) {
                *waiting += brake.waiting;
            }
        }
        let mut on = Figure::new(Kind::Gauge, "pillarbox_brakes", "Brakes that are on, or let their mail go.");
        let mut held = Figure::new(Kind::Gauge, "pillarbox_braked_recipients", "Recipients held by brakes.");
        for (kind, (count, waiting)) in kinds {
            on = on.with(vec![("kind", kind.clone())], Value::Level(count as f64));
            held = held.with(vec![("kind", kind)], Value::Level(waiting as f64));
        }
        let mut down = std::collections::BTreeMap::<String, u64>::new();
        for one in &out {
            *down.entry(crate::dispatch::route_of(&one.name).to_owned()).or_default() += 1;
        }
        let mut failing = Figure::new(
            Kind::Gauge,
            "pillarbox_destinations_out",
            "Destinations where nothing works, whose mail goes by fallback routes.",
        );
        for (route, count) in down.into_iter().take(MOST) {
            failing = failing.with(vec![("route", route)], Value::Level(count as f64));
        }
        vec![
            Figure::level("pillarbox_window_recipients", "Recipients in memory.", window as f64),
            Figure::level(
                "pillarbox_window_bytes",
                "Contents in memory, waiting for delivery.",
                shared.contents.used() as f64,
            ),
            Figure::level("pillarbox_receiving_bytes", "Contents being received.", shared.receiving.used() as f64),
            Figure::level(
                "pillarbox_connections",
                "Connections to next hops, open or opening.",
                f64::from(connections),
            ),
            Figure::level(
                "pillarbox_suppressed_addresses",
                "Addresses that get no mail.",
                shared.suppressed.len() as f64,
            ),
            Figure::count("pillarbox_by_fallback", "Messages that fallback routes took.", by_fallback),
            braked,
            on,
            held,
            failing,
        ]
    }
}
