//! The logo of a domain: record and what it needs.

use net::{Outcome, lookup::Data, lookup::Kind};
use proto::policy::dmarc::{Policy as Asked, Whose};
use proto::policy::{Level, bimi};

use super::audit::Scene;
use super::dmarc::Policy;
use super::notes::Notes;
use super::plan::Section;
use super::text::{txt_line, with_tag};

/// Looks at `default._bimi`.
pub(super) async fn look(scene: Scene<'_>, dmarc: &Policy) -> Notes {
    let mut notes = Notes::new(Section::Bimi);
    if !scene.wants(Section::Bimi) {
        return notes;
    }
    let domain = scene.domain;
    let name = format!("default._bimi.{domain}");
    let answer = scene.auditor.ask(domain, &name, Kind::Txt, &mut notes).await;
    let text = answer.records.iter().find_map(|data| match data {
        Data::Txt(text) if bimi::is_record(text) => Some(text),
        _ => None,
    });
    if let Outcome::Failed(reason) = &answer.outcome {
        notes.summary(format!("unknown: {reason}"));
        return notes;
    }
    let Some(text) = text else {
        notes.idle("no record");
        return notes;
    };
    notes.records(&name, Kind::Txt, &answer);
    let found = String::from_utf8_lossy(text).into_owned();
    let parsed = bimi::parse(text);
    let line = format!("v=BIMI1; l=https://{domain}/logo.svg; a=https://{domain}/logo.pem");
    let line = txt_line(&name, &line);
    for remark in &parsed.remarks {
        match remark.level {
            Level::Error => notes.sign(
                "bimi_record",
                [("domain", domain), ("found", &found), ("problem", &remark.text), ("record", &line)],
            ),
            Level::Warning => notes.sign("bimi_remark", [("domain", domain), ("problem", &remark.text)]),
        }
    }
    let shows = parsed.record.as_ref().is_some_and(|record| !record.declined);
    let current = dmarc.found.as_ref().map(|found| &found.current);
    let asked = current.and_then(|found| found.policy(Whose::Domain));
    if shows && asked.unwrap_or(Asked::None) == Asked::None {
        let name = format!("_dmarc.{domain}");
        let text = current.and_then(|found| found.text.clone()).unwrap_or_else(|| "v=DMARC1; p=none".into());
        let record = txt_line(&name, &with_tag(&text, "p", "quarantine"));
        let policy = asked.map_or("missing", Asked::name);
        notes.sign("bimi_policy", [("domain", domain), ("policy", policy), ("record", &record)]);
    }
    let location = parsed.record.as_ref().and_then(|record| record.location.clone());
    notes.summary(location.unwrap_or_else(|| if shows { "not valid".into() } else { "declined".into() }));
    notes
}
