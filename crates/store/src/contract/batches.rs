//! Stories about batches: whole or not at all, and each row one message.

use std::sync::Arc;

use super::scene::{HOUR, address};
use super::{Scene, Story};
use crate::model::*;
use crate::verbs::{Retention, StoreError};

pub(super) const STORIES: &[Story] = &[
    ("a batch is invisible until it is committed", invisible_until_whole),
    ("a batch that was not committed is gone after a restart", unfinished_is_removed),
    ("a batch that is not whole is refused", not_whole),
    ("a row becomes one message, whoever tries again", row_once),
    ("a paused or canceled batch makes no messages", stopped),
    ("a batch finishes when all its rows and messages are done with", finishes),
    ("rows show what became of them", rows_show),
    ("a batch's open messages are counted and can be chosen", open_ones),
    ("a batch's idempotency key replays its answer", replays),
    ("batches are removed when their time is over", retention),
];

fn begin(scene: &Scene, rows: u32) -> BatchId {
    let id = BatchId(scene.store.next_id(scene.now).0);
    let new = NewBatch {
        id,
        by: scene.run,
        sender: "app".into(),
        stream: "news".into(),
        label: "October".into(),
        created_ms: scene.now,
        start_ms: scene.now,
        spread_ms: Some(HOUR),
        test: false,
        body: "{}".into(),
    };
    scene.store.begin_batch(new).wait().unwrap();
    let row = |n: u32| NewRow { n, address: address(&format!("u{n}@example.net")), data: format!("{{\"n\":{n}}}") };
    scene.store.add_rows(id, (0..rows).map(row).collect()).wait().unwrap();
    id
}

fn commit(scene: &Scene, id: BatchId, rows: u32) -> Result<BatchAccepted, StoreError> {
    scene.store.commit_batch(id, BatchCommit { rows, idempotency: None, now_ms: scene.now }).wait()
}

fn batch(scene: &Scene, rows: u32) -> BatchId {
    let id = begin(scene, rows);
    assert_eq!(commit(scene, id, rows).unwrap(), BatchAccepted::Committed);
    id
}

/// The message of a row.
fn message_of(scene: &Scene, batch: BatchId, row: u32, start: Start) -> NewMessage {
    let mut new = scene.message(&[&format!("u{row}@example.net")], start);
    let details = MessageDetails { row: Some(RowRef { batch, row }), ..MessageDetails::default() };
    new.message = Arc::new(Message { details: Arc::new(details), ..(*new.message).clone() });
    new
}

fn feed(scene: &Scene, batch: BatchId, row: u32) -> MessageId {
    scene.accept_this(message_of(scene, batch, row, Start::Waiting(scene.now)))
}

fn change(scene: &Scene, id: BatchId, change: BatchChange) -> Result<BatchView, StoreError> {
    scene.store.change_batch(id, change, scene.now).wait()
}

fn pause() -> BatchChange {
    BatchChange::Pause { why: "wait".into() }
}

fn states(scene: &Scene, id: BatchId) -> Vec<RowState> {
    scene.store.rows(id, None, None, 1_000).wait().unwrap().into_iter().map(|row| row.state).collect()
}

fn queued(scene: &Scene, id: BatchId) -> Vec<u32> {
    scene.store.next_rows(id, None, 1_000).wait().unwrap().into_iter().map(|row| row.n).collect()
}

fn is_missing<T: std::fmt::Debug>(answer: Result<T, StoreError>) {
    assert!(matches!(answer, Err(StoreError::NotFound)), "{answer:?}");
}

fn invisible_until_whole(scene: &mut Scene) {
    let id = begin(scene, 3);
    is_missing(scene.store.batch(id).wait());
    is_missing(scene.store.rows(id, None, None, 10).wait());
    is_missing(change(scene, id, pause()));
    assert!(scene.store.batches(None, None, 10).wait().unwrap().is_empty());
    assert!(scene.store.running_batches(10).wait().unwrap().is_empty());
    let early = scene.store.accept(message_of(scene, id, 0, Start::Waiting(scene.now))).wait().unwrap();
    assert_eq!(early, Accepted::NotWanted);
    assert_eq!(commit(scene, id, 3).unwrap(), BatchAccepted::Committed);
    let view = scene.store.batch(id).wait().unwrap();
    assert_eq!((view.state, view.total, view.fed, view.spread_ms), (BatchState::Running, 3, 0, Some(HOUR)));
    assert_eq!(scene.store.batches(Some("app".into()), None, 10).wait().unwrap(), std::slice::from_ref(&view));
    assert!(scene.store.batches(Some("other".into()), None, 10).wait().unwrap().is_empty());
    assert!(scene.store.batches(None, Some(id), 10).wait().unwrap().is_empty());
    assert_eq!(scene.store.running_batches(10).wait().unwrap(), [view]);
    is_missing(scene.store.add_rows(id, Vec::new()).wait());
    is_missing(commit(scene, id, 3));
    scene.store.drop_batch(id).wait().unwrap();
    let rows = scene.store.next_rows(id, Some(0), 10).wait().unwrap();
    assert_eq!(rows, [BatchRow { n: 1, data: "{\"n\":1}".into() }, BatchRow { n: 2, data: "{\"n\":2}".into() }]);
    assert_eq!(scene.store.batch_body(id).wait().unwrap(), "{}");
    scene.sound();
}

fn unfinished_is_removed(scene: &mut Scene) {
    let (lost, whole) = (begin(scene, 3), batch(scene, 2));
    let given_up = begin(scene, 3);
    scene.store.drop_batch(given_up).wait().unwrap();
    is_missing(scene.store.add_rows(given_up, Vec::new()).wait());
    scene.restart();
    scene.store.retain(keep(), scene.now).wait().unwrap();
    is_missing(commit(scene, lost, 3));
    is_missing(scene.store.batch_body(lost).wait());
    is_missing(scene.store.batch_body(given_up).wait());
    assert!(queued(scene, lost).is_empty());
    assert_eq!(queued(scene, whole), [0, 1]);
    scene.sound();
}

fn keep() -> Retention {
    Retention { content_ms: 0, events_ms: 30 * 24 * HOUR, captured_ms: HOUR, streams: Arc::default() }
}

fn not_whole(scene: &mut Scene) {
    let id = begin(scene, 3);
    for rows in [2, 4] {
        assert!(matches!(commit(scene, id, rows), Err(StoreError::Invalid(_))));
    }
    let gap = NewRow { n: 7, address: address("u7@example.net"), data: "{}".into() };
    scene.store.add_rows(id, vec![gap]).wait().unwrap();
    assert!(matches!(commit(scene, id, 4), Err(StoreError::Invalid(_))));
    is_missing(scene.store.batch(id).wait());
}

fn row_once(scene: &mut Scene) {
    let id = batch(scene, 3);
    let racing: Vec<_> =
        (0..8).map(|_| scene.store.accept(message_of(scene, id, 1, Start::Waiting(scene.now)))).collect();
    let answers: Vec<Accepted> = racing.into_iter().map(|pending| pending.wait().unwrap()).collect();
    let committed: Vec<_> = answers.iter().filter(|answer| matches!(answer, Accepted::Committed(_))).collect();
    assert_eq!(committed.len(), 1);
    assert!(answers.iter().all(|answer| answer == committed[0] || *answer == Accepted::NotWanted));
    assert_eq!(queued(scene, id), [0, 2]);
    assert_eq!(scene.store.batch(id).wait().unwrap().fed, 1);
    scene.restart();
    assert_eq!(queued(scene, id), [0, 2]);
    let again = scene.store.accept(message_of(scene, id, 1, Start::Leased)).wait().unwrap();
    assert_eq!(again, Accepted::NotWanted);
    assert_eq!(scene.claim().len(), 1);
    scene.sound();
}

fn stopped(scene: &mut Scene) {
    let id = batch(scene, 3);
    let view = change(scene, id, pause()).unwrap();
    assert_eq!(
        (view.state, view.why.as_deref(), view.paused_at_ms),
        (BatchState::Paused, Some("wait"), Some(scene.now))
    );
    let refused = scene.store.accept(message_of(scene, id, 0, Start::Waiting(scene.now))).wait().unwrap();
    assert_eq!(refused, Accepted::NotWanted);
    assert!(scene.store.running_batches(10).wait().unwrap().is_empty());
    scene.now += HOUR;
    change(scene, id, pause()).unwrap();
    let view = change(scene, id, BatchChange::Resume).unwrap();
    assert_eq!((view.state, view.why, view.paused_ms, view.paused_at_ms), (BatchState::Running, None, HOUR, None));
    feed(scene, id, 0);
    let view = change(scene, id, BatchChange::Note(Some("no route".into()))).unwrap();
    assert_eq!((view.state, view.why.as_deref()), (BatchState::Running, Some("no route")));
    let view = change(scene, id, BatchChange::Cancel { why: "by op".into() }).unwrap();
    assert_eq!((view.state, view.fed, view.finished_ms), (BatchState::Canceled, 1, Some(scene.now)));
    assert!(matches!(change(scene, id, BatchChange::Resume), Err(StoreError::Invalid(_))));
    change(scene, id, BatchChange::Cancel { why: "again".into() }).unwrap();
    let refused = scene.store.accept(message_of(scene, id, 1, Start::Waiting(scene.now))).wait().unwrap();
    assert_eq!(refused, Accepted::NotWanted);
    let canceled = RowState::Of(State::Canceled);
    assert_eq!(states(scene, id), [RowState::Of(State::Waiting), canceled, canceled]);
    is_missing(scene.store.batch_body(id).wait());
    scene.sound();
}

fn finishes(scene: &mut Scene) {
    let id = batch(scene, 2);
    let message = feed(scene, id, 0);
    assert_eq!(change(scene, id, BatchChange::Finish).unwrap().state, BatchState::Running);
    assert!(!scene.store.refuse_row(RowRef { batch: id, row: 0 }, "x".into()).wait().unwrap());
    assert!(scene.store.refuse_row(RowRef { batch: id, row: 1 }, "too large".into()).wait().unwrap());
    assert_eq!(change(scene, id, BatchChange::Finish).unwrap().state, BatchState::Running, "a message is on its way");
    assert_eq!(scene.claim().len(), 1);
    scene.settle(message, 0, Outcome::Delivered);
    let view = change(scene, id, BatchChange::Finish).unwrap();
    assert_eq!((view.state, view.fed, view.refused), (BatchState::Finished, 1, 1));
    assert!(matches!(change(scene, id, pause()), Err(StoreError::Invalid(_))));
    scene.sound();
}

fn rows_show(scene: &mut Scene) {
    let id = batch(scene, 5);
    let delivered = scene.accept_this(message_of(scene, id, 0, Start::Leased));
    scene.settle(delivered, 0, Outcome::Delivered);
    let deferred = scene.accept_this(message_of(scene, id, 1, Start::Leased));
    scene.defer(deferred, 0);
    scene.accept_this(message_of(scene, id, 2, Start::Suppressed("it bounced".into())));
    scene.store.refuse_row(RowRef { batch: id, row: 3 }, "too large".into()).wait().unwrap();
    let rows = scene.store.rows(id, None, None, 10).wait().unwrap();
    let expected = [
        RowState::Of(State::Delivered),
        RowState::Of(State::Waiting),
        RowState::Of(State::Suppressed),
        RowState::Refused,
        RowState::Queued,
    ];
    assert_eq!(rows.iter().map(|row| row.state).collect::<Vec<_>>(), expected);
    assert_eq!((rows[0].message, rows[0].attempts), (Some(delivered), 1));
    assert_eq!(rows[1].due_ms, Some(scene.now + HOUR));
    assert!(rows[1].cause.is_some());
    assert_eq!(rows[2].why.as_deref(), Some("it bounced"));
    assert_eq!((rows[3].why.as_deref(), rows[3].message), (Some("too large"), None));
    assert_eq!(rows[4].address.as_str(), "u4@example.net");
    for (n, state) in expected.into_iter().enumerate() {
        let found = scene.store.rows(id, Some(state), None, 10).wait().unwrap();
        assert_eq!(found.iter().map(|row| row.n).collect::<Vec<_>>(), [n as u32], "{state:?}");
    }
    assert_eq!(
        scene.store.rows(id, None, Some(1), 2).wait().unwrap().iter().map(|row| row.n).collect::<Vec<_>>(),
        [2, 3]
    );
    let counts = scene.store.row_counts(id).wait().unwrap();
    assert_eq!(counts.len(), expected.len());
    assert!(expected.iter().all(|state| counts.contains(&(*state, 1))), "{counts:?}");
    scene.sound();
}

fn open_ones(scene: &mut Scene) {
    let (id, other) = (batch(scene, 4), batch(scene, 1));
    let ids: Vec<MessageId> = (0..3).map(|row| feed(scene, id, row)).collect();
    let neighbour = feed(scene, other, 0);
    let alone = scene.waiting(&["b@example.net"]);
    let load = scene.store.batch_load(id).wait().unwrap();
    assert_eq!((load.open, load.fresh), (3, 3));
    assert!(load.octets > 0);
    assert_eq!(scene.claim().len(), 5);
    assert_eq!(scene.store.batch_load(id).wait().unwrap().fresh, 3, "leased ones are still to be attempted");
    scene.defer(ids[0], 0);
    scene.settle(ids[1], 0, Outcome::Delivered);
    let load = scene.store.batch_load(id).wait().unwrap();
    assert_eq!((load.open, load.fresh), (2, 1));
    let chosen = Selector { batch: Some(id), ..Selector::default() };
    let found = scene.store.recipients(chosen.clone(), None, 10).wait().unwrap();
    assert_eq!(found.iter().map(|view| view.id.message).collect::<Vec<_>>(), [ids[0], ids[2]]);
    assert_eq!(scene.operate(chosen.clone(), Operation::Hold("wait".into())), 2);
    scene.settle(ids[2], 0, Outcome::Returned { due_ms: scene.now });
    assert_eq!((scene.state(ids[0], 0), scene.state(ids[2], 0)), (State::Held, State::Held));
    assert_eq!((scene.state(neighbour, 0), scene.state(alone, 0)), (State::Leased, State::Leased));
    assert_eq!(scene.store.batch_load(id).wait().unwrap().fresh, 0);
    assert_eq!(scene.operate(chosen.clone(), Operation::Release), 2);
    assert_eq!(scene.operate(chosen.clone(), Operation::Cancel), 2);
    assert_eq!(scene.store.batch_load(id).wait().unwrap(), BatchLoad::default());
    let both = Selector { message: Some(ids[0]), ..chosen };
    assert!(matches!(scene.store.recipients(both, None, 10).wait(), Err(StoreError::Invalid(_))));
    scene.sound();
}

fn replays(scene: &mut Scene) {
    let keyed = |fingerprint: u8| {
        let id = begin(scene, 1);
        let key = Idempotency {
            sender: "app".into(),
            key: "k".into(),
            fingerprint: [fingerprint; 32],
            answer: id.to_string(),
        };
        let commit = BatchCommit { rows: 1, idempotency: Some(key), now_ms: scene.now };
        (id, scene.store.commit_batch(id, commit).wait().unwrap())
    };
    let (first, committed) = keyed(1);
    assert_eq!(committed, BatchAccepted::Committed);
    let (second, replayed) = keyed(1);
    assert_eq!(replayed, BatchAccepted::Replayed(first.to_string()));
    assert_eq!(keyed(2).1, BatchAccepted::KeyConflict);
    is_missing(scene.store.batch(second).wait());
    assert_eq!(scene.store.batches(None, None, 10).wait().unwrap().len(), 1);
    scene.store.retain(keep(), scene.now).wait().unwrap();
    assert!(queued(scene, second).is_empty());
    scene.sound();
}

fn retention(scene: &mut Scene) {
    let (id, waiting) = (batch(scene, 2_500), batch(scene, 1));
    change(scene, id, BatchChange::Cancel { why: "op".into() }).unwrap();
    feed(scene, waiting, 0);
    change(scene, waiting, BatchChange::Cancel { why: "op".into() }).unwrap();
    scene.store.retain(keep(), scene.now + keep().events_ms - 1).wait().unwrap();
    scene.store.batch(id).wait().unwrap();
    scene.store.retain(keep(), scene.now + keep().events_ms).wait().unwrap();
    is_missing(scene.store.batch(id).wait());
    assert_eq!(scene.store.batch(waiting).wait().unwrap().fed, 1, "its message is still open");
    scene.sound();
}
