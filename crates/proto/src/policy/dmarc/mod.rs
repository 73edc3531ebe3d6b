//! DMARC: the record, where it is found, and whether an identity is aligned; RFC 9989 and, beside it, RFC 7489.
//!
//! The two differ in how the organizational domain is found (walking up the tree, or the public suffix list) and in
//! some tags. Receivers of both kinds are out there, so a domain should be judged by both.

mod align;
mod discover;
mod record;
#[cfg(test)]
mod tests;

pub use align::{DkimClaim, DmarcVerdict, SpfClaim, aligned, judge};
pub use discover::{Asked, Discovery, DmarcDiscovery, Found, OrganizationalDomain, organizational_by_list};
pub use record::{Alignment, DmarcRecord, Policy, PublicSuffix, ReportUri, is_record, parse};

/// Whose policy is wanted, as seen from the domain that was asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// The domain itself.
    Domain,
    /// A domain below it that exists and has no record of its own.
    Subdomain,
    /// A domain below it that does not exist (NXDOMAIN).
    NonExistent,
}

/// The name of a DMARC record.
pub fn record_name(domain: &str) -> String {
    format!("_dmarc.{}", domain.trim_matches('.').to_ascii_lowercase())
}
