//! Where the picture of a sender is: `SELECTOR._bimi` (the BIMI draft of the IETF).

use serde::Serialize;

use super::remark::{Parsed, short};
use super::tags::{Tags, has_version};

/// A BIMI record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bimi {
    /// HTTPS address of the SVG; `None` if the domain declines.
    pub location: Option<String>,
    /// HTTPS address of the certificate for the mark.
    pub evidence: Option<String>,
    /// `l=` and `a=` are empty: the domain says that it has none.
    pub declined: bool,
}

/// Whether a TXT record is meant as one.
pub fn is_record(text: &[u8]) -> bool {
    has_version(text, "BIMI1")
}

/// Reads a record.
pub fn parse(text: &[u8]) -> Parsed<Bimi> {
    let mut tags = Tags::parse(text);
    if !is_record(text) {
        tags.error("bad_version", 0, "does not start with v=BIMI1");
        return Parsed::new(None, tags.remarks);
    }
    tags.warn_unknown(&["v", "l", "a", "avp", "lps", "s", "e"]);
    if tags.get("l").is_none() {
        tags.error("missing_location", text.len(), "there is no l=");
        return Parsed::new(None, tags.remarks);
    }
    let location = address(&mut tags, "l");
    let evidence = address(&mut tags, "a");
    if let Some((at, value)) = tags.get("l").map(|tag| (tag.at, tag.value.clone()))
        && location.is_some()
        && !path_of(&value).ends_with(".svg")
        && !path_of(&value).ends_with(".svgz")
    {
        tags.warn("not_svg", at, "the address does not end in .svg");
    }
    let declined =
        tags.get("l").is_some_and(|tag| tag.value.is_empty()) && tags.get("a").is_none_or(|tag| tag.value.is_empty());
    if location.is_none() && !declined && !tags.remarks.iter().any(|remark| remark.kind == "bad_uri") {
        tags.error("missing_location", text.len(), "l= is empty");
    }
    if evidence.is_none() && !declined {
        tags.warn("no_evidence", text.len(), "there is no a= with a certificate");
    }
    let record = (location.is_some() || declined).then_some(Bimi { location, evidence, declined });
    Parsed::new(record, tags.remarks)
}

fn path_of(uri: &str) -> String {
    uri.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase()
}

fn address(tags: &mut Tags, name: &str) -> Option<String> {
    let tag = tags.get(name)?.clone();
    if tag.value.is_empty() {
        return None;
    }
    let https = tag.value.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://"));
    if https && tag.value.len() > 8 && !tag.value.contains([' ', ',']) {
        return Some(tag.value);
    }
    tags.error("bad_uri", tag.at, format!("{name}= is `{}`, not one https: address", short(&tag.value)));
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_a_picture_or_declines() {
        let full = parse(b"v=BIMI1; l=https://example.com/logo.svg; a=https://example.com/vmc.pem");
        assert!(full.remarks.is_empty() && full.record.expect("a record").evidence.is_some());
        assert!(parse(b"v=BIMI1; l=; a=;").record.expect("a record").declined);
        for (text, kind, counts) in [
            ("v=BIMI1; l=http://example.com/logo.svg", "bad_uri", false),
            ("v=BIMI1; l=https://example.com/logo.png", "not_svg", true),
            ("v=BIMI1", "missing_location", false),
            ("v=BIMI2; l=https://example.com/logo.svg", "bad_version", false),
            ("v=BIMI1; l=https://example.com/logo.svg", "no_evidence", true),
        ] {
            let parsed = parse(text.as_bytes());
            assert!(parsed.remarks.iter().any(|remark| remark.kind == kind), "{text}: {:?}", parsed.remarks);
            assert_eq!(parsed.record.is_some(), counts, "{text}");
        }
    }
}
