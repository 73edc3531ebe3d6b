//! Batches: each row one message, whatever is paused, canceled, full, or dies in between.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use proto::{Address, Envelope, MailParameters, Recipient, ReversePath};
use relay::Sender;
use relay::batch::{BatchOptions, Rendered, Renderer, Template, Wish};
use serde_json::json;
use store::settings::Kind;
use store::{BatchId, BatchState, BatchView, NewRow, RowState, State};
use testkit::{Act, Rule, Sink, Stage};

use crate::rig::{FROM, PATIENCE, Rig, Setup, eventually, smarthost, with};

/// Rows are addresses; what cannot be one cannot become a message.
#[derive(Debug)]
struct Plain;

impl Renderer for Plain {
    fn open(&self, body: &str) -> Result<Arc<dyn Template>, String> {
        if body == "broken" { Err("line 1".into()) } else { Ok(Arc::new(Self)) }
    }
    fn sender(&self, _: &str) -> Option<Arc<Sender>> {
        None
    }
}

impl Template for Plain {
    fn render(&self, data: &str, _: i64) -> Result<Rendered, String> {
        let address: Address = data.parse().map_err(|_| format!("{data} is no address"))?;
        let from: Address = FROM.parse().unwrap();
        Ok(Rendered {
            envelope: Envelope {
                reverse_path: ReversePath(Some(from)),
                parameters: MailParameters::default(),
                recipients: vec![Recipient { address, parameters: Default::default() }],
            },
            content: format!("From: {FROM}\r\nTo: {data}\r\nSubject: story\r\n\r\nHello {data}\r\n").into_bytes(),
            eight_bit: false,
            longest_line: 60,
            tags: Vec::new(),
            metadata: serde_json::Map::new(),
            deliver_by_ms: None,
            priority: 3,
        })
    }
}

fn batching(setup: Setup) -> Setup {
    setup.config(|config| config.renderer = Some(Arc::new(Plain)))
}

fn options() -> BatchOptions {
    BatchOptions { label: "story".into(), start_ms: None, spread_ms: None, test: false, body: "{}".into() }
}

fn address(n: u32) -> String {
    format!("u{n}@d{}.test", n % 7)
}

/// A batch of this many rows, each with its address as data.
async fn batch(rig: &Rig, rows: u32, options: BatchOptions) -> BatchId {
    batch_of(rig, options, (0..rows).map(|n| (address(n), address(n)))).await
}

async fn batch_of(rig: &Rig, options: BatchOptions, rows: impl Iterator<Item = (String, String)>) -> BatchId {
    let door = rig.relay.door();
    let mut intake = door.batch(&door.sender("app").unwrap(), &FROM.parse().unwrap(), None).unwrap();
    intake.begin(options).await.unwrap();
    let rows: Vec<NewRow> =
        (0..).zip(rows).map(|(n, (address, data))| NewRow { n, address: address.parse().unwrap(), data }).collect();
    let count = rows.len() as u32;
    intake.add(rows).await.unwrap();
    intake.commit(count, None).await.unwrap()
}

async fn becomes(rig: &Rig, id: BatchId, wanted: BatchState) -> BatchView {
    eventually("the batch's state", || async {
        let view = rig.store.batch(id).await.unwrap();
        (view.state == wanted).then_some(view)
    })
    .await
}

async fn counts(rig: &Rig, id: BatchId) -> HashMap<RowState, u64> {
    rig.store.row_counts(id).await.unwrap().into_iter().collect()
}

async fn all_are(rig: &Rig, id: BatchId, state: RowState, count: u64) {
    eventually("the rows' state", || async { (counts(rig, id).await.get(&state) == Some(&count)).then_some(()) }).await;
}

/// How often each address got a message.
fn arrived(sink: &Sink) -> HashMap<String, usize> {
    let mut arrived = HashMap::new();
    for message in sink.received() {
        *arrived.entry(message.to.concat()).or_default() += 1;
    }
    arrived
}

#[tokio::test]
async fn every_row_arrives_once() {
    let sink = Sink::start().await;
    let rig = batching(Setup::to(&sink)).start().await;
    let id = batch(&rig, 700, options()).await;
    all_are(&rig, id, RowState::Of(State::Delivered), 700).await;
    let view = becomes(&rig, id, BatchState::Finished).await;
    assert_eq!((view.fed, view.refused, view.why), (700, 0, None));
    let arrived = arrived(&sink);
    assert_eq!(arrived.len(), 700);
    assert!(arrived.values().all(|count| *count == 1));
    let row = rig.store.rows(id, None, Some(41), 1).await.unwrap().remove(0);
    let message = rig.store.message(row.message.unwrap(), 1).await.unwrap();
    assert_eq!(message.message.details.row.map(|row| (row.batch, row.row)), Some((id, 42)));
    assert_eq!((message.recipients[0].address.as_str(), message.message.priority), (address(42).as_str(), 3));
}

#[tokio::test]
async fn a_relay_that_dies_while_feeding_loses_and_doubles_no_row() {
    let sink = Sink::start().await;
    // Nothing leaves: what would be sent twice is then ours alone.
    sink.add(Rule::reply(Stage::Mail, "451 4.3.0 not yet"));
    let mut rig = batching(Setup::by(with(smarthost(&sink), json!({"retry_s": [3600]})))).start().await;
    let id = batch(&rig, 900, options()).await;
    for least in [1, 200, 500] {
        eventually("some rows", || async { (rig.store.batch(id).await.unwrap().fed >= least).then_some(()) }).await;
        rig = rig.crash().await;
    }
    eventually("all rows", || async { (rig.store.batch(id).await.unwrap().fed == 900).then_some(()) }).await;
    // What was made twice would be in the queue twice.
    let everything = store::Selector { all: true, ..store::Selector::default() };
    let queued = rig.store.recipients(everything, None, 1_000).await.unwrap();
    let addresses: HashSet<String> = queued.iter().map(|view| view.address.to_string()).collect();
    assert_eq!((queued.len(), addresses.len()), (900, 900));
}

#[tokio::test]
async fn a_pause_stops_what_was_not_sent_and_a_resume_lets_it_go_on() {
    let sink = Sink::start().await;
    sink.add(Rule::at(Stage::Message, Act::Hang).times(1));
    let rig = batching(Setup::by(with(smarthost(&sink), json!({"connections": 1})))).start().await;
    let id = batch(&rig, 50, options()).await;
    assert!(sink.wait_until(PATIENCE, |sink| sink.hanging() == 1).await);
    let view = rig.relay.change_batch(id, Wish::Pause, "tester").await.unwrap();
    assert_eq!((view.state, view.why.as_deref()), (BatchState::Paused, Some("by tester")));
    sink.release();
    rig.idle().await;
    assert_eq!(sink.count(), 1);
    let states = counts(&rig, id).await;
    let count = |state| states.get(&state).copied().unwrap_or(0);
    assert_eq!(count(RowState::Of(State::Held)) + count(RowState::Queued), 49, "{states:?}");
    let held = rig.store.rows(id, Some(RowState::Of(State::Held)), None, 1).await.unwrap();
    assert!(held.iter().all(|row| row.why.as_deref() == Some("batch paused by tester")));
    rig.relay.change_batch(id, Wish::Resume, "tester").await.unwrap();
    all_are(&rig, id, RowState::Of(State::Delivered), 50).await;
    assert_eq!(sink.count(), 50);
}

#[tokio::test]
async fn a_cancel_withdraws_all_that_was_not_sent() {
    let sink = Sink::start().await;
    sink.add(Rule::at(Stage::Message, Act::Hang).times(1));
    let rig = batching(Setup::by(with(smarthost(&sink), json!({"connections": 1})))).start().await;
    let id = batch(&rig, 50, options()).await;
    let other = rig.send(&["other@x.test"]).await;
    assert!(sink.wait_until(PATIENCE, |sink| sink.hanging() == 1).await);
    rig.relay.change_batch(id, Wish::Cancel, "tester").await.unwrap();
    sink.release();
    rig.becomes(other, &["delivered"]).await;
    rig.idle().await;
    rig.drained().await;
    let states = counts(&rig, id).await;
    let delivered = states.get(&RowState::Of(State::Delivered)).copied().unwrap_or(0);
    assert!(delivered <= 1, "{states:?}");
    assert_eq!(states.get(&RowState::Of(State::Canceled)), Some(&(50 - delivered)));
    assert!(rig.relay.change_batch(id, Wish::Resume, "tester").await.is_err());
}

#[tokio::test]
async fn a_row_that_can_be_no_message_is_named_and_the_others_go_on() {
    let sink = Sink::start().await;
    let rig = batching(Setup::to(&sink)).start().await;
    let rows = ["a@x.test", "nobody", "c@x.test"].map(|data| ("r@x.test".to_owned(), data.to_owned()));
    let id = batch_of(&rig, options(), rows.into_iter()).await;
    let view = becomes(&rig, id, BatchState::Finished).await;
    assert_eq!((view.fed, view.refused), (2, 1));
    let refused = rig.store.rows(id, Some(RowState::Refused), None, 10).await.unwrap();
    assert_eq!((refused[0].n, refused[0].why.as_deref()), (1, Some("nobody is no address")));
    sink.wait_for(2, PATIENCE).await;
}

#[tokio::test]
async fn rows_without_a_route_wait_for_one_and_say_so() {
    let sink = Sink::start().await;
    let setup = batching(Setup::bare().route("out", smarthost(&sink)));
    let rig = setup.rule("some", json!({"order": 1, "route": "out", "recipient_domain": "x.test"})).start().await;
    let rows = ["a@y.test", "b@x.test"].map(|to| (to.to_owned(), to.to_owned()));
    let id = batch_of(&rig, options(), rows.into_iter()).await;
    sink.wait_for(1, PATIENCE).await;
    let view = eventually("a note", || async {
        let view = rig.store.batch(id).await.unwrap();
        view.why.is_some().then_some(view)
    })
    .await;
    assert_eq!((view.state, view.fed), (BatchState::Running, 1));
    assert!(view.why.as_deref().is_some_and(|why| why.contains("No route for <a@y.test>")), "{view:?}");
}

#[tokio::test]
async fn a_batch_whose_sender_or_template_is_no_good_pauses_itself() {
    let sink = Sink::start().await;
    let rig = batching(Setup::to(&sink)).start().await;
    let broken = batch(&rig, 1, BatchOptions { body: "broken".into(), ..options() }).await;
    let why = becomes(&rig, broken, BatchState::Paused).await.why.unwrap();
    assert_eq!(why, "its template cannot be used: line 1");
    rig.put(Kind::Sender, "app", json!({"allowed_from": ["other.test"]})).await;
    rig.relay.reload().await.unwrap();
    let forbidden = batch_unchecked(&rig).await;
    let why = becomes(&rig, forbidden, BatchState::Paused).await.why.unwrap();
    assert!(why.contains("may not send as"), "{why}");
    assert_eq!(sink.count(), 0);
}

/// A batch that was allowed when it came in.
async fn batch_unchecked(rig: &Rig) -> BatchId {
    let id = BatchId(store::Intake::next_id(&*rig.store, rig.now_ms()).0);
    let new = store::NewBatch {
        id,
        by: store::Incarnation(1),
        sender: "app".into(),
        stream: "default".into(),
        label: String::new(),
        created_ms: rig.now_ms(),
        start_ms: rig.now_ms(),
        spread_ms: None,
        test: false,
        body: "{}".into(),
    };
    rig.store.begin_batch(new).await.unwrap();
    let row = NewRow { n: 0, address: "a@x.test".parse().unwrap(), data: "a@x.test".into() };
    rig.store.add_rows(id, vec![row]).await.unwrap();
    let commit = store::BatchCommit { rows: 1, idempotency: None, now_ms: rig.now_ms() };
    rig.store.commit_batch(id, commit).await.unwrap();
    rig.relay.batches_changed();
    id
}

#[tokio::test]
async fn a_test_goes_all_the_way_but_the_last_hop() {
    let sink = Sink::start().await;
    let rig = batching(Setup::to(&sink)).start().await;
    let id = batch(&rig, 120, BatchOptions { test: true, ..options() }).await;
    all_are(&rig, id, RowState::Of(State::Delivered), 120).await;
    assert_eq!(sink.count(), 0);
    assert_eq!(rig.store.captured(None, 1_000).await.unwrap().len(), 100);
    let rows = rig.store.rows(id, None, None, 1_000).await.unwrap();
    for (row, place) in [(0, "kept in the capture mailbox"), (119, "dropped")] {
        let events = rig.store.events(rows[row].message.unwrap(), 10).await.unwrap();
        let why = events.last().unwrap().detail.why.clone().unwrap();
        assert_eq!(why, format!("test: not sent by route out, {place}"));
    }
}

#[tokio::test]
async fn a_spread_batch_takes_its_time() {
    let sink = Sink::start().await;
    let rig = batching(Setup::to(&sink)).start().await;
    let started = tokio::time::Instant::now();
    let id = batch(&rig, 20, BatchOptions { spread_ms: Some(2_000), ..options() }).await;
    sink.wait_for(1, PATIENCE).await;
    all_are(&rig, id, RowState::Of(State::Delivered), 20).await;
    let took = started.elapsed().as_millis();
    assert!(took >= 1_700, "19 intervals of 100 ms took {took} ms");
}

#[tokio::test]
async fn only_so_many_messages_wait_for_their_first_attempt() {
    let sink = Sink::start().await;
    sink.add(Rule::at(Stage::Message, Act::Hang));
    let rig = batching(Setup::by(with(smarthost(&sink), json!({"connections": 1})))).start().await;
    let id = batch(&rig, 4_000, options()).await;
    eventually("a full house", || async { (rig.store.batch(id).await.unwrap().fed >= 2_000).then_some(()) }).await;
    // The feeder has counted again by the time a later batch has had its turn.
    let rows = ["a@x.test"].map(|to| (to.to_owned(), to.to_owned()));
    let later = batch_of(&rig, options(), rows.into_iter()).await;
    eventually("the later one", || async { (rig.store.batch(later).await.unwrap().fed == 1).then_some(()) }).await;
    let fed = rig.store.batch(id).await.unwrap().fed;
    assert_eq!(fed, 2_000);
    sink.behave();
}
