//! TLS reports: what senders saw when they wanted to deliver under TLS (RFC 8460 §4).
//!
//! Lenient about what reporters spell differently (a text where a list belongs, numbers in quotation marks), and
//! bounded in everything that is kept. Making such reports is another part's affair.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::words::one_line;

/// Most policies kept of a report.
pub const MAX_POLICIES: usize = 10_000;
/// Most failures kept of a policy.
pub const MAX_DETAILS: usize = 10_000;
/// Most values of a list.
const MAX_LIST: usize = 100;
const MAX_TEXT: usize = 1_000;

/// One report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TlsReport {
    /// Who reports.
    pub organization: String,
    /// Whom to ask about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
    /// The reporter's name for this report.
    pub report_id: String,
    /// Begin of the time covered, as written (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begin: Option<String>,
    /// End of the time covered, as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// By policy.
    pub policies: Vec<PolicyResult>,
}

/// What happened under one policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PolicyResult {
    /// `sts`, `tlsa`, `no-policy-found`.
    pub kind: String,
    /// Domain of the policy.
    pub domain: String,
    /// The policy's lines, or its TLSA records.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policy: Vec<String>,
    /// `mx` patterns of the policy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mx: Vec<String>,
    /// Sessions that were fine.
    pub successes: u64,
    /// Sessions that were not.
    pub failures: u64,
    /// Why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<FailureDetail>,
}

/// Sessions that failed alike.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FailureDetail {
    /// RFC 8460 §4.3, `certificate-expired` for one; in lower case.
    pub kind: String,
    /// Address of the sender.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sending_ip: Option<String>,
    /// Mail exchanger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receiving_host: Option<String>,
    /// What it said in its greeting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receiving_helo: Option<String>,
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receiving_ip: Option<String>,
    /// How many.
    pub sessions: u64,
    /// The reporter's own words or code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where to read more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub more: Option<String>,
}

/// Why something is no TLS report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsReportError {
    /// The JSON is broken, or a member is of another kind.
    #[error("the JSON is no TLS report: {0}")]
    Json(String),
    /// There is nothing in it.
    #[error("the JSON is no TLS report: it has no policies")]
    NoPolicies,
}

/// Reads a report. The caller bounds the size of `octets`.
pub fn parse(octets: &[u8]) -> Result<TlsReport, TlsReportError> {
    let octets = octets.strip_prefix(b"\xef\xbb\xbf").unwrap_or(octets);
    let raw: Raw =
        serde_json::from_slice(octets).map_err(|error| TlsReportError::Json(one_line(&error.to_string(), 200)))?;
    let Some(policies) = raw.policies else { return Err(TlsReportError::NoPolicies) };
    Ok(TlsReport {
        organization: text(raw.organization).unwrap_or_default(),
        contact: text(raw.contact),
        report_id: text(raw.report_id).unwrap_or_default(),
        begin: text(raw.range.begin),
        end: text(raw.range.end),
        policies: policies.0.into_iter().map(result).collect(),
    })
}

fn text(raw: Option<Text>) -> Option<String> {
    raw.map(|raw| one_line(&raw.0, MAX_TEXT)).filter(|text| !text.is_empty())
}

fn domain(raw: Option<Text>) -> String {
    text(raw).map(|text| one_line(text.trim_end_matches('.'), 253).to_ascii_lowercase()).unwrap_or_default()
}

fn result(raw: RawResult) -> PolicyResult {
    let lines = |list: List<Text>| list.0.into_iter().filter_map(|line| text(Some(line))).take(MAX_LIST).collect();
    let details: Vec<FailureDetail> = raw.details.0.into_iter().map(detail).collect();
    let counted = details.iter().fold(0u64, |sum, one| sum.saturating_add(one.sessions));
    PolicyResult {
        kind: text(raw.policy.kind).unwrap_or_default().to_ascii_lowercase(),
        domain: domain(raw.policy.domain),
        policy: lines(raw.policy.text),
        mx: lines(raw.policy.mx),
        successes: raw.summary.successes.0,
        // Some give the failures only one by one.
        failures: raw.summary.failures.0.max(counted),
        details,
    }
}

fn detail(raw: RawDetail) -> FailureDetail {
    FailureDetail {
        kind: text(raw.kind).unwrap_or_default().to_ascii_lowercase(),
        sending_ip: text(raw.sending_ip),
        receiving_host: text(raw.receiving_host),
        receiving_helo: text(raw.receiving_helo),
        receiving_ip: text(raw.receiving_ip),
        sessions: raw.sessions.0,
        reason: text(raw.reason),
        more: text(raw.more),
    }
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default, rename = "organization-name")]
    organization: Option<Text>,
    #[serde(default, rename = "date-range")]
    range: RawRange,
    #[serde(default, rename = "contact-info")]
    contact: Option<Text>,
    #[serde(default, rename = "report-id")]
    report_id: Option<Text>,
    policies: Option<List<RawResult, MAX_POLICIES>>,
}

#[derive(Default, Deserialize)]
struct RawRange {
    #[serde(default, rename = "start-datetime")]
    begin: Option<Text>,
    #[serde(default, rename = "end-datetime")]
    end: Option<Text>,
}

#[derive(Default, Deserialize)]
struct RawResult {
    #[serde(default)]
    policy: RawPolicy,
    #[serde(default)]
    summary: RawSummary,
    #[serde(default, rename = "failure-details")]
    details: List<RawDetail, MAX_DETAILS>,
}

#[derive(Default, Deserialize)]
struct RawPolicy {
    #[serde(default, rename = "policy-type")]
    kind: Option<Text>,
    #[serde(default, rename = "policy-string")]
    text: List<Text>,
    #[serde(default, rename = "policy-domain")]
    domain: Option<Text>,
    /// The RFC's own example spells it so; `mx-host-pattern` was its draft's.
    #[serde(default, rename = "mx-host", alias = "mx-host-pattern")]
    mx: List<Text>,
}

#[derive(Default, Deserialize)]
struct RawSummary {
    #[serde(default, rename = "total-successful-session-count")]
    successes: Count,
    #[serde(default, rename = "total-failure-session-count")]
    failures: Count,
}

#[derive(Default, Deserialize)]
struct RawDetail {
    #[serde(default, rename = "result-type")]
    kind: Option<Text>,
    #[serde(default, rename = "sending-mta-ip")]
    sending_ip: Option<Text>,
    #[serde(default, rename = "receiving-mx-hostname")]
    receiving_host: Option<Text>,
    #[serde(default, rename = "receiving-mx-helo")]
    receiving_helo: Option<Text>,
    #[serde(default, rename = "receiving-ip")]
    receiving_ip: Option<Text>,
    #[serde(default, rename = "failed-session-count")]
    sessions: Count,
    /// The RFC has both spellings.
    #[serde(default, rename = "failure-reason-code", alias = "failure-error-code")]
    reason: Option<Text>,
    #[serde(default, rename = "additional-information", alias = "additional-info-uri")]
    more: Option<Text>,
}

/// A text, cut; a number counts as one.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text[..text.floor_char_boundary(MAX_TEXT)].to_owned()))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }
            fn visit_unit<E: de::Error>(self) -> Result<Text, E> {
                Ok(Text(String::new()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// A count, also in quotation marks.
#[derive(Default)]
struct Count(u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// A sum of many stays a number.
        const MOST: u64 = 1 << 48;
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Count;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a count")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Count, E> {
                Ok(Count(number.min(MOST)))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Count, E> {
                Ok(Count(u64::try_from(number).unwrap_or(0).min(MOST)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Count, E> {
                Ok(Count(text.trim().parse().unwrap_or(0).min(MOST)))
            }
            fn visit_unit<E: de::Error>(self) -> Result<Count, E> {
                Ok(Count(0))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Several values, one alone, or `null`; what is beyond `N` is read and dropped.
struct List<T, const N: usize = MAX_LIST>(Vec<T>);

impl<T, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for List<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any<T, const N: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Any<T, N> {
            type Value = List<T, N>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while all.len() < N {
                    match values.next_element()? {
                        Some(value) => all.push(value),
                        None => return Ok(List(all)),
                    }
                }
                while values.next_element::<de::IgnoredAny>()?.is_some() {}
                Ok(List(all))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                T::deserialize(de::value::StrDeserializer::new(text)).map(|value| List(vec![value]))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map)).map(|value| List(vec![value]))
            }
            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(List(Vec::new()))
            }
        }
        deserializer.deserialize_any(Any(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"{
      "organization-name": "Company-X",
      "date-range": { "start-datetime": "2026-11-01T00:00:00Z", "end-datetime": "2026-11-01T23:59:59Z" },
      "contact-info": "sts-reporting@company-x.example",
      "report-id": "5065427c-23d3-47ca-b6e0-946ea0e8c4be",
      "policies": [{
        "policy": {
          "policy-type": "sts",
          "policy-string": ["version: STSv1", "mode: testing", "mx: *.mail.company-y.example", "max_age: 86400"],
          "policy-domain": "company-y.example.",
          "mx-host": "*.mail.company-y.example"
        },
        "summary": { "total-successful-session-count": 5326, "total-failure-session-count": 303 },
        "failure-details": [
          { "result-type": "certificate-expired", "sending-mta-ip": "2001:db8:abcd:0012::1",
            "receiving-mx-hostname": "mx1.mail.company-y.example", "failed-session-count": 100 },
          { "result-type": "starttls-not-supported", "sending-mta-ip": "2001:db8:abcd:0013::1",
            "receiving-mx-hostname": "mx2.mail.company-y.example", "receiving-ip": "203.0.113.56",
            "failed-session-count": 200, "additional-information": "https://reports.company-x.example/x" },
          { "result-type": "validation-failure", "sending-mta-ip": "198.51.100.62", "receiving-ip": "203.0.113.58",
            "receiving-mx-hostname": "mx-backup.mail.company-y.example", "failed-session-count": 3,
            "failure-reason-code": "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED" }]
      }]
    }"#;

    #[test]
    fn a_report_as_the_rfc_shows_one_is_read_whole() {
        let report = parse(REPORT.as_bytes()).unwrap();
        assert_eq!(report.organization, "Company-X");
        let [policy] = &report.policies[..] else { panic!("{report:?}") };
        assert_eq!((policy.successes, policy.failures), (5326, 303));
        assert_eq!(policy.domain, "company-y.example");
        assert_eq!(policy.mx, ["*.mail.company-y.example"]);
        assert_eq!(policy.policy.len(), 4);
        let kinds: Vec<_> = policy.details.iter().map(|one| (one.kind.as_str(), one.sessions)).collect();
        assert_eq!(kinds, [("certificate-expired", 100), ("starttls-not-supported", 200), ("validation-failure", 3)]);
        assert_eq!(policy.details[2].reason.as_deref(), Some("X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED"));
    }

    #[test]
    fn other_spellings_mean_the_same() {
        let report = parse(
            br#"{"organization-name":"a","policies":{"policy":{"policy-type":"TLSA","policy-string":"3 1 1 00","policy-domain":"b.example",
                "mx-host":["mx.b.example"]},"summary":{"total-successful-session-count":"7"},
                "failure-details":[{"result-type":"tlsa-invalid","failed-session-count":"2","failure-error-code":5}]}}"#,
        )
        .unwrap();
        let policy = &report.policies[0];
        assert_eq!((policy.kind.as_str(), policy.successes, policy.failures), ("tlsa", 7, 2));
        assert_eq!(policy.policy, ["3 1 1 00"]);
        assert_eq!(policy.details[0].reason.as_deref(), Some("5"));
        let bare = parse(br#"{"policies":[{"policy":{"policy-type":"no-policy-found","policy-domain":"b.example"},"failure-details":null}]}"#);
        assert_eq!(bare.unwrap().policies[0].kind, "no-policy-found");
    }

    #[test]
    fn what_is_no_report_is_refused_and_nothing_is_kept_without_bounds() {
        for wrong in ["", "[]", "{}", "null", "{\"policies\":7}", "{\"policies\":[7]}", &"[".repeat(100_000)] {
            assert!(parse(wrong.as_bytes()).is_err(), "{}", &wrong[..wrong.len().min(40)]);
        }
        let many = format!("{{\"policies\":[{}{{}}]}}", "{},".repeat(MAX_POLICIES + 5));
        assert_eq!(parse(many.as_bytes()).unwrap().policies.len(), MAX_POLICIES);
        let long = format!("{{\"organization-name\":\"{}\",\"policies\":[]}}", "ü".repeat(1 << 20));
        assert!(parse(long.as_bytes()).unwrap().organization.len() <= MAX_TEXT);
        let huge = "{\"policies\":[{\"summary\":{\"total-failure-session-count\":18446744073709551615}}]}";
        assert_eq!(parse(huge.as_bytes()).unwrap().policies[0].failures, 1 << 48);
    }

    #[test]
    fn no_piece_of_a_report_makes_it_panic() {
        for at in 0..REPORT.len() {
            let _ = parse(&REPORT.as_bytes()[..at]);
            let mut damaged = REPORT.as_bytes().to_vec();
            damaged[at] = b'0';
            let _ = parse(&damaged);
        }
    }
}
