//! What occurs in each stretch of messages, so that a search passes over those in which nothing can meet its conditions.
//!
//! A stretch is a span of ids with some thousands of messages in it. Of each a set of marks is kept: numbers made of what its
//! messages and their recipients are, or have been, compared by. A mark that is missing proves that nothing there is meant;
//! one that is set proves nothing. So marks are only ever added, and what is gone does no harm.

use crate::model::*;

use super::sought::Compared;

/// Messages after which a stretch ends. Tests have many stretches without many messages.
pub(crate) const LENGTH: i64 = if cfg!(test) { 8 } else { 4_096 };
/// Marks of a set; with real mail a tenth to a quarter of them is set.
const MARKS: usize = 1 << 16;
/// Octets of a set.
const OCTETS: usize = MARKS / 8;
/// Passing over a stretch costs as much as looking at so many messages.
pub(crate) const PASSED: u64 = 2;

/// What a mark is made of. Numbers are stored by what is made of them: they never change their meaning.
#[derive(Debug, Clone, Copy)]
enum Field {
    Sender = 1,
    Stream = 2,
    Route = 3,
    State = 4,
    Rule = 5,
    Why = 6,
    From = 7,
    Subject = 8,
}

/// The number of a text (FNV-1a, folded).
fn mark(field: Field, text: &[u8]) -> u16 {
    let mut hash = 0x811c_9dc5_u32 ^ field as u32;
    for octet in text {
        hash = (hash.wrapping_mul(0x0100_0193)) ^ u32::from(*octet);
    }
    hash = hash.wrapping_mul(0x9e37_79b1);
    ((hash >> 16) ^ (hash & 0xffff)) as u16
}

/// Numbers of all parts of three characters: a text that is part of another has no others.
fn parts(field: Field, text: &str) -> impl Iterator<Item = u16> {
    let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]).skip(3);
    text.char_indices().zip(ends).map(move |((at, _), end)| mark(field, &text.as_bytes()[at..end]))
}

/// The set of a stretch.
#[derive(Clone)]
pub(crate) struct Marks(Vec<u8>);

impl Default for Marks {
    fn default() -> Self {
        Self(vec![0; OCTETS])
    }
}

impl std::fmt::Debug for Marks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Marks").finish_non_exhaustive()
    }
}

/// What a recipient is compared by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fate<'r> {
    pub(crate) state: u8,
    pub(crate) route: Option<&'r str>,
    pub(crate) rule: Option<&'r str>,
    pub(crate) why: Option<&'r str>,
}

impl Marks {
    /// As it was stored.
    pub(crate) fn read(octets: Vec<u8>) -> Self {
        if octets.len() == OCTETS { Self(octets) } else { Self(vec![0xff; OCTETS]) }
    }
    /// As it is stored: mark n is the bit n % 8 of octet n / 8.
    pub(crate) fn octets(&self) -> &[u8] {
        &self.0
    }

    fn set(&mut self, mark: u16) {
        if let Some(octet) = self.0.get_mut(usize::from(mark) / 8) {
            *octet |= 1 << (mark % 8);
        }
    }

    /// Adds what a message is compared by, its recipients aside.
    pub(crate) fn add_message(&mut self, row: &Compared<'_>, details: &MessageDetails) {
        self.set(mark(Field::Sender, row.sender.as_bytes()));
        self.set(mark(Field::Stream, row.stream.as_bytes()));
        let lower = |text: &str| if text.is_ascii() { text.to_ascii_lowercase() } else { text.to_lowercase() };
        for from in [Some(row.reverse_path), details.from.as_deref()].into_iter().flatten() {
            parts(Field::From, &lower(from)).for_each(|mark| self.set(mark));
        }
        if let Some(subject) = &details.subject {
            parts(Field::Subject, &lower(subject)).for_each(|mark| self.set(mark));
        }
    }

    /// Adds what a recipient is compared by.
    pub(crate) fn add_recipient(&mut self, fate: Fate<'_>) {
        self.set(mark(Field::State, &[fate.state]));
        if let Some(route) = fate.route {
            self.set(mark(Field::Route, route.as_bytes()));
        }
        if let Some(rule) = fate.rule {
            self.set(mark(Field::Rule, rule.as_bytes()));
        }
        if let Some(why) = fate.why {
            parts(Field::Why, why).for_each(|mark| self.set(mark));
        }
    }
}

/// The marks without which nothing in a stretch can be meant.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// All of them.
    all: Vec<u16>,
    /// And one of these, or all of those.
    either: Option<(u16, Vec<u16>)>,
}

impl Needs {
    pub(crate) fn of(query: &SearchQuery) -> Self {
        let mut all = Vec::new();
        for (field, name) in
            [(Field::Sender, &query.sender), (Field::Stream, &query.stream), (Field::Route, &query.route)]
        {
            all.extend(name.as_ref().map(|name| mark(field, name.as_bytes())));
        }
        // What waits is leased and comes back without an event; all else is told by one.
        if let Some(state) = query.state.filter(|state| !matches!(state, State::Waiting | State::Leased)) {
            all.push(mark(Field::State, &[state as u8]));
        }
        for word in &query.subject {
            all.extend(parts(Field::Subject, &word.to_lowercase()));
        }
        all.extend(query.from.iter().flat_map(|from| parts(Field::From, &from.to_lowercase()).collect::<Vec<_>>()));
        all.sort_unstable();
        all.dedup();
        let either =
            query.reason.as_ref().map(|text| (mark(Field::Rule, text.as_bytes()), parts(Field::Why, text).collect()));
        Self { all, either }
    }

    /// Every stretch has what is needed.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.either.as_ref().is_none_or(|(_, those)| those.is_empty())
    }

    /// The marks that all have to be there.
    pub(crate) fn all(&self) -> Vec<i32> {
        self.all.iter().copied().map(i32::from).collect()
    }

    /// The mark that has to be there, if any, unless all of the others are.
    pub(crate) fn either(&self) -> (Option<i32>, Vec<i32>) {
        let those = self.either.iter().flat_map(|(_, those)| those.iter().copied().map(i32::from)).collect();
        (self.either.as_ref().map(|(this, _)| i32::from(*this)), those)
    }

    /// Whether a set, as it is stored, has them. One that is not understood has.
    pub(crate) fn are_met_by(&self, octets: &[u8]) -> bool {
        let has = |mark: &u16| octets.get(usize::from(*mark) / 8).is_none_or(|octet| octet & (1 << (mark % 8)) != 0);
        self.all.iter().all(has) && self.either.as_ref().is_none_or(|(this, those)| has(this) || those.iter().all(has))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(subject: &str, from: &str, fate: Fate<'_>) -> Marks {
        let details =
            MessageDetails { subject: Some(subject.into()), from: Some(from.into()), ..MessageDetails::default() };
        let row = Compared { sender: "app", stream: "news", reverse_path: "bounces@Shop.example", details: None };
        let mut marks = Marks::default();
        marks.add_message(&row, &details);
        marks.add_recipient(fate);
        marks
    }

    #[test]
    fn a_stretch_is_passed_over_only_where_nothing_can_be_meant() {
        let fate = Fate {
            state: State::Held as u8,
            route: Some("mx"),
            rule: Some("greylisted"),
            why: Some("stream off: news"),
        };
        let marks = marks("Grüße aus dem LADEN", "Ann <ann@one.example>", fate);
        let met = |query: SearchQuery| Needs::of(&query).are_met_by(marks.octets());
        let text = |text: &str| Some(text.to_owned());
        let subject = |word: &str| SearchQuery { subject: vec![word.into()], ..SearchQuery::default() };
        for word in ["grüße", "GRÜ", "laden", "ade", "aus dem", "", "x"] {
            assert!(met(subject(word)), "{word}");
        }
        for word in ["zebra", "ladenx", "dem aus"] {
            assert!(!met(subject(word)), "{word}");
        }
        for from in ["ann@one", "SHOP.example", "@one.example", "bounces"] {
            assert!(met(SearchQuery { from: text(from), ..SearchQuery::default() }), "{from}");
        }
        assert!(!met(SearchQuery { from: text("bob@"), ..SearchQuery::default() }));
        for reason in ["greylisted", "stream off", "st", "stream off: news"] {
            assert!(met(SearchQuery { reason: text(reason), ..SearchQuery::default() }), "{reason}");
        }
        for reason in ["greylist", "Stream off", "mailbox-full"] {
            assert!(!met(SearchQuery { reason: text(reason), ..SearchQuery::default() }), "{reason}");
        }
        let state = |state| SearchQuery { state: Some(state), ..SearchQuery::default() };
        assert!(met(state(State::Held)) && met(state(State::Waiting)) && met(state(State::Leased)));
        assert!(!met(state(State::Failed)));
        let lane = |route: &str, sender: &str, stream: &str| SearchQuery {
            route: text(route),
            sender: text(sender),
            stream: text(stream),
            ..SearchQuery::default()
        };
        assert!(met(lane("mx", "app", "news")));
        assert!(
            !met(lane("mx", "app", "other")) && !met(lane("mx", "other", "news")) && !met(lane("x", "app", "news"))
        );
    }

    #[test]
    fn a_set_that_is_not_understood_is_never_passed_over() {
        let query = SearchQuery { stream: Some("x".into()), ..SearchQuery::default() };
        assert!(Needs::of(&query).are_met_by(&[]) && !Needs::of(&query).are_met_by(Marks::default().octets()));
        assert!(Needs::of(&query).are_met_by(Marks::read(vec![1]).octets()));
        assert!(Needs::of(&SearchQuery::default()).is_empty());
    }

    #[test]
    fn marks_keep_their_numbers() {
        // They are stored: another number would make searches miss what is there.
        assert_eq!(mark(Field::Stream, b"news"), 42_999);
    }
}
