//! What the pages about messages ask, beyond the table: their questions depend on what was typed.

use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::door::Door;
use super::page::Looked;
use super::template::encoded;
use crate::http::problem::Problem;

/// Conditions of a search that have fields of their own.
const CONDITIONS: [&str; 12] = [
    "recipient",
    "domain",
    "from",
    "subject",
    "message_id",
    "state",
    "reason",
    "route",
    "stream",
    "sender",
    "since",
    "until",
];

type Asked<'a> = BoxFuture<'a, Result<(), Problem>>;

/// Searches for what was typed; without conditions the latest messages.
pub fn logging<'a>(looked: &'a Looked, door: &'a Door, data: &'a mut Map<String, Value>) -> Asked<'a> {
    Box::pin(async move {
        let mut pairs: Vec<(String, String)> = vec![("limit".into(), "50".into())];
        for name in ["q", "before"].iter().chain(&CONDITIONS) {
            if let Some(value) = looked.asked(name).map(str::trim).filter(|value| !value.is_empty()) {
                let value = if matches!(*name, "since" | "until") { utc(value) } else { value.to_owned() };
                pairs.push(((*name).to_owned(), value));
            }
        }
        let narrowed = CONDITIONS.iter().any(|name| looked.asked(name).is_some());
        data.insert("narrowed".into(), narrowed.into());
        data.insert("searched".into(), (narrowed || looked.asked("q").is_some()).into());
        answer(door, &format!("/messages?{}", encoded(&pairs)), "found", data).await
    })
}

/// Looks for the address that was typed.
pub fn why<'a>(looked: &'a Looked, door: &'a Door, data: &'a mut Map<String, Value>) -> Asked<'a> {
    Box::pin(async move {
        let Some(address) = looked.asked("address") else { return Ok(()) };
        let mut pairs = vec![("address".to_owned(), address.to_owned())];
        pairs.extend(looked.asked("stream").map(|stream| ("stream".to_owned(), stream.to_owned())));
        answer(door, &format!("/why?{}", encoded(&pairs)), "why", data).await
    })
}

/// A question that was typed wrongly is told on the page, with the fields as they were.
async fn answer(door: &Door, path: &str, name: &str, data: &mut Map<String, Value>) -> Result<(), Problem> {
    match door.get(path).await {
        Ok(found) => drop(data.insert(name.to_owned(), found)),
        Err(problem) if matches!(problem.status, 400 | 422) => drop(data.insert("refused".into(), json!(problem))),
        Err(problem) => return Err(problem),
    }
    Ok(())
}

/// A field for date and time gives them without an offset; the page says that they are UTC.
fn utc(value: &str) -> String {
    match value.len() {
        16 => format!("{value}:00Z"),
        19 => format!("{value}Z"),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_field_for_time_gives_is_utc() {
        assert_eq!(utc("2026-11-21T09:00"), "2026-11-21T09:00:00Z");
        assert_eq!(utc("2026-11-21T09:00:30"), "2026-11-21T09:00:30Z");
        assert_eq!(utc("2026-11-21T09:00:00+01:00"), "2026-11-21T09:00:00+01:00");
    }
}
