//! Changing the list of addresses that get no mail, its log, and what counts against addresses.
//!
//! The list has one writer at a time in the whole cluster: who changes it holds the row of its counter until the commit. So
//! what was read stays true until it is written, and the log's numbers are committed in their order. A list of 1,000
//! addresses is read and written with a handful of statements.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proto::Address;
use tokio_postgres::Row;

use super::fault::Fault;
use super::tx::Tx;
use super::unit::clean;
use crate::encode;
use crate::engine::listed::{
    DAY_MS, MOST_WHO, OURSELVES, Put, clip, clipped, evidence_ms, is_over, unreadable, wins, words,
};
use crate::model::*;

/// Rows a step of upkeep touches.
pub(super) const STEP: i64 = 200;
/// The counter of the log's numbers.
const LOG: &str = "suppression";
/// The last number that is no longer kept.
pub(super) const FORGOTTEN: &str = "suppression.forgotten";

/// What is to be removed, by whom and why.
pub(super) struct UnsuppressRequest {
    pub(super) list: Vec<(Address, Option<SuppressionScope>)>,
    pub(super) who: String,
    pub(super) why: Option<String>,
    pub(super) now_ms: i64,
}

/// Columns of [`read`], in order.
pub(super) const COLUMNS: &str = "address, scope, reason, evidence, who, added, expires";

/// A row of [`COLUMNS`].
pub(super) fn read(row: &Row) -> Result<Suppression, Fault> {
    let scope: &str = row.try_get(1)?;
    let reason: &str = row.try_get(2)?;
    Ok(Suppression {
        address: encode::read_address(row.try_get(0)?)?,
        scope: SuppressionScope::from(scope),
        reason: reason.parse().map_err(unreadable)?,
        evidence: serde_json::from_str(row.try_get(3)?).map_err(unreadable)?,
        who: row.try_get(4)?,
        added_ms: row.try_get(5)?,
        expires_ms: row.try_get(6)?,
    })
}

/// Key and scope.
type Entry = (String, String);
/// Key, reason and scope.
type Against = (String, SuppressionReason, String);

/// A change on its way to the log.
struct Change {
    entry: Entry,
    kind: ChangeKind,
    suppression: Suppression,
    who: String,
    why: Option<String>,
}

/// What the list says of some addresses, and what is to become of it.
struct Book {
    now_ms: i64,
    /// The log's last number.
    last: i64,
    held: BTreeMap<Entry, Suppression>,
    /// When somebody removed it last.
    removed: HashMap<Entry, i64>,
    struck: HashMap<Against, BTreeSet<i64>>,
    touched: BTreeSet<Entry>,
    struck_touched: BTreeSet<Against>,
    log: Vec<Change>,
}

fn entry_of(suppression: &Suppression) -> Entry {
    (address_key(&suppression.address), suppression.scope.as_str().to_owned())
}

impl Book {
    /// Reads what is known of these addresses; from here to the commit nobody else changes it.
    async fn open(tx: &Tx, keys: impl Iterator<Item = String>, now_ms: i64) -> Result<Self, Fault> {
        let last = lock(tx).await?;
        let keys: Vec<String> = keys.collect::<BTreeSet<_>>().into_iter().collect();
        let mut held = BTreeMap::new();
        let rows = tx.query(&format!("SELECT {COLUMNS}, key FROM suppression WHERE key = ANY($1)"), &[&keys]).await?;
        for row in &rows {
            let suppression = read(row)?;
            held.insert((row.try_get(7)?, suppression.scope.as_str().to_owned()), suppression);
        }
        Ok(Self {
            now_ms,
            last,
            held,
            removed: HashMap::new(),
            struck: HashMap::new(),
            touched: BTreeSet::new(),
            struck_touched: BTreeSet::new(),
            log: Vec::new(),
        })
    }

    /// Reads when somebody removed these from the list.
    async fn read_removed(&mut self, tx: &Tx, list: impl Iterator<Item = &Suppression>) -> Result<(), Fault> {
        let (keys, scopes): (Vec<String>, Vec<String>) =
            list.map(entry_of).collect::<BTreeSet<_>>().into_iter().unzip();
        let rows = tx
            .query(
                "SELECT w.key, w.scope, c.at FROM unnest($1::text[], $2::text[]) AS w(key, scope)
                 CROSS JOIN LATERAL (SELECT at FROM suppression_change AS c
                     WHERE c.key = w.key AND c.scope = w.scope AND c.change = 2 ORDER BY c.seq DESC LIMIT 1) AS c",
                &[&keys, &scopes],
            )
            .await?;
        for row in &rows {
            self.removed.insert((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?);
        }
        Ok(())
    }

    /// Reads what is counted against addresses.
    async fn read_struck(&mut self, tx: &Tx, list: &[Strike]) -> Result<(), Fault> {
        let keys: BTreeSet<String> = list.iter().map(|strike| address_key(&strike.suppression.address)).collect();
        let keys: Vec<String> = keys.into_iter().collect();
        let rows = tx.query("SELECT key, reason, scope, day FROM strike WHERE key = ANY($1)", &[&keys]).await?;
        for row in &rows {
            let reason: &str = row.try_get(1)?;
            let against = (row.try_get(0)?, reason.parse().map_err(unreadable)?, row.try_get(2)?);
            self.struck.entry(against).or_default().insert(row.try_get(3)?);
        }
        Ok(())
    }

    /// Somebody removed the address from the list at this time or later: what was known then does not count.
    fn is_forgiven(&self, entry: &Entry, evidence_ms: i64) -> bool {
        self.removed.get(entry).is_some_and(|at| *at >= evidence_ms)
    }

    fn put(&mut self, new: &Suppression, existing: Existing) -> Put {
        let new = clip(new);
        let entry = entry_of(&new);
        let change = match self.held.get(&entry) {
            Some(old) if is_over(old, self.now_ms) => {
                self.drop_entry(&entry, ChangeKind::Expired, OURSELVES, None);
                Put::Added
            }
            Some(old) if !wins(&new, old, existing) => return Put::Kept,
            Some(_) => Put::Changed,
            None => Put::Added,
        };
        if existing == Existing::Keep && self.is_forgiven(&entry, evidence_ms(&new)) {
            return Put::Forgiven;
        }
        let kind = if change == Put::Changed { ChangeKind::Changed } else { ChangeKind::Added };
        let why = words(&new).map(str::to_owned);
        let (who, suppression) = (new.who.clone(), new.clone());
        self.log.push(Change { entry: entry.clone(), kind, suppression, who, why });
        let new = Suppression { who: clipped(&new.who, MOST_WHO).to_owned(), ..new };
        self.held.insert(entry.clone(), new);
        self.touched.insert(entry);
        change
    }

    fn drop_entry(&mut self, entry: &Entry, kind: ChangeKind, who: &str, why: Option<&str>) {
        if let Some(suppression) = self.held.remove(entry) {
            self.touched.insert(entry.clone());
            let (who, why) = (who.to_owned(), why.map(str::to_owned));
            self.log.push(Change { entry: entry.clone(), kind, suppression, who, why });
        }
    }

    fn strike(&mut self, strike: &Strike) -> Struck {
        let new = &strike.suppression;
        let entry = entry_of(new);
        let at_ms = evidence_ms(new);
        if self.is_forgiven(&entry, at_ms) {
            return Struck::Forgiven;
        }
        let holds = self.held.get(&entry).is_some_and(|old| !is_over(old, self.now_ms));
        let against = (entry.0, new.reason, entry.1);
        if strike.need > 1 && !holds {
            let days = self.struck.entry(against.clone()).or_default();
            days.insert(at_ms.div_euclid(DAY_MS));
            // The latest days count, even if an older event is told after a newer one.
            let first = days.last().map_or(i64::MIN, |latest| latest - i64::from(strike.within_days.max(1)));
            let counted = days.iter().filter(|day| **day > first).count() as u32;
            self.struck_touched.insert(against.clone());
            if counted < strike.need {
                return Struck::Counted(counted);
            }
        }
        self.put(new, Existing::Keep);
        self.struck.remove(&against);
        self.struck_touched.insert(against);
        Struck::Suppressed
    }

    /// Writes what became of it.
    async fn close(self, tx: &Tx) -> Result<(), Fault> {
        self.write_entries(tx).await?;
        self.write_log(tx).await?;
        self.write_struck(tx).await
    }

    async fn write_entries(&self, tx: &Tx) -> Result<(), Fault> {
        let gone = self.touched.iter().filter(|entry| !self.held.contains_key(*entry)).cloned();
        let (keys, scopes): (Vec<String>, Vec<String>) = gone.unzip();
        if !keys.is_empty() {
            tx.execute(
                "DELETE FROM suppression AS s USING unnest($1::text[], $2::text[]) AS gone(key, scope)
                 WHERE s.key = gone.key AND s.scope = gone.scope",
                &[&keys, &scopes],
            )
            .await?;
        }
        let kept: Vec<(&Entry, &Suppression)> =
            self.touched.iter().filter_map(|entry| self.held.get_key_value(entry)).collect();
        if kept.is_empty() {
            return Ok(());
        }
        let (keys, scopes): (Vec<&str>, Vec<&str>) = kept.iter().map(|(entry, _)| (&*entry.0, &*entry.1)).unzip();
        let addresses: Vec<&str> = kept.iter().map(|(_, one)| one.address.as_str()).collect();
        let reasons: Vec<&str> = kept.iter().map(|(_, one)| one.reason.as_str()).collect();
        let evidence = kept.iter().map(|(_, one)| serde_json::to_string(&one.evidence)).collect::<Result<Vec<_>, _>>();
        let evidence = evidence.map_err(unreadable)?;
        let who: Vec<_> = kept.iter().map(|(_, one)| clean(&one.who)).collect();
        let added: Vec<i64> = kept.iter().map(|(_, one)| one.added_ms).collect();
        let expires: Vec<Option<i64>> = kept.iter().map(|(_, one)| one.expires_ms).collect();
        tx.execute(
            "INSERT INTO suppression(key, scope, address, reason, evidence, who, added, expires)
             SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[],
                 $8::bigint[])
             ON CONFLICT (key, scope) DO UPDATE SET address = excluded.address, reason = excluded.reason,
                 evidence = excluded.evidence, who = excluded.who, added = excluded.added, expires = excluded.expires",
            &[&keys, &scopes, &addresses, &reasons, &evidence, &who, &added, &expires],
        )
        .await?;
        Ok(())
    }

    async fn write_log(&self, tx: &Tx) -> Result<(), Fault> {
        let log = &self.log;
        if log.is_empty() {
            return Ok(());
        }
        let last = self.last + log.len() as i64;
        let numbers: Vec<i64> = (self.last + 1..=last).collect();
        let kinds: Vec<i16> = log.iter().map(|change| change.kind as i16).collect();
        let (keys, scopes): (Vec<&str>, Vec<&str>) =
            log.iter().map(|change| (&*change.entry.0, &*change.entry.1)).unzip();
        let addresses: Vec<&str> = log.iter().map(|change| change.suppression.address.as_str()).collect();
        let reasons: Vec<&str> = log.iter().map(|change| change.suppression.reason.as_str()).collect();
        let holds = |change: &&Change| matches!(change.kind, ChangeKind::Added | ChangeKind::Changed);
        let expires: Vec<Option<i64>> = log
            .iter()
            .map(|change| Some(change).filter(holds).and_then(|change| change.suppression.expires_ms))
            .collect();
        let who: Vec<_> = log.iter().map(|change| clean(clipped(&change.who, MOST_WHO))).collect();
        let why: Vec<_> =
            log.iter().map(|change| change.why.as_deref().map(|why| clean(clipped(why, MOST_WORDS)))).collect();
        tx.execute(
            "INSERT INTO suppression_change(seq, at, change, key, scope, address, reason, expires, who, why)
             SELECT c.seq, $2, c.change, c.key, c.scope, c.address, c.reason, c.expires, c.who, c.why
             FROM unnest($1::bigint[], $3::smallint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[],
                 $9::text[], $10::text[]) AS c(seq, change, key, scope, address, reason, expires, who, why)",
            &[&numbers, &self.now_ms, &kinds, &keys, &scopes, &addresses, &reasons, &expires, &who, &why],
        )
        .await?;
        tx.execute("UPDATE counter SET value = $2 WHERE name = $1", &[&LOG, &last]).await?;
        Ok(())
    }

    async fn write_struck(&self, tx: &Tx) -> Result<(), Fault> {
        if self.struck_touched.is_empty() {
            return Ok(());
        }
        let part = |of: fn(&Against) -> &str| self.struck_touched.iter().map(of).collect::<Vec<&str>>();
        let (keys, reasons, scopes) = (part(|of| &of.0), part(|of| of.1.as_str()), part(|of| &of.2));
        tx.execute(
            "DELETE FROM strike AS s USING unnest($1::text[], $2::text[], $3::text[]) AS gone(key, reason, scope)
             WHERE s.key = gone.key AND s.reason = gone.reason AND s.scope = gone.scope",
            &[&keys, &reasons, &scopes],
        )
        .await?;
        let (mut keys, mut reasons, mut scopes, mut days) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for against in &self.struck_touched {
            for day in self.struck.get(against).into_iter().flatten() {
                keys.push(against.0.as_str());
                reasons.push(against.1.as_str());
                scopes.push(against.2.as_str());
                days.push(*day);
            }
        }
        if !days.is_empty() {
            tx.execute(
                "INSERT INTO strike(key, reason, scope, day)
                 SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])",
                &[&keys, &reasons, &scopes, &days],
            )
            .await?;
        }
        Ok(())
    }
}

/// Keeps others from changing the list until the commit; gives the log's last number.
async fn lock(tx: &Tx) -> Result<i64, Fault> {
    Ok(tx.query_one("SELECT value FROM counter WHERE name = $1 FOR UPDATE", &[&LOG]).await?.try_get(0)?)
}

/// Adds a list of suppressions.
pub(super) async fn suppress(
    tx: &Tx,
    list: &[Suppression],
    existing: Existing,
    now_ms: i64,
) -> Result<SuppressCount, Fault> {
    let mut book = Book::open(tx, list.iter().map(|one| address_key(&one.address)), now_ms).await?;
    if existing == Existing::Keep {
        book.read_removed(tx, list.iter()).await?;
    }
    let mut count = SuppressCount::default();
    for suppression in list {
        book.put(suppression, existing).count(&mut count);
    }
    book.close(tx).await?;
    Ok(count)
}

/// Removes suppressions; gives how many.
pub(super) async fn unsuppress(tx: &Tx, request: &UnsuppressRequest) -> Result<u64, Fault> {
    let keys = || request.list.iter().map(|(address, _)| address_key(address));
    let mut book = Book::open(tx, keys(), request.now_ms).await?;
    let mut removed = 0;
    for (address, scope) in &request.list {
        let key = address_key(address);
        let wanted = |entry: &&Entry| entry.0 == key && scope.as_ref().is_none_or(|scope| scope.as_str() == entry.1);
        let found: Vec<(Entry, bool)> = (book.held.keys().filter(wanted))
            .map(|entry| (entry.clone(), is_over(&book.held[entry], request.now_ms)))
            .collect();
        for (entry, over) in found {
            let (kind, who) =
                if over { (ChangeKind::Expired, OURSELVES) } else { (ChangeKind::Removed, &*request.who) };
            book.drop_entry(&entry, kind, who, request.why.as_deref());
            removed += u64::from(!over);
        }
    }
    book.close(tx).await?;
    let keys: Vec<String> = keys().collect();
    let scopes: Vec<Option<&str>> =
        request.list.iter().map(|(_, scope)| scope.as_ref().map(SuppressionScope::as_str)).collect();
    tx.execute(
        "DELETE FROM strike AS s USING unnest($1::text[], $2::text[]) AS gone(key, scope)
         WHERE s.key = gone.key AND (gone.scope IS NULL OR s.scope = gone.scope)",
        &[&keys, &scopes],
    )
    .await?;
    Ok(removed)
}

/// Counts failures against addresses.
pub(super) async fn strike(tx: &Tx, list: &[Strike], now_ms: i64) -> Result<Vec<Struck>, Fault> {
    let suppressions = || list.iter().map(|strike| &strike.suppression);
    let mut book = Book::open(tx, suppressions().map(|one| address_key(&one.address)), now_ms).await?;
    book.read_removed(tx, suppressions()).await?;
    book.read_struck(tx, list).await?;
    let struck = list.iter().map(|strike| book.strike(strike)).collect();
    book.close(tx).await?;
    Ok(struck)
}

/// Forgets what was counted against addresses.
pub(super) async fn forgive(tx: &Tx, list: &[Address]) -> Result<u64, Fault> {
    let keys: Vec<String> = list.iter().map(address_key).collect();
    // Nearly always there is nothing: then nobody has to wait.
    if tx.query("SELECT 1 FROM strike WHERE key = ANY($1) LIMIT 1", &[&keys]).await?.is_empty() {
        return Ok(0);
    }
    lock(tx).await?;
    tx.execute("DELETE FROM strike WHERE key = ANY($1)", &[&keys]).await
}

/// Removes suppressions whose time is over.
pub(super) async fn expire(tx: &Tx, now_ms: i64) -> Result<u64, Fault> {
    let over = "SELECT key FROM suppression WHERE expires IS NOT NULL AND expires <= $1 ORDER BY expires LIMIT $2";
    let rows = tx.query(over, &[&now_ms, &STEP]).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let keys = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
    let mut book = Book::open(tx, keys.into_iter(), now_ms).await?;
    let over = book.held.iter().filter(|(_, one)| is_over(one, now_ms)).map(|(entry, _)| entry.clone());
    for entry in over.collect::<Vec<_>>() {
        book.drop_entry(&entry, ChangeKind::Expired, OURSELVES, None);
    }
    book.close(tx).await?;
    Ok(rows.len() as u64)
}

/// Removes the oldest changes from the log.
pub(super) async fn forget_changes(tx: &Tx, before_ms: i64) -> Result<u64, Fault> {
    lock(tx).await?;
    let rows = tx.query("SELECT seq, at FROM suppression_change ORDER BY seq LIMIT $1", &[&STEP]).await?;
    let mut last: Option<i64> = None;
    for row in &rows {
        if row.try_get::<_, i64>(1)? > before_ms {
            break;
        }
        last = Some(row.try_get(0)?);
    }
    let Some(last) = last else { return Ok(0) };
    let removed = tx.execute("DELETE FROM suppression_change WHERE seq <= $1", &[&last]).await?;
    tx.execute("UPDATE counter SET value = $2 WHERE name = $1", &[&FORGOTTEN, &last]).await?;
    Ok(removed)
}

/// Removes days that are too long ago to count.
pub(super) async fn forget_strikes(tx: &Tx, before_ms: i64) -> Result<u64, Fault> {
    tx.execute(
        "DELETE FROM strike WHERE (key, reason, scope, day) IN
             (SELECT key, reason, scope, day FROM strike WHERE day < $1 ORDER BY day LIMIT $2)",
        &[&before_ms.div_euclid(DAY_MS), &STEP],
    )
    .await
}
