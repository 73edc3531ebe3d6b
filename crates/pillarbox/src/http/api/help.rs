//! Help, made from the rules: reasons, providers, questions and answers, words. Rules of one's own are in it too.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use explain::{Page as Written, RuleBase};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::http::Shared;
use crate::http::auth::Caller;
use crate::http::etag::tagged;
use crate::http::json::Query;
use crate::http::problem::Problem;
use crate::http::views::Page;

/// Most words of a search.
const MOST_WORDS: usize = 10;
/// Characters around a find.
const AROUND: usize = 90;

/// A page of the help.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TopicOut {
    /// Its name: `relay_denied`, `microsoft`, `faq`.
    pub topic: String,
    /// `reason`, `provider` or `help`.
    pub kind: String,
    /// Its title.
    pub title: String,
    /// Where the words of a search stand in it; without a search absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// Its text, Markdown (CommonMark with tables); not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub markdown: Option<String>,
}

/// A page and its text in small letters.
struct Topic {
    topic: String,
    kind: &'static str,
    title: String,
    markdown: String,
    small: String,
}

type Topics = Arc<Vec<Topic>>;

/// The pages of the rules that were asked last: they are the same until the rules change.
static KEPT: Mutex<Option<(Arc<RuleBase>, Topics)>> = Mutex::new(None);

fn topics(rules: &Arc<RuleBase>) -> Topics {
    let mut kept = KEPT.lock();
    match &*kept {
        Some((of, topics)) if Arc::ptr_eq(of, rules) => topics.clone(),
        _ => {
            let made = Arc::new(made(rules));
            *kept = Some((rules.clone(), made.clone()));
            made
        }
    }
}

fn made(rules: &RuleBase) -> Vec<Topic> {
    let topic = |page: Written| {
        let (directory, file) = page.path.rsplit_once('/').unwrap_or(("help", &page.path));
        let name = file.strip_suffix(".md").unwrap_or(file);
        let (topic, kind) = match (directory, name) {
            ("help", "README") => return None,
            (index, "README") => (index, "help"),
            ("reasons", name) => (name, "reason"),
            ("providers", name) => (name, "provider"),
            (_, name) => (name, "help"),
        };
        let (title, rest) = page.text.trim_start_matches("# ").split_once('\n')?;
        // What is said of the file it is kept in is of no use here.
        let text = rest.rsplit_once("\n---\n").map_or(rest, |(text, _)| text).trim().to_owned();
        let small = text.to_lowercase();
        Some(Topic { topic: topic.to_owned(), kind, title: title.to_owned(), markdown: text, small })
    };
    rules.manual().into_iter().filter_map(topic).collect()
}

/// What to look for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Search {
    /// Words that all have to be in a page; a text of an error may be given as it is.
    q: Option<String>,
    /// Only pages of this kind: `reason`, `provider` or `help`.
    kind: Option<String>,
}

/// Pages of the help by name, or those with some words, the best first.
pub async fn list(State(app): State<Shared>, _: Caller, Query(query): Query<Search>) -> axum::Json<Page<TopicOut>> {
    let topics = topics(&app.rules());
    let text = query.q.unwrap_or_default().to_lowercase();
    let words: Vec<&str> = text.split_whitespace().take(MOST_WORDS).collect();
    let of_kind = topics.iter().filter(|topic| query.kind.as_deref().is_none_or(|kind| kind == topic.kind));
    let mut found: Vec<(usize, TopicOut)> =
        of_kind.filter_map(|topic| Some((score(topic, &words)?, shown(topic, &words)))).collect();
    // The same score: in the order of the manual.
    found.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    axum::Json(Page { items: found.into_iter().map(|(_, topic)| topic).collect(), next: None })
}

/// `None`: a word is missing.
fn score(topic: &Topic, words: &[&str]) -> Option<usize> {
    let title = topic.title.to_lowercase();
    words.iter().try_fold(0, |sum, word| {
        let (named, titled, times) =
            (topic.topic.contains(word), title.contains(word), topic.small.matches(word).count());
        (named || titled || times > 0).then(|| sum + usize::from(named) * 50 + usize::from(titled) * 50 + times.min(20))
    })
}

fn shown(topic: &Topic, words: &[&str]) -> TopicOut {
    let at = words.iter().filter_map(|word| topic.small.find(word)).min();
    let found = (!words.is_empty()).then(|| excerpt(&topic.small, at.unwrap_or(0)));
    let (name, title) = (topic.topic.clone(), topic.title.clone());
    TopicOut { topic: name, kind: topic.kind.into(), title, found, markdown: None }
}

/// The words around a place, without the marks of Markdown.
fn excerpt(text: &str, at: usize) -> String {
    let near = |mut place: usize| {
        while !text.is_char_boundary(place) {
            place -= 1;
        }
        place
    };
    let (from, to) = (near(at.saturating_sub(AROUND)), near((at + 2 * AROUND).min(text.len())));
    let plain: String = text[from..to].chars().map(|c| if "|#`*\\<>".contains(c) { ' ' } else { c }).collect();
    let words = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{}{words}{}", if from > 0 { "… " } else { "" }, if to < text.len() { " …" } else { "" })
}

/// One page of the help, with its text.
pub async fn show(
    State(app): State<Shared>,
    _: Caller,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let topics = topics(&app.rules());
    let topic = topics.iter().find(|topic| topic.topic == name).ok_or_else(Problem::not_found)?;
    let out = TopicOut { markdown: Some(topic.markdown.clone()), ..shown(topic, &[]) };
    Ok(tagged(&headers, "application/json", serde_json::to_vec(&out).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_of_the_manual_has_a_name_of_its_own() {
        let topics = topics(&RuleBase::shared());
        let names: std::collections::BTreeSet<&str> = topics.iter().map(|topic| &*topic.topic).collect();
        assert_eq!(names.len(), topics.len());
        assert!(topics.len() > 100 && names.contains("faq") && names.contains("reasons"), "{names:?}");
        assert!(topics.iter().all(|topic| !topic.title.is_empty() && !topic.markdown.contains("Do not edit")));
    }

    #[test]
    fn words_in_a_title_come_first_and_a_missing_word_excludes() {
        let topics = topics(&RuleBase::shared());
        let best = |words: &[&str]| {
            let scored = topics.iter().filter_map(|topic| Some((score(topic, words)?, &*topic.topic)));
            scored.max_by_key(|(score, _)| *score).map(|(_, name)| name)
        };
        assert_eq!(best(&["relay_denied"]), Some("relay_denied"));
        assert_eq!(best(&["greylisted"]), Some("greylisted"));
        assert_eq!(best(&["xyzzy", "relay"]), None);
    }
}
