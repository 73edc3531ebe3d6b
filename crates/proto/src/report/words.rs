//! Small things the readers of prose share.

/// Longest diagnostic and notice kept, in octets.
pub(super) const MAX_DIAGNOSTIC: usize = 2000;

/// The words with single blanks, without control characters, at most so many octets.
pub(super) fn one_line(text: &str, limit: usize) -> String {
    let mut out = String::with_capacity(text.len().min(limit));
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if out.len() + word.len() + 1 > limit {
            let room = limit.saturating_sub(out.len() + 1);
            if out.is_empty() {
                out.push_str(&word[..word.floor_char_boundary(room)]);
            }
            break;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// Text and its lower case form with the same offsets.
#[derive(Debug)]
pub(super) struct Line<'a> {
    /// Without blanks around it.
    pub(super) text: &'a str,
    /// In lower case (ASCII), same length.
    pub(super) lower: &'a str,
}

/// The lines of a text.
pub(super) fn lines<'a>(text: &'a str, lower: &'a str) -> Vec<Line<'a>> {
    text.split('\n')
        .zip(lower.split('\n'))
        .take(2000)
        .map(|(line, low)| {
            let start = line.len() - line.trim_start().len();
            let end = line.trim_end().len().max(start);
            Line { text: &line[start..end], lower: low.get(start..end).unwrap_or_default() }
        })
        .collect()
}
