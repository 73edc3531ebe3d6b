//! Requests to web servers that answer, lie, hang, point elsewhere, or are not where their name said a moment ago.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use net::address::is_public;
use net::https::{Ending, FetchError, Link, Outgoing, Patience, Scheme, Target};
use net::{ClientTls, Clock, Net, Resolver, ResolverSettings, Roots};
use testkit::ca::Ca;
use testkit::web::{Page, Web};
use testkit::zones::{RecordType, Zones};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const LIMIT: Duration = Duration::from_secs(5);
const PATIENCE: Patience = Patience { limit: LIMIT, body: 100 };
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 9);
const POST: Outgoing<'_> = Outgoing { method: "POST", fields: &[], body: Some(b"hello") };

fn net(zones: &Zones, ca: &Ca) -> Net {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("roots.pem");
    std::fs::write(&path, ca.pem()).unwrap();
    let settings = ResolverSettings { servers: vec![zones.address()], ..ResolverSettings::default() };
    Net {
        clock: Clock::system(),
        resolver: Resolver::new(settings).unwrap(),
        tls: ClientTls::new(&Roots::Pem(path), Clock::system()).unwrap(),
    }
}

/// A server in the clear that answers each request of a connection with the next of these, and counts connections.
async fn plain(answers: &'static [&'static str]) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut octets = vec![0; 4096];
                for answer in answers {
                    if !matches!(socket.read(&mut octets).await, Ok(1..)) {
                        return;
                    }
                    let _ = socket.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    (address, count)
}

fn http(host: &str) -> Target {
    Target { scheme: Scheme::Http, host: host.into(), port: 80, path: "/hook".into() }
}

#[tokio::test]
async fn addresses_are_checked_after_they_were_looked_up_and_not_looked_up_again() {
    let (zones, ca) = (Zones::start().await, Ca::new());
    let (inside, reached) = plain(&["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]).await;
    let (outside, _) = plain(&["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"; 3]).await;
    zones.address_of("hook.test", OUTSIDE.into());
    // Stands for the world: the public address is there, a private one would be this machine.
    let peer = |ip: IpAddr| is_public(ip).then_some(if ip == IpAddr::V4(OUTSIDE) { outside } else { inside });
    let target = http("hook.test");
    // A resolver for each: what a cache keeps would hide the change.
    let mut link = Link::open(&net(&zones, &ca), &target, LIMIT, &peer).await.unwrap();
    assert_eq!((link.peer, zones.queries("hook.test", RecordType::A)), (outside, 1));
    zones.remove("hook.test").address_of("hook.test", Ipv4Addr::LOCALHOST.into());
    for _ in 0..2 {
        assert_eq!(link.ask(&target, POST, PATIENCE).await.unwrap().status, 200);
    }
    assert_eq!(zones.queries("hook.test", RecordType::A), 1, "the connection is pinned");
    let again = Link::open(&net(&zones, &ca), &target, LIMIT, &peer).await.map(|link| link.peer);
    assert_eq!(again, Err(FetchError::Private));
    // An address instead of a name passes the same gate, in every dress.
    for host in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "169.254.169.254", "0.0.0.0"] {
        let refused = Link::open(&net(&zones, &ca), &http(host), LIMIT, &peer).await.map(|link| link.peer);
        assert_eq!(refused, Err(FetchError::Private), "{host}");
    }
    assert_eq!(reached.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_connection_is_used_again_unless_the_server_closes_or_lies() {
    let (zones, ca) = (Zones::start().await, Ca::new());
    zones.loopback("hook.test");
    let net = net(&zones, &ca);
    let target = http("hook.test");
    for (answers, fresh) in [
        (&["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 204 No Content\r\n\r\n"] as &'static [_], true),
        (&["HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"], false),
        (&["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more"], false),
        (&["HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n"], false),
    ] {
        let (address, count) = plain(answers).await;
        let mut link = Link::open(&net, &target, LIMIT, &|_| Some(address)).await.unwrap();
        let first = link.ask(&target, POST, PATIENCE).await.unwrap();
        assert!(matches!(first.status, 200 | 302), "a redirect is an answer like others");
        assert_eq!((link.is_fresh(LIMIT), link.is_used()), (fresh, true), "{answers:?}");
        if fresh {
            assert_eq!(link.ask(&target, POST, PATIENCE).await.unwrap().status, 204);
            assert_eq!(link.ask(&target, POST, PATIENCE).await, Err(FetchError::Closed));
        }
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn an_endless_or_dripping_answer_ends_in_time_and_room() {
    let (zones, ca) = (Zones::start().await, Ca::new());
    zones.loopback("hook.test");
    let net = net(&zones, &ca);
    let target = http("hook.test");
    for (head, drip, expected) in [
        ("HTTP/1.1 200 OK\r\n\r\n", "0123456789".repeat(10_000), Ok((200, Ending::Cut))),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n",
            "x".into(),
            Ok((200, Ending::Broken("a body that did not end in time"))),
        ),
        ("HTTP/1.1 200 OK\r\n", "X".into(), Err(FetchError::Timeout)),
        ("", "HTTP/1.1 ".into(), Err(FetchError::Timeout)),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.write_all(head.as_bytes()).await;
            let endless = drip.len() > 100;
            while socket.write_all(drip.as_bytes()).await.is_ok() {
                if !endless {
                    return std::future::pending::<()>().await;
                }
            }
        });
        let mut link = Link::open(&net, &target, LIMIT, &|_| Some(address)).await.unwrap();
        let patience = Patience { limit: Duration::from_millis(500), body: 100 };
        let answer = link.ask(&target, POST, patience).await.map(|response| (response.status, response.ending));
        assert_eq!(answer, expected, "{head}");
        server.abort();
    }
}

#[tokio::test]
async fn certificates_are_checked_and_the_host_is_named() {
    let (zones, ca) = (Zones::start().await, Ca::new());
    zones.loopback("hook.test").loopback("other.test");
    let net = net(&zones, &ca);
    let web =
        Web::start(&ca.issue(&["hook.test"]), Page::Raw("HTTP/1.1 500 Oh\r\nContent-Length: 3\r\n\r\nno!".into()))
            .await;
    let peer = |_| Some(web.address());
    let target = Target { port: 8443, ..Target::https("hook.test", "/a?b=c") };
    let mut link = Link::open(&net, &target, LIMIT, &peer).await.unwrap();
    let request = Outgoing { fields: &[("Content-Type", "application/json")], ..POST };
    let response = link.ask(&target, request, PATIENCE).await.unwrap();
    assert_eq!((response.in_words().as_str(), response.body.as_slice()), ("status 500 Oh", b"no!".as_slice()));
    let asked = web.asked();
    assert_eq!((asked[0].line.as_str(), asked[0].body.as_slice()), ("POST /a?b=c HTTP/1.1", b"hello".as_slice()));
    assert!(asked[0].head.contains("Host: hook.test:8443\r\n"), "{}", asked[0].head);
    let other = Link::open(&net, &Target::https("other.test", "/"), LIMIT, &peer).await.map(|link| link.peer);
    assert!(matches!(other, Err(FetchError::Tls(_))), "{other:?}");
}
