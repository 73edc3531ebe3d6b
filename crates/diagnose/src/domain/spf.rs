//! Who may send for a domain (RFC 7208): the record, the tree of what it includes, and given addresses against it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use explain::Provider;
use futures_util::future::{BoxFuture, join_all};
use net::lookup::Kind;
use proto::policy::spf::{
    Client, Evaluation, Limits, Qualifier, SpfResult, SpfSurvey, Survey, Visit, is_record, parse,
};
use proto::policy::{Data, Level, Remark};

use super::audit::Scene;
use super::mx::Receiving;
use super::notes::Notes;
use super::plan::Section;
use super::text::txt_line;

/// Below this many addresses a network is nothing unusual for a provider.
const WIDE: u8 = 14;

/// What the domain says about senders.
pub(super) struct Sending {
    pub(super) notes_records: Vec<(String, Data, Option<u32>)>,
    pub(super) survey: Option<SpfSurvey>,
}

impl Sending {
    pub(super) fn nothing() -> Self {
        Self { notes_records: Vec::new(), survey: None }
    }

    /// The record, if there is just one.
    pub(super) fn record(&self) -> Option<&str> {
        self.survey.as_ref().and_then(|survey| survey.tree.record.as_deref())
    }

    /// Domains of all records of the tree.
    pub(super) fn domains(&self) -> Vec<&str> {
        let mut all = Vec::new();
        if let Some(survey) = &self.survey {
            collect(&survey.tree, &mut all);
        }
        all
    }
}

fn collect<'v>(visit: &'v Visit, all: &mut Vec<&'v str>) {
    all.push(visit.domain.as_str());
    for term in &visit.terms {
        match &term.inner {
            Some(inner) => collect(inner, all),
            None => all.extend(term.target.as_deref()),
        }
    }
}

/// Asks for the record and everything below it.
pub(super) async fn survey(scene: Scene<'_>) -> Sending {
    let answer = scene.auditor.query(scene.domain, Kind::Txt).await;
    let ttl = answer.ttl;
    let records = answer.records.into_iter().filter(|data| matches!(data, Data::Txt(text) if is_record(text)));
    let notes_records = records.map(|data| (scene.domain.to_owned(), data, ttl)).collect();
    let left = AtomicU32::new(Limits::default().lookups);
    let mut survey = Survey::new(scene.domain, Limits::default());
    let (survey, ()) = tokio::join!(scene.auditor.net.resolver.walk(&mut survey), ahead(scene, scene.domain, &left));
    Sending { notes_records, survey: Some(survey) }
}

/// Asks for the records that a record includes, all at the same time: the survey takes one step after the other, and finds
/// them answered.
fn ahead<'a>(scene: Scene<'a>, domain: &'a str, left: &'a AtomicU32) -> BoxFuture<'a, ()> {
    Box::pin(async move {
        let answer = scene.auditor.query(domain, Kind::Txt).await;
        let mut records = answer.records.iter().filter_map(|data| match data {
            Data::Txt(text) if is_record(text) => std::str::from_utf8(text).ok(),
            _ => None,
        });
        let (Some(record), None) = (records.next(), records.next()) else { return };
        let targets = record.split(' ').filter_map(|term| {
            let bare = term.trim_start_matches(['+', '-', '~', '?']);
            let target = bare.strip_prefix("include:").or_else(|| bare.strip_prefix("redirect="))?;
            // Macros are for the survey to expand.
            (!target.contains('%')).then_some(target)
        });
        let counted = |_: &&str| left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok();
        join_all(targets.filter(counted).map(|target| ahead(scene, target, left))).await;
    })
}

/// Notes what is wrong with it.
pub(super) async fn judge(scene: Scene<'_>, sending: &Sending, receiving: &Receiving) -> Notes {
    let mut notes = Notes::new(Section::Spf);
    let Some(survey) = &sending.survey else { return notes };
    for (name, data, ttl) in &sending.notes_records {
        notes.record(name, Kind::Txt, data, *ttl);
    }
    let tree = &survey.tree;
    if tree.result == SpfResult::Temperror {
        let reason = tree.problem.clone().unwrap_or_default();
        let values = [("domain", scene.domain), ("name", scene.domain), ("type", "TXT"), ("reason", &reason)];
        notes.sign("domain_dns_failure", values);
        notes.summary("unknown");
        return notes;
    }
    if !tree.several.is_empty() || sending.notes_records.len() > 1 {
        several(scene, sending, &mut notes);
        return notes;
    }
    let Some(record) = &tree.record else {
        missing(scene, receiving, &mut notes);
        return notes;
    };
    notes.fact("record", record);
    notes.fact("lookups", survey.lookups.to_string());
    notes.fact("void_lookups", survey.voids.to_string());
    notes.summary(format!("{} of 10 lookups, {} void", survey.lookups, survey.voids));
    lines(tree, 0, &mut notes);
    counts(scene.domain, survey, &mut notes);
    remarks(scene.domain, survey, &mut notes);
    wide(scene.domain, record, &mut notes);
    for ip in scene.auditor.plan.senders() {
        covered(scene, record, ip, &mut notes).await;
    }
    notes
}

fn several(scene: Scene<'_>, sending: &Sending, notes: &mut Notes) {
    let texts: Vec<String> = sending
        .notes_records
        .iter()
        .filter_map(|(_, data, _)| match data {
            Data::Txt(text) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        })
        .collect();
    let mut terms: Vec<&str> = Vec::new();
    for term in texts.iter().flat_map(|text| text.split_ascii_whitespace().skip(1)) {
        let is_end = term.trim_start_matches(['+', '-', '~', '?']).eq_ignore_ascii_case("all");
        if !is_end && !terms.contains(&term) {
            terms.push(term);
        }
    }
    let merged = format!("v=spf1 {} -all", terms.join(" "));
    let record = txt_line(scene.domain, &merged);
    let count = texts.len().to_string();
    notes.sign("spf_several", [("domain", scene.domain), ("count", &count), ("record", &record)]);
    notes.summary(format!("{count} records"));
}

fn missing(scene: Scene<'_>, receiving: &Receiving, notes: &mut Notes) {
    let rules = scene.auditor.judge.rules();
    let of_route = |host: &Option<String>| host.as_deref().and_then(|host| rules.provider_of_host(host));
    let mut providers: Vec<&Provider> = receiving.provider.iter().filter_map(|id| rules.provider(id)).collect();
    providers.extend(scene.auditor.plan.routes.iter().filter_map(|route| of_route(&route.host)));
    let mut terms: Vec<String> = Vec::new();
    for provider in providers.iter().filter(|provider| !provider.spf.is_empty()) {
        if !terms.contains(&provider.spf) {
            terms.push(provider.spf.clone());
        }
    }
    terms.extend(scene.auditor.plan.senders().into_iter().map(term_of));
    let takes_mail = !receiving.null && !receiving.hosts.is_empty();
    if terms.is_empty() && takes_mail {
        terms.push("mx".into());
    }
    terms.insert(0, "v=spf1".into());
    terms.push("-all".into());
    let record = txt_line(scene.domain, &terms.join(" "));
    notes.sign("spf_missing", [("domain", scene.domain), ("record", &record)]);
    notes.summary("no record");
}

/// The tree, indented, with what each term costs.
fn lines(visit: &Visit, depth: usize, notes: &mut Notes) {
    let pad = "  ".repeat(depth);
    let text = visit.record.as_deref().or(visit.problem.as_deref()).unwrap_or("no record");
    notes.detail(format!("{pad}{}: {text}", visit.domain));
    for term in visit.terms.iter().filter(|term| term.lookups > 0) {
        let voids = if term.voids > 0 { format!(", {} void", term.voids) } else { String::new() };
        let note = term.note.as_deref().map(|note| format!(" -> {note}")).unwrap_or_default();
        notes.detail(format!("{pad}  {} ({}{voids}){note}", term.term, plural(term.lookups)));
        if let Some(inner) = &term.inner
            && depth < 12
        {
            lines(inner, depth + 2, notes);
        }
    }
}

fn plural(lookups: u32) -> String {
    if lookups == 1 { "1 lookup".into() } else { format!("{lookups} lookups") }
}

fn counts(domain: &str, survey: &SpfSurvey, notes: &mut Notes) {
    let limits = Limits::default();
    if survey.lookups > limits.lookups {
        let mut costly: Vec<_> = survey.tree.terms.iter().filter(|term| term.lookups > 0).collect();
        costly.sort_by_key(|term| std::cmp::Reverse(term.lookups));
        let terms: Vec<String> = costly.iter().take(6).map(|term| format!("{} {}", term.term, term.lookups)).collect();
        let count = survey.lookups.to_string();
        notes.sign("spf_too_many_lookups", [("domain", domain), ("count", &count), ("terms", &terms.join(", "))]);
    }
    if survey.voids > limits.voids {
        let empty: Vec<&str> = survey
            .remarks
            .iter()
            .filter(|(_, remark)| remark.kind == "void_lookup")
            .map(|(_, remark)| remark.text.as_str())
            .take(6)
            .collect();
        let count = survey.voids.to_string();
        notes.sign("spf_void_lookups", [("domain", domain), ("count", &count), ("terms", &empty.join(", "))]);
    }
}

fn remarks(domain: &str, survey: &SpfSurvey, notes: &mut Notes) {
    let root = &survey.tree;
    let text_of = |name: &str| text_at(root, name).unwrap_or_default();
    for (name, remark) in &survey.remarks {
        let own = name.eq_ignore_ascii_case(&root.domain);
        let found = text_of(name);
        remark_sign(domain, name, own, &found, remark, notes);
    }
    failures(domain, root, notes);
}

fn remark_sign(domain: &str, name: &str, own: bool, found: &str, remark: &Remark, notes: &mut Notes) {
    let position = remark.at.to_string();
    let record = |text: &str| txt_line(name, text);
    match remark.kind {
        "too_many_lookups" | "too_many_voids" | "void_lookup" | "not_followed" => {}
        "plus_all" if own => {
            notes.sign("spf_all_pass", [("domain", domain), ("found", found), ("record", &record(&with_end(found)))]);
        }
        "neutral_all" if own => {
            notes
                .sign("spf_all_neutral", [("domain", domain), ("found", found), ("record", &record(&with_end(found)))]);
        }
        "missing_all" if own => {
            notes
                .sign("spf_all_missing", [("domain", domain), ("found", found), ("record", &record(&with_end(found)))]);
        }
        // What an included record ends in does not matter (RFC 7208 §5.2).
        "plus_all" | "neutral_all" | "missing_all" => {}
        "record_long" => notes.sign("spf_long", [("domain", domain), ("length", &found.len().to_string())]),
        "ptr_used" if own => {
            let kept: Vec<&str> = found.split(' ').filter(|term| !is_ptr(term)).collect();
            notes.sign("spf_ptr", [("domain", domain), ("name", name), ("record", &record(&kept.join(" ")))]);
        }
        "ptr_used" => notes.sign("spf_ptr", [("domain", domain), ("name", name)]),
        "network_wide" => {}
        "loop" => {
            let target = remark.text.split('`').nth(1).and_then(|term| term.split_once([':', '='])).map(|(_, to)| to);
            notes.sign("spf_loop", [("domain", domain), ("include", target.unwrap_or(name))]);
        }
        "no_record" => {}
        "several_records" => {
            let values = [("domain", domain), ("name", name), ("problem", "several SPF records"), ("position", "0")];
            notes.sign("spf_syntax", values.into_iter().chain([("found", found)]));
        }
        _ if remark.level == Level::Error => {
            let better = corrected(found).map(|text| record(&text));
            let values = [("domain", domain), ("name", name), ("problem", &remark.text), ("position", &position)];
            let more = [("found", found)].into_iter().chain(better.as_deref().map(|text| ("record", text)));
            notes.sign("spf_syntax", values.into_iter().chain(more));
        }
        _ => {
            let values = [("domain", domain), ("name", name), ("problem", &remark.text), ("position", &position)];
            notes.sign("spf_remark", values.into_iter().chain([("found", found)]));
        }
    }
}

fn is_ptr(term: &str) -> bool {
    let bare = term.trim_start_matches(['+', '-', '~', '?']).to_ascii_lowercase();
    bare == "ptr" || bare.starts_with("ptr:")
}

fn text_at(visit: &Visit, name: &str) -> Option<String> {
    if visit.domain.eq_ignore_ascii_case(name) && visit.record.is_some() {
        return visit.record.clone();
    }
    visit.terms.iter().filter_map(|term| term.inner.as_deref()).find_map(|inner| text_at(inner, name))
}

/// Includes without a record, and lookups that failed, wherever they are in the tree.
fn failures(domain: &str, visit: &Visit, notes: &mut Notes) {
    for term in &visit.terms {
        let Some(inner) = &term.inner else { continue };
        let problem = inner.problem.as_deref().unwrap_or("no answer");
        match inner.result {
            SpfResult::None if inner.record.is_none() => {
                let kept: Vec<&str> =
                    visit.record.as_deref().unwrap_or_default().split(' ').filter(|text| *text != term.term).collect();
                let record = txt_line(&visit.domain, &kept.join(" "));
                notes
                    .sign("spf_include_missing", [("domain", domain), ("include", &inner.domain), ("record", &record)]);
            }
            SpfResult::Temperror => {
                notes.sign("spf_lookup_failed", [("domain", domain), ("name", &inner.domain), ("problem", problem)]);
            }
            _ => failures(domain, inner, notes),
        }
    }
}

fn wide(domain: &str, record: &str, notes: &mut Notes) {
    for term in record.split(' ') {
        let Some(network) = term.trim_start_matches('+').strip_prefix("ip4:") else { continue };
        let Some(length) = network.split_once('/').and_then(|(_, digits)| digits.parse::<u8>().ok()) else { continue };
        if length < WIDE {
            let addresses = (1_u64 << (32 - u32::from(length.min(32)))).to_string();
            notes.sign("spf_wide", [("domain", domain), ("term", term), ("addresses", &addresses)]);
        }
    }
}

/// Evaluates the record for an address.
async fn covered(scene: Scene<'_>, record: &str, ip: IpAddr, notes: &mut Notes) {
    let helo = scene.auditor.plan.helo.clone().unwrap_or_else(|| scene.domain.to_owned());
    let client = Client {
        ip,
        helo,
        mail_from: format!("postmaster@{}", scene.domain),
        receiver: "receiver".into(),
        now: u64::try_from(scene.auditor.now_ms() / 1000).unwrap_or(0),
    };
    let outcome = scene.auditor.net.resolver.walk(&mut Evaluation::new(client, Limits::default())).await;
    let by = outcome.decided_by.as_deref().or(outcome.problem.as_deref()).unwrap_or("no term matches");
    notes.detail(format!("{ip}: {} ({by})", outcome.result.name()));
    notes.fact(&format!("result {ip}"), outcome.result.name());
    if outcome.result != SpfResult::Pass {
        let better = txt_line(scene.domain, &with_term(record, &term_of(ip)));
        let problem = match (&outcome.decided_by, &outcome.problem) {
            (Some(term), _) => format!("`{term}` decides"),
            (None, Some(problem)) => problem.clone(),
            (None, None) => "no term matches".into(),
        };
        let values = [("domain", scene.domain), ("ip", &ip.to_string()), ("result", outcome.result.name())];
        notes.sign(
            "spf_ip_not_covered",
            values.into_iter().chain([("problem", problem.as_str()), ("record", better.as_str())]),
        );
    }
}

pub(super) fn term_of(ip: IpAddr) -> String {
    format!("{}:{ip}", if ip.is_ipv4() { "ip4" } else { "ip6" })
}

/// The record with one more term, in front of its end.
pub(super) fn with_term(record: &str, term: &str) -> String {
    let mut terms: Vec<&str> = record.split(' ').filter(|term| !term.is_empty()).collect();
    let is_end = |term: &&str| {
        let bare = term.trim_start_matches(['+', '-', '~', '?']).to_ascii_lowercase();
        bare == "all" || bare.starts_with("redirect=")
    };
    let at = terms.iter().position(is_end).unwrap_or(terms.len());
    terms.insert(at, term);
    terms.join(" ")
}

/// The record with `-all` for its end, or `~all` kept.
fn with_end(record: &str) -> String {
    let parsed = parse(record.as_bytes()).record;
    let soft = parsed.and_then(|record| record.all()).is_some_and(|(_, qualifier)| qualifier == Qualifier::Softfail);
    let kept: Vec<&str> = record
        .split(' ')
        .filter(|term| !term.is_empty() && !term.trim_start_matches(['+', '-', '~', '?']).eq_ignore_ascii_case("all"))
        .collect();
    format!("{} {}", kept.join(" "), if soft { "~all" } else { "-all" })
}

/// The record as it was probably meant; `None` if that has mistakes too.
fn corrected(record: &str) -> Option<String> {
    let spaced = record.replace(", ", " ").replace([',', ';'], " ").replace(": ", ":").replace("= ", "=");
    let terms = spaced.split_ascii_whitespace().map(|term| {
        let lower = term.to_ascii_lowercase();
        let network = lower.strip_prefix("ipv4:").or_else(|| lower.strip_prefix("ipv6:"));
        let network = network.or_else(|| lower.strip_prefix("ip:")).or_else(|| lower.strip_prefix("ip4:"));
        let network = network.or_else(|| lower.strip_prefix("ip6:"));
        match network {
            Some(rest) if rest.contains(':') => format!("ip6:{rest}"),
            Some(rest) => format!("ip4:{rest}"),
            None if lower == "al" || lower == "-al" => "-all".into(),
            None if lower.starts_with("includes:") => format!("include:{}", &lower[9..]),
            None if lower.starts_with("include=") => format!("include:{}", &lower[8..]),
            None if lower.starts_with("redirect:") => format!("redirect={}", &lower[9..]),
            None => term.to_owned(),
        }
    });
    let text = terms.collect::<Vec<_>>().join(" ");
    let parsed = parse(text.as_bytes());
    (text != record && parsed.record.is_some() && !parsed.has_errors()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_goes_in_front_of_the_end() {
        assert_eq!(with_term("v=spf1 mx -all", "ip4:192.0.2.1"), "v=spf1 mx ip4:192.0.2.1 -all");
        assert_eq!(with_term("v=spf1 redirect=_spf.example.com", "mx"), "v=spf1 mx redirect=_spf.example.com");
        assert_eq!(with_term("v=spf1 mx", "a"), "v=spf1 mx a");
    }

    #[test]
    fn what_was_probably_meant_is_found_for_usual_typos() {
        for (typed, meant) in [
            ("v=spf1 ipv4:192.0.2.1 -all", Some("v=spf1 ip4:192.0.2.1 -all")),
            ("v=spf1 ip4:2001:db8::1 -all", Some("v=spf1 ip6:2001:db8::1 -all")),
            ("v=spf1 include: spf.example.net -all", Some("v=spf1 include:spf.example.net -all")),
            ("v=spf1 mx, a -all", Some("v=spf1 mx a -all")),
            ("v=spf1 mx nonsense -all", None),
        ] {
            assert_eq!(corrected(typed).as_deref(), meant, "{typed}");
        }
    }

    #[test]
    fn the_end_is_replaced() {
        assert_eq!(with_end("v=spf1 +all"), "v=spf1 -all");
        assert_eq!(with_end("v=spf1 mx ?all"), "v=spf1 mx -all");
        assert_eq!(with_end("v=spf1 mx"), "v=spf1 mx -all");
    }
}
