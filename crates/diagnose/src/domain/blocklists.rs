//! What the blocklists say about the addresses that send and about the domain. Asking them, and whether to believe them, is the
//! affair of [`crate::lists`].

use explain::lists::{Blocklist, ListFor, ListingKind, Weight};

use super::audit::Scene;
use super::notes::Notes;
use super::plan::Section;
use crate::lists::{Said, Subject, Trust};

/// Asks all lists about the addresses that send and about the domain.
pub(super) async fn look(scene: Scene<'_>) -> Notes {
    let mut notes = Notes::new(Section::Blocklists);
    if !scene.wants(Section::Blocklists) {
        return notes;
    }
    let mut subjects: Vec<Subject> = scene.auditor.plan.senders().into_iter().map(Subject::Ip).collect();
    subjects.push(Subject::Domain(scene.domain.to_owned()));
    let (mut good, mut listings) = (0, 0);
    for asked in scene.auditor.lists.ask(&subjects).await {
        let list = asked.list;
        match &asked.trust {
            Trust::Good => good += 1,
            Trust::Refused(code, meaning) => refused(scene, list, code, meaning, &mut notes),
            Trust::Unusable(problem) => {
                let values = [("list", list.name.as_str()), ("zone", list.shown_zone()), ("problem", problem)];
                notes.sign("list_unusable", values);
            }
        }
        for (subject, said) in &asked.said {
            listings += usize::from(listed(scene, list, &subject.to_string(), said, &mut notes));
        }
    }
    retired(scene, &mut notes);
    notes.fact("lists", good.to_string());
    let subjects: Vec<String> = subjects.iter().map(ToString::to_string).collect();
    notes.summary(format!("{} on {listings} of {good} lists that answer", subjects.join(", ")));
    notes
}

fn refused(scene: Scene<'_>, list: &Blocklist, code: &str, meaning: &str, notes: &mut Notes) {
    let values = [("target", scene.domain), ("list", &list.name), ("zone", list.shown_zone()), ("code", code)];
    notes.sign("list_refused", values.into_iter().map(|(n, v)| (n, v as &str)).chain([("meaning", meaning)]));
}

/// Notes what the answer of a list says; whether it is a listing.
fn listed(scene: Scene<'_>, list: &Blocklist, subject: &str, said: &Said, notes: &mut Notes) -> bool {
    for listing in &said.listings {
        let sign = match (list.of, listing.kind, list.weight) {
            (ListFor::Domain, ..) => "domain_listed",
            (ListFor::Ip, ListingKind::Policy, _) => "ip_listed_policy",
            (ListFor::Ip, ListingKind::Minor, _) | (ListFor::Ip, _, Weight::Minor) => "ip_listed_minor",
            (ListFor::Ip, ..) => "ip_listed",
        };
        let what = if list.of == ListFor::Domain { "domain" } else { "ip" };
        let code = listing.code.to_string();
        let values = [(what, subject), ("list", &listing.part), ("zone", list.shown_zone()), ("code", &code)];
        let more = [("meaning", listing.meaning.as_str()), ("used", &list.used), ("url", &list.url)];
        notes.sign(sign, values.into_iter().map(|(n, v)| (n, v as &str)).chain(more));
    }
    if let Some((code, meaning)) = &said.refused {
        refused(scene, list, &code.to_string(), meaning, notes);
    }
    for code in &said.nonsense {
        notes.detail(format!("{}: answer {code} means nothing", list.name));
    }
    !said.listings.is_empty()
}

/// Lists that are gone and still named in bounces: said once, without asking them.
fn retired(scene: Scene<'_>, notes: &mut Notes) {
    for list in scene.auditor.lists.table().filter(|list| list.retired.is_some()) {
        let date = list.retired.as_deref().unwrap_or_default();
        notes.detail(format!("{} ({}) was closed in {date} and is not asked. {}.", list.name, list.zone, list.note));
        if list.id == "sorbs" {
            let values = [("list", list.name.as_str()), ("zone", &list.zone), ("date", date), ("note", &list.note)];
            notes.sign("list_retired", values);
        }
    }
}
