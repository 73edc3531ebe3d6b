//! Next hops that misbehave at every stage in every way: nothing is lost, nobody is blamed for what is not theirs.

use store::{Operation, Selector};
use testkit::Stage::{Auth, Connect, Data, Ehlo, Mail, Message, Noop, Quit, Rcpt, Rset, StartTls};
use testkit::{Act, Rule, Sink, Stage};

use crate::rig::{Setup, condition, eventually};

const STAGES: [Stage; 6] = [Connect, Ehlo, Mail, Rcpt, Data, Message];

fn misdeeds() -> Vec<(&'static str, Act)> {
    vec![
        ("4yz", Act::Reply("451 4.3.0 not now".into())),
        ("5yz", Act::Reply("554 5.3.0 never".into())),
        ("421", Act::Close("421 4.3.2 going down".into())),
        ("5yz and gone", Act::Close("554 5.3.0 never".into())),
        ("gone", Act::Drop),
        ("garbage", Act::Garbage(b"\xff\x00 hello\r\n".to_vec())),
        ("a long line", Act::Garbage([&b"x".repeat(100_000)[..], b"\r\n"].concat())),
        ("other lines", Act::Reply("250-one\n550 two".into())),
        ("a wrong class", Act::Reply("150 wait".into())),
    ]
}

/// Only a clear 5yz that is about the message ends a recipient.
fn wanted(stage: Stage, what: &str) -> &'static str {
    match (stage, what) {
        (Mail | Rcpt | Data | Message, "5yz" | "5yz and gone") => "failed",
        _ => "deferred",
    }
}

#[tokio::test]
async fn no_misdeed_at_any_stage_loses_or_doubles_mail() {
    for stage in STAGES {
        let cells = misdeeds().into_iter().map(|(what, act)| async move {
            let sink = Sink::start().await;
            sink.add(Rule::at(stage, act).times(1));
            let rig = Setup::to(&sink).start().await;
            let id = rig.send(&["r@x.test"]).await;
            let first = eventually(&format!("an end of {what} at {stage:?}"), || async {
                let view = rig.recipients(id).await.remove(0);
                (!matches!(condition(&view), "leased" | "waiting")).then_some(view)
            })
            .await;
            let cell = format!("{what} at {stage:?}: {first:?}");
            if wanted(stage, what) == "failed" {
                assert_eq!(condition(&first), "failed", "{cell}");
                return assert_eq!(sink.count(), 0, "{cell}");
            }
            // Some servers are understood in spite of everything.
            assert_ne!(condition(&first), "failed", "{cell}");
            rig.operate(id, Operation::Retry).await;
            rig.becomes(id, &["delivered"]).await;
            let unknown = stage == Message && !matches!(what, "4yz" | "421" | "gone");
            assert!(sink.count() == 1 || unknown && sink.count() == 2, "{cell}: {} copies", sink.count());
        });
        futures_util::future::join_all(cells).await;
    }
}

#[tokio::test]
async fn mail_for_all_misdeeds_at_once_arrives_when_they_end() {
    let sink = Sink::start().await;
    for stage in [Connect, Ehlo, StartTls, Auth, Mail, Rcpt, Data, Rset, Noop, Quit] {
        sink.add(Rule::at(stage, Act::Drop).times(2));
        sink.add(Rule::reply(stage, "451 4.3.0 not now").times(2));
        sink.add(Rule::at(stage, Act::Close("421 4.3.2 going down".into())).times(2));
    }
    let rig = Setup::to(&sink).start().await;
    let mut ids = Vec::new();
    for i in 0..40 {
        ids.push(rig.submit(rig.submission(&[&format!("r{i}@x.test")], crate::rig::MAIL.as_bytes())).await);
    }
    eventually("an empty queue", || async {
        let all = Selector { all: true, ..Selector::default() };
        // What is in the middle of an attempt has the wish noted once only: that nothing changes is no end yet.
        rig.relay.operate(all.clone(), Operation::Retry, "tester".into()).await.unwrap();
        rig.store.recipients(all, None, 1).await.unwrap().is_empty().then_some(())
    })
    .await;
    for id in ids {
        rig.becomes(id, &["delivered"]).await;
    }
    assert_eq!(sink.count(), 40);
}
