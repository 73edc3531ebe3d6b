//! What was learned, as records: `sender/app` and `stream/news` hold volumes, `known/app` whom a sender wrote to, as hashed bits.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use relay::Relay;
use relay::incident::intake::Correspondents;
use relay::incident::volume::Volume;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{RecordKind, RecordQuery, RecordWrite, RecordWritten, StoreError};

use super::{FORGOTTEN_MS, Line, Whose};
use crate::http::Shared;

/// How the names of those begin whom a sender wrote to.
const KNOWN: &str = "known/";
/// Records that are read, or written, at once: some of them are long.
const AT_ONCE: u32 = 50;

/// A volume as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    last_ms: i64,
    volume: Value,
}

/// A set as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct KeptSet {
    begun_ms: i64,
    members: u32,
    bits: String,
}

/// Takes up what an earlier run learned.
pub async fn restore(app: &Shared, relay: &Relay) -> Result<(), StoreError> {
    let mut query = RecordQuery { after: Some(0), limit: AT_ONCE, ..RecordQuery::open(RecordKind::Volume) };
    loop {
        let page = app.store.records(query.clone()).await?;
        let full = page.len() == AT_ONCE as usize;
        query.after = page.last().map(|record| record.id);
        for record in page {
            if let Some(sender) = record.name.strip_prefix(KNOWN) {
                app.volumes.sets.lock().insert(sender.to_owned(), record.id);
                if let Some(known) = correspondents(record.body) {
                    relay.intake().restore(sender.into(), known);
                }
            } else if let Some((whose, line)) = line(&record.name, record.body, record.id) {
                app.volumes.lines.lock().insert(whose, line);
            }
        }
        if !full {
            return Ok(());
        }
    }
}

fn line(name: &str, body: Value, id: i64) -> Option<(Whose, Line)> {
    let whose = Whose::parse(name)?;
    let kept: Kept = serde_json::from_value(body).ok()?;
    let volume = Volume::restore(&kept.volume).unwrap_or_default();
    Some((whose, Line { volume, last_ms: kept.last_ms, record: Some(id), ..Line::default() }))
}

fn correspondents(body: Value) -> Option<Correspondents> {
    let [now, before]: [KeptSet; 2] = serde_json::from_value(body).ok()?;
    let read = |set: KeptSet| Some((set.begun_ms, set.members, BASE64.decode(set.bits).ok()?));
    Correspondents::from_kept([read(now)?, read(before)?])
}

/// Writes down what was learned, and forgets those of whom nothing came for months.
pub async fn keep(app: &Shared, relay: &Relay, now_ms: i64) -> Result<(), StoreError> {
    let (mut names, mut writes) = (Vec::new(), Vec::new());
    {
        let mut lines = app.volumes.lines.lock();
        lines.retain(|whose, line| {
            let gone = now_ms - line.last_ms > FORGOTTEN_MS;
            if let (true, Some(id)) = (gone, line.record) {
                names.push(whose.clone());
                writes.push(RecordWrite::Remove { kind: RecordKind::Volume, id });
            }
            !gone
        });
        for (whose, line) in lines.iter() {
            let Ok(volume) = serde_json::to_value(&line.volume) else { continue };
            let Ok(body) = serde_json::to_value(Kept { last_ms: line.last_ms, volume }) else { continue };
            names.push(whose.clone());
            writes.push(write(line.record, whose.to_string(), body, now_ms));
        }
    }
    for (names, writes) in names.chunks(AT_ONCE as usize).zip(writes.chunks(AT_ONCE as usize)) {
        let written = app.store.write_records(writes.to_vec()).await?;
        let mut lines = app.volumes.lines.lock();
        for (whose, written) in names.iter().zip(written) {
            if let Some(line) = lines.get_mut(whose) {
                line.record = id_of(written, line.record);
            }
        }
    }
    keep_known(app, relay, now_ms).await
}

async fn keep_known(app: &Shared, relay: &Relay, now_ms: i64) -> Result<(), StoreError> {
    let door = relay.door();
    relay.intake().keep(|name| door.sender(name).is_some());
    for (sender, known) in relay.intake().changed() {
        let set = |(begun_ms, members, octets): (i64, u32, Vec<u8>)| KeptSet {
            begun_ms,
            members,
            bits: BASE64.encode(octets),
        };
        // The older set alone may be dropped for its length: it only makes strangers of people for a while.
        let mut sets = known.kept().map(set);
        if sets.iter().map(|set| set.bits.len()).sum::<usize>() > store::MOST_RECORD_BODY - 1_000 {
            sets[1] = KeptSet { begun_ms: 0, members: 0, bits: String::new() };
        }
        let Ok(body) = serde_json::to_value(sets) else { continue };
        let record = app.volumes.sets.lock().get(&*sender).copied();
        let written = app.store.write_records(vec![write(record, format!("{KNOWN}{sender}"), body, now_ms)]).await?;
        if let Some(id) = written.first().and_then(|written| id_of(*written, record)) {
            app.volumes.sets.lock().insert(sender.to_string(), id);
        }
    }
    Ok(())
}

fn write(record: Option<i64>, name: String, body: Value, at_ms: i64) -> RecordWrite {
    let kind = RecordKind::Volume;
    match record {
        Some(id) => RecordWrite::Change { kind, id, version: None, open: true, body },
        None => RecordWrite::Add { kind, name, open: true, at_ms, body },
    }
}

fn id_of(written: RecordWritten, before: Option<i64>) -> Option<i64> {
    match written {
        RecordWritten::Added(id) | RecordWritten::There(id) => Some(id),
        RecordWritten::Missing | RecordWritten::Removed => None,
        RecordWritten::Changed(_) | RecordWritten::Stale => before,
    }
}
