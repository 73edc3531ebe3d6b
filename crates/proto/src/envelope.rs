//! The envelope of a message: who sends, who receives, and what the SMTP extensions say about it.
//!
//! Shared by the server (what a client gave), the queue (what is kept) and the client (what is sent on).

use serde::{Deserialize, Serialize};

use crate::address::{Address, ReversePath};

/// BODY= of MAIL (RFC 6152 §2, RFC 3030 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum BodyType {
    /// Only octets 1 to 127 in lines of at most 998 octets.
    #[default]
    SevenBit,
    /// Octets 128 to 255 may occur.
    EightBitMime,
    /// Anything, BDAT only. We do not offer it; kept so that a reply can name it.
    BinaryMime,
}

/// RET= of MAIL (RFC 3461 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReturnContent {
    /// The whole message.
    Full,
    /// Headers only.
    Headers,
}

/// NOTIFY= of RCPT (RFC 3461 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeliveryNotify {
    /// Never send a notification.
    Never,
    /// Any combination of the three events.
    On {
        /// On delivery.
        success: bool,
        /// On final failure.
        failure: bool,
        /// When late.
        delay: bool,
    },
}

/// Parameters of MAIL that outlive the session.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MailParameters {
    /// BODY=.
    pub body: BodyType,
    /// SIZE= as declared, in octets (RFC 1870).
    pub size: Option<u64>,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// RET=.
    pub ret: Option<ReturnContent>,
    /// ENVID=, decoded from xtext; at most 100 octets (RFC 3461 §4.4).
    pub envid: Option<String>,
    /// AUTH= (RFC 4954 §5), decoded; `<>` is `Some("")`. Informational: we never trust it.
    pub auth: Option<String>,
    /// REQUIRETLS (RFC 8689 §3): verified TLS on every hop from here on, or no delivery.
    #[serde(default)]
    pub require_tls: bool,
    /// `TLS-Required: No` in the header (RFC 8689 §3): what receiving domains demand of the transport is left aside. No parameter
    /// of the command, and never together with `require_tls`.
    #[serde(default)]
    pub tls_optional: bool,
}

/// Parameters of RCPT that outlive the session.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RcptParameters {
    /// NOTIFY=.
    pub notify: Option<DeliveryNotify>,
    /// ORCPT= as `type;address`, decoded from xtext (RFC 3461 §4.2).
    pub orcpt: Option<String>,
}

/// One recipient as the client named it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// Where the message shall go.
    pub address: Address,
    /// RCPT parameters.
    pub parameters: RcptParameters,
}

/// MAIL and RCPT of one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// MAIL FROM.
    pub reverse_path: ReversePath,
    /// MAIL parameters.
    pub parameters: MailParameters,
    /// RCPT TO, in order, at least one.
    pub recipients: Vec<Recipient>,
}
