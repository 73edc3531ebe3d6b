//! What parses as an address, what does not, and how it is written again.

use proptest::prelude::*;

use super::*;

#[test]
fn valid_addresses_are_kept_or_brought_into_one_form() {
    for (written, kept) in [
        ("a@b", "a@b"),
        ("ann@Example.ORG", "ann@example.org"),
        ("Ann.Lee+tag@example.org", "Ann.Lee+tag@example.org"),
        ("!#$%&'*+-/=?^_`{|}~@example.org", "!#$%&'*+-/=?^_`{|}~@example.org"),
        ("\"ann\"@example.org", "ann@example.org"),
        ("\"a\\nn\"@example.org", "ann@example.org"),
        ("\"ann lee\"@example.org", "\"ann lee\"@example.org"),
        ("\"a@b\"@example.org", "\"a@b\"@example.org"),
        ("\"a\\\"b\"@example.org", "\"a\\\"b\"@example.org"),
        ("\"a\\\\b\"@example.org", "\"a\\\\b\"@example.org"),
        ("\".a..b.\"@example.org", "\".a..b.\"@example.org"),
        ("\">\"@example.org", "\">\"@example.org"),
        ("ann@xn--mnchen-3ya.example", "ann@xn--mnchen-3ya.example"),
        ("ann@m\u{fc}nchen.example", "ann@xn--mnchen-3ya.example"),
        ("ann@M\u{dc}NCHEN.example", "ann@xn--mnchen-3ya.example"),
        ("j\u{f6}rg@example.org", "j\u{f6}rg@example.org"),
        ("\"j\u{f6}rg\"@example.org", "j\u{f6}rg@example.org"),
        ("ann@[192.0.2.1]", "ann@[192.0.2.1]"),
        ("ann@[ipv6:2001:DB8:0::1]", "ann@[IPv6:2001:db8::1]"),
        ("ann@1and1.example", "ann@1and1.example"),
        ("ann@3com", "ann@3com"),
    ] {
        let address = Address::parse(written).unwrap_or_else(|error| panic!("{written}: {error}"));
        assert_eq!(address.as_str(), kept, "{written}");
        assert_eq!(Address::parse(kept).unwrap(), address, "{kept} is stable");
        assert_eq!(format!("{}@{}", address.local_part(), address.domain()), kept);
    }
}

#[test]
fn what_is_no_address_is_refused_for_the_right_reason() {
    use AddressError::{Domain, LocalPart, NoAt, TooLong};
    let long_local = format!("{}@example.org", "a".repeat(65));
    let long_label = format!("a@{}.example", "b".repeat(64));
    let long_domain = format!("a@{}", ["b".repeat(60).as_str(); 5].join("."));
    let long_whole = format!("{}@{}", "a".repeat(64), ["b".repeat(60).as_str(); 4].join("."));
    let huge = format!("a@{}", "b".repeat(5000));
    for (written, reason) in [
        ("", NoAt),
        ("ann", NoAt),
        ("\"ann\"", NoAt),
        ("\"ann\"x@example.org", NoAt),
        ("@example.org", LocalPart),
        ("\"\"@example.org", LocalPart),
        (".ann@example.org", LocalPart),
        ("ann.@example.org", LocalPart),
        ("an..n@example.org", LocalPart),
        ("an n@example.org", LocalPart),
        ("ann\r\n@example.org", LocalPart),
        ("\"an\r\nn\"@example.org", LocalPart),
        ("\"an\\\nn\"@example.org", LocalPart),
        ("\"an\0n\"@example.org", LocalPart),
        ("\"ann@example.org", LocalPart),
        ("<ann@example.org>", LocalPart),
        ("Ann <ann@example.org>", LocalPart),
        ("an\u{85}n@example.org", LocalPart),
        ("an\u{2028}n@example.org", LocalPart),
        ("an\u{202e}n@example.org", LocalPart),
        ("an\u{a0}n@example.org", LocalPart),
        ("an(c)n@example.org", LocalPart),
        ("a,b@example.org", LocalPart),
        ("a;b@example.org", LocalPart),
        ("a:b@example.org", LocalPart),
        (long_local.as_str(), LocalPart),
        ("ann@", Domain),
        ("ann@.", Domain),
        ("ann@example.org.", Domain),
        ("ann@.example.org", Domain),
        ("ann@exa..mple.org", Domain),
        ("ann@-example.org", Domain),
        ("ann@example-.org", Domain),
        ("ann@exa_mple.org", Domain),
        ("ann@exa mple.org", Domain),
        ("ann@example.org>", Domain),
        ("ann@example.org\r\n", Domain),
        ("ann@b@example.org", Domain),
        ("ann@192.0.2.1", Domain),
        ("ann@[192.0.2.256]", Domain),
        ("ann@[192.0.2.1", Domain),
        ("ann@[192.0.2.01]", Domain),
        ("ann@[2001:db8::1]", Domain),
        ("ann@[IPv6:fe80::1%eth0]", Domain),
        ("ann@[x-net:1]", Domain),
        ("ann@[]", Domain),
        ("ann@exa\u{ff20}mple.org", Domain),
        ("ann@exa\u{2028}mple.org", Domain),
        (long_label.as_str(), Domain),
        (long_domain.as_str(), Domain),
        (long_whole.as_str(), TooLong),
        (huge.as_str(), TooLong),
    ] {
        assert_eq!(Address::parse(written), Err(reason), "{written:?}");
    }
}

#[test]
fn a_literal_gives_its_ip_address() {
    let literal = |text: &str| Address::parse(text).unwrap().literal();
    assert_eq!(literal("a@[192.0.2.1]"), Some("192.0.2.1".parse().unwrap()));
    assert_eq!(literal("a@[IPv6:::1]"), Some("::1".parse().unwrap()));
    assert_eq!(literal("a@example.org"), None);
}

#[test]
fn only_a_local_part_can_need_smtputf8() {
    assert!(Address::parse("j\u{f6}rg@example.org").unwrap().needs_smtputf8());
    assert!(!Address::parse("ann@m\u{fc}nchen.example").unwrap().needs_smtputf8());
}

#[test]
fn a_stored_address_is_checked_when_it_is_read() {
    let address: Address = "ann@example.org".parse().unwrap();
    assert_eq!(String::from(address.clone()), "ann@example.org");
    assert_eq!(Address::try_from("ann@example.org".to_owned()).unwrap(), address);
    assert!(Address::try_from("ann\r\n@example.org".to_owned()).is_err());
    assert_eq!(ReversePath::default().to_string(), "<>");
    assert_eq!(ReversePath::from(address).to_string(), "<ann@example.org>");
}

#[test]
fn domains_are_parsed_alone_too() {
    assert_eq!(parse_domain("B\u{fc}cher.EXAMPLE").unwrap(), "xn--bcher-kva.example");
    assert_eq!(parse_domain("[192.0.2.1]").unwrap(), "[192.0.2.1]");
    assert_eq!(parse_domain(""), Err(AddressError::Domain));
}

proptest! {
    #[test]
    fn whatever_parses_is_one_clean_line_and_parses_to_itself(text in "\\PC{0,12}|[ -~\\r\\n\\x00]{0,12}@[ -~\\r\\n]{0,12}|\"[ -~]{0,9}\"@[a-z]{1,5}") {
        if let Ok(address) = Address::parse(&text) {
            prop_assert!(!address.as_str().chars().any(char::is_control));
            prop_assert!(address.as_str().len() <= 254);
            prop_assert_eq!(Address::parse(address.as_str()), Ok(address.clone()));
        }
    }
}
