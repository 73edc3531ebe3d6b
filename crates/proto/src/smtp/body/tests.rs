//! Where content ends, what is wrong with it, and how it is written again.

use proptest::prelude::*;

use super::*;

/// Content, octets used if it ended, and whether there was a bare CR or LF.
fn decode(octets: &[u8], cut: usize) -> (Vec<u8>, Option<usize>, bool) {
    let mut decoder = DataDecoder::new();
    let mut content = Vec::new();
    let mut used = 0;
    for piece in octets.chunks(cut) {
        if let Some(end) = decoder.decode(piece, &mut content) {
            return (content, Some(used + end), decoder.check().bare());
        }
        used += piece.len();
    }
    (content, None, decoder.check().bare())
}

#[test]
fn content_is_unstuffed_up_to_the_only_end() {
    for (octets, content) in [
        (&b".\r\n"[..], &b""[..]),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"\r\n.\r\n", b"\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"..a\r\n.b\r\nc.\r\n.\r\n", b".a\r\nb\r\nc.\r\n"),
        (b"...\r\n\r\n..\r\n.\r\n", b"..\r\n\r\n.\r\n"),
        (b"a.b\r\n\0\xff\r\n.\r\n", b"a.b\r\n\0\xff\r\n"),
    ] {
        for cut in 1..=octets.len() + 4 {
            let behind = [octets, b"RSET\r\n"].concat();
            assert_eq!(decode(&behind, cut), (content.to_vec(), Some(octets.len()), false), "{octets:?} cut {cut}");
        }
    }
}

#[test]
fn no_other_sequence_ends_content() {
    for end in NOT_THE_END {
        let octets = [b"a\r\nb", end.as_bytes(), b"MAIL FROM:<x@y>\r\n"].concat();
        for cut in 1..octets.len() {
            let (_, used, bare) = decode(&octets, cut);
            assert_eq!(used, None, "{end:?} ended content, cut {cut}");
            assert_eq!(bare, has_bare(&octets), "{end:?} cut {cut}");
        }
    }
}

/// Sequences that one server or another has taken for the end of data.
pub(crate) const NOT_THE_END: &[&str] = &[
    "\n.\n",
    "\n.\r\n",
    "\r.\r\n",
    "\r.\r",
    "\r\n.\n",
    "\r\n.\r",
    "\r\n.\rX\n",
    "\n.\r",
    "\r.\n",
    "\n\n.\n",
    "\n\n.\r\n",
    "\r\r.\r\r",
    "\r\r.\r\n",
    "\r\n.\r\r\n",
    "\n\r.\r\n",
    "\n\r.\n\r",
    "\r\n\0.\r\n",
    "\r\n.\0\r\n",
    "\r\n. \r\n",
    "\r\n.\t\r\n",
    "\r\n .\r\n",
    "\r\n..\r\n",
    "\r\n.\u{b}\r\n",
    "\r\n.\u{c}\r\n",
    "\u{85}.\u{85}",
    "\r\u{85}.\r\n",
    "\u{2028}.\u{2028}",
    "\r\n.\\r\\n",
    "\\r\\n.\\r\\n",
    "\r\0\n.\r\0\n",
    "\r\n.\r\0\n",
    "\0\r\n.\0\r\n",
    "\n.\n\n",
    "\r\n\n.\n",
    "\r\n\r.\r\n",
    "\r \n.\r\n",
    ".\r\n",
    "\r\n.\r\u{0}",
    "\u{8a}.\u{8a}",
    "\r\n\u{200b}.\r\n",
    "\r\n.x\r\n",
    "\r\n.\u{feff}\r\n",
];

#[test]
fn a_message_may_end_after_a_bare_line_end_but_is_marked() {
    for octets in [&b"a\r\r\n.\r\n"[..], b"a\n\r\n.\r\n", b"a\n.\r\nb\r\n.\r\n", b"\r\n.\rb\r\n.\r\n"] {
        for cut in 1..=octets.len() {
            let (_, used, bare) = decode(octets, cut);
            assert_eq!((used, bare), (Some(octets.len()), true), "{octets:?} cut {cut}");
        }
    }
}

fn has_bare(octets: &[u8]) -> bool {
    let text = octets.iter().map(|octet| char::from(*octet)).collect::<String>().replace("\r\n", "|");
    // A CR at the very end may still be followed by its LF.
    text.strip_suffix('\r').unwrap_or(&text).contains(['\r', '\n'])
}

#[test]
fn facts_of_content_do_not_depend_on_pieces() {
    let octets = b"short\r\n..dotted line\r\nlong line \xc3\xbc\r\n\0\r\n";
    for cut in 1..octets.len() {
        let mut decoder = DataDecoder::new();
        let mut check = ContentCheck::default();
        for piece in octets.chunks(cut) {
            decoder.decode(piece, &mut Vec::new());
            check.feed(piece);
        }
        check.finish();
        for found in [decoder.check(), &check] {
            assert!(found.eight_bit && found.nul && !found.bare());
        }
        assert_eq!((decoder.check().longest_line, check.longest_line), (12, 13));
    }
}

#[test]
fn a_lone_cr_at_the_end_of_a_chunk_is_bare_only_if_nothing_completes_it() {
    let mut check = ContentCheck::default();
    check.feed(b"a\r");
    check.feed(b"");
    check.feed(b"\nb");
    check.finish();
    assert!(!check.bare());
    check.feed(b"c\r");
    check.finish();
    assert!(check.bare());
}

#[test]
fn discarded_content_still_ends_where_it_ends() {
    let mut decoder = DataDecoder::new();
    let mut content = Vec::new();
    decoder.discard();
    assert_eq!(decoder.decode(b"abc\r\n.\r\nQUIT", &mut content), Some(8));
    assert!(content.is_empty());
}

#[test]
fn content_is_stuffed_and_ended() {
    for (content, wire) in [
        (&b""[..], &b".\r\n"[..]),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b".a\r\n..\r\nb.\r\n.\r\n", b"..a\r\n...\r\nb.\r\n..\r\n.\r\n"),
        (b"\r\n", b"\r\n.\r\n"),
        (b"a\n.\nb", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\r.\rb\r", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\r\r\n.b", b"a\r\n\r\n..b\r\n.\r\n"),
    ] {
        let mut out = Vec::new();
        stuff_into(content, &mut out);
        assert_eq!(out, wire, "{content:?}");
    }
    assert_eq!(stuffed(b"a\r\nb.c\r\n").count(), 2);
}

fn octets() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'a'), any::<u8>()], 0..60)
}

fn lines() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec("[.a\\x00\u{fc}]{0,5}", 0..12)
        .prop_map(|lines| lines.iter().flat_map(|line| [line.as_bytes(), b"\r\n"].concat()).collect())
}

proptest! {
    #[test]
    fn what_we_send_is_what_a_server_reads(content in lines(), cut in 1usize..9) {
        let mut out = Vec::new();
        stuff_into(&content, &mut out);
        let length = out.len();
        out.extend_from_slice(b"QUIT\r\n");
        prop_assert_eq!(decode(&out, cut), (content, Some(length), false));
    }

    #[test]
    fn nothing_we_send_has_a_bare_line_end_or_an_early_end(content in octets(), cut in 1usize..9) {
        let mut out = Vec::new();
        stuff_into(&content, &mut out);
        let (_, used, bare) = decode(&out, cut);
        prop_assert_eq!((used, bare), (Some(out.len()), false));
    }

    #[test]
    fn decoding_agrees_with_the_plain_definition(octets in octets(), cut in 1usize..9) {
        let whole = [b"\r\n".as_slice(), &octets].concat();
        let end = memchr::memmem::find(&whole, b"\r\n.\r\n").map(|position| position + 3);
        let (content, used, bare) = decode(&octets, cut);
        prop_assert_eq!(used, end);
        prop_assert_eq!(bare, has_bare(&octets[..end.unwrap_or(octets.len())]));
        if let (Some(end), false) = (end, bare) {
            let text: Vec<u8> = octets[..end - 3].to_vec();
            let mut expected = Vec::new();
            let mut start = true;
            for octet in text {
                if !(start && octet == b'.') {
                    expected.push(octet);
                }
                start = octet == b'\n';
            }
            prop_assert_eq!(content, expected);
        }
    }
}
