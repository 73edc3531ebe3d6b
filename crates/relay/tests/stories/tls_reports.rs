//! Reports about TLS (RFC 8460): each way in which TLS may go wrong is counted under its policy with its result type, the counts
//! survive, and the report reaches those who ask for it.

use std::io::Read as _;

use proto::policy::tlsrpt::report::{PolicyReport, PolicyType, Report, ResultType};
use proto::report::tls_report;
use relay::TlsReportConfig;
use relay::tls_report::TlsReportView;
use serde_json::json;
use store::TlsDay;
use testkit::ca::Validity;
use testkit::{Act, Ca, Page, Rule, Sink, SinkOptions, Stage, Tls, Zones};

use crate::pinned::{Host, pin, starttls, tree};
use crate::policies::{Scene, policy};
use crate::rig::{Rig, Setup, eventually};

const DAY_MS: i64 = 86_400_000;

fn settings() -> TlsReportConfig {
    TlsReportConfig {
        organization: "Relay Test".into(),
        contact: "tls@relay.test".parse().unwrap(),
        allow_private: true,
    }
}

fn reporting(setup: Setup) -> Setup {
    setup.config(|config| config.tls_reports = Some(settings()))
}

async fn views(rig: &Rig) -> Vec<TlsReportView> {
    rig.relay.tls_reports(None, None, 100).await.unwrap()
}

/// What was seen of a domain.
async fn seen(rig: &Rig, domain: &str) -> Vec<PolicyReport> {
    let view = views(rig).await.into_iter().find(|view| view.domain == domain);
    view.map(|view| view.report.policies).unwrap_or_default()
}

/// Successes, failures, and the result types with their counts.
fn counts(report: &PolicyReport) -> (u64, u64, Vec<(ResultType, u64)>) {
    let details = report.failure_details.iter().map(|one| (one.result_type, one.failed_session_count)).collect();
    (report.summary.total_successful_session_count, report.summary.total_failure_session_count, details)
}

#[tokio::test]
async fn each_failure_under_an_enforced_policy_has_its_result_type() {
    let strip = || vec![Rule::at(Stage::StartTls, Act::Reply("454 4.7.0 TLS not available".into()))];
    for (what, listed, rules, wanted) in [
        ("fine", "mx.test", Vec::new(), None),
        ("not listed", "other.test", Vec::new(), Some(ResultType::ValidationFailure)),
        ("not offered", "mx.test", Vec::new(), Some(ResultType::StarttlsNotSupported)),
        ("refused", "mx.test", strip(), Some(ResultType::StarttlsNotSupported)),
        ("other name", "mx.test", Vec::new(), Some(ResultType::CertificateHostMismatch)),
        ("expired", "mx.test", Vec::new(), Some(ResultType::CertificateExpired)),
        ("not trusted", "mx.test", Vec::new(), Some(ResultType::CertificateNotTrusted)),
        (
            "cut in the handshake",
            "mx.test",
            vec![Rule::at(Stage::StartTls, Act::Close("220 go".into()))],
            Some(ResultType::ValidationFailure),
        ),
    ] {
        let scene = Scene::new(policy("enforce", &[listed])).await;
        let issued = match what {
            "other name" => scene.ca.issue(&["other.test"]),
            "expired" => scene.ca.issue_for(&["mx.test"], Validity::Past),
            "not trusted" => Ca::new().issue(&["mx.test"]),
            _ => scene.ca.issue(&["mx.test"]),
        };
        let tls = if what == "not offered" { Tls::None } else { Tls::StartTls(issued) };
        let sink = Sink::with(SinkOptions { tls, rules, ..SinkOptions::default() }).await;
        let (rig, _web) = scene.start_by(&sink, reporting).await;
        let id = rig.send(&["r@x.test"]).await;
        rig.becomes(id, &[if wanted.is_none() { "delivered" } else { "deferred" }]).await;
        let [report] = seen(&rig, "x.test").await.try_into().expect(what);
        assert_eq!((report.policy.policy_type, &*report.policy.policy_domain), (PolicyType::Sts, "x.test"), "{what}");
        let lines = [
            "version: STSv1".to_owned(),
            "mode: enforce".to_owned(),
            format!("mx: {listed}"),
            "max_age: 604800".to_owned(),
        ];
        assert_eq!(
            (&report.policy.policy_string[..], &report.policy.mx_host[..]),
            (&lines[..], &[listed.to_owned()][..])
        );
        match wanted {
            None => assert_eq!(counts(&report), (1, 0, Vec::new())),
            Some(kind) => {
                assert_eq!(counts(&report), (0, 1, vec![(kind, 1)]), "{what}");
                let details = &report.failure_details[0];
                assert_eq!(details.receiving_mx_hostname.as_deref(), Some("mx.test"), "{what}");
                let met = what != "not listed";
                assert_eq!((details.sending_mta_ip.is_some(), details.receiving_ip.is_some()), (met, met), "{what}");
            }
        }
    }
}

#[tokio::test]
async fn a_policy_in_testing_is_reported_though_the_mail_goes_and_one_that_cannot_be_had_too() {
    for (what, page, name, wanted) in [
        ("testing", policy("testing", &["mx.test"]), "other.test", ResultType::CertificateHostMismatch),
        ("not listed", policy("testing", &["other.test"]), "mx.test", ResultType::ValidationFailure),
        ("404", Page::Raw("HTTP/1.1 404 No\r\n\r\n".into()), "mx.test", ResultType::StsPolicyFetchError),
        ("no policy", Page::Text("hello".into()), "mx.test", ResultType::StsPolicyInvalid),
        ("certificate", policy("enforce", &["mx.test"]), "mx.test", ResultType::StsWebpkiInvalid),
    ] {
        let scene = Scene::new(page).await;
        if what == "certificate" {
            scene.web.certify(&scene.ca.issue(&["x.test"]));
        }
        let sink =
            Sink::with(SinkOptions { tls: Tls::StartTls(scene.ca.issue(&[name])), ..SinkOptions::default() }).await;
        let (rig, _web) = scene.start_by(&sink, reporting).await;
        let id = rig.send(&["r@x.test"]).await;
        rig.becomes(id, &["delivered"]).await;
        let [report] = seen(&rig, "x.test").await.try_into().expect(what);
        assert_eq!(report.policy.policy_type, PolicyType::Sts, "{what}");
        assert_eq!(counts(&report), (0, 1, vec![(wanted, 1)]), "{what}");
    }
}

#[tokio::test]
async fn without_a_policy_each_domain_counts_a_shared_connection_once_and_clear_text_is_a_failure() {
    let ca = Ca::new();
    let sink = Sink::with(SinkOptions { tls: Tls::StartTls(ca.issue(&["any.test"])), ..SinkOptions::default() }).await;
    let zones = Zones::start().await;
    zones.mx("x.test", 10, "mx.test").mx("y.test", 10, "mx.test").loopback("mx.test");
    let rig = reporting(Setup::mx(sink.port())).start_with(ca, zones).await;
    for _ in 0..3 {
        let id = rig.send(&["r@x.test"]).await;
        rig.becomes(id, &["delivered"]).await;
        let id = rig.send(&["r@y.test"]).await;
        rig.becomes(id, &["delivered"]).await;
    }
    assert_eq!(sink.connections(), 1);
    for domain in ["x.test", "y.test"] {
        let [report] = seen(&rig, domain).await.try_into().expect(domain);
        assert_eq!((report.policy.policy_type, &*report.policy.policy_domain), (PolicyType::NoPolicyFound, domain));
        assert_eq!(counts(&report), (1, 0, Vec::new()), "{domain}");
    }
    let clear = Sink::start().await;
    let rig = reporting(Setup::mx(clear.port())).start().await;
    rig.zones.mx("x.test", 10, "mx.test").loopback("mx.test");
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
    let [report] = seen(&rig, "x.test").await.try_into().unwrap();
    assert_eq!(counts(&report), (0, 1, vec![(ResultType::StarttlsNotSupported, 1)]));
    let hidden = rig.send_mail(&["r@z.test"], "From: noreply@app.test\r\nTLS-Required: No\r\n\r\nx\r\n");
    rig.zones.mx("z.test", 10, "mx2.test").loopback("mx2.test");
    let id = hidden.await;
    rig.becomes(id, &["delivered"]).await;
    assert_eq!(seen(&rig, "z.test").await, [], "mail that goes whatever is wrong says nothing about TLS");
}

#[tokio::test]
async fn pins_are_reported_under_their_base_domain() {
    let own = Ca::self_signed(&["nobody.test"], Validity::Now, false);
    let right = pin(3, 1, 1, &own.der());
    let hosts = vec![
        Host::new("right", starttls(&own), std::slice::from_ref(&right)),
        Host::new("wrong", starttls(&own), &[format!("3 1 1 {}", "0".repeat(64))]),
        Host::new("clear", Tls::None, std::slice::from_ref(&right)),
        Host::new("useless", starttls(&own), &["3 1 1 00".to_owned()]),
    ];
    let (sinks, tree) = tree(hosts, &[]).await;
    let setup = reporting(crate::pinned::setup(&sinks, &tree));
    let rig = setup.start_with(Ca::new(), Zones::start().await).await;
    for (name, state, wanted) in [
        ("right", "delivered", None),
        ("wrong", "deferred", Some(ResultType::CertificateNotTrusted)),
        ("clear", "deferred", Some(ResultType::StarttlsNotSupported)),
        ("useless", "delivered", Some(ResultType::TlsaInvalid)),
    ] {
        let domain = format!("{name}.secure");
        let id = rig.send(&[&format!("r@{domain}")]).await;
        rig.becomes(id, &[state]).await;
        let [report] = seen(&rig, &domain).await.try_into().expect(name);
        let policy = &report.policy;
        assert_eq!((policy.policy_type, &policy.policy_domain), (PolicyType::Tlsa, &format!("mx-{domain}")), "{name}");
        if name != "useless" {
            let [kind, selector, matching, data] =
                policy.policy_string[0].splitn(4, ' ').collect::<Vec<_>>().try_into().unwrap();
            assert_eq!((kind, selector, matching, data.len()), ("3", "1", "1", 64), "{name}");
        }
        let failed = u64::from(wanted.is_some());
        let kinds = wanted.into_iter().map(|kind| (kind, 1)).collect();
        assert_eq!(counts(&report), (1 - failed, failed, kinds), "{name}");
    }
}

/// A row of a past day, as a run of that day would have left it.
async fn yesterday(rig: &Rig, days: i64, domain: &str) {
    let policies = json!([{
        "policy": {"policy-type": "no-policy-found", "policy-domain": domain},
        "summary": {"total-successful-session-count": 5, "total-failure-session-count": 1},
        "failure-details": [{"result-type": "starttls-not-supported", "failed-session-count": 1,
            "sending-mta-ip": "192.0.2.1", "receiving-mx-hostname": "mx.test", "receiving-ip": "192.0.2.2"}],
    }]);
    let day = rig.now_ms().div_euclid(DAY_MS) - days;
    let body = Some(json!({ "policies": policies }).to_string());
    rig.store.save_tls_days(vec![TlsDay { day, domain: domain.into(), body }], 0).await.unwrap();
}

fn unpacked(octets: &[u8]) -> Vec<u8> {
    let mut json = Vec::new();
    flate2::read::GzDecoder::new(octets).read_to_end(&mut json).unwrap();
    json
}

/// Two days ago: whatever the time of this one, its report is due.
const DUE: i64 = 2;

#[tokio::test]
async fn after_the_day_the_report_goes_by_https_and_by_mail_to_those_who_ask_and_once() {
    let scene = Scene::new(Page::Raw("HTTP/1.1 201 Created\r\n\r\n".into())).await;
    let sink = Sink::with(SinkOptions { tls: Tls::StartTls(Ca::new().issue(&["x"])), ..SinkOptions::default() }).await;
    let port = scene.web.address().port();
    scene.zones.loopback("reports.test").mx("reports.test", 10, "mx.test");
    scene.web.certify(&scene.ca.issue(&["reports.test"]));
    let record = format!("v=TLSRPTv1; rua=https://reports.test:{port}/tls?x=1,mailto:tls@reports.test");
    scene.zones.txt("_smtp._tls.x.test", &record).txt("_smtp._tls.twice.test", &record);
    scene.zones.txt("_smtp._tls.twice.test", "v=TLSRPTv1; rua=mailto:other@reports.test");
    let (rig, web) = scene.start_by(&sink, reporting).await;
    for domain in ["x.test", "quiet.test", "twice.test"] {
        yesterday(&rig, DUE, domain).await;
    }
    let rig = rig.restart().await;
    let received = sink.wait_for(1, crate::rig::PATIENCE).await;
    let sent =
        eventually("it is sent", || async { views(&rig).await.into_iter().find(|view| view.sent_to.len() == 2) }).await;
    assert_eq!(sent.domain, "x.test");
    // What nobody asks for is forgotten.
    assert_eq!(views(&rig).await.len(), 1);

    let asked = web.asked();
    assert_eq!((asked.len(), asked[0].line.as_str()), (1, "POST /tls?x=1 HTTP/1.1"));
    assert!(asked[0].head.contains(&format!("Host: reports.test:{port}")), "{}", asked[0].head);
    assert!(asked[0].head.contains("Content-Type: application/tlsrpt+gzip"), "{}", asked[0].head);
    let json = unpacked(&asked[0].body);
    let report = Report::parse(&json).unwrap();
    assert_eq!((report.organization_name.as_str(), report.contact_info.as_str()), ("Relay Test", "tls@relay.test"));
    assert_eq!(report.date_range.start_datetime, format!("{}T00:00:00Z", sent.day));
    assert_eq!(report.date_range.end_datetime, format!("{}T23:59:59Z", sent.day));
    let read = tls_report::parse(&json).unwrap();
    assert_eq!((read.policies[0].successes, read.policies[0].failures), (5, 1));

    let mail = &received[0];
    assert_eq!((mail.from.as_str(), &mail.to[..], mail.tls), ("", &["tls@reports.test".to_owned()][..], true));
    assert_eq!(mail.header("TLS-Report-Domain").as_deref(), Some("x.test"));
    assert_eq!(mail.header("TLS-Report-Submitter").as_deref(), Some("relay.test"));
    let subject = format!("Report Domain: x.test Submitter: relay.test Report-ID: <{}>", report.report_id);
    assert_eq!(mail.header("Subject").unwrap().split_whitespace().collect::<Vec<_>>().join(" "), subject);
    assert!(mail.header("Content-Type").unwrap().contains("report-type=\"tlsrpt\""));
    assert_eq!(seen(&rig, "reports.test").await, [], "the session of a report is not reported");

    // Neither a restart nor the next round sends it again.
    let rig = rig.restart().await;
    views(&rig).await;
    assert_eq!((web.asked().len(), sink.count()), (1, 1));
}

#[tokio::test]
async fn what_a_receiver_does_not_take_is_kept_with_the_reason_and_can_be_sent_by_hand() {
    let scene = Scene::new(Page::Raw("HTTP/1.1 503 Busy\r\n\r\n".into())).await;
    let sink = Sink::start().await;
    scene.zones.loopback("reports.test");
    scene.web.certify(&scene.ca.issue(&["reports.test"]));
    let port = scene.web.address().port();
    scene.zones.txt("_smtp._tls.x.test", &format!("v=TLSRPTv1; rua=https://reports.test:{port}/"));
    let (rig, web) = scene.start_by(&sink, reporting).await;
    yesterday(&rig, DUE, "x.test").await;
    let rig = rig.restart().await;
    let view = eventually("an attempt", || async { views(&rig).await.into_iter().find(|view| view.tries == 1) }).await;
    assert!(view.problem.as_deref().unwrap_or_default().contains("503"), "{view:?}");
    assert_eq!(view.sent_to, Vec::<String>::new());
    let refused = rig.relay.send_tls_report("x.test", None).await.unwrap();
    assert!(refused.sent_to.is_empty() && refused.problems[0].contains("503"), "{refused:?}");
    web.show(Page::Raw("HTTP/1.1 200 OK\r\n\r\n".into()));
    let sent = rig.relay.send_tls_report("x.test", Some(&view.day)).await.unwrap();
    assert_eq!((sent.sent_to.len(), sent.problems), (1, Vec::new()));
    assert_eq!(views(&rig).await[0].sent_to.len(), 1);
    assert!(rig.relay.send_tls_report("x.test", Some("2001-01-01")).await.is_err());
    assert!(rig.relay.send_tls_report("y.test", None).await.is_err());
}

#[tokio::test]
async fn counts_survive_a_restart_and_go_on() {
    let sink = Sink::start().await;
    let mut rig = reporting(Setup::mx(sink.port())).start().await;
    rig.zones.mx("x.test", 10, "mx.test").loopback("mx.test");
    for n in 1..=3 {
        let id = rig.send(&["r@x.test"]).await;
        rig.becomes(id, &["delivered"]).await;
        let [report] = seen(&rig, "x.test").await.try_into().unwrap();
        assert_eq!(report.summary.total_failure_session_count, n);
        rig = if n == 1 { rig.restart().await } else { rig.crash().await };
        // Where there may be other nodes the next one leads when the time of the dead one is over.
        eventually("the lead", || async { rig.relay.leads().then_some(()) }).await;
        assert_eq!(seen(&rig, "x.test").await[0].summary.total_failure_session_count, n);
    }
}

#[tokio::test]
async fn without_a_contact_nothing_is_counted() {
    let sink = Sink::start().await;
    let rig = Setup::mx(sink.port()).start().await;
    rig.zones.mx("x.test", 10, "mx.test").loopback("mx.test");
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
    let off = rig.relay.tls_reports(None, None, 10).await.unwrap_err();
    assert!(off.to_string().contains("tls_report.contact"), "{off}");
}
