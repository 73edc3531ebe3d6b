//! Which nodes there are, and which of them leads: it alone does what is to be done once for all.
//!
//! The lead ends by the server's clock unless it is renewed. Whoever had it may not know yet that it has ended; what must
//! not be done twice asks [`fence`] within its transaction.

use super::PostgresStore;
use super::fault::Fault;
use super::tx::Tx;
use super::unit::clean;
use crate::model::*;
use crate::verbs::Nodes;
use crate::{Pending, StoreError};

/// The duty of doing what is to be done once.
const LEAD: &str = "lead";
/// A lead ends after this part of the lease time.
const PART: f64 = 3.0;

impl Nodes for PostgresStore {
    fn say(&self, said: NodeSaid) -> Pending<NodeTold> {
        self.write(said, |tx, said| async move { say(&tx, &said).await })
    }

    fn nodes(&self) -> Pending<Vec<Node>> {
        self.read((), |tx, _| async move { nodes(&tx).await })
    }

    fn lapses(&self) -> u64 {
        self.shared.alive.lapses()
    }

    fn leave(&self, run: Incarnation) -> Pending<()> {
        // It is not said any more that this run is alive.
        self.shared.runs.lock().retain(|(known, _)| *known != run);
        self.write(run, |tx, run| async move { leave(&tx, *run).await })
    }
}

async fn say(tx: &Tx, said: &NodeSaid) -> Result<NodeTold, Fault> {
    let (name, version, address) = (clean(&said.name), clean(&said.version), clean(&said.address));
    let (load, willing) = (clean(&said.load.to_string()), said.lead == Lead::Willing);
    let noted = tx
        .execute(
            "INSERT INTO member AS m (name, run, version, address, started, seen, load, willing)
             VALUES ($1, $2, $3, $4, $5, now(), $6, $7)
             ON CONFLICT (name) DO UPDATE SET run = excluded.run, version = excluded.version, address = excluded.address,
                 started = excluded.started, seen = excluded.seen, load = excluded.load, willing = excluded.willing
             WHERE m.run <= excluded.run",
            &[&name, &said.run.0, &version, &address, &said.started_ms, &load, &willing],
        )
        .await?;
    // A later run has the name: this one is over, and does not know it yet.
    if noted == 0 || (!willing && others_would(tx, said.run).await?) {
        give_up(tx, said.run).await?;
        return Ok(NodeTold { leads_ms: None });
    }
    let for_ms = (tx.shared.lease_ms / PART).floor();
    let row = tx
        .query_opt(
            "INSERT INTO duty AS d (name, run, until, term) VALUES ($1, $2, now() + $3 * INTERVAL '1 millisecond', 1)
             ON CONFLICT (name) DO UPDATE SET run = excluded.run, until = excluded.until,
                 term = d.term + (d.run <> excluded.run)::integer
             WHERE d.run = excluded.run OR d.until < now() RETURNING term",
            &[&LEAD, &said.run.0, &for_ms],
        )
        .await?;
    if row.is_some() {
        tx.execute("DELETE FROM member WHERE seen < now() - INTERVAL '1 day'", &[]).await?;
    }
    Ok(NodeTold { leads_ms: row.map(|_| for_ms as i64) })
}

/// Another node is there that would lead.
async fn others_would(tx: &Tx, run: Incarnation) -> Result<bool, Fault> {
    let row = tx
        .query_opt(
            "SELECT 1 FROM member WHERE willing AND run <> $1 AND seen >= now() - $2 * INTERVAL '1 millisecond' LIMIT 1",
            &[&run.0, &tx.shared.lease_ms],
        )
        .await?;
    Ok(row.is_some())
}

async fn give_up(tx: &Tx, run: Incarnation) -> Result<(), Fault> {
    tx.execute("UPDATE duty SET run = 0, until = '-infinity' WHERE name = $1 AND run = $2", &[&LEAD, &run.0]).await?;
    Ok(())
}

async fn leave(tx: &Tx, run: Incarnation) -> Result<(), Fault> {
    give_up(tx, run).await?;
    // Leases of a run that nobody knows are given back by whoever looks next.
    tx.pipeline(&[
        ("DELETE FROM member WHERE run = $1", &[&run.0]),
        ("DELETE FROM node WHERE incarnation = $1", &[&run.0]),
    ])
    .await?;
    Ok(())
}

/// Refuses what only the lead may do, if another has it now. Held until the commit: nobody takes it over in between.
pub(super) async fn fence(tx: &Tx) -> Result<(), Fault> {
    let row = tx.query_opt("SELECT run FROM duty WHERE name = $1 FOR SHARE", &[&LEAD]).await?;
    let Some(run) = row.map(|row| row.try_get::<_, i64>(0)).transpose()? else { return Ok(()) };
    // Whoever never said anything is no node: a test, or a command.
    let own: Vec<i64> = tx.shared.runs.lock().iter().map(|(run, _)| run.0).collect();
    if run == 0 || own.is_empty() || own.contains(&run) {
        return Ok(());
    }
    Err(StoreError::Invalid("another node does this now".into()).into())
}

async fn nodes(tx: &Tx) -> Result<Vec<Node>, Fault> {
    // Programs that are older than the table of nodes are known by their runs alone.
    let rows = tx
        .query(
            "WITH lead AS (SELECT run FROM duty WHERE name = $1 AND until >= now()),
                  said AS (SELECT name, run, version, address, started, seen, load FROM member
                      UNION ALL SELECT name, max(incarnation), max(version), '', max(started), max(alive_until)
                          - $2 * INTERVAL '1 millisecond', 'null' FROM node
                      WHERE alive_until >= now() AND name NOT IN (SELECT name FROM member) GROUP BY name)
             SELECT name, said.run, version, address, started,
                 greatest(0, extract(epoch FROM now() - seen) * 1000)::bigint,
                 EXISTS (SELECT 1 FROM lead WHERE lead.run = said.run),
                 (SELECT count(*) FROM recipient WHERE state = 1 AND lease = said.run), load
             FROM said ORDER BY name",
            &[&LEAD, &tx.shared.lease_ms],
        )
        .await?;
    let mut nodes = Vec::with_capacity(rows.len());
    for row in &rows {
        let silent_ms: i64 = row.try_get(5)?;
        nodes.push(Node {
            name: row.try_get(0)?,
            run: Incarnation(row.try_get(1)?),
            version: row.try_get(2)?,
            address: row.try_get(3)?,
            started_ms: row.try_get(4)?,
            silent_ms,
            alive: silent_ms as f64 <= tx.shared.lease_ms,
            leads: row.try_get(6)?,
            leases: row.try_get::<_, i64>(7)?.unsigned_abs(),
            load: serde_json::from_str(row.try_get(8)?).unwrap_or_default(),
        });
    }
    Ok(nodes)
}
