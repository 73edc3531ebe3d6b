//! Listeners on the loopback address: sessions, limits, TLS, PROXY, XCLIENT and shutdown as a client meets them.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use net::server::{Limits, ListenMode, Listener, Peer, Service, ServiceFactory};
use net::{Cidr, Clock, ServerTls};
use proto::smtp::reply::Reply;
use proto::smtp::sasl::Credentials;
use proto::smtp::server::{AuthOffer, Content, SessionFacts, Settings};
use proto::{Envelope, MailParameters, Recipient, ReversePath};
use secrecy::ExposeSecret;
use testkit::ca::Ca;
use testkit::client::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What the services of a test saw, and how they answer.
#[derive(Default)]
struct House {
    peers: Mutex<Vec<Peer>>,
    messages: Mutex<Vec<(Envelope, Vec<u8>, SessionFacts)>>,
    resets: Mutex<u32>,
    refuse: Option<Reply>,
    most_memory: Option<usize>,
    /// Messages wait for a permit.
    gate: Option<tokio::sync::Semaphore>,
}

struct Factory(Arc<House>);
struct Guest(Arc<House>);

impl ServiceFactory for Factory {
    type Service = Guest;
    fn connected(&self, peer: &Peer) -> Result<Guest, Reply> {
        self.0.peers.lock().unwrap().push(peer.clone());
        match &self.0.refuse {
            Some(reply) => Err(reply.clone()),
            None => Ok(Guest(Arc::clone(&self.0))),
        }
    }
}

impl Service for Guest {
    async fn authenticate(&mut self, credentials: Credentials, _: &Peer) -> Reply {
        match (credentials.username.as_str(), credentials.password.expose_secret()) {
            ("user", "right") => Reply::new(235, "2.7.0 welcome"),
            _ => Reply::new(535, "5.7.8 no"),
        }
    }
    async fn mail(&mut self, _: &ReversePath, _: &MailParameters, _: &SessionFacts) -> Reply {
        Reply::new(250, "2.1.0 ok")
    }
    async fn recipient(&mut self, recipient: &Recipient) -> Reply {
        match recipient.address.local_part() {
            "bad" => Reply::new(550, "5.1.1 no such user"),
            _ => Reply::new(250, "2.1.5 ok"),
        }
    }
    async fn message(&mut self, envelope: Envelope, content: Content, session: &SessionFacts, _: &Peer) -> Reply {
        if let Some(gate) = &self.0.gate {
            gate.acquire().await.unwrap().forget();
        }
        let mut messages = self.0.messages.lock().unwrap();
        messages.push((envelope, content.octets, session.clone()));
        Reply::new(250, format!("2.0.0 queued as {}", messages.len()))
    }
    fn memory(&mut self, octets: usize) -> Result<(), Reply> {
        match self.0.most_memory {
            Some(most) if octets > most => Err(Reply::new(452, "4.3.1 no memory")),
            _ => Ok(()),
        }
    }
    fn reset(&mut self) {
        *self.0.resets.lock().unwrap() += 1;
    }
}

struct Running {
    address: SocketAddr,
    house: Arc<House>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    ca: Ca,
    tls: Arc<ServerTls>,
    _dir: tempfile::TempDir,
}

async fn run(house: House, change: impl FnOnce(&mut Listener)) -> Running {
    let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
    let (certificate, key) = ca.issue(&["relay.test"]).write(dir.path());
    let mut settings = Settings::new("relay.test");
    settings.auth = AuthOffer::UnderTls;
    let tls = Arc::new(ServerTls::load(&certificate, &key, Clock::system()).unwrap());
    let mut listener = Listener {
        address: "127.0.0.1:0".parse().unwrap(),
        mode: ListenMode::StartTls,
        tls: Some(Arc::clone(&tls)),
        proxy: Vec::new(),
        xclient: Vec::new(),
        machine: Arc::new(settings),
        limits: Limits::default(),
    };
    change(&mut listener);
    let bound = listener.bind().await.unwrap();
    let (address, stop, house) = (bound.local_addr().unwrap(), CancellationToken::new(), Arc::new(house));
    let task = tokio::spawn(bound.serve(Arc::new(Factory(Arc::clone(&house))), stop.clone()));
    Running { address, house, stop, task, ca, tls, _dir: dir }
}

fn block(text: &str) -> Vec<Cidr> {
    vec![text.parse().unwrap()]
}

/// Gives the server's tasks the time to notice a closed connection.
async fn until(mut condition: impl AsyncFnMut() -> bool) {
    tokio::time::timeout(Duration::from_secs(30), async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("condition never came true");
}

#[tokio::test]
async fn a_message_arrives_with_its_envelope_and_who_sent_it() {
    let server = run(House::default(), |_| {}).await;
    let mut client = Client::connect(server.address).await;
    client.ehlo().await.expect(250);
    let mut client = client.start_tls("relay.test", &server.ca).await;
    client.ehlo().await.expect(250);
    client.auth_plain("user", "wrong").await.expect(535);
    client.auth_plain("user", "right").await.expect(235);
    let answer = client.submit("from@client.test", &["a@x.test", "b@x.test"], "Subject: x\r\n\r\n.dot\r\n").await;
    assert_eq!(answer.expect(250).text(), "2.0.0 queued as 1");
    client.quit().await;
    let messages = server.house.messages.lock().unwrap();
    let (envelope, content, session) = &messages[0];
    assert_eq!(envelope.recipients.len(), 2);
    assert_eq!(String::from_utf8_lossy(content), "Subject: x\r\n\r\n.dot\r\n");
    assert_eq!(session.authenticated.as_deref(), Some("user"));
    assert!(session.tls);
}

#[tokio::test]
async fn a_pipelined_batch_is_answered_in_one_write() {
    let server = run(House::default(), |_| {}).await;
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let mut buffer = vec![0; 64 * 1024];
    let greeting = stream.read(&mut buffer).await.unwrap();
    assert!(buffer[..greeting].starts_with(b"220 relay.test ESMTP"));
    let batch = "EHLO me\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nRCPT TO:<bad@x.test>\r\nDATA\r\n";
    stream.write_all(batch.as_bytes()).await.unwrap();
    let count = stream.read(&mut buffer).await.unwrap();
    let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
    let codes: Vec<&str> = text.lines().filter(|line| &line[3..4] == " ").map(|line| &line[..3]).collect();
    assert_eq!(codes, ["250", "250", "250", "550", "354"]);
    stream.write_all(b"x\r\n.\r\nMAIL FROM:<a@x.test>\r\nRSET\r\nQUIT\r\n").await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    let codes: Vec<&str> = rest.lines().map(|line| &line[..3]).collect();
    assert_eq!(codes, ["250", "250", "250", "221"]);
    until(async || *server.house.resets.lock().unwrap() == 2).await;
}

#[tokio::test]
async fn commands_before_the_handshake_are_never_run_inside_it() {
    let server = run(House::default(), |_| {}).await;
    let mut client = Client::connect(server.address).await;
    client.ehlo().await.expect(250);
    client.send_raw(b"STARTTLS\r\nMAIL FROM:<evil@x.test>\r\n").await.unwrap();
    client.reply().await.expect(503);
    assert_eq!(client.drain().await, b"");

    // Sent after the 220, in place of a handshake.
    let mut client = Client::connect(server.address).await;
    client.ehlo().await.expect(250);
    client.command("STARTTLS").await.expect(220);
    client.send_raw(b"MAIL FROM:<evil@x.test>\r\n").await.unwrap();
    assert!(!client.drain().await.windows(4).any(|four| four == b"250 "));

    // What was said before is forgotten.
    let mut client = Client::connect(server.address).await;
    client.ehlo().await.expect(250);
    client.command("MAIL FROM:<a@x.test>").await.expect(250);
    client.command("STARTTLS").await.expect(220);
    let mut client = client.secure("relay.test", &server.ca).await.unwrap();
    client.command("RCPT TO:<b@x.test>").await.expect(503);
    client.command("MAIL FROM:<a@x.test>").await.expect(503);
}

#[tokio::test]
async fn implicit_tls_and_plain_offer_no_starttls() {
    let server = run(House::default(), |listener| listener.mode = ListenMode::Implicit).await;
    let mut client = Client::connect_tls(server.address, "relay.test", &server.ca).await;
    let answer = client.ehlo().await.expect(250);
    assert!(!answer.offers("STARTTLS") && answer.offers("AUTH"));
    assert!(server.house.peers.lock().unwrap()[0].tls.as_ref().is_some_and(|tls| tls.starts_with("TLSv1.3")));

    let server = run(House::default(), |listener| listener.mode = ListenMode::Plain).await;
    let answer = Client::connect(server.address).await.ehlo().await.expect(250);
    assert!(!answer.offers("STARTTLS") && !answer.offers("AUTH"));
}

#[tokio::test]
async fn tls_without_a_certificate_does_not_start() {
    let listener = Listener {
        address: "127.0.0.1:0".parse().unwrap(),
        mode: ListenMode::Implicit,
        tls: None,
        proxy: Vec::new(),
        xclient: Vec::new(),
        machine: Arc::new(Settings::new("relay.test")),
        limits: Limits::default(),
    };
    assert!(listener.bind().await.is_err());
}

#[tokio::test]
async fn one_address_and_all_together_have_a_limit_and_places_come_back() {
    for (per_address, total) in [(2, 100), (100, 2)] {
        let server = run(House::default(), |listener| {
            listener.limits.per_address = per_address;
            listener.limits.total = total;
        })
        .await;
        let first = Client::connect(server.address).await;
        let _second = Client::connect(server.address).await;
        let mut third = Client::raw(server.address).await.unwrap();
        third.reply().await.expect(421);
        assert_eq!(third.drain().await, b"");
        drop(third);
        first.quit().await;
        until(async || {
            let mut next = Client::raw(server.address).await.unwrap();
            next.reply().await.code == 220
        })
        .await;
    }
}

#[tokio::test]
async fn a_refused_client_is_told_why() {
    let house = House { refuse: Some(Reply::new(554, "5.7.1 not from there")), ..House::default() };
    let server = run(house, |_| {}).await;
    let mut client = Client::raw(server.address).await.unwrap();
    client.reply().await.expect(554);
    assert_eq!(client.drain().await, b"");
}

fn proxy_header(command: u8) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, 0x11, 0, 12, 203, 0, 113, 9, 198, 51, 100, 1, 0x1f, 0x90, 0, 25]);
    header
}

#[tokio::test]
async fn proxy_is_believed_from_listed_peers_and_demanded_of_them() {
    let server = run(House::default(), |listener| listener.proxy = block("127.0.0.0/8")).await;
    let mut client = Client::raw(server.address).await.unwrap();
    let mut early = proxy_header(0x21);
    early.extend(b"EHLO me\r\n");
    client.send_raw(&early).await.unwrap();
    client.reply().await.expect(220);
    client.reply().await.expect(250);
    let peer = server.house.peers.lock().unwrap()[0].clone();
    assert_eq!(peer.address, "203.0.113.9:8080".parse().unwrap());
    assert_eq!(peer.local, "198.51.100.1:25".parse().unwrap());
    assert!(peer.via.is_some_and(|via| via.ip().is_loopback()));

    let mut check = Client::raw(server.address).await.unwrap();
    check.send_raw(&proxy_header(0x20)).await.unwrap();
    check.reply().await.expect(220);
    assert!(server.house.peers.lock().unwrap()[1].address.ip().is_loopback());

    let mut missing = Client::raw(server.address).await.unwrap();
    missing.send_raw(b"EHLO client.example\r\n").await.unwrap();
    assert_eq!(missing.drain().await, b"");
    assert_eq!(server.house.peers.lock().unwrap().len(), 2);

    let server = run(House::default(), |listener| listener.proxy = block("192.0.2.0/24")).await;
    let mut spoof = Client::connect(server.address).await;
    spoof.send_raw(&proxy_header(0x21)).await.unwrap();
    assert!(spoof.reply().await.code >= 500);
    assert!(server.house.peers.lock().unwrap()[0].address.ip().is_loopback());
}

#[tokio::test]
async fn proxy_comes_before_implicit_tls() {
    let server = run(House::default(), |listener| {
        listener.mode = ListenMode::Implicit;
        listener.proxy = block("127.0.0.1");
    })
    .await;
    let mut client = Client::raw(server.address).await.unwrap();
    client.send_raw(&proxy_header(0x21)).await.unwrap();
    let mut client = client.secure("relay.test", &server.ca).await.unwrap();
    client.reply().await.expect(220);
    assert_eq!(server.house.peers.lock().unwrap()[0].address.ip().to_string(), "203.0.113.9");
}

#[tokio::test]
async fn xclient_is_for_listed_peers_only() {
    let server = run(House::default(), |listener| listener.xclient = block("127.0.0.1")).await;
    let mut client = Client::connect(server.address).await;
    assert!(client.ehlo().await.offers("XCLIENT"));
    client.command("XCLIENT ADDR=192.0.2.77 PORT=99 LOGIN=admin").await.expect(220);
    client.ehlo().await.expect(250);
    client.submit("a@x.test", &["b@x.test"], "x\r\n").await.expect(250);
    assert_eq!(server.house.peers.lock().unwrap()[1].address, "192.0.2.77:99".parse().unwrap());
    assert_eq!(server.house.messages.lock().unwrap()[0].2.authenticated, None, "LOGIN proves nothing");

    let server = run(House::default(), |listener| listener.xclient = block("192.0.2.0/24")).await;
    let mut client = Client::connect(server.address).await;
    assert!(!client.ehlo().await.offers("XCLIENT"));
    client.command("XCLIENT ADDR=192.0.2.77").await.expect(550);
    assert_eq!(server.house.peers.lock().unwrap().len(), 1);

    // A client behind a trusted proxy is not the trusted proxy.
    let server = run(House::default(), |listener| {
        listener.xclient = block("127.0.0.1");
        listener.proxy = block("127.0.0.1");
    })
    .await;
    let mut client = Client::raw(server.address).await.unwrap();
    client.send_raw(&proxy_header(0x21)).await.unwrap();
    client.reply().await.expect(220);
    assert!(!client.ehlo().await.offers("XCLIENT"));
}

#[tokio::test]
async fn content_that_is_too_much_for_memory_is_refused_and_the_session_goes_on() {
    let house = House { most_memory: Some(100_000), ..House::default() };
    let server = run(house, |_| {}).await;
    let mut client = Client::connect(server.address).await;
    client.ehlo().await.expect(250);
    let large = "a line of some content\r\n".repeat(100_000);
    client.submit("a@x.test", &["b@x.test"], &large).await.expect(452);
    client.submit("a@x.test", &["b@x.test"], "x\r\n").await.expect(250);
    assert_eq!(server.house.messages.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_large_message_arrives_whole() {
    let server = run(House::default(), |_| {}).await;
    let mut client = Client::connect(server.address).await;
    client.ehlo().await.expect(250);
    let large = "some content\r\n..and dots\r\n".repeat(200_000);
    client.submit("a@x.test", &["b@x.test"], &large).await.expect(250);
    assert!(server.house.messages.lock().unwrap()[0].1 == large.as_bytes());
}

#[tokio::test]
async fn silence_ends_a_session_with_421() {
    let server = run(House::default(), |_| {}).await;
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let mut greeting = [0; 10];
    stream.read_exact(&mut greeting).await.unwrap();
    tokio::time::pause();
    let mut farewell = String::new();
    stream.read_to_string(&mut farewell).await.unwrap();
    assert!(farewell.lines().last().unwrap().starts_with("421 4.4.2"), "{farewell}");
}

#[tokio::test]
async fn a_dripped_command_and_a_dripped_content_are_cut_off() {
    for content in [false, true] {
        let server = run(House::default(), |_| {}).await;
        let mut client = Client::connect(server.address).await;
        client.ehlo().await.expect(250);
        if content {
            client.command("MAIL FROM:<a@x.test>").await.expect(250);
            client.command("RCPT TO:<b@x.test>").await.expect(250);
            client.command("DATA").await.expect(354);
        }
        let mut drips = 0;
        tokio::time::pause();
        while drips < 60 && client.send_raw(b"x").await.is_ok() {
            drips += 1;
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
        tokio::time::resume();
        let farewell = client.try_reply().await;
        // A write after the close may have reset the connection, and the reply with it.
        assert!(farewell.map_or(true, |reply| reply.code == 421));
        assert!(drips < 30, "{drips}");
        assert!(server.house.messages.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn shutdown_ends_idle_sessions_at_once_and_lets_a_transaction_finish() {
    let house = House { gate: Some(tokio::sync::Semaphore::new(0)), ..House::default() };
    let server = run(house, |_| {}).await;
    let mut idle = Client::connect(server.address).await;
    idle.ehlo().await.expect(250);
    let mut open = Client::connect(server.address).await;
    open.ehlo().await.expect(250);
    open.command("MAIL FROM:<a@x.test>").await.expect(250);
    let mut deep = Client::connect(server.address).await;
    deep.ehlo().await.expect(250);
    for command in ["MAIL FROM:<a@x.test>", "RCPT TO:<b@x.test>", "DATA"] {
        deep.command(command).await;
    }
    deep.send_raw(b"x\r\n.\r\n").await.unwrap();

    server.stop.cancel();
    idle.reply().await.expect(421);
    assert_eq!(idle.drain().await, b"");
    server.house.gate.as_ref().unwrap().add_permits(2);
    deep.reply().await.expect(250);
    deep.reply().await.expect(421);
    open.command("RCPT TO:<b@x.test>").await.expect(250);
    open.command("DATA").await.expect(354);
    open.send_raw(b"x\r\n.\r\n").await.unwrap();
    open.reply().await.expect(250);
    open.reply().await.expect(421);
    drop((idle, open, deep));
    tokio::time::timeout(Duration::from_secs(30), server.task).await.expect("sessions joined").unwrap();
    assert!(Client::raw(server.address).await.is_err(), "nobody listens any more");
    assert_eq!(server.house.messages.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn shutdown_does_not_wait_for_ever() {
    let server = run(House::default(), |_| {}).await;
    let mut client = Client::connect(server.address).await;
    client.ehlo().await.expect(250);
    client.command("MAIL FROM:<a@x.test>").await.expect(250);
    tokio::time::pause();
    server.stop.cancel();
    tokio::time::timeout(Duration::from_secs(70), server.task).await.expect("the grace ends").unwrap();
}

#[tokio::test]
async fn a_new_certificate_is_used_for_new_connections() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (Ca::new(), Ca::new());
    let (certificate, key) = old.issue(&["relay.test"]).write(dir.path());
    let tls = Arc::new(ServerTls::load(&certificate, &key, Clock::system()).unwrap());
    let shared = Arc::clone(&tls);
    let server = run(House::default(), |listener| {
        listener.mode = ListenMode::Implicit;
        listener.tls = Some(shared);
    })
    .await;
    let mut before = Client::connect_tls(server.address, "relay.test", &old).await;
    assert!(!tls.reload_if_changed().unwrap());
    new.issue(&["relay.test", "mail.relay.test"]).write(dir.path());
    assert!(tls.reload_if_changed().unwrap());
    Client::connect_tls(server.address, "relay.test", &new).await.ehlo().await.expect(250);
    before.ehlo().await.expect(250);

    // A broken file changes nothing.
    std::fs::write(&key, "no key").unwrap();
    assert!(tls.reload().is_err());
    Client::connect_tls(server.address, "relay.test", &new).await.ehlo().await.expect(250);
}

#[tokio::test]
async fn a_tls_session_of_one_listener_is_not_resumed_on_another() {
    let first = run(House::default(), |listener| listener.mode = ListenMode::Implicit).await;
    let certificate = Arc::clone(&first.tls);
    let second = run(House::default(), |listener| {
        listener.mode = ListenMode::Implicit;
        listener.tls = Some(certificate);
    })
    .await;
    let connector = tokio_rustls::TlsConnector::from(first.ca.client_config());
    let mut kinds = Vec::new();
    for address in [first.address, first.address, second.address] {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let mut stream = connector.connect("relay.test".try_into().unwrap(), stream).await.unwrap();
        // The ticket comes with or before the greeting.
        stream.read_exact(&mut [0; 4]).await.unwrap();
        kinds.push(stream.get_ref().1.handshake_kind().unwrap());
    }
    use rustls::HandshakeKind::{Full, Resumed};
    assert_eq!(kinds, [Full, Resumed, Full]);
}
