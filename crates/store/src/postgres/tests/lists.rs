//! Suppressions, records, returned mail and webhooks, with several nodes on one database.

use std::sync::Arc;

use proto::Address;
use serde_json::json;

use super::Database;
use crate::model::*;
use crate::postgres::PostgresStore;
use crate::verbs::{Hooks, Records, Returns, Suppressions};

const NOW: i64 = 1_800_000_000_000;
const DAY: i64 = 86_400_000;

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn suppression(to: &str, at_ms: i64) -> Suppression {
    Suppression {
        address: address(to),
        scope: SuppressionScope::Global,
        reason: SuppressionReason::MailboxFull,
        evidence: Evidence { at_ms: Some(at_ms), reply: Some("full \0 it is".into()), ..Evidence::default() },
        who: "pillarbox".into(),
        added_ms: at_ms,
        expires_ms: None,
    }
}

/// Two nodes on one database, each doing the same `times` at once.
fn race<T: Send>(times: usize, node: impl Fn(&PostgresStore, usize, usize) -> T + Sync) -> (Database, Vec<T>) {
    let database = Database::new();
    let stores: Vec<Arc<PostgresStore>> = (0..2).map(|_| database.open()).collect();
    let done = std::thread::scope(|scope| {
        let threads: Vec<_> = stores
            .iter()
            .enumerate()
            .flat_map(|(number, store)| (0..times).map(move |time| (number, time, store)))
            .map(|(number, time, store)| {
                scope.spawn({
                    let node = &node;
                    move || node(store, number, time)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    (database, done)
}

#[test]
fn strikes_of_two_nodes_count_each_day_once_and_suppress_once() {
    let strike =
        |days: i64| Strike { suppression: suppression("Bob@example.net", NOW + days * DAY), need: 4, within_days: 30 };
    let (database, struck) = race(3, |store, number, time| {
        // Both nodes tell of the same three days.
        let _ = number;
        store.strike(vec![strike(time as i64)], NOW + 3 * DAY).wait().unwrap()[0]
    });
    assert!(struck.iter().all(|one| matches!(one, Struck::Counted(1..=3))), "{struck:?}");
    assert_eq!(database.sql("SELECT count(*) FROM strike"), "3");
    let stores = [database.open(), database.open()];
    let last: Vec<_> = stores.iter().map(|store| store.strike(vec![strike(3)], NOW + 3 * DAY)).collect();
    for pending in last {
        assert_eq!(pending.wait().unwrap(), [Struck::Suppressed]);
    }
    assert_eq!(database.sql("SELECT count(*) FROM strike"), "0");
    assert_eq!(database.sql("SELECT change FROM suppression_change"), "0", "it was added once");
    assert_eq!(database.sql("SELECT why FROM suppression_change"), "full \u{FFFD} it is");
}

#[test]
fn changes_of_two_nodes_are_followed_without_a_gap() {
    let (database, _) = race(20, |store, number, time| {
        let to = format!("n{number}t{time}@example.net");
        store.suppress(vec![suppression(&to, NOW)], Existing::Keep, NOW).wait().unwrap()
    });
    let store = database.open();
    let mut seen = Vec::new();
    loop {
        let page = store.suppression_changes(seen.last().copied().unwrap_or(0), 7).wait().unwrap();
        if page.changes.is_empty() {
            break;
        }
        seen.extend(page.changes.iter().map(|change| change.seq));
    }
    assert_eq!(seen, (1..=40).collect::<Vec<i64>>());
}

#[test]
fn a_reader_behind_a_cursor_misses_no_change_that_is_committed_late() {
    let database = Database::new();
    let (writers, reader) = ([database.open(), database.open()], database.open());
    let seen = std::thread::scope(|scope| {
        let threads: Vec<_> = writers
            .iter()
            .enumerate()
            .map(|(number, store)| {
                scope.spawn(move || {
                    for time in 0..60 {
                        let to = format!("n{number}t{time}@example.net");
                        store.suppress(vec![suppression(&to, NOW)], Existing::Keep, NOW).wait().unwrap();
                    }
                })
            })
            .collect();
        let mut seen: Vec<i64> = Vec::new();
        let mut over = false;
        while !over {
            over = threads.iter().all(|thread| thread.is_finished());
            let page = reader.suppression_changes(seen.last().copied().unwrap_or(0), 1_000).wait().unwrap();
            seen.extend(page.changes.iter().map(|change| change.seq));
        }
        seen
    });
    assert_eq!(seen, (1..=120).collect::<Vec<i64>>());
}

#[test]
fn of_two_nodes_that_open_a_record_one_does_and_of_two_that_change_it_one_is_too_late() {
    let add =
        || RecordWrite::Add { kind: RecordKind::Incident, name: "a".into(), open: true, at_ms: NOW, body: json!({}) };
    let (database, written) = race(8, |store, _, _| store.write_records(vec![add()]).wait().unwrap()[0]);
    let added: Vec<i64> =
        written.iter().filter_map(|one| if let RecordWritten::Added(id) = one { Some(*id) } else { None }).collect();
    let [id] = added[..] else { panic!("{written:?}") };
    assert!(written.iter().all(|one| matches!(one, RecordWritten::Added(_)) || *one == RecordWritten::There(id)));
    let stores = [database.open(), database.open()];
    for version in 1..20 {
        let change = |node: usize| RecordWrite::Change {
            kind: RecordKind::Incident,
            id,
            version: Some(version),
            open: version % 2 == 0,
            body: json!({ "node": node }),
        };
        let both: Vec<_> =
            stores.iter().enumerate().map(|(node, store)| store.write_records(vec![change(node)])).collect();
        let mut both: Vec<RecordWritten> = both.into_iter().map(|pending| pending.wait().unwrap()[0]).collect();
        both.sort_by_key(|one| matches!(one, RecordWritten::Stale));
        assert_eq!(both, [RecordWritten::Changed(version + 1), RecordWritten::Stale]);
    }
}

#[test]
fn records_of_two_nodes_are_read_in_the_order_of_their_numbers() {
    let database = Database::new();
    let (writers, reader) = ([database.open(), database.open()], database.open());
    let add = |n: i64| RecordWrite::Add {
        kind: RecordKind::Audit,
        name: format!("n{n}"),
        open: n % 3 == 0,
        at_ms: NOW,
        body: json!(n),
    };
    let seen = std::thread::scope(|scope| {
        let threads: Vec<_> = writers
            .iter()
            .zip([0, 1_000])
            .map(|(store, from)| {
                scope.spawn(move || {
                    for n in (from..from + 90).step_by(3) {
                        store.write_records(vec![add(n), add(n + 1), add(n + 2)]).wait().unwrap();
                    }
                })
            })
            .collect();
        let mut seen: Vec<i64> = Vec::new();
        let mut over = false;
        while !over {
            over = threads.iter().all(|thread| thread.is_finished());
            let query =
                RecordQuery { after: Some(seen.last().copied().unwrap_or(0)), ..RecordQuery::of(RecordKind::Audit) };
            seen.extend(reader.records(query).wait().unwrap().iter().map(|record| record.id));
        }
        seen
    });
    assert_eq!(seen, (1..=180).collect::<Vec<i64>>());
}

#[test]
fn a_mailbox_is_read_once_by_two_nodes() {
    let mail = |uid: u32| NewReturned {
        source: "imap:inbox".into(),
        recipient: None,
        at_ms: NOW,
        content: "m".into(),
        place: Some(("inbox".into(), MailboxPlace { validity: 1, uid })),
    };
    let (database, kept) = race(10, |store, _, _| store.keep_returned(mail(7)).wait().unwrap());
    assert_eq!(kept.iter().filter(|kept| **kept == Kept::Durable).count(), 1, "{kept:?}");
    assert_eq!(database.sql("SELECT count(*) FROM returned"), "1");
}

#[test]
fn steps_of_a_webhook_by_two_nodes_stand_as_a_whole() {
    let (database, done) = race(10, |store, number, time| {
        store.hook_start("a".into(), HookStart::At(0)).wait().unwrap();
        let seq = (number * 100 + time) as i64;
        let waiting =
            vec![HookWaiting { source: HookSource::Event, seq, n: 0, key: seq, attempts: 1, first_ms: 1, due_ms: 5 }];
        let log = vec![HookDelivery { id: 0, at_ms: NOW, taken: true, body: json!({}) }; 3];
        let step = HookProgress { waiting, log, ..HookProgress::default() };
        store.hook_progress("a".into(), step).wait().unwrap()
    });
    assert_eq!(done.len(), 20);
    assert_eq!(database.sql("SELECT count(*) FROM hook_delivery"), "60");
}
