//! The binary: command line, configuration, HTTP, and all wiring.
//!
//! Everything that decides about mail is in the crates below; here things are put together and shown.

#![expect(unreachable_pub, reason = "nothing imports a binary: `pub` says what a module offers to its neighbours")]

mod access;
mod alert;
mod arrival;
mod audit;
mod batch;
mod changes;
mod check;
mod cli;
mod cluster;
mod config;
mod dossier;
mod http;
mod incident;
mod limits;
mod metrics;
mod monitor;
mod oauth;
mod patterns;
mod presets;
mod returned;
mod route_document;
mod series;
mod serve;
mod smtp_test;
mod support;
mod suppression;
mod telemetry;
mod volume;
mod webhook;
mod why;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The HTTP client takes the process's provider; it is the one that mail uses. A second call would be harmless.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    cli::run()
}
