//! Replies written, shown and read.

use proptest::prelude::*;

use super::*;

fn encoded(reply: &Reply) -> String {
    let mut out = Vec::new();
    reply.encode_into(&mut out);
    String::from_utf8(out).unwrap()
}

fn read_all(octets: &[u8]) -> Result<Vec<Reply>, BadReply> {
    let mut reader = ReplyReader::new();
    reader.push(octets);
    let mut replies = Vec::new();
    while let Some(reply) = reader.next()? {
        replies.push(reply);
    }
    Ok(replies)
}

#[test]
fn enhanced_codes_are_found_only_where_they_are_codes() {
    for (code, text, expected) in [
        (550, "5.1.1 no such user", Some(EnhancedCode(5, 1, 1))),
        (250, "2.0.0", Some(EnhancedCode(2, 0, 0))),
        (550, "5.7.133 restricted", Some(EnhancedCode(5, 7, 133))),
        (450, "5.1.1 other class", None),
        (550, "5.1 short", None),
        (550, "5.1.1.1 long", None),
        (550, "5.1.1000 wide", None),
        (550, "5.1.1: colon", None),
        (550, "no code 5.1.1", None),
        (550, "", None),
    ] {
        assert_eq!(Reply::new(code, text).enhanced(), expected, "{code} {text}");
    }
}

#[test]
fn text_is_the_lines_without_their_codes() {
    let reply =
        Reply::lines(550, vec!["5.7.1 Refused.".into(), "5.7.1 See".into(), "".into(), "http://example.org".into()]);
    assert_eq!(reply.text(), "Refused. See http://example.org");
}

#[test]
fn a_reply_is_written_line_by_line() {
    assert_eq!(encoded(&Reply::new(250, "2.0.0 ok")), "250 2.0.0 ok\r\n");
    assert_eq!(encoded(&Reply::lines(250, vec!["a".into(), "b".into()])), "250-a\r\n250 b\r\n");
    assert_eq!(encoded(&Reply::lines(250, vec![])), "250 \r\n");
    assert_eq!(encoded(&Reply { code: 250, lines: vec![] }), "250 \r\n");
    assert_eq!(encoded(&Reply::new(7, "x")), "451 x\r\n");
}

#[test]
fn no_text_can_end_a_line_or_leave_ascii() {
    assert_eq!(encoded(&Reply::new(550, "a\r\n250 ok\0\u{7f}\u{85}b\u{fc}")), "550 a  250 ok   b?\r\n");
}

#[test]
fn long_lines_are_folded_with_their_enhanced_code() {
    let text = format!("5.7.1 {}", "word ".repeat(200));
    let written = encoded(&Reply::new(550, text.trim_end()));
    let lines: Vec<&str> = written.trim_end().split("\r\n").collect();
    assert!(lines.len() > 1);
    for (index, line) in lines.iter().enumerate() {
        let start = if index + 1 == lines.len() { "550 5.7.1 word" } else { "550-5.7.1 word" };
        assert!(line.starts_with(start) && line.len() <= 510, "{line}");
    }
    let again = read_all(written.as_bytes()).unwrap();
    assert_eq!(again[0].text(), Reply::new(550, text.trim_end()).text());
    let unbroken = encoded(&Reply::new(550, "\u{fc}".repeat(1000)));
    assert!(unbroken.split("\r\n").all(|line| line.len() <= 510));
}

#[test]
fn a_reply_is_shown_on_one_line_without_tricks() {
    let reply = Reply::lines(550, vec!["5.1.1 no\u{1b}[2J".into(), "x\u{202e}\ny".into()]);
    assert_eq!(reply.to_string(), "550 5.1.1 no\\u{1b}[2J / x\\u{202e}\\ny");
    assert_eq!(Reply::new(250, "").to_string(), "250");
}

#[test]
fn replies_are_read_as_servers_send_them() {
    for (octets, expected) in [
        (&b"250 ok\r\n"[..], vec![Reply::new(250, "ok")]),
        (b"250\r\n", vec![Reply::new(250, "")]),
        (b"250 ok\n", vec![Reply::new(250, "ok")]),
        (b"250 ok\r\r\n", vec![Reply::new(250, "ok")]),
        (b"250-a\r\n250-\r\n250 b\r\n", vec![Reply::lines(250, vec!["a".into(), "".into(), "b".into()])]),
        (b"550-a\r\n554 b\r\n", vec![Reply::lines(554, vec!["a".into(), "b".into()])]),
        (b"250 a\r\n354 b\r\n250", vec![Reply::new(250, "a"), Reply::new(354, "b")]),
        (b"550 caf\xe9\r\n", vec![Reply::new(550, "caf\u{fffd}")]),
        (b"", vec![]),
    ] {
        assert_eq!(read_all(octets).unwrap(), expected, "{}", escape(octets, 100));
    }
}

#[test]
fn what_is_no_reply_is_shown_escaped_and_short() {
    for octets in [
        &b"HTTP/1.1 400 Bad Request\r\n"[..],
        b"\r\n",
        b"25\r\n",
        b"2500 ok\r\n",
        b"150 early\r\n",
        b"650 late\r\n",
        b"250_ok\r\n",
        b"2 0 ok\r\n",
        b"\x16\x03\x01\x02\n",
        b"250-a\r\n550 b\r\n",
        b"250-a\r\nb\r\n",
        b" 250 ok\r\n",
    ] {
        assert!(read_all(octets).is_err(), "{}", escape(octets, 100));
    }
    let bad = read_all(&[b"\x07".repeat(500).as_slice(), b"\n"].concat()).unwrap_err();
    assert!(bad.text.starts_with("\\u{7}\\u{7}") && bad.text.len() <= 200);
}

#[test]
fn memory_is_bounded_whatever_a_server_sends() {
    let mut reader = ReplyReader::new();
    reader.push(b"250-");
    for _ in 0..1000 {
        reader.push(&[b'x'; 1000]);
        assert_eq!(reader.next(), Ok(None));
        assert!(reader.buffer.len() <= MAX_KEPT);
    }
    reader.push(b"\r\n");
    for _ in 0..500 {
        reader.push(&[b"250-".as_slice(), &[b'y'; 1500], b"\r\n"].concat());
        assert_eq!(reader.next(), Ok(None));
    }
    reader.push(b"250 end\r\n");
    let reply = reader.next().unwrap().unwrap();
    assert_eq!(reply.lines[0].len(), 1996);
    assert!(reply.lines.iter().map(String::len).sum::<usize>() <= 64 * 1024);
    assert!(reader.is_empty());
    let endless = b"250-x\n".repeat(10_001);
    assert!(read_all(&endless).is_err());
}

const MAX_KEPT: usize = 3_000;

#[test]
fn a_reader_is_empty_only_between_replies() {
    let mut reader = ReplyReader::new();
    assert!(reader.is_empty());
    reader.push(b"220-a\r\n");
    assert_eq!(reader.next(), Ok(None));
    assert!(!reader.is_empty());
    reader.push(b"220 go\r\n2");
    assert!(reader.next().unwrap().is_some());
    assert!(!reader.is_empty());
}

proptest! {
    #[test]
    fn replies_survive_the_wire_in_any_pieces(
        code in 200u16..600,
        lines in prop::collection::vec("[ -~]{0,300}", 1..5),
        cut in 1usize..50,
    ) {
        let reply = Reply::lines(code, lines);
        let written = encoded(&reply);
        let mut reader = ReplyReader::new();
        let mut read = Vec::new();
        for piece in written.as_bytes().chunks(cut) {
            reader.push(piece);
            while let Some(reply) = reader.next().unwrap() {
                read.push(reply);
            }
        }
        prop_assert_eq!(read, vec![reply]);
    }

    #[test]
    fn hostile_octets_never_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
        let mut reader = ReplyReader::new();
        for piece in pieces {
            reader.push(&piece);
            while let Ok(Some(_)) = reader.next() {}
        }
    }
}
