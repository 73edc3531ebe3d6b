//! Stretches of messages and what occurs in them ([`crate::engine::stretch`]), as rows.

use std::collections::{BTreeMap, VecDeque};

use super::fault::Fault;
use super::tx::Tx;
use crate::encode;
use crate::engine::sought::{Compared, Span};
use crate::engine::stretch::{Fate, LENGTH, Marks, Needs, PASSED};

/// Stretches judged at a time.
const JUDGED: i64 = 512;

/// A stretch with its marks.
struct Stretch {
    last: i64,
    messages: i64,
    marks: Marks,
    /// As it is stored; empty if it is not yet.
    stored: (i64, i64, Vec<u8>),
}

impl Stretch {
    fn has_changed(&self) -> bool {
        let (last, messages, octets) = &self.stored;
        (*last, *messages) != (self.last, self.messages) || octets != self.marks.octets()
    }
}

/// Adds the marks of messages; with each whether it was accepted since the last time.
pub(super) async fn add(tx: &Tx, messages: &BTreeMap<i64, bool>) -> Result<(), Fault> {
    let ids: Vec<i64> = messages.keys().copied().collect();
    let mut stretches = read(tx, &ids).await?;
    let newest: Option<i64> = tx.query_one("SELECT max(first) FROM stretch", &[]).await?.try_get(0)?;
    let sql = "SELECT id, sender, stream, reverse_path, details FROM message WHERE id = ANY($1) ORDER BY id";
    for row in &tx.query(sql, &[&ids]).await? {
        let id: i64 = row.try_get(0)?;
        let full = |one: &Stretch| one.messages >= LENGTH && id > one.last;
        let own = stretches.range(..=id).next_back();
        let is_newest = own.map(|(first, _)| *first) >= newest;
        if is_newest && own.is_none_or(|(_, one)| full(one)) {
            let (marks, stored) = (Marks::default(), (0, 0, Vec::new()));
            stretches.insert(id, Stretch { last: id, messages: 0, marks, stored });
        }
        // One that is older than all stretches is always looked at.
        let Some((_, own)) = stretches.range_mut(..=id).next_back() else { continue };
        let details: Option<&str> = row.try_get(4)?;
        let compared =
            Compared { sender: row.try_get(1)?, stream: row.try_get(2)?, reverse_path: row.try_get(3)?, details };
        own.marks.add_message(&compared, encode::read_details(details)?.as_ref());
        own.last = own.last.max(id);
        own.messages += i64::from(messages.get(&id) == Some(&true));
    }
    let sql = "SELECT DISTINCT r.message, r.state, lane.route, r.rule, r.why
         FROM recipient AS r LEFT JOIN lane ON lane.id = r.lane WHERE r.message = ANY($1)";
    for row in &tx.query(sql, &[&ids]).await? {
        let Some((_, own)) = stretches.range_mut(..=row.try_get::<_, i64>(0)?).next_back() else { continue };
        let state = u8::try_from(row.try_get::<_, i16>(1)?).unwrap_or_default();
        own.marks.add_recipient(Fate { state, route: row.try_get(2)?, rule: row.try_get(3)?, why: row.try_get(4)? });
    }
    for (first, one) in stretches.iter().filter(|(_, one)| one.has_changed()) {
        tx.execute(
            "INSERT INTO stretch(first, last, messages, marks) VALUES ($1, $2, $3, $4)
             ON CONFLICT (first) DO UPDATE SET last = $2, messages = $3, marks = $4",
            &[first, &one.last, &one.messages, &one.marks.octets()],
        )
        .await?;
    }
    forget(tx).await
}

/// The stretches that messages belong to.
async fn read(tx: &Tx, ids: &[i64]) -> Result<BTreeMap<i64, Stretch>, Fault> {
    let sql = "SELECT first, last, messages, marks FROM stretch WHERE first IN
             (SELECT (SELECT max(s.first) FROM stretch AS s WHERE s.first <= one) FROM unnest($1::bigint[]) AS one)";
    let mut found = BTreeMap::new();
    for row in &tx.query(sql, &[&ids]).await? {
        let (last, messages, octets): (_, _, Vec<u8>) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        let marks = Marks::read(octets.clone());
        found.insert(row.try_get(0)?, Stretch { last, messages, marks, stored: (last, messages, octets) });
    }
    Ok(found)
}

/// Removes stretches that have no messages any more, the oldest ones.
async fn forget(tx: &Tx) -> Result<(), Fault> {
    tx.execute(
        "DELETE FROM stretch WHERE first <
             (SELECT max(first) FROM stretch WHERE first <= (SELECT min(id) FROM message))",
        &[],
    )
    .await?;
    Ok(())
}

/// The parts of a span that may have what is asked for, newest first.
pub(super) struct Parts {
    /// `None`: no part can be passed over.
    needs: Option<Needs>,
    /// What is left of the span.
    left: Span,
    /// Beginnings of stretches, with whether they may have it; newest first.
    judged: VecDeque<(i64, bool)>,
    more: bool,
}

impl Parts {
    pub(super) fn of(needs: Option<Needs>, span: Span) -> Self {
        let needs = needs.filter(|needs| !needs.is_empty());
        Self { needs, left: span, judged: VecDeque::new(), more: true }
    }

    /// The next part, or where looking ended: with nothing left of the span, or of what one question may look at.
    pub(super) async fn next(&mut self, tx: &Tx, looks: &mut u64) -> Result<Result<Span, i64>, Fault> {
        loop {
            let Span { lowest, end } = self.left;
            if end <= lowest || *looks == 0 {
                return Ok(Err(end.max(lowest)));
            }
            if self.needs.is_some() && self.judged.is_empty() && self.more {
                self.judge(tx).await?;
            }
            let Some((first, may)) = self.judged.pop_front() else {
                // Older than all stretches: nothing is known of it.
                self.left.end = lowest;
                return Ok(Ok(Span { lowest, end }));
            };
            self.left.end = first.max(lowest);
            if may {
                return Ok(Ok(Span { lowest: self.left.end, end }));
            }
            *looks = looks.saturating_sub(PASSED);
        }
    }

    async fn judge(&mut self, tx: &Tx) -> Result<(), Fault> {
        let Some(needs) = &self.needs else { return Ok(()) };
        let (all, (this, those)) = (needs.all(), needs.either());
        let rows = tx
            .query(
                "SELECT first, NOT EXISTS (SELECT FROM unnest($2::int[]) AS m WHERE get_bit(substr(marks, m / 8 + 1, 1), m % 8) = 0)
                     AND ($3::int IS NULL OR get_bit(substr(marks, $3 / 8 + 1, 1), $3 % 8) = 1
                         OR NOT EXISTS (SELECT FROM unnest($4::int[]) AS m WHERE get_bit(substr(marks, m / 8 + 1, 1), m % 8) = 0))
                 FROM stretch WHERE first < $1 ORDER BY first DESC LIMIT $5",
                &[&self.left.end, &all, &this, &those, &JUDGED],
            )
            .await?;
        self.more = rows.len() as i64 == JUDGED;
        for row in &rows {
            self.judged.push_back((row.try_get(0)?, row.try_get(1)?));
        }
        Ok(())
    }
}
