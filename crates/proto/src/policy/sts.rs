//! MTA-STS: the record that says there is a policy, and the policy file (RFC 8461 §3).

use serde::{Deserialize, Serialize};

use super::remark::{Parsed, Remark, short};
use super::tags::{Tags, has_version, readable};

/// The longest `max_age`: a year (RFC 8461 §3.2).
pub const MAX_AGE: u64 = 31_557_600;
/// A policy that is kept for less than a day protects nobody from an attacker who waits.
pub const SHORT_AGE: u64 = 86_400;
/// Most octets of a policy file that are read.
pub const MAX_POLICY: usize = 64 * 1024;

/// `_mta-sts` TXT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StsRecord {
    /// Changes with the policy.
    pub id: String,
}

/// What a sender does when the policy does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StsMode {
    /// It does not deliver.
    Enforce,
    /// It delivers and reports.
    Testing,
    /// There is no policy any more.
    None,
}

/// The policy file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StsPolicy {
    /// What a failure leads to.
    pub mode: StsMode,
    /// Host names, lower case; `*.` stands for one label.
    pub mx: Vec<String>,
    /// Seconds.
    pub max_age: u64,
}

impl StsPolicy {
    /// Whether mail may go to this host (RFC 8461 §4.1).
    pub fn allows(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        self.mx.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(rest) => host.split_once('.').is_some_and(|(label, parent)| !label.is_empty() && parent == rest),
            None => *pattern == host,
        })
    }
}

/// Whether a TXT record is meant as one.
pub fn is_record(text: &[u8]) -> bool {
    has_version(text, "STSv1")
}

/// Reads the TXT record.
pub fn parse(text: &[u8]) -> Parsed<StsRecord> {
    let mut tags = Tags::parse(text);
    if !is_record(text) {
        tags.error("bad_version", 0, "does not start with v=STSv1");
        return Parsed::new(None, tags.remarks);
    }
    tags.warn_unknown(&["v", "id"]);
    let Some(id) = tags.get("id").cloned() else {
        tags.error("missing_id", text.len(), "there is no id=");
        return Parsed::new(None, tags.remarks);
    };
    let fits = (1..=32).contains(&id.value.len()) && id.value.chars().all(|c| c.is_ascii_alphanumeric());
    if !fits {
        let said = format!("`{}` is not 1 to 32 letters and digits", short(&id.value));
        tags.error("bad_id", id.at, said);
    }
    Parsed::new(fits.then_some(StsRecord { id: id.value }), tags.remarks)
}

/// Reads the policy file; positions are octet offsets into it.
pub fn parse_policy(file: &[u8]) -> Parsed<StsPolicy> {
    let mut remarks = Vec::new();
    if file.len() > MAX_POLICY {
        remarks.push(Remark::error("policy_too_long", MAX_POLICY, format!("{} octets", file.len())));
        return Parsed::new(None, remarks);
    }
    let (mut version, mut mode, mut max_age, mut mx) = (None, None, None, Vec::new());
    let mut start = 0;
    for line in file.split(|octet| *octet == b'\n') {
        let at = start;
        start += line.len() + 1;
        let text = readable(line);
        let text = text.trim_end_matches('\r');
        if text.trim().is_empty() {
            continue;
        }
        let Some((key, value)) = text.split_once(':') else {
            remarks.push(Remark::error("not_a_field", at, format!("`{}` has no colon", short(text))));
            continue;
        };
        let value = value.trim();
        match key.trim() {
            "version" if version.is_none() => version = Some((at, value.to_owned())),
            "mode" if mode.is_none() => mode = Some(read_mode(value, at, &mut remarks)),
            "max_age" if max_age.is_none() => max_age = Some(read_age(value, at, &mut remarks)),
            "mx" => read_mx(value, at, &mut mx, &mut remarks),
            // RFC 8461 §3.2: of the fields that stand once, the first counts.
            "version" | "mode" | "max_age" => {
                remarks.push(Remark::warning("duplicate_field", at, format!("{} is there twice", key.trim())));
            }
            other => remarks.push(Remark::warning("unknown_field", at, format!("`{}` is unknown", short(other)))),
        }
    }
    match &version {
        Some((_, value)) if value == "STSv1" => {}
        Some((at, value)) => {
            remarks.push(Remark::error("bad_version", *at, format!("version is `{}`", short(value))));
        }
        None => remarks.push(Remark::error("missing_version", 0, "there is no version")),
    }
    if mode.is_none() {
        remarks.push(Remark::error("missing_mode", file.len(), "there is no mode"));
    }
    if max_age.is_none() {
        remarks.push(Remark::error("missing_max_age", file.len(), "there is no max_age"));
    }
    let (mode, max_age) = (mode.flatten(), max_age.flatten());
    if mx.is_empty() && mode.is_some_and(|mode| mode != StsMode::None) {
        remarks.push(Remark::error("missing_mx", file.len(), "there is no mx"));
    }
    let fatal = remarks.iter().any(|remark| {
        matches!(remark.kind, "bad_version" | "missing_version" | "missing_mx" | "not_a_field" | "bad_mx")
    });
    let record = match (mode, max_age) {
        (Some(mode), Some(max_age)) if !fatal => Some(StsPolicy { mode, mx, max_age }),
        _ => None,
    };
    Parsed::new(record, remarks)
}

fn read_mode(value: &str, at: usize, remarks: &mut Vec<Remark>) -> Option<StsMode> {
    match value {
        "enforce" => Some(StsMode::Enforce),
        "testing" => Some(StsMode::Testing),
        "none" => Some(StsMode::None),
        other => {
            remarks.push(Remark::error("bad_mode", at, format!("`{}` is no mode", short(other))));
            None
        }
    }
}

fn read_age(value: &str, at: usize, remarks: &mut Vec<Remark>) -> Option<u64> {
    let digits = (1..=10).contains(&value.len()) && value.bytes().all(|octet| octet.is_ascii_digit());
    match value.parse::<u64>() {
        Ok(age) if digits => {
            if age > MAX_AGE {
                remarks.push(Remark::warning("max_age_too_long", at, format!("{age} s is more than a year")));
            } else if age < SHORT_AGE {
                remarks.push(Remark::warning("max_age_short", at, format!("{age} s is less than a day")));
            }
            Some(age.min(MAX_AGE))
        }
        _ => {
            remarks.push(Remark::error("bad_max_age", at, format!("`{}` is no number of seconds", short(value))));
            None
        }
    }
}

fn read_mx(value: &str, at: usize, mx: &mut Vec<String>, remarks: &mut Vec<Remark>) {
    let pattern = value.trim_end_matches('.').to_ascii_lowercase();
    let name = pattern.strip_prefix("*.").unwrap_or(&pattern);
    if super::dns::is_possible(name) && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._".contains(&c)) {
        mx.push(pattern);
    } else {
        remarks.push(Remark::error("bad_mx", at, format!("`{}` is no host name", short(value))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_allows_its_hosts_and_one_label_for_a_star() {
        let file = b"version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\nmax_age: 604800\n";
        let policy = parse_policy(file).record.expect("a policy");
        assert_eq!((policy.mode, policy.max_age), (StsMode::Enforce, 604_800));
        for (host, yes) in [
            ("mail.example.com", true),
            ("MAIL.example.com.", true),
            ("mx1.example.net", true),
            ("a.b.example.net", false),
            ("example.net", false),
            ("other.example.com", false),
        ] {
            assert_eq!(policy.allows(host), yes, "{host}");
        }
    }

    #[test]
    fn a_policy_says_what_is_wrong_and_where() {
        for (file, kind, at, counts) in [
            ("version: STSv1\nmode: strict\nmx: a.example\nmax_age: 86400", "bad_mode", 15, false),
            ("mode: none\nmax_age: 86400", "missing_version", 0, false),
            ("version: STSv1\nmode: enforce\nmax_age: 86400", "missing_mx", 43, false),
            ("version: STSv1\nmode: enforce\nmx: a.example\nmax_age: ten", "bad_max_age", 43, false),
            ("version: STSv1\nmode: testing\nmx: a.example\nmax_age: 60", "max_age_short", 43, true),
            ("version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 86400\nmode: none", "duplicate_field", 58, true),
        ] {
            let parsed = parse_policy(file.as_bytes());
            let found = parsed.remarks.iter().find(|remark| remark.kind == kind);
            assert_eq!(found.map(|remark| remark.at), Some(at), "{file}: {:?}", parsed.remarks);
            assert_eq!(parsed.record.is_some(), counts, "{file}");
        }
    }

    #[test]
    fn the_record_needs_an_id_of_letters_and_digits() {
        assert_eq!(parse(b"v=STSv1; id=20261121T000000;").record.expect("a record").id, "20261121T000000");
        for text in ["v=STSv1", "v=STSv1; id=2026-11-21", "v=STSv2; id=1"] {
            let parsed = parse(text.as_bytes());
            assert!(parsed.record.is_none() && parsed.has_errors(), "{text}");
        }
    }
}
