//! What the lists say, weighed: what is printed, stored and compared.
//!
//! An entry on a list that many receivers believe weighs 10 points, a policy entry there 5, an entry on a list that few believe 2,
//! an entry about neighbours only 1. 10 points are a problem, 2 a warning.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use explain::lists::{Blocklist, ListFor, ListingKind, Weight};
use serde::{Deserialize, Serialize};

use super::{Asked, Lists, Said, Subject, Trust};

/// Name and number of the JSON form.
pub const SCHEMA: &str = "pillarbox.blocklists/1";
/// From so many points on it is a problem, or a warning.
const PROBLEM: u32 = 10;
const WARNING: u32 = 2;

/// How bad it is for a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rank {
    /// On no list that answers.
    Clean,
    /// On one that says something about its neighbours.
    Note,
    /// Some receivers may refuse mail.
    Warning,
    /// Many receivers refuse mail.
    Problem,
}

/// How a list behaved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListState {
    /// Its test points are right.
    Good,
    /// It refuses our questions.
    Refused,
    /// It does not work as a list.
    Unusable,
}

/// One list that was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRow {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The zone, without a key in it.
    pub zone: String,
    /// What it lists.
    #[serde(rename = "for")]
    pub of: ListFor,
    /// Who believes it.
    pub weight: Weight,
    /// How it behaved.
    pub state: ListState,
    /// Why it counts for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// One entry about a subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListingRow {
    /// Id of the list.
    pub list: String,
    /// Name of its part.
    pub name: String,
    /// What it means.
    pub meaning: String,
    /// How much it says.
    pub kind: ListingKind,
    /// The address answered.
    pub code: String,
    /// Points.
    pub points: u32,
    /// The list's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who believes it.
    pub used: String,
    /// Where removal is asked for.
    pub url: String,
}

/// What is known of one subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectRow {
    /// The address or domain.
    pub subject: String,
    /// How bad it is.
    pub rank: Rank,
    /// Sum of the points.
    pub points: u32,
    /// Entries, the weightiest first.
    pub listings: Vec<ListingRow>,
    /// Lists that answered about it.
    pub answered: u32,
    /// Lists that did not, and why.
    pub unknown: BTreeMap<String, String>,
}

/// The whole result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListsReport {
    /// [`SCHEMA`].
    pub schema: String,
    /// Unix milliseconds.
    pub at_ms: i64,
    /// Each subject.
    pub subjects: Vec<SubjectRow>,
    /// Each list that was asked.
    pub lists: Vec<ListRow>,
}

impl Lists {
    /// Asks, and weighs what is said.
    pub async fn report(&self, subjects: &[Subject], at_ms: i64) -> ListsReport {
        let asked = self.ask(subjects).await;
        let rows = subjects.iter().map(|subject| row(subject, &asked)).collect();
        let lists = asked.iter().map(list_row).collect();
        ListsReport { schema: SCHEMA.into(), at_ms, subjects: rows, lists }
    }
}

impl ListsReport {
    /// The worst.
    pub fn rank(&self) -> Rank {
        self.subjects.iter().map(|row| row.rank).max().unwrap_or(Rank::Clean)
    }
}

fn list_row(asked: &Asked<'_>) -> ListRow {
    let (state, problem) = match &asked.trust {
        Trust::Good => (ListState::Good, None),
        Trust::Refused(code, meaning) => (ListState::Refused, Some(format!("{code}: {meaning}"))),
        Trust::Unusable(problem) => (ListState::Unusable, Some(problem.clone())),
    };
    let list = asked.list;
    let zone = list.shown_zone().to_owned();
    ListRow { id: list.id.clone(), name: list.name.clone(), zone, of: list.of, weight: list.weight, state, problem }
}

fn row(subject: &Subject, asked: &[Asked<'_>]) -> SubjectRow {
    let mut row = SubjectRow {
        subject: subject.to_string(),
        rank: Rank::Clean,
        points: 0,
        listings: Vec::new(),
        answered: 0,
        unknown: BTreeMap::new(),
    };
    for one in asked.iter().filter(|one| one.list.of == subject.of()) {
        match &one.trust {
            Trust::Good => {
                if let Some((_, said)) = one.said.iter().find(|(about, _)| about == subject) {
                    take(&mut row, one.list, said);
                }
            }
            Trust::Refused(_, why) | Trust::Unusable(why) => drop(row.unknown.insert(one.list.id.clone(), why.clone())),
        }
    }
    row.weigh();
    row
}

impl SubjectRow {
    /// Adds what a list said when it answered last, as the addresses of its answer: that it is silent now removes nobody. It
    /// stays among the lists that did not answer.
    pub fn recall(&mut self, list: &Blocklist, codes: &[String]) {
        let mut said = Said::default();
        for code in codes.iter().filter_map(|code| code.parse::<Ipv4Addr>().ok()) {
            said.code(list, code);
        }
        enter(self, list, &said);
        self.weigh();
    }

    fn weigh(&mut self) {
        self.listings.sort_by_key(|listing| std::cmp::Reverse(listing.points));
        self.points = self.listings.iter().map(|listing| listing.points).sum();
        self.rank = match self.points {
            0 => Rank::Clean,
            PROBLEM.. => Rank::Problem,
            WARNING.. => Rank::Warning,
            _ => Rank::Note,
        };
    }
}

fn take(row: &mut SubjectRow, list: &Blocklist, said: &Said) {
    if said.listings.is_empty() {
        let refused = said.refused.as_ref().map(|(code, meaning)| format!("{code}: {meaning}"));
        let nonsense = said.nonsense.first().map(|code| format!("{code} means nothing"));
        match refused.or_else(|| said.unknown.clone()).or(nonsense) {
            Some(why) => drop(row.unknown.insert(list.id.clone(), why)),
            None => row.answered += 1,
        }
        return;
    }
    row.answered += 1;
    enter(row, list, said);
}

fn enter(row: &mut SubjectRow, list: &Blocklist, said: &Said) {
    // A list counts once, with what weighs most: parts of one list are no second opinion.
    let weightiest = said.listings.iter().max_by_key(|listing| points(list, listing.kind));
    for listing in &said.listings {
        let counts = weightiest.is_some_and(|other| std::ptr::eq(other, listing));
        row.listings.push(ListingRow {
            list: list.id.clone(),
            name: listing.part.clone(),
            meaning: listing.meaning.clone(),
            kind: listing.kind,
            code: listing.code.to_string(),
            points: if counts { points(list, listing.kind) } else { 0 },
            reason: said.reason.clone(),
            used: list.used.clone(),
            url: list.url.clone(),
        });
    }
}

fn points(list: &Blocklist, kind: ListingKind) -> u32 {
    match (list.weight, kind) {
        (_, ListingKind::Minor) => 1,
        (Weight::Major, ListingKind::Listed) => 10,
        (Weight::Major, ListingKind::Policy) => 5,
        (Weight::Minor, _) => 2,
    }
}
