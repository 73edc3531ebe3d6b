//! Broken servers: the stage, the reason and the way out that the probe names.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod rig;

use std::time::Duration;

use diagnose::check::{Auth, Message, Outcome, Plan, Report, SIGNS, Target, Tls};
use explain::{Reason, ResultWord, RuleBase};
use proto::transcript::Stage;
use rig::{Deaf, LOCAL, Scripted, closed_port, net, outcome, plan, run, signs, value};
use testkit::ca::{Ca, Validity};
use testkit::sink::{Act, Rule, Sink, SinkOptions, Stage as At, Tls as SinkTls};
use testkit::zones::{Trouble, Zones};

async fn scripted(entries: &[(&str, &str)], change: impl FnOnce(&mut Plan)) -> Report {
    let server = Scripted::start(entries).await;
    let mut plan = plan(server.port, Tls::None);
    change(&mut plan);
    run(&net(None, None), &plan).await
}

fn assert_failed(report: &Report, stage: Stage, reason: Reason) {
    assert_eq!((report.failed_at, report.reason), (Some(stage), reason), "{:#?}", report.findings);
    assert!(!report.healthy && report.owner.is_some());
}

const EHLO: (&str, &str) = ("EHLO", "250-mx.test\r\n250 SIZE 1000000\r\n");

#[test]
fn every_sign_has_a_rule_and_words() {
    let rules = RuleBase::builtin();
    let missing: Vec<_> = SIGNS.iter().filter(|kind| !rules.signs().any(|known| known == **kind)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[tokio::test]
async fn names_that_lead_nowhere_are_told_apart() {
    let zones = Zones::start().await;
    zones.empty("empty.test").mx("null.test", 0, ".").fail("broken.test", Trouble::ServFail);
    for (host, reason) in [
        ("missing.test", Reason::HostUnknown),
        ("not a name", Reason::HostUnknown),
        ("empty.test", Reason::NoAddress),
        ("null.test", Reason::NullMx),
        ("broken.test", Reason::DnsFailure),
    ] {
        let mut plan = plan(25, Tls::None);
        plan.target = Target { host: host.into(), port: Some(25) };
        plan.connect_to = None;
        let report = run(&net(None, Some(&zones)), &plan).await;
        assert_failed(&report, Stage::Dns, reason);
        assert_eq!(outcome(&report, Stage::Tcp), Outcome::NotReached, "{host}");
    }
}

#[tokio::test]
async fn a_slip_of_typing_is_named_only_when_the_host_fails() {
    let zones = Zones::start().await;
    let mut plan = plan(587, Tls::Auto);
    plan.target = Target { host: "smtp.gmial.com".into(), port: Some(587) };
    plan.connect_to = None;
    let report = run(&net(None, Some(&zones)), &plan).await;
    assert_eq!(value(&report, "host_probably_meant", "meant"), "smtp.gmail.com");
    assert_failed(&report, Stage::Dns, Reason::HostUnknown);
}

#[tokio::test]
async fn a_closed_port_leads_to_the_port_that_works() {
    let sink = Sink::start().await;
    let mut plan = plan(closed_port().await, Tls::Auto);
    plan.siblings = vec![(closed_port().await, Tls::StartTls), (sink.port(), Tls::StartTls)];
    let report = run(&net(None, None), &plan).await;
    assert_failed(&report, Stage::Tcp, Reason::ConnectionRefused);
    assert_eq!(report.result, ResultWord::ConnectionFailed);
    let way = report.working.expect("a way");
    assert_eq!((way.port, way.tls), (sink.port(), "none"));
    assert!(sink.commands().iter().all(|(_, line)| line.starts_with("EHLO")), "a look says nothing but EHLO");

    plan.explore = false;
    let report = run(&net(None, None), &plan).await;
    assert!(report.working.is_none() && report.findings.len() == 1);
}

#[tokio::test]
async fn a_host_without_any_mail_port_is_said_to_have_none() {
    let mut plan = plan(closed_port().await, Tls::Auto);
    plan.siblings = vec![(closed_port().await, Tls::StartTls)];
    let report = run(&net(None, None), &plan).await;
    assert_failed(&report, Stage::Tcp, Reason::ConnectionRefused);
    assert_eq!(signs(&report), ["no_port_answers"]);
}

#[tokio::test]
async fn an_address_that_fails_beside_one_that_works_is_a_warning() {
    let zones = Zones::start().await;
    let sink = Sink::start().await;
    zones.loopback("mx.test").address_of("mx.test", "127.0.0.77".parse().unwrap());
    zones.loopback("six.test").address_of("six.test", "::1".parse().unwrap());
    for (host, kinds) in [("mx.test", &["address_fails"][..]), ("six.test", &["family_fails", "family_not_here"][..])] {
        let mut plan = plan(sink.port(), Tls::None);
        plan.target.host = host.into();
        plan.connect_to = None;
        let report = run(&net(None, Some(&zones)), &plan).await;
        assert!(report.healthy, "{host}");
        let found = signs(&report);
        assert!(found.len() == 1 && kinds.contains(&found[0]), "{host}: {found:?}");
        assert_eq!(value(&report, found[0], "works"), "127.0.0.1");
    }
}

#[tokio::test]
async fn a_first_mail_host_that_is_down_is_told_while_the_second_is_probed() {
    let zones = Zones::start().await;
    let sink = Sink::start().await;
    zones.mx("domain.test", 10, "down.test").mx("domain.test", 20, "up.test");
    zones.address_of("down.test", "127.0.0.78".parse().unwrap()).loopback("up.test");
    let mut plan = plan(sink.port(), Tls::None);
    plan.target.host = "domain.test".into();
    plan.connect_to = None;
    let report = run(&net(None, Some(&zones)), &plan).await;
    assert!(report.healthy);
    assert_eq!(value(&report, "mx_host_fails", "works"), "up.test");
}

#[tokio::test]
async fn tls_from_the_first_octet_on_a_starttls_port_is_told_with_the_way_that_works() {
    let ca = Ca::new();
    let sink =
        Sink::with(SinkOptions { tls: SinkTls::StartTls(ca.issue(&["mx.test"])), ..SinkOptions::default() }).await;
    let net = net(Some(&ca), None);
    let report = run(&net, &plan(sink.port(), Tls::Implicit)).await;
    assert_failed(&report, Stage::Tls, Reason::WrongTlsMode);
    assert_eq!(signs(&report)[0], "wrong_tls_mode_implicit");
    assert_eq!(report.working.map(|way| way.tls), Some("starttls"));
}

#[tokio::test]
async fn silence_of_an_implicit_port_is_understood_before_the_time_limit() {
    let ca = Ca::new();
    let sink =
        Sink::with(SinkOptions { tls: SinkTls::Implicit(ca.issue(&["mx.test"])), ..SinkOptions::default() }).await;
    let net = net(Some(&ca), None);
    let mut plan = plan(sink.port(), Tls::StartTls);
    plan.timeout = Duration::from_secs(60);
    let report = run(&net, &plan).await;
    assert_failed(&report, Stage::Banner, Reason::WrongTlsMode);
    assert_eq!(report.working.as_ref().map(|way| (way.port, way.tls)), Some((sink.port(), "implicit")));
    assert!(report.took_us < 20_000_000, "{}", report.took_us);

    // Where the mode is left to the probe, it goes on in the mode that works.
    plan.tls = Tls::Auto;
    let report = run(&net, &plan).await;
    assert!(report.healthy, "{:#?}", report.findings);
    assert_eq!(signs(&report), ["tls_mode_found"]);
    assert_eq!(outcome(&report, Stage::Ehlo), Outcome::Passed);
    plan.siblings = vec![(sink.port(), Tls::StartTls)];
    assert_eq!(signs(&run(&net, &plan).await), ["tls_mode_unusual"]);
}

#[tokio::test]
async fn other_services_are_named() {
    for (greeting, service) in [
        ("SSH-2.0-OpenSSH_9.6\r\n", "SSH"),
        ("+OK Dovecot ready.\r\n", "POP3"),
        ("* OK [CAPABILITY IMAP4rev1] Dovecot ready.\r\n", "IMAP"),
        ("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "HTTP"),
        ("220 (vsFTPd 3.0.5)\r\n", "FTP"),
        ("220 host.test LMTP ready\r\n", "LMTP"),
    ] {
        let report = scripted(&[("", greeting)], |_| {}).await;
        assert_eq!(value(&report, "not_a_mail_server", "service"), service);
        assert_eq!(report.reason, Reason::WrongService, "{greeting}");
    }
    // A service that waits for us to speak first.
    let report = scripted(&[("EHLO", "HTTP/1.1 400 Bad Request\r\n\r\n!close")], |_| {}).await;
    assert_eq!(value(&report, "not_a_mail_server", "service"), "HTTP");
    assert_failed(&report, Stage::Banner, Reason::WrongService);
}

#[tokio::test]
async fn refusing_greetings_keep_their_own_reason() {
    for (greeting, stage, class) in [
        ("554 5.7.1 no service for you\r\n", Stage::Banner, 5),
        ("421 4.3.2 too many connections\r\n", Stage::Banner, 4),
    ] {
        let report = scripted(&[("", greeting)], |_| {}).await;
        assert_eq!(report.failed_at, Some(stage));
        assert_eq!(report.findings[0].reply.as_ref().map(proto::smtp::reply::Reply::class), Some(class));
    }
    let report = scripted(&[("", "!close")], |plan| plan.explore = false).await;
    assert_eq!(report.failed_at, Some(Stage::Banner));
    let report = scripted(&[("", "!hang")], |plan| plan.timeout = Duration::from_secs(2)).await;
    assert_failed(&report, Stage::Banner, Reason::SessionTimeout);
    assert_eq!(report.result, ResultWord::Timeout);
}

#[tokio::test]
async fn a_connection_that_is_reset_behind_its_opening_is_told_from_a_closed_port() {
    let listener = tokio::net::TcpListener::bind((LOCAL, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_zero_linger().unwrap();
        }
    });
    for _ in 0..5 {
        let report = run(&net(None, None), &plan(port, Tls::None)).await;
        assert_failed(&report, Stage::Banner, Reason::Disconnected);
        assert_eq!(outcome(&report, Stage::Tcp), Outcome::Passed);
    }
    server.abort();
}

#[tokio::test]
async fn an_old_program_behind_the_greeting_gets_a_note_and_no_verdict() {
    let entries =
        [("", "220 mx.test ESMTP Exim 4.92 Sat, 21 Nov 2026 10:00:00 +0000\r\n"), ("EHLO", "250 mx.test\r\n")];
    let report = scripted(&entries, |_| {}).await;
    assert!(signs(&report).contains(&"software_outdated"));
    assert_eq!(value(&report, "software_outdated", "version"), "4.92");
    assert_eq!(outcome(&report, Stage::Banner), Outcome::Passed);
}

#[tokio::test]
async fn a_device_that_blots_out_greeting_and_starttls_is_noticed() {
    let entries = [
        ("", "220 **********************0*2******\r\n"),
        ("EHLO", "250-mx.test\r\n250-XXXXXXXA\r\n250 SIZE 1000\r\n"),
        ("STARTTLS", "500 unrecognized\r\n"),
    ];
    let report = scripted(&entries, |plan| plan.tls = Tls::StartTls).await;
    assert!(signs(&report).contains(&"banner_masked"));
    assert_eq!(report.reason, Reason::Middlebox);
    assert_eq!(report.failed_at, Some(Stage::Tls));
    assert_eq!(value(&report, "starttls_stripped", "keyword"), "XXXXXXXA");
}

#[tokio::test]
async fn starttls_that_is_missing_refused_or_cut_out_is_told_apart() {
    let hello = ("", "220 mx.test ESMTP\r\n");
    let offer = ("EHLO", "250-mx.test\r\n250 STARTTLS\r\n");
    let report = scripted(&[hello, EHLO, ("STARTTLS", "502 no\r\n")], |plan| plan.tls = Tls::StartTls).await;
    assert_failed(&report, Stage::Tls, Reason::StartTlsMissing);
    let report = scripted(&[hello, EHLO, ("STARTTLS", "220 go\r\n")], |plan| plan.tls = Tls::StartTls).await;
    assert_failed(&report, Stage::Tls, Reason::Middlebox);
    let report = scripted(&[hello, EHLO], |plan| plan.tls = Tls::Auto).await;
    assert!(report.healthy);
    assert_eq!(signs(&report), ["no_starttls"]);
    let report =
        scripted(&[hello, offer, ("STARTTLS", "454 4.7.0 TLS not available\r\n")], |plan| plan.tls = Tls::Auto).await;
    assert_eq!(report.failed_at, Some(Stage::Tls));
    assert_eq!(report.findings[0].reply.as_ref().map(|reply| reply.code), Some(454));
}

#[tokio::test]
async fn only_helo_is_a_warning_and_replies_out_of_step_are_a_problem() {
    let report = scripted(
        &[("", "220 mx.test\r\n"), ("EHLO", "502 what\r\n"), ("HELO", "250 mx.test\r\n"), ("QUIT", "221 bye\r\n")],
        |_| {},
    )
    .await;
    assert!(report.healthy);
    assert_eq!(signs(&report), ["helo_only"]);
    let report = scripted(&[("", "220 one\r\n220 two\r\n"), EHLO], |_| {}).await;
    assert_eq!(report.failed_at, Some(Stage::Ehlo));
    assert_eq!(signs(&report)[0], "out_of_step");
}

#[tokio::test]
async fn bad_certificates_are_named_and_the_chain_is_kept() {
    let (ca, stranger) = (Ca::new(), Ca::new());
    for (issued, reason) in [
        (ca.issue_for(&["mx.test"], Validity::Past), Reason::CertificateExpired),
        (ca.issue_for(&["mx.test"], Validity::Future), Reason::CertificateNotYetValid),
        (ca.issue(&["other.test"]), Reason::CertificateName),
        (stranger.issue(&["mx.test"]), Reason::CertificateUntrusted),
    ] {
        let sink = Sink::with(SinkOptions { tls: SinkTls::StartTls(issued), ..SinkOptions::default() }).await;
        let net = net(Some(&ca), None);
        let mut plan = plan(sink.port(), Tls::Auto);
        let report = run(&net, &plan).await;
        assert_failed(&report, Stage::Tls, reason);
        assert_eq!(report.result, ResultWord::TlsError);
        let json = serde_json::to_string(&report).unwrap();
        assert!(json.contains("\"chain\""), "{reason}: the chain as sent");

        plan.insecure = true;
        let report = run(&net, &plan).await;
        assert!(report.healthy && report.insecure, "{reason}");
        assert_eq!(signs(&report), ["insecure_check"]);
        assert!(!value(&report, "insecure_check", "problem").is_empty());
    }
}

fn auth(password: &str, allow_plaintext: bool) -> Option<Auth> {
    Some(Auth { username: "user".into(), password: password.to_owned().into(), mechanism: None, allow_plaintext })
}

#[tokio::test]
async fn signing_in_fails_in_its_several_ways() {
    let ca = Ca::new();
    let sink = Sink::with(SinkOptions {
        tls: SinkTls::StartTls(ca.issue(&["mx.test"])),
        users: vec![("user".into(), "right".into())],
        ..SinkOptions::default()
    })
    .await;
    let net = net(Some(&ca), None);
    let mut plan = plan(sink.port(), Tls::StartTls);
    plan.auth = auth("wrong", false);
    let report = run(&net, &plan).await;
    assert_failed(&report, Stage::Auth, Reason::CredentialsInvalid);
    assert_eq!(report.result, ResultWord::AuthenticationFailed);
    plan.auth = auth("right", false);
    sink.add(Rule::reply(At::Auth, "454 4.7.0 Temporary authentication failure").times(1));
    assert_failed(&run(&net, &plan).await, Stage::Auth, Reason::AuthTemporary);
    assert!(run(&net, &plan).await.healthy);

    // In the clear without leave, nothing of it is said.
    plan.tls = Tls::None;
    let before = sink.commands().len();
    let report = run(&net, &plan).await;
    assert_eq!(report.failed_at, Some(Stage::Auth));
    assert!(sink.commands()[before..].iter().all(|(_, line)| !line.starts_with("AUTH")));
}

#[tokio::test]
async fn signing_in_that_is_offered_never_or_only_on_the_wrong_side_of_tls_is_told_apart() {
    let hello = ("", "220 mx.test ESMTP\r\n");
    let report = scripted(&[hello, EHLO], |plan| plan.auth = auth("x", true)).await;
    assert_failed(&report, Stage::Auth, Reason::AuthNotOffered);
    assert_eq!(signs(&report)[0], "auth_not_offered");
    let offer = ("EHLO", "250-mx.test\r\n250 STARTTLS\r\n");
    let report = scripted(&[hello, offer], |plan| plan.auth = auth("x", true)).await;
    assert_eq!(signs(&report)[0], "auth_only_after_tls");
}

fn with_mail(plan: &mut Plan) {
    plan.from = Some("from@client.test".into());
    plan.to = vec!["to@mx.test".into()];
    plan.message = Message::BeforeDot;
}

#[tokio::test]
async fn sender_recipient_and_message_fail_at_their_stage() {
    for (at, reply, stage, reason) in [
        (At::Mail, "550 5.7.1 Sender address rejected", Stage::Sender, Reason::SenderRejected),
        (At::Rcpt, "554 5.7.1 Relay access denied", Stage::Recipient, Reason::RelayDenied),
        (At::Rcpt, "550 5.1.1 User unknown", Stage::Recipient, Reason::MailboxUnknown),
        (At::Rcpt, "451 4.7.1 Greylisted, please try again later", Stage::Recipient, Reason::Greylisted),
    ] {
        let sink = Sink::start().await;
        sink.add(Rule::reply(at, reply));
        let mut plan = plan(sink.port(), Tls::None);
        with_mail(&mut plan);
        let report = run(&net(None, None), &plan).await;
        assert_failed(&report, stage, reason);
    }
    let sink = Sink::start().await;
    sink.add(Rule::at(At::Data, Act::Close("421 4.3.0 going down".into())));
    let mut plan = plan(sink.port(), Tls::None);
    with_mail(&mut plan);
    assert_eq!(run(&net(None, None), &plan).await.failed_at, Some(Stage::Message));
}

#[tokio::test]
async fn each_recipient_is_judged_by_itself_and_the_message_goes_on_for_the_others() {
    let sink = Sink::start().await;
    let mut plan = plan(sink.port(), Tls::None);
    with_mail(&mut plan);
    plan.to = vec!["a+p550@mx.test".into(), "b@mx.test".into(), "c+t451@mx.test".into()];
    plan.message = Message::Send;
    let report = run(&net(None, None), &plan).await;
    assert!(!report.healthy);
    assert_eq!(report.findings.len(), 2);
    assert_eq!(outcome(&report, Stage::Recipient), Outcome::Failed);
    assert_eq!(outcome(&report, Stage::Message), Outcome::Passed);
    assert_eq!(sink.received()[0].to, ["b@mx.test"]);
}

#[tokio::test]
async fn what_a_message_needs_and_the_server_lacks_is_named_before_it_is_sent() {
    let report = scripted(&[("", "220 x\r\n"), EHLO], |plan| {
        with_mail(plan);
        plan.to = vec!["jösé@mx.test".into()];
    })
    .await;
    assert_failed(&report, Stage::Sender, Reason::ExtensionMissing);
    let small = ("EHLO", "250-mx.test\r\n250 SIZE 100\r\n");
    let report = scripted(&[("", "220 x\r\n"), small], with_mail).await;
    assert_failed(&report, Stage::Sender, Reason::TooLarge);
}

#[tokio::test]
async fn an_open_relay_is_told_from_a_closed_one_without_sending_anything() {
    let open = Sink::start().await;
    let mut plan = plan(open.port(), Tls::None);
    plan.open_relay = true;
    let report = run(&net(None, None), &plan).await;
    assert_eq!(signs(&report), ["open_relay"]);
    assert!(value(&report, "open_relay", "forms").contains("plain"));
    assert!(open.commands().iter().all(|(_, line)| !line.starts_with("DATA")));
    assert_eq!(open.count(), 0);

    let closed = Sink::start().await;
    closed.add(Rule::reply(At::Rcpt, "554 5.7.1 Relay access denied").with_text("example.com"));
    plan.connect_to = Some((LOCAL, closed.port()).into());
    let report = run(&net(None, None), &plan).await;
    assert!(report.healthy);
    assert_eq!(signs(&report), ["relay_closed"], "a server that takes any local part is no relay");
}

#[tokio::test]
async fn a_blocked_port_is_told_from_a_server_that_is_down() {
    let zones = Zones::start().await;
    let (sink, deaf) = (Sink::start().await, Deaf::start().await);
    zones.loopback("other.test").line("1.0.0.127.in-addr.arpa PTR ec2-192-0-2-4.compute.amazonaws.com.");
    let net = net(None, Some(&zones));
    let mut plan = plan(deaf.port, Tls::None);
    plan.timeout = Duration::from_secs(2);
    plan.outside = true;
    plan.landmarks = vec!["other.test".into()];
    plan.siblings = vec![(sink.port(), Tls::None)];
    let report = run(&net, &plan).await;
    assert_failed(&report, Stage::Tcp, Reason::ConnectionTimeout);
    assert_eq!(signs(&report)[0], "network_blocks_port");
    assert_eq!(value(&report, "network_blocks_port", "tried"), "other.test");
    assert_eq!(value(&report, "network_blocks_port", "network"), "Amazon EC2 and Lambda");

    plan.outside = false;
    let report = run(&net, &plan).await;
    assert_failed(&report, Stage::Tcp, Reason::ConnectionTimeout);
    assert!(report.findings[0].sign.is_none(), "without leave nobody else is asked");

    // A refusal is an answer: the network let the question through.
    plan.outside = true;
    plan.connect_to = Some((LOCAL, closed_port().await).into());
    let report = run(&net, &plan).await;
    assert_failed(&report, Stage::Tcp, Reason::ConnectionRefused);
    assert!(!signs(&report).contains(&"network_blocks_port"));
}

#[tokio::test]
async fn hostile_words_are_bounded_and_escaped() {
    let greeting = format!("220 \u{1b}[2J{}\r\n", "x".repeat(5000));
    let report = scripted(&[("", &greeting), ("EHLO", "250 \u{1b}]0;x\u{7}\r\n")], |_| {}).await;
    for stage in &report.stages {
        assert!(stage.summary.len() <= 300 && !stage.summary.contains('\u{1b}'), "{stage:?}");
    }
}
