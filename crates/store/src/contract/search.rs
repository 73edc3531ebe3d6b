//! Searching: each way of asking, newest first, page by page, before and after the index caught up.

use std::sync::Arc;

use super::Story;
use super::scene::{HOUR, Scene, because};
use crate::model::*;

pub(super) const STORIES: &[Story] = &[
    ("a message is found by each of its recipients, whether or not the index has caught up", by_recipient),
    ("a message is found by what its headers say", by_headers),
    ("a search by state, route and reason means one recipient that has them all", by_fate),
    ("a search goes on where its page ended, newest first", in_pages),
    ("a beginning that very many have is looked for by age, and finds all of them", many_begin_alike),
    ("a search within a time finds nothing outside of it", by_time),
    ("a message that was removed is found no more", removed),
    ("what is rare is found among many, whatever happened to it and whenever", rare),
];

fn find(scene: &Scene, query: SearchQuery) -> Vec<MessageId> {
    let page = scene.store.search(query, None, 100).wait().unwrap();
    assert_eq!(page.next, None, "nothing was left out");
    page.hits.iter().map(|hit| hit.message.id).collect()
}

fn to(whom: Whom) -> SearchQuery {
    SearchQuery { recipient: Some(whom), ..SearchQuery::default() }
}

/// A message with these words in its headers.
fn told(scene: &Scene, recipients: &[&str], details: MessageDetails) -> MessageId {
    let mut new = scene.message(recipients, Start::Waiting(scene.now));
    let mut message = (*new.message).clone();
    message.details = Arc::new(details);
    new.message = Arc::new(message);
    scene.accept_this(new)
}

fn by_recipient(scene: &mut Scene) {
    let first = scene.waiting(&["Ann@One.example", "bob@two.example"]);
    let second = scene.waiting(&["ann@one.example"]);
    let other = scene.waiting(&["anna@one.example", "carl@one.example.net"]);
    for round in ["before", "after", "again"] {
        let is = |whom, ids: &[MessageId]| assert_eq!(find(scene, to(whom)), ids, "{round} catching up");
        is(Whom::Address("ann@one.example".into()), &[second, first]);
        is(Whom::Address("ANN@ONE.EXAMPLE".into()), &[second, first]);
        is(Whom::Address("bob@two.example".into()), &[first]);
        is(Whom::Address("bob@one.example".into()), &[]);
        is(Whom::Domain("one.example".into()), &[other, second, first]);
        is(Whom::Domain("example".into()), &[]);
        is(Whom::Prefix("ann".into()), &[other, second, first]);
        is(Whom::Prefix("anna".into()), &[other]);
        is(Whom::Prefix("@two".into()), &[first]);
        is(Whom::Prefix("%".into()), &[]);
        scene.store.catch_up_search().wait().unwrap();
    }
    let page = scene.store.search(to(Whom::Address("bob@two.example".into())), None, 10).wait().unwrap();
    let hit = &page.hits[0];
    assert_eq!(
        (hit.matching, hit.recipients.len(), hit.recipients[0].id.n),
        (1, 1, 1),
        "only the one that was asked for"
    );
    assert!(hit.has_content);
    // What came after the index caught up is found beside what it has.
    let late = scene.waiting(&["ann@one.example"]);
    assert_eq!(find(scene, to(Whom::Address("ann@one.example".into()))), [late, second, first]);
    scene.restart();
    assert_eq!(find(scene, to(Whom::Address("ann@one.example".into()))), [late, second, first]);
    scene.sound();
}

fn by_headers(scene: &mut Scene) {
    let details = |subject: &str, from: &str, id: &str| MessageDetails {
        subject: Some(subject.into()),
        from: Some(from.into()),
        message_id: Some(id.into()),
        ..MessageDetails::default()
    };
    let bill = told(
        scene,
        &["a@one.example"],
        details("Your Invoice for May", "Shop <bill@shop.example>", "<1@shop.example>"),
    );
    let news = told(scene, &["a@one.example"], details("May news", "News <news@letters.example>", "<2@shop.example>"));
    for _ in 0..2 {
        let subject = |words: &[&str]| SearchQuery {
            subject: words.iter().map(|word| (*word).into()).collect(),
            ..SearchQuery::default()
        };
        assert_eq!(find(scene, subject(&["may"])), [news, bill]);
        assert_eq!(find(scene, subject(&["may", "invoice"])), [bill]);
        let from = |text: &str| SearchQuery { from: Some(text.into()), ..SearchQuery::default() };
        assert_eq!(find(scene, from("bill@shop.example")), [bill]);
        assert_eq!(find(scene, from("ill@shop.example")), []);
        assert_eq!(find(scene, from("@letters.example")), [news]);
        assert_eq!(find(scene, from("a@example.org")), [news, bill], "the envelope's sender");
        let header = |text: &str| SearchQuery { message_id: Some(text.into()), ..SearchQuery::default() };
        assert_eq!(find(scene, header("<2@shop.example>")), [news]);
        assert_eq!(find(scene, header("1@shop.example")), [bill]);
        assert_eq!(find(scene, header("3@shop.example")), []);
        assert_eq!(find(scene, SearchQuery { id: Some(bill), ..SearchQuery::default() }), [bill]);
        let other = SearchQuery { id: Some(bill), subject: vec!["news".into()], ..SearchQuery::default() };
        assert_eq!(find(scene, other), [], "all conditions have to hold");
        scene.store.catch_up_search().wait().unwrap();
    }
}

fn by_fate(scene: &mut Scene) {
    let id = scene.waiting(&["a@one.example", "b@one.example", "c@one.example"]);
    let held = scene.accept(&["a@one.example"], Start::Held("stream off: news".into()));
    scene.claim();
    let failed = Outcome::Failed { cause: because("user-unknown") };
    let deferred = Outcome::Deferred { until_ms: scene.now + HOUR, cause: because("greylisted") };
    scene.settle_all(id, vec![(0, Outcome::Delivered), (1, failed), (2, deferred)]);
    scene.store.catch_up_search().wait().unwrap();
    let whom = |address: &str| Some(Whom::Address(address.into()));
    let query = |recipient, state, reason: Option<&str>| SearchQuery {
        recipient,
        state,
        reason: reason.map(str::to_owned),
        ..SearchQuery::default()
    };
    assert_eq!(find(scene, query(None, Some(State::Delivered), None)), [id]);
    assert_eq!(find(scene, query(whom("a@one.example"), Some(State::Failed), None)), [], "another recipient failed");
    assert_eq!(find(scene, query(whom("b@one.example"), Some(State::Failed), Some("user-unknown"))), [id]);
    assert_eq!(find(scene, query(None, None, Some("greylisted"))), [id]);
    assert_eq!(find(scene, query(None, Some(State::Waiting), Some("user-unknown"))), []);
    assert_eq!(find(scene, query(None, Some(State::Waiting), None)), [id]);
    assert_eq!(find(scene, query(None, Some(State::Held), Some("stream off"))), [held]);
    let by_route = |route: &str| SearchQuery { route: Some(route.into()), ..SearchQuery::default() };
    assert_eq!(find(scene, by_route("mx")), [held, id]);
    assert_eq!(find(scene, by_route("other")), []);
    let by_stream = |stream: &str, sender: &str| SearchQuery {
        stream: Some(stream.into()),
        sender: Some(sender.into()),
        ..SearchQuery::default()
    };
    assert_eq!(find(scene, by_stream("news", "app")), [held, id]);
    assert_eq!(find(scene, by_stream("news", "other")), []);
    assert_eq!(find(scene, by_stream("other", "app")), []);
}

fn in_pages(scene: &mut Scene) {
    let mut ids: Vec<MessageId> = (0..25).map(|_| scene.waiting(&["a@one.example"])).collect();
    scene.store.catch_up_search().wait().unwrap();
    ids.extend((0..5).map(|_| scene.waiting(&["a@one.example"])));
    ids.reverse();
    for query in [SearchQuery::default(), to(Whom::Address("a@one.example".into())), to(Whom::Prefix("a".into()))] {
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let page = scene.store.search(query.clone(), before, 7).wait().unwrap();
            assert!(page.hits.len() <= 7);
            found.extend(page.hits.iter().map(|hit| hit.message.id));
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(found, ids, "{query:?}");
    }
}

fn many_begin_alike(scene: &mut Scene) {
    let mut ids: Vec<MessageId> = (0..30).map(|n| scene.waiting(&[&format!("user{n}@one.example")])).collect();
    ids.push(scene.waiting(&["USERX@ONE.example"]));
    ids.push(scene.waiting(&["someone@two.example", "Userö@one.example"]));
    let umlaut = scene.waiting(&["Ülrich@one.example"]);
    let other = scene.waiting(&["someone@one.example"]);
    ids.reverse();
    let mut all = ids.clone();
    all.splice(0..0, [other, umlaut]);
    for round in ["before", "after", "again"] {
        let is = |prefix: &str, ids: &[MessageId]| {
            assert_eq!(find(scene, to(Whom::Prefix(prefix.into()))), ids, "{prefix} {round} catching up");
        };
        is("user", &ids);
        is("USER", &ids);
        is("userö", &ids[..1]);
        is("ü", &[umlaut]);
        is("@one", &all);
        scene.store.catch_up_search().wait().unwrap();
    }
}

fn by_time(scene: &mut Scene) {
    let early = scene.waiting(&["a@one.example"]);
    scene.now += HOUR;
    let late = scene.waiting(&["a@one.example"]);
    scene.store.catch_up_search().wait().unwrap();
    for recipient in [None, Some(Whom::Address("a@one.example".into())), Some(Whom::Prefix("a@".into()))] {
        let within = |since_ms, until_ms| SearchQuery {
            recipient: recipient.clone(),
            since_ms,
            until_ms,
            ..SearchQuery::default()
        };
        assert_eq!(find(scene, within(Some(scene.now), None)), [late]);
        assert_eq!(find(scene, within(None, Some(scene.now))), [early]);
        assert_eq!(find(scene, within(Some(scene.now + 1), None)), []);
        assert_eq!(find(scene, within(Some(i64::MIN), Some(i64::MAX))), [late, early]);
    }
}

fn removed(scene: &mut Scene) {
    let id = scene.waiting(&["a@one.example"]);
    scene.claim();
    scene.settle(id, 0, Outcome::Delivered);
    let kept = scene.waiting(&["a@one.example"]);
    scene.store.catch_up_search().wait().unwrap();
    scene.now += HOUR;
    let retention =
        crate::verbs::Retention { content_ms: 0, events_ms: HOUR / 2, captured_ms: 0, streams: Arc::default() };
    assert_eq!(scene.store.retain(retention, scene.now).wait().unwrap(), 1);
    assert_eq!(find(scene, to(Whom::Domain("one.example".into()))), [kept]);
    assert_eq!(find(scene, to(Whom::Address("a@one.example".into()))), [kept]);
    scene.sound();
}

fn rare(scene: &mut Scene) {
    let subject = |text: String| MessageDetails { subject: Some(text), ..MessageDetails::default() };
    let sent = |scene: &Scene, from: usize, to: usize| -> Vec<MessageId> {
        let one = |n: usize| match n % 50 {
            13 => told(scene, &["a@one.example"], subject("A zebra crossed".into())),
            _ => told(scene, &["b@two.example"], subject(format!("Number {n} of many"))),
        };
        (from..to).map(one).collect()
    };
    let mut ids = sent(scene, 0, 60);
    let catch_up = |scene: &Scene| scene.store.catch_up_search().wait().unwrap();
    assert_eq!(catch_up(scene), 60);
    assert_eq!(catch_up(scene), 0);
    let words = |word: &str| SearchQuery { subject: vec![word.into()], ..SearchQuery::default() };
    let state = |state| SearchQuery { state: Some(state), ..SearchQuery::default() };
    let reason = |text: &str| SearchQuery { reason: Some(text.into()), ..SearchQuery::default() };
    assert_eq!(find(scene, words("ZEBRA")), [ids[13]]);
    assert_eq!(find(scene, words("nowhere")), []);
    let seen = scene.store.search(words("nowhere"), None, 100).wait().unwrap();
    assert_eq!(seen.looked, 0, "no stretch has it: none is looked at");
    // What happens later is found before the index knows it, and afterwards.
    scene.claim();
    scene.settle(ids[5], 0, Outcome::Failed { cause: because("user-unknown") });
    scene.settle(ids[30], 0, Outcome::Deferred { until_ms: scene.now + HOUR, cause: because("greylisted") });
    ids.extend(sent(scene, 60, 75));
    for round in ["before", "after"] {
        assert_eq!(find(scene, state(State::Failed)), [ids[5]], "{round} catching up");
        assert_eq!(find(scene, reason("user-unknown")), [ids[5]], "{round} catching up");
        assert_eq!(find(scene, reason("greylisted")), [ids[30]], "{round} catching up");
        assert_eq!(find(scene, words("zebra")), [ids[63], ids[13]], "{round} catching up");
        let both = SearchQuery { recipient: Some(Whom::Domain("one.example".into())), ..words("zebra") };
        assert_eq!(find(scene, both), [ids[63], ids[13]], "{round} catching up");
        let neither = SearchQuery { recipient: Some(Whom::Domain("two.example".into())), ..words("zebra") };
        assert_eq!(find(scene, neither), [], "{round} catching up");
        let prefix = SearchQuery { recipient: Some(Whom::Prefix("a@".into())), ..words("crossed") };
        assert_eq!(find(scene, prefix), [ids[63], ids[13]], "{round} catching up");
        catch_up(scene);
    }
    let held = Selector { message: Some(ids[30]), ..Selector::default() };
    assert_eq!(scene.operate(held, Operation::Hold("waits for the price list".into())), 1);
    for round in ["before", "after", "again"] {
        assert_eq!(find(scene, state(State::Held)), [ids[30]], "{round}");
        assert_eq!(find(scene, reason("waits for")), [ids[30]], "{round}");
        if round == "after" {
            scene.restart();
        }
        catch_up(scene);
    }
    // Page by page through what is in most stretches.
    let (mut found, mut before) = (0, None);
    loop {
        let page = scene.store.search(words("many"), before, 7).wait().unwrap();
        found += page.hits.len();
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(found, 73);
    scene.sound();
}
