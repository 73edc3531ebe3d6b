//! What brakes tell those who listen: the keeper of incidents.

use store::Cause;

use super::scope::BrakeScope;

/// Something happened to a brake.
#[derive(Debug, Clone, PartialEq)]
pub enum BrakeNews {
    /// The relay stopped by itself: a credential was rejected; or, while mail was being released, it failed as before, and
    /// the brake is on again.
    Braked {
        /// What stands still.
        scope: BrakeScope,
        /// The incident whose brake is on again; `None`: no incident is known yet.
        incident: Option<i64>,
        /// What happened.
        cause: Box<Cause>,
        /// Unix milliseconds.
        at_ms: i64,
    },
    /// A probe found that nothing has changed.
    ProbeFailed {
        /// What was probed.
        scope: BrakeScope,
        /// For which incident.
        incident: i64,
        /// What happened.
        cause: Box<Cause>,
        /// Unix milliseconds.
        at_ms: i64,
        /// When the next one goes, Unix milliseconds.
        next_ms: i64,
    },
    /// A probe went well, or what had stopped by itself goes on by itself. Mail is held until
    /// [`crate::Relay::unbrake`], or until nobody has called that for a while.
    ProbeSucceeded {
        /// What was probed.
        scope: BrakeScope,
        /// For which incident; `None`: there was none.
        incident: Option<i64>,
        /// Unix milliseconds.
        at_ms: i64,
    },
    /// The route was changed: it is probed at once.
    SettingChanged {
        /// What it concerns.
        scope: BrakeScope,
        /// The incident.
        incident: i64,
        /// Unix milliseconds.
        at_ms: i64,
    },
    /// All that was held for an incident has been released.
    Released {
        /// The incident.
        incident: i64,
        /// Recipients.
        recipients: u64,
        /// Unix milliseconds.
        at_ms: i64,
    },
}
