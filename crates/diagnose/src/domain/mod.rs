//! The audit of a domain: its records for receiving and sending, and what is wrong with them.
//!
//! Each file looks at one kind of record and notes *signs* ([`SIGNS`]): a kind and values. What a sign means, how bad
//! it is and which record repairs it is said by the rules. Nothing here gives advice.

mod addresses;
mod audit;
mod bimi;
mod blocklists;
mod caa;
mod dane;
mod dkim;
mod dmarc;
mod https;
mod many;
mod mx;
mod notes;
mod plan;
mod report;
mod routes;
mod smtp;
mod spf;
mod sts;
mod text;
mod zone;

pub use audit::{Auditor, label};
pub use many::{MAX_CONCURRENCY, audit_many};
pub use notes::SIGNS;
pub use plan::{Guess, OwnKey, Plan, Redirects, Section, SendingRoute, Smtp};
pub use report::{Audit, Found, Row, SCHEMA, SectionReport, Shown, State};

pub(crate) use text::shown;
pub(crate) use zone::is_silence;
