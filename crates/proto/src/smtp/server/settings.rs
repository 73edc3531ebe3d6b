//! What a session may do and what is known about it.

/// When AUTH is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthOffer {
    /// Never.
    Never,
    /// Only when TLS is on.
    UnderTls,
    /// In clear too.
    Always,
}

/// Limits and offers of a listener.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our name in greeting and EHLO.
    pub hostname: String,
    /// Largest message in octets, 0 for no limit.
    pub max_size: u64,
    /// Most recipients per transaction.
    pub max_recipients: usize,
    /// Most commands without a message accepted; accepted recipients do not count.
    pub max_commands: u32,
    /// Most errors (syntax, sequence, authentication) without a message accepted.
    pub max_errors: u32,
    /// When AUTH is offered.
    pub auth: AuthOffer,
    /// MAIL needs AUTH.
    pub require_auth: bool,
    /// STARTTLS is offered.
    pub starttls: bool,
    /// Everything but NOOP, EHLO, STARTTLS and QUIT needs TLS (RFC 3207 §4).
    pub require_tls: bool,
    /// XCLIENT is offered: the peer is trusted.
    pub xclient: bool,
}

impl Settings {
    /// Sound limits, no TLS, no AUTH: everything else is the caller's decision.
    pub fn new(hostname: impl Into<String>) -> Self {
        Self {
            hostname: hostname.into(),
            max_size: 50 * 1024 * 1024,
            max_recipients: 1_000,
            max_commands: 100,
            max_errors: 20,
            auth: AuthOffer::Never,
            require_auth: false,
            starttls: false,
            require_tls: false,
            xclient: false,
        }
    }
}

/// What is known about a session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionFacts {
    /// What the client called itself; empty before EHLO and HELO. Printable ASCII, at most 255 octets, not verified.
    pub helo: String,
    /// It said EHLO.
    pub esmtp: bool,
    /// TLS is on.
    pub tls: bool,
    /// The user name, once the driver accepted the credentials.
    pub authenticated: Option<String>,
}
