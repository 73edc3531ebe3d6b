//! A store with something of everything is moved, interrupted on its way, and goes on where it was.

use std::path::PathBuf;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tempfile::TempDir;
use testkit::Postgres;

use super::to_postgres;
use crate::contract::{Engine, MESSAGE_BODY, Scene};
use crate::model::*;
use crate::postgres::{Options, PostgresStore};
use crate::secret::Keyring;
use crate::settings::{Kind, SecretChange};
use crate::sqlite::SqliteStore;
use crate::verbs::*;

struct Old {
    dir: TempDir,
}

fn keyring() -> Keyring {
    Keyring::from_key(&[7; 32])
}

impl Engine for Old {
    fn open(&self) -> Arc<dyn Store> {
        let options = crate::sqlite::Options {
            ballast_bytes: 0,
            min_free_bytes: 0,
            ..crate::sqlite::Options::new(self.dir.path(), keyring())
        };
        SqliteStore::open(options, 1_800_000_000_000).unwrap()
    }
    fn backups(&self) -> Option<&dyn crate::contract::Backups> {
        None
    }
    fn damage(&self, _: MessageId) {}
}

fn address(text: &str) -> proto::Address {
    proto::Address::parse(text).unwrap()
}

/// The new database, opened by whoever is given it.
struct New(String);

impl New {
    fn options(&self) -> Options {
        Options { connections: 4, ..Options::new(SecretString::from(self.0.clone()), keyring()) }
    }
    fn open(&self) -> Arc<PostgresStore> {
        PostgresStore::open(self.options(), 1_800_000_000_000).unwrap()
    }
    fn sql(&self, sql: &str) -> String {
        Postgres::shared().sql(Postgres::name(&self.0), &format!("SET search_path TO pillarbox; {sql}"))
    }
}

/// What the tests ask of both ends.
fn told(store: &dyn Store, ids: &[MessageId]) -> Vec<String> {
    let mut all = Vec::new();
    for id in ids {
        all.push(format!("{:?}", store.message(*id, 100).wait().unwrap()));
        all.push(format!("{:?}", store.events(*id, 1_000).wait().unwrap()));
        all.push(format!("{:?}", store.content(*id).wait().ok()));
    }
    all.push(format!("{:?}", store.counts(GroupBy::Domain, 100).wait().unwrap()));
    all.push(format!("{:?}", store.counts(GroupBy::Cause, 100).wait().unwrap()));
    all.push(format!("{:?}", store.suppression_changes(0, 100).wait().unwrap()));
    all.push(format!("{:?}", store.suppressions(SuppressionFilter::default(), None, 100, 1).wait().unwrap()));
    all.push(format!("{:?}", store.struck(None, 100).wait().unwrap()));
    all.push(format!("{:?}", store.records(RecordQuery::of(RecordKind::Incident)).wait().unwrap()));
    all.push(format!("{:?}", store.hooks().wait().unwrap()));
    all.push(format!("{:?}", store.hook_due("hook".into(), i64::MAX, 100).wait().unwrap()));
    all.push(format!("{:?}", store.hook_deliveries("hook".into(), false, None, 100).wait().unwrap()));
    all.push(format!("{:?}", store.returned_due(i64::MAX, 100).wait().unwrap()));
    all.push(format!("{:?}", store.mailbox_place("inbox".into()).wait().unwrap()));
    all.push(format!("{:?}", store.usage().wait().unwrap()));
    all.push(format!("{:?}", store.cursor("reader").wait().unwrap()));
    all.push(format!("{:?}", store.newest_event().wait().unwrap()));
    all.push(format!("{:?}", store.settings_version().wait().unwrap()));
    all.push(format!("{:?}", store.next_digest_ms().wait().unwrap()));
    for batch in store.batches(None, None, 10).wait().unwrap() {
        all.push(format!("{batch:?} {:?}", store.rows(batch.id, None, None, 100).wait().unwrap()));
        all.push(format!("{:?}", store.batch_body(batch.id).wait().ok()));
    }
    for one in store.documents(Kind::Route).wait().unwrap() {
        let secret = one.secret.as_ref().map(|secret| secret.expose_secret().to_owned());
        all.push(format!("{} {:?} {secret:?} {}", one.name, one.body, one.version));
    }
    all
}

fn fill(scene: &mut Scene) -> Vec<MessageId> {
    let now = scene.now;
    let store = scene.store.clone();
    let mut ids = vec![
        scene.waiting(&["a@one.example", "b@two.example"]),
        scene.accept(&["c@one.example"], Start::Held("x".into())),
    ];
    let done = scene.accept(&["d@one.example", "e@one.example"], Start::Leased);
    let cause = Cause {
        stage: proto::transcript::Stage::Recipient,
        failure: proto::transcript::Failure::Refused(proto::smtp::reply::Reply::new(550, "5.1.1 no such user")),
        provider: None,
        rule: Some("user-unknown".into()),
        unknown_via: None,
    };
    scene.settle_all(done, vec![(0, Outcome::Delivered), (1, Outcome::Failed { cause })]);
    scene.waiting(&["f@three.example"]);
    // Two that are in a run's hands when the server ends; of one somebody wished the end.
    let leased = scene.accept(&["g@four.example"], Start::Leased);
    let wished = scene.accept(&["h@four.example"], Start::Leased);
    scene.operate(Selector { message: Some(wished), ..Selector::default() }, Operation::Cancel);
    ids.extend([done, leased, wished]);
    for _ in 0..3 {
        let new = NewMessage {
            folds: vec![(0, Fold { key: [3; 16], window_ms: 600_000 })],
            ..scene.message(&["ann@five.example"], Start::Waiting(now))
        };
        ids.push(scene.accept_this(new));
    }
    let suppression = Suppression {
        address: address("Bob@example.net"),
        scope: SuppressionScope::Global,
        reason: SuppressionReason::UnknownUser,
        evidence: Evidence { reply: Some("ümlaut \\ \"quoted\"".into()), ..Evidence::default() },
        who: "op".into(),
        added_ms: now,
        expires_ms: None,
    };
    store.suppress(vec![suppression.clone()], Existing::Keep, now).wait().unwrap();
    let struck = Suppression { address: address("tom@example.net"), ..suppression };
    store.strike(vec![Strike { suppression: struck, need: 3, within_days: 9 }], now).wait().unwrap();
    let add = |open| RecordWrite::Add {
        kind: RecordKind::Incident,
        name: format!("open {open}"),
        open,
        at_ms: now,
        body: json!({"nul": "\u{0}", "list": [1, null]}),
    };
    let written = store.write_records(vec![add(true), add(false), add(false)]).wait().unwrap();
    let RecordWritten::Added(last) = written[2] else { panic!("added") };
    store.write_records(vec![RecordWrite::Remove { kind: RecordKind::Incident, id: last }]).wait().unwrap();
    store
        .put_document(Kind::Route, "out".into(), json!({"host": "mx"}), SecretChange::Set("hunter2".into()), now)
        .wait()
        .unwrap();
    store.hook_start("hook".into(), HookStart::At(0)).wait().unwrap();
    let waiting = HookWaiting { source: HookSource::Event, seq: 2, n: 0, key: 1, attempts: 2, first_ms: 5, due_ms: 9 };
    let log = vec![HookDelivery { id: 0, at_ms: now, taken: false, body: json!({"status": 500}) }];
    store
        .hook_progress("hook".into(), HookProgress { waiting: vec![waiting], log, ..HookProgress::default() })
        .wait()
        .unwrap();
    let mail = NewReturned {
        source: "imap:inbox".into(),
        recipient: None,
        at_ms: now,
        content: vec![0_u8, 255, 13, 10].into(),
        place: Some(("inbox".into(), MailboxPlace { validity: u32::MAX, uid: 7 })),
    };
    store.keep_returned(mail).wait().unwrap();
    store.save_usage(vec![("app".into(), Some("{}".into()))]).wait().unwrap();
    store.move_cursor("reader", 4).wait().unwrap();
    ids.push(batch(scene));
    ids
}

/// A batch with a row that became a message, one that was refused and one that is left; and one that was never whole.
fn batch(scene: &Scene) -> MessageId {
    let store = &scene.store;
    let begin = || {
        let id = BatchId(store.next_id(scene.now).0);
        let new = NewBatch {
            id,
            by: scene.run,
            sender: "app".into(),
            stream: "news".into(),
            label: "October".into(),
            created_ms: scene.now,
            start_ms: scene.now,
            spread_ms: None,
            test: true,
            body: "{\"t\":1}".into(),
        };
        store.begin_batch(new).wait().unwrap();
        let row = |n: u32| NewRow { n, address: address(&format!("u{n}@six.example")), data: "{}".into() };
        store.add_rows(id, (0..3).map(row).collect()).wait().unwrap();
        id
    };
    begin();
    let id = begin();
    store.commit_batch(id, BatchCommit { rows: 3, idempotency: None, now_ms: scene.now }).wait().unwrap();
    store.refuse_row(RowRef { batch: id, row: 1 }, "too large".into()).wait().unwrap();
    let mut new = scene.message(&["u0@six.example"], Start::Waiting(scene.now));
    let details =
        MessageDetails { row: Some(RowRef { batch: id, row: 0 }), deadline: true, ..MessageDetails::default() };
    new.message = Arc::new(Message { details: Arc::new(details), ..(*new.message).clone() });
    scene.accept_this(new)
}

fn filled() -> (Scene, PathBuf, Vec<MessageId>) {
    let old = Old { dir: TempDir::new().unwrap() };
    let dir = old.dir.path().to_path_buf();
    let mut scene = Scene::new(Box::new(old));
    let ids = fill(&mut scene);
    (scene, dir, ids)
}

#[test]
fn a_store_is_moved_with_all_that_is_in_it() {
    let (mut scene, dir, ids) = filled();
    let new = New(Postgres::shared().database());
    scene.store.close().wait().unwrap();
    let mut steps = 0;
    let moved = to_postgres(&dir, new.options(), scene.now, &mut |_| steps += 1).unwrap();
    let rows = |name: &str| moved.tables.iter().find(|(table, _)| *table == name).unwrap().1;
    assert_eq!((rows("batch"), rows("batch_row"), rows("setting"), rows("digest_item")), (1, 3, 1, 2));
    assert!(steps > moved.tables.len() && moved.octets >= MESSAGE_BODY.len() as u64, "{moved:?}");
    // The source is as it was after its server ended and began again.
    begin_again(&mut scene);
    let store = new.open();
    assert_eq!(told(&*store, &ids), told(&*scene.store, &ids));
    assert!(store.verify(true).wait().unwrap().is_empty());
    goes_on(&mut scene, &store);
    scene.store.close().wait().unwrap();
    let full = to_postgres(&dir, new.options(), scene.now, &mut |_| {}).unwrap_err();
    assert!(full.to_string().contains("not empty"), "{full}");
}

/// The server of the source is started again.
fn begin_again(scene: &mut Scene) {
    scene.store = scene.engine.open();
    scene.run = scene.store.start_run("node", scene.now).wait().unwrap().0;
}

/// Numbers go on, and the queue is worked off.
fn goes_on(scene: &mut Scene, store: &Arc<PostgresStore>) {
    let (before, records) = (store.newest_event().wait().unwrap(), scene.store.clone());
    let last = records.records(RecordQuery::of(RecordKind::Incident)).wait().unwrap()[0].id;
    let old = std::mem::replace(&mut scene.store, store.clone());
    let (run, _) = store.start_run("node", scene.now).wait().unwrap();
    let mine = std::mem::replace(&mut scene.run, run);
    let id = scene.waiting(&["z@one.example"]);
    assert_eq!(store.events(id, 10).wait().unwrap()[0].seq, before + 1);
    let claimed: usize = scene.claim().iter().map(|claim| claim.recipients.len()).sum();
    assert_eq!(claimed, 7, "a, b, f, g, the first of the equal ones, the batch's, and z");
    let add = RecordWrite::Add { kind: RecordKind::Incident, name: "n".into(), open: false, at_ms: 1, body: json!(1) };
    assert_eq!(store.write_records(vec![add]).wait().unwrap(), [RecordWritten::Added(last + 2)], "one was removed");
    assert!(store.verify(true).wait().unwrap().is_empty());
    (scene.store, scene.run) = (old, mine);
}

#[test]
fn a_move_that_was_interrupted_goes_on_and_nobody_opens_half_a_store() {
    let (mut scene, dir, ids) = filled();
    scene.store.close().wait().unwrap();
    let new = New(Postgres::shared().database());
    let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        to_postgres(&dir, new.options(), scene.now, &mut |progress| {
            assert!(progress.table != "digest" || progress.moved == 0, "cut off");
        })
    }));
    assert!(broken.is_err(), "it was cut off");
    assert_ne!(new.sql("SELECT count(*) FROM message"), "0");
    let early = PostgresStore::open(new.options(), scene.now).unwrap_err();
    assert!(early.to_string().contains("not all there"), "{early}");
    let moved = to_postgres(&dir, new.options(), scene.now, &mut |_| {}).unwrap();
    assert_eq!(moved.octets, 0, "contents had gone before");
    begin_again(&mut scene);
    assert_eq!(told(&*new.open(), &ids), told(&*scene.store, &ids));
}

/// Something of each kind that can happen between two looks: new, other and removed rows, also of those of which there may be
/// one of a kind only.
fn changed(scene: &mut Scene, ids: &[MessageId]) -> Vec<MessageId> {
    let store = scene.store.clone();
    let records = store.records(RecordQuery::of(RecordKind::Incident)).wait().unwrap();
    let open = records.iter().find(|one| one.open).unwrap();
    let (id, name) = (open.id, open.name.clone());
    let closed = |open| RecordWrite::Add {
        kind: RecordKind::Incident,
        name: name.clone(),
        open,
        at_ms: scene.now,
        body: json!({"n": open}),
    };
    store.write_records(vec![RecordWrite::Remove { kind: RecordKind::Incident, id }, closed(true)]).wait().unwrap();
    store
        .put_document(Kind::Route, "out".into(), json!({"host": "mx2"}), SecretChange::Keep, scene.now)
        .wait()
        .unwrap();
    let bob = vec![(address("bob@example.net"), None)];
    assert_eq!(store.unsuppress(bob, "op".into(), None, scene.now).wait().unwrap(), 1);
    store.save_usage(vec![("app".into(), None), ("other".into(), Some("{}".into()))]).wait().unwrap();
    assert!(scene.claim().iter().any(|claim| claim.message.id == ids[0]));
    assert_eq!(scene.settle(ids[0], 0, Outcome::Delivered), 1);
    let late = vec![scene.waiting(&["late@one.example", "later@nine.example"]), scene.waiting(&["y@one.example"])];
    // What is done with goes: rows with their events and contents.
    scene.now += 3_600_000;
    let retention = Retention { content_ms: 0, events_ms: 1_000, captured_ms: 0, streams: Arc::default() };
    assert!(store.retain(retention, scene.now).wait().unwrap() > 0);
    late
}

#[test]
fn a_store_at_work_is_copied_and_the_rest_follows_when_it_has_stopped() {
    let (mut scene, dir, mut ids) = filled();
    let new = New(Postgres::shared().database());
    let first = to_postgres(&dir, new.options(), scene.now, &mut |_| {}).unwrap();
    assert!(!first.complete && first.octets > 0 && first.removed == 0, "{first:?}");
    let early = PostgresStore::open(new.options(), scene.now).unwrap_err();
    assert!(early.to_string().contains("not all there"), "{early}");
    ids.extend(changed(&mut scene, &ids));
    let second = to_postgres(&dir, new.options(), scene.now, &mut |_| {}).unwrap();
    assert!(!second.complete && second.octets < first.octets && second.removed > 0, "{second:?}");
    ids.push(scene.waiting(&["last@one.example"]));
    scene.store.close().wait().unwrap();
    let last = to_postgres(&dir, new.options(), scene.now, &mut |_| {}).unwrap();
    assert!(last.complete && last.octets == MESSAGE_BODY.len() as u64, "only the last one's content: {last:?}");
    begin_again(&mut scene);
    let store = new.open();
    let gone = |store: &dyn Store| ids.iter().filter(|id| store.message(**id, 1).wait().is_err()).count();
    assert!(gone(&*store) > 0, "something was removed");
    let left: Vec<MessageId> = ids.iter().copied().filter(|id| store.message(*id, 1).wait().is_ok()).collect();
    assert_eq!(gone(&*store), gone(&*scene.store));
    assert_eq!(told(&*store, &left), told(&*scene.store, &left));
    assert_eq!(new.sql("SELECT count(*) FROM content WHERE message NOT IN (SELECT id FROM message WHERE stored)"), "0");
    assert!(store.verify(true).wait().unwrap().is_empty());
}

#[test]
fn a_source_that_was_used_after_an_interruption_moves_as_it_is_then() {
    let (mut scene, dir, mut ids) = filled();
    scene.store.close().wait().unwrap();
    let new = New(Postgres::shared().database());
    let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        to_postgres(&dir, new.options(), scene.now, &mut |progress| assert!(progress.table != "strike", "cut off"))
    }));
    assert!(broken.is_err());
    begin_again(&mut scene);
    ids.push(scene.waiting(&["late@one.example"]));
    scene.store.put_document(Kind::Route, "out".into(), json!({}), SecretChange::Keep, scene.now).wait().unwrap();
    scene.store.close().wait().unwrap();
    assert!(to_postgres(&dir, new.options(), scene.now, &mut |_| {}).unwrap().complete);
    begin_again(&mut scene);
    assert_eq!(told(&*new.open(), &ids), told(&*scene.store, &ids));
}

#[test]
fn a_move_that_begins_later_takes_the_place_of_one_at_work() {
    let (scene, dir, _) = filled();
    scene.store.close().wait().unwrap();
    let new = New(Postgres::shared().database());
    let refused = to_postgres(&dir, new.options(), scene.now, &mut |progress| {
        if progress.table == "event" && progress.moved == 0 {
            new.sql("DROP TABLE moving; CREATE TABLE moving(mover text NOT NULL); INSERT INTO moving VALUES ('later')");
        }
    });
    assert!(refused.unwrap_err().to_string().contains("another `pillarbox migrate`"));
    assert_eq!(new.sql("SELECT count(*) FROM event"), "0");
}
