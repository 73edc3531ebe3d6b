//! Leasing due recipients: urgent lanes first, then the lane whose oldest recipient is due longest.
//!
//! What another node is just claiming is passed over, not waited for. The cost depends on what is claimed and on the lanes
//! skipped, never on what is queued: lanes know their next due time, and each is read through an index that has the waiting
//! recipients alone. Messages that are past their expiry are claimed as well: the caller decides.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio_postgres::Row;

use super::fault::Fault;
use super::read::{self, MESSAGE};
use super::shared::{Shared, lapses_before};
use super::tx::{self, Mode, Tx};
use super::unit::number;
use crate::StoreError;
use crate::encode;
use crate::model::*;

/// Lanes looked at together.
const LANES: u32 = 256;

/// A priority as it is stored.
pub(super) fn priority(value: i16) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

/// A row of `route, domain, sender, stream, priority` from `first` on.
pub(super) fn read_lane_key(row: &Row, first: usize) -> Result<LaneKey, Fault> {
    Ok(LaneKey {
        route: row.try_get::<_, &str>(first)?.into(),
        domain: row.try_get::<_, &str>(first + 1)?.into(),
        sender: row.try_get::<_, &str>(first + 2)?.into(),
        stream: row.try_get::<_, &str>(first + 3)?.into(),
        priority: priority(row.try_get(first + 4)?),
    })
}

/// A recipient that was leased, with what puts it in order.
struct Leased {
    rank: i64,
    due: i64,
    message: MessageId,
    recipient: LeasedRecipient,
}

/// Claims, and says when there will be more.
pub(super) async fn run(shared: &Arc<Shared>, request: ClaimRequest) -> Result<Claimed, Fault> {
    let ticket = shared.next_ticket();
    let request = Arc::new((request, ticket));
    let verb = |tx: Arc<Tx>, r: Arc<(ClaimRequest, i64)>| async move { claim(&tx, &r.0, r.1).await };
    let claims = tx::run(shared, Mode::Write, request.clone(), verb).await.inspect_err(|fault| {
        if matches!(fault, Fault::Unknown(_)) {
            shared.orphaned(request.0.by.0, ticket);
        }
    })?;
    let skip: Arc<Vec<i64>> = Arc::new(request.0.skip.iter().map(|lane| lane.0).collect());
    // Not worth failing: what was claimed is leased by now.
    let next = tx::run(shared, Mode::Snapshot, skip, |tx, skip| async move { next_due(&tx, &skip).await }).await;
    let next_due_ms = match next {
        Ok(next) => next,
        Err(_) => Some(request.0.now_ms),
    };
    Ok(Claimed { claims, next_due_ms })
}

async fn claim(tx: &Tx, request: &ClaimRequest, ticket: i64) -> Result<Vec<Claim>, Fault> {
    let mut seen: Vec<i64> = request.skip.iter().map(|lane| lane.0).collect();
    let mut left = request.max;
    let mut claims: Vec<Claim> = Vec::new();
    while left > 0 {
        let wanted = left.min(LANES);
        let lanes = due_lanes(tx, request.now_ms, &seen, wanted).await?;
        if lanes.is_empty() {
            break;
        }
        let ids: Vec<i64> = lanes.iter().map(|lane| lane.id.0).collect();
        let leased = lease(tx, request, ticket, &ids, left).await?;
        left = left.saturating_sub(leased.len() as u32);
        gather(tx, &lanes, leased, (request.now_ms, lapses_before(ticket)), &mut claims).await?;
        if (lanes.len() as u32) < wanted {
            break;
        }
        seen.extend(ids);
    }
    Ok(claims)
}

/// The next lanes that have something due, in order. The index serves one priority after the other.
async fn due_lanes(tx: &Tx, now_ms: i64, seen: &[i64], most: u32) -> Result<Vec<Arc<Lane>>, Fault> {
    let rows = tx
        .query(
            "SELECT l.id, l.route, l.domain, l.sender, l.stream, l.priority
             FROM (VALUES (0::smallint), (1::smallint), (2::smallint), (3::smallint)) AS p(priority)
             CROSS JOIN LATERAL (SELECT * FROM lane WHERE lane.priority = p.priority AND lane.next_due IS NOT NULL
                 AND lane.next_due <= $1 AND lane.id <> ALL($2) ORDER BY lane.next_due, lane.id LIMIT $3) l
             ORDER BY l.priority, l.next_due, l.id LIMIT $3",
            &[&now_ms, &seen, &i64::from(most)],
        )
        .await?;
    rows.iter().map(|row| Ok(Arc::new(Lane { id: LaneId(row.try_get(0)?), key: read_lane_key(row, 1)? }))).collect()
}

const LEASE: &str = "WITH picked AS MATERIALIZED (
         SELECT l.rank, r.message, r.n, r.due
         FROM unnest($1::bigint[]) WITH ORDINALITY AS l(id, rank)
         CROSS JOIN LATERAL (SELECT message, n, due FROM recipient WHERE recipient.lane = l.id AND state = 0 AND due <= $2
             ORDER BY due, message, n LIMIT $3 FOR UPDATE SKIP LOCKED) r
         LIMIT $4)
     UPDATE recipient AS r SET state = 1, lease = $5, ticket = $6, due = NULL, wish = NULL FROM picked p
     WHERE r.message = p.message AND r.n = p.n
     RETURNING p.rank, p.due, r.message, r.n, r.attempts, r.address, r.parameters, r.cause";

/// What belongs to the last message of a lane that was not read to its end: the same message, due at the same time.
const LEASE_REST: &str = "WITH picked AS MATERIALIZED (
         SELECT l.rank, r.message, r.n, r.due
         FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS l(id, rank, due, message)
         CROSS JOIN LATERAL (SELECT message, n, due FROM recipient WHERE recipient.lane = l.id AND state = 0
             AND recipient.due = l.due AND recipient.message = l.message ORDER BY n FOR UPDATE SKIP LOCKED) r)
     UPDATE recipient AS r SET state = 1, lease = $5, ticket = $6, due = NULL, wish = NULL FROM picked p
     WHERE r.message = p.message AND r.n = p.n
     RETURNING p.rank, p.due, r.message, r.n, r.attempts, r.address, r.parameters, r.cause";

/// Leases from these lanes, in order.
async fn lease(tx: &Tx, request: &ClaimRequest, ticket: i64, lanes: &[i64], left: u32) -> Result<Vec<Leased>, Fault> {
    let per_lane = i64::from(request.max_per_lane.min(left));
    let rows = tx.query(LEASE, &[&lanes, &request.now_ms, &per_lane, &i64::from(left), &request.by.0, &ticket]).await?;
    let mut leased = rows.iter().map(read_leased).collect::<Result<Vec<_>, Fault>>()?;
    // The last message of each lane, which may go on behind the limit.
    let mut lasts: BTreeMap<i64, (i64, MessageId)> = BTreeMap::new();
    for one in &leased {
        let last = lasts.entry(one.rank).or_insert((one.due, one.message));
        *last = (*last).max((one.due, one.message));
    }
    let (mut ids, mut ranks, mut dues, mut messages) = (vec![], vec![], vec![], vec![]);
    for (rank, (due, message)) in lasts {
        let Some(lane) = usize::try_from(rank - 1).ok().and_then(|index| lanes.get(index)) else { continue };
        ids.push(*lane);
        ranks.push(rank);
        dues.push(due);
        messages.push(message.0);
    }
    if !ids.is_empty() {
        let rows = tx.query(LEASE_REST, &[&ids, &ranks, &dues, &messages, &request.by.0, &ticket]).await?;
        for row in &rows {
            leased.push(read_leased(row)?);
        }
    }
    leased.sort_by_key(|one| (one.rank, one.due, one.message, one.recipient.n));
    Ok(leased)
}

fn read_leased(row: &Row) -> Result<Leased, Fault> {
    Ok(Leased {
        rank: row.try_get(0)?,
        due: row.try_get(1)?,
        message: MessageId(row.try_get(2)?),
        recipient: LeasedRecipient {
            n: number(row.try_get(3)?),
            attempts: number(row.try_get(4)?),
            address: encode::read_address(row.try_get(5)?)?,
            parameters: encode::read_rcpt_parameters(row.try_get(6)?)?,
            unknown_via: encode::read_via(row.try_get(7)?)?,
        },
    })
}

/// Makes claims of leased recipients: one for each message in each lane.
async fn gather(
    tx: &Tx,
    lanes: &[Arc<Lane>],
    leased: Vec<Leased>,
    (now_ms, lapses): (i64, u64),
    claims: &mut Vec<Claim>,
) -> Result<(), Fault> {
    let mut ids: Vec<i64> = leased.iter().map(|one| one.message.0).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut messages: HashMap<MessageId, Arc<Message>> = HashMap::with_capacity(ids.len());
    if !ids.is_empty() {
        let sql = format!("SELECT {MESSAGE} FROM message WHERE id = ANY($1)");
        for row in &tx.query(&sql, &[&ids]).await? {
            let message = read::shared_message(row)?;
            messages.insert(message.id, message);
        }
    }
    for one in leased {
        let Some(lane) = usize::try_from(one.rank - 1).ok().and_then(|index| lanes.get(index)) else { continue };
        tx.lane_changed(lane.id, -1, 0, None, now_ms);
        let open = claims.iter_mut().rev().take_while(|claim| claim.lane.id == lane.id);
        match open.into_iter().find(|claim| claim.message.id == one.message) {
            Some(claim) => claim.recipients.push(one.recipient),
            None => {
                let message = messages.get(&one.message).cloned();
                let message =
                    message.ok_or_else(|| StoreError::Internal(format!("message {} is missing", one.message)))?;
                claims.push(Claim { message, lane: lane.clone(), recipients: vec![one.recipient], lapses });
            }
        }
    }
    Ok(())
}

/// Earliest due time of the lanes that are not skipped.
async fn next_due(tx: &Tx, skip: &[i64]) -> Result<Option<i64>, Fault> {
    let row = tx
        .query_one(
            "SELECT min(l.next_due)
             FROM (VALUES (0::smallint), (1::smallint), (2::smallint), (3::smallint)) AS p(priority)
             CROSS JOIN LATERAL (SELECT next_due FROM lane WHERE lane.priority = p.priority AND lane.next_due IS NOT NULL
                 AND lane.id <> ALL($1) ORDER BY lane.next_due, lane.id LIMIT 1) l",
            &[&skip],
        )
        .await?;
    Ok(row.try_get(0)?)
}
