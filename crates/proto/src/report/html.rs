//! What a person reads of an HTML part: tags away, blocks on lines of their own, entities as characters.

use memchr::memchr2;

/// Longest text made of one part.
const MAX_TEXT: usize = 131_072;

/// The words of an HTML part.
pub(super) fn text_of(html: &str) -> String {
    let mut out = String::with_capacity(html.len().min(MAX_TEXT) / 2);
    let mut rest = html;
    while !rest.is_empty() && out.len() < MAX_TEXT {
        let Some(at) = memchr2(b'<', b'&', rest.as_bytes()) else {
            push_words(&mut out, rest);
            break;
        };
        push_words(&mut out, &rest[..at]);
        rest = &rest[at..];
        if rest.starts_with('&') {
            let (character, length) = entity(rest);
            if character == '\u{a0}' {
                push_words(&mut out, " ")
            } else {
                out.push(character)
            }
            rest = &rest[length..];
        } else {
            rest = tag(&mut out, rest);
        }
    }
    out
}

/// Blanks and line ends are one blank in HTML.
fn push_words(out: &mut String, words: &str) {
    for character in words.chars() {
        if !character.is_whitespace() {
            out.push(character);
        } else if !out.is_empty() && !out.ends_with([' ', '\n']) {
            out.push(' ');
        }
    }
}

/// Reads a tag at the start and gives what follows; scripts and styles go with it.
fn tag<'a>(out: &mut String, text: &'a str) -> &'a str {
    if let Some(comment) = text.strip_prefix("<!--") {
        return comment.find("-->").map_or("", |end| &comment[end + 3..]);
    }
    let inside = text[1..].trim_start_matches('/');
    let name_end = inside.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(inside.len());
    let name = inside[..name_end].to_ascii_lowercase();
    let is_address = text.starts_with('<') && text.find('>').is_some_and(|end| text[..end].contains('@'));
    if name.is_empty() || (is_address && name_end < inside.len() && !inside[name_end..].starts_with([' ', '>', '\n'])) {
        // `<a@b.example>` and `<<<` were not escaped: they are words.
        out.push('<');
        return &text[1..];
    }
    let Some(end) = text.find('>') else { return "" };
    let after = &text[end + 1..];
    match name.as_str() {
        "script" | "style" | "title" if !text.starts_with("</") => {
            let close = format!("</{name}");
            let ends = after.as_bytes().windows(close.len()).position(|w| w.eq_ignore_ascii_case(close.as_bytes()));
            let Some(skipped) = ends.and_then(|at| after.get(at..)) else { return "" };
            return skipped.find('>').map_or("", |end| &skipped[end + 1..]);
        }
        "br" | "p" | "div" | "tr" | "table" | "li" | "ul" | "ol" | "h1" | "h2" | "h3" | "h4" | "hr" | "pre"
        | "blockquote" | "dt" | "dd" | "body" => {
            while out.ends_with(' ') {
                out.pop();
            }
            // Two blocks leave an empty line, more leave no more.
            if !out.is_empty() && !out.ends_with("\n\n") {
                out.push('\n');
            }
        }
        "td" | "th" if !out.ends_with([' ', '\n']) => out.push(' '),
        _ => {}
    }
    after
}

fn entity(text: &str) -> (char, usize) {
    let end = text.bytes().take(10).position(|octet| octet == b';');
    let name = end.and_then(|end| text.get(1..end)).unwrap_or_default();
    let character = match name {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "quot" => Some('"'),
        "apos" | "rsquo" | "lsquo" => Some('\''),
        "nbsp" => Some('\u{a0}'),
        _ => {
            let number = name.strip_prefix('#').and_then(|digits| match digits.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok(),
                None => digits.parse().ok(),
            });
            number.and_then(char::from_u32)
        }
    };
    match (character, end) {
        (Some(character), Some(end)) => (character, end + 1),
        _ => ('&', 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_and_markup_goes() {
        let html = "<html><head><style>p{a@b}</style></head><body><p>Your&nbsp;message to\n <b>a@b.example</b> failed.</p>\
                    <p>#550 5.1.1 &lt;a@b.example&gt;: no&#32;user<br>#</p><script>x</script></body>";
        let text = text_of(html);
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines, ["Your message to a@b.example failed.", "#550 5.1.1 <a@b.example>: no user", "#"]);
        assert_eq!(text_of("550 <a@b.example> unknown"), "550 <a@b.example> unknown");
        assert_eq!(text_of("<p>open"), "open");
        assert_eq!(text_of("a & b &bogus; <"), "a & b &bogus; <");
    }
}
