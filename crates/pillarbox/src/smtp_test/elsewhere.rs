//! Tests that run on another node of the same queue: what works on one node and not on another is the network between.
//!
//! The test is in the store from the beginning. A record that is named by the node says that it is to run it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use store::{RecordKind, RecordQuery, RecordWrite, RecordWritten, StoreError};
use tokio_util::sync::CancellationToken;

use super::record::{self, State};
use super::{LOST_MS, Stored, Test, run};
use crate::http::Shared;
use crate::http::api::checks;
use crate::http::problem::Problem;

/// How often a node looks for tests that others want of it.
const LOOK: Duration = Duration::from_secs(1);
/// Wishes taken at once.
const PAGE: u32 = 20;

/// What is wanted of a node.
#[derive(Debug, Serialize, Deserialize)]
struct Wish {
    /// Number of the test.
    smtp_test: i64,
}

/// Has a test run on another node.
///
/// # Errors
/// 422 when there is no such node, or nothing was heard of it lately.
pub async fn ask(app: &Shared, node: &str, of: Test, by: String) -> Result<Stored, Problem> {
    let nodes = app.store.nodes().await?;
    match nodes.iter().find(|one| one.name == node) {
        Some(one) if one.alive => {}
        Some(_) => return Err(Problem::field("/node", "nothing was heard of this node lately")),
        None => return Err(Problem::field("/node", "there is no such node: `pillarbox node list` shows all")),
    }
    let test = Test { state: State::Running, by, node: Some(node.to_owned()), problem: None, report: None, ..of };
    let at_ms = app.clock.now_ms();
    let id = record::add(&*app.store, &test, at_ms).await?;
    let body = serde_json::to_value(Wish { smtp_test: id }).map_err(|error| StoreError::Internal(error.to_string()))?;
    let wish = RecordWrite::Add { kind: RecordKind::Node, name: node.to_owned(), open: false, at_ms, body };
    app.store.write_records(vec![wish]).await?;
    Ok(Stored { id, at_ms, test })
}

/// Runs what other nodes ask this one for, until the server stops.
pub async fn run(app: Shared, closing: CancellationToken) {
    let Some(node) = app.tests.node().map(str::to_owned) else { return };
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = closing.cancelled() => return,
        }
        match look(&app, &node).await {
            Ok(()) | Err(StoreError::Closed) => {}
            Err(error) => tracing::debug!(%error, "tests that other nodes ask for are not seen yet"),
        }
    }
}

async fn look(app: &Shared, node: &str) -> Result<(), StoreError> {
    let kind = RecordKind::Node;
    let query = RecordQuery { open: Some(false), limit: PAGE, ..RecordQuery::named(kind, node) };
    for record in app.store.records(query).await? {
        // Taken away first: it is run once at most.
        let taken = app.store.write_records(vec![RecordWrite::Remove { kind, id: record.id }]).await?;
        let Ok(wish) = serde_json::from_value::<Wish>(record.body) else { continue };
        if taken != [RecordWritten::Removed] || app.clock.now_ms().saturating_sub(record.at_ms) > LOST_MS {
            continue;
        }
        if let Some(stored) = record::one(&*app.store, wish.smtp_test).await? {
            begin(app, stored).await?;
        }
    }
    Ok(())
}

async fn begin(app: &Shared, stored: Stored) -> Result<(), StoreError> {
    match checks::place(app) {
        Ok(place) => run::begin(app, stored, place),
        Err(problem) => {
            let test = Test { state: State::Failed, problem: Some(problem.detail), ..stored.test };
            record::end(&*app.store, stored.id, &test).await?;
        }
    }
    Ok(())
}
