//! Keys and their states.

use proto::policy::dkim::{KeyAlgorithm, parse_key};
use secrecy::{ExposeSecret, SecretString};

use super::*;

const DAY: i64 = 86_400_000;

fn key(selector: &str, kind: KeyKind, state: KeyState) -> KeyRecord {
    KeyRecord {
        selector: selector.into(),
        kind,
        bits: 2048,
        public: "AAAA".into(),
        state,
        created_ms: 0,
        changed_ms: 0,
        when_published: false,
        retire_ms: None,
        checked: None,
    }
}

fn good(at_ms: i64) -> Checked {
    Checked { at_ms, problems: Vec::new() }
}

fn states(record: &DomainRecord) -> Vec<(&str, KeyState)> {
    record.keys.iter().map(|key| (key.selector.as_str(), key.state)).collect()
}

#[test]
fn what_is_published_is_what_was_made() {
    let key = NewKey::generate(KeyKind::Ed25519, 0).unwrap();
    let made = KeyRecord { public: key.public.clone(), ..self::key("e", KeyKind::Ed25519, KeyState::Prepared) };
    let parsed = parse_key(made.record().as_bytes());
    assert!(parsed.remarks.is_empty(), "{:?}", parsed.remarks);
    assert_eq!(parsed.record.unwrap().algorithm, KeyAlgorithm::Ed25519);
    let key = NewKey::generate(KeyKind::Rsa, 2048).unwrap();
    let made = KeyRecord { public: key.public.clone(), ..self::key("r", KeyKind::Rsa, KeyState::Prepared) };
    let parsed = parse_key(made.record().as_bytes());
    assert!(parsed.remarks.is_empty(), "{:?}", parsed.remarks);
    assert_eq!(parsed.record.unwrap().bits, Some(2048));
    assert!(matches!(NewKey::generate(KeyKind::Rsa, 1024), Err(KeyError::Size)));
}

#[test]
fn private_keys_come_back_from_the_secret_and_are_never_shown() {
    let (a, b) = (NewKey::generate(KeyKind::Ed25519, 0).unwrap(), NewKey::generate(KeyKind::Ed25519, 0).unwrap());
    let mut secrets = Secrets::default();
    secrets.add("a", &a);
    secrets.add("b", &b);
    assert_eq!(format!("{secrets:?}"), r#"{"a", "b"}"#);
    assert!(!format!("{a:?}").contains(a.private_text()));
    let mut again = Secrets::read(Some(&secrets.write())).unwrap();
    assert_eq!(again.key("a").unwrap().kind(), KeyKind::Ed25519);
    again.remove("a");
    assert!(matches!(again.key("a"), Err(KeyError::Damaged)));
    assert!(matches!(Secrets::read(Some(&"[]".into())), Err(KeyError::Damaged)));
    assert!(Secrets::read(None).unwrap().write().expose_secret() == "{}");
}

#[test]
fn keys_of_other_programs_are_taken_and_others_are_refused() {
    let openssl = |args: &[&str]| -> SecretString {
        let output = std::process::Command::new("openssl").args(args).output().expect("openssl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().into()
    };
    for (args, kind, bits) in [
        (&["genrsa", "-traditional", "2048"][..], KeyKind::Rsa, 2048),
        (&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"], KeyKind::Rsa, 3072),
        (&["genpkey", "-algorithm", "ed25519"], KeyKind::Ed25519, 256),
    ] {
        let key = NewKey::import(&openssl(args)).unwrap();
        assert_eq!((key.kind, key.bits), (kind, bits), "{args:?}");
    }
    let short = NewKey::import(&openssl(&["genrsa", "1024"]));
    assert!(matches!(short, Err(KeyError::Unusable)), "{short:?}");
    let other = NewKey::import(&openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]));
    assert!(matches!(other, Err(KeyError::Unusable)), "{other:?}");
    assert!(matches!(NewKey::import(&"hello".into()), Err(KeyError::NotPem)));
}

#[test]
fn a_pair_changes_together_and_only_when_both_are_everywhere_now() {
    let mut record = DomainRecord {
        keys: vec![
            key("old-r", KeyKind::Rsa, KeyState::Active),
            key("old-e", KeyKind::Ed25519, KeyState::Active),
            KeyRecord { when_published: true, ..key("new-r", KeyKind::Rsa, KeyState::Prepared) },
            KeyRecord { when_published: true, ..key("new-e", KeyKind::Ed25519, KeyState::Prepared) },
            key("aside", KeyKind::Rsa, KeyState::Prepared),
        ],
        ..DomainRecord::default()
    };
    record.seen("new-r", good(10));
    record.seen("new-e", Checked { at_ms: 10, problems: vec!["ns2 lacks it".into()] });
    assert_eq!(record.ready(10), Vec::<String>::new());
    record.seen("new-e", good(20));
    assert_eq!(record.ready(20), Vec::<String>::new(), "the other was not seen at this time");
    record.seen("new-r", Checked { at_ms: 20, problems: vec!["ns1 lost it".into()] });
    assert_eq!(record.key("new-r").unwrap().state, KeyState::Prepared);
    for selector in ["new-r", "new-e", "old-r"] {
        record.seen(selector, good(30));
    }
    let ready = record.ready(30);
    assert_eq!(ready, ["new-r", "new-e"]);
    record.activate(&ready, 30, 5 * 86_400);
    use KeyState::*;
    assert_eq!(
        states(&record),
        [("old-r", Retiring), ("old-e", Retiring), ("new-r", Active), ("new-e", Active), ("aside", Prepared)]
    );
    assert_eq!(record.key("old-r").unwrap().retire_ms, Some(30 + 7 * DAY));
    assert_eq!(record.ready(30), Vec::<String>::new());
}

#[test]
fn a_key_of_another_kind_joins_the_one_that_signs() {
    let mut record = DomainRecord {
        keys: vec![key("r", KeyKind::Rsa, KeyState::Active), key("e", KeyKind::Ed25519, KeyState::Published)],
        ..DomainRecord::default()
    };
    record.activate(&["e".into()], 1, 0);
    assert_eq!(states(&record), [("r", KeyState::Active), ("e", KeyState::Active)]);
}

#[test]
fn an_active_key_whose_record_is_lost_stays_active_and_says_so() {
    let mut record = DomainRecord { keys: vec![key("r", KeyKind::Rsa, KeyState::Active)], ..DomainRecord::default() };
    record.seen("r", Checked { at_ms: 5, problems: vec!["ns1 lacks it".into()] });
    let key = record.key("r").unwrap();
    assert_eq!((key.state, key.checked.as_ref().unwrap().problems.len()), (KeyState::Active, 1));
}

#[test]
fn a_key_retires_after_its_time_and_after_the_mail_it_signed() {
    let mut record = DomainRecord {
        keys: vec![key("old", KeyKind::Rsa, KeyState::Active), key("new", KeyKind::Rsa, KeyState::Published)],
        ..DomainRecord::default()
    };
    let now = 100 * DAY;
    record.activate(&["new".into()], now, 10 * 86_400);
    assert_eq!(record.key("old").unwrap().retire_ms, Some(now + 12 * DAY), "longer than a message may wait");
    assert_eq!(record.retire(now + 11 * DAY, None), Vec::<String>::new());
    assert_eq!(record.retire(now + 30 * DAY, Some(now - 1)), Vec::<String>::new(), "held mail still needs it");
    assert_eq!(record.retire(now + 30 * DAY, Some(now + 60_001)), ["old"]);
    assert!(!record.key("old").unwrap().is_wanted());
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let mut record = DomainRecord { keys: vec![key("a", KeyKind::Rsa, KeyState::Active)], ..DomainRecord::default() };
    assert_eq!(record.problems(), Vec::<String>::new());
    record.keys.push(key("a", KeyKind::Rsa, KeyState::Active));
    record.keys.push(key("a..b", KeyKind::Rsa, KeyState::Active));
    record.leave_out = vec!["From".into(), "Date".into(), "a b".into()];
    assert_eq!(record.problems().len(), 4, "{:?}", record.problems());
    for (text, is) in
        [("s1", true), ("a.b-c", true), ("k_1", true), ("", false), ("-a", false), ("A", false), ("a.", false)]
    {
        assert_eq!(is_selector(text), is, "{text}");
    }
}
