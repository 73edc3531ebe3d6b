//! From XML to [`AggregateReport`]: one pass, no tree, every text cut, no document type, no entity but the five of XML.

use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};

use super::{AggregateReport, Disposition, DkimResult, Form, Override, PublishedPolicy, Record, SpfResult};
use crate::policy::dmarc::{Alignment, aligned, organizational_by_list};
use crate::report::words::one_line;

/// Most records kept of a report; a day of a large domain at one receiver has some thousands.
pub const MAX_RECORDS: usize = 100_000;
/// Deepest element; the formats need five.
const MAX_DEPTH: usize = 32;
/// Most octets kept of a text.
const MAX_TEXT: usize = 1_000;
/// Most elements of a kind within one record, and errors of a report.
const MAX_FEW: usize = 100;
/// Largest count taken over: a sum of many stays a number.
const MAX_COUNT: u64 = 1 << 48;

/// Why something is no aggregate report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AggregateError {
    /// The XML is broken.
    #[error("the XML is broken at octet {at}: {why}")]
    Xml {
        /// Where.
        at: u64,
        /// In the parser's words.
        why: String,
    },
    /// It has a document type declaration, which no report needs.
    #[error("the XML declares a document type, which reports never do: it is not read")]
    DocumentType,
    /// Elements in elements in elements.
    #[error("the XML is nested deeper than any report")]
    Depth,
    /// It is something else.
    #[error("the XML is no DMARC aggregate report: its outermost element is <{0}>")]
    Root(String),
    /// It is cut off.
    #[error("the report is cut off")]
    Incomplete,
    /// There is neither policy nor record.
    #[error("the report names no domain")]
    NoDomain,
}

/// Reads a report. The caller bounds the size of `octets`.
pub fn parse(octets: &[u8]) -> Result<AggregateReport, AggregateError> {
    let text = crate::report::octets::any_text(octets);
    let mut reader = Reader::from_str(&text);
    let config = reader.config_mut();
    config.check_end_names = true;
    config.expand_empty_elements = true;
    let mut building = Building::default();
    loop {
        let event = reader.read_event().map_err(|error| AggregateError::Xml {
            at: reader.error_position(),
            why: one_line(&error.to_string(), 200),
        })?;
        match event {
            Event::Start(start) => building.open(&start)?,
            Event::End(_) => {
                if building.close() {
                    break;
                }
            }
            Event::Text(text) => building.text(&text),
            Event::CData(text) => building.text(&text),
            Event::GeneralRef(name) => building.reference(&name),
            Event::DocType(_) => return Err(AggregateError::DocumentType),
            Event::Eof => return Err(AggregateError::Incomplete),
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
    building.finish()
}

/// What was read so far.
#[derive(Default)]
struct Building {
    /// Names of the open elements, lower case without prefix.
    path: Vec<String>,
    /// Text of the innermost one.
    text: String,
    namespace_9990: bool,
    report: Head,
    policy: PublishedPolicy,
    records: Vec<Record>,
    left_out: u64,
    record: Record,
    dkim: DkimResult,
    spf: SpfResult,
    reason: Override,
    /// What the reporter says about alignment, where it does.
    said: Said,
    disposition_pass: bool,
}

#[derive(Default)]
struct Said {
    dkim: Option<bool>,
    spf: Option<bool>,
}

#[derive(Default)]
struct Head {
    organization: Option<String>,
    email: Option<String>,
    contact: Option<String>,
    report_id: Option<String>,
    begin: Option<i64>,
    end: Option<i64>,
    generator: Option<String>,
    errors: Vec<String>,
}

fn local(name: &str) -> String {
    let bare = name.rsplit(':').next().unwrap_or(name);
    bare[..bare.floor_char_boundary(64)].to_ascii_lowercase()
}

impl Building {
    fn open(&mut self, start: &BytesStart<'_>) -> Result<(), AggregateError> {
        if self.path.len() >= MAX_DEPTH {
            return Err(AggregateError::Depth);
        }
        let name = local(start.name().as_ref());
        if self.path.is_empty() {
            if name != "feedback" {
                return Err(AggregateError::Root(one_line(&name, 40)));
            }
            // `urn:ietf:params:xml:ns:dmarc-2.0`; the older form has another, or none.
            self.namespace_9990 =
                start.attributes().take(MAX_FEW).flatten().any(|found| found.value.ends_with("dmarc-2.0"));
        }
        match name.as_str() {
            "record" => {
                self.record = Record { count: 1, ..Record::default() };
                self.said = Said::default();
            }
            "dkim" => self.dkim = DkimResult::default(),
            "spf" => self.spf = SpfResult::default(),
            "reason" => self.reason = Override::default(),
            _ => {}
        }
        self.text.clear();
        self.path.push(name);
        Ok(())
    }

    fn text(&mut self, text: &str) {
        if self.text.len() < MAX_TEXT {
            self.text.extend(text.chars().take(MAX_TEXT));
        }
    }

    fn reference(&mut self, name: &BytesRef<'_>) {
        let character = match name.resolve_char_ref() {
            Ok(Some(character)) => Some(character),
            _ => match &name[..] {
                "amp" => Some('&'),
                "lt" => Some('<'),
                "gt" => Some('>'),
                "quot" => Some('"'),
                "apos" => Some('\''),
                _ => None,
            },
        };
        if let Some(character) = character {
            self.text(character.encode_utf8(&mut [0; 4]));
        }
    }

    /// Ends the innermost element. True: it was the outermost too.
    fn close(&mut self) -> bool {
        let Some(name) = self.path.pop() else { return true };
        let text = std::mem::take(&mut self.text);
        let text = one_line(&text, MAX_TEXT);
        let parent = self.path.last().map(String::as_str).unwrap_or_default();
        let within = self.path.iter().any(|name| name == "record");
        match (within || name == "record", parent) {
            (true, _) => {
                let parent = parent.to_owned();
                self.close_in_record(&name, &parent, text);
            }
            (false, "report_metadata" | "date_range") => self.head(&name, text),
            (false, "policy_published") => self.policy(&name, text),
            _ => {}
        }
        self.path.is_empty()
    }

    fn head(&mut self, name: &str, text: String) {
        let head = &mut self.report;
        let seconds = || text.split('.').next().and_then(|number| number.parse::<i64>().ok());
        match name {
            "org_name" => head.organization = some(text),
            "email" => head.email = some(text),
            "extra_contact_info" => head.contact = some(text),
            "report_id" => head.report_id = some(text),
            "begin" => head.begin = seconds(),
            "end" => head.end = seconds(),
            "generator" => head.generator = some(text),
            "error" if head.errors.len() < MAX_FEW => head.errors.extend(some(text)),
            _ => {}
        }
    }

    fn policy(&mut self, name: &str, text: String) {
        let policy = &mut self.policy;
        match name {
            "domain" => policy.domain = domain(&text),
            "discovery_method" => policy.discovery = word(&text),
            "p" => policy.p = word(&text),
            "sp" => policy.sp = word(&text),
            "np" => policy.np = word(&text),
            "pct" => policy.pct = word(&text),
            "testing" => policy.testing = word(&text),
            "fo" => policy.fo = word(&text),
            "adkim" => policy.adkim = word(&text),
            "aspf" => policy.aspf = word(&text),
            _ => {}
        }
    }

    fn close_in_record(&mut self, name: &str, parent: &str, text: String) {
        match (parent, name) {
            ("row", "source_ip") => self.record.source_ip = one_line(&text, 100),
            ("row", "count") => self.record.count = text.parse().unwrap_or(1).min(MAX_COUNT),
            ("policy_evaluated", "disposition") => self.disposition(&text),
            ("policy_evaluated", "dkim") => self.said.dkim = said(&text),
            ("policy_evaluated", "spf") => self.said.spf = said(&text),
            ("policy_evaluated", "reason") => {
                let reason = std::mem::take(&mut self.reason);
                if !reason.kind.is_empty() && self.record.overrides.len() < MAX_FEW {
                    self.record.overrides.push(reason);
                }
            }
            ("reason", "type") => self.reason.kind = word(&text).unwrap_or_default(),
            ("reason", "comment") => self.reason.comment = some(text),
            // `identities` is a common slip.
            ("identifiers" | "identities", "header_from") => self.record.header_from = domain(&text),
            ("identifiers" | "identities", "envelope_from") => self.record.envelope_from = some(domain(&text)),
            ("identifiers" | "identities", "envelope_to") => self.record.envelope_to = some(domain(&text)),
            ("dkim", "domain") => self.dkim.domain = domain(&text),
            ("dkim", "selector") => self.dkim.selector = some(text),
            ("dkim", "result") => self.dkim.result = word(&text).unwrap_or_default(),
            ("dkim", "human_result") => self.dkim.human = some(text),
            ("spf", "domain") => self.spf.domain = domain(&text),
            ("spf", "scope") => self.spf.scope = word(&text),
            ("spf", "result") => self.spf.result = word(&text).unwrap_or_default(),
            ("spf", "human_result") => self.spf.human = some(text),
            ("auth_results", "dkim") => {
                let found = std::mem::take(&mut self.dkim);
                if self.record.dkim.len() < MAX_FEW && !(found.domain.is_empty() && found.result.is_empty()) {
                    self.record.dkim.push(found);
                }
            }
            ("auth_results", "spf") => {
                let found = std::mem::take(&mut self.spf);
                if self.record.spf.len() < MAX_FEW && !(found.domain.is_empty() && found.result.is_empty()) {
                    self.record.spf.push(found);
                }
            }
            (_, "record") => self.close_record(),
            _ => {}
        }
    }

    fn disposition(&mut self, text: &str) {
        self.record.disposition = match text.to_ascii_lowercase().as_str() {
            "reject" => Disposition::Reject,
            "quarantine" => Disposition::Quarantine,
            "pass" => {
                self.disposition_pass = true;
                Disposition::Pass
            }
            _ => Disposition::None,
        };
    }

    fn close_record(&mut self) {
        let mut record = std::mem::take(&mut self.record);
        let said = std::mem::take(&mut self.said);
        if record.header_from.is_empty() {
            record.header_from.clone_from(&self.policy.domain);
        }
        record.dkim_aligned = said.dkim.unwrap_or_else(|| self.dkim_passes(&record));
        record.spf_aligned = said.spf.unwrap_or_else(|| self.spf_passes(&record));
        if self.records.len() < MAX_RECORDS {
            self.records.push(record);
        } else {
            self.left_out += 1;
        }
    }

    fn dkim_passes(&self, record: &Record) -> bool {
        let mode = mode(self.policy.adkim.as_deref());
        record.dkim.iter().any(|one| one.result == "pass" && belongs(mode, &record.header_from, &one.domain))
    }

    fn spf_passes(&self, record: &Record) -> bool {
        let mode = mode(self.policy.aspf.as_deref());
        let envelope = |one: &&SpfResult| one.scope.as_deref() != Some("helo");
        record
            .spf
            .iter()
            .filter(envelope)
            .any(|one| one.result == "pass" && belongs(mode, &record.header_from, &one.domain))
    }

    fn finish(mut self) -> Result<AggregateReport, AggregateError> {
        if self.policy.domain.is_empty() {
            // Some reporters leave the policy out where it could not be read.
            let from = self.records.first().map(|record| record.header_from.clone()).unwrap_or_default();
            if from.is_empty() {
                return Err(AggregateError::NoDomain);
            }
            self.policy.domain = from;
        }
        let newer = self.namespace_9990
            || self.disposition_pass
            || self.policy.discovery.is_some()
            || self.policy.testing.is_some()
            || self.report.generator.is_some();
        let head = self.report;
        Ok(AggregateReport {
            form: if newer { Form::Rfc9990 } else { Form::Rfc7489 },
            organization: head.organization.or_else(|| head.email.clone()).unwrap_or_default(),
            email: head.email,
            contact: head.contact,
            report_id: head.report_id.unwrap_or_default(),
            begin: head.begin,
            end: head.end,
            generator: head.generator,
            errors: head.errors,
            policy: self.policy,
            records: self.records,
            left_out: self.left_out,
        })
    }
}

/// Whether two domains belong together, by the mode of the policy.
pub(super) fn belongs(mode: Alignment, from: &str, other: &str) -> bool {
    aligned(mode, (from, &organizational_by_list(from)), (other, &organizational_by_list(other)))
}

fn mode(word: Option<&str>) -> Alignment {
    match word {
        Some("s" | "strict") => Alignment::Strict,
        _ => Alignment::Relaxed,
    }
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn word(text: &str) -> Option<String> {
    some(one_line(text, 60).to_ascii_lowercase())
}

fn domain(text: &str) -> String {
    // Some give the whole address.
    let bare = text.rsplit('@').next().unwrap_or_default().trim_matches(['.', '<', '>', ' ']);
    one_line(bare, 253).to_ascii_lowercase()
}

fn said(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "pass" => Some(true),
        "" => None,
        _ => Some(false),
    }
}
