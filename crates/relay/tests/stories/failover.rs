//! Failover: mail of a route that does not work goes by another, and none is lost or sent by both.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use store::{EventKind, State};
use testkit::{Act, Rule, Sink, SinkOptions, Stage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::rig::{Rig, Setup, eventually, smarthost, with};

/// After how many octets of which direction a link is cut.
#[derive(Debug, Clone, Copy)]
struct Cut {
    to_server: usize,
    to_client: usize,
}

/// A link to a server that is cut after a number of octets until it is mended.
struct Link {
    address: SocketAddr,
    whole: Arc<AtomicBool>,
}

impl Link {
    async fn to(server: SocketAddr, cut: Cut) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("bind");
        let address = listener.local_addr().expect("an address");
        let whole = Arc::new(AtomicBool::new(false));
        let mended = whole.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let cut = if mended.load(Ordering::Relaxed) {
                    Cut { to_server: usize::MAX, to_client: usize::MAX }
                } else {
                    cut
                };
                tokio::spawn(carry(client, server, cut));
            }
        });
        Self { address, whole }
    }
}

async fn carry(client: TcpStream, server: SocketAddr, cut: Cut) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    // Whichever direction ends first takes the other with it.
    tokio::select! {
        () = pump(&mut from_client, &mut to_server, cut.to_server) => {}
        () = pump(&mut from_server, &mut to_client, cut.to_client) => {}
    }
}

async fn pump(from: &mut (impl AsyncReadExt + Unpin), to: &mut (impl AsyncWriteExt + Unpin), mut left: usize) {
    let mut buffer = [0; 4096];
    while left > 0 {
        let most = buffer.len().min(left);
        match from.read(&mut buffer[..most]).await {
            Ok(0) | Err(_) => return,
            Ok(read) => {
                left -= read;
                if to.write_all(&buffer[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn out(port: u16, more: Value) -> Value {
    let route = json!({"kind": "smarthost", "host": "127.0.0.1", "port": port, "tls": "none", "retry_s": [1],
        "fallback": [{"route": "spare"}], "failover_after_s": 0});
    with(route, more)
}

/// What a session of one message is: octets to the server and to the client.
async fn session_octets() -> (usize, usize) {
    let sink = Sink::start().await;
    let setup = Setup::bare().route("out", out(sink.port(), json!({}))).route("spare", smarthost(&sink));
    let rig = setup.rule("default", json!({"order": 1, "route": "out"})).start().await;
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
    let mail = sink.received().remove(0);
    let commands: usize = sink.commands().iter().map(|(_, command)| command.len() + 2).sum();
    drop(rig.stop().await);
    // Commands, content with its dot, and what the sink says, generously: a cut behind the end is one that never comes.
    (commands + mail.content.len() + 20, 220)
}

/// What became of a message.
#[derive(Debug)]
struct Told {
    cut: Cut,
    /// Copies that arrived by the route itself.
    main: usize,
    /// Copies that arrived by the fallback.
    spare: usize,
    /// The link died between the content and its reply.
    unknown: bool,
}

/// Sends one message over each link, mends the links, and counts what arrived.
async fn cut_and_count(cuts: &[Cut], stream: Option<&str>) -> Vec<Told> {
    let (main, spare) = (Sink::start().await, Sink::start().await);
    let mut setup = Setup::bare().route("spare", smarthost(&spare)).config(|config| {
        let careless =
            relay::StreamConfig { name: "careless".into(), priority: 2, deadline_s: None, allow_duplicates: true };
        config.streams = vec![careless];
    });
    let mut links = Vec::new();
    for (at, cut) in cuts.iter().enumerate() {
        let link = Link::to(main.address(), *cut).await;
        setup = setup.route(&format!("out{at}"), out(link.address.port(), json!({}))).rule(
            &format!("rule{at}"),
            json!({"order": 1, "route": format!("out{at}"), "recipient_domain": format!("d{at}.test")}),
        );
        links.push(link);
    }
    let rig = setup.start().await;
    let mut ids = Vec::new();
    for at in 0..cuts.len() {
        let to = format!("r@d{at}.test");
        let mut submission = rig.submission(&[&to], crate::rig::MAIL.as_bytes());
        submission.stream = stream.map(str::to_owned);
        ids.push(rig.submit(submission).await);
    }
    // Until the fate of each is settled as far as it can be while the link is cut.
    let mut fates = Vec::new();
    for id in &ids {
        let unknown = eventually("delivery, or a fate that is not known", || async {
            let view = rig.recipients(*id).await.remove(0);
            let unknown = view.cause.as_ref().is_some_and(|cause| cause.unknown_via.is_some());
            (view.state == State::Delivered || unknown && stream.is_none()).then_some(unknown)
        })
        .await;
        fates.push(unknown);
    }
    links.iter().for_each(|link| link.whole.store(true, Ordering::Relaxed));
    rig.drained().await;
    let count = |sink: &Sink, at: usize| {
        let to = format!("r@d{at}.test");
        sink.received().iter().filter(|mail| mail.to.contains(&to)).count()
    };
    let told = |(at, cut): (usize, &Cut)| Told {
        cut: *cut,
        main: count(&main, at),
        spare: count(&spare, at),
        unknown: fates[at],
    };
    let counted = cuts.iter().enumerate().map(told).collect();
    drop(rig.stop().await);
    counted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_cut_at_every_octet_loses_nothing_and_nothing_goes_by_two_routes() {
    let (to_server, to_client) = session_octets().await;
    let all: Vec<Cut> = (0..to_server)
        .map(|octets| Cut { to_server: octets, to_client: usize::MAX })
        .chain((0..to_client).map(|octets| Cut { to_server: usize::MAX, to_client: octets }))
        .collect();
    let (mut by_spare, mut again) = (0, 0);
    for some in all.chunks(200) {
        for told in cut_and_count(some, None).await {
            assert!(told.main + told.spare >= 1, "lost with the link {:?}: {told:?}", told.cut);
            assert!(told.main == 0 || told.spare == 0, "by two routes: {told:?}");
            assert!(told.main + told.spare == 1 || told.unknown, "repeated although its fate was known: {told:?}");
            by_spare += told.spare;
            again += usize::from(told.main > 1);
        }
    }
    // The same route may deliver twice what it did not confirm (RFC 1047): nobody can know better.
    assert!(by_spare > 150 && again > 0, "{by_spare} by the fallback and {again} twice of {}", all.len());
}

#[tokio::test]
async fn a_stream_that_allows_duplicates_does_not_wait_for_the_route_that_may_have_delivered() {
    let octets = session_octets().await.0;
    let cuts: Vec<Cut> = (100..220).step_by(3).map(|to_client| Cut { to_server: octets * 2, to_client }).collect();
    let counted = cut_and_count(&cuts, Some("careless")).await;
    assert!(counted.iter().all(|told| told.main + told.spare >= 1), "{counted:?}");
    assert!(counted.iter().any(|told| told.main >= 1 && told.spare == 1), "{counted:?}");
}

async fn pair(main: &Sink, spare: &Sink, more: Value) -> Rig {
    let setup = Setup::bare().route("out", out(main.port(), more)).route("spare", smarthost(spare));
    setup.rule("default", json!({"order": 1, "route": "out"})).start().await
}

#[tokio::test]
async fn the_use_of_a_fallback_is_an_event_and_a_figure_and_ends_by_itself() {
    let (main, spare) = (Sink::start().await, Sink::start().await);
    main.add(Rule::at(Stage::Connect, Act::Drop).times(2));
    let rig = pair(&main, &spare, json!({})).await;
    let id = rig.send(&["first@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
    // The first message finds the route out, the next ones probe it and go elsewhere until a probe is answered.
    let mut ids = vec![id];
    for n in 0..20 {
        let id = rig.send(&[&format!("r{n}@x.test")]).await;
        rig.becomes(id, &["delivered"]).await;
        ids.push(id);
    }
    let mut told = 0;
    for id in ids {
        for event in rig.store.events(id, 100).await.expect("events") {
            let by = event.detail.why.as_deref() == Some("by the fallback route spare instead of out");
            told += usize::from(event.kind == EventKind::Delivered && by);
        }
    }
    assert_eq!((told as u64, spare.count()), (rig.relay.status().by_fallback, rig.relay.status().by_fallback));
    assert_eq!(main.count() + spare.count(), 21);
    drop(rig.stop().await);
}

#[tokio::test]
async fn a_message_that_probed_in_vain_goes_by_the_fallback_at_once_also_when_it_is_the_only_one() {
    let unreachable = Sink::start().await;
    unreachable.add(Rule::at(Stage::Connect, Act::Drop));
    let users = vec![("u".to_owned(), "right".to_owned())];
    let locked = Sink::with(SinkOptions { users, ..SinkOptions::default() }).await;
    let account = json!({"username": "u", "auth_without_tls": true});
    for (main, more) in [(unreachable, json!({})), (locked, account)] {
        let spare = Sink::start().await;
        // Its own next attempt comes in an hour.
        let route = with(out(main.port(), more), json!({"retry_s": [3600], "failover_after_s": 1}));
        let setup =
            Setup::bare().route("spare", smarthost(&spare)).rule("default", json!({"order": 1, "route": "out"}));
        let setup = match route.get("username").is_some() {
            true => setup.secret_route(route, "wrong"),
            false => setup.route("out", route),
        };
        let rig = setup.start().await;
        let id = rig.send(&["only@x.test"]).await;
        let views = rig.becomes(id, &["delivered"]).await;
        assert_eq!(views[0].why.as_deref(), Some("by the fallback route spare instead of out"));
        assert_eq!((main.count(), spare.count()), (0, 1));
        assert!(main.connections() <= 3, "{} connections", main.connections());
        drop(rig.stop().await);
    }
}

#[tokio::test]
async fn a_used_up_quota_sends_the_rest_by_the_fallback() {
    let (main, spare) = (Sink::start().await, Sink::start().await);
    let rig = pair(&main, &spare, json!({"rates": {"per_day": 5, "reserve_percent": 0}})).await;
    for n in 0..12 {
        rig.send(&[&format!("r{n}@x.test")]).await;
    }
    rig.drained().await;
    assert_eq!((main.count(), spare.count()), (5, 7));
    drop(rig.stop().await);
}

#[tokio::test]
async fn a_refusal_is_no_outage() {
    let (main, spare) = (Sink::start().await, Sink::start().await);
    let rig = pair(&main, &spare, json!({})).await;
    let id = rig.send(&["gone+p550@x.test"]).await;
    rig.becomes(id, &["failed"]).await;
    let id = rig.send(&["later+n2@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
    assert_eq!((main.count(), spare.count()), (1, 0));
    drop(rig.stop().await);
}
