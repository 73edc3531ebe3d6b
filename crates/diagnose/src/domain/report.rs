//! What an audit found: sections with their records, and findings. This is what is printed, stored and compared.

use explain::{Explanation, Severity, Values};
use serde::Serialize;

use super::plan::Section;

/// Name and number of the JSON form.
pub const SCHEMA: &str = "pillarbox.domain/1";

/// How a section is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing but notes.
    Good,
    /// There is a warning.
    Warning,
    /// There is a problem.
    Problem,
    /// Not looked at, or there was nothing to look at.
    Skipped,
}

/// One record as found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its value in the form of a zone file; escaped, at most 2,000 octets.
    pub value: String,
    /// Seconds it may be kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
}

/// One part of the audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SectionReport {
    /// Which.
    pub section: Section,
    /// How it is.
    pub state: State,
    /// One line for people.
    pub summary: String,
    /// Records found.
    pub records: Vec<Shown>,
    /// What was worked out, line by line, for people: the tree of SPF, servers asked.
    pub details: Vec<String>,
    /// The same for programs: `lookups`, `policy`.
    pub facts: Values,
}

/// One thing found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// Where.
    pub section: Section,
    /// How bad.
    pub severity: Severity,
    /// Its kind.
    pub sign: String,
    /// What is known of it; `record` is the line to publish.
    pub values: Values,
    /// In words, with the fixes.
    pub explanation: Explanation,
}

/// The whole result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Audit {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The domain, in lower case and in its ASCII form.
    pub domain: String,
    /// Unix milliseconds at the start.
    pub started_ms: i64,
    /// Microseconds in all.
    pub took_us: u64,
    /// No problem was found.
    pub healthy: bool,
    /// The audit could not be made: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Who takes the mail, by the names of the mail hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Parts that were asked for, in their order.
    pub sections: Vec<SectionReport>,
    /// Problems, then warnings, then notes.
    pub findings: Vec<Found>,
}

impl Audit {
    /// How many findings of a severity there are.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|found| found.severity == severity).count()
    }

    /// A report that says only why there is none.
    pub fn failed(domain: &str, started_ms: i64, error: impl Into<String>) -> Self {
        Self {
            schema: SCHEMA,
            domain: explain::sign_value(domain),
            started_ms,
            took_us: 0,
            healthy: false,
            error: Some(error.into()),
            provider: None,
            sections: Vec::new(),
            findings: Vec::new(),
        }
    }

    /// The section of a kind.
    pub fn section(&self, section: Section) -> Option<&SectionReport> {
        self.sections.iter().find(|report| report.section == section)
    }

    /// As a row of a table of many domains.
    pub fn row(&self) -> Row {
        let fact = |section, name: &str| {
            self.section(section).and_then(|report| report.facts.get(name)).cloned().unwrap_or_default()
        };
        let signs: Vec<&str> = self.findings.iter().map(|found| found.sign.as_str()).collect();
        Row {
            domain: self.domain.clone(),
            healthy: self.healthy,
            problems: self.count(Severity::Problem),
            warnings: self.count(Severity::Warning),
            provider: self.provider.clone().unwrap_or_default(),
            spf_lookups: fact(Section::Spf, "lookups"),
            dmarc_policy: fact(Section::Dmarc, "policy"),
            signs: signs.join(" "),
            error: self.error.clone().unwrap_or_default(),
        }
    }
}

/// One line of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the columns are named by their heads")]
pub struct Row {
    pub domain: String,
    pub healthy: bool,
    pub problems: usize,
    pub warnings: usize,
    pub provider: String,
    pub spf_lookups: String,
    pub dmarc_policy: String,
    pub signs: String,
    pub error: String,
}

impl Row {
    /// The head of the table (RFC 4180).
    pub const HEAD: &'static str = "domain,healthy,problems,warnings,provider,spf_lookups,dmarc_policy,signs,error\r\n";

    /// One line, quoted where needed (RFC 4180 §2).
    pub fn csv(&self) -> String {
        let numbers = [self.problems.to_string(), self.warnings.to_string()];
        let cells = [
            self.domain.as_str(),
            if self.healthy { "true" } else { "false" },
            &numbers[0],
            &numbers[1],
            &self.provider,
            &self.spf_lookups,
            &self.dmarc_policy,
            &self.signs,
            &self.error,
        ];
        let mut line = cells.map(quoted).join(",");
        line.push_str("\r\n");
        line
    }
}

fn quoted(cell: &str) -> String {
    // A cell that begins like a formula would be run by a spreadsheet.
    let shielded = match cell.starts_with(['=', '+', '-', '@', '\t']) {
        true => format!("'{cell}"),
        false => cell.to_owned(),
    };
    match shielded.contains([',', '"', '\r', '\n']) {
        true => format!("\"{}\"", shielded.replace('"', "\"\"")),
        false => shielded,
    }
}
