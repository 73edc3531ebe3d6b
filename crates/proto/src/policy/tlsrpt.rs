//! Where reports about TLS go: `_smtp._tls` (RFC 8460 §3).

use serde::Serialize;

use super::remark::{Parsed, short};
use super::tags::{Tags, has_version};

/// A TLS-RPT record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TlsRpt {
    /// `mailto:` and `https:` URIs, as written.
    pub rua: Vec<String>,
}

/// Whether a TXT record is meant as one.
pub fn is_record(text: &[u8]) -> bool {
    has_version(text, "TLSRPTv1")
}

/// Reads a record.
pub fn parse(text: &[u8]) -> Parsed<TlsRpt> {
    let mut tags = Tags::parse(text);
    if !is_record(text) {
        tags.error("bad_version", 0, "does not start with v=TLSRPTv1");
        return Parsed::new(None, tags.remarks);
    }
    tags.warn_unknown(&["v", "rua"]);
    let Some(tag) = tags.get("rua").cloned() else {
        tags.error("missing_rua", text.len(), "there is no rua=");
        return Parsed::new(None, tags.remarks);
    };
    let mut rua = Vec::new();
    let mut at = tag.at;
    for uri in tag.value.split(',') {
        let clean = uri.trim();
        match is_uri(clean) {
            true => rua.push(clean.to_owned()),
            false => tags.error("bad_uri", at, format!("`{}` is neither mailto: nor https:", short(clean))),
        }
        at += uri.len() + 1;
    }
    let record = (!rua.is_empty()).then_some(TlsRpt { rua });
    Parsed::new(record, tags.remarks)
}

fn is_uri(uri: &str) -> bool {
    let lower = uri.to_ascii_lowercase();
    let mailto = lower.strip_prefix("mailto:").is_some_and(|rest| rest.contains('@') && !rest.contains(' '));
    mailto || lower.strip_prefix("https://").is_some_and(|rest| !rest.is_empty() && !rest.contains(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_need_an_address() {
        let good = parse(b"v=TLSRPTv1; rua=mailto:tls@example.com,https://example.com/tls");
        assert_eq!(good.record.expect("a record").rua.len(), 2);
        assert!(good.remarks.is_empty());
        for (text, kind) in [
            ("v=TLSRPTv1", "missing_rua"),
            ("v=TLSRPTv1; rua=tls@example.com", "bad_uri"),
            ("v=TLSRPT1; rua=mailto:tls@example.com", "bad_version"),
        ] {
            let parsed = parse(text.as_bytes());
            assert!(parsed.record.is_none(), "{text}");
            assert!(parsed.remarks.iter().any(|remark| remark.kind == kind), "{text}: {:?}", parsed.remarks);
        }
    }
}
