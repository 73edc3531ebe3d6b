//! Accept, schedule, route, deliver, judge.
//!
//! `schedule` and `verdict` are pure; `accept`, `deliver` and `run` move octets between the store and the network.

pub mod route;
pub mod sender;
