//! What is added, what is removed, and that nothing else changes.

use proptest::prelude::*;

use super::super::scan::scan;
use super::*;

const COMPLETION: Completion<'_> =
    Completion { received: "R", date_rfc5322: "D", message_id: "<M>", strip: &["X-Pillarbox-*", "X-Secret"], more: "" };

fn completed(content: &str) -> String {
    let out = complete(content.as_bytes(), &scan(content.as_bytes()).unwrap(), &COMPLETION);
    assert_eq!(out.len(), out.capacity(), "one allocation of the exact size");
    String::from_utf8(out).unwrap()
}

#[test]
fn adds_what_is_missing_and_removes_what_is_private() {
    let (all, rest) = ("Received: R\r\nDate: D\r\nMessage-ID: <M>\r\n", "Received: R\r\n");
    for (content, added, kept) in [
        ("Subject: s\r\n\r\nbody\r\n", all, "Subject: s\r\n\r\nbody\r\n"),
        ("date: d\r\nMESSAGE-ID: <m>\r\n\r\nbody\r\n", rest, "date: d\r\nMESSAGE-ID: <m>\r\n\r\nbody\r\n"),
        ("Date: d\r\n\r\n", "Received: R\r\nMessage-ID: <M>\r\n", "Date: d\r\n\r\n"),
        ("A: b\r\nBcc: x@y,\r\n z@y\r\nC: d\r\n\r\nBcc: text\r\n", all, "A: b\r\nC: d\r\n\r\nBcc: text\r\n"),
        ("return-path: <x>\r\nA: b\r\nresent-bcc: x\r\n\r\n", all, "A: b\r\n\r\n"),
        ("X-Pillarbox-Stream: s\r\nx-secret: s\r\nX-Secrets: s\r\n\r\n", all, "X-Secrets: s\r\n\r\n"),
        ("Bcc: x", all, "\r\n"),
        ("A: b", all, "A: b\r\n"),
        ("A: b\r\n", all, "A: b\r\n"),
        ("A: b\r\nbody\r\n", all, "A: b\r\n\r\nbody\r\n"),
        ("body", all, "\r\nbody\r\n"),
        ("\r\nbody\r", all, "\r\nbody\r\n"),
        ("", all, ""),
        ("From x@y Mon Jan 1\r\nA: b\r\n\r\n", all, "A: b\r\n\r\n"),
    ] {
        assert_eq!(completed(content), format!("{added}{kept}"), "{content:?}");
    }
}

#[test]
fn the_trace_field_says_how_the_message_came() {
    let recipient = Address::parse("r@d.example").unwrap();
    let facts = ReceivedFacts {
        helo: "client.example",
        peer: Some("192.0.2.1".parse().unwrap()),
        host: "mx.example",
        protocol: Protocol::Esmtp { tls: true, authenticated: true, utf8: false },
        id: "abc123",
        recipient: Some(&recipient),
        date: "Thu, 1 Jan 1970 00:00:00 +0000",
    };
    assert_eq!(
        received_value(&facts),
        "from client.example ([192.0.2.1])\r\n\tby mx.example with ESMTPSA id abc123\r\n\tfor <r@d.example>;\r\n\t\
         Thu, 1 Jan 1970 00:00:00 +0000"
    );
    let peer = Some("2001:db8::1".parse().unwrap());
    let hostile = received_value(&ReceivedFacts { helo: "a(\r\n b)\"é;", peer, recipient: None, ..facts });
    assert!(hostile.starts_with("from a????b???? ([IPv6:2001:db8::1])\r\n\tby "), "{hostile}");
    assert!(!hostile.contains("for <") && !hostile.contains('"') && hostile.is_ascii());
    assert!(received_value(&ReceivedFacts { helo: "", peer: None, ..facts }).starts_with("from unknown\r\n\tby"));
    let utf8 = Address::parse("grüße@d.example").unwrap();
    assert!(!received_value(&ReceivedFacts { recipient: Some(&utf8), ..facts }).contains("for"));
    let protocol = Protocol::Esmtp { tls: false, authenticated: false, utf8: true };
    let with_utf8 = received_value(&ReceivedFacts { recipient: Some(&utf8), protocol, ..facts });
    assert!(with_utf8.contains("with UTF8SMTP id") && with_utf8.contains("for <grüße@d.example>"));
}

#[test]
fn line_ends_are_made_the_same() {
    for (content, normal) in [
        ("a\r\nb\r\n", "a\r\nb\r\n"),
        ("a\nb\n", "a\r\nb\r\n"),
        ("a\rb\r", "a\r\nb\r\n"),
        ("\n\r\n\r\r\n", "\r\n\r\n\r\n\r\n"),
        ("", ""),
    ] {
        let out = normalize_line_ends(content.as_bytes());
        assert_eq!(out, normal.as_bytes(), "{content:?}");
        assert_eq!(matches!(out, Cow::Borrowed(_)), content == normal);
    }
}

proptest! {
    #[test]
    fn all_other_octets_stay(
        fields in prop::collection::vec((prop::sample::select(vec!["Subject", "Bcc", "Date", "X-Pillarbox-A", "DKIM-Signature", "To"]),
            "[ -~]{0,20}(\r\n [!-~]{1,9}){0,2}"), 0..8),
        body in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let render = |private: bool| fields.iter()
            .filter(|(name, _)| private || !["Bcc", "X-Pillarbox-A"].contains(name))
            .map(|(name, value)| format!("{name}:{value}\r\n")).collect::<String>();
        let content = [render(true).as_bytes(), b"\r\n", &body].concat();
        let out = complete(&content, &scan(&content).unwrap(), &COMPLETION);
        prop_assert_eq!(out.len(), out.capacity());
        let kept = [render(false).as_bytes(), b"\r\n", &body].concat();
        let has_date = fields.iter().any(|(name, _)| *name == "Date");
        let expected: &[u8] = if has_date { b"Received: R\r\nMessage-ID: <M>\r\n" } else { b"Received: R\r\nDate: D\r\nMessage-ID: <M>\r\n" };
        let whole = [expected, &kept].concat();
        let ends: &[&[u8]] = &[b"", b"\n", b"\r\n"];
        prop_assert!(ends.iter().any(|end| out == [&whole, *end].concat()) && out.ends_with(b"\r\n"));
    }
    #[test]
    fn nothing_that_follows_is_lost_whatever_comes(content in prop::collection::vec(any::<u8>(), 0..200)) {
        let scan = scan(&content).unwrap();
        let out = complete(&content, &scan, &COMPLETION);
        prop_assert!(out.ends_with(b"\r\n"));
        prop_assert!(memchr::memmem::find(&out, &content[scan.header_end..]).is_some());
    }
}
