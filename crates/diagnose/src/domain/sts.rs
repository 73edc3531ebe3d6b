//! MTA-STS (RFC 8461) and TLS reports (RFC 8460): the records, the policy file, and whether the mail hosts fit it.

use net::{Outcome, lookup::Data, lookup::Kind};
use proto::policy::sts::{self as policy, StsMode, StsPolicy};
use proto::policy::{Level, tlsrpt};

use super::audit::Scene;
use super::https;
use super::mx::Receiving;
use super::notes::Notes;
use super::plan::Section;
use super::smtp::problem_in_words;
use super::text::txt_line;

/// What the domain asks of senders.
pub(super) struct Sts {
    pub(super) notes: Notes,
    pub(super) policy: Option<StsPolicy>,
}

/// Looks at record, file and hosts.
pub(super) async fn look(scene: Scene<'_>, receiving: &Receiving) -> Sts {
    let mut this = Sts { notes: Notes::new(Section::MtaSts), policy: None };
    if !scene.wants(Section::MtaSts) {
        return this;
    }
    let domain = scene.domain;
    let name = format!("_mta-sts.{domain}");
    let answer = scene.auditor.ask(domain, &name, Kind::Txt, &mut this.notes).await;
    let texts: Vec<&Vec<u8>> = records(&answer.records, policy::is_record);
    if let Outcome::Failed(reason) = &answer.outcome {
        this.notes.summary(format!("unknown: {reason}"));
        return this;
    }
    for text in &texts {
        this.notes.record(&name, Kind::Txt, &Data::Txt((*text).clone()), answer.ttl);
    }
    let line = txt_line(&name, &format!("v=STSv1; id={}", id(scene)));
    let Some(first) = texts.first() else {
        if receiving.null || receiving.hosts.is_empty() {
            this.notes.idle("no record, and no mail host to protect");
        } else {
            this.notes.sign("sts_missing", [("domain", domain), ("record", &line)]);
            this.notes.summary("no policy");
        }
        return this;
    };
    let found = String::from_utf8_lossy(first).into_owned();
    let problem = match policy::parse(first) {
        _ if texts.len() > 1 => Some(format!("{} records", texts.len())),
        parsed => parsed.remarks.iter().find(|remark| remark.level == Level::Error).map(|remark| remark.text.clone()),
    };
    if let Some(problem) = problem {
        let values = [("domain", domain), ("found", &found), ("problem", &problem), ("record", &line)];
        this.notes.sign("sts_record", values);
        this.notes.summary("record not valid");
        return this;
    }
    file(scene, receiving, &line, &mut this).await;
    if let Some(policy) = this.policy.clone() {
        hosts(scene, receiving, &policy, &line, &mut this.notes);
    }
    this
}

fn records(all: &[Data], is: impl Fn(&[u8]) -> bool) -> Vec<&Vec<u8>> {
    let texts = all.iter().filter_map(|data| match data {
        Data::Txt(text) if is(text) => Some(text),
        _ => None,
    });
    texts.collect()
}

/// A new id: the time.
fn id(scene: Scene<'_>) -> String {
    (scene.auditor.now_ms() / 1000).to_string()
}

async fn file(scene: Scene<'_>, receiving: &Receiving, line: &str, this: &mut Sts) {
    let domain = scene.domain;
    let url = format!("https://mta-sts.{domain}/.well-known/mta-sts.txt");
    let octets = match https::get(scene, &format!("mta-sts.{domain}"), "/.well-known/mta-sts.txt").await {
        Ok(octets) => octets,
        Err(problem) => {
            this.notes.sign("sts_policy_unreachable", [("domain", domain), ("url", &url), ("problem", &problem)]);
            this.notes.summary("record without a policy file");
            return;
        }
    };
    let parsed = policy::parse_policy(&octets);
    for remark in &parsed.remarks {
        let position = remark.at.to_string();
        let values = [("domain", domain), ("url", &url), ("problem", &remark.text), ("position", &position)];
        if remark.level == Level::Error || parsed.record.is_none() {
            let mx: String = receiving.hosts.iter().map(|host| format!("mx: {}, ", host.name)).collect();
            let form = format!("version: STSv1, mode: testing, {mx}max_age: 604800 (one field a line)");
            this.notes.sign("sts_policy_syntax", values.into_iter().chain([("record", form.as_str())]));
        } else {
            this.notes.sign("sts_policy_remark", values.into_iter().chain([("record", line)]));
        }
    }
    for text in String::from_utf8_lossy(&octets).lines().take(30) {
        this.notes.detail(text);
    }
    match &parsed.record {
        Some(policy) => {
            this.notes.fact("mode", mode(policy.mode));
            this.notes.fact("max_age", policy.max_age.to_string());
            this.notes.summary(format!("{}, kept for {} days", mode(policy.mode), policy.max_age / 86_400));
        }
        None => this.notes.summary("policy file not valid"),
    }
    this.policy = parsed.record;
}

fn mode(mode: StsMode) -> &'static str {
    match mode {
        StsMode::Enforce => "enforce",
        StsMode::Testing => "testing",
        StsMode::None => "none",
    }
}

fn hosts(scene: Scene<'_>, receiving: &Receiving, policy: &StsPolicy, line: &str, notes: &mut Notes) {
    let domain = scene.domain;
    match policy.mode {
        StsMode::None => {
            notes.sign("sts_none", [("domain", domain)]);
            return;
        }
        StsMode::Testing => notes.sign("sts_testing", [("domain", domain), ("record", line)]),
        StsMode::Enforce => {}
    }
    let patterns = policy.mx.join(", ");
    for host in &receiving.hosts {
        if !policy.allows(&host.name) {
            let record = format!("mx: {}", host.name);
            let values = [("domain", domain), ("host", &host.name), ("patterns", &patterns)];
            notes.sign(
                "sts_mx_mismatch",
                values
                    .into_iter()
                    .map(|(n, v)| (n, v as &str))
                    .chain([("mode", mode(policy.mode)), ("record", record.as_str())]),
            );
        }
        let seen = host.probes.iter().filter_map(|probe| probe.outcome.as_ref().ok());
        for problem in seen.filter_map(|seen| match &seen.tls {
            Some(Ok(shaken)) => shaken.problems.first().map(problem_in_words),
            Some(Err(problem)) => Some(problem.clone()),
            None => Some("not offered: the host has no STARTTLS".into()),
        }) {
            let values = [("domain", domain), ("host", &host.name), ("mode", mode(policy.mode)), ("problem", &problem)];
            notes.sign("sts_certificate", values);
        }
    }
}

/// Where reports go; missed only where there is something to report about.
pub(super) async fn reports(scene: Scene<'_>, sts: &Sts, pins: bool) -> Notes {
    let mut notes = Notes::new(Section::TlsRpt);
    if !scene.wants(Section::TlsRpt) {
        return notes;
    }
    let domain = scene.domain;
    let name = format!("_smtp._tls.{domain}");
    let answer = scene.auditor.ask(domain, &name, Kind::Txt, &mut notes).await;
    let texts = records(&answer.records, tlsrpt::is_record);
    let line = txt_line(&name, &format!("v=TLSRPTv1; rua=mailto:tls-reports@{domain}"));
    for text in &texts {
        notes.record(&name, Kind::Txt, &Data::Txt((*text).clone()), answer.ttl);
    }
    let Some(first) = texts.first() else {
        let policy = match (sts.policy.is_some(), pins) {
            (true, _) => Some("an MTA-STS policy"),
            (false, true) => Some("TLSA records"),
            (false, false) => None,
        };
        match policy.filter(|_| answer.is_known()) {
            Some(policy) => {
                notes.sign("tlsrpt_missing", [("domain", domain), ("policy", policy), ("record", &line)]);
                notes.summary("no record");
            }
            None => notes.idle("no record, and no policy to report about"),
        }
        return notes;
    };
    let parsed = tlsrpt::parse(first);
    let problem = match texts.len() {
        1 => parsed.remarks.iter().find(|remark| remark.level == Level::Error).map(|remark| remark.text.clone()),
        count => Some(format!("{count} records")),
    };
    if let Some(problem) = problem {
        let found = String::from_utf8_lossy(first).into_owned();
        notes.sign("tlsrpt_record", [("domain", domain), ("found", &found), ("problem", &problem), ("record", &line)]);
    }
    notes.summary(parsed.record.map_or_else(|| "not valid".to_owned(), |record| record.rua.join(", ")));
    notes
}
