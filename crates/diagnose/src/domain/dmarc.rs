//! What receivers are asked to do with mail that is not authentic: RFC 9989, and RFC 7489 beside it.

use net::{Outcome, lookup::Kind};
use proto::policy::dmarc::{self, Asked, Discovery, DmarcDiscovery, DmarcRecord, Whose, organizational_by_list};
use proto::policy::{Data, Level};

use super::audit::Scene;
use super::notes::Notes;
use super::plan::Section;
use super::text::{txt_line, with_tag, without_tags};

/// The policy of a domain.
pub(super) struct Policy {
    pub(super) notes: Notes,
    pub(super) found: Option<DmarcDiscovery>,
}

impl Policy {
    pub(super) fn nothing() -> Self {
        Self { notes: Notes::new(Section::Dmarc), found: None }
    }
}

/// Finds the policy in both forms and judges it.
pub(super) async fn look(scene: Scene<'_>) -> Policy {
    let mut this = Policy::nothing();
    let domain = scene.domain;
    let found = scene.auditor.net.resolver.walk(&mut Discovery::new(domain)).await;
    let notes = &mut this.notes;
    for asked in &found.asked {
        for text in &asked.texts {
            notes.record(&dmarc::record_name(&asked.domain), Kind::Txt, &Data::Txt(text.clone().into_bytes()), None);
        }
        if let Some(reason) = &asked.failed {
            let name = dmarc::record_name(&asked.domain);
            notes
                .sign("domain_dns_failure", [("domain", domain), ("name", &name), ("type", "TXT"), ("reason", reason)]);
        }
    }
    places(domain, &found, notes);
    match (&found.current.at, &found.current.record, &found.current.text) {
        (Some(at), Some(record), Some(text)) => {
            policy(domain, at, record, text, notes);
            reports(scene, at, record, text, notes).await;
            let asked = found.current.policy(Whose::Domain).map_or("none", dmarc::Policy::name);
            notes.fact("policy", asked);
            notes.fact("found_at", at);
            notes.fact("organizational_domain", &found.current.organizational);
            let inherited = if at == domain { String::new() } else { format!(", from {at}") };
            notes.summary(format!("{asked}{inherited}"));
        }
        _ => nothing(domain, &found, notes),
    }
    // Two forms that find nothing, or the same text, do not differ for anybody.
    if found.differs() && found.current.text != found.classic.text && !found.incomplete {
        let say = |found: &dmarc::Found| match (found.policy(Whose::Domain), &found.at) {
            (Some(policy), Some(at)) => format!("{} of {at}", policy.name()),
            _ => "none".into(),
        };
        let text = found.current.text.clone().or_else(|| found.classic.text.clone()).unwrap_or_default();
        let record = txt_line(&dmarc::record_name(domain), &text);
        let (new, old) = (say(&found.current), say(&found.classic));
        let values = [("domain", domain), ("new", &new), ("old", &old), ("record", &record)];
        this.notes.sign("dmarc_old_new_differ", values);
    }
    this.found = Some(found);
    this
}

fn nothing(domain: &str, found: &DmarcDiscovery, notes: &mut Notes) {
    notes.fact("policy", "");
    notes.summary("no record");
    let broken = found.asked.iter().any(|asked| !asked.texts.is_empty());
    if !found.incomplete && !broken {
        let name = dmarc::record_name(domain);
        let record = txt_line(&name, &format!("v=DMARC1; p=none; rua=mailto:dmarc@{domain}"));
        notes.sign("dmarc_missing", [("domain", domain), ("name", &name), ("record", &record)]);
    }
}

/// Mistakes in the records of the walk: those of the domain itself, and of the one whose record counts.
fn places(domain: &str, found: &DmarcDiscovery, notes: &mut Notes) {
    for asked in &found.asked {
        let counts = asked.domain == domain || found.current.at.as_deref() == Some(asked.domain.as_str());
        if counts || asked.record.is_none() {
            place(domain, asked, notes);
        }
    }
}

fn place(domain: &str, asked: &Asked, notes: &mut Notes) {
    let name = dmarc::record_name(&asked.domain);
    let text = asked.texts.first().map(String::as_str).unwrap_or_default();
    if asked.texts.len() > 1 {
        let count = asked.texts.len().to_string();
        let values = [("domain", domain), ("name", &name), ("count", &count), ("record", &txt_line(&name, text))];
        notes.sign("dmarc_several", values);
        return;
    }
    for remark in &asked.remarks {
        let position = remark.at.to_string();
        let base = [("domain", domain), ("name", &name), ("problem", &remark.text), ("position", &position)];
        match remark.kind {
            "no_reports" | "pct_below_100" => {}
            "tag_removed" => {
                let tag = remark.text.split('=').next().unwrap_or_default();
                // pct=100 says what is so anyway.
                if tag == "pct" && asked.record.as_ref().is_some_and(|record| record.pct == Some(100)) {
                    continue;
                }
                let record = txt_line(&name, &without_tags(text, &["pct", "rf", "ri"]));
                notes.sign("dmarc_removed_tag", [("domain", domain), ("tag", tag), ("record", &record)]);
            }
            "bad_uri" => {
                let tag = remark.text.split('=').next().unwrap_or("rua");
                let uri = remark.text.split('`').nth(1).unwrap_or_default();
                let better = uri.contains('@').then(|| {
                    let value =
                        tag_value(text, tag).replace(uri, &format!("mailto:{}", uri.trim_start_matches("mailto:")));
                    txt_line(&name, &with_tag(text, tag, &value))
                });
                let values = [("domain", domain), ("name", &name), ("tag", tag), ("uri", uri)];
                let record = better.as_deref().map(|record| ("record", record));
                notes.sign("dmarc_report_address", values.into_iter().chain(record));
            }
            _ if remark.level == Level::Error => {
                let better = corrected(text).map(|text| txt_line(&name, &text));
                let more = [("found", text)].into_iter().chain(better.as_deref().map(|record| ("record", record)));
                notes.sign("dmarc_syntax", base.into_iter().map(|(name, value)| (name, value as &str)).chain(more));
            }
            _ => {
                let values = base.into_iter().map(|(name, value)| (name, value as &str));
                notes.sign("dmarc_remark", values.chain([("found", text)]));
            }
        }
    }
}

fn tag_value<'t>(record: &'t str, name: &str) -> &'t str {
    let tags = record.split(';').filter_map(|tag| tag.split_once('='));
    tags.into_iter().find(|(tag, _)| tag.trim().eq_ignore_ascii_case(name)).map_or("", |(_, value)| value.trim())
}

/// The record as it was probably meant.
fn corrected(record: &str) -> Option<String> {
    let spaced = record.replace("DMARC1,", "DMARC1;").replace("DMARC1 ", "DMARC1; ").replace(", p=", "; p=");
    let policy = match tag_value(&spaced, "p").to_ascii_lowercase().as_str() {
        word if word.starts_with("rej") => "reject",
        word if word.starts_with("qua") => "quarantine",
        word if word.starts_with("no") || word.is_empty() => "none",
        _ => return None,
    };
    let text = with_tag(&spaced, "p", policy);
    let parsed = dmarc::parse(text.as_bytes());
    (text != record && !parsed.has_errors()).then_some(text)
}

fn policy(domain: &str, at: &str, record: &DmarcRecord, text: &str, notes: &mut Notes) {
    let name = dmarc::record_name(at);
    let line = |text: &str| txt_line(&name, text);
    if record.p == dmarc::Policy::None {
        notes.sign("dmarc_policy_none", [("domain", domain), ("record", &line(&with_tag(text, "p", "quarantine")))]);
    }
    let weaker = [("sp", record.sp), ("np", record.np)];
    for (tag, value) in
        weaker.into_iter().filter_map(|(tag, value)| Some((tag, value.filter(|value| *value < record.p)?)))
    {
        let better = line(&with_tag(text, tag, record.p.name()));
        let values = [("domain", domain), ("tag", tag), ("value", value.name()), ("policy", record.p.name())];
        notes.sign("dmarc_subdomain_weaker", values.into_iter().chain([("record", better.as_str())]));
    }
    if record.testing {
        let values = [("domain", domain), ("policy", record.p.name()), ("record", &line(&without_tags(text, &["t"])))];
        notes.sign("dmarc_testing", values);
    }
    let is_suffix = record.psd == dmarc::PublicSuffix::Yes;
    if is_suffix && organizational_by_list(at) == at {
        notes.sign("dmarc_psd", [("domain", domain), ("at", at), ("record", &line(&without_tags(text, &["psd"])))]);
    }
    if record.rua.is_empty() && !notes.has("dmarc_report_address") {
        let better = line(&with_tag(text, "rua", &format!("mailto:dmarc@{at}")));
        notes.sign("dmarc_no_reports", [("domain", domain), ("record", &better)]);
    }
}

/// Whether other domains agree to get the reports (RFC 9990 §4, RFC 7489 §7.1).
async fn reports(scene: Scene<'_>, at: &str, record: &DmarcRecord, text: &str, notes: &mut Notes) {
    let _ = text;
    let home = organizational_by_list(at);
    let mut told: Vec<&str> = Vec::new();
    for destination in record.rua.iter().chain(&record.ruf).filter_map(|uri| uri.domain.as_deref()).take(10) {
        if organizational_by_list(destination) == home || told.contains(&destination) {
            continue;
        }
        told.push(destination);
        let name = format!("{at}._report._dmarc.{destination}");
        let answer = scene.auditor.query(&name, Kind::Txt).await;
        if let Outcome::Failed(reason) = &answer.outcome {
            notes.sign(
                "domain_dns_failure",
                [("domain", scene.domain), ("name", &name), ("type", "TXT"), ("reason", reason)],
            );
            continue;
        }
        if answer.texts().iter().any(|text| dmarc::is_record(text.as_bytes())) {
            notes.detail(format!("{destination} has agreed to receive reports"));
            continue;
        }
        let record = txt_line(&name, "v=DMARC1");
        let values = [("domain", at), ("destination", destination), ("name", &name), ("record", &record)];
        notes.sign("dmarc_report_unauthorised", values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_probably_meant_is_found_for_usual_typos() {
        for (typed, meant) in [
            ("v=DMARC1; p=rejekt", Some("v=DMARC1; p=reject")),
            (
                "v=DMARC1; p=quarantaine; rua=mailto:a@example.com",
                Some("v=DMARC1; p=quarantine; rua=mailto:a@example.com"),
            ),
            ("v=DMARC1; p=yes", None),
        ] {
            assert_eq!(corrected(typed).as_deref(), meant, "{typed}");
        }
    }
}
