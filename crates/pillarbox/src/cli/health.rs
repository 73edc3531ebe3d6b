//! `pillarbox health` and `pillarbox log-level`: whether the server would take mail, and what its log says.

use std::time::Duration;

use anyhow::anyhow;
use axum::http::Method;
use serde_json::json;

use super::Fault;
use super::args::Global;
use super::client::{Client, Need, read};
use super::output::{json as print_json, print};
use crate::http::api::figures::LogLevelOut;
use crate::http::health::{HealthOut, words};

/// Exit code 0 if a message would be accepted, 1 if not, 3 if nobody answers in time.
pub async fn run(global: &Global, timeout_s: u64) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let asked = async {
        let client = Client::find(global, &loaded, Need::Server).await?;
        client.get("/health").await
    };
    let value = tokio::time::timeout(Duration::from_secs(timeout_s), asked)
        .await
        .map_err(|_| Fault::cannot(anyhow!("the server does not answer within {timeout_s} s")))??;
    let health: HealthOut = read(value.clone())?;
    if global.json {
        print_json(&value)?
    } else {
        print(&words(&health))?
    }
    if health.ready { Ok(()) } else { Err(Fault::Told) }
}

/// Shows the log's level, or changes it.
pub async fn log_level(global: &Global, level: Option<&str>) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Server).await?;
    let value = match level {
        Some(level) => client.send(Method::PUT, "/log-level", json!({ "level": level })).await?,
        None => client.get("/log-level").await?,
    };
    if global.json {
        return print_json(&value);
    }
    let log: LogLevelOut = read(value)?;
    let dropped = match log.dropped {
        0 => String::new(),
        lines => format!(" ({lines} lines were left out since the start)"),
    };
    print(&format!("{}{dropped}\n", log.level))
}
