//! The audit of signed domains: what is signed, what is not, and what is signed wrongly.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod domain_rig;

use std::collections::BTreeSet;
use std::time::Duration;

use diagnose::domain::{Audit, Auditor, Plan, Section};
use domain_rig::signs;
use explain::RuleBase;
use net::{ClientTls, Clock, Dnssec, Net, Resolver, ResolverSettings, Roots};
use testkit::signed::SignedTree;
use testkit::zones::{RecordType, rdata};

async fn audit(domain: &str, anchored: bool) -> Audit {
    let (mx, a) = (rdata(RecordType::MX, "10 mail.secure."), rdata(RecordType::A, "192.0.2.25"));
    let pin = rdata(RecordType::TLSA, &format!("3 1 1 {}", "ab".repeat(32)));
    let records = ["secure", "plain", "bogus"].map(|zone| (format!("example.{zone}"), zone));
    let mut all = vec![("mail.secure", a.clone()), ("_25._tcp.mail.secure", pin.clone())];
    all.extend(records.iter().map(|(name, _)| (name.as_str(), mx.clone())));
    all.extend([("example2.plain", rdata(RecordType::MX, "10 mail.plain.")), ("mail.plain", a)]);
    all.push(("_25._tcp.mail.plain", pin));
    let tree = SignedTree::start(&all).await;
    let clock = Clock::system();
    let timeout = Duration::from_secs(5);
    let settings = ResolverSettings { servers: vec![tree.address()], timeout, dnssec: Dnssec::Off };
    let dnssec = if anchored { Dnssec::Anchors(tree.anchors().to_owned()) } else { Dnssec::Root };
    let validating = Resolver::new(ResolverSettings { dnssec, ..settings.clone() }).unwrap();
    let tls = ClientTls::new(&Roots::Web, clock.clone()).unwrap();
    let net = Net { resolver: Resolver::new(settings).unwrap(), tls, clock };
    let plan = Plan { sections: [Section::Dane].into(), timeout, ..Plan::default() };
    let judge = diagnose::Judge::new(RuleBase::shared());
    Auditor::new(net, Some(validating), judge, plan).audit(domain).await
}

fn dnssec(audit: &Audit) -> &str {
    &audit.section(Section::Dane).unwrap().facts["dnssec"]
}

#[tokio::test]
async fn a_signed_domain_with_pins_has_no_findings() {
    let audit = audit("example.secure", true).await;
    assert_eq!((signs(&audit), dnssec(&audit)), (BTreeSet::new(), "secure"));
    assert!(audit.section(Section::Dane).unwrap().summary.starts_with("TLSA for mail.secure"));
}

#[tokio::test]
async fn pins_without_signatures_have_no_effect() {
    for domain in ["example2.plain", "example.plain"] {
        let audit = audit(domain, true).await;
        assert_eq!((signs(&audit), dnssec(&audit)), (BTreeSet::from(["dane_insecure"]), "not signed"), "{domain}");
    }
}

#[tokio::test]
async fn wrong_signatures_are_told() {
    let audit = audit("example.bogus", true).await;
    assert_eq!((signs(&audit), dnssec(&audit)), (BTreeSet::from(["dnssec_bogus"]), "wrong"));
    assert!(!audit.healthy);
}

#[tokio::test]
async fn a_resolver_that_passes_no_signatures_makes_nothing_bogus() {
    // The keys of the real root do not fit this tree: as if signatures were stripped on the way.
    let audit = audit("example.secure", false).await;
    assert_eq!((signs(&audit), dnssec(&audit)), (BTreeSet::new(), "not checked"));
}
