//! Why the door stays shut: one value that SMTP and HTTP each turn into their own answer.

use proto::smtp::reply::Reply;
use store::StoreError;

/// What kind of refusal it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefusalKind {
    /// Who are you?
    Unauthorized,
    /// Not you, or not as this.
    Forbidden,
    /// Over a size limit.
    TooLarge,
    /// Over a recipient limit.
    TooManyRecipients,
    /// Too fast.
    RateLimited {
        /// Seconds until there is room.
        retry_after_s: u32,
    },
    /// The disk is full.
    Full,
    /// The store cannot be trusted with it now.
    Unhealthy,
    /// Too much at once.
    Overloaded,
    /// The message makes no sense.
    Invalid {
        /// Which field of the request, as a JSON pointer.
        field: Option<String>,
    },
    /// An `Idempotency-Key` was used for another request.
    KeyConflict,
    /// It has been through too many hands.
    Loop,
    /// The row of a batch it is made from was done with already, or the batch is not running.
    NotWanted,
}

/// A refusal with its words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reply}")]
pub struct Refusal {
    /// What an SMTP client is told.
    pub reply: Reply,
    /// What it is about.
    pub kind: RefusalKind,
}

impl Refusal {
    /// From its parts.
    pub fn new(kind: RefusalKind, code: u16, text: impl Into<String>) -> Self {
        Self { reply: Reply::new(code, text), kind }
    }

    /// A message that makes no sense, 5yz.
    pub fn invalid(field: Option<&str>, code: u16, text: impl Into<String>) -> Self {
        Self::new(RefusalKind::Invalid { field: field.map(str::to_owned) }, code, text)
    }

    /// The words without the enhanced code.
    pub fn detail(&self) -> String {
        let text = self.reply.lines.join(" ");
        match text.split_once(' ') {
            Some((code, rest)) if self.reply.enhanced().is_some() && code.contains('.') => rest.to_owned(),
            _ => text,
        }
    }
}

impl From<StoreError> for Refusal {
    /// The words are public: particulars of our disk are for the log.
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Self::new(RefusalKind::Full, 452, "4.3.1 Insufficient system storage, try again later"),
            StoreError::Overloaded => Self::new(RefusalKind::Overloaded, 451, "4.3.2 Busy, try again later"),
            StoreError::Invalid(what) => Self::invalid(None, 554, format!("5.6.0 {what}")),
            _ => Self::new(RefusalKind::Unhealthy, 451, "4.3.0 Message could not be stored, try again later"),
        }
    }
}
