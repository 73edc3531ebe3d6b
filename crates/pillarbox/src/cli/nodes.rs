//! `pillarbox node`.

use std::time::Duration;

use anyhow::anyhow;
use axum::http::Method;
use net::Clock;
use serde_json::{Value, json};

use super::Fault;
use super::args::Global;
use super::args_nodes::NodeCommand;
use super::client::{Client, Need, escaped, read};
use super::output::{json as print_json, print, short_time, table};
use crate::http::api::nodes::{NodeOut, NodeState};
use crate::http::views::Page;

/// Between two looks at a node that drains.
const LOOK: Duration = Duration::from_millis(500);

/// Does what was asked.
pub async fn run(global: &Global, command: NodeCommand) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Server).await?;
    match command {
        NodeCommand::Ls => list(global, client.get("/nodes").await?),
        NodeCommand::Drain { name, wait } => {
            let name = named(&client, name).await?;
            let told = client.send(Method::POST, &format!("{}/drain", path(&name)), json!({})).await?;
            match wait {
                None => show(global, told),
                Some(seconds) => wait_for(global, &client, &name, Duration::from_secs(seconds)).await,
            }
        }
        NodeCommand::Undrain { name } => {
            let name = named(&client, name).await?;
            show(global, client.send(Method::POST, &format!("{}/undrain", path(&name)), json!({})).await?)
        }
    }
}

fn path(name: &str) -> String {
    format!("/nodes/{}", escaped(name))
}

/// The node that was named, or the one that answers.
async fn named(client: &Client, name: Option<String>) -> Result<String, Fault> {
    if let Some(name) = name {
        return Ok(name);
    }
    let page: Page<NodeOut> = read(client.get("/nodes").await?)?;
    let this = page.items.into_iter().find(|node| node.this).map(|node| node.name);
    this.ok_or_else(|| Fault::cannot(anyhow!("the server does not know its own node: name one")))
}

/// Waits until it is empty.
async fn wait_for(global: &Global, client: &Client, name: &str, most: Duration) -> Result<(), Fault> {
    let clock = Clock::system();
    loop {
        let value = client.get(&path(name)).await?;
        let node: NodeOut = read(value.clone())?;
        // Nothing is left of one that is gone: others have what it held.
        let empty = matches!(node.state, NodeState::Drained | NodeState::Silent);
        if empty || u128::from(clock.mono_us()) >= most.as_micros() {
            show(global, value)?;
            return if empty { Ok(()) } else { Err(Fault::Told) };
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn state(state: NodeState) -> &'static str {
    match state {
        NodeState::Working => "working",
        NodeState::Draining => "draining",
        NodeState::Drained => "drained",
        NodeState::Silent => "silent",
    }
}

fn list(global: &Global, value: Value) -> Result<(), Fault> {
    let page: Page<NodeOut> = read(value.clone())?;
    if global.json {
        print_json(&value)?;
    } else {
        let row = |node: &NodeOut| {
            vec![
                format!("{}{}", node.name, if node.this { " *" } else { "" }),
                state(node.state).into(),
                if node.leads { "leads".into() } else { String::new() },
                node.version.clone(),
                short_time(&node.started),
                format!("{} s ago", node.silent_s),
                node.leases.to_string(),
                node.connections.to_string(),
                node.attempts_per_minute.to_string(),
                node.address.clone().unwrap_or_default(),
            ]
        };
        let heads =
            ["NAME", "STATE", "", "VERSION", "STARTED", "SEEN", "LEASES", "CONNECTIONS", "PER MINUTE", "ADDRESS"];
        table(&heads, &page.items.iter().map(row).collect::<Vec<_>>())?;
    }
    match page.items.iter().any(|node| node.state == NodeState::Silent) {
        true => Err(Fault::Told),
        false => Ok(()),
    }
}

fn show(global: &Global, value: Value) -> Result<(), Fault> {
    if global.json {
        return print_json(&value);
    }
    let node: NodeOut = read(value)?;
    let words = match node.state {
        NodeState::Working => "it works".to_owned(),
        NodeState::Drained => "it is drained: it can be stopped".to_owned(),
        NodeState::Silent => "it is silent: others deliver what it held".to_owned(),
        NodeState::Draining => {
            format!("it drains: {} recipients leased, {} connections", node.leases, node.connections)
        }
    };
    print(&format!("{}: {words}\n", node.name))
}
