//! Two snapshots against each other, and the difference in words.

use std::collections::BTreeSet;
use std::net::IpAddr;

use explain::Severity;
use serde::{Deserialize, Serialize};

use super::snapshot::{ServerState, ServerView, Snapshot};
use super::what::What;

/// What changed at one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerChange {
    /// Its name.
    pub server: String,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// How it was; none: it was not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<ServerState>,
    /// How it is; none: it is not there any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is: Option<ServerState>,
    /// Records it lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<String>,
    /// Records it got.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub came: Vec<String>,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Records that nobody has any more.
    pub gone: Vec<String>,
    /// Records that somebody has now.
    pub came: Vec<String>,
    /// Server by server.
    pub servers: Vec<ServerChange>,
    /// How bad it is, for mail.
    pub severity: Severity,
    /// Sentences for people.
    pub lines: Vec<String>,
}

impl Difference {
    /// What changed between two times; none if nothing did.
    pub fn between(what: &What, domain: &str, before: &Snapshot, now: &Snapshot) -> Option<Self> {
        if before == now {
            return None;
        }
        let (old, new) = (before.records(), now.records());
        let only = |a: &BTreeSet<&str>, b: &BTreeSet<&str>| a.difference(b).map(|text| (*text).to_owned()).collect();
        let (gone, came): (Vec<String>, Vec<String>) = (only(&old, &new), only(&new, &old));
        let servers = server_changes(before, now);
        if servers.is_empty() && before.zone == now.zone && before.aliases == now.aliases {
            return None;
        }
        let mut lines = Vec::new();
        let subject = format!("{domain}: {}", what.words());
        if now.zone.is_none() && before.zone.is_some() {
            lines.push(format!("{subject} cannot exist any more: no zone has {}; did the registration end?", now.name));
        } else if !gone.is_empty() && now.is_empty() {
            lines.push(format!("{subject} is on no name server any more; it was {}", listed(&gone)));
        } else if !gone.is_empty() && !came.is_empty() {
            lines.push(format!("{subject} changed from {} to {}", listed(&gone), listed(&came)));
        } else if !came.is_empty() {
            lines.push(format!("{subject} got {}", listed(&came)));
        } else if !gone.is_empty() {
            lines.push(format!("{subject} lost {}", listed(&gone)));
        }
        let became_whole = before.is_half() && !now.is_half() && now.answering().next().is_some();
        if now.is_half() {
            lines.extend(disagreement(now));
        } else if became_whole {
            lines.push(format!("{subject} is the same on all name servers now"));
        }
        lines.extend(servers.iter().filter_map(|change| state_line(change, now)));
        if before.aliases != now.aliases {
            let to = now.aliases.last().map_or("no alias", String::as_str);
            lines.push(format!("{} leads to {to} now", now.name));
        }
        let severity = severity(what, before, now, &gone);
        Some(Self { gone, came, servers, severity, lines })
    }
}

/// What is wrong at this moment, changed or not: who disagrees, who is dead.
impl Snapshot {
    /// Sentences about servers that disagree or do not answer.
    pub fn troubles(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.is_half() {
            lines.extend(disagreement(self));
        }
        lines.extend(self.broken().map(broken_line));
        lines
    }
}

fn listed(records: &[String]) -> String {
    let shown: Vec<&str> = records.iter().take(5).map(String::as_str).collect();
    let more = records.len().saturating_sub(shown.len());
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", shown.join(" and "))
}

/// `half-propagated: ns1 has …; ns2 has …`
fn disagreement(now: &Snapshot) -> Option<String> {
    let groups = now.answers();
    let parts: Vec<String> = groups
        .iter()
        .map(|(records, servers)| {
            let has = if records.is_empty() { "nothing".to_owned() } else { listed(records) };
            format!("{} {} {has}", servers.join(" and "), if servers.len() > 1 { "have" } else { "has" })
        })
        .collect();
    (parts.len() > 1).then(|| format!("the name servers disagree about {}: {}", now.name, parts.join("; ")))
}

fn broken_line(view: &ServerView) -> String {
    let reason = view.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    match view.state {
        ServerState::Silent => format!("{} does not answer{reason}", view.shown()),
        ServerState::Lame => format!("{} does not have the zone{reason}", view.shown()),
        ServerState::NoAddress => format!("the name server {} has no address", view.server),
        ServerState::Answers => format!("{} answers", view.shown()),
    }
}

fn state_line(change: &ServerChange, now: &Snapshot) -> Option<String> {
    let view = now.servers.iter().find(|view| view.server == change.server && view.address == change.address);
    match (change.was, view) {
        (Some(was), Some(view)) if was != view.state && view.state == ServerState::Answers => {
            Some(format!("{} answers again", view.shown()))
        }
        (Some(was), Some(view)) if was != view.state => Some(broken_line(view)),
        (None, Some(view)) if view.state != ServerState::Answers => Some(broken_line(view)),
        (None, Some(view)) => Some(format!("{} is a new name server", view.shown())),
        (Some(_), None) => Some(format!("{} is no name server any more", change.server)),
        _ => None,
    }
}

fn server_changes(before: &Snapshot, now: &Snapshot) -> Vec<ServerChange> {
    let find = |all: &Snapshot, server: &str, address: Option<IpAddr>| {
        all.servers.iter().find(|view| view.server == server && view.address == address).cloned()
    };
    let keys: BTreeSet<(String, Option<IpAddr>)> =
        before.servers.iter().chain(&now.servers).map(|view| (view.server.clone(), view.address)).collect();
    let mut all = Vec::new();
    for (server, address) in keys {
        let (old, new) = (find(before, &server, address), find(now, &server, address));
        let records = |view: &Option<ServerView>| -> BTreeSet<String> {
            view.iter().flat_map(|view| view.records.iter().cloned()).collect()
        };
        let states = (old.as_ref().map(|view| view.state), new.as_ref().map(|view| view.state));
        let both = states == (Some(ServerState::Answers), Some(ServerState::Answers));
        let (mut gone, mut came) = (Vec::new(), Vec::new());
        if both {
            gone = records(&old).difference(&records(&new)).cloned().collect();
            came = records(&new).difference(&records(&old)).cloned().collect();
        }
        if states.0 != states.1 || !gone.is_empty() || !came.is_empty() {
            all.push(ServerChange { server, address, was: states.0, is: states.1, gone, came });
        }
    }
    all
}

fn severity(what: &What, before: &Snapshot, now: &Snapshot, gone: &[String]) -> Severity {
    let vanished = now.zone.is_none() && before.zone.is_some();
    let nobody_answers = now.zone.is_some() && now.answering().next().is_none();
    if vanished || nobody_answers || (!gone.is_empty() && now.is_empty() && what.is_vital()) {
        return Severity::Problem;
    }
    // Name servers of a provider are the provider's to mend, and there are others.
    let theirs = matches!(what, What::SpfOf(_));
    let newly_broken = !theirs && now.broken().count() > before.broken().count();
    if now.is_half() || newly_broken || (!gone.is_empty() && now.is_empty()) {
        return Severity::Warning;
    }
    Severity::Note
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(server: &str, state: ServerState, records: &[&str]) -> ServerView {
        ServerView {
            server: server.into(),
            address: Some("192.0.2.1".parse().unwrap()),
            state,
            records: records.iter().map(|text| (*text).to_owned()).collect(),
            reason: (state != ServerState::Answers).then(|| "timeout".to_owned()),
        }
    }

    fn snapshot(servers: &[(&str, ServerState, &[&str])]) -> Snapshot {
        let servers = servers.iter().map(|(server, state, records)| view(server, *state, records)).collect();
        Snapshot { name: "a.test".into(), kind: "TXT".into(), zone: Some("a.test".into()), aliases: vec![], servers }
    }

    use ServerState::{Answers, Silent};

    #[test]
    fn a_change_is_told_by_record_and_by_server() {
        let before = snapshot(&[("ns1", Answers, &["old"]), ("ns2", Answers, &["old"])]);
        assert_eq!(Difference::between(&What::Spf, "a.test", &before, &before), None);
        let half = snapshot(&[("ns1", Answers, &["new"]), ("ns2", Answers, &["old"])]);
        let found = Difference::between(&What::Spf, "a.test", &before, &half).unwrap();
        assert_eq!((found.gone.len(), found.came.as_slice(), found.servers.len()), (0, &["new".to_owned()][..], 1));
        assert_eq!(found.severity, Severity::Warning);
        assert!(found.lines.iter().any(|line| line.contains("ns1 (192.0.2.1) has new; ns2 (192.0.2.1) has old")));
        let whole = snapshot(&[("ns1", Answers, &["new"]), ("ns2", Answers, &["new"])]);
        let found = Difference::between(&What::Spf, "a.test", &half, &whole).unwrap();
        assert_eq!((found.severity, found.gone.as_slice()), (Severity::Note, &["old".to_owned()][..]));
        assert!(
            found.lines.iter().any(|line| line.ends_with("is the same on all name servers now")),
            "{:?}",
            found.lines
        );
    }

    #[test]
    fn what_is_gone_everywhere_is_a_problem_where_mail_needs_it() {
        let before = snapshot(&[("ns1", Answers, &["old"])]);
        let nothing = snapshot(&[("ns1", Answers, &[])]);
        let severity = |what| Difference::between(&what, "a.test", &before, &nothing).unwrap().severity;
        assert_eq!(severity(What::Spf), Severity::Problem);
        assert_eq!(severity(What::TlsRpt), Severity::Warning);
        let no_zone = Snapshot { zone: None, servers: vec![], ..nothing.clone() };
        let found = Difference::between(&What::TlsRpt, "a.test", &before, &no_zone).unwrap();
        assert_eq!(found.severity, Severity::Problem);
    }

    #[test]
    fn a_server_that_dies_is_a_warning_and_its_return_a_note() {
        let before = snapshot(&[("ns1", Answers, &["old"]), ("ns2", Answers, &["old"])]);
        let dead = snapshot(&[("ns1", Answers, &["old"]), ("ns2", Silent, &[])]);
        let found = Difference::between(&What::Spf, "a.test", &before, &dead).unwrap();
        assert_eq!(
            (found.severity, found.lines.as_slice()),
            (Severity::Warning, &["ns2 (192.0.2.1) does not answer (timeout)".to_owned()][..])
        );
        assert!(found.gone.is_empty(), "silence is no removal");
        let back = Difference::between(&What::Spf, "a.test", &dead, &before).unwrap();
        assert_eq!((back.severity, back.lines[0].as_str()), (Severity::Note, "ns2 (192.0.2.1) answers again"));
    }
}
