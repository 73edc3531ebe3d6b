//! Validation against a signed tree on the loopback address.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use net::lookup::Kind;
use net::{Dnssec, Outcome, Proof, Resolver, ResolverSettings};
use testkit::signed::{SignedTree, txt};

async fn tree() -> SignedTree {
    SignedTree::start(&[("a.secure", txt("one")), ("a.plain", txt("two")), ("a.bogus", txt("three"))]).await
}

fn resolver(tree: &SignedTree, dnssec: Dnssec) -> Resolver {
    let settings = ResolverSettings { servers: vec![tree.address()], timeout: Duration::from_secs(5), dnssec };
    Resolver::new(settings).expect("resolver")
}

#[tokio::test]
async fn signed_unsigned_and_wrongly_signed_are_told_apart() {
    let tree = tree().await;
    let resolver = resolver(&tree, Dnssec::Anchors(tree.anchors().to_owned()));
    let secure = resolver.query("a.secure", Kind::Txt).await;
    assert_eq!((secure.dnssec, secure.texts()), (Proof::Secure, vec!["one".to_owned()]));
    let plain = resolver.query("a.plain", Kind::Txt).await;
    assert_eq!((plain.dnssec, plain.texts()), (Proof::Insecure, vec!["two".to_owned()]));
    let bogus = resolver.query("a.bogus", Kind::Txt).await;
    assert_eq!((bogus.dnssec, bogus.records.len()), (Proof::Bogus, 0));
    assert!(matches!(bogus.outcome, Outcome::Failed(_)), "{bogus:?}");
}

#[tokio::test]
async fn absence_is_proven_too() {
    let tree = tree().await;
    let resolver = resolver(&tree, Dnssec::Anchors(tree.anchors().to_owned()));
    let none = resolver.query("a.secure", Kind::Tlsa).await;
    assert_eq!((none.outcome, none.dnssec), (Outcome::NoData, Proof::Secure));
    let missing = resolver.query("b.secure", Kind::Tlsa).await;
    assert_eq!((missing.outcome, missing.dnssec), (Outcome::NxDomain, Proof::Secure));
    let unsigned = resolver.query("b.plain", Kind::Tlsa).await;
    assert_eq!(unsigned.outcome, Outcome::NxDomain);
    assert_ne!(unsigned.dnssec, Proof::Secure);
}

#[tokio::test]
async fn without_the_setting_nothing_is_checked() {
    let tree = tree().await;
    let found = resolver(&tree, Dnssec::Off).query("a.bogus", Kind::Txt).await;
    assert_eq!((found.dnssec, found.texts()), (Proof::Unknown, vec!["three".to_owned()]));
}

#[tokio::test]
async fn keys_that_are_none_are_refused() {
    let settings = ResolverSettings { dnssec: Dnssec::Anchors("nonsense".into()), ..ResolverSettings::default() };
    assert!(Resolver::new(settings).is_err());
}
