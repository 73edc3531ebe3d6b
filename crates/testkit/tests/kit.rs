//! The kit itself: a sink that keeps what it is sent, a client, zones, and the arithmetic of loss.

use std::time::Duration;

use testkit::ledger::{self, Entry};
use testkit::{Act, Ca, Client, Extensions, Load, LoadPlan, LoadReport, Rule, Sink, SinkOptions, Stage, Tls, Zones};
use testkit::{Daemon, DaemonPlan, Trouble, reconcile};

const PATIENCE: Duration = Duration::from_secs(20);
const MAIL: &str = "Subject: hi\r\n\r\n.dot\r\nlast\r\n";

#[tokio::test]
async fn a_message_arrives_as_it_was_sent() {
    let sink = Sink::start().await;
    let mut client = Client::connect(sink.address()).await;
    assert!(client.ehlo().await.offers("PIPELINING"));
    client.submit("a@b.test", &["x@y.test", "z@y.test"], MAIL).await.expect(250);
    client.quit().await;
    let received = sink.wait_for(1, PATIENCE).await;
    assert_eq!(received[0].from, "a@b.test");
    assert_eq!(received[0].to, ["x@y.test", "z@y.test"]);
    assert_eq!(received[0].text(), MAIL);
    assert_eq!(received[0].header("subject").as_deref(), Some("hi"));
    assert_eq!(sink.connections(), 1);
}

#[tokio::test]
async fn tags_in_addresses_refuse() {
    let sink = Sink::start().await;
    let mut client = Client::connect(sink.address()).await;
    client.ehlo().await;
    client.submit("a@b.test", &["x+p550@y.test"], MAIL).await.expect(550);
    client.command("RSET").await.expect(250);
    for code in [451, 451, 250] {
        client.submit("a@b.test", &["x+n2@y.test"], MAIL).await.expect(code);
        client.command("RSET").await.expect(250);
    }
    client.submit("a@b.test", &["x+d554@y.test"], MAIL).await.expect(554);
    assert_eq!(sink.count(), 1);
}

#[tokio::test]
async fn tls_and_auth_both_ways() {
    let ca = Ca::new();
    let issued = ca.issue(&["sink.test"]);
    for tls in [Tls::StartTls(issued.clone()), Tls::Implicit(issued)] {
        let implicit = matches!(tls, Tls::Implicit(_));
        let options = SinkOptions { tls, users: vec![("u".into(), "p".into())], ..SinkOptions::default() };
        let sink = Sink::with(options).await;
        let mut client = if implicit {
            Client::connect_tls(sink.address(), "sink.test", &ca).await
        } else {
            let mut client = Client::connect(sink.address()).await;
            client.ehlo().await;
            client.start_tls("sink.test", &ca).await
        };
        client.ehlo().await;
        client.command("MAIL FROM:<>").await.expect(530);
        client.auth_plain("u", "wrong").await.expect(535);
        client.auth_login("u", "p").await.expect(235);
        client.submit("", &["x@y.test"], MAIL).await.expect(250);
        assert!(sink.received()[0].tls);
        assert_eq!(sink.received()[0].user.as_deref(), Some("u"));
    }
}

#[tokio::test]
async fn rules_hang_drop_and_stop_counting() {
    let sink = Sink::start().await;
    sink.add(Rule::reply(Stage::Mail, "421 4.3.2 closing").times(1)).add(Rule::at(Stage::Message, Act::Hang).times(1));
    sink.add(Rule::at(Stage::Message, Act::AcceptThenDrop));
    let mut client = Client::connect(sink.address()).await;
    client.ehlo().await;
    client.submit("a@b.test", &["x@y.test"], MAIL).await.expect(421);
    let submit = tokio::spawn(async move {
        let answer = client.submit("a@b.test", &["x@y.test"], MAIL).await;
        (client, answer)
    });
    assert!(sink.wait_until(PATIENCE, |sink| sink.hanging() == 1).await);
    assert_eq!(sink.count(), 0);
    sink.release();
    let (mut client, answer) = submit.await.unwrap();
    answer.expect(250);
    assert!(client.try_submit("a@b.test", &["x@y.test"], MAIL).await.is_err());
    assert_eq!(sink.count(), 2);
}

#[tokio::test]
async fn a_stopped_sink_comes_back_at_its_address() {
    let options = SinkOptions { extensions: Extensions::none(), ..SinkOptions::default() };
    let sink = Sink::with(options.clone()).await;
    let mut client = Client::connect(sink.address()).await;
    let address = sink.stop().await;
    assert!(client.drain().await.is_empty());
    assert!(Client::raw(address).await.is_err());
    let sink = Sink::with(SinkOptions { address: Some(address), ..options }).await;
    assert!(!Client::connect(sink.address()).await.ehlo().await.offers("PIPELINING"));
}

#[tokio::test]
async fn a_load_against_a_sink_that_forgets_nothing_reconciles() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let sink = Sink::with(SinkOptions { ledger: Some(path.clone()), ..SinkOptions::default() }).await;
    sink.add(Rule::reply(Stage::Message, "451 4.3.0 later").times(3));
    sink.add(Rule::at(Stage::Message, Act::AcceptThenDrop).times(2));
    let plan = LoadPlan { messages: Some(40), recipients: 2, per_connection: Some(7), ..LoadPlan::new(sink.address()) };
    let report = Load::start(plan).finish().await;
    assert_eq!((report.acknowledged.len(), report.refused.len(), report.unknown.len()), (35, 3, 2));
    assert_eq!(report.codes.get(&451), Some(&3));
    let result = reconcile(&report, &ledger::read(&path));
    assert_eq!((result.delivered, result.lost.len(), result.ghosts.len(), result.duplicates.len()), (70, 0, 0, 0));
}

#[test]
fn loss_ghosts_and_duplicates_are_seen() {
    let to = |name: &str| vec![name.to_owned()];
    let report = LoadReport {
        acknowledged: [("kept".to_owned(), to("a")), ("lost".to_owned(), to("b"))].into(),
        refused: [("ghost".to_owned(), to("c"))].into(),
        unknown: [("maybe".to_owned(), to("d"))].into(),
        ..LoadReport::default()
    };
    let entry = |id: &str, name: &str| Entry { id: id.to_owned(), to: to(name) };
    let deliveries = [entry("kept", "a"), entry("kept", "a"), entry("ghost", "c"), entry("alien", "z")];
    let result = reconcile(&report, &deliveries);
    let pair = |id: &str, name: &str| vec![(id.to_owned(), name.to_owned())];
    assert_eq!(result.lost, pair("lost", "b"));
    assert_eq!(result.ghosts, pair("ghost", "c"));
    assert_eq!(result.duplicates, pair("kept", "a"));
    assert_eq!(result.strangers, pair("alien", "z"));
}

#[tokio::test]
async fn zones_answer_over_udp_and_tcp() {
    use hickory_server::proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
    use hickory_server::proto::rr::{Name, RecordType};
    use hickory_server::proto::serialize::binary::{BinDecodable, BinEncodable};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let zones = Zones::start().await;
    zones.mx("dest.test", 10, "mx.dest.test").loopback("mx.dest.test").cname("www.dest.test", "mx.dest.test");
    zones.fail("broken.test", Trouble::ServFail).mx("null.test", 0, ".").empty("bare.test");
    let cases = [
        ("dest.test.", RecordType::MX, ResponseCode::NoError, 1),
        ("DEST.test.", RecordType::A, ResponseCode::NoError, 0),
        ("www.dest.test.", RecordType::A, ResponseCode::NoError, 2),
        ("null.test.", RecordType::MX, ResponseCode::NoError, 1),
        ("bare.test.", RecordType::A, ResponseCode::NoError, 0),
        ("nowhere.test.", RecordType::A, ResponseCode::NXDomain, 0),
        ("broken.test.", RecordType::A, ResponseCode::ServFail, 0),
    ];
    for (name, kind, code, answers) in cases {
        let mut query = Message::new(7, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        let octets = query.to_bytes().unwrap();
        let udp = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        udp.send_to(&octets, zones.address()).await.unwrap();
        let mut buffer = [0; 1500];
        let length = udp.recv(&mut buffer).await.unwrap();
        let reply = Message::from_bytes(&buffer[..length]).unwrap();
        assert_eq!((reply.metadata.response_code, reply.answers.len()), (code, answers), "{name} {kind}");
        let mut tcp = tokio::net::TcpStream::connect(zones.address()).await.unwrap();
        tcp.write_u16(u16::try_from(octets.len()).unwrap()).await.unwrap();
        tcp.write_all(&octets).await.unwrap();
        let mut again = vec![0; usize::from(tcp.read_u16().await.unwrap())];
        tcp.read_exact(&mut again).await.unwrap();
        assert_eq!(Message::from_bytes(&again).unwrap().answers.len(), answers, "{name} {kind} over TCP");
    }
    assert_eq!(zones.queries("dest.test", RecordType::MX), 2);
}

#[test]
fn a_process_is_started_watched_and_stopped() {
    let script = "trap 'echo bye; exit 3' TERM; echo ready now; while :; do sleep 0.01; done";
    let plan = DaemonPlan::new("/bin/sh", "ready").arg("-c").arg(script);
    let mut daemon = Daemon::start(&plan);
    assert_eq!(daemon.ready_line, "ready now");
    assert!(daemon.is_running());
    assert_eq!(daemon.terminate(PATIENCE).and_then(|status| status.code()), Some(3));
    assert!(daemon.wait_output("bye", PATIENCE).is_some());
    let mut daemon = Daemon::start(&plan);
    daemon.kill9();
    assert!(!daemon.is_running());
    let silent = DaemonPlan::new("/bin/sh", "ready").arg("-c").arg("echo wrong; exit 1");
    assert!(Daemon::try_start(&silent).is_err_and(|output| output.contains("wrong")));
}
