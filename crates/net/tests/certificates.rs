//! Certificate files: the self-signed pair of a first start, and what is wrong with others.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;

use net::tls::TlsError;
use net::{ClientTls, Clock, Roots, ServerTls};
use testkit::ca::Ca;

/// 2026-11-21 12:00 UTC.
const NOW_MS: i64 = 1_795_262_400_000;

#[test]
fn the_first_start_makes_a_pair_and_the_next_one_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("tls");
    let names = ["relay.test".to_owned(), "192.0.2.1".to_owned()];
    let made = ServerTls::self_signed(&names, &inner, Clock::manual(NOW_MS)).unwrap();
    let ten_years = NOW_MS / 1000 + 10 * 365 * 86_400;
    assert!((made.not_after().unwrap() - ten_years).abs() < 10 * 86_400);
    let key = std::fs::metadata(inner.join("key.pem")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    let text = std::fs::read(inner.join("cert.pem")).unwrap();
    ServerTls::self_signed(&names, &inner, Clock::manual(NOW_MS)).unwrap();
    assert_eq!(std::fs::read(inner.join("cert.pem")).unwrap(), text);
    assert_eq!(std::fs::read_dir(&inner).unwrap().count(), 2, "no leftovers");
}

#[test]
fn a_pair_of_which_half_is_missing_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = Ca::new().issue(&["relay.test"]).write(dir.path());
    let (certificate, key) = (dir.path().join(certificate), dir.path().join(key));
    let inner = dir.path().join("tls");
    std::fs::create_dir(&inner).unwrap();
    std::fs::copy(certificate, inner.join("cert.pem")).unwrap();
    let missing = ServerTls::self_signed(&["relay.test".to_owned()], &inner, Clock::system()).unwrap_err();
    assert!(matches!(missing, TlsError::File { path, .. } if path.ends_with("key.pem")));
    std::fs::copy(key, inner.join("key.pem")).unwrap();
    ServerTls::self_signed(&["relay.test".to_owned()], &inner, Clock::system()).unwrap();
}

#[test]
fn what_is_wrong_with_a_pair_is_told_with_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = Ca::new().issue(&["relay.test"]).write(dir.path());
    let other = tempfile::tempdir().unwrap();
    let (_, foreign) = Ca::new().issue(&["relay.test"]).write(other.path());
    let load = |certificate, key| ServerTls::load(certificate, key, Clock::system()).unwrap_err();
    assert!(matches!(load(&certificate, &foreign), TlsError::KeyMismatch { .. }));
    assert!(matches!(load(&key, &key), TlsError::Pem { wanted: "certificate", .. }));
    assert!(matches!(load(&certificate, &certificate), TlsError::Pem { wanted: "private key", .. }));
    let missing = load(&dir.path().join("none.pem"), &key);
    assert!(missing.to_string().contains("none.pem"));
}

#[test]
fn roots_come_from_the_list_or_from_a_file_but_not_from_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    assert!(ClientTls::new(&Roots::Web, Clock::system()).is_ok());
    assert!(ClientTls::new(&Roots::Both, Clock::system()).is_ok());
    assert!(ClientTls::new(&Roots::Pem(Ca::new().write_pem(dir.path())), Clock::system()).is_ok());
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    assert!(matches!(ClientTls::new(&Roots::Pem(empty), Clock::system()), Err(TlsError::NoRoots)));
    let none = dir.path().join("none.pem");
    assert!(matches!(ClientTls::new(&Roots::Pem(none), Clock::system()), Err(TlsError::File { .. })));
}
