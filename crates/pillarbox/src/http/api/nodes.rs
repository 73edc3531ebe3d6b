//! Nodes: the programs that work on one queue, and taking one out of work.

use axum::extract::{Path, State};
use relay::node::{self, Drain, Load};
use serde::{Deserialize, Serialize};
use store::Node;

use crate::http::auth::Admin;
use crate::http::problem::Problem;
use crate::http::views::Page;
use crate::http::{Shared, time};

/// How a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// It works.
    Working,
    /// It is to be drained, and has something left.
    Draining,
    /// It is drained: it can be stopped, and nothing waits for it.
    Drained,
    /// Nothing was heard of it for its lease time: others deliver what it held.
    Silent,
}

/// That a node is to be drained.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DrainOut {
    /// Since when, RFC 3339.
    pub since: String,
    /// Who wants it.
    pub who: String,
}

/// A node as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeOut {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: NodeState,
    /// It does what is done once for all nodes: incidents, checks, alerts, webhooks and the like.
    pub leads: bool,
    /// It answered this request.
    pub this: bool,
    /// Version of its program.
    pub version: String,
    /// Number of its run.
    pub run: i64,
    /// Where its pages and API are.
    pub address: Option<String>,
    /// Start of its run, RFC 3339.
    pub started: String,
    /// Seconds since it was heard of.
    pub silent_s: u64,
    /// Recipients that it has leased.
    pub leases: u64,
    /// Recipients in its memory.
    pub window: u64,
    /// Its connections to next hops.
    pub connections: u32,
    /// Attempts that ended in the last minute.
    pub attempts_per_minute: u64,
    /// It is to be drained.
    pub drain: Option<DrainOut>,
}

fn out(app: &Shared, node: Node, drain: Option<Drain>) -> NodeOut {
    let load: Load = serde_json::from_value(node.load).unwrap_or_default();
    let empty = load.draining && node.leases == 0 && load.window == 0;
    let state = match (&drain, node.alive) {
        (_, false) => NodeState::Silent,
        (None, true) => NodeState::Working,
        (Some(_), true) if empty => NodeState::Drained,
        (Some(_), true) => NodeState::Draining,
    };
    NodeOut {
        state,
        leads: node.leads,
        this: app.relay.as_ref().is_some_and(|relay| relay.node() == node.name),
        version: node.version,
        run: node.run.0,
        address: Some(node.address).filter(|address| !address.is_empty()),
        started: time::show(node.started_ms),
        silent_s: u64::try_from(node.silent_ms / 1_000).unwrap_or(0),
        leases: node.leases,
        window: load.window,
        connections: load.connections,
        attempts_per_minute: load.attempts_per_minute,
        drain: drain.map(|drain| DrainOut { since: time::show(drain.since_ms), who: drain.who }),
        name: node.name,
    }
}

async fn all(app: &Shared) -> Result<Vec<NodeOut>, Problem> {
    let nodes = node::list(&*app.store).await?;
    Ok(nodes.into_iter().map(|(node, drain)| out(app, node, drain)).collect())
}

async fn one(app: &Shared, name: &str) -> Result<NodeOut, Problem> {
    all(app).await?.into_iter().find(|node| node.name == name).ok_or_else(Problem::not_found)
}

/// All nodes, by name.
pub async fn list(State(app): State<Shared>, _: Admin) -> Result<axum::Json<Page<NodeOut>>, Problem> {
    Ok(axum::Json(Page { items: all(&app).await?, next: None }))
}

/// One node.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<NodeOut>, Problem> {
    one(&app, &name).await.map(axum::Json)
}

async fn set(app: &Shared, name: &str, drain: Option<Drain>) -> Result<axum::Json<NodeOut>, Problem> {
    node::set_drain(&*app.store, name, drain, app.clock.now_ms()).await?;
    if let Some(relay) = app.relay.as_ref().filter(|relay| relay.node() == name) {
        // It begins before this is answered; others look every two seconds.
        relay.say_now().await;
        relay.say_now().await;
    }
    one(app, name).await.map(axum::Json)
}

/// Takes a node out of work: it takes no mail, gives its leases back and finishes what is in flight, until it is set to work again,
/// also over its restarts.
pub async fn drain(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<NodeOut>, Problem> {
    let drain = Drain { since_ms: app.clock.now_ms(), who: caller.who() };
    set(&app, &name, Some(drain)).await
}

/// Sets a drained node to work again.
pub async fn undrain(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<NodeOut>, Problem> {
    set(&app, &name, None).await
}
