//! User names and passwords in the form in which SCRAM hashes them: SASLprep (RFC 4013), as far as it changes anything.
//!
//! Blanks become spaces, what is invisible goes, the rest is put into NFKC. Characters that SASLprep forbids are left as
//! they are: the server knows best whether it has such a password, and refusing it here would help nobody.

use secrecy::zeroize::Zeroizing;
use unicode_normalization::UnicodeNormalization;

/// The prepared form. ASCII stays as it is.
pub(super) fn prepare(text: &str) -> Zeroizing<String> {
    if text.is_ascii() {
        return Zeroizing::new(text.to_owned());
    }
    let mapped = text.chars().filter(|character| !vanishes(*character)).map(|character| match character {
        '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200b}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => ' ',
        other => other,
    });
    // Room for the longest form, so that no half-grown copy is left in memory.
    let mut prepared = Zeroizing::new(String::with_capacity(text.len() * 6));
    prepared.extend(mapped.nfkc());
    prepared
}

/// RFC 3454 §B.1.
fn vanishes(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{34f}' | '\u{1806}' | '\u{180b}'..='\u{180d}' | '\u{200c}' | '\u{200d}' | '\u{2060}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc() {
        for (text, prepared) in [
            ("I\u{ad}X", "IX"),
            ("user", "user"),
            ("USER", "USER"),
            ("\u{aa}", "a"),
            ("\u{2168}", "IX"),
            ("a\u{a0}b", "a b"),
            ("e\u{301}", "\u{e9}"),
        ] {
            assert_eq!(prepare(text).as_str(), prepared, "{text:?}");
        }
    }
}
