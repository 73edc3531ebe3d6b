//! Digests: windows that collect equal mail, and their end; and what is told of deadlines.
//!
//! A window is the row of its key. Whoever folds mail into it, or tells of it, holds that row until the commit, so of equal
//! mails that come at several nodes at once one goes and the others are counted, and a digest is told of once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::columns::signed;
use super::fault::Fault;
use super::suppress::STEP;
use super::tx::{Step, Tx};
use super::unit::{AttemptColumn, number};
use crate::engine::bounded;
use crate::model::*;
use crate::{StoreError, encode};

/// A window's key.
type Key = [u8; 16];

/// A window as this transaction leaves it.
struct Window {
    /// `None`: to be made.
    id: Option<i64>,
    key: Key,
    until: i64,
    folded: i64,
    sent: Option<MessageId>,
    /// Made by this transaction to have something to hold; nobody went through it yet.
    empty: bool,
    /// As it is in the database.
    stored: (i64, i64, Option<MessageId>),
    items: Vec<RecipientId>,
}

/// The windows that some new messages have to do with, locked. The messages are told of in their order; in the end
/// [`Windows::write`] writes what became of them.
#[derive(Default)]
pub(super) struct Windows {
    /// The last of a key is the open one.
    all: Vec<Window>,
    open: HashMap<Key, usize>,
}

impl Windows {
    /// Locks the windows of these messages.
    pub(super) async fn of(tx: &Tx, messages: &[&NewMessage]) -> Result<Self, Fault> {
        let mut windows = Self::default();
        let mut until: BTreeMap<Key, i64> = BTreeMap::new();
        for new in messages {
            for (_, fold) in &new.folds {
                let end = new.message.accepted_ms.saturating_add(fold.window_ms);
                until.entry(fold.key).or_insert(end);
            }
        }
        let ids: Vec<i64> = messages.iter().filter_map(|new| new.ends).map(|end| end.digest.0).collect();
        if until.is_empty() && ids.is_empty() {
            return Ok(windows);
        }
        windows.lock(tx, until.keys(), &ids).await?;
        loop {
            let missing: Vec<Key> = until.keys().filter(|key| !windows.open.contains_key(*key)).copied().collect();
            if missing.is_empty() {
                return Ok(windows);
            }
            windows.make(tx, &missing, &until).await?;
            // What is still missing was made by somebody else meanwhile.
            let others = missing.iter().filter(|key| !windows.open.contains_key(*key));
            let others: Vec<Key> = others.copied().collect();
            if !others.is_empty() {
                windows.lock(tx, others.iter(), &[]).await?;
            }
        }
    }

    /// Locks open windows by key and by number, in the order of their keys.
    async fn lock(&mut self, tx: &Tx, keys: impl Iterator<Item = &Key>, ids: &[i64]) -> Result<(), Fault> {
        let keys: Vec<&[u8]> = keys.map(|key| &key[..]).collect();
        let rows = tx
            .query(
                "SELECT id, key, until, folded FROM digest WHERE (key = ANY($1) OR id = ANY($2)) AND sent IS NULL
                 ORDER BY key FOR UPDATE",
                &[&keys, &ids],
            )
            .await?;
        for row in &rows {
            let (until, folded) = (row.try_get(2)?, row.try_get(3)?);
            self.insert(Window {
                id: Some(row.try_get(0)?),
                key: key(row.try_get(1)?)?,
                until,
                folded,
                sent: None,
                empty: false,
                stored: (until, folded, None),
                items: Vec::new(),
            });
        }
        Ok(())
    }

    fn insert(&mut self, window: Window) {
        if !self.open.contains_key(&window.key) || window.id.is_none() {
            self.open.insert(window.key, self.all.len());
            self.all.push(window);
        }
    }

    /// Makes windows so that there is something to hold.
    async fn make(&mut self, tx: &Tx, keys: &[Key], ends: &BTreeMap<Key, i64>) -> Result<(), Fault> {
        let names: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let until: Vec<i64> = keys.iter().map(|key| ends.get(key).copied().unwrap_or(0)).collect();
        let rows = tx
            .query(
                "INSERT INTO digest(key, until, folded) SELECT w.key, w.until, 0
                 FROM unnest($1::bytea[], $2::bigint[]) AS w(key, until) ORDER BY w.key
                 ON CONFLICT (key) WHERE sent IS NULL DO NOTHING RETURNING id, key, until",
                &[&names, &until],
            )
            .await?;
        for row in &rows {
            let until = row.try_get(2)?;
            self.insert(Window {
                id: Some(row.try_get(0)?),
                key: key(row.try_get(1)?)?,
                until,
                folded: 0,
                sent: None,
                empty: true,
                stored: (until, 0, None),
                items: Vec::new(),
            });
        }
        Ok(())
    }

    /// Refuses the message of a digest that was sent already or has more mail by now.
    pub(super) fn check(&self, end: &DigestEnd) -> Result<(), StoreError> {
        let known = self.all.iter().find(|window| window.id == Some(end.digest.0) && window.sent.is_none());
        if known.and_then(|window| u64::try_from(window.folded).ok()) != Some(end.folded) {
            return Err(StoreError::Invalid("the digest is not as it was read".into()));
        }
        Ok(())
    }

    /// This message tells of a digest.
    pub(super) fn sent(&mut self, end: &DigestEnd, by: MessageId) {
        let known = self.all.iter_mut().find(|window| window.id == Some(end.digest.0) && window.sent.is_none());
        if let Some(window) = known {
            window.sent = Some(by);
            self.open.remove(&window.key);
        }
    }

    /// Decides which recipients are folded, and notes it; gives them with the end of their window.
    pub(super) fn fold(&mut self, new: &NewMessage) -> HashMap<u32, i64> {
        let mut folded = HashMap::new();
        let (now_ms, message) = (new.message.accepted_ms, &new.message);
        for (n, fold) in &new.folds {
            let until_ms = now_ms.saturating_add(fold.window_ms);
            let open = self.open.get(&fold.key).and_then(|index| self.all.get_mut(*index));
            match open {
                Some(window) if window.empty => (window.until, window.empty) = (until_ms, false),
                // Mail whose time would be over by then goes by itself.
                Some(window) if window.until > now_ms && window.until >= message.expires_ms => {}
                // One that is over and has mail is about to be sent: this one still belongs to it.
                Some(window) if window.until > now_ms || window.folded > 0 => {
                    window.items.push(RecipientId { message: message.id, n: *n });
                    window.folded += 1;
                    folded.insert(*n, window.until);
                }
                Some(window) => window.until = until_ms,
                // The one before was told of by this very transaction.
                None => self.insert(Window {
                    id: None,
                    key: fold.key,
                    until: until_ms,
                    folded: 0,
                    sent: None,
                    empty: false,
                    stored: (0, 0, None),
                    items: Vec::new(),
                }),
            }
        }
        folded
    }

    /// Writes what became of them.
    pub(super) async fn write(mut self, tx: &Tx) -> Result<(), Fault> {
        self.write_changed(tx).await?;
        for window in self.all.iter_mut().filter(|window| window.id.is_none()) {
            let sql = "INSERT INTO digest(key, until, folded) VALUES ($1, $2, $3) RETURNING id";
            let row = tx.query_one(sql, &[&&window.key[..], &window.until, &window.folded]).await?;
            window.id = Some(row.try_get(0)?);
        }
        let (mut digests, mut messages, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
        for window in &self.all {
            for item in &window.items {
                digests.push(window.id.unwrap_or_default());
                messages.push(item.message.0);
                numbers.push(signed(item.n));
            }
        }
        if !digests.is_empty() {
            tx.execute(
                "INSERT INTO digest_item(digest, message, n)
                 SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::integer[])",
                &[&digests, &messages, &numbers],
            )
            .await?;
        }
        Ok(())
    }

    async fn write_changed(&self, tx: &Tx) -> Result<(), Fault> {
        let unused: Vec<i64> = self.all.iter().filter(|window| window.empty).filter_map(|window| window.id).collect();
        let (mut ids, mut until, mut folded, mut sent) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for window in self.all.iter().filter(|window| !window.empty) {
            if let Some(id) = window.id.filter(|_| (window.until, window.folded, window.sent) != window.stored) {
                ids.push(id);
                until.push(window.until);
                folded.push(window.folded);
                sent.push(window.sent.map(|by| by.0));
            }
        }
        let (gone, changed): ([super::tx::Value<'_>; 1], [super::tx::Value<'_>; 4]) =
            ([&unused], [&ids, &until, &folded, &sent]);
        let mut steps: Vec<Step<'_>> = Vec::new();
        if !unused.is_empty() {
            steps.push(("DELETE FROM digest WHERE id = ANY($1)", &gone));
        }
        if !ids.is_empty() {
            steps.push((
                "UPDATE digest AS d SET until = w.until, folded = w.folded, sent = w.sent
                 FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS w(id, until, folded, sent)
                 WHERE d.id = w.id",
                &changed,
            ));
        }
        if !steps.is_empty() {
            tx.pipeline(&steps).await?;
        }
        Ok(())
    }
}

fn key(octets: &[u8]) -> Result<Key, StoreError> {
    octets.try_into().map_err(|_| StoreError::Internal("a digest's key has another length".into()))
}

/// Ends some of the mails of a digest that was sent; gives how many are left.
pub(super) async fn finish(tx: &Tx, digest: DigestId, max: u32, now_ms: i64) -> Result<u64, Fault> {
    let row = tx.query_opt("SELECT sent FROM digest WHERE id = $1 FOR UPDATE", &[&digest.0]).await?;
    let Some(row) = row else { return Ok(0) };
    let Some(sent) = row.try_get::<_, Option<i64>>(0)? else { return remove_empty(tx, digest).await };
    let why = format!("folded: told of by the digest {}", MessageId(sent));
    let rows = tx
        .query(
            "SELECT message, n FROM digest_item WHERE digest = $1 ORDER BY message, n LIMIT $2",
            &[&digest.0, &i64::from(max)],
        )
        .await?;
    let items = recipients(&rows)?;
    end_folded(tx, &items, &why, now_ms).await?;
    let (messages, numbers): (Vec<i64>, Vec<i32>) = items.iter().map(|id| (id.message.0, signed(id.n))).unzip();
    tx.execute(
        "DELETE FROM digest_item AS d USING unnest($2::bigint[], $3::integer[]) AS done(message, n)
         WHERE d.digest = $1 AND d.message = done.message AND d.n = done.n",
        &[&digest.0, &messages, &numbers],
    )
    .await?;
    let left = tx.query_one("SELECT count(*) FROM digest_item WHERE digest = $1", &[&digest.0]).await?;
    let left: i64 = left.try_get(0)?;
    if left == 0 {
        tx.execute("DELETE FROM digest WHERE id = $1", &[&digest.0]).await?;
    }
    Ok(left.unsigned_abs())
}

fn recipients(rows: &[tokio_postgres::Row]) -> Result<Vec<RecipientId>, Fault> {
    let read =
        |row: &tokio_postgres::Row| Ok(RecipientId { message: MessageId(row.try_get(0)?), n: number(row.try_get(1)?) });
    rows.iter().map(read).collect()
}

/// Ends recipients that a digest told of; what somebody took out of it is left alone.
async fn end_folded(tx: &Tx, items: &[RecipientId], why: &str, now_ms: i64) -> Result<(), Fault> {
    let messages: BTreeSet<MessageId> = items.iter().map(|id| id.message).collect();
    tx.load_messages(&messages.into_iter().collect::<Vec<_>>()).await?;
    tx.load_recipients(items).await?;
    for id in items {
        let Some(mut row) = tx.loaded_recipient(*id).filter(|row| row.state == State::Held) else { continue };
        let Some(mut message) = tx.loaded_message(id.message) else { continue };
        tx.lane_changed(row.lane, 0, -1, None, now_ms);
        row.state = State::Suppressed;
        row.due = None;
        row.why = Some(why.to_owned());
        tx.save_recipient(row);
        tx.event_why(id.message, now_ms, Some(id.n), EventKind::Suppressed, why)?;
        message.pending -= 1;
        tx.save_message(&mut message, now_ms);
    }
    Ok(())
}

/// Forgets a digest whose mails were all taken out.
async fn remove_empty(tx: &Tx, digest: DigestId) -> Result<u64, Fault> {
    let row = tx
        .query_one(
            "SELECT count(*) FROM digest_item AS d JOIN recipient AS r ON r.message = d.message AND r.n = d.n
             WHERE d.digest = $1 AND r.state = 2",
            &[&digest.0],
        )
        .await?;
    let held: i64 = row.try_get(0)?;
    if held == 0 {
        tx.pipeline(&[
            ("DELETE FROM digest_item WHERE digest = $1", &[&digest.0]),
            ("DELETE FROM digest WHERE id = $1", &[&digest.0]),
        ])
        .await?;
    }
    Ok(held.unsigned_abs())
}

/// Forgets windows that are over and collected nothing.
pub(super) async fn remove_windows(tx: &Tx, before_ms: i64) -> Result<u64, Fault> {
    // What somebody is folding into at this moment has mail in a moment.
    tx.execute(
        "DELETE FROM digest WHERE id IN
             (SELECT id FROM digest WHERE folded = 0 AND until <= $1 ORDER BY until LIMIT $2 FOR UPDATE SKIP LOCKED)",
        &[&before_ms, &STEP],
    )
    .await
}

/// Tells of recipients that will be late, each once.
pub(super) async fn warn_late(tx: &Tx, late: &[Late], now_ms: i64) -> Result<u64, Fault> {
    let messages: BTreeSet<MessageId> = late.iter().map(|one| one.recipient.message).collect();
    let messages: Vec<MessageId> = messages.into_iter().collect();
    // Locked first: what others told of them is seen below, and nobody tells of them meanwhile.
    tx.load_messages(&messages).await?;
    let known = told_of(tx, &messages).await?;
    let open = open_ones(tx, late).await?;
    let mut told = 0;
    for one in late {
        let RecipientId { message, n } = one.recipient;
        let spans = known.get(&message).map_or(&[][..], Vec::as_slice);
        let again = spans.iter().any(|(first, last)| (*first..=*last).contains(&n));
        if again || !open.contains(&(message, n)) || tx.loaded_message(message).is_none() {
            continue;
        }
        let detail = encode::detail(None, one.until_ms, Some(&one.why))?;
        tx.event(message, now_ms, Some(n), EventKind::WillBeLate, AttemptColumn::None, detail);
        told += 1;
    }
    Ok(told)
}

/// Those of the recipients that are not final.
async fn open_ones(tx: &Tx, late: &[Late]) -> Result<BTreeSet<(MessageId, u32)>, Fault> {
    let (messages, numbers): (Vec<i64>, Vec<i32>) =
        late.iter().map(|one| (one.recipient.message.0, signed(one.recipient.n))).unzip();
    let rows = tx
        .query(
            "SELECT r.message, r.n FROM recipient AS r JOIN unnest($1::bigint[], $2::integer[]) AS w(message, n)
                 ON r.message = w.message AND r.n = w.n WHERE r.state <= 2",
            &[&messages, &numbers],
        )
        .await?;
    Ok(recipients(&rows)?.into_iter().map(|id| (id.message, id.n)).collect())
}

/// Recipients of messages that a `WillBeLate` was told of, as spans.
async fn told_of(tx: &Tx, messages: &[MessageId]) -> Result<HashMap<MessageId, Vec<(u32, u32)>>, Fault> {
    let ids: Vec<i64> = messages.iter().map(|id| id.0).collect();
    let sql = "SELECT message, n, coalesce(upto, n) FROM event WHERE message = ANY($1) AND kind = $2 AND n IS NOT NULL";
    let rows = tx.query(sql, &[&ids, &(EventKind::WillBeLate as i16)]).await?;
    let mut told: HashMap<MessageId, Vec<(u32, u32)>> = HashMap::new();
    for row in &rows {
        let span = (number(row.try_get(1)?), number(row.try_get(2)?));
        told.entry(MessageId(row.try_get(0)?)).or_default().push(span);
    }
    Ok(told)
}

/// See [`crate::Streams::due_digests`].
pub(super) async fn due(tx: &Tx, now_ms: i64, limit: u32, items: u32) -> Result<Vec<Digest>, Fault> {
    let rows = tx
        .query(
            "SELECT id, folded, until, sent FROM digest WHERE folded > 0 AND until <= $1 ORDER BY until, id LIMIT $2",
            &[&now_ms, &(bounded(limit) as i64)],
        )
        .await?;
    let held = "FROM digest_item AS d JOIN recipient AS r ON r.message = d.message AND r.n = d.n
                WHERE d.digest = $1 AND r.state = 2";
    let mut digests = Vec::with_capacity(rows.len());
    for row in &rows {
        let id: i64 = row.try_get(0)?;
        let count: i64 = tx.query_one(&format!("SELECT count(*) {held}"), &[&id]).await?.try_get(0)?;
        let oldest = format!("SELECT d.message, d.n {held} ORDER BY d.message, d.n LIMIT $2");
        let mut listed = recipients(&tx.query(&oldest, &[&id, &(bounded(items) as i64)]).await?)?;
        if count > listed.len() as i64 {
            let latest = format!("SELECT d.message, d.n {held} ORDER BY d.message DESC, d.n DESC LIMIT 1");
            listed.extend(recipients(&tx.query(&latest, &[&id]).await?)?);
        }
        digests.push(Digest {
            id: DigestId(id),
            folded: row.try_get::<_, i64>(1)?.unsigned_abs(),
            held: count.unsigned_abs(),
            until_ms: row.try_get(2)?,
            sent: row.try_get::<_, Option<i64>>(3)?.map(MessageId),
            items: listed,
        });
    }
    Ok(digests)
}

/// See [`crate::Streams::next_digest_ms`].
pub(super) async fn next_ms(tx: &Tx) -> Result<Option<i64>, Fault> {
    Ok(tx.query_one("SELECT min(until) FROM digest WHERE folded > 0", &[]).await?.try_get(0)?)
}

/// See [`crate::Streams::next_expiry_ms`].
pub(super) async fn next_expiry_ms(tx: &Tx) -> Result<Option<i64>, Fault> {
    Ok(tx.query_one("SELECT min(parked) FROM message WHERE parked IS NOT NULL", &[]).await?.try_get(0)?)
}
