//! The small language of texts in rules: literals, `*`, `{name}`, and marks for ends and word ends.
//!
//! `*` stands for up to 300 octets; `{ip}`, `{url}`, `{address}`, `{number}`, `{word}`, `{domain}`, `{list}` and `{rest}`
//! capture a value of that shape (`{name:shape}` gives it another name). `^` and `$` tie a pattern to the start and
//! end of the text, a `|` at either end asks for a word boundary there. `\` makes the next character a literal. Case
//! of ASCII letters does not matter.

use std::fmt;

/// Farthest a `*` may reach, in octets.
const MAX_GAP: usize = 300;
/// How many places of a literal behind a `*` are tried.
const MAX_TRIES: usize = 8;

/// A text condition.
#[derive(Debug, Clone)]
pub struct Pattern {
    source: String,
    parts: Vec<Part>,
    from_start: bool,
    to_end: bool,
    word_start: bool,
    word_end: bool,
}

#[derive(Debug, Clone)]
enum Part {
    /// In lower case.
    Literal(String),
    Gap,
    Capture(String, Shape),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Ip,
    Url,
    Address,
    Domain,
    Number,
    Word,
    Rest,
}

impl Shape {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "ip" => Self::Ip,
            "url" => Self::Url,
            "address" => Self::Address,
            "domain" | "host" | "list" | "region" => Self::Domain,
            "number" | "seconds" | "minutes" | "hours" | "limit" => Self::Number,
            "word" | "code" => Self::Word,
            "rest" => Self::Rest,
            _ => return None,
        })
    }

    fn takes(self, octet: u8) -> bool {
        match self {
            Self::Ip => octet.is_ascii_hexdigit() || matches!(octet, b'.' | b':'),
            Self::Url => octet.is_ascii_graphic() && !matches!(octet, b'<' | b'>' | b'"' | b'\'' | b')' | b']' | b';'),
            Self::Address => {
                octet > b' ' && !matches!(octet, b'<' | b'>' | b'(' | b')' | b'[' | b']' | b';' | b',' | b'"')
            }
            Self::Domain => octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'_'),
            Self::Number => octet.is_ascii_digit(),
            Self::Word => octet > b' ',
            Self::Rest => true,
        }
    }

    /// The longest value at the start of `text`; at most 253 octets.
    fn longest(self, text: &str) -> usize {
        let mut end = text.bytes().take(253).take_while(|&octet| self.takes(octet)).count();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        end
    }
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Says what is wrong, for the author of the rule.
    pub fn parse(source: &str) -> Result<Self, String> {
        let (body, from_start) = strip(source, source.strip_prefix('^'));
        let (body, word_start) = strip(body, body.strip_prefix('|'));
        let (body, to_end) = strip(body, body.strip_suffix('$').filter(|body| !body.ends_with('\\')));
        let (body, word_end) = strip(body, body.strip_suffix('|').filter(|body| !body.ends_with('\\')));
        let parts = parse_parts(body)?;
        let pattern = Self { source: source.to_owned(), parts, from_start, to_end, word_start, word_end };
        match pattern.parts.first() {
            Some(Part::Literal(_)) if pattern.longest_literal().len() >= 3 => Ok(pattern),
            Some(Part::Literal(_)) => Err(format!("text `{source}` has no literal of three octets or more")),
            _ => Err(format!("text `{source}` must begin with a literal")),
        }
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    fn longest_literal(&self) -> &str {
        self.literals().max_by_key(|literal| literal.len()).unwrap_or_default()
    }

    /// How much of a text the pattern pins down, in octets.
    pub fn weight(&self) -> usize {
        let ends = usize::from(self.from_start) + usize::from(self.to_end);
        self.literals().map(str::len).sum::<usize>() + 4 * ends
    }

    /// Names of the values it captures.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Capture(name, _) => Some(name.as_str()),
            _ => None,
        })
    }

    /// What stands between gaps and values, in lower case.
    pub(crate) fn literals(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Literal(literal) => Some(literal.as_str()),
            _ => None,
        })
    }

    /// Finds the pattern; `lower` is `text` in ASCII lower case. Gives the captured values.
    pub fn find<'t>(&self, text: &'t str, lower: &str) -> Option<Vec<(&str, &'t str)>> {
        let Some(Part::Literal(first)) = self.parts.first() else { return None };
        let mut from = 0;
        while let Some(at) = lower.get(from..)?.find(first.as_str()).map(|at| at + from) {
            if self.may_start(lower, at) {
                let mut values = Vec::new();
                if self.rest(text, lower, at + first.len(), 1, &mut values) {
                    return Some(values);
                }
            }
            if self.from_start {
                return None;
            }
            from = lower.ceil_char_boundary(at + 1);
        }
        None
    }

    fn may_start(&self, lower: &str, at: usize) -> bool {
        (!self.from_start || at == 0) && (!self.word_start || !word_at(lower.as_bytes(), at.wrapping_sub(1)))
    }

    fn may_end(&self, lower: &str, at: usize) -> bool {
        (!self.to_end || lower[at..].trim_end_matches(['.', ' ', '\r', '\n']).is_empty())
            && (!self.word_end || !word_at(lower.as_bytes(), at))
    }

    fn rest<'p, 't>(
        &'p self,
        text: &'t str,
        lower: &str,
        at: usize,
        index: usize,
        values: &mut Vec<(&'p str, &'t str)>,
    ) -> bool {
        match self.parts.get(index) {
            None => self.may_end(lower, at),
            Some(Part::Literal(literal)) => {
                lower[at..].starts_with(literal.as_str())
                    && self.rest(text, lower, at + literal.len(), index + 1, values)
            }
            Some(Part::Gap) => self.after_gap(text, lower, at, index + 1, values),
            Some(Part::Capture(name, shape)) => {
                let longest = shape.longest(&text[at..]);
                (1..=longest).rev().filter(|length| text.is_char_boundary(at + length)).any(|length| {
                    values.push((name, &text[at..at + length]));
                    let found = self.rest(text, lower, at + length, index + 1, values);
                    if !found {
                        values.pop();
                    }
                    found
                })
            }
        }
    }
}

impl Pattern {
    /// A few places where the next literal stands are tried, so that a hostile text cannot cost much.
    fn after_gap<'p, 't>(
        &'p self,
        text: &'t str,
        lower: &str,
        at: usize,
        index: usize,
        values: &mut Vec<(&'p str, &'t str)>,
    ) -> bool {
        let last = lower.floor_char_boundary((at + MAX_GAP).min(lower.len()));
        match self.parts.get(index) {
            Some(Part::Literal(literal)) => lower[at..]
                .match_indices(literal.as_str())
                .map(|(next, _)| at + next)
                .take_while(|&next| next <= last)
                .take(MAX_TRIES)
                .any(|next| self.rest(text, lower, next, index, values)),
            _ => (at..=last)
                .filter(|&next| lower.is_char_boundary(next))
                .any(|next| self.rest(text, lower, next, index, values)),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

fn strip<'a>(whole: &'a str, stripped: Option<&'a str>) -> (&'a str, bool) {
    (stripped.unwrap_or(whole), stripped.is_some())
}

fn word_at(text: &[u8], at: usize) -> bool {
    text.get(at).is_some_and(|octet| octet.is_ascii_alphanumeric() || *octet == b'_')
}

fn parse_parts(body: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut characters = body.chars();
    while let Some(character) = characters.next() {
        let part = match character {
            '\\' => {
                literal.extend(characters.next());
                continue;
            }
            '*' => Part::Gap,
            '{' => {
                let name: String = characters.by_ref().take_while(|&character| character != '}').collect();
                let (name, shape) = name.split_once(':').unwrap_or((&name, &name));
                let shape = Shape::of(shape).ok_or_else(|| format!("no shape `{shape}` in text `{body}`"))?;
                Part::Capture(name.to_owned(), shape)
            }
            _ => {
                literal.push(character.to_ascii_lowercase());
                continue;
            }
        };
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(&mut literal)));
        }
        parts.push(part);
    }
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    let open = |part: &Part| !matches!(part, Part::Literal(_));
    if parts.iter().filter(|part| open(part)).count() > 4 {
        return Err(format!("more than four gaps and values in text `{body}`"));
    }
    if parts.windows(2).any(|pair| open(&pair[0]) && open(&pair[1])) {
        return Err(format!("two gaps or values side by side in text `{body}`"));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(pattern: &str, text: &str) -> Option<Vec<String>> {
        let pattern = Pattern::parse(pattern).unwrap();
        let values = pattern.find(text, &text.to_ascii_lowercase())?;
        Some(values.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
    }

    #[test]
    fn literals_gaps_and_values_are_found() {
        let none: Vec<String> = vec![];
        assert_eq!(find("user unknown", "5.1.1 User Unknown in table"), Some(none.clone()));
        assert_eq!(find("user * table", "user unknown in virtual table"), Some(none.clone()));
        assert_eq!(find("user unknown", "unknown user"), None);
        assert_eq!(
            find("host [{ip}] blocked using {list}", "Host [192.0.2.1] blocked using zen.spamhaus.org; see"),
            Some(vec!["ip=192.0.2.1".into(), "list=zen.spamhaus.org".into()])
        );
        assert_eq!(find("in {seconds} sec", "in 60 seconds"), Some(vec!["seconds=60".into()]));
        assert_eq!(find("220 \\*\\*\\*", "220 *****"), Some(none));
    }

    #[test]
    fn marks_tie_a_pattern_to_ends_and_words() {
        assert!(find("^blocked$", "Blocked.").is_some());
        assert!(find("^blocked$", "Blocked by x").is_none());
        assert!(find("|spam|", "looks like spam.").is_some());
        assert!(find("|spam|", "spamhaus").is_none());
    }

    #[test]
    fn patterns_that_cannot_be_searched_are_refused() {
        assert!(Pattern::parse("*").is_err());
        assert!(Pattern::parse("{ip} is bad").is_err());
        assert!(Pattern::parse("ab").is_err());
        assert!(Pattern::parse("from {nothing}").is_err());
    }

    #[test]
    fn text_that_is_not_ascii_is_cut_at_characters() {
        assert!(find("boite * pleine", "Boîte boite é pleine").is_some());
        assert_eq!(find("for {rest}", "for é"), Some(vec!["rest=é".into()]));
    }
}
