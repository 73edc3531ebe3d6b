//! Messages as raw octets (RFC 5322, RFC 2045): find headers, add what is missing, read what is shown.
//!
//! Nothing here builds a message tree for display or parses bodies for meaning; libraries do that where it is needed.

mod complete;
mod convert;
mod date;
mod decode;
mod encode;
mod mailbox;
mod mime;
pub mod notice;
mod readdress;
mod scan;

pub use complete::{
    ALWAYS_STRIPPED, Completion, Protocol, ReceivedFacts, complete, normalize_line_ends, received_value,
};
pub use convert::{CannotConvert, down_convert};
pub use date::{iso_date, rfc5322_date};
pub use decode::{MAX_DISPLAY_CHARS, decode_header_value};
pub use encode::{HeaderName, HeaderText, HeaderTextError, encode_phrase, encode_unstructured, fold};
pub use mailbox::{mailbox_of, mailboxes_of};
pub use readdress::{CannotReaddress, readdress};
pub use scan::{Field, HeaderScan, MAX_FIELDS, MAX_HEADER_OCTETS, ScanError, scan};
