//! The audit of a domain against zones that are healthy but for one thing: that thing is found, and nothing else.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod domain_rig;

use std::collections::BTreeSet;
use std::net::IpAddr;

use diagnose::domain::{OwnKey, Plan, SIGNS, Section, SendingRoute, State};
use domain_rig::{POLICY, Rig, signs};
use explain::{Query, RuleBase, Severity};
use testkit::zones::RecordType;
use testkit::{Ca, Trouble, Zones};

use Section::{Addresses, Bimi, Blocklists, Caa, Dkim, Dmarc, Domain, Mx, Ns, Spf, TlsRpt};

#[tokio::test]
async fn a_healthy_domain_has_no_findings() {
    let mut rig = Rig::with(&[], &[]).await;
    rig.mail_host(Some(rig.ca.issue(&["mail.example.com"]))).await;
    rig.policy(POLICY).await;
    rig.plan.ips = vec!["192.0.2.25".parse().unwrap()];
    rig.plan.helo = Some("mail.example.com".into());
    rig.plan.selectors = vec!["s1".into()];
    let audit = rig.audit("Example.COM.").await;
    assert_eq!(signs(&audit), BTreeSet::new(), "{:#?}", audit.findings);
    assert!(audit.healthy && audit.domain == "example.com");
    let state = |section| audit.section(section).unwrap().state;
    for section in [Mx, Spf, Dkim, Dmarc, Section::MtaSts, TlsRpt, Caa, Ns, Addresses] {
        assert_eq!(state(section), State::Good, "{section:?}");
    }
    assert_eq!(state(Bimi), State::Skipped);
    assert_eq!(audit.section(Spf).unwrap().facts["lookups"], "1");
    assert_eq!(audit.section(Dmarc).unwrap().facts["policy"], "reject");
}

/// Sections, lines to leave out, lines to add, signs.
type Case<'a> = (&'a [Section], &'a [&'a str], &'a [&'a str], &'a [&'a str]);

const CASES: &[Case<'static>] = &[
    // MX
    (&[Mx], &["example.com MX", "example.com TXT"], &[], &["mx_none"]),
    (&[Mx], &["example.com MX"], &["example.com A 192.0.2.25"], &["mx_implicit"]),
    (&[Mx], &["example.com MX"], &["example.com MX 0 ."], &[]),
    (&[Mx], &[], &["example.com MX 0 ."], &["mx_null_mixed"]),
    (&[Mx], &["mail.example.com A"], &[], &["mx_target_missing"]),
    (
        &[Mx],
        &["mail.example.com A"],
        &["mail.example.com CNAME host.example.com.", "host.example.com A 192.0.2.25"],
        &["mx_target_cname"],
    ),
    (&[Mx], &["example.com MX"], &["example.com MX 10 192.0.2.25."], &["mx_target_address"]),
    (
        &[Mx],
        &["example.com MX"],
        &["example.com MX 10 mail_1.example.com.", "mail_1.example.com A 192.0.2.25"],
        &["mx_target_invalid"],
    ),
    (&[Mx], &["mail.example.com A"], &["mail.example.com A 10.1.2.3"], &["mx_target_private"]),
    (&[Mx], &[], &["example.com MX 20 mail.example.com."], &["mx_duplicate"]),
    (&[Mx, Domain], &[], &["*.example.com MX 10 mail.example.com."], &["mx_wildcard"]),
    // The name
    (&[Domain], &[], &["*.example.com TXT v=spf1 -all"], &["domain_wildcard"]),
    (&[Domain], &["example.com NS"], &["example.com NS ns1.sedoparking.com."], &["domain_parked"]),
    // SPF
    (&[Spf], &["example.com TXT"], &[], &["spf_missing"]),
    (&[Spf], &[], &["example.com TXT v=spf1 a -all"], &["spf_several"]),
    (&[Spf], &["example.com TXT"], &["example.com TXT v=spf1 ipv4:192.0.2.1 -all"], &["spf_syntax"]),
    (&[Spf], &["example.com TXT"], &["example.com TXT v=spf1 -all mx"], &["spf_remark"]),
    (&[Spf], &["example.com TXT"], &["example.com TXT v=spf1 mx ptr -all"], &["spf_ptr"]),
    (
        &[Spf],
        &["example.com TXT"],
        &[
            "example.com TXT v=spf1 a:mail.example.com a:ns1.example.com a:ns2.example.com a:a1.example.com a:a2.example.com a:a3.example.com a:a4.example.com a:a5.example.com a:a6.example.com a:a7.example.com a:a8.example.com -all",
            "a1.example.com A 192.0.2.1",
            "a2.example.com A 192.0.2.1",
            "a3.example.com A 192.0.2.1",
            "a4.example.com A 192.0.2.1",
            "a5.example.com A 192.0.2.1",
            "a6.example.com A 192.0.2.1",
            "a7.example.com A 192.0.2.1",
            "a8.example.com A 192.0.2.1",
        ],
        &["spf_too_many_lookups"],
    ),
    (
        &[Spf],
        &["example.com TXT"],
        &["example.com TXT v=spf1 a:x.example.com a:y.example.com a:z.example.com -all"],
        &["spf_void_lookups"],
    ),
    (&[Spf], &["example.com TXT"], &["example.com TXT v=spf1 +all"], &["spf_all_pass"]),
    (&[Spf], &["example.com TXT"], &["example.com TXT v=spf1 mx ?all"], &["spf_all_neutral"]),
    (&[Spf], &["example.com TXT"], &["example.com TXT v=spf1 mx"], &["spf_all_missing"]),
    (&[Spf], &["example.com TXT"], &["example.com TXT v=spf1 mx ~all"], &[]),
    (&[Spf], &["example.com TXT"], &["example.com TXT v=spf1 include:gone.example.net -all"], &["spf_include_missing"]),
    (
        &[Spf],
        &["example.com TXT"],
        &["example.com TXT v=spf1 include:spf.example.net -all", "spf.example.net TXT v=spf1 include:example.com ?all"],
        &["spf_loop"],
    ),
    (&[Spf], &["example.com TXT"], &["example.com TXT v=spf1 ip4:0.0.0.0/1 ip4:128.0.0.0/1 -all"], &["spf_wide"]),
    // DKIM
    (&[Dkim], &["s1._domainkey"], &[], &["dkim_not_found"]),
    (&[Dkim], &["s1._domainkey"], &["s1._domainkey.example.com TXT v=DKIM1; p="], &["dkim_revoked"]),
    (&[Dkim], &["s1._domainkey"], &["s1._domainkey.example.com TXT v=DKIM1; p=KEY_512"], &["dkim_key_short"]),
    (&[Dkim], &["s1._domainkey"], &["s1._domainkey.example.com TXT v=DKIM1; p=KEY_1024"], &["dkim_key_weak"]),
    (&[Dkim], &["s1._domainkey"], &["s1._domainkey.example.com TXT v=DKIM1; t=y; p=KEY"], &["dkim_testing"]),
    (&[Dkim], &["s1._domainkey"], &["s1._domainkey.example.com TXT v=DKIM1; p=MIIBIjANBg"], &["dkim_syntax"]),
    (&[Dkim], &["s1._domainkey"], &["s1._domainkey.example.com TXT v=DKIM1; x=y; p=KEY"], &["dkim_remark"]),
    (
        &[Dkim],
        &["s1._domainkey", "example.com TXT"],
        &["example.com TXT v=spf1 include:sendgrid.net -all", "s1._domainkey.example.com CNAME s1.dkim.example.net."],
        &["dkim_alias_broken"],
    ),
    (&[Dkim], &[], &["s1._domainkey.example.com TXT v=DKIM1; p=KEY_1024"], &["dkim_several"]),
    (&[Dkim], &["s1._domainkey"], &["s1._domainkey.example.com TXT v=DKIM1; h=sha1; p=KEY"], &["dkim_unusable"]),
    // DMARC
    (&[Dmarc], &["_dmarc"], &[], &["dmarc_missing"]),
    (&[Dmarc], &[], &["_dmarc.example.com TXT v=DMARC1; p=none"], &["dmarc_several"]),
    (&[Dmarc], &["_dmarc"], &["_dmarc.example.com TXT v=DMARC1; p=rejekt"], &["dmarc_syntax"]),
    (
        &[Dmarc],
        &["_dmarc"],
        &["_dmarc.example.com TXT v=DMARC1; p=reject; rua=mailto:d@example.com; zz=1"],
        &["dmarc_remark"],
    ),
    (
        &[Dmarc],
        &["_dmarc"],
        &["_dmarc.example.com TXT v=DMARC1; p=reject; pct=50; rua=mailto:d@example.com"],
        &["dmarc_removed_tag"],
    ),
    (
        &[Dmarc],
        &["_dmarc"],
        &["_dmarc.example.com TXT v=DMARC1; p=none; rua=mailto:d@example.com"],
        &["dmarc_policy_none"],
    ),
    (
        &[Dmarc],
        &["_dmarc"],
        &["_dmarc.example.com TXT v=DMARC1; p=reject; sp=none; rua=mailto:d@example.com"],
        &["dmarc_subdomain_weaker"],
    ),
    (
        &[Dmarc],
        &["_dmarc"],
        &["_dmarc.example.com TXT v=DMARC1; p=reject; t=y; rua=mailto:d@example.com"],
        &["dmarc_testing"],
    ),
    (&[Dmarc], &["_dmarc"], &["_dmarc.example.com TXT v=DMARC1; p=reject"], &["dmarc_no_reports"]),
    (
        &[Dmarc],
        &["_dmarc"],
        &["_dmarc.example.com TXT v=DMARC1; p=reject; rua=d@example.com"],
        &["dmarc_report_address"],
    ),
    (
        &[Dmarc],
        &["_dmarc"],
        &["_dmarc.example.com TXT v=DMARC1; p=reject; rua=mailto:d@example.net"],
        &["dmarc_report_unauthorised"],
    ),
    (
        &[Dmarc],
        &["_dmarc"],
        &[
            "_dmarc.example.com TXT v=DMARC1; p=reject; rua=mailto:d@example.net",
            "example.com._report._dmarc.example.net TXT v=DMARC1",
        ],
        &[],
    ),
    (
        &[Dmarc],
        &["_dmarc"],
        &["_dmarc.example.com TXT v=DMARC1; p=reject; psd=y; rua=mailto:d@example.com"],
        &["dmarc_psd"],
    ),
    // TLS reports
    (&[TlsRpt], &["_smtp._tls"], &["_smtp._tls.example.com TXT v=TLSRPTv1; rua=tls@example.com"], &["tlsrpt_record"]),
    // BIMI
    (
        &[Bimi],
        &[],
        &["default._bimi.example.com TXT v=BIMI1; l=https://example.com/l.svg; a=https://example.com/l.pem"],
        &[],
    ),
    (
        &[Bimi],
        &[],
        &["default._bimi.example.com TXT v=BIMI1; l=http://example.com/l.svg; a=https://example.com/l.pem"],
        &["bimi_record"],
    ),
    (&[Bimi], &[], &["default._bimi.example.com TXT v=BIMI1; l=https://example.com/l.svg"], &["bimi_remark"]),
    (
        &[Bimi],
        &["_dmarc"],
        &[
            "_dmarc.example.com TXT v=DMARC1; p=none; rua=mailto:d@example.com",
            "default._bimi.example.com TXT v=BIMI1; l=https://example.com/l.svg; a=https://example.com/l.pem",
        ],
        &["bimi_policy"],
    ),
    // CAA
    (&[Caa], &["example.com CAA"], &["example.com CAA 0 issue \";\""], &["caa_nobody"]),
    (&[Caa], &[], &["example.com CAA 128 isue \"ca.example.net\""], &["caa_record"]),
    // Zone
    (&[Ns], &["example.com NS ns2"], &[], &["ns_single"]),
    (&[Ns], &["ns2.example.com A"], &[], &["ns_unresolvable"]),
    (
        &[Ns],
        &["example.com SOA"],
        &["example.com SOA ns1.example.com. hostmaster.example.com. 1 7200 900 1209600 604800"],
        &["soa_minimum"],
    ),
    (
        &[Ns],
        &["example.com SOA"],
        &["example.com SOA ns1.example.com. hostmaster. 1 7200 900 1209600 3600"],
        &["soa_contact"],
    ),
];

#[tokio::test]
async fn each_broken_record_is_found_and_nothing_else() {
    let mut wrong = Vec::new();
    for (sections, without, with, expected) in CASES {
        let mut rig = Rig::with(without, with).await;
        rig.only(sections);
        let audit = rig.audit("example.com").await;
        let expected: BTreeSet<&str> = expected.iter().copied().collect();
        if signs(&audit) != expected {
            wrong.push(format!("{with:?} without {without:?}: wanted {expected:?}, found {:?}", signs(&audit)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_domain_that_is_not_there_is_told_from_one_that_cannot_be_asked() {
    let rig = Rig::empty().await;
    assert_eq!(signs(&rig.audit("exmaple.com").await), BTreeSet::from(["domain_missing"]));
    rig.zones.fail("example.com", Trouble::ServFail);
    let audit = rig.audit("example.com").await;
    assert_eq!(signs(&audit), BTreeSet::from(["domain_dns_failure"]));
    assert!(!audit.healthy);
    assert!(rig.audit("not a domain").await.error.is_some());
    assert!(rig.audit("192.0.2.1").await.error.is_some());
}

#[tokio::test]
async fn a_record_that_cannot_be_asked_for_is_not_called_missing() {
    let mut rig = Rig::with(&[], &[]).await;
    rig.only(&[Spf, Dmarc]);
    rig.zones
        .fail_type("example.com", RecordType::TXT, Trouble::ServFail)
        .fail("_dmarc.example.com", Trouble::ServFail);
    assert_eq!(signs(&rig.audit("example.com").await), BTreeSet::from(["domain_dns_failure"]));
    let mut rig = Rig::with(&["example.com TXT"], &["example.com TXT v=spf1 include:spf.example.net -all"]).await;
    rig.only(&[Spf]);
    rig.zones.fail("spf.example.net", Trouble::ServFail);
    assert_eq!(signs(&rig.audit("example.com").await), BTreeSet::from(["spf_lookup_failed"]));
}

#[tokio::test]
async fn a_very_long_spf_record_is_told() {
    let networks: String = (0..40).map(|n| format!("ip4:192.0.2.{n} ")).collect();
    let record = format!("example.com TXT v=spf1 {networks}-all");
    let mut rig = Rig::with(&["example.com TXT"], &[&record]).await;
    rig.only(&[Spf]);
    assert_eq!(signs(&rig.audit("example.com").await), BTreeSet::from(["spf_long"]));
}

#[tokio::test]
async fn a_named_selector_must_have_a_key() {
    let mut rig = Rig::with(&[], &[]).await;
    rig.only(&[Dkim]);
    rig.plan.selectors = vec!["s1".into(), "gone".into()];
    let audit = rig.audit("example.com").await;
    assert_eq!(signs(&audit), BTreeSet::from(["dkim_selector_missing"]));
    assert_eq!(audit.findings[0].values["name"], "gone._domainkey.example.com");
}

#[tokio::test]
async fn old_and_new_receivers_may_find_different_policies() {
    let lines = ["_dmarc.b.example.com TXT v=DMARC1; p=none; rua=mailto:d@example.com", "a.b.example.com A 192.0.2.1"];
    let mut rig = Rig::with(&["_dmarc"], &lines).await;
    rig.only(&[Dmarc]);
    let found = rig.audit("a.b.example.com").await;
    assert!(signs(&found).contains("dmarc_old_new_differ"), "{:?}", signs(&found));
}

#[tokio::test]
async fn mail_hosts_are_tried_and_what_they_do_is_told() {
    let check = async |rig: &mut Rig, expected: &[&str]| {
        rig.only(&[Mx]);
        let audit = rig.audit("example.com").await;
        assert_eq!(signs(&audit), expected.iter().copied().collect(), "{:#?}", audit.section(Mx));
    };
    let mut rig = Rig::with(&[], &[]).await;
    rig.mail_host(None).await;
    check(&mut rig, &["mx_no_starttls"]).await;
    rig.mail_host(Some(rig.ca.issue(&["other.example.com"]))).await;
    check(&mut rig, &["mx_certificate"]).await;
    rig.mail_host(Some(Ca::named("Stranger").issue(&["mail.example.com"]))).await;
    check(&mut rig, &["mx_certificate"]).await;
    rig.mail_host(Some(rig.ca.issue(&["mail.example.com"]))).await;
    check(&mut rig, &[]).await;
    let tls = testkit::Rule::reply(testkit::Stage::StartTls, "454 4.7.0 TLS not available");
    rig.sink.as_ref().unwrap().add(tls);
    check(&mut rig, &["mx_tls_failed"]).await;
    rig.sink.as_ref().unwrap().behave();
    rig.sink.as_ref().unwrap().add(testkit::Rule::reply(testkit::Stage::Connect, "554 5.7.1 go away"));
    check(&mut rig, &["mx_greeting"]).await;
    // A port where nobody listens any more.
    rig.sink.take().unwrap().stop().await;
    check(&mut rig, &["mx_unreachable"]).await;
    // 240.0.0.0/4 is not routed.
    rig.plan.redirects.insert("192.0.2.25:25".parse().unwrap(), "255.255.255.255:25".parse().unwrap());
    let audit = rig.audit("example.com").await;
    let found = signs(&audit);
    assert!(found.contains("mx_port_blocked_here") || found.contains("mx_unreachable"), "{found:?}");
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_told() {
    let mut rig = Rig::with(&[], &[]).await;
    rig.clock = net::Clock::manual(4_101_840_000_000);
    rig.mail_host(Some(rig.ca.issue(&["mail.example.com"]))).await;
    rig.only(&[Mx]);
    let audit = rig.audit("example.com").await;
    assert_eq!(signs(&audit), BTreeSet::from(["mx_certificate_ends"]), "{:#?}", audit.section(Mx));
}

#[tokio::test]
async fn a_policy_file_is_fetched_and_compared_with_the_mail_hosts() {
    let cases: [(&str, &[&str]); 6] = [
        (POLICY, &[]),
        ("version: STSv1\nmode: testing\nmx: *.example.com\nmax_age: 604800\n", &["sts_testing"]),
        ("version: STSv1\nmode: none\nmax_age: 604800\n", &["sts_none"]),
        ("version: STSv1\nmode: enforce\nmx: mail.example.net\nmax_age: 604800\n", &["sts_mx_mismatch"]),
        ("version: STSv1\nmode: enforce\nmx: mail.example.com\nmax_age: 60\n", &["sts_policy_remark"]),
        ("version: STSv1\nmode: strict\nmx: mail.example.com\nmax_age: 604800\n", &["sts_policy_syntax"]),
    ];
    for (policy, expected) in cases {
        let mut rig = Rig::with(&[], &[]).await;
        rig.policy(policy).await;
        rig.only(&[Section::MtaSts]);
        let audit = rig.audit("example.com").await;
        assert_eq!(signs(&audit), expected.iter().copied().collect(), "{policy}");
    }
    let mut rig = Rig::with(&[], &[]).await;
    rig.only(&[Section::MtaSts]);
    rig.web_server("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into()).await;
    let audit = rig.audit("example.com").await;
    assert_eq!(signs(&audit), BTreeSet::from(["sts_policy_unreachable"]));
    assert_eq!(audit.findings[0].values["problem"], "status 404 Not Found");
    let mut rig = Rig::with(&["_mta-sts"], &["_mta-sts.example.com TXT v=STSv1; id=2026-11-21"]).await;
    rig.only(&[Section::MtaSts]);
    assert_eq!(signs(&rig.audit("example.com").await), BTreeSet::from(["sts_record"]));
    let mut rig = Rig::with(&["_mta-sts"], &[]).await;
    rig.only(&[Section::MtaSts]);
    assert_eq!(signs(&rig.audit("example.com").await), BTreeSet::from(["sts_missing"]));
    let mut rig = Rig::with(&["_smtp._tls"], &[]).await;
    rig.policy(POLICY).await;
    rig.only(&[Section::MtaSts, TlsRpt]);
    assert_eq!(signs(&rig.audit("example.com").await), BTreeSet::from(["tlsrpt_missing"]));
}

#[tokio::test]
async fn under_an_enforced_policy_a_bad_certificate_is_a_problem() {
    let mut rig = Rig::with(&[], &[]).await;
    rig.policy(POLICY).await;
    rig.mail_host(Some(rig.ca.issue(&["other.example.com"]))).await;
    rig.only(&[Mx, Section::MtaSts]);
    assert_eq!(signs(&rig.audit("example.com").await), BTreeSet::from(["mx_certificate", "sts_certificate"]));
}

fn pin(certificate: &testkit::Issued) -> String {
    let der = certificate.der();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
    let hex: String = hash.as_ref().iter().map(|octet| format!("{octet:02x}")).collect();
    format!("_25._tcp.mail.example.com TLSA 3 0 1 {hex}")
}

#[tokio::test]
async fn pinned_certificates_are_compared_with_the_one_shown() {
    let mut rig = Rig::with(&[], &[]).await;
    let certificate = rig.ca.issue(&["mail.example.com"]);
    rig.zones.line(&pin(&certificate));
    rig.mail_host(Some(certificate)).await;
    rig.only(&[Mx, Section::Dane, TlsRpt]);
    let audit = rig.audit("example.com").await;
    assert_eq!(signs(&audit), BTreeSet::new(), "{:#?}", audit.sections);

    rig.mail_host(Some(rig.ca.issue(&["mail.example.com"]))).await;
    let audit = rig.audit("example.com").await;
    assert_eq!(signs(&audit), BTreeSet::from(["dane_mismatch"]));
    let record = &audit.findings[0].values["record"];
    assert!(record.starts_with("_25._tcp.mail.example.com. IN TLSA 3 1 1 "), "{record}");
    // What is proposed is right: publish it, and the finding is gone.
    let data = record.rsplit(' ').next().unwrap();
    rig.zones.line(&format!("_25._tcp.mail.example.com TLSA 3 1 1 {data}"));
    assert_eq!(signs(&rig.audit("example.com").await), BTreeSet::new());

    rig.zones.remove("_25._tcp.mail.example.com");
    rig.zones.line(&format!("_25._tcp.mail.example.com TLSA 1 1 1 {data}"));
    assert_eq!(signs(&rig.audit("example.com").await), BTreeSet::from(["dane_unusable"]));
    rig.zones.line("example.com MX 20 mail2.example.com.").line("mail2.example.com A 192.0.2.25");
    assert!(signs(&rig.audit("example.com").await).contains("dane_partial"));
}

#[tokio::test]
async fn dane_and_mta_sts_may_disagree() {
    let mut rig = Rig::with(&[], &[]).await;
    let certificate = Ca::named("Stranger").issue(&["mail.example.com"]);
    rig.zones.line(&pin(&certificate));
    rig.mail_host(Some(certificate)).await;
    rig.policy(POLICY).await;
    rig.only(&[Section::Dane, Section::MtaSts, Mx]);
    let audit = rig.audit("example.com").await;
    assert!(signs(&audit).contains("dane_sts_conflict"), "{:?}", signs(&audit));
}

#[tokio::test]
async fn name_servers_that_disagree_or_do_not_have_the_zone_are_told() {
    let other = Zones::start().await;
    let mut rig = Rig::with(&["ns2.example.com A"], &["ns2.example.com A 192.0.2.54"]).await;
    rig.plan.redirects.insert("192.0.2.54:53".parse().unwrap(), other.address());
    rig.only(&[Ns]);
    assert_eq!(signs(&rig.audit("example.com").await), BTreeSet::from(["ns_lame"]));
    for line in domain_rig::HEALTHY.iter().filter(|line| !line.contains("KEY")) {
        other.line(&line.replace("2026112101", "2026112001"));
    }
    assert_eq!(signs(&rig.audit("example.com").await), BTreeSet::from(["ns_serial_differ"]));
    other.remove("_dmarc.example.com").line("_dmarc.example.com TXT v=DMARC1; p=none");
    let audit = rig.audit("example.com").await;
    assert_eq!(signs(&audit), BTreeSet::from(["ns_differ"]));
    let words = &audit.findings[0].values["differences"];
    assert!(words.contains("only ns1.example.com has \"v=DMARC1; p=reject"), "{words}");
    other.fail("example.com", Trouble::Refused);
    let audit = rig.audit("example.com").await;
    assert_eq!(signs(&audit), BTreeSet::from(["ns_lame"]));
    assert_eq!(audit.findings[0].values["problem"], "REFUSED");
}

#[tokio::test]
async fn addresses_that_send_need_names_that_lead_back() {
    let check = async |lines: &[&str], helo: &str, expected: &[&str]| {
        let mut rig = Rig::with(&[], lines).await;
        rig.plan.ips = vec!["192.0.2.9".parse().unwrap()];
        rig.plan.helo = Some(helo.into());
        rig.only(&[Addresses]);
        let audit = rig.audit("example.com").await;
        assert_eq!(signs(&audit), expected.iter().copied().collect(), "{lines:?} {helo}");
    };
    let (ptr, out) = ("9.2.0.192.in-addr.arpa PTR out.example.com.", "out.example.com A 192.0.2.9");
    check(&[ptr, out], "out.example.com", &[]).await;
    check(&[out], "out.example.com", &["ptr_missing"]).await;
    check(
        &[ptr, "out.example.com A 192.0.2.1", "helo.example.com A 192.0.2.9"],
        "helo.example.com",
        &["ptr_not_forward"],
    )
    .await;
    let generic = [
        "9.2.0.192.in-addr.arpa PTR ip-192-0-2-9.dynamic.example.net.",
        "ip-192-0-2-9.dynamic.example.net A 192.0.2.9",
    ];
    check(&[generic[0], generic[1], out], "out.example.com", &["ptr_generic"]).await;
    check(&[ptr, out], "server.internal", &["helo_unresolvable"]).await;
    check(&[ptr, out], "mail.example.com", &["helo_mismatch"]).await;
}

#[tokio::test]
async fn an_address_that_spf_does_not_allow_gets_the_record_that_allows_it() {
    let mut rig = Rig::with(&[], &[]).await;
    rig.plan.ips = vec!["192.0.2.25".parse().unwrap(), "192.0.2.9".parse().unwrap(), "2001:db8::9".parse().unwrap()];
    rig.only(&[Spf]);
    let audit = rig.audit("example.com").await;
    assert_eq!(signs(&audit), BTreeSet::from(["spf_ip_not_covered"]));
    let records: Vec<&str> = audit.findings.iter().map(|found| found.values["record"].as_str()).collect();
    assert_eq!(
        records,
        [
            "example.com. IN TXT \"v=spf1 mx ip4:192.0.2.9 -all\"",
            "example.com. IN TXT \"v=spf1 mx ip6:2001:db8::9 -all\""
        ]
    );
    let run = audit.findings[0].explanation.fixes.iter().find_map(|fix| fix.run.as_deref());
    assert_eq!(run, Some(records[0]), "the record is in the fix as it has to be published");
}

#[tokio::test]
async fn routes_through_a_provider_need_its_term_and_its_keys() {
    let route = |host: Option<&str>, source: Option<&str>| SendingRoute {
        name: "main".into(),
        host: host.map(str::to_owned),
        source: source.map(|ip| ip.parse::<IpAddr>().unwrap()),
        helo: None,
    };
    let mut rig = Rig::with(&["s1._domainkey"], &[]).await;
    rig.plan.routes = vec![route(Some("smtp.sendgrid.net"), None), route(Some("relay.example.org"), None)];
    rig.only(&[Spf, Dmarc]);
    let audit = rig.audit("example.com").await;
    assert_eq!(signs(&audit), BTreeSet::from(["spf_route_not_covered", "dmarc_sender_unaligned"]));
    let record = &audit.findings[0].values["record"];
    assert_eq!(record, "example.com. IN TXT \"v=spf1 mx include:sendgrid.net -all\"");
    let own = |domain: &str| OwnKey { domain: domain.into(), selector: "own".into(), subdomains: true };
    for (key, passes) in [("example.com", true), ("example.net", false), ("mail.example.com", false)] {
        rig.plan.own_keys = vec![own(key)];
        let audit = rig.audit("example.com").await;
        let found = signs(&audit);
        assert_eq!(!found.contains("dmarc_sender_unaligned"), passes, "a key of ours for {key}: {found:?}");
    }
    let lines = ["example.com TXT v=spf1 include:sendgrid.net -all", "sendgrid.net TXT v=spf1 ip4:192.0.2.0/24 -all"];
    let mut rig = Rig::with(&["example.com TXT"], &lines).await;
    rig.plan.routes = vec![route(Some("smtp.sendgrid.net"), None), route(None, Some("192.0.2.9"))];
    rig.only(&[Spf, Dmarc]);
    assert_eq!(signs(&rig.audit("example.com").await), BTreeSet::new());
}

/// Zones of lists that work; the codes are added by the tests.
const LISTS: &[&str] = &[
    "zen.spamhaus.org",
    "b.barracudacentral.org",
    "bl.spamcop.net",
    "psbl.surriel.com",
    "bl.mailspike.net",
    "bl.0spam.org",
    "dnsbl-1.uceprotect.net",
    "dnsbl-2.uceprotect.net",
    "dnsbl-3.uceprotect.net",
    "dbl.spamhaus.org",
    "multi.surbl.org",
    "multi.uribl.com",
];

async fn with_lists(broken: &[&str], lines: &[&str]) -> Rig {
    let mut rig = Rig::with(&[], lines).await;
    for zone in LISTS.iter().filter(|zone| !broken.contains(zone)) {
        rig.zones.line(&format!("{zone} SOA ns.example.net. hostmaster.example.net. 1 1 1 1 1"));
        let listed = match *zone {
            "dbl.spamhaus.org" => "dbltest.com",
            "multi.surbl.org" => "test.surbl.org",
            "multi.uribl.com" => "test.uribl.com",
            _ => "2.0.0.127",
        };
        let code = if zone.starts_with("dbl.") { "127.0.1.2" } else { "127.0.0.2" };
        rig.zones.line(&format!("{listed}.{zone} A {code}"));
    }
    rig.plan.ips = vec!["192.0.2.9".parse().unwrap()];
    rig.only(&[Blocklists]);
    rig
}

#[tokio::test]
async fn a_list_is_believed_only_when_its_test_points_are_right() {
    let check = async |broken: &[&str], lines: &[&str], expected: &[&str]| {
        let rig = with_lists(broken, lines).await;
        let audit = rig.audit("example.com").await;
        // SORBS is explained each time somebody asks for lists.
        let mut wanted: BTreeSet<&str> = expected.iter().copied().collect();
        wanted.insert("list_retired");
        assert_eq!(signs(&audit), wanted, "{lines:?} {:#?}", audit.section(Blocklists));
        audit.healthy
    };
    assert!(check(&[], &[], &[]).await);
    assert!(!check(&[], &["9.2.0.192.zen.spamhaus.org A 127.0.0.4"], &["ip_listed"]).await);
    assert!(check(&[], &["9.2.0.192.zen.spamhaus.org A 127.0.0.10"], &["ip_listed_policy"]).await);
    assert!(check(&[], &["9.2.0.192.dnsbl-3.uceprotect.net A 127.0.0.2"], &["ip_listed_minor"]).await);
    assert!(!check(&[], &["example.com.dbl.spamhaus.org A 127.0.1.2"], &["domain_listed"]).await);
    // Refusals are no listings, neither at the address nor at the test points.
    assert!(check(&[], &["9.2.0.192.zen.spamhaus.org A 127.255.255.254"], &["list_refused"]).await);
    let zen = "zen.spamhaus.org SOA ns.example.net. hostmaster.example.net. 1 1 1 1 1";
    for code in ["127.255.255.252", "127.255.255.254", "127.255.255.255"] {
        let all = format!("*.zen.spamhaus.org A {code}");
        assert!(check(&["zen.spamhaus.org"], &[zen, &all], &["list_refused"]).await, "{code}");
    }
    // A dead list that lists the world, one that is gone, one that answers nonsense.
    assert!(check(&["zen.spamhaus.org"], &[zen, "*.zen.spamhaus.org A 127.0.0.2"], &["list_unusable"]).await);
    assert!(check(&["zen.spamhaus.org"], &[], &["list_unusable"]).await);
    assert!(check(&["zen.spamhaus.org"], &[zen, "*.zen.spamhaus.org A 192.0.2.200"], &["list_unusable"]).await);
    let rig = with_lists(&[], &[]).await;
    rig.zones.fail("2.0.0.127.zen.spamhaus.org", Trouble::ServFail);
    assert!(signs(&rig.audit("example.com").await).contains("list_unusable"));
}

#[test]
fn every_sign_has_a_rule_of_its_own() {
    let rules = RuleBase::builtin();
    let mut taken = BTreeSet::new();
    for sign in SIGNS {
        let values = explain::Values::new();
        let finding = rules.judge(&Query::sign(None, sign, &values)).unwrap_or_else(|| panic!("{sign} has no rule"));
        let rule = rules.rule(&finding.rule).unwrap();
        assert!(taken.insert(finding.rule.clone()), "{sign} shares {}", finding.rule);
        // Problems are repaired by a record or a command wherever there is one.
        assert!(!rule.fixes.is_empty(), "{sign}");
    }
    assert!(taken.len() == SIGNS.len());
}

#[test]
fn every_sign_is_noted_in_a_test() {
    let tests = [include_str!("domain.rs"), include_str!("domain_dnssec.rs")].concat();
    let missing: Vec<_> = SIGNS.iter().filter(|sign| !tests.contains(&format!("\"{sign}\""))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[tokio::test]
async fn many_domains_come_as_rows_and_a_bad_one_is_a_row_too() {
    let rig = Rig::with(&[], &[]).await;
    let names = ["example.com", "no such name", "exmaple.com"].map(str::to_owned);
    let mut rows = Vec::new();
    let stream = futures_util::stream::iter(names);
    diagnose::domain::audit_many(&std::sync::Arc::new(rig.auditor()), stream, 2, |audit| {
        rows.push(audit.row());
        true
    })
    .await;
    rows.sort_by(|a, b| a.domain.cmp(&b.domain));
    assert_eq!(
        rows.iter().map(|row| row.domain.as_str()).collect::<Vec<_>>(),
        ["example.com", "exmaple.com", "no such name"]
    );
    assert_eq!((rows[0].dmarc_policy.as_str(), rows[0].spf_lookups.as_str()), ("reject", "1"));
    assert_eq!((rows[1].healthy, rows[1].signs.as_str()), (false, "domain_missing"));
    assert!(!rows[2].error.is_empty() && rows[2].csv().ends_with("no such name is no domain name\r\n"));
}

#[tokio::test]
async fn what_strangers_publish_cannot_reach_the_terminal_or_the_shell() {
    let hostile = "example.com TXT v=spf1 include:$(id)`id`\u{1b}[2J -all";
    let mut rig = Rig::with(&["example.com TXT"], &[hostile]).await;
    rig.only(&[Spf]);
    let audit = rig.audit("example.com").await;
    let text = serde_json::to_string(&audit).unwrap();
    assert!(!text.contains('\u{1b}') && !text.contains("\\u001b"), "{text}");
    for run in audit.findings.iter().flat_map(|found| &found.explanation.fixes).filter_map(|fix| fix.run.as_deref()) {
        assert!(!run.contains('`') && !run.contains("$("), "{run}");
    }
}

#[tokio::test]
async fn a_failing_resolver_does_not_make_everything_missing() {
    let mut rig = Rig::with(&[], &[]).await;
    rig.plan = Plan { timeout: std::time::Duration::from_millis(300), ..rig.plan };
    for line in domain_rig::HEALTHY {
        rig.zones.fail(line.split(' ').next().unwrap(), Trouble::Silent);
    }
    let audit = rig.audit("example.com").await;
    assert_eq!(signs(&audit), BTreeSet::from(["domain_dns_failure"]));
    assert_eq!(audit.count(Severity::Problem), 1);
}

#[tokio::test]
async fn the_schema_names_every_field_of_the_result() {
    let schema: serde_json::Value = serde_json::from_str(include_str!("../../../docs/schemas/domain-1.json")).unwrap();
    let mut rig = Rig::with(&["example.com TXT"], &["example.com TXT v=spf1 +all"]).await;
    rig.only(&[Spf, Mx]);
    let audit = serde_json::to_value(rig.audit("example.com").await).unwrap();
    let fields = |value: &serde_json::Value, properties: &serde_json::Value| {
        for name in value.as_object().unwrap().keys() {
            assert!(properties.get(name).is_some(), "{name} is not in the schema");
        }
    };
    fields(&audit, &schema["properties"]);
    fields(&audit["sections"][0], &schema["$defs"]["section"]["properties"]);
    fields(&audit["findings"][0], &schema["$defs"]["finding"]["properties"]);
    fields(
        &audit["findings"][0]["explanation"],
        &schema["$defs"]["finding"]["properties"]["explanation"]["properties"],
    );
    let parts = schema["$defs"]["part"]["enum"].as_array().unwrap();
    assert!(Section::ALL.iter().all(|section| parts.contains(&serde_json::to_value(section).unwrap())));
    for name in schema["required"].as_array().unwrap() {
        assert!(audit.get(name.as_str().unwrap()).is_some(), "{name} is missing");
    }
}

#[tokio::test]
async fn name_servers_that_cannot_be_asked_from_here_are_no_fault_of_the_zone() {
    let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut rig = Rig::with(&[], &[]).await;
    rig.plan.redirects.insert("192.0.2.53:53".parse().unwrap(), closed.local_addr().unwrap());
    rig.plan.timeout = std::time::Duration::from_secs(5);
    rig.only(&[Ns]);
    let audit = rig.audit("example.com").await;
    assert_eq!(signs(&audit), BTreeSet::new());
    assert!(audit.section(Ns).unwrap().details.iter().any(|line| line.contains("cannot be asked from here")));
}

#[tokio::test]
async fn a_private_mail_host_is_told_even_when_it_answers_here() {
    let mut rig = Rig::with(&["mail.example.com A"], &["mail.example.com A 10.1.2.3"]).await;
    rig.only(&[Mx]);
    rig.mail_host(Some(rig.ca.issue(&["mail.example.com"]))).await;
    let sink = rig.sink.as_ref().unwrap().address();
    rig.plan.redirects.insert("10.1.2.3:25".parse().unwrap(), sink);
    let audit = rig.audit("example.com").await;
    assert_eq!(signs(&audit), BTreeSet::from(["mx_target_private"]));
}
