//! MTA-STS as a sender looks it up (RFC 8461 §3): the record, and the policy file behind it.
//!
//! Nothing is remembered here, and nothing is decided: a record that is not known is told from one that is not there.

use proto::policy::sts::{self, StsPolicy};

use crate::https::{self, FetchError, Request};
use crate::lookup::{Kind, Outcome};
use crate::{Net, Resolver};

/// What `_mta-sts` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StsRecord {
    /// There is a policy, of this id.
    Id(String),
    /// There is none: no record, several, or one that is not valid (RFC 8461 §3.1).
    Absent,
    /// Nothing is known.
    Unknown,
}

/// Why a policy could not be had.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StsError {
    /// The file was not fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The file is not valid.
    #[error("the policy is not valid: {0}")]
    Invalid(String),
}

/// Asks for the record of a domain.
pub async fn record(resolver: &Resolver, domain: &str) -> StsRecord {
    let answer = resolver.query(&format!("_mta-sts.{domain}"), Kind::Txt).await;
    if let Outcome::Failed(_) = answer.outcome {
        return StsRecord::Unknown;
    }
    let reply = answer.reply();
    let mut texts = reply.texts().filter(|text| sts::is_record(text));
    match (texts.next(), texts.next()) {
        (Some(text), None) => sts::parse(text).record.map_or(StsRecord::Absent, |record| StsRecord::Id(record.id)),
        _ => StsRecord::Absent,
    }
}

/// Fetches the policy of a domain; `request` has everything but host and path.
pub async fn fetch(net: &Net, domain: &str, request: Request<'_>) -> Result<StsPolicy, StsError> {
    let host = format!("mta-sts.{domain}");
    let octets = https::get(net, Request { host: &host, path: "/.well-known/mta-sts.txt", ..request }).await?;
    let parsed = sts::parse_policy(&octets);
    parsed.record.ok_or_else(|| {
        let remark = parsed.remarks.first().map(|remark| remark.text.clone());
        StsError::Invalid(remark.unwrap_or_else(|| "it is empty".into()))
    })
}
