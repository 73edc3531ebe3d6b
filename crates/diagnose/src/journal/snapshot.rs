//! What each server said of one kind of record at one time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Failures in a row after which a server counts as dead: one lost answer is nothing.
const PATIENCE: u32 = 2;

/// How a server behaved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// It answers, be it with nothing.
    Answers,
    /// No answer in time, or no way to it.
    Silent,
    /// It answers that it does not have the zone, or cannot say.
    Lame,
    /// Its own name has no address.
    NoAddress,
}

/// One address of one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerView {
    /// Its name.
    pub server: String,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// How it behaved.
    pub state: ServerState,
    /// What it has, in the form of a zone file, sorted.
    #[serde(default)]
    pub records: Vec<String>,
    /// Why it has no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl ServerView {
    /// `ns1.example.com (192.0.2.53)`
    pub fn shown(&self) -> String {
        self.address.map_or_else(|| self.server.clone(), |address| format!("{} ({address})", self.server))
    }

    fn key(&self) -> (String, Option<IpAddr>) {
        (self.server.clone(), self.address)
    }
}

/// What all servers said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Name that was asked for.
    pub name: String,
    /// Type of the records.
    #[serde(rename = "type")]
    pub kind: String,
    /// The zone it is in; none if there is no such zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Where aliases led.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Each address of each server.
    pub servers: Vec<ServerView>,
}

/// Failures in a row, by what was asked and whom; kept between two runs.
#[derive(Debug, Default)]
pub struct Patience(BTreeMap<(String, String, Option<IpAddr>), u32>);

impl Snapshot {
    /// The servers that answer.
    pub fn answering(&self) -> impl Iterator<Item = &ServerView> {
        self.servers.iter().filter(|view| view.state == ServerState::Answers)
    }

    /// The servers that do not.
    pub fn broken(&self) -> impl Iterator<Item = &ServerView> {
        self.servers.iter().filter(|view| view.state != ServerState::Answers)
    }

    /// The different answers, each with the servers that give it; more than one: half-propagated.
    pub fn answers(&self) -> BTreeMap<&[String], Vec<String>> {
        let mut all: BTreeMap<&[String], Vec<String>> = BTreeMap::new();
        for view in self.answering() {
            all.entry(&view.records).or_default().push(view.shown());
        }
        all
    }

    /// Whether servers disagree.
    pub fn is_half(&self) -> bool {
        self.answers().len() > 1
    }

    /// Records that at least one server has.
    pub fn records(&self) -> BTreeSet<&str> {
        self.answering().flat_map(|view| &view.records).map(String::as_str).collect()
    }

    /// Whether no server has anything.
    pub fn is_empty(&self) -> bool {
        self.answering().all(|view| view.records.is_empty())
    }

    /// Keeps what a server said before while it only just fell silent. False: one of which nothing was known just failed, so
    /// that nothing should be concluded yet.
    pub fn be_patient(&mut self, subject: &str, before: Option<&Snapshot>, patience: &mut Patience) -> bool {
        let mut sure = true;
        for view in &mut self.servers {
            let key = (format!("{subject} {} {}", self.name, self.kind), view.server.clone(), view.address);
            if view.state == ServerState::Answers {
                patience.0.remove(&key);
                continue;
            }
            let failures = patience.0.entry(key).or_default();
            *failures += 1;
            let earlier = before.and_then(|before| before.servers.iter().find(|earlier| earlier.key() == view.key()));
            if let Some(earlier) = earlier.filter(|earlier| earlier.state != view.state)
                && *failures < PATIENCE
            {
                *view = earlier.clone();
            } else if let Some(earlier) = earlier.filter(|earlier| earlier.state == view.state) {
                // The same trouble in other words is no news.
                view.reason.clone_from(&earlier.reason);
            } else if earlier.is_none() && *failures < PATIENCE {
                sure = false;
            }
        }
        sure
    }

    /// Leaves out addresses of a family that nobody answers on while the same servers answer on the other: that is our own
    /// network, not theirs.
    pub(super) fn forget_unreachable_family(&mut self) {
        for six in [true, false] {
            let of_family = |view: &ServerView| view.address.is_some_and(|address| address.is_ipv6() == six);
            let silent = |view: &&ServerView| view.state == ServerState::Silent;
            let family: Vec<&ServerView> = self.servers.iter().filter(|view| of_family(view)).collect();
            if family.is_empty() || !family.iter().all(silent) {
                continue;
            }
            let answers: BTreeSet<String> = self.answering().map(|view| view.server.clone()).collect();
            self.servers.retain(|view| !of_family(view) || !answers.contains(&view.server));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(server: &str, address: &str, state: ServerState, records: &[&str]) -> ServerView {
        ServerView {
            server: server.into(),
            address: Some(address.parse().unwrap()),
            state,
            records: records.iter().map(|text| (*text).to_owned()).collect(),
            reason: None,
        }
    }

    fn snapshot(servers: Vec<ServerView>) -> Snapshot {
        Snapshot { name: "a.test".into(), kind: "MX".into(), zone: Some("a.test".into()), aliases: vec![], servers }
    }

    #[test]
    fn one_lost_answer_changes_nothing_and_two_do() {
        use ServerState::{Answers, Silent};
        let before = snapshot(vec![view("ns1", "192.0.2.1", Answers, &["10 mx."])]);
        let mut patience = Patience::default();
        let silent = || snapshot(vec![view("ns1", "192.0.2.1", Silent, &[])]);
        let mut now = silent();
        now.be_patient("a.test", Some(&before), &mut patience);
        assert_eq!(now, before);
        let mut now = silent();
        now.be_patient("a.test", Some(&before), &mut patience);
        assert_eq!(now.broken().count(), 1);
        let mut now = before.clone();
        now.be_patient("a.test", Some(&silent()), &mut patience);
        assert_eq!(now, before, "back at once");
        let mut now = silent();
        now.be_patient("a.test", Some(&before), &mut patience);
        assert_eq!(now, before, "counted anew");
    }

    #[test]
    fn a_family_that_we_cannot_reach_is_no_fault_of_the_servers() {
        use ServerState::{Answers, Silent};
        let mut now = snapshot(vec![
            view("ns1", "192.0.2.1", Answers, &["10 mx."]),
            view("ns1", "2001:db8::1", Silent, &[]),
            view("ns2", "192.0.2.2", Silent, &[]),
        ]);
        now.forget_unreachable_family();
        assert_eq!(
            now.servers.iter().map(ServerView::shown).collect::<Vec<_>>(),
            ["ns1 (192.0.2.1)", "ns2 (192.0.2.2)"]
        );
    }

    #[test]
    fn servers_that_disagree_are_grouped() {
        use ServerState::{Answers, Lame};
        let now = snapshot(vec![
            view("ns1", "192.0.2.1", Answers, &["10 a."]),
            view("ns2", "192.0.2.2", Answers, &["10 b."]),
            view("ns3", "192.0.2.3", Lame, &[]),
        ]);
        assert!(now.is_half() && !now.is_empty());
        assert_eq!(now.records().into_iter().collect::<Vec<_>>(), ["10 a.", "10 b."]);
    }
}
