//! A provider that says how much it takes only by refusing the rest, as Amazon SES does: the rate is learnt, and a used-up
//! quota is waited for. Neither ends in a storm of retries.

use serde_json::json;
use store::{Operation, Selector};
use testkit::{Rule, Sink, Stage};

use crate::rig::{MAIL, Rig, Setup, eventually, smarthost, with};

const RATE: &str = "454 Throttling failure: Maximum sending rate exceeded.";
const QUOTA: &str = "454 Throttling failure: Daily message quota exceeded.";

/// Messages that were offered, taken or not.
fn offered(sink: &Sink) -> usize {
    sink.commands().iter().filter(|(_, line)| line.eq_ignore_ascii_case("DATA")).count()
}

async fn queue(rig: &Rig, count: usize) {
    for n in 0..count {
        rig.submit(rig.submission(&[&format!("r{n}@x{}.test", n % 5)], MAIL.as_bytes())).await;
    }
}

async fn rules_of_waiting(rig: &Rig) -> Vec<String> {
    let all = Selector { all: true, ..Selector::default() };
    let views = rig.store.recipients(all, None, 2_000).await.expect("the queue");
    let cause = |view: &store::RecipientView| view.cause.as_ref()?.rule.as_ref().map(ToString::to_string);
    views.iter().filter_map(cause).collect()
}

#[tokio::test]
async fn a_rate_that_was_exceeded_is_learnt_and_everything_arrives() {
    const BEFORE: usize = 200;
    const AFTER: usize = 60;
    let sink = Sink::start().await;
    let rig = Setup::by(with(smarthost(&sink), json!({"connections": 5, "retry_s": [1]}))).start().await;
    queue(&rig, BEFORE).await;
    rig.drained().await;
    assert!(rig.relay.status().destinations.first().is_none_or(|one| one.slowed_to_per_minute.is_none()));
    sink.add(Rule::reply(Stage::Message, RATE).times(3));
    queue(&rig, AFTER).await;
    eventually("a route that was slowed down", || async {
        let status = rig.relay.status();
        let one = status.destinations.first()?;
        assert!(one.held_until_ms.is_none(), "slower, not stopped");
        one.slowed_to_per_minute
    })
    .await;
    rig.drained().await;
    assert_eq!(
        (sink.count() as usize, offered(&sink)),
        (BEFORE + AFTER, BEFORE + AFTER + 3),
        "once more for each refusal"
    );
}

#[tokio::test]
async fn a_daily_quota_that_is_used_up_stops_the_route_until_a_probe_is_taken() {
    const MESSAGES: usize = 300;
    let sink = Sink::start().await;
    sink.add(Rule::reply(Stage::Message, QUOTA));
    let rig = Setup::by(with(smarthost(&sink), json!({"connections": 5, "retry_s": [1]}))).start().await;
    queue(&rig, MESSAGES).await;
    let until = eventually("a route that is held", || async {
        rig.relay.status().destinations.first().and_then(|one| one.held_until_ms)
    })
    .await;
    assert!(until > rig.now_ms() + 30_000, "no probe within half a minute");
    let told = eventually("a cause with its rule", || async {
        let rules = rules_of_waiting(&rig).await;
        (!rules.is_empty()).then_some(rules)
    })
    .await;
    assert!(told.iter().all(|rule| rule == "ses-daily-quota"), "{told:?}");
    // Conversations that had begun are ended as they would be.
    eventually("an end of what was under way", || async {
        let status = rig.relay.status();
        let one = status.destinations.first()?;
        (one.connections as usize == one.idle).then_some(())
    })
    .await;
    let before = offered(&sink);
    assert!(before <= 10, "what was under way when the first refusal came: {before}");
    // Mail that falls due again, and new mail, wait as well.
    queue(&rig, 20).await;
    rig.send(&["late@x.test"]).await;
    assert_eq!(offered(&sink), before);

    // An operator who knows better makes one probe of it; refused again, the pause grows.
    let everything = || Selector { all: true, ..Selector::default() };
    let asked_ms = rig.now_ms();
    rig.relay.operate(everything(), Operation::Retry, "t".into()).await.expect("retry");
    eventually("one probe", || async { (offered(&sink) > before).then_some(()) }).await;
    let longer = eventually("a longer pause", || async {
        let held = rig.relay.status().destinations.first().and_then(|one| one.held_until_ms)?;
        (held > until).then_some(held)
    })
    .await;
    assert!(
        longer - asked_ms > 60_000 && offered(&sink) == before + 1,
        "{longer} {asked_ms} {before} {:?}",
        offered(&sink)
    );

    // The window has moved: the next probe is taken, and the backlog follows it.
    sink.behave();
    rig.relay.operate(everything(), Operation::Retry, "t".into()).await.expect("retry");
    rig.drained().await;
    assert_eq!(sink.count(), (MESSAGES + 21) as u64);
}
