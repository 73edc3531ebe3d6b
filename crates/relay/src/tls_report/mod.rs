//! Reports about TLS to receiving domains (RFC 8460): sessions are counted by domain and day, and told to those who ask for it.
//!
//! Outline: [`observe`] says what a connection means → [`ledger`] counts it in memory, and in the store every half minute →
//! after the day [`send`] asks the DNS who wants it, and hands it over by HTTPS or as a mail of our own.

mod ledger;
pub(crate) mod observe;
mod send;
mod view;

use proto::Address;

pub(crate) use ledger::Ledger;
pub use ledger::SendState;
pub(crate) use send::run;
pub use view::{TlsReportError, TlsReportSent, TlsReportView};

/// Settings of reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsReportConfig {
    /// Who reports, for people.
    pub organization: String,
    /// Whom receivers may ask, and the address that reports by mail come from. Its domain is the submitter's.
    pub contact: Address,
    /// Receivers by HTTPS may be at addresses of private networks.
    pub allow_private: bool,
}
