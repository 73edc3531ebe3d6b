//! What a mail says to its reader, as text: its first text part, or its HTML without the marks.

use super::html;
use super::octets::unix_lines;
use super::part::{Fields, Kind, parts};

/// The text of a mail: decoded, with LF line ends; empty if there is none. Parts and sizes are limited, see
/// [`super::MAX_OCTETS`].
pub fn text_of_mail(octets: &[u8]) -> String {
    let octets = unix_lines(octets);
    let top = Fields::new(&octets);
    let parts = parts(&top);
    let text = |kind: Kind| {
        let texts = parts.iter().filter(|part| part.kind == kind).map(|part| part.text().into_owned());
        texts.into_iter().find(|text| !text.trim().is_empty())
    };
    text(Kind::Text).or_else(|| Some(html::text_of(&text(Kind::Html)?))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_mail_is_decoded_and_html_is_the_second_choice() {
        let plain = b"Subject: x\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\na=20b=\r\nc\r\n";
        assert_eq!(text_of_mail(plain).trim(), "a bc");
        let both = b"Content-Type: multipart/alternative; boundary=x\r\n\r\n--x\r\nContent-Type: text/html\r\n\r\n<p>rich</p>\r\n\
            --x\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\ncGxhaW4=\r\n--x--\r\n";
        assert_eq!(text_of_mail(both).trim(), "plain");
        let rich = b"Content-Type: text/html\r\n\r\n<p>Disk <b>full</b></p>\r\n";
        assert_eq!(text_of_mail(rich).split_whitespace().collect::<Vec<_>>(), ["Disk", "full"]);
        assert_eq!(text_of_mail(b""), "");
    }
}
