//! Characters that have no business in a user name or password: unseen, typographic, or of another script.
//!
//! Named only where they are not part of the secret by intention; letters of a password are told by position alone.

use super::{Field, Notes};

/// Signs given here.
#[cfg(test)]
pub(super) const KINDS: &[&str] = &[
    "credential_blank_around",
    "credential_line_end",
    "credential_control_character",
    "credential_invisible_character",
    "credential_smart_punctuation",
    "credential_full_width",
    "credential_decomposed",
    "credential_look_alike",
    "credential_not_ascii",
];

/// Most characters named in one note.
const MAX_NAMED: usize = 5;

/// What kind of trouble a character is.
#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    Invisible,
    Smart,
    FullWidth,
    Combining,
}

/// Characters with a name and a kind. Those that print nothing, or look like a plain one and are not.
#[rustfmt::skip]
const NAMED: &[(char, &str, Trouble)] = &[
    ('\u{a0}', "no-break space", Trouble::Invisible), ('\u{ad}', "soft hyphen", Trouble::Invisible),
    ('\u{34f}', "combining grapheme joiner", Trouble::Invisible), ('\u{61c}', "Arabic letter mark", Trouble::Invisible),
    ('\u{180e}', "Mongolian vowel separator", Trouble::Invisible), ('\u{2007}', "figure space", Trouble::Invisible),
    ('\u{2009}', "thin space", Trouble::Invisible), ('\u{200a}', "hair space", Trouble::Invisible),
    ('\u{200b}', "zero width space", Trouble::Invisible), ('\u{200c}', "zero width non-joiner", Trouble::Invisible),
    ('\u{200d}', "zero width joiner", Trouble::Invisible), ('\u{200e}', "left-to-right mark", Trouble::Invisible),
    ('\u{200f}', "right-to-left mark", Trouble::Invisible), ('\u{2028}', "line separator", Trouble::Invisible),
    ('\u{2029}', "paragraph separator", Trouble::Invisible), ('\u{202a}', "left-to-right embedding", Trouble::Invisible),
    ('\u{202b}', "right-to-left embedding", Trouble::Invisible), ('\u{202c}', "end of embedding", Trouble::Invisible),
    ('\u{202d}', "left-to-right override", Trouble::Invisible), ('\u{202e}', "right-to-left override", Trouble::Invisible),
    ('\u{202f}', "narrow no-break space", Trouble::Invisible), ('\u{205f}', "mathematical space", Trouble::Invisible),
    ('\u{2060}', "word joiner", Trouble::Invisible), ('\u{2066}', "left-to-right isolate", Trouble::Invisible),
    ('\u{2067}', "right-to-left isolate", Trouble::Invisible), ('\u{2068}', "first strong isolate", Trouble::Invisible),
    ('\u{2069}', "end of isolate", Trouble::Invisible), ('\u{3000}', "ideographic space", Trouble::Invisible),
    ('\u{feff}', "byte order mark", Trouble::Invisible), ('\u{2002}', "en space", Trouble::Invisible),
    ('\u{2003}', "em space", Trouble::Invisible), ('\u{fffd}', "replacement character", Trouble::Invisible),
    ('\u{2018}', "left single quote", Trouble::Smart), ('\u{2019}', "right single quote", Trouble::Smart),
    ('\u{201a}', "low single quote", Trouble::Smart), ('\u{201c}', "left double quote", Trouble::Smart),
    ('\u{201d}', "right double quote", Trouble::Smart), ('\u{201e}', "low double quote", Trouble::Smart),
    ('\u{ab}', "left guillemet", Trouble::Smart), ('\u{bb}', "right guillemet", Trouble::Smart),
    ('\u{2032}', "prime", Trouble::Smart), ('\u{2033}', "double prime", Trouble::Smart),
    ('\u{2010}', "typographic hyphen", Trouble::Smart), ('\u{2011}', "no-break hyphen", Trouble::Smart),
    ('\u{2012}', "figure dash", Trouble::Smart), ('\u{2013}', "en dash", Trouble::Smart),
    ('\u{2014}', "em dash", Trouble::Smart), ('\u{2212}', "minus sign", Trouble::Smart),
    ('\u{2026}', "ellipsis", Trouble::Smart),
];

fn trouble(character: char) -> Option<(&'static str, Trouble)> {
    match character {
        '\u{ff01}'..='\u{ff5e}' => Some(("full-width form", Trouble::FullWidth)),
        '\u{300}'..='\u{34e}' | '\u{350}'..='\u{36f}' => Some(("combining mark", Trouble::Combining)),
        '\u{e0000}'..='\u{e007f}' => Some(("tag character", Trouble::Invisible)),
        '\u{fe00}'..='\u{fe0f}' => Some(("variation selector", Trouble::Invisible)),
        _ => NAMED.iter().find(|(named, ..)| *named == character).map(|(_, name, trouble)| (*name, *trouble)),
    }
}

/// Letters of other scripts that look like Latin ones.
const CYRILLIC: &str = "асеорхуіјѕԁԛԝАВЕКМНОРСТХУЅІЈ";
const GREEK: &str = "ονΑΒΕΖΗΙΚΜΝΟΡΤΥΧ";

/// How many characters.
pub(super) fn length(text: &str) -> String {
    text.chars().count().to_string()
}

/// Without blanks around, quotes around and unseen characters: what was probably meant.
pub(super) fn cleaned(text: &str) -> String {
    let seen: String =
        text.chars().filter(|c| !c.is_control() && !matches!(trouble(*c), Some((_, Trouble::Invisible)))).collect();
    let seen = seen.trim();
    let bare = [('"', '"'), ('\'', '\''), ('`', '`'), ('<', '>'), ('\u{201c}', '\u{201d}'), ('\u{2018}', '\u{2019}')]
        .iter()
        .find_map(|(open, close)| seen.strip_prefix(*open).and_then(|rest| rest.strip_suffix(*close)));
    bare.unwrap_or(seen).to_owned()
}

/// Notes on the characters of one field.
pub(super) fn lint(field: Field, text: &str, notes: &mut Notes) {
    blanks(field, text, notes);
    let control = positions(text, |c| c.is_control() && !matches!(c, '\r' | '\n' | '\t'));
    if !control.is_empty() {
        let values = [("positions", listed(&control)), ("count", control.len().to_string())];
        notes.field("credential_control_character", field, &values);
    }
    for (kind, wanted) in [
        ("credential_invisible_character", Trouble::Invisible),
        ("credential_smart_punctuation", Trouble::Smart),
        ("credential_full_width", Trouble::FullWidth),
        ("credential_decomposed", Trouble::Combining),
    ] {
        let found: Vec<(usize, char, &str)> = text
            .chars()
            .enumerate()
            .filter_map(|(at, c)| trouble(c).filter(|(_, is)| *is == wanted).map(|(name, _)| (at + 1, c, name)))
            .collect();
        if !found.is_empty() {
            let named = |(at, c, name): &(usize, char, &str)| match wanted {
                // Which letter it is would give a character of the password away.
                Trouble::FullWidth | Trouble::Combining => format!("{name} at position {at}"),
                _ => format!("{name} (U+{:04X}) at position {at}", u32::from(*c)),
            };
            let mut names: Vec<String> = found.iter().take(MAX_NAMED).map(named).collect();
            if found.len() > MAX_NAMED {
                names.push(format!("{} more", found.len() - MAX_NAMED));
            }
            let values = [
                ("characters", names.join(", ")),
                ("count", found.len().to_string()),
                ("length", length(text)),
                ("octets", text.len().to_string()),
            ];
            notes.field(kind, field, &values);
        }
    }
    other_scripts(field, text, notes);
}

fn blanks(field: Field, text: &str, notes: &mut Notes) {
    let is_blank = |c: char| matches!(c, ' ' | '\t');
    let is_end = |c: char| matches!(c, '\r' | '\n');
    if text.contains(is_end) {
        let at = positions(text, is_end);
        notes.field("credential_line_end", field, &[("positions", listed(&at)), ("count", at.len().to_string())]);
    }
    let inner = text.trim_matches(is_end);
    let before = inner.chars().take_while(|c| is_blank(*c)).count();
    let behind = inner.chars().rev().take_while(|c| is_blank(*c)).count();
    let place = match (before, behind) {
        (0, 0) => return,
        (_, 0) => "before it",
        (0, _) => "behind it",
        _ => "before and behind it",
    };
    let only_blanks = before == inner.chars().count();
    let count = if only_blanks { before } else { before + behind };
    notes.field("credential_blank_around", field, &[("where", place.to_owned()), ("count", count.to_string())]);
}

/// Letters that look Latin among Latin ones; and anything else beyond ASCII in a password, as a note.
fn other_scripts(field: Field, text: &str, notes: &mut Notes) {
    for (script, letters) in [("Cyrillic", CYRILLIC), ("Greek", GREEK)] {
        let found = positions(text, |c| letters.contains(c));
        let of_script = text.chars().filter(|c| script_of(*c) == Some(script)).count();
        let latin = text.chars().any(|c| c.is_ascii_alphabetic());
        if !found.is_empty() && found.len() == of_script && (latin || field == Field::User) {
            let values = [("script", script.to_owned()), ("positions", listed(&found))];
            notes.field("credential_look_alike", field, &values);
            return;
        }
    }
    let plain = |c: char| c.is_ascii() || trouble(c).is_some() || c.is_control();
    let strange = positions(text, |c| !plain(c));
    if field == Field::Password && !strange.is_empty() {
        let values = [
            ("positions", listed(&strange)),
            ("count", strange.len().to_string()),
            ("length", length(text)),
            ("octets", text.len().to_string()),
        ];
        notes.field("credential_not_ascii", field, &values);
    }
}

fn script_of(character: char) -> Option<&'static str> {
    match character {
        '\u{400}'..='\u{52f}' => Some("Cyrillic"),
        '\u{370}'..='\u{3ff}' => Some("Greek"),
        _ => None,
    }
}

/// Positions from 1.
fn positions(text: &str, wanted: impl Fn(char) -> bool) -> Vec<usize> {
    text.chars().enumerate().filter(|(_, c)| wanted(*c)).map(|(at, _)| at + 1).collect()
}

fn listed(positions: &[usize]) -> String {
    let mut words: Vec<String> = positions.iter().take(MAX_NAMED).map(ToString::to_string).collect();
    if positions.len() > MAX_NAMED {
        words.push(format!("{} more", positions.len() - MAX_NAMED));
    }
    words.join(", ")
}
