//! What is converted must be 7-bit and say the same to a reader that is not ours.

use mail_parser::{MessageParser, PartType};
use proptest::prelude::*;

use super::*;

/// All leaf parts as a reader decodes them, with their depth.
fn leaves(content: &[u8]) -> Vec<(usize, Vec<u8>)> {
    fn gather(message: &mail_parser::Message<'_>, depth: usize, found: &mut Vec<(usize, Vec<u8>)>) {
        for part in &message.parts {
            match &part.body {
                PartType::Text(text) | PartType::Html(text) => found.push((depth, text.as_bytes().to_vec())),
                PartType::Binary(octets) | PartType::InlineBinary(octets) => found.push((depth, octets.to_vec())),
                PartType::Message(message) => gather(message, depth + 1, found),
                PartType::Multipart(parts) => found.push((depth, format!("multipart of {}", parts.len()).into_bytes())),
            }
        }
    }
    let mut found = Vec::new();
    gather(&MessageParser::default().parse(content).unwrap(), 0, &mut found);
    found
}

fn text(content: Result<Vec<u8>, CannotConvert>) -> String {
    let content = content.unwrap();
    assert!(is_clean(&content) && content.ends_with(b"\r\n"));
    String::from_utf8(content).unwrap()
}

#[test]
fn what_is_seven_bit_stays_as_it_is() {
    let content = "Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhello\r\n--b--\r\n";
    assert_eq!(text(down_convert(content.as_bytes())), content);
}

#[test]
fn unlabelled_text_gets_a_label() {
    let content = "Subject: x\r\n\r\ngrüße =\r\nx \r\n";
    let expected = "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
        Content-Transfer-Encoding: quoted-printable\r\n\r\ngr=C3=BC=C3=9Fe =3D\r\nx=20\r\n";
    assert_eq!(text(down_convert(content.as_bytes())), expected);
    assert!(text(down_convert(b"Subject: x\r\n\r\ngr\xfc\r\n")).contains("charset=unknown-8bit\r\n"));
}

#[test]
fn only_the_parts_that_need_it_change() {
    let content = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b c\"\r\n\
        Content-Transfer-Encoding: 8bit\r\nX: y\r\n\r\npreamble\r\npréamble\r\n--b c\r\nContent-Type: text/plain\r\n\r\nplain\r\n\
        --b c\r\nContent-Transfer-Encoding: 8bit\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>é\r\n--b c\r\n\
        Content-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\né\0\r\n--b c--\r\nepilogue\r\n";
    let expected = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b c\"\r\nX: y\r\n\
        Content-Transfer-Encoding: 7bit\r\n\r\npreamble\r\n--b c\r\nContent-Type: text/plain\r\n\r\nplain\r\n\
        --b c\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<p>=C3=A9\r\n\
        --b c\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\nw6kA\r\n--b c--\r\nepilogue\r\n";
    assert_eq!(text(down_convert(content.as_bytes())), expected);
}

#[test]
fn messages_inside_are_converted_inside() {
    let content = "MIME-Version: 1.0\r\nContent-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: in\r\n\r\né\r\n\
        --b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: two\r\n\r\nü\r\n--b--\r\n";
    let converted = text(down_convert(content.as_bytes()));
    assert_eq!(converted.matches("quoted-printable").count(), 2);
    assert_eq!(converted.matches("Content-Transfer-Encoding: 7bit").count(), 1);
    assert!(converted.contains("=C3=A9\r\n--b") && converted.contains("=C3=BC\r\n--b--"));
}

#[test]
fn overlong_lines_are_broken() {
    let long = "word ".repeat(300);
    for header in ["Content-Type: text/plain", "Content-Type: application/pdf", "X: y"] {
        let content = format!("MIME-Version: 1.0\r\n{header}\r\n\r\n{long}x\r\n");
        assert_eq!(leaves(text(down_convert(content.as_bytes())).as_bytes()), leaves(content.as_bytes()), "{header}");
    }
    let content = format!("References: {long}x\r\n\r\nbody\r\n");
    assert_eq!(text(down_convert(content.as_bytes())).replace("\r\n ", " "), content);
}

#[test]
fn content_that_is_encoded_badly_is_mended() {
    let head = "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding:";
    for (encoding, body) in [
        ("quoted-printable", format!("{}=3D=\r\né", "a=C3=A9".repeat(300))),
        ("base64", "YWJj".repeat(300)),
        ("Base64", format!("{}\r\nYWI=", "YWJj".repeat(300))),
    ] {
        let content = format!("{head} {encoding}\r\n\r\n{body}\r\n");
        let converted = text(down_convert(content.as_bytes()));
        assert_eq!(converted.matches("Encoding").count(), 1);
        let shown = |octets: &[u8]| String::from_utf8_lossy(&leaves(octets)[0].1).trim_end().to_owned();
        assert_eq!(shown(converted.as_bytes()), shown(content.as_bytes()), "{encoding}");
    }
}

#[test]
fn what_cannot_be_converted_says_why() {
    let deep = |levels: usize| {
        let open: String =
            (0..levels).map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}x\r\n\r\n--b{n}x\r\n")).collect();
        format!("{open}\r\né")
    };
    let wide = format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{}\r\n--b--", "--b\r\n\r\né\r\n".repeat(1001));
    for (content, why) in [
        ("Subject: é\r\n\r\nx\r\n".to_owned(), CannotConvert::EightBitHeader),
        (format!("Subject: {}\r\n\r\nx\r\n", "x".repeat(1000)), CannotConvert::LongHeader),
        ("Subject: \0\r\n\r\nx\r\n".to_owned(), CannotConvert::LongHeader),
        (
            "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\né\r\n--b--\r\n".to_owned(),
            CannotConvert::Signed,
        ),
        ("Content-Type: multipart/mixed\r\n\r\né\r\n".to_owned(), CannotConvert::Malformed),
        ("Content-Type: multipart/mixed; boundary=b\r\n\r\né\r\n".to_owned(), CannotConvert::Malformed),
        (
            "Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: base64\r\n\r\n--b\r\né\r\n--b--"
                .to_owned(),
            CannotConvert::Malformed,
        ),
        ("Content-Type: message/delivery-status\r\n\r\né\r\n".to_owned(), CannotConvert::NotEncodable),
        ("Content-Transfer-Encoding: x-uuencode\r\n\r\né\r\n".to_owned(), CannotConvert::NotEncodable),
        (
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX: é\r\n\r\nx\r\n--b--\r\n".to_owned(),
            CannotConvert::EightBitHeader,
        ),
        (deep(60), CannotConvert::TooManyParts),
        (wide, CannotConvert::TooManyParts),
    ] {
        assert_eq!(down_convert(content.as_bytes()), Err(why), "{}", content.get(..60).unwrap_or(&content));
    }
    assert!(down_convert(deep(40).as_bytes()).is_ok());
}

#[test]
fn text_cannot_become_a_delimiter() {
    // Wherever the soft break falls, no line of the encoded text may start like the delimiter.
    for length in 60..90 {
        let line = format!("{}--b--", "x".repeat(length));
        let content = format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\né{line}\r\n--b--\r\n");
        let converted = text(down_convert(content.as_bytes()));
        assert_eq!(converted.split("\r\n").filter(|line| line.starts_with("--")).count(), 2);
    }
}

#[derive(Debug, Clone)]
enum Tree {
    Leaf { kind: &'static str, body: Vec<u8> },
    Multipart(Vec<Tree>),
    Message(Box<Tree>),
}

impl Tree {
    fn render(&self, boundaries: &mut usize, out: &mut Vec<u8>) {
        match self {
            Self::Leaf { kind, body } => {
                out.extend_from_slice(
                    format!("Content-Type: {kind}\r\nContent-Transfer-Encoding: 8bit\r\n\r\n").as_bytes(),
                );
                out.extend_from_slice(body);
            }
            Self::Message(inner) => {
                out.extend_from_slice(b"Content-Type: message/rfc822\r\n\r\nMIME-Version: 1.0\r\n");
                inner.render(boundaries, out);
            }
            Self::Multipart(parts) => {
                *boundaries += 1;
                let boundary = format!("==_{boundaries}_==");
                out.extend_from_slice(
                    format!("Content-Type: multipart/mixed;\r\n boundary=\"{boundary}\"\r\n\r\n").as_bytes(),
                );
                for part in parts {
                    out.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
                    part.render(boundaries, out);
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(format!("--{boundary}--").as_bytes());
            }
        }
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let piece = prop_oneof![
        Just(b"\r\n".to_vec()),
        Just(b" \r\n".to_vec()),
        Just(b"--==_".to_vec()),
        Just(b"=".to_vec()),
        Just("é".as_bytes().to_vec()),
        Just(b"long ".repeat(230)),
        prop::collection::vec(1_u8.., 1..8)
            .prop_map(|octets| octets.into_iter().filter(|o| !b"\r\n".contains(o)).collect()),
    ];
    let body = prop::collection::vec(piece, 0..12).prop_map(|pieces| [b"x".to_vec(), pieces.concat()].concat());
    let kind =
        prop::sample::select(vec!["text/plain; charset=utf-8", "text/html; charset=iso-8859-1", "application/pdf"]);
    let leaf = (kind, body).prop_map(|(kind, body)| Tree::Leaf { kind, body });
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Tree::Multipart),
            // The other reader loses its way where a message is all of a message.
            inner
                .prop_filter("message in message", |inner| !matches!(inner, Tree::Message(_)))
                .prop_map(|inner| Tree::Message(Box::new(inner))),
        ]
    })
}

proptest! {
    #[test]
    fn a_reader_sees_the_same(tree in tree()) {
        let mut content = b"Subject: test\r\nMIME-Version: 1.0\r\n".to_vec();
        tree.render(&mut 0, &mut content);
        content.extend_from_slice(b"\r\n");
        let converted = down_convert(&content).unwrap();
        prop_assert!(is_clean(&converted));
        prop_assert_eq!(leaves(&converted), leaves(&content), "{}", String::from_utf8_lossy(&converted));
        prop_assert_eq!(down_convert(&converted).unwrap(), converted);
    }
    #[test]
    fn any_content_is_survived(pieces in prop::collection::vec(prop::sample::select(vec![
        "Content-Type: multipart/mixed; boundary=b\r\n", "Content-Type: message/rfc822\r\n", "Content-Type: text/plain\r\n", "\r\n",
        "--b\r\n", "--b--\r\n", "é", "x\r\n", " ", "\n", "\r", ":", "\0", "Content-Transfer-Encoding: base64\r\n", "\"", "(", "\\",
    ]), 0..40)) {
        let content = pieces.concat();
        if let Ok(converted) = down_convert(content.as_bytes()) {
            prop_assert!(is_clean(&converted));
        }
    }
}
