//! TLSA records: what they pin, and which of them count for SMTP (RFC 6698, RFC 7672).

use serde::Serialize;

/// What a TLSA record means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tlsa {
    /// Certificate usage as written.
    pub usage: u8,
    /// Selector as written.
    pub selector: u8,
    /// Matching type as written.
    pub matching: u8,
    /// Name of the usage: `DANE-EE`, ...
    pub usage_name: Option<&'static str>,
    /// `certificate` or `public key`.
    pub selector_name: Option<&'static str>,
    /// `exact`, `SHA-256`, `SHA-512`.
    pub matching_name: Option<&'static str>,
    /// `None`: a sender of mail can use it. Otherwise why not.
    pub unusable: Option<Unusable>,
}

/// Why a record does not count for SMTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unusable {
    /// PKIX-TA and PKIX-EE are for the web (RFC 7672 §3.1.3).
    PkixUsage,
    /// No such usage, selector or matching type.
    UnknownParameter,
    /// The data does not have the length of the hash.
    WrongLength,
    /// No data.
    Empty,
}

impl Tlsa {
    /// What the fields of a record mean.
    pub fn new(usage: u8, selector: u8, matching: u8, data: &[u8]) -> Self {
        let name = |names: &'static [&'static str], n: u8| names.get(usize::from(n)).copied();
        let usage_name = name(&["PKIX-TA", "PKIX-EE", "DANE-TA", "DANE-EE"], usage);
        let selector_name = name(&["certificate", "public key"], selector);
        let matching_name = name(&["exact", "SHA-256", "SHA-512"], matching);
        let wanted = match matching {
            1 => Some(32),
            2 => Some(64),
            _ => None,
        };
        let unusable = if usage_name.is_none() || selector_name.is_none() || matching_name.is_none() {
            Some(Unusable::UnknownParameter)
        } else if usage < 2 {
            Some(Unusable::PkixUsage)
        } else if data.is_empty() {
            Some(Unusable::Empty)
        } else if wanted.is_some_and(|length| data.len() != length) {
            Some(Unusable::WrongLength)
        } else {
            None
        };
        Self { usage, selector, matching, usage_name, selector_name, matching_name, unusable }
    }

    /// A sender of mail can use it.
    pub fn is_usable(&self) -> bool {
        self.unusable.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dane_usages_with_whole_hashes_count_for_mail() {
        for (usage, selector, matching, length, unusable) in [
            (3, 1, 1, 32, None),
            (2, 0, 2, 64, None),
            (3, 0, 0, 900, None),
            (1, 1, 1, 32, Some(Unusable::PkixUsage)),
            (3, 1, 1, 31, Some(Unusable::WrongLength)),
            (3, 2, 1, 32, Some(Unusable::UnknownParameter)),
            (4, 1, 1, 32, Some(Unusable::UnknownParameter)),
            (3, 1, 0, 0, Some(Unusable::Empty)),
        ] {
            let tlsa = Tlsa::new(usage, selector, matching, &vec![1; length]);
            assert_eq!(tlsa.unusable, unusable, "{usage} {selector} {matching} {length}");
        }
    }
}
