//! The access token of a route that is checked: without one nobody would be let in, so nothing else is tried. What stands in
//! the way is told as by every check, at the stage where it would be needed. The check itself is elsewhere.

use std::future::Future;
use std::sync::Arc;

use anyhow::Result;
use diagnose::check::{Report, Way};
use explain::RuleBase;
use net::Clock;
use proto::transcript::{Failure, Stage};
use relay::route::{RouteRecord, RouteTls};
use secrecy::SecretString;

use super::graph::Check;
use crate::config::Config;
use crate::serve::parts;

/// Asks for it; `Ok(Err(_))` is the report of a check that ended there.
///
/// # Errors
/// The machine's own side cannot be set up: a file of authorities that cannot be read.
pub async fn first(
    config: &Config,
    clock: Clock,
    rules: Arc<RuleBase>,
    record: &RouteRecord,
    token: impl Future<Output = Result<SecretString, Failure>>,
) -> Result<Result<SecretString, Box<Report>>> {
    let (port, tls) = match record.tls {
        Some(RouteTls::Implicit) => (465, "implicit"),
        Some(RouteTls::None) => (587, "none"),
        _ => (587, "starttls"),
    };
    let host = record.next_host().unwrap_or_default().to_owned();
    let target = Way { host, port: record.port.unwrap_or(port), tls };
    let mut check = Check::new(parts::net(config, clock)?, target);
    Ok(match token.await {
        Ok(token) => Ok(token),
        Err(failure) => {
            check.note(Stage::Auth, None, Some(&failure));
            Err(Box::new(check.report(rules, Some((Stage::Auth, failure)), !record.verify)))
        }
    })
}
