//! A report about TLS (RFC 8460 §4.4): its JSON, and how sessions are counted into it.
//!
//! One form for both: what is collected over a day is the list of policies that the report will have.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::message::iso_date;

/// Most policies of one domain and day.
pub const MAX_POLICIES: usize = 32;
/// Most kinds of failures under one policy that keep their hosts and addresses.
pub const MAX_DETAILS: usize = 100;
/// Longest reason, in characters.
const MAX_REASON: usize = 300;

/// The report of one day to one domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Who reports.
    pub organization_name: String,
    /// The day.
    pub date_range: DateRange,
    /// Whom to ask about it.
    pub contact_info: String,
    /// Its name, the same in every copy.
    pub report_id: String,
    /// What was seen, by policy.
    pub policies: Vec<PolicyReport>,
}

/// Both ends as RFC 3339 writes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DateRange {
    /// First second.
    pub start_datetime: String,
    /// Last second.
    pub end_datetime: String,
}

impl DateRange {
    /// From the first to the last of these Unix seconds.
    pub fn of(start_s: i64, end_s: i64) -> Self {
        Self { start_datetime: instant(start_s), end_datetime: instant(end_s) }
    }
}

fn instant(unix_s: i64) -> String {
    let second = unix_s.rem_euclid(86_400);
    format!("{}T{:02}:{:02}:{:02}Z", iso_date(unix_s), second / 3_600, second / 60 % 60, second % 60)
}

/// Sessions under one policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PolicyReport {
    /// The policy.
    pub policy: Policy,
    /// How many.
    pub summary: Summary,
    /// What failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failure_details: Vec<FailureDetails>,
}

/// A policy as it was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Policy {
    /// Which kind.
    pub policy_type: PolicyType,
    /// Lines of the policy file, or TLSA records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policy_string: Vec<String>,
    /// Whose it is: the recipients' domain, or the TLSA base domain (§1.1).
    pub policy_domain: String,
    /// The hosts that the policy file lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mx_host: Vec<String>,
}

impl Policy {
    /// No policy was found for a domain.
    pub fn none(domain: &str) -> Self {
        Self {
            policy_type: PolicyType::NoPolicyFound,
            policy_string: Vec::new(),
            policy_domain: domain.to_owned(),
            mx_host: Vec::new(),
        }
    }
}

/// Kinds of policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyType {
    /// DANE (RFC 7672).
    Tlsa,
    /// MTA-STS (RFC 8461).
    Sts,
    /// None of them.
    NoPolicyFound,
}

/// Counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Summary {
    /// Sessions that came about as the policy demands.
    pub total_successful_session_count: u64,
    /// Sessions that did not.
    pub total_failure_session_count: u64,
}

/// Failures that are alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FailureDetails {
    /// What failed.
    pub result_type: ResultType,
    /// Our address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sending_mta_ip: Option<IpAddr>,
    /// The mail host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiving_mx_hostname: Option<String>,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiving_ip: Option<IpAddr>,
    /// How many sessions.
    pub failed_session_count: u64,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_reason_code: Option<String>,
}

/// What failed (§4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "named as in the RFC")]
pub enum ResultType {
    StarttlsNotSupported,
    CertificateHostMismatch,
    CertificateExpired,
    CertificateNotTrusted,
    ValidationFailure,
    TlsaInvalid,
    DnssecInvalid,
    DaneRequired,
    StsPolicyFetchError,
    StsPolicyInvalid,
    StsWebpkiInvalid,
}

/// One session, or one that did not come about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Under which policy.
    pub policy: Policy,
    /// What failed; its count does not matter.
    pub failure: Option<FailureDetails>,
}

/// Counts a session. Past [`MAX_POLICIES`] it is left out; past [`MAX_DETAILS`] its failure loses hosts, addresses and reason.
pub fn count(policies: &mut Vec<PolicyReport>, session: &Session) {
    let at = match policies.iter().position(|known| known.policy == session.policy) {
        Some(at) => at,
        None if policies.len() >= MAX_POLICIES => return,
        None => {
            policies.push(PolicyReport {
                policy: session.policy.clone(),
                summary: Summary::default(),
                failure_details: Vec::new(),
            });
            policies.len() - 1
        }
    };
    let known = &mut policies[at];
    let Some(failure) = &session.failure else {
        known.summary.total_successful_session_count += 1;
        return;
    };
    known.summary.total_failure_session_count += 1;
    let reason = failure.failure_reason_code.as_ref();
    let failure = FailureDetails {
        failed_session_count: 1,
        failure_reason_code: reason.map(|reason| reason.chars().take(MAX_REASON).collect()),
        ..failure.clone()
    };
    if add(&mut known.failure_details, &failure) {
        return;
    }
    if known.failure_details.len() < MAX_DETAILS {
        known.failure_details.push(failure);
        return;
    }
    let bare = FailureDetails {
        sending_mta_ip: None,
        receiving_mx_hostname: None,
        receiving_ip: None,
        failure_reason_code: None,
        ..failure
    };
    if !add(&mut known.failure_details, &bare) {
        known.failure_details.push(bare);
    }
}

/// Adds to failures that are alike, if there are some.
fn add(details: &mut [FailureDetails], one: &FailureDetails) -> bool {
    let alike = |known: &&mut FailureDetails| {
        (known.result_type, known.sending_mta_ip, known.receiving_ip)
            == (one.result_type, one.sending_mta_ip, one.receiving_ip)
            && known.receiving_mx_hostname == one.receiving_mx_hostname
            && known.failure_reason_code == one.failure_reason_code
    };
    match details.iter_mut().find(alike) {
        Some(known) => {
            known.failed_session_count += 1;
            true
        }
        None => false,
    }
}

impl Report {
    /// As it is sent, before it is packed.
    pub fn to_json(&self) -> Vec<u8> {
        // Nothing in it can fail to be written: keys are names, values strings and numbers.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads one.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(json).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(result_type: ResultType, host: &str) -> FailureDetails {
        FailureDetails {
            result_type,
            sending_mta_ip: "2001:db8:abcd:12::1".parse().ok(),
            receiving_mx_hostname: Some(host.into()),
            receiving_ip: "203.0.113.56".parse().ok(),
            failed_session_count: 1,
            failure_reason_code: None,
        }
    }

    /// The report of RFC 8460, appendix B.
    const SAMPLE: &str = r#"{
        "organization-name": "Company-X",
        "date-range": {"start-datetime": "2016-04-01T00:00:00Z", "end-datetime": "2016-04-01T23:59:59Z"},
        "contact-info": "sts-reporting@company-x.example",
        "report-id": "5065427c-23d3-47ca-b6e0-946ea0e8c4be",
        "policies": [{
            "policy": {
                "policy-type": "sts",
                "policy-string": ["version: STSv1", "mode: testing", "mx: *.mail.company-y.example", "max_age: 86400"],
                "policy-domain": "company-y.example",
                "mx-host": ["*.mail.company-y.example"]
            },
            "summary": {"total-successful-session-count": 5326, "total-failure-session-count": 303},
            "failure-details": [
                {"result-type": "certificate-expired", "sending-mta-ip": "2001:db8:abcd:12::1",
                 "receiving-mx-hostname": "mx1.mail.company-y.example", "failed-session-count": 100},
                {"result-type": "starttls-not-supported", "sending-mta-ip": "2001:db8:abcd:13::1",
                 "receiving-mx-hostname": "mx2.mail.company-y.example", "receiving-ip": "203.0.113.56",
                 "failed-session-count": 200},
                {"result-type": "validation-failure", "sending-mta-ip": "198.51.100.62", "receiving-ip": "203.0.113.58",
                 "receiving-mx-hostname": "mx-backup.mail.company-y.example", "failed-session-count": 3,
                 "failure-reason-code": "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED"}
            ]
        }]
    }"#;

    #[test]
    fn the_sample_of_the_rfc_is_read_and_written_as_it_stands() {
        let report = Report::parse(SAMPLE.as_bytes()).unwrap();
        assert_eq!(report.policies[0].failure_details[2].result_type, ResultType::ValidationFailure);
        let value = |json: &[u8]| serde_json::from_slice::<serde_json::Value>(json).unwrap();
        assert_eq!(value(&report.to_json()), value(SAMPLE.as_bytes()));
        assert_eq!(report.date_range, DateRange::of(1_459_468_800, 1_459_555_199));
    }

    #[test]
    fn what_is_written_is_understood_by_the_reader_for_reports_of_others() {
        let read = crate::report::tls_report::parse(&Report::parse(SAMPLE.as_bytes()).unwrap().to_json()).unwrap();
        assert_eq!((read.organization.as_str(), read.begin.as_deref()), ("Company-X", Some("2016-04-01T00:00:00Z")));
        let policy = &read.policies[0];
        assert_eq!((policy.kind.as_str(), policy.successes, policy.failures), ("sts", 5_326, 303));
        assert_eq!((policy.policy.len(), policy.mx[0].as_str()), (4, "*.mail.company-y.example"));
        let details: Vec<(&str, u64)> = policy.details.iter().map(|one| (one.kind.as_str(), one.sessions)).collect();
        assert_eq!(details, [("certificate-expired", 100), ("starttls-not-supported", 200), ("validation-failure", 3)]);
    }

    #[test]
    fn every_result_type_is_written_as_the_rfc_names_it() {
        for (kind, name) in [
            (ResultType::StarttlsNotSupported, "starttls-not-supported"),
            (ResultType::CertificateHostMismatch, "certificate-host-mismatch"),
            (ResultType::CertificateExpired, "certificate-expired"),
            (ResultType::CertificateNotTrusted, "certificate-not-trusted"),
            (ResultType::ValidationFailure, "validation-failure"),
            (ResultType::TlsaInvalid, "tlsa-invalid"),
            (ResultType::DnssecInvalid, "dnssec-invalid"),
            (ResultType::DaneRequired, "dane-required"),
            (ResultType::StsPolicyFetchError, "sts-policy-fetch-error"),
            (ResultType::StsPolicyInvalid, "sts-policy-invalid"),
            (ResultType::StsWebpkiInvalid, "sts-webpki-invalid"),
        ] {
            assert_eq!(serde_json::to_value(kind).unwrap(), name);
        }
        for (kind, name) in
            [(PolicyType::Tlsa, "tlsa"), (PolicyType::Sts, "sts"), (PolicyType::NoPolicyFound, "no-policy-found")]
        {
            assert_eq!(serde_json::to_value(kind).unwrap(), name);
        }
    }

    #[test]
    fn sessions_that_are_alike_are_counted_together() {
        let mut policies = Vec::new();
        let ok = Session { policy: Policy::none("x.example"), failure: None };
        let failed = |kind, host: &str| Session { failure: Some(failure(kind, host)), ..ok.clone() };
        for session in [
            ok.clone(),
            failed(ResultType::CertificateExpired, "a"),
            failed(ResultType::CertificateExpired, "a"),
            failed(ResultType::CertificateExpired, "b"),
            ok.clone(),
        ] {
            count(&mut policies, &session);
        }
        assert_eq!(policies.len(), 1);
        let summary = policies[0].summary;
        assert_eq!((summary.total_successful_session_count, summary.total_failure_session_count), (2, 3));
        let counts: Vec<u64> = policies[0].failure_details.iter().map(|one| one.failed_session_count).collect();
        assert_eq!(counts, [2, 1]);
    }

    #[test]
    fn memory_is_bounded_and_no_failure_is_lost_from_the_sums() {
        let mut policies = Vec::new();
        for n in 0..5_000_u32 {
            let failure = failure(ResultType::CertificateExpired, &format!("mx{n}"));
            count(&mut policies, &Session { policy: Policy::none("x.example"), failure: Some(failure) });
            count(&mut policies, &Session { policy: Policy::none(&format!("{n}.example")), failure: None });
        }
        assert_eq!(policies.len(), MAX_POLICIES);
        let details = &policies[0].failure_details;
        assert_eq!(details.len(), MAX_DETAILS + 1);
        assert_eq!(details.iter().map(|one| one.failed_session_count).sum::<u64>(), 5_000);
    }
}
