//! Stories about addresses that get no mail, what counts against them, and what is reported later.

use std::sync::Arc;

use super::scene::{HOUR, address, refused};
use super::{Scene, Story};
use crate::model::*;
use crate::verbs::{CHANGES_MS, Retention, StoreError};

pub(super) const STORIES: &[Story] = &[
    ("a suppressed address is found however it is spelled, in its scope, until its time is over", found),
    ("what somebody said replaces, what a machine saw only prolongs", existing),
    ("a removal is logged, and old evidence does not bring the address back", removal),
    ("suppressions are listed by condition, page by page", listing),
    ("changes are followed behind a cursor that tells when it is too old", changes),
    ("failures on different days suppress, the same one told twice does not", strikes),
    ("a delivery forgives what was counted", forgiven),
    ("a leased recipient can end as suppressed without an attempt", ended),
    ("a later report finds its message once, and moves what was delivered", reports),
    ("a later report waits for an attempt to end, and knows what it cannot find", reports_apart),
    ("a later report is recorded when the content is gone", report_late),
    ("events of some kinds are found behind a cursor, one for each recipient", kinds),
];

const DAY: i64 = 24 * HOUR;
fn keep() -> Retention {
    Retention { content_ms: 0, events_ms: 30 * DAY, captured_ms: 30 * DAY, streams: Arc::default() }
}

fn suppression(scene: &Scene, to: &str, reason: SuppressionReason) -> Suppression {
    Suppression {
        address: address(to),
        scope: SuppressionScope::Global,
        reason,
        evidence: Evidence { at_ms: Some(scene.now), rule: Some("rfc".into()), ..Evidence::default() },
        who: "pillarbox".into(),
        added_ms: scene.now,
        expires_ms: None,
    }
}

fn unknown(scene: &Scene, to: &str) -> Suppression {
    suppression(scene, to, SuppressionReason::UnknownUser)
}

fn put(scene: &Scene, list: Vec<Suppression>, existing: Existing) -> SuppressCount {
    scene.store.suppress(list, existing, scene.now).wait().unwrap()
}

/// Whether mail of the stream "news" to each address is stopped.
fn stopped(scene: &Scene, list: &[&str]) -> Vec<bool> {
    let list = list.iter().map(|to| address(to)).collect();
    let found = scene.store.suppressed(list, "news".into(), scene.now).wait().unwrap();
    found.iter().map(Option::is_some).collect()
}

fn all(scene: &Scene, filter: SuppressionFilter) -> Vec<String> {
    let found = scene.store.suppressions(filter, None, 1_000, scene.now).wait().unwrap();
    found.iter().map(|one| format!("{} {}", one.address.as_str(), one.scope.as_str())).collect()
}

fn found(scene: &mut Scene) {
    let mut list = vec![unknown(scene, "Bob@EXAMPLE.net"), unknown(scene, "jürgen@bücher.example")];
    list[1].expires_ms = Some(scene.now + HOUR);
    for (to, scope) in [("ann@example.net", "news"), ("tom@example.net", "alerts")] {
        list.push(Suppression { scope: scope.into(), ..unknown(scene, to) });
    }
    let added = put(scene, list.clone(), Existing::Keep);
    assert_eq!(added, SuppressCount { added: 4, ..SuppressCount::default() });
    let asked =
        ["bOB@example.NET", "JÜRGEN@xn--bcher-kva.example", "ann@example.net", "tom@example.net", "x@example.net"];
    assert_eq!(stopped(scene, &asked), [true, true, true, false, false]);
    let kept = scene.store.suppressions_of(address("bob@example.net"), scene.now).wait().unwrap();
    assert_eq!(kept, list[..1]);
    scene.restart();
    scene.now += HOUR;
    assert_eq!(stopped(scene, &asked), [true, false, true, false, false]);
    assert_eq!(all(scene, SuppressionFilter::default()).len(), 3);
    scene.store.retain(keep(), scene.now).wait().unwrap();
    let last = scene.store.suppression_changes(4, 10).wait().unwrap().changes.pop().unwrap();
    assert_eq!((last.change, last.address), (ChangeKind::Expired, address("jürgen@bücher.example")));
    let many = vec![unknown(scene, "a@example.net"); 1_001];
    let refused = scene.store.suppress(many, Existing::Keep, scene.now).wait();
    assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    scene.sound();
}

fn existing(scene: &mut Scene) {
    let until = |scene: &Scene, days: i64| Suppression {
        expires_ms: Some(scene.now + days * DAY),
        ..unknown(scene, "bob@example.net")
    };
    let expiry = |scene: &Scene| {
        let found = scene.store.suppressions_of(address("bob@example.net"), scene.now).wait().unwrap();
        found[0].expires_ms.map(|expires| (expires - scene.now) / DAY)
    };
    put(scene, vec![until(scene, 10)], Existing::Keep);
    assert_eq!(put(scene, vec![until(scene, 5)], Existing::Keep).kept, 1);
    assert_eq!(expiry(scene), Some(10));
    assert_eq!(put(scene, vec![until(scene, 20)], Existing::Keep).changed, 1);
    assert_eq!(put(scene, vec![unknown(scene, "Bob@example.net")], Existing::Keep).changed, 1);
    assert_eq!(expiry(scene), None);
    assert_eq!(put(scene, vec![until(scene, 5)], Existing::Replace).changed, 1);
    assert_eq!(expiry(scene), Some(5));
    assert_eq!(put(scene, vec![until(scene, 5)], Existing::Replace).kept, 1);
    // One that is over is no longer in the way, whatever comes.
    scene.now += 6 * DAY;
    assert_eq!(put(scene, vec![until(scene, 1)], Existing::Keep).added, 1);
    let kinds: Vec<ChangeKind> = history(scene, "bob@example.net").iter().map(|change| change.change).collect();
    use ChangeKind::{Added, Changed, Expired};
    assert_eq!(kinds, [Added, Changed, Changed, Changed, Expired, Added]);
    scene.sound();
}

fn history(scene: &Scene, to: &str) -> Vec<SuppressionChange> {
    scene.store.suppression_history(address(to), 100).wait().unwrap()
}

fn remove(scene: &Scene, to: &str, scope: Option<&str>) -> u64 {
    let list = vec![(address(to), scope.map(SuppressionScope::from))];
    scene.store.unsuppress(list, "ann".into(), Some("asked by phone".into()), scene.now).wait().unwrap()
}

fn removal(scene: &mut Scene) {
    let old = unknown(scene, "bob@example.net");
    put(scene, vec![old.clone()], Existing::Keep);
    put(scene, vec![Suppression { scope: "news".into(), ..old.clone() }], Existing::Keep);
    scene.now += HOUR;
    assert_eq!(remove(scene, "BOB@example.net", Some("alerts")), 0);
    assert_eq!(remove(scene, "BOB@example.net", Some("news")), 1);
    assert_eq!(stopped(scene, &["bob@example.net"]), [true]);
    assert_eq!(remove(scene, "BOB@example.net", None), 1);
    assert_eq!(stopped(scene, &["bob@example.net"]), [false]);
    let last = history(scene, "bob@example.net").pop().unwrap();
    assert_eq!((last.change, &*last.who, last.why.as_deref()), (ChangeKind::Removed, "ann", Some("asked by phone")));
    assert_eq!((last.reason, last.scope, last.at_ms), (SuppressionReason::UnknownUser, "*".into(), scene.now));
    // The event that led to it, read again after a crash.
    assert_eq!(put(scene, vec![old.clone()], Existing::Keep).kept, 1);
    let strike = Strike { suppression: old.clone(), need: 1, within_days: 1 };
    assert_eq!(scene.store.strike(vec![strike], scene.now).wait().unwrap(), [Struck::Forgiven]);
    assert_eq!(stopped(scene, &["bob@example.net"]), [false]);
    // New evidence, or somebody's word, does.
    scene.now += 1;
    assert_eq!(put(scene, vec![unknown(scene, "bob@example.net")], Existing::Keep).added, 1);
    remove(scene, "bob@example.net", None);
    assert_eq!(put(scene, vec![old], Existing::Replace).added, 1);
    scene.sound();
}

fn listing(scene: &mut Scene) {
    let mut list: Vec<Suppression> = (0..30).map(|n| unknown(scene, &format!("r{n:02}@a.test"))).collect();
    list.push(suppression(scene, "x@b.test", SuppressionReason::Complaint));
    list.push(Suppression { scope: "news".into(), ..unknown(scene, "x@b.test") });
    list.push(unknown(scene, "x@ba.test"));
    put(scene, list.clone(), Existing::Keep);
    scene.now += 10;
    put(scene, vec![unknown(scene, "Y%_@b.test")], Existing::Keep);
    let filter = SuppressionFilter::default;
    assert_eq!(all(scene, filter()).len(), 34);
    let by_domain = SuppressionFilter { domain: Some("B.test".into()), ..filter() };
    assert_eq!(all(scene, by_domain), ["x@b.test *", "x@b.test news", "Y%_@b.test *"]);
    let by_scope = SuppressionFilter { scope: Some("news".into()), ..filter() };
    assert_eq!(all(scene, by_scope), ["x@b.test news"]);
    let by_reason = SuppressionFilter { reason: Some(SuppressionReason::Complaint), ..filter() };
    assert_eq!(all(scene, by_reason), ["x@b.test *"]);
    assert_eq!(all(scene, SuppressionFilter { text: Some("%_@B".into()), ..filter() }), ["Y%_@b.test *"]);
    let recent = SuppressionFilter { added_from_ms: Some(scene.now), ..filter() };
    assert_eq!(all(scene, recent), ["Y%_@b.test *"]);
    assert_eq!(all(scene, SuppressionFilter { added_before_ms: Some(scene.now), ..filter() }).len(), 33);
    let keys = scene.store.suppressed_keys(Some("r28@a.test".into()), 3).wait().unwrap();
    assert_eq!(keys, ["r29@a.test", "x@b.test", "x@ba.test"]);
    let mut after = None;
    let mut seen = Vec::new();
    loop {
        let page = scene.store.suppressions(filter(), after, 7, scene.now).wait().unwrap();
        let Some(last) = page.last() else { break };
        after = Some(SuppressionCursor { address: last.address.clone(), scope: last.scope.clone() });
        seen.extend(page.iter().map(|one| format!("{} {}", one.address.as_str(), one.scope.as_str())));
    }
    assert_eq!(seen, all(scene, filter()));
    use SuppressionReason::{Complaint, UnknownUser};
    let counts = scene.store.suppression_counts(scene.now).wait().unwrap();
    assert_eq!(counts, [("*".into(), Complaint, 1), ("*".into(), UnknownUser, 32), ("news".into(), UnknownUser, 1)]);
    scene.sound();
}

fn changes(scene: &mut Scene) {
    for n in 0..5 {
        put(scene, vec![unknown(scene, &format!("r{n}@example.net"))], Existing::Keep);
    }
    remove(scene, "r0@example.net", None);
    let read = |scene: &Scene, since, limit| scene.store.suppression_changes(since, limit).wait().unwrap();
    let first = read(scene, 0, 4);
    assert_eq!((first.changes.len(), first.latest, first.forgotten), (4, 6, 0));
    let rest = read(scene, first.changes[3].seq, 4);
    assert_eq!(
        rest.changes.iter().map(|change| change.change).collect::<Vec<_>>(),
        [ChangeKind::Added, ChangeKind::Removed]
    );
    assert_eq!(read(scene, 6, 4).changes, []);
    scene.now += CHANGES_MS;
    scene.store.retain(keep(), scene.now).wait().unwrap();
    let empty = read(scene, 6, 4);
    assert_eq!((empty.changes.len(), empty.latest, empty.forgotten), (0, 6, 6));
    put(scene, vec![unknown(scene, "r9@example.net")], Existing::Keep);
    scene.restart();
    let fresh = read(scene, 6, 4);
    assert_eq!((fresh.changes[0].seq, fresh.latest, fresh.forgotten), (7, 7, 6));
    scene.sound();
}

fn strikes(scene: &mut Scene) {
    let full = |scene: &Scene, to: &str| Strike {
        suppression: Suppression {
            expires_ms: Some(scene.now + 90 * DAY),
            ..suppression(scene, to, SuppressionReason::MailboxFull)
        },
        need: 3,
        within_days: 14,
    };
    let strike = |scene: &Scene| scene.store.strike(vec![full(scene, "Bob@example.net")], scene.now).wait().unwrap()[0];
    assert_eq!(strike(scene), Struck::Counted(1));
    assert_eq!(strike(scene), Struck::Counted(1));
    scene.now += DAY;
    let same_day_twice = vec![full(scene, "bob@example.net"), full(scene, "BOB@example.net")];
    assert_eq!(scene.store.strike(same_day_twice, scene.now).wait().unwrap(), [Struck::Counted(2); 2]);
    // The first day is too long ago by now.
    scene.now += 13 * DAY;
    assert_eq!(strike(scene), Struck::Counted(2));
    assert_eq!(scene.store.struck(None, 10).wait().unwrap(), ["bob@example.net"]);
    scene.restart();
    scene.now += DAY / 2;
    scene.store.retain(keep(), scene.now).wait().unwrap();
    assert_eq!(stopped(scene, &["bob@example.net"]), [false]);
    scene.now += DAY / 2;
    assert_eq!(strike(scene), Struck::Counted(2));
    scene.now += DAY;
    assert_eq!(strike(scene), Struck::Suppressed);
    assert_eq!(stopped(scene, &["bob@example.net"]), [true]);
    assert!(scene.store.struck(None, 10).wait().unwrap().is_empty());
    assert_eq!(strike(scene), Struck::Suppressed);
    let at_once = Strike { need: 1, ..full(scene, "ann@example.net") };
    assert_eq!(scene.store.strike(vec![at_once], scene.now).wait().unwrap(), [Struck::Suppressed]);
    // What is counted against an address is forgotten in the end.
    scene.store.strike(vec![full(scene, "tom@example.net")], scene.now).wait().unwrap();
    scene.now += 92 * DAY;
    scene.store.retain(keep(), scene.now).wait().unwrap();
    assert!(scene.store.struck(None, 10).wait().unwrap().is_empty());
    scene.sound();
}

fn forgiven(scene: &mut Scene) {
    let strike = |scene: &Scene| {
        let suppression = unknown(scene, "bob@example.net");
        scene.store.strike(vec![Strike { suppression, need: 2, within_days: 30 }], scene.now).wait().unwrap()[0]
    };
    assert_eq!(strike(scene), Struck::Counted(1));
    let list = vec![address("BOB@example.net"), address("nobody@example.net")];
    assert_eq!(scene.store.forgive(list).wait().unwrap(), 1);
    scene.now += DAY;
    assert_eq!(strike(scene), Struck::Counted(1));
    remove(scene, "bob@example.net", None);
    scene.now += DAY;
    assert_eq!(strike(scene), Struck::Counted(1));
    scene.now += DAY;
    assert_eq!(strike(scene), Struck::Suppressed);
}

fn ended(scene: &mut Scene) {
    let id = scene.waiting(&["a@example.net", "b@example.net"]);
    scene.claim();
    let settlement = Settlement {
        by: scene.run,
        lapses: 0,
        at_ms: scene.now,
        message: id,
        attempt: None,
        outcomes: vec![(0, Outcome::Suppressed { why: "suppressed: complaint".into() }), (1, Outcome::Delivered)],
        capture: false,
    };
    assert_eq!(scene.store.settle(settlement).wait().unwrap(), 2);
    let view = scene.view(id, 0);
    assert_eq!((view.state, view.why.as_deref(), view.attempts), (State::Suppressed, Some("suppressed: complaint"), 0));
    assert_eq!(scene.kinds(id), [EventKind::Accepted, EventKind::Suppressed, EventKind::Delivered]);
    scene.sound();
}

fn report(scene: &Scene, message: MessageId, n: Option<u32>, kind: ReportKind, key: &str) -> LaterReport {
    LaterReport {
        message,
        n,
        at_ms: scene.now,
        kind,
        severity: Severity::Hard,
        cause: Some(refused()),
        why: Some("user unknown".into()),
        source: "ses".into(),
        key: key.into(),
    }
}

fn tell(scene: &Scene, report: LaterReport) -> Reported {
    scene.store.report(report).wait().unwrap()
}

fn reports(scene: &mut Scene) {
    let id = scene.waiting(&["a@example.net", "b@example.net", "c@example.net"]);
    scene.claim();
    scene.settle_all(
        id,
        vec![(0, Outcome::Delivered), (1, Outcome::Delivered), (2, Outcome::Failed { cause: refused() })],
    );
    let bounced = report(scene, id, Some(0), ReportKind::Bounced, "ses:1");
    let soft = LaterReport { severity: Severity::Soft, ..report(scene, id, Some(1), ReportKind::Bounced, "ses:2") };
    assert_eq!(tell(scene, soft), Reported::Recorded(Some(State::Delivered)));
    assert_eq!(tell(scene, bounced.clone()), Reported::Recorded(Some(State::Bounced)));
    assert_eq!(tell(scene, bounced.clone()), Reported::Repeated);
    let complained = report(scene, id, Some(0), ReportKind::Complained, "ses:3");
    assert_eq!(tell(scene, complained), Reported::Recorded(Some(State::Complained)));
    // A complaint is the last word; what failed stays failed.
    for (n, key, state) in [(0, "ses:4", State::Complained), (2, "ses:5", State::Failed)] {
        let again = LaterReport { n: Some(n), key: key.into(), ..bounced.clone() };
        assert_eq!(tell(scene, again), Reported::Recorded(Some(state)));
    }
    assert_eq!(tell(scene, LaterReport { n: None, key: "ses:6".into(), ..bounced.clone() }), Reported::Recorded(None));
    let view = scene.view(id, 0);
    assert_eq!((view.why.as_deref(), view.cause), (Some("user unknown"), Some(refused())));
    let event = scene
        .store
        .events(id, 100)
        .wait()
        .unwrap()
        .into_iter()
        .find(|event| event.n == Some(1) && event.kind == EventKind::Bounced);
    let detail = event.unwrap().detail;
    assert_eq!(detail.report, Some(ReportDetail { source: "ses".into(), severity: Severity::Soft }));
    assert_eq!((detail.cause, detail.why.as_deref()), (Some(refused()), Some("user unknown")));
    let count =
        scene.kinds(id).iter().filter(|kind| matches!(kind, EventKind::Bounced | EventKind::Complained)).count();
    assert_eq!(count, 6);
    scene.restart();
    assert_eq!(tell(scene, bounced), Reported::Repeated);
    assert_eq!([0, 1, 2].map(|n| scene.state(id, n)), [State::Complained, State::Delivered, State::Failed]);
    scene.sound();
}

fn reports_apart(scene: &mut Scene) {
    let id = scene.accept(&["a@example.net"], Start::Leased);
    let bounced = report(scene, id, None, ReportKind::Bounced, "k");
    assert_eq!(tell(scene, bounced.clone()), Reported::NotYet);
    scene.settle(id, 0, Outcome::Delivered);
    // The only recipient need not be named.
    assert_eq!(tell(scene, bounced.clone()), Reported::Recorded(Some(State::Bounced)));
    let waiting = scene.waiting(&["b@example.net"]);
    let early = report(scene, waiting, Some(0), ReportKind::Bounced, "early");
    assert_eq!(tell(scene, early), Reported::Recorded(Some(State::Waiting)));
    assert_eq!(scene.claim().len(), 1);
    assert_eq!(tell(scene, LaterReport { n: Some(7), key: "l".into(), ..bounced.clone() }), Reported::Unknown);
    let other = scene.store.next_id(scene.now);
    assert_eq!(tell(scene, LaterReport { message: other, key: "m".into(), ..bounced.clone() }), Reported::Unknown);
    for key in [String::new(), "k".repeat(256)] {
        let refused = scene.store.report(LaterReport { key, ..bounced.clone() }).wait();
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    }
    scene.sound();
}

fn report_late(scene: &mut Scene) {
    scene.store.retain(keep(), scene.now).wait().unwrap();
    let id = scene.accept(&["a@example.net"], Start::Leased);
    scene.settle(id, 0, Outcome::Delivered);
    assert!(matches!(scene.store.content(id).wait(), Err(StoreError::NotFound)));
    scene.now += 20 * DAY;
    let bounced = report(scene, id, Some(0), ReportKind::Bounced, "k");
    assert_eq!(tell(scene, bounced.clone()), Reported::Recorded(Some(State::Bounced)));
    scene.store.retain(keep(), scene.now).wait().unwrap();
    assert_eq!(tell(scene, bounced.clone()), Reported::Repeated);
    assert_eq!(scene.kinds(id).last(), Some(&EventKind::Bounced));
    scene.sound();
    // With the message its report is forgotten.
    scene.now += 30 * DAY;
    scene.store.retain(keep(), scene.now).wait().unwrap();
    assert_eq!(tell(scene, bounced), Reported::Unknown);
    scene.sound();
}

fn kinds(scene: &mut Scene) {
    let first = scene.waiting(&["a@example.net", "b@example.net", "c@example.net"]);
    let second = scene.waiting(&["d@example.net"]);
    scene.claim();
    let failed = Outcome::Failed { cause: refused() };
    scene.settle_all(first, (0..3).map(|n| (n, failed.clone())).collect());
    scene.settle(second, 0, Outcome::Delivered);
    scene.accept(&["e@example.net"], Start::Suppressed("x".into()));
    let wanted = vec![EventKind::Failed, EventKind::Suppressed];
    let read = |scene: &Scene, seq, limit| scene.store.events_of(seq, wanted.clone(), limit).wait().unwrap();
    let all = read(scene, 0, 100);
    let told: Vec<(EventKind, Option<u32>)> = all.events.iter().map(|event| (event.kind, event.n)).collect();
    use EventKind::{Failed, Suppressed};
    assert_eq!(told, [(Failed, Some(0)), (Failed, Some(1)), (Failed, Some(2)), (Suppressed, Some(0))]);
    assert!(all.events.iter().all(|event| event.kind == Suppressed || event.detail.cause.is_some()));
    let mut seen = Vec::new();
    let mut after = 0;
    loop {
        let page = read(scene, after, 2);
        seen.extend(page.events);
        if page.upto == after {
            break;
        }
        after = page.upto;
    }
    assert_eq!((&seen, after), (&all.events, all.upto));
    let names: Vec<RecipientId> =
        seen.iter().filter_map(|event| Some(RecipientId { message: event.message, n: event.n? })).collect();
    let ghost = RecipientId { message: first, n: 9 };
    let views = scene.store.recipients_named([&names[..], &[ghost]].concat()).wait().unwrap();
    assert_eq!(views.iter().map(|view| view.id).collect::<Vec<_>>(), names);
    // Each of those who share a settlement is told of.
    assert_eq!(scene.store.notable_after(0, 100).wait().unwrap().events, seen);
}
