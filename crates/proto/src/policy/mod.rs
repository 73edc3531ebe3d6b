//! Sender policies in DNS: SPF, DKIM keys, DMARC, MTA-STS, TLS reports, BIMI, DANE.
//!
//! Records become values with remarks about what is wrong in them, and procedures that need several lookups become
//! machines that ask questions. Nothing here knows a resolver, and nothing here gives advice.

pub mod bimi;
pub mod dkim;
pub mod dmarc;
pub mod dns;
pub mod remark;
pub mod spf;
pub mod sts;
pub mod tags;
pub mod tlsa;
pub mod tlsrpt;

pub use dns::{Data, Kind, Question, Reply, Step, Steps};
pub use remark::{Level, Parsed, Remark};
