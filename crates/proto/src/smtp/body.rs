//! Message content on the wire: DATA un-stuffed as it arrives, BDAT checked, and content stuffed for sending.
//!
//! Only CR LF . CR LF ends DATA and only CR LF ends a line (RFC 5321 §2.3.8, §4.5.2): two servers that disagree on
//! this are how messages are smuggled. Content is copied in runs, not by octet.

mod decode;
mod encode;

pub use decode::{ContentCheck, DataDecoder};
pub use encode::{Stuffed, stuff_into, stuffed};

#[cfg(test)]
mod tests;
