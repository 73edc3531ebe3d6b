//! Commands on the server as a whole: serve, reload, login, backup, verify.

use std::path::Path;

use anyhow::Context;
use axum::http::Method;
use serde_json::json;

use super::Fault;
use super::args::Global;
use super::client::{Client, Need, read};
use super::output::{json as print_json, plural, print};
use crate::config::values::show_size;
use crate::http::api::admin::{BackupOut, Reloaded, TokenOut, VerifyOut};

/// Runs the server.
pub fn serve(global: &Global) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::cannot(anyhow::Error::new(error).context("cannot start the runtime")))?;
    runtime.block_on(crate::serve::run(loaded, global.config.clone())).map_err(Fault::cannot)
}

/// As SIGHUP.
pub async fn reload(global: &Global) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Server).await?;
    let value = client.send(Method::POST, "/reload", json!({})).await?;
    if global.json {
        return print_json(&value);
    }
    let reloaded: Reloaded = read(value)?;
    match reloaded.problems.is_empty() {
        true => print("reloaded\n"),
        false => {
            print(&format!("reloaded, with problems:\n  {}\n", reloaded.problems.join("\n  ")))?;
            Err(Fault::Told)
        }
    }
}

/// A token for the pages.
pub async fn login(global: &Global) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Server).await?;
    let value = client.send(Method::POST, "/login-tokens", json!({})).await?;
    if global.json {
        return print_json(&value);
    }
    let made: TokenOut = read(value)?;
    print(&format!("{}\n", made.token))
}

/// A copy of the data.
pub async fn backup(global: &Global, directory: &Path) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let to = std::path::absolute(directory).context("cannot tell where we are").map_err(Fault::cannot)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    let value = client.send(Method::POST, "/backup", json!({ "to": to })).await?;
    if global.json {
        return print_json(&value);
    }
    let written: BackupOut = read(value)?;
    print(&format!("{} written to {}\n", show_size(written.octets), written.to.display()))?;
    print("The key is not in it: keep a copy of the key apart from the data.\n")
}

/// Checks the data.
pub async fn verify(global: &Global, deep: bool) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    let value = client.send(Method::POST, "/verify", json!({ "deep": deep })).await?;
    let found: VerifyOut = read(value.clone())?;
    if global.json {
        print_json(&value)?;
    } else if found.problems.is_empty() {
        print("no problems\n")?;
    } else {
        let count = plural(found.problems.len() as u64, "problem");
        print(&format!("{count}:\n  {}\n", found.problems.join("\n  ")))?;
    }
    if found.problems.is_empty() { Ok(()) } else { Err(Fault::Told) }
}
