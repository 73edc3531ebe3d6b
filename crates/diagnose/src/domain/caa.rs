//! Who may issue certificates for the domain (RFC 8659): found by climbing up the tree.

use net::{Outcome, lookup::Data, lookup::Kind};

use super::audit::Scene;
use super::notes::Notes;
use super::plan::Section;
use super::text::dotted;

/// Properties that are known (RFC 8659 §4, RFC 8657, RFC 9495).
const KNOWN: [&str; 6] = ["issue", "issuewild", "iodef", "issuemail", "contactemail", "contactphone"];

/// Looks for the records that count.
pub(super) async fn look(scene: Scene<'_>) -> Notes {
    let mut notes = Notes::new(Section::Caa);
    if !scene.wants(Section::Caa) {
        return notes;
    }
    let mut at = scene.domain;
    loop {
        let answer = scene.auditor.query(at, Kind::Caa).await;
        // Few resolvers in the way of old middleboxes answer this type; it is no fault of the mail set-up.
        if let Outcome::Failed(reason) = &answer.outcome {
            notes.idle(format!("unknown: {reason}"));
            return notes;
        }
        if !answer.records.is_empty() {
            notes.records(at, Kind::Caa, &answer);
            judge(scene.domain, at, &answer.records, &mut notes);
            return notes;
        }
        match at.split_once('.') {
            Some((_, parent)) if parent.contains('.') => at = parent,
            _ => break,
        }
    }
    notes.idle("no record: any authority may issue");
    notes
}

fn judge(domain: &str, at: &str, records: &[Data], notes: &mut Notes) {
    let mut issuers: Vec<&str> = Vec::new();
    let mut restricted = false;
    for data in records {
        let Data::Caa { critical, tag, value } = data else { continue };
        let tag = tag.to_ascii_lowercase();
        let found = format!("{} {tag} \"{value}\"", if *critical { 128 } else { 0 });
        let mut wrong = |problem: &str| {
            notes.sign("caa_record", [("domain", domain), ("found", &found), ("problem", problem)]);
        };
        if !KNOWN.contains(&tag.as_str()) {
            match critical {
                true => wrong("an unknown property that is marked critical"),
                false => wrong("an unknown property"),
            }
        }
        if tag == "iodef"
            && !value.starts_with("mailto:")
            && !value.starts_with("https:")
            && !value.starts_with("http:")
        {
            wrong("iodef is no URL");
        }
        if tag == "issue" {
            restricted = true;
            let issuer = value.split(';').next().unwrap_or_default().trim();
            if !issuer.is_empty() {
                issuers.push(issuer);
            }
        }
    }
    if restricted && issuers.is_empty() {
        let record = format!("{} IN CAA 0 issue \"(name of the authority)\"", dotted(at));
        notes.sign("caa_nobody", [("domain", domain), ("at", at), ("record", &record)]);
    }
    let line = if restricted { issuers.join(", ") } else { "any authority may issue".to_owned() };
    notes.summary(if line.is_empty() { "nobody may issue".to_owned() } else { line });
}
