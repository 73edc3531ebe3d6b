//! Shapes of keys and user names: `SG.{url:22}.{url:43}`. Literals, and classes of characters with how many.

use serde::Deserialize;

/// A shape.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Shape(Vec<Piece>);

#[derive(Debug, Clone)]
enum Piece {
    Literal(String),
    Some { class: Class, least: usize, most: usize },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Class {
    Lower,
    Upper,
    Letter,
    Digit,
    Alnum,
    Hex,
    Base64,
    Url,
    /// What stands on either side of the `@` of an address.
    Part,
    Any,
}

impl Class {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "lower" => Self::Lower,
            "upper" => Self::Upper,
            "letter" => Self::Letter,
            "digit" => Self::Digit,
            "alnum" => Self::Alnum,
            "hex" => Self::Hex,
            "base64" => Self::Base64,
            "url" => Self::Url,
            "part" => Self::Part,
            "any" => Self::Any,
            _ => return None,
        })
    }

    fn has(self, character: char) -> bool {
        match self {
            Self::Lower => character.is_ascii_lowercase(),
            // Key identifiers are capitals and digits.
            Self::Upper => character.is_ascii_uppercase() || character.is_ascii_digit(),
            Self::Letter => character.is_ascii_alphabetic(),
            Self::Digit => character.is_ascii_digit(),
            Self::Alnum => character.is_ascii_alphanumeric(),
            Self::Hex => character.is_ascii_hexdigit(),
            Self::Base64 => character.is_ascii_alphanumeric() || matches!(character, '+' | '/' | '='),
            Self::Url => character.is_ascii_alphanumeric() || matches!(character, '-' | '_'),
            Self::Part => !character.is_whitespace() && !matches!(character, '@' | '\\' | '<' | '>' | ','),
            Self::Any => true,
        }
    }
}

impl TryFrom<String> for Shape {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no shape");
        let mut pieces = Vec::new();
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let Some(at) = rest.find('{') else {
                pieces.push(Piece::Literal(rest.to_owned()));
                break;
            };
            if at > 0 {
                pieces.push(Piece::Literal(rest[..at].to_owned()));
            }
            let (inner, behind) = rest[at + 1..].split_once('}').ok_or_else(wrong)?;
            let (class, count) = inner.split_once(':').ok_or_else(wrong)?;
            let number = |digits: &str| digits.parse::<usize>().map_err(|_| wrong());
            let (least, most) = match count.split_once('-') {
                None => (number(count)?, number(count)?),
                Some((least, "")) => (number(least)?, usize::MAX),
                Some((least, most)) => (number(least)?, number(most)?),
            };
            pieces.push(Piece::Some { class: Class::of(class).ok_or_else(wrong)?, least, most });
            rest = behind;
        }
        Ok(Self(pieces))
    }
}

impl Shape {
    /// Whether the whole text has this shape. Each class takes as much as it can: shapes are written so that this is right.
    pub(super) fn fits(&self, text: &str) -> bool {
        let mut rest = text;
        for piece in &self.0 {
            match piece {
                Piece::Literal(literal) => match rest.strip_prefix(literal.as_str()) {
                    Some(behind) => rest = behind,
                    None => return false,
                },
                Piece::Some { class, least, most } => {
                    let taken = rest.chars().take_while(|character| class.has(*character)).take(*most);
                    let (count, octets) = taken.fold((0, 0), |(n, octets), c| (n + 1, octets + c.len_utf8()));
                    if count < *least {
                        return false;
                    }
                    rest = &rest[octets..];
                }
            }
        }
        rest.is_empty()
    }

    /// The text itself, where only one fits.
    pub(super) fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether a text of this shape can hardly be anything else: it begins as nothing else does.
    pub(super) fn is_telling(&self) -> bool {
        self.0.len() > 1 && matches!(self.0.first(), Some(Piece::Literal(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_fits_whole_texts_only() {
        let shape = |text: &str| Shape::try_from(text.to_owned()).unwrap();
        let key = shape("SG.{url:22}.{url:43}");
        let text = format!("SG.{}.{}", "a".repeat(22), "B-_".repeat(14) + "x");
        assert!(key.fits(&text));
        assert!(!key.fits(&format!("{text}x")) && !key.fits(&text[..60]) && !key.fits("SG."));
        assert!(shape("{part:1-}@{part:1-}").fits("ann@example.net"));
        assert!(!shape("{part:1-}@{part:1-}").fits("ann@b@example.net"));
        assert!(shape("{lower:2-3}é").fits("abé"));
        assert!(Shape::try_from("{nonsense:3}".to_owned()).is_err() && Shape::try_from("{lower".to_owned()).is_err());
    }
}
