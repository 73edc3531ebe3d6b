//! Reports about TLS (RFC 8460): where they go (`_smtp._tls`, §3), what is in them, and the mail around them.

pub mod mail;
pub mod report;

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

/// Where one report goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// By mail, to this address as the URI has it, decoded.
    Mail(String),
    /// By HTTPS.
    Https {
        /// Name of the server.
        host: String,
        /// 443 unless the URI says otherwise.
        port: u16,
        /// With its slash and its query, fit for a request line.
        path: String,
    },
}

/// Takes a URI of `rua` apart; `None` for one that is of no use.
pub fn target(uri: &str) -> Option<Target> {
    if !uri.bytes().all(|octet| octet.is_ascii_graphic()) {
        return None;
    }
    let (scheme, rest) = uri.split_once(':')?;
    if scheme.eq_ignore_ascii_case("mailto") {
        return decoded(rest.split('?').next()?).filter(|address| address.contains('@')).map(Target::Mail);
    }
    let rest = rest.strip_prefix("//").filter(|_| scheme.eq_ignore_ascii_case("https"))?;
    let rest = rest.split('#').next()?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (authority, 443),
    };
    let named = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-');
    let host_fits = (1..=253).contains(&host.len()) && host.bytes().all(named);
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    host_fits.then(|| Target::Https { host: host.to_ascii_lowercase(), port, path })
}

/// Without percent encoding (RFC 3986 §2.1).
fn decoded(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            octet => octet,
        });
    }
    String::from_utf8(octets).ok().filter(|text| !text.contains(char::is_control))
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
    fn a_uri_is_taken_apart_and_one_that_could_do_harm_is_none() {
        let https = |host: &str, port, path: &str| Some(Target::Https { host: host.into(), port, path: path.into() });
        for (uri, wanted) in [
            ("mailto:tls@example.com", Some(Target::Mail("tls@example.com".into()))),
            ("MAILTO:t%2Cls%21@example.com?subject=x", Some(Target::Mail("t,ls!@example.com".into()))),
            ("https://Reports.example.com/v1/tls?x=1#y", https("reports.example.com", 443, "/v1/tls?x=1")),
            ("https://reports.example.com", https("reports.example.com", 443, "/")),
            ("https://reports.example.com:8443?x", https("reports.example.com", 8443, "/?x")),
            ("https://user@reports.example.com/", None),
            ("https://reports.example.com:x/", None),
            ("https:///x", None),
            ("http://reports.example.com/", None),
            ("https://a/\r\nX: y", None),
            ("mailto:a%0d%0a@example.com", None),
            ("mailto:a%4", None),
            ("mailto:nobody", None),
        ] {
            assert_eq!(target(uri), wanted, "{uri}");
        }
    }

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
