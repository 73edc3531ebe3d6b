//! One connection's work: the prepared statements of the hot path and what a batch changes besides rows.
//!
//! Everything kept in memory (lane counts, leases, segment use, cursors) is staged here during a batch and becomes
//! visible to others only after COMMIT; a rollback throws it away.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, OptionalExtension, Statement, params};

use super::encode;
use super::event::OpenEvent;
use super::fault::Fault;
use super::segment::{Place, Segments};
use super::shared::{LeasedLane, Shared};
use crate::model::*;
use crate::verbs::Retention;

/// Lanes the writer knows to exist; beyond that it forgets them all and asks the database again.
const KNOWN_LANES: usize = 50_000;
/// Fresh messages whose rows the writer remembers: they are settled within moments, and need not be read back.
const FRESH: usize = 20_000;
/// A lane's `used` is exact to a day: often enough for rows that are removed after months.
const DAY_MS: i64 = 86_400_000;

/// Statements of the hot path, prepared once per connection.
pub(super) struct Statements<'c> {
    pub(super) insert_message: Statement<'c>,
    pub(super) insert_recipient: Statement<'c>,
    pub(super) insert_leased: Statement<'c>,
    pub(super) insert_event: Statement<'c>,
    pub(super) load_message: Statement<'c>,
    pub(super) save_message: Statement<'c>,
    pub(super) load_leased: Statement<'c>,
    pub(super) save_recipient: Statement<'c>,
    pub(super) deliver: Statement<'c>,
    pub(super) load_run: Statement<'c>,
    upsert_lane: Statement<'c>,
    flush_lane: Statement<'c>,
    flush_segment: Statement<'c>,
}

impl<'c> Statements<'c> {
    fn prepare(connection: &'c Connection) -> Result<Self, rusqlite::Error> {
        Ok(Self {
            insert_message: connection.prepare(
                "INSERT INTO message(id, pending, final_at, last_event, parked, captured, segment, place, size, hash,
                     accepted, not_before, expires, priority, eight_bit, sender, stream, reverse_path, parameters, details,
                     leased, batch)
                 VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)",
            )?,
            insert_recipient: connection.prepare(
                "INSERT INTO recipient(message, n, state, lease, lane, due, attempts, why, parameters, address)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, ?8, ?9)",
            )?,
            insert_leased: connection.prepare(&insert_leased())?,
            insert_event: connection.prepare(
                "INSERT INTO event(seq, at, message, n, upto, kind, prev, attempt, detail)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?,
            load_message: connection.prepare(
                "SELECT pending, last_event, segment, size, captured, expires, parked, final_at, leased, stream FROM message
                 WHERE id = ?1",
            )?,
            save_message: connection.prepare(
                "UPDATE message SET pending = ?2, last_event = ?3, final_at = ?4, parked = ?5, captured = ?6, segment = ?7,
                     leased = ?8
                 WHERE id = ?1",
            )?,
            load_leased: connection.prepare(
                "SELECT lane, attempts, wish FROM recipient WHERE message = ?1 AND n = ?2 AND state = 1 AND lease = ?3",
            )?,
            save_recipient: connection.prepare(
                "UPDATE recipient SET state = ?3, lease = ?4, due = ?5, attempts = ?6, wish = ?7, why = ?8, cause = ?9
                 WHERE message = ?1 AND n = ?2",
            )?,
            deliver: connection.prepare(
                "UPDATE OR FAIL recipient SET state = 3, lease = 0, attempts = attempts + ?4, cause = NULL
                 WHERE message = ?1 AND n BETWEEN ?2 AND ?5 AND state = 1 AND lease = ?3 AND wish IS NULL",
            )?,
            load_run: connection.prepare(
                "SELECT lane FROM recipient
                 WHERE message = ?1 AND n BETWEEN ?2 AND ?4 AND state = 1 AND lease = ?3 AND wish IS NULL",
            )?,
            upsert_lane: connection.prepare(
                "INSERT INTO lane(id, route, domain, sender, stream, priority, used) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT(id) DO UPDATE SET used = max(used, excluded.used)",
            )?,
            flush_lane: connection.prepare(
                "UPDATE lane SET waiting = waiting + ?2, held = held + ?3, used = max(used, ?4), next_due =
                     (SELECT due FROM recipient INDEXED BY recipient_due WHERE lane = ?1 AND state = 0 ORDER BY due LIMIT 1)
                 WHERE id = ?1",
            )?,
            flush_segment: connection.prepare(
                "INSERT INTO segment(id, live, live_bytes, bytes) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT(id) DO UPDATE SET live = live + ?2, live_bytes = live_bytes + ?3, bytes = max(bytes, ?4)
                 RETURNING live",
            )?,
        })
    }
}

/// Recipients that one statement inserts when they are alike: opening the cursors and finding the place costs more than
/// a row.
pub(super) const ALIKE: usize = 10;

/// Inserts [`ALIKE`] neighbours that are leased, without parameters: message, run and first number, then for each its lane
/// and address.
///
/// `OR FAIL` here and in `deliver`: SQLite keeps no copies of pages to undo the one statement, because a batch with an
/// error is rolled back as a whole.
fn insert_leased() -> String {
    let mut sql =
        String::from("INSERT OR FAIL INTO recipient(message, n, state, lease, lane, attempts, address) VALUES ");
    for k in 0..ALIKE {
        let (comma, lane) = (if k == 0 { "" } else { ", " }, 4 + 2 * k);
        sql.push_str(&format!("{comma}(?1, ?3 + {k}, 1, ?2, ?{lane}, 0, ?{})", lane + 1));
    }
    sql
}

/// What a message row says that changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct MessageRow {
    pub(super) id: MessageId,
    pub(super) pending: i64,
    pub(super) leased: i64,
    pub(super) last_event: i64,
    pub(super) segment: Option<i64>,
    pub(super) size: i64,
    pub(super) captured: bool,
    pub(super) expires: i64,
    pub(super) parked: Option<i64>,
    pub(super) final_at: Option<i64>,
    /// A notice may have to return the content: it is not dropped at once.
    pub(super) returned: bool,
    /// The content is kept for a while after the end.
    pub(super) kept: bool,
}

/// What a recipient row says that changes.
#[derive(Debug, Clone, Default)]
pub(super) struct RecipientRow<'a> {
    pub(super) state: u8,
    pub(super) lease: i64,
    pub(super) due: Option<i64>,
    pub(super) attempts: i64,
    pub(super) wish: Option<&'a str>,
    pub(super) why: Option<&'a str>,
    pub(super) cause: Option<&'a str>,
}

#[derive(Default)]
struct LaneChange {
    waiting: i64,
    held: i64,
    used_ms: i64,
}

#[derive(Default)]
struct SegmentChange {
    live: i64,
    bytes: i64,
}

/// What the running batch changed besides rows.
#[derive(Default)]
pub(super) struct Staged {
    lanes: HashMap<LaneId, LaneChange>,
    new_lanes: Vec<(LaneId, i64)>,
    dropped_lanes: Vec<LaneId>,
    leased: Vec<(Arc<Lane>, i64)>,
    returned: HashMap<LaneId, i64>,
    segments: HashMap<i64, SegmentChange>,
    unlink: Vec<i64>,
    settings_version: Option<i64>,
    pub(super) next_seq: Option<i64>,
    pub(super) open_event: Option<OpenEvent>,
    /// Rows of batches that were done with: became messages, refused.
    pub(super) rows: HashMap<BatchId, (u32, u32)>,
}

/// One connection with its statements and the batch in progress.
pub(super) struct Work<'c> {
    pub(super) connection: &'c Connection,
    pub(super) statements: Statements<'c>,
    pub(super) shared: Arc<Shared>,
    pub(super) segments: Segments,
    pub(super) retention: Retention,
    known: HashMap<LaneId, i64>,
    fresh: HashMap<MessageId, Fresh>,
    pub(super) next_seq: i64,
    pub(super) staged: Staged,
}

/// An accepted message that is still as the writer left it.
pub(super) struct Fresh {
    pub(super) row: MessageRow,
    /// The run that leased its recipients.
    pub(super) by: Incarnation,
    /// The lane of each recipient that is leased and has no wish noted; [`GONE`] for the others.
    pub(super) lanes: Box<[LaneId]>,
}

/// Stands for a lane where there is no lease: no lane has this name.
pub(super) const GONE: LaneId = LaneId(-1);

impl<'c> Work<'c> {
    pub(super) fn new(
        connection: &'c Connection,
        shared: Arc<Shared>,
        segments: Segments,
        retention: Retention,
    ) -> Result<Self, Fault> {
        let statements = Statements::prepare(connection)?;
        let next_seq = connection.query_row(
            "SELECT max(coalesce((SELECT seq + coalesce(upto - n, 0) FROM event ORDER BY seq DESC LIMIT 1), 0),
                 coalesce((SELECT value FROM meta WHERE name = 'event'), 0)) + 1",
            [],
            |row| row.get(0),
        )?;
        let version = connection
            .query_row("SELECT value FROM meta WHERE name = 'settings'", [], |row| row.get(0))
            .optional()?
            .unwrap_or(0);
        shared.settings_version.store(version, Ordering::SeqCst);
        shared.newest_event.store(next_seq - 1, Ordering::SeqCst);
        Ok(Self {
            connection,
            statements,
            shared,
            segments,
            retention,
            known: HashMap::new(),
            fresh: HashMap::new(),
            next_seq,
            staged: Staged::default(),
        })
    }

    // ---- messages and recipients ----

    /// Remembers a message that was just accepted.
    pub(super) fn remember(&mut self, fresh: Fresh) {
        if self.fresh.len() >= FRESH {
            self.fresh.clear();
        }
        self.fresh.insert(fresh.row.id, fresh);
    }

    /// Takes a remembered message; whoever changes rows and does not remember them again has forgotten it.
    pub(super) fn recall(&mut self, id: MessageId) -> Option<Fresh> {
        self.fresh.remove(&id)
    }

    /// From now on this is how long things are kept.
    pub(super) fn use_retention(&mut self, retention: &Retention) {
        if self.retention != *retention {
            self.retention = retention.clone();
            // Their rows say what was kept before.
            self.fresh.clear();
        }
    }

    pub(super) fn load_message(&mut self, id: MessageId) -> Result<Option<MessageRow>, Fault> {
        // Whoever loads a row is about to change it.
        self.fresh.remove(&id);
        let retention = &self.retention;
        let row = self.statements.load_message.query_row([id.0], |row| {
            let kept = if retention.streams.is_empty() {
                retention.content_ms > 0
            } else {
                retention.content_ms_of(row.get_ref(9)?.as_str()?) > 0
            };
            Ok(MessageRow {
                id,
                pending: row.get(0)?,
                last_event: row.get(1)?,
                segment: row.get(2)?,
                size: row.get(3)?,
                captured: row.get(4)?,
                expires: row.get(5)?,
                parked: row.get(6)?,
                final_at: row.get(7)?,
                leased: row.get(8)?,
                returned: false,
                kept,
            })
        });
        Ok(row.optional()?)
    }

    /// Writes a message row back; a message without pending recipients becomes final and may lose its content.
    pub(super) fn save_message(&mut self, row: &mut MessageRow, at_ms: i64) -> Result<(), Fault> {
        self.finish_message(row, at_ms);
        self.statements.save_message.execute(params![
            row.id.0,
            row.pending,
            row.last_event,
            row.final_at,
            row.parked,
            row.captured,
            row.segment,
            row.leased
        ])?;
        Ok(())
    }

    /// Makes a row without pending recipients final.
    pub(super) fn finish_message(&mut self, row: &mut MessageRow, at_ms: i64) {
        if row.pending > 0 {
            return;
        }
        row.parked = None;
        row.final_at.get_or_insert(at_ms);
        if !row.kept && !row.captured && !row.returned {
            self.drop_content(row);
        }
    }

    /// Forgets where the content is.
    pub(super) fn drop_content(&mut self, row: &mut MessageRow) {
        if let Some(segment) = row.segment.take() {
            self.content_changed(segment, -1, -row.size);
        }
    }

    pub(super) fn save_recipient(&mut self, id: RecipientId, row: &RecipientRow<'_>) -> Result<(), Fault> {
        self.statements.save_recipient.execute(params![
            id.message.0,
            id.n,
            row.state,
            row.lease,
            row.due,
            row.attempts,
            row.wish,
            row.why,
            row.cause
        ])?;
        Ok(())
    }

    // ---- lanes ----

    /// Makes sure that a lane's row is there.
    pub(super) fn know_lane(&mut self, lane: &Lane, now_ms: i64) -> Result<(), Fault> {
        let day = now_ms.div_euclid(DAY_MS);
        if self.known.get(&lane.id) == Some(&day) {
            return Ok(());
        }
        let key = &lane.key;
        self.statements.upsert_lane.execute(params![
            lane.id.0,
            &*key.route,
            &*key.domain,
            &*key.sender,
            &*key.stream,
            key.priority,
            now_ms
        ])?;
        self.staged.new_lanes.push((lane.id, day));
        // Within the batch it counts as known; a rollback forgets everything.
        self.known.insert(lane.id, day);
        Ok(())
    }

    pub(super) fn lane_changed(&mut self, lane: LaneId, waiting: i64, held: i64, at_ms: i64) {
        let change = self.staged.lanes.entry(lane).or_default();
        change.waiting += waiting;
        change.held += held;
        change.used_ms = change.used_ms.max(at_ms);
    }

    /// Counts `count` recipients of a lane as leased.
    pub(super) fn leased(&mut self, lane: &Arc<Lane>, count: i64) {
        match self.staged.leased.last_mut() {
            Some((last, total)) if last.id == lane.id => *total += count,
            _ => self.staged.leased.push((lane.clone(), count)),
        }
    }

    /// Counts recipients of a message as no longer leased, each by its lane.
    pub(super) fn unleased(&mut self, row: &mut MessageRow, lanes: &[LaneId]) {
        row.leased -= lanes.len() as i64;
        for same in lanes.chunk_by(PartialEq::eq) {
            *self.staged.returned.entry(same[0]).or_default() += same.len() as i64;
        }
    }

    pub(super) fn forget_lane(&mut self, lane: LaneId) {
        self.staged.dropped_lanes.push(lane);
    }

    /// Writes the lanes' counts and next due times: one UPDATE for each lane touched.
    pub(super) fn flush_lanes(&mut self) -> Result<(), Fault> {
        for (lane, change) in self.staged.lanes.drain() {
            self.statements.flush_lane.execute(params![lane.0, change.waiting, change.held, change.used_ms])?;
        }
        Ok(())
    }

    // ---- contents ----

    pub(super) fn content_changed(&mut self, segment: i64, live: i64, bytes: i64) {
        let change = self.staged.segments.entry(segment).or_default();
        change.live += live;
        change.bytes += bytes;
    }

    fn flush_segments(&mut self) -> Result<(), Fault> {
        let current = self.segments.current();
        for (segment, change) in self.staged.segments.drain() {
            let end = if Some(segment) == current { self.segments.end() as i64 } else { 0 };
            let live: i64 = self
                .statements
                .flush_segment
                .query_row(params![segment, change.live, change.bytes, end], |row| row.get(0))?;
            if live <= 0 && Some(segment) != current {
                self.connection.prepare_cached("DELETE FROM segment WHERE id = ?1")?.execute([segment])?;
                self.staged.unlink.push(segment);
            }
        }
        // One that emptied while it was current is only now in nobody's way.
        for segment in self.segments.retired() {
            let removed = self
                .connection
                .prepare_cached("DELETE FROM segment WHERE id = ?1 AND live <= 0")?
                .execute([segment])?;
            if removed > 0 {
                self.staged.unlink.push(*segment);
            }
        }
        Ok(())
    }

    pub(super) fn settings_changed(&mut self, version: i64) {
        self.staged.settings_version = Some(version);
    }

    // ---- the batch ----

    /// Writes what was aggregated; to be called before COMMIT.
    pub(super) fn flush(&mut self) -> Result<(), Fault> {
        self.close_event()?;
        self.flush_lanes()?;
        self.flush_batches()?;
        self.flush_segments()
    }

    /// Makes what was staged visible; to be called after COMMIT.
    pub(super) fn committed(&mut self) {
        let staged = std::mem::take(&mut self.staged);
        if let Some(seq) = staged.next_seq {
            self.next_seq = seq;
            self.shared.newest_event.store(seq - 1, Ordering::SeqCst);
        }
        if let Some(version) = staged.settings_version {
            self.shared.settings_version.store(version, Ordering::SeqCst);
        }
        for lane in &staged.dropped_lanes {
            self.known.remove(lane);
        }
        if self.known.len() > KNOWN_LANES {
            self.known.clear();
        }
        if !staged.leased.is_empty() || !staged.returned.is_empty() {
            let mut leased = self.shared.leased.lock();
            for (lane, count) in staged.leased {
                leased.entry(lane.id).or_insert_with(|| LeasedLane { lane, count: 0 }).count += count;
            }
            for (id, count) in staged.returned {
                if let Some(entry) = leased.get_mut(&id) {
                    entry.count -= count;
                    if entry.count <= 0 {
                        leased.remove(&id);
                    }
                }
            }
        }
        self.segments.forget_retired();
        for segment in staged.unlink {
            self.shared.unlink(self.segments.dir(), segment);
        }
    }

    /// Forgets what was staged; to be called after ROLLBACK.
    pub(super) fn rolled_back(&mut self) {
        self.fresh.clear();
        for (lane, _) in &self.staged.new_lanes {
            self.known.remove(lane);
        }
        self.staged = Staged::default();
    }

    /// A content that was written but is not referred to.
    pub(super) fn place_or_defect(place: Option<Place>) -> Result<Place, Fault> {
        place.ok_or_else(|| Fault::Command(crate::StoreError::Internal("content has no place".into())))
    }

    /// The JSON of an operator's reason.
    pub(super) fn why_detail(why: &str) -> Result<Option<String>, Fault> {
        Ok(encode::detail(None, None, Some(why))?)
    }
}
