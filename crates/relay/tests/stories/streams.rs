//! Streams: on and off, paused, paced, spread, with a deadline, with a link to leave. Time stands until it is moved.

use std::time::Duration;

use proto::message;
use relay::{Noting, Receipt};
use serde_json::json;
use store::settings::{Kind, SecretChange};
use store::{EventKind, MessageId, Operation, Selector, State};
use testkit::Sink;
use testkit::sink::{Rule, Stage};

use crate::rig::{MAIL, PATIENCE, Rig, Setup, eventually, smarthost, with};

const MINUTE: Duration = Duration::from_secs(60);
/// Between two mails at six a minute, and a bit.
const GAP: Duration = Duration::from_millis(10_167);

/// Submits to one recipient in a stream.
async fn receipt(rig: &Rig, stream: &str, to: &[&str]) -> Receipt {
    let mut submission = rig.submission(to, MAIL.as_bytes());
    submission.stream = Some(stream.into());
    rig.relay.door().submit(submission).await.expect("accepted")
}

async fn submit(rig: &Rig, stream: &str) -> MessageId {
    receipt(rig, stream, &["r@x.test"]).await.id
}

/// Why a recipient is as it is.
async fn why(rig: &Rig, id: MessageId) -> String {
    rig.recipients(id).await[0].why.clone().unwrap_or_default()
}

#[tokio::test]
async fn mail_of_a_stream_that_is_off_is_visibly_suppressed_and_other_mail_goes_on() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).stream("news", json!({"enabled": false})).start().await;
    let off = receipt(&rig, "news", &["r@x.test", "s@y.test"]).await;
    assert_eq!(
        off.noted.iter().map(|noted| (noted.n, noted.noting)).collect::<Vec<_>>(),
        [(0, Noting::Suppressed), (1, Noting::Suppressed)]
    );
    assert!(off.noted[0].why.starts_with("stream off"), "{off:?}");
    rig.becomes(off.id, &["suppressed"; 2]).await;
    assert!(why(&rig, off.id).await.starts_with("stream off"));
    assert_eq!(rig.events(off.id, 0).await, [EventKind::Suppressed]);
    let on = receipt(&rig, "other", &["r@x.test"]).await;
    assert_eq!(on.noted, []);
    sink.wait_for(1, PATIENCE).await;
    rig.put(Kind::Stream, "news", json!({"enabled": true})).await;
    rig.relay.reload().await.unwrap();
    submit(&rig, "news").await;
    sink.wait_for(2, PATIENCE).await;
    drop(rig.stop().await);
}

#[tokio::test]
async fn a_paused_stream_holds_its_mail_and_lets_go_of_what_it_held_and_nothing_else() {
    let sink = Sink::start().await;
    sink.add(Rule::reply(Stage::Rcpt, "451 4.3.0 later").times(1));
    let rig = Setup::to(&sink).start().await;
    let waiting = submit(&rig, "news").await;
    rig.becomes(waiting, &["deferred"]).await;
    let by_hand = submit(&rig, "news").await;
    sink.wait_for(1, PATIENCE).await;
    let later = {
        let mut submission = rig.submission(&["r@x.test"], MAIL.as_bytes());
        (submission.stream, submission.send_at_ms) = (Some("news".into()), Some(rig.now_ms() + 3_600_000));
        rig.submit(submission).await
    };
    rig.operate(later, Operation::Hold("let me look".into())).await;
    rig.becomes(by_hand, &["delivered"]).await;

    assert!(rig.relay.pause_stream("news", "5.1 % of its mail bounced").await.unwrap());
    assert!(!rig.relay.pause_stream("news", "again").await.unwrap(), "it is paused already");
    rig.becomes(waiting, &["held"]).await;
    assert_eq!(why(&rig, waiting).await, "stream paused: 5.1 % of its mail bounced");
    let paused = receipt(&rig, "news", &["r@x.test"]).await;
    assert_eq!(paused.noted[0].noting, Noting::Held);
    rig.becomes(paused.id, &["held"]).await;
    let free = submit(&rig, "other").await;
    rig.becomes(free, &["delivered"]).await;

    // It is as paused after a restart.
    let rig = rig.crash().await;
    let again = submit(&rig, "news").await;
    rig.becomes(again, &["held"]).await;
    assert!(rig.relay.resume_stream("news").await.unwrap());
    for id in [waiting, paused.id, again] {
        rig.becomes(id, &["delivered"]).await;
    }
    assert_eq!(why(&rig, later).await, "let me look");
    assert_eq!(rig.recipients(later).await[0].state, State::Held);
    assert_eq!(rig.store.documents(Kind::Stream).await.unwrap().len(), 0, "nothing else was said of it");
    drop(rig.stop().await);
}

#[tokio::test]
async fn what_a_pause_did_not_get_to_before_a_crash_the_next_start_does() {
    let sink = Sink::start().await;
    sink.add(Rule::reply(Stage::Rcpt, "451 4.3.0 later"));
    let rig = Setup::to(&sink).start().await;
    let id = submit(&rig, "news").await;
    rig.becomes(id, &["deferred"]).await;
    let (ground, config) = rig.stop().await;
    {
        let rig = Rig::again(ground, config).await;
        let body = json!({"paused": {"since_ms": 1, "why": "x"}});
        rig.store.put_document(Kind::Stream, "news".into(), body, SecretChange::Keep, 1).await.unwrap();
        // Not noticed yet: the process dies before.
        let rig = rig.crash().await;
        rig.becomes(id, &["held"]).await;
        rig.store.delete_document(Kind::Stream, "news".into()).await.unwrap();
        let rig = rig.crash().await;
        rig.becomes(id, &["deferred"]).await;
        drop(rig.stop().await);
    }
}

#[tokio::test]
async fn a_paced_stream_leaves_evenly_whatever_happens_and_nobody_waits_behind_it() {
    let sink = Sink::start().await;
    let setup = Setup::to(&sink).stream("news", json!({"per_minute": 6})).time_stands();
    let rig = setup.config(|config| config.window_recipients = 200).start().await;
    for _ in 0..30 {
        submit(&rig, "news").await;
    }
    sink.wait_for(1, PATIENCE).await;
    for passed in 2..=7 {
        rig.pass(GAP);
        sink.wait_for(passed, PATIENCE).await;
        rig.idle().await;
        assert_eq!(sink.count(), passed as u64);
    }
    // Hindered for ten minutes, it does not make up for it at once; and what it may do is known after a crash.
    rig.pass(10 * MINUTE);
    sink.wait_for(8, PATIENCE).await;
    let rig = rig.crash().await;
    let other = submit(&rig, "other").await;
    rig.becomes(other, &["delivered"]).await;
    let so_far = sink.count();
    assert!(so_far <= 7 + 3 + 1, "a burst of a second, not of ten minutes: {so_far}");
    // In any minute from now on no more than six, and all of them in the end.
    let mut before = so_far;
    while sink.count() < 31 {
        for _ in 0..6 {
            rig.pass(GAP);
            eventually("what is due is sent or waits", || async {
                let due = rig.store.recipients(Selector { all: true, ..Selector::default() }, None, 100).await.unwrap();
                let now_ms = rig.now_ms();
                let settled = due.iter().all(|view| view.state == State::Waiting && view.due_ms > Some(now_ms));
                (settled || rig.relay.status().window_recipients > 0).then_some(())
            })
            .await;
        }
        let now = sink.count();
        assert!(now - before <= 7, "{} in a minute", now - before);
        before = now;
    }
    assert!(sink.received().iter().all(|mail| mail.to.len() == 1));
    drop(rig.stop().await);
}

#[tokio::test]
async fn a_stream_that_is_spread_leaves_evenly_over_its_window() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).stream("review", json!({"spread_s": 1000})).time_stands().start().await;
    let to: Vec<String> = (0..50).map(|n| format!("r{n}@x.test")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let start_ms = rig.now_ms();
    let id = receipt(&rig, "review", &to).await.id;
    let views = rig.recipients(id).await;
    let mut due: Vec<i64> = views.iter().filter_map(|view| Some(view.due_ms? - start_ms)).collect();
    due.sort_unstable();
    assert!(due.len() >= 48 && due.iter().all(|at| (0..1_000_000).contains(at)), "{due:?}");
    let widest = due.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(widest < 60_000, "{widest}");
    rig.pass(Duration::from_secs(500));
    eventually("half of them", || async {
        (sink.received().iter().map(|mail| mail.to.len()).sum::<usize>() >= 23).then_some(())
    })
    .await;
    rig.idle().await;
    let half: usize = sink.received().iter().map(|mail| mail.to.len()).sum();
    assert!((23..=27).contains(&half), "{half}");
    rig.pass(Duration::from_secs(500));
    rig.drained().await;
    drop(rig.stop().await);
}

#[tokio::test]
async fn a_deadline_is_told_when_it_is_foreseen_once_and_kept_to_the_millisecond() {
    let sink = Sink::start().await;
    sink.add(Rule::reply(Stage::Rcpt, "451 4.3.0 later"));
    let setup = Setup::to(&sink).stream("code", json!({"priority": 0, "deadline_s": 60})).time_stands();
    let rig = setup.config(|config| config.retry_s = vec![40]).start().await;
    let id = submit(&rig, "code").await;
    rig.becomes(id, &["deferred"]).await;
    assert_eq!(rig.events(id, 0).await, [EventKind::Deferred], "a second attempt is in time");
    rig.pass(Duration::from_secs(50));
    eventually("a second attempt", || async { (rig.recipients(id).await[0].attempts == 2).then_some(()) }).await;
    assert_eq!(rig.events(id, 0).await, [EventKind::Deferred, EventKind::WillBeLate, EventKind::Deferred]);
    let late = rig.store.events(id, 10).await.unwrap().into_iter().find(|event| event.kind == EventKind::WillBeLate);
    assert!(late.unwrap().detail.why.unwrap().contains("deadline"));
    rig.pass(Duration::from_millis(9_000));
    eventually("a last attempt", || async { (rig.recipients(id).await[0].attempts == 3).then_some(()) }).await;
    rig.pass(Duration::from_millis(999));
    assert_eq!(rig.recipients(id).await[0].state, State::Waiting);
    rig.pass(Duration::from_millis(1));
    rig.becomes(id, &["expired"]).await;
    let message = rig.store.message(id, 1).await.unwrap().message;
    let events = rig.store.events(id, 100).await.unwrap();
    assert_eq!(events.last().map(|event| (event.kind, event.at_ms)), Some((EventKind::Expired, message.expires_ms)));
    assert_eq!(events.iter().filter(|event| event.kind == EventKind::WillBeLate).count(), 1);
    drop(rig.stop().await);
}

#[tokio::test]
async fn mail_in_memory_that_a_full_quota_keeps_beyond_its_deadline_is_told_of_and_expires_untried() {
    let sink = Sink::start().await;
    let rates = json!({"rates": {"per_hour": 1, "reserve_percent": 0}});
    let setup = Setup::by(with(smarthost(&sink), rates)).stream("code", json!({"deadline_s": 120})).time_stands();
    let rig = setup.start().await;
    let first = submit(&rig, "code").await;
    rig.becomes(first, &["delivered"]).await;
    let second = submit(&rig, "code").await;
    eventually("a warning", || async { rig.events(second, 0).await.contains(&EventKind::WillBeLate).then_some(()) })
        .await;
    assert_eq!(rig.recipients(second).await[0].state, State::Leased, "it waits in memory");
    rig.pass(Duration::from_secs(120));
    rig.becomes(second, &["expired"]).await;
    assert_eq!(rig.events(second, 0).await, [EventKind::WillBeLate, EventKind::Expired]);
    assert_eq!(sink.count(), 1);
    drop(rig.stop().await);
}

#[tokio::test]
async fn mail_whose_turn_comes_after_its_deadline_is_told_of_at_once() {
    let sink = Sink::start().await;
    let stream = json!({"per_minute": 1, "deadline_s": 150});
    let rig = Setup::to(&sink).stream("slow", stream).time_stands().start().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(submit(&rig, "slow").await);
    }
    eventually("warnings", || async { rig.events(ids[4], 0).await.contains(&EventKind::WillBeLate).then_some(()) })
        .await;
    for (id, late) in ids.iter().zip([false, false, false, true, true]) {
        assert_eq!(rig.events(*id, 0).await.contains(&EventKind::WillBeLate), late, "{id}");
    }
    drop(rig.stop().await);
}

#[tokio::test]
async fn held_mail_with_a_deadline_expires_and_other_held_mail_waits() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).stream("code", json!({"deadline_s": 60})).time_stands().start().await;
    rig.relay.pause_stream("code", "x").await.unwrap();
    rig.relay.pause_stream("other", "x").await.unwrap();
    let (code, other) = (submit(&rig, "code").await, submit(&rig, "other").await);
    rig.becomes(code, &["held"]).await;
    rig.pass(Duration::from_secs(60));
    rig.becomes(code, &["expired"]).await;
    rig.becomes(other, &["held"]).await;
    drop(rig.stop().await);
}

#[tokio::test]
async fn a_newsletter_carries_each_recipients_own_link_and_refuses_several() {
    let sink = Sink::start().await;
    let setup = Setup::to(&sink).stream("news", json!({"unsubscribe": true}));
    let rig = setup.config(|config| config.public_url = Some("https://mail.example.com/".into())).start().await;
    submit(&rig, "news").await;
    submit(&rig, "other").await;
    sink.wait_for(2, PATIENCE).await;
    let mails = sink.received();
    let (news, other): (Vec<_>, Vec<_>) = mails.iter().partition(|mail| mail.header("List-Unsubscribe").is_some());
    assert_eq!((news.len(), other.len()), (1, 1));
    assert_eq!(news[0].header("List-Unsubscribe-Post").as_deref(), Some("List-Unsubscribe=One-Click"));
    let link = news[0].header("List-Unsubscribe").unwrap();
    let token = link.trim().strip_prefix("<https://mail.example.com/u/").unwrap().strip_suffix('>').unwrap();
    let (stream, address) = rig.relay.links().read(token).unwrap();
    assert_eq!((stream.as_str(), address.as_str()), ("news", "r@x.test"));
    let token = token.to_owned();
    let rig = rig.restart().await;
    assert!(rig.relay.links().read(&token).is_some(), "links of before the restart work");

    let mut several = rig.submission(&["a@x.test", "b@x.test"], MAIL.as_bytes());
    several.stream = Some("news".into());
    let refusal = rig.relay.door().submit(several).await.unwrap_err();
    assert!(refusal.reply.to_string().contains("one message for each recipient"), "{refusal:?}");
    let own = format!("List-Unsubscribe: <https://app.example.com/bye>\r\n{MAIL}");
    let mut own = rig.submission(&["a@x.test", "b@x.test"], own.as_bytes());
    own.stream = Some("news".into());
    rig.submit(own).await;
    sink.wait_for(3, PATIENCE).await;
    let last = sink.received().pop().unwrap();
    assert_eq!(last.header("List-Unsubscribe").as_deref().map(str::trim), Some("<https://app.example.com/bye>"));
    assert!(message::scan(last.text().as_bytes()).is_ok() && last.header("List-Unsubscribe-Post").is_none());
    drop(rig.stop().await);
}
