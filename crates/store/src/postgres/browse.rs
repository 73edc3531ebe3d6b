//! Looking: recipients, messages, counts, the capture mailbox.

use std::collections::HashMap;

use tokio_postgres::Row;

use super::claim::{priority, read_lane_key};
use super::columns::signed;
use super::fault::Fault;
use super::read::{self, MESSAGE};
use super::select;
use super::tx::Tx;
use super::unit::{number, state};
use crate::engine::queued::{Sums, largest};
use crate::engine::{MOST, bounded};
use crate::model::*;
use crate::{StoreError, encode};

/// Recipients that match, oldest message first.
pub(super) async fn recipients(
    tx: &Tx,
    selector: &Selector,
    after: Option<RecipientId>,
    limit: u32,
) -> Result<Vec<RecipientView>, Fault> {
    let ids = select::select(tx, selector, after, bounded(limit)).await?;
    named(tx, &ids).await
}

/// A count.
pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

const VIEW: &str = "SELECT r.message, r.n, r.state, r.due, r.attempts, r.why, r.cause, r.address, m.accepted,
     m.reverse_path, m.size, l.route, l.domain, l.sender, l.stream, l.priority, m.sender, m.stream, m.priority, r.parameters
     FROM recipient r JOIN message m ON m.id = r.message LEFT JOIN lane l ON l.id = r.lane";

/// Recipients by their names, in their order.
pub(super) async fn named(tx: &Tx, names: &[RecipientId]) -> Result<Vec<RecipientView>, Fault> {
    let names = &names[..names.len().min(MOST as usize)];
    let (messages, numbers): (Vec<i64>, Vec<i32>) = names.iter().map(|id| (id.message.0, signed(id.n))).unzip();
    let sql = format!(
        "{VIEW} JOIN unnest($1::bigint[], $2::integer[]) WITH ORDINALITY AS u(message, n, place)
             ON u.message = r.message AND u.n = r.n ORDER BY u.place"
    );
    tx.query(&sql, &[&messages, &numbers]).await?.iter().map(read_view).collect()
}

fn read_view(row: &Row) -> Result<RecipientView, Fault> {
    let state = state(row.try_get(2)?);
    let address = encode::read_address(row.try_get(7)?)?;
    // A lane's row is removed long after its last use; an old recipient is shown by its message's words then.
    let lane = match row.try_get::<_, Option<&str>>(11)? {
        Some(_) => read_lane_key(row, 11)?,
        None => LaneKey {
            route: "".into(),
            domain: address.domain().into(),
            sender: row.try_get::<_, &str>(16)?.into(),
            stream: row.try_get::<_, &str>(17)?.into(),
            priority: priority(row.try_get(18)?),
        },
    };
    Ok(RecipientView {
        id: RecipientId { message: MessageId(row.try_get(0)?), n: number(row.try_get(1)?) },
        address,
        parameters: encode::read_rcpt_parameters(row.try_get(19)?)?,
        state,
        due_ms: row.try_get(3)?,
        attempts: number(row.try_get(4)?),
        lane,
        why: match state {
            State::Held | State::Suppressed | State::Delivered | State::Bounced | State::Complained => {
                row.try_get(5)?
            }
            _ => None,
        },
        cause: encode::read_cause(row.try_get(6)?)?,
        accepted_ms: row.try_get(8)?,
        reverse_path: encode::read_reverse_path(row.try_get(9)?)?,
        size: u32::try_from(row.try_get::<_, i64>(10)?).unwrap_or(u32::MAX),
    })
}

/// A message with its recipients.
pub(super) async fn message(tx: &Tx, id: MessageId, limit: u32) -> Result<MessageView, Fault> {
    let view = messages(tx, &[id.0], bounded(limit)).await?.pop();
    view.ok_or(Fault::Command(StoreError::NotFound))
}

/// Messages with their first recipients, in the order of their ids.
async fn messages(tx: &Tx, ids: &[i64], limit: usize) -> Result<Vec<MessageView>, Fault> {
    let sql = format!("SELECT {MESSAGE}, message.stored, message.captured FROM message WHERE id = ANY($1) ORDER BY id");
    let rows = tx.query(&sql, &[&ids]).await?;
    let mut views = Vec::with_capacity(rows.len());
    let mut places = HashMap::with_capacity(rows.len());
    for row in &rows {
        let message = read::shared_message(row)?;
        places.insert(message.id, views.len());
        views.push(MessageView {
            message,
            recipients: Vec::new(),
            has_content: row.try_get(12)?,
            captured: row.try_get(13)?,
        });
    }
    // The numbers of a message's recipients begin with 0 and have no gaps.
    let sql = format!("{VIEW} WHERE r.message = ANY($1) AND r.n < $2 ORDER BY r.message, r.n");
    for row in &tx.query(&sql, &[&ids, &i32::try_from(limit).unwrap_or(i32::MAX)]).await? {
        let view = read_view(row)?;
        if let Some(place) = places.get(&view.id.message) {
            views[*place].recipients.push(view);
        }
    }
    Ok(views)
}

/// The queue by group: lane rows, and the leased recipients, which are few.
pub(super) async fn counts(tx: &Tx, by: GroupBy, limit: u32) -> Result<Vec<QueueCount>, Fault> {
    let column = match by {
        GroupBy::Domain => "domain",
        GroupBy::Route => "route",
        GroupBy::Sender => "sender",
        GroupBy::Stream => "stream",
        GroupBy::Cause => return causes(tx, bounded(limit)).await,
    };
    let sql = format!(
        "SELECT {column}, sum(pending)::bigint, (coalesce(sum(pending) FILTER (WHERE priority = 0), 0))::bigint,
             sum(held)::bigint, min(due)
         FROM (SELECT {column}, waiting AS pending, held, next_due AS due, priority FROM lane WHERE waiting > 0 OR held > 0
             UNION ALL
             SELECT l.{column}, c.leased, 0, NULL, l.priority FROM
                 (SELECT lane, count(*) AS leased FROM recipient WHERE state = 1 GROUP BY lane) c JOIN lane l ON l.id = c.lane) g
         GROUP BY {column}"
    );
    summed(tx, &sql, bounded(limit)).await
}

/// Waiting and held recipients by the rule of their last failure. Reads the index alone.
async fn causes(tx: &Tx, limit: usize) -> Result<Vec<QueueCount>, Fault> {
    let sql = "SELECT coalesce(rule, ''), count(*) FILTER (WHERE state = 0), 0::bigint, count(*) FILTER (WHERE state = 2), min(due)
         FROM recipient WHERE state IN (0, 2) AND cause IS NOT NULL GROUP BY coalesce(rule, '')";
    summed(tx, sql, limit).await
}

async fn summed(tx: &Tx, sql: &str, limit: usize) -> Result<Vec<QueueCount>, Fault> {
    let mut groups = HashMap::new();
    for row in &tx.query(sql, &[]).await? {
        let group: String = row.try_get(0)?;
        let sums =
            Sums { pending: row.try_get(1)?, urgent: row.try_get(2)?, held: row.try_get(3)?, due: row.try_get(4)? };
        groups.insert(group, sums);
    }
    Ok(largest(groups, limit))
}

/// The capture mailbox, newest first.
pub(super) async fn captured(tx: &Tx, before: Option<MessageId>, limit: u32) -> Result<Vec<MessageView>, Fault> {
    let before = before.map_or(i64::MAX, |id| id.0);
    let rows = tx
        .query(
            "SELECT id FROM message WHERE captured AND id < $1 ORDER BY id DESC LIMIT $2",
            &[&before, &(bounded(limit) as i64)],
        )
        .await?;
    let ids = rows.iter().map(|row| Ok(row.try_get(0)?)).collect::<Result<Vec<i64>, Fault>>()?;
    let mut views = messages(tx, &ids, MOST as usize).await?;
    views.reverse();
    Ok(views)
}
