//! Several recipients in one message: each gets the fate that the next hop gave it, and only that one.

use store::EventKind::{Accepted, Deferred, Delivered, Failed};
use testkit::{Act, Extensions, Rule, Sink, SinkOptions, Stage};

use crate::rig::{MAIL, PATIENCE, Setup, code};

async fn sink(pipelining: bool) -> Sink {
    let extensions = Extensions { pipelining, ..Extensions::default() };
    Sink::with(SinkOptions { extensions, ..SinkOptions::default() }).await
}

async fn each_recipient_has_its_own_fate(pipelining: bool) {
    let sink = sink(pipelining).await;
    let rig = Setup::to(&sink).start().await;
    let to = ["ok@x.test", "gone+p550@x.test", "busy+t451@x.test", "fine@x.test"];
    let id = rig.send(&to).await;
    let views = rig.becomes(id, &["delivered", "failed", "deferred", "delivered"]).await;
    assert_eq!([code(&views[1]), code(&views[2])], [Some(550), Some(451)]);
    assert!(views.iter().all(|view| view.attempts == 1));
    let received = sink.received();
    assert_eq!(received.len(), 1, "one transaction for all of them");
    assert_eq!(received[0].to, ["ok@x.test", "fine@x.test"]);
    for (n, last) in [(0, Delivered), (1, Failed), (2, Deferred), (3, Delivered)] {
        assert_eq!(rig.events(id, n).await, [last], "recipient {n}");
    }
    let all = store::Browse::events(&*rig.store, id, 100).await.unwrap();
    assert_eq!(all[0].kind, Accepted);
    let failed = all.iter().find(|event| event.kind == Failed).unwrap();
    assert!(failed.detail.attempt.is_some() || all.iter().any(|event| event.detail.attempt.is_some()));
}

#[tokio::test]
async fn each_recipient_has_its_own_fate_with_pipelining() {
    each_recipient_has_its_own_fate(true).await;
}

#[tokio::test]
async fn each_recipient_has_its_own_fate_without_pipelining() {
    each_recipient_has_its_own_fate(false).await;
}

#[tokio::test]
async fn a_deferred_recipient_is_tried_alone_and_the_delivered_one_never_again() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).config(|config| config.retry_s = vec![1]).start().await;
    let id = rig.send(&["ok@x.test", "later+n1@x.test"]).await;
    let views = rig.becomes(id, &["delivered", "delivered"]).await;
    assert_eq!([views[0].attempts, views[1].attempts], [1, 2]);
    let to: Vec<_> = sink.received().into_iter().map(|mail| mail.to).collect();
    assert_eq!(to, [["ok@x.test"], ["later+n1@x.test"]]);
    assert_eq!(rig.events(id, 1).await, [Deferred, Delivered]);
}

#[tokio::test]
async fn recipients_that_are_too_many_for_one_transaction_follow_at_once_in_the_next() {
    for pipelining in [true, false] {
        let extensions = Extensions { pipelining, max_recipients: Some(3), ..Extensions::default() };
        let sink = Sink::with(SinkOptions { extensions, ..SinkOptions::default() }).await;
        let rig = Setup::to(&sink).start().await;
        let to: Vec<String> = (0..8).map(|i| format!("r{i}@x.test")).collect();
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        let id = rig.send(&to).await;
        let views = rig.becomes(id, &["delivered"; 8]).await;
        assert!(views.iter().all(|view| view.attempts == 1), "being too many is no attempt");
        let received = sink.received();
        assert_eq!(received.iter().map(|mail| mail.to.len()).collect::<Vec<_>>(), [3, 3, 2]);
        assert_eq!(sink.connections(), 1);
        assert_eq!(rig.events(id, 7).await, [Delivered]);
    }
}

#[tokio::test]
async fn a_server_that_goes_down_between_recipients_defers_them_all() {
    for pipelining in [true, false] {
        let sink = sink(pipelining).await;
        sink.add(Rule::at(Stage::Rcpt, Act::Close("421 4.3.2 going down".into())).with_text("second").times(1));
        let rig = Setup::to(&sink).start().await;
        let id = rig.send(&["first@x.test", "second@x.test", "third@x.test"]).await;
        let views = rig.becomes(id, &["deferred"; 3]).await;
        assert!(views.iter().all(|view| code(view) == Some(421)), "{views:?}");
        assert_eq!(sink.count(), 0);
        rig.operate(id, store::Operation::Retry).await;
        rig.becomes(id, &["delivered"; 3]).await;
        assert_eq!(sink.count(), 1);
    }
}

#[tokio::test]
async fn a_refusal_of_the_content_counts_for_those_who_were_accepted() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).start().await;
    let id = rig.send(&["a+d550@x.test", "b+t450@x.test", "c@x.test"]).await;
    let views = rig.becomes(id, &["failed", "deferred", "failed"]).await;
    assert_eq!([code(&views[0]), code(&views[1]), code(&views[2])], [Some(550), Some(450), Some(550)]);
    assert_eq!(sink.count(), 0);
}

#[tokio::test]
async fn more_than_a_hundred_recipients_are_split_and_each_arrives_once() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).start().await;
    let to: Vec<String> = (0..230).map(|i| format!("r{i}@x.test")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let id = rig.submit(rig.submission(&to, MAIL.as_bytes())).await;
    let received = sink.wait_for(3, PATIENCE).await;
    rig.becomes(id, &["delivered"; 230]).await;
    let mut sizes: Vec<usize> = received.iter().map(|mail| mail.to.len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [30, 100, 100]);
    let mut all: Vec<&str> = received.iter().flat_map(|mail| mail.to.iter().map(String::as_str)).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 230);
}
