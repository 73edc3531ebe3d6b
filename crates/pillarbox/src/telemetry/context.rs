//! Names of traces and spans, and the `traceparent` of W3C Trace Context that a client may give.
//!
//! A message's trace and its spans are named by hashes of its id: nothing has to be kept for them, and every run says the same.

use store::MessageId;

/// Names a trace.
pub type TraceId = [u8; 16];
/// Names a span.
pub type SpanId = [u8; 8];

/// Where a client's own trace goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// The trace.
    pub trace: TraceId,
    /// The span that called us.
    pub span: SpanId,
    /// It is recorded.
    pub sampled: bool,
}

impl Parent {
    /// Reads `00-<32 hex>-<16 hex>-<2 hex>`; versions to come may say more behind that.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let exact = version != "00" || parts.next().is_none();
        let [flags] = octets::<1>(flags)?;
        let (trace, span) = (octets::<16>(trace)?, octets::<8>(span)?);
        let valid = exact && octets::<1>(version)? != [0xff] && trace != [0; 16] && span != [0; 8];
        valid.then_some(Self { trace, span, sampled: flags & 1 == 1 })
    }
}

fn octets<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.len() == 2 * N && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let mut all = [0; N];
    if !digits {
        return None;
    }
    for (n, octet) in all.iter_mut().enumerate() {
        *octet = u8::from_str_radix(text.get(2 * n..2 * n + 2)?, 16).ok()?;
    }
    Some(all)
}

/// The trace of a message that came without one.
pub fn trace_of(hostname: &str, message: MessageId) -> TraceId {
    hash(&["trace", hostname, &message.to_string()])
}

/// A span of a message.
pub fn span_of(trace: &TraceId, parts: &[&str]) -> SpanId {
    let trace = hex(trace);
    hash(&[&["span", &trace], parts].concat())
}

fn hash<const N: usize>(parts: &[&str]) -> [u8; N] {
    let mut hash = blake3::Hasher::new();
    for part in parts {
        hash.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    let mut out = [0; N];
    out.copy_from_slice(&hash.finalize().as_bytes()[..N]);
    // All zero is no name.
    out[N - 1] |= 1;
    out
}

/// As OTLP writes names.
pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_taken_only_as_it_has_to_be() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent = Parent::parse(good).unwrap();
        assert_eq!(
            (hex(&parent.trace), hex(&parent.span), parent.sampled),
            ("4bf92f3577b34da6a3ce929d0e0e4736".into(), "00f067aa0ba902b7".into(), true)
        );
        assert!(!Parent::parse(&good.replace("-01", "-00")).unwrap().sampled);
        assert!(Parent::parse(&format!("01{}-what-comes-later", &good[2..])).is_some());
        for wrong in [
            "",
            "00-0000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e47ü6-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Parent::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_differ_and_stay() {
        let trace = trace_of("mx.example.org", MessageId(7));
        assert_eq!(trace, trace_of("mx.example.org", MessageId(7)));
        assert_ne!(trace, trace_of("mx.example.org", MessageId(8)));
        assert_ne!(span_of(&trace, &["a", "bc"]), span_of(&trace, &["ab", "c"]));
    }
}
