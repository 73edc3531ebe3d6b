//! Stories of the relay in one process: a real store, real sockets and name servers, a scripted server as next hop.
//!
//! One story, or a few that belong together, per file; `rig` builds the world, `engine` the store in it. Crashes need a
//! process of their own and are not told here.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "nothing can reach into a test")]

mod engine;
mod rig;

mod batches;
mod brake;
mod brakes;
mod brakes_life;
mod brakes_scopes;
mod connections;
mod content;
mod exchangers;
mod failover;
mod faults;
mod graph;
mod incidents_over;
mod intake;
mod limits;
mod notices;
mod operators;
mod paused;
mod pinned;
mod policies;
mod recipients;
mod require_tls;
mod rules;
mod senders;
mod settings;
mod smarthost;
mod stopping;
mod stream_digests;
mod streams;
mod suppression;
mod throttling;
mod tls_optional;
mod tls_reports;
mod trouble;
mod window;
