//! Blocklists (RFC 5782), asked with distrust: a list counts only after its test points answered as they should.
//!
//! Dead lists answer for everything or for nothing, and refusals look like listings to those who do not read the code.

use std::net::{IpAddr, Ipv4Addr};

use explain::lists::{Blocklist, ListAnswer, ListFor, ListingKind, Weight, blocklists};
use futures_util::future::join_all;
use net::{Answer, Outcome, lookup::Data, lookup::Kind};
use proto::policy::dns::reversed;

use super::audit::{Auditor, Scene};
use super::notes::Notes;
use super::plan::Section;

/// Whether a list is to be believed.
#[derive(Debug, Clone)]
pub(super) enum Trust {
    /// Its test points are right.
    Good,
    /// It does not answer us: code and meaning.
    Refused(String, String),
    /// It is no list (any more): why.
    Unusable(String),
}

/// Asks all lists about the addresses that send and about the domain.
pub(super) async fn look(scene: Scene<'_>) -> Notes {
    let mut notes = Notes::new(Section::Blocklists);
    if !scene.wants(Section::Blocklists) {
        return notes;
    }
    let senders = scene.auditor.plan.senders();
    let asked = blocklists().iter().enumerate().filter(|(_, list)| list.retired.is_none());
    let all = join_all(asked.map(|(index, list)| ask(scene, index, list, &senders))).await;
    let (mut good, mut listings) = (0, 0);
    for (list, trust, answers) in all {
        match trust {
            Trust::Good => good += 1,
            Trust::Refused(code, meaning) => refused(scene, list, &code, &meaning, &mut notes),
            Trust::Unusable(problem) => {
                notes
                    .sign("list_unusable", [("list", list.name.as_str()), ("zone", &list.zone), ("problem", &problem)]);
            }
        }
        for (subject, answer) in answers {
            listings += usize::from(listed(scene, list, &subject, &answer, &mut notes));
        }
    }
    retired(&mut notes);
    notes.fact("lists", good.to_string());
    let subjects: Vec<String> = senders.iter().map(ToString::to_string).chain([scene.domain.to_owned()]).collect();
    notes.summary(format!("{} on {listings} of {good} lists that answer", subjects.join(", ")));
    notes
}

type Asked<'l> = (&'l Blocklist, Trust, Vec<(String, Answer)>);

async fn ask<'l>(scene: Scene<'_>, index: usize, list: &'l Blocklist, senders: &[IpAddr]) -> Asked<'l> {
    let subjects: Vec<(String, String)> = match list.of {
        ListFor::Ip => senders.iter().map(|ip| (ip.to_string(), format!("{}.{}", reversed(*ip), list.zone))).collect(),
        ListFor::Domain => vec![(scene.domain.to_owned(), format!("{}.{}", scene.domain, list.zone))],
    };
    if subjects.is_empty() {
        return (list, Trust::Good, Vec::new());
    }
    let trust = trust(scene.auditor, index, list).await;
    if !matches!(trust, Trust::Good) {
        return (list, trust, Vec::new());
    }
    let answers = subjects.into_iter().map(|(subject, name)| async move {
        let answer = scene.auditor.query(&name, Kind::A).await;
        (subject, answer)
    });
    (list, trust, join_all(answers).await)
}

/// The test points of RFC 5782 §5, asked once for all domains.
async fn trust(auditor: &Auditor, index: usize, list: &Blocklist) -> Trust {
    let Some(cell) = auditor.trust.get(index) else { return Trust::Unusable("unknown list".into()) };
    cell.get_or_init(|| async {
        let random = auditor.random_label();
        let point = |given: &Option<String>, ip: &str| {
            format!("{}.{}", given.clone().unwrap_or_else(|| ip.to_owned()), list.zone)
        };
        let (yes, no, random) = (
            point(&list.test_listed, "2.0.0.127"),
            point(&list.test_clean, "1.0.0.127"),
            format!("{random}.{}", list.zone),
        );
        let (soa, yes, no, random) = tokio::join!(
            auditor.query(&list.zone, Kind::Soa),
            auditor.query(&yes, Kind::A),
            auditor.query(&no, Kind::A),
            auditor.query(&random, Kind::A),
        );
        believe(list, &soa, &yes, &no, &random)
    })
    .await
    .clone()
}

fn believe(list: &Blocklist, soa: &Answer, yes: &Answer, no: &Answer, random: &Answer) -> Trust {
    for answer in [yes, no, random] {
        if let Outcome::Failed(reason) = &answer.outcome {
            return Trust::Unusable(format!("no answer ({reason})"));
        }
        let refusal = addresses(answer).find_map(|code| match list.read(code) {
            ListAnswer::Refused(meaning) => Some((code, meaning)),
            _ => None,
        });
        if let Some((code, meaning)) = refusal {
            return Trust::Refused(code.to_string(), meaning);
        }
    }
    if soa.records.is_empty() {
        return Trust::Unusable("there is no such zone".into());
    }
    if !random.records.is_empty() {
        return Trust::Unusable("a name nobody listed is listed".into());
    }
    if !no.records.is_empty() {
        return Trust::Unusable("the test point that must not be listed is listed".into());
    }
    if yes.records.is_empty() {
        return Trust::Unusable("the test point that must be listed is not".into());
    }
    if addresses(yes).any(|code| code.octets()[0] != 127) {
        return Trust::Unusable("answers outside of 127.0.0.0/8".into());
    }
    Trust::Good
}

fn addresses(answer: &Answer) -> impl Iterator<Item = Ipv4Addr> {
    answer.records.iter().filter_map(|data| match data {
        Data::A(ip) => Some(*ip),
        _ => None,
    })
}

fn refused(scene: Scene<'_>, list: &Blocklist, code: &str, meaning: &str, notes: &mut Notes) {
    let values = [("target", scene.domain), ("list", &list.name), ("zone", &list.zone), ("code", code)];
    notes.sign("list_refused", values.into_iter().map(|(n, v)| (n, v as &str)).chain([("meaning", meaning)]));
}

/// Notes what the answer of a list says; whether it is a listing.
fn listed(scene: Scene<'_>, list: &Blocklist, subject: &str, answer: &Answer, notes: &mut Notes) -> bool {
    let mut any = false;
    for code in addresses(answer).take(8) {
        let shown = code.to_string();
        match list.read(code) {
            ListAnswer::Listed(name, meaning, kind) => {
                any = true;
                let sign = match (list.of, kind, list.weight) {
                    (ListFor::Domain, ..) => "domain_listed",
                    (ListFor::Ip, ListingKind::Policy, _) => "ip_listed_policy",
                    (ListFor::Ip, ListingKind::Minor, _) | (ListFor::Ip, _, Weight::Minor) => "ip_listed_minor",
                    (ListFor::Ip, ..) => "ip_listed",
                };
                let what = if list.of == ListFor::Domain { "domain" } else { "ip" };
                let values = [(what, subject), ("list", &name), ("zone", &list.zone), ("code", &shown)];
                let more = [("meaning", meaning.as_str()), ("used", &list.used), ("url", &list.url)];
                notes.sign(sign, values.into_iter().map(|(n, v)| (n, v as &str)).chain(more));
            }
            ListAnswer::Refused(meaning) => refused(scene, list, &shown, &meaning, notes),
            ListAnswer::Nonsense => notes.detail(format!("{}: answer {shown} means nothing", list.name)),
        }
    }
    any
}

/// Lists that are gone and still named in bounces: said once, without asking them.
fn retired(notes: &mut Notes) {
    let gone: Vec<&Blocklist> = blocklists().iter().filter(|list| list.retired.is_some()).collect();
    for list in gone {
        let date = list.retired.as_deref().unwrap_or_default();
        notes.detail(format!("{} ({}) was closed in {date} and is not asked. {}.", list.name, list.zone, list.note));
        if list.id == "sorbs" {
            let values = [("list", list.name.as_str()), ("zone", &list.zone), ("date", date), ("note", &list.note)];
            notes.sign("list_retired", values);
        }
    }
}
