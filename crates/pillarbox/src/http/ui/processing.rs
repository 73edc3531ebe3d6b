//! What the processing center adds to answers of the API: which part of the queue is looked at and how much of it is shown,
//! what keeps all of it back, and the preview of what an operator is about to do.

use axum::http::Method;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::door::Door;
use super::page::{Looked, segment};
use super::template::encoded;
use crate::http::api::queue::{MOST_GROUPS, MOST_OLDEST};
use crate::http::problem::Problem;

/// Conditions on recipients, as the API's queue has them.
const FILTERS: [&str; 8] = ["recipient", "domain", "route", "sender", "stream", "state", "cause", "message"];
/// Views of the queue: by what, in the query and in words.
const VIEWS: [(&str, &str); 6] = [
    ("route", "Route"),
    ("domain", "Destination"),
    ("sender", "Sender"),
    ("stream", "Stream"),
    ("cause", "Cause"),
    ("recipients", "Recipients"),
];
/// Groups that are shown unless somebody asks for more.
const SHOWN: usize = 100;
/// Operations, and what they do, in words.
const OPERATIONS: [(&str, &str, &str); 4] = [
    ("retry", "Retry now", "They are tried at once, whatever their next attempt was. Age and number of attempts stay."),
    ("hold", "Hold", "They are not tried until somebody releases them. Their time goes on: they can still expire."),
    ("release", "Release", "Held ones wait again and are tried at once."),
    ("cancel", "Cancel", "They are never sent. This cannot be undone, and nobody is told of it by mail."),
];

/// The conditions of a look at a page.
fn filters(looked: &Looked) -> Vec<(String, String)> {
    let one = |name: &&str| looked.asked(name).map(|value| ((*name).to_owned(), value.to_owned()));
    FILTERS.iter().filter_map(one).collect()
}

/// How many groups somebody wants to see.
fn groups_wanted(looked: &Looked) -> usize {
    let asked: Option<usize> = looked.asked("limit").and_then(|limit| limit.parse().ok());
    asked.unwrap_or(SHOWN).clamp(1, MOST_GROUPS as usize)
}

/// Leaves the first groups, and says how many there are.
fn cut(rows: &mut Value, wanted: usize) -> Value {
    let Some(items) = rows.get_mut("items").and_then(Value::as_array_mut) else { return Value::Null };
    let all = items.len();
    items.truncate(wanted);
    // Further than that nobody has counted.
    let more = all >= MOST_GROUPS as usize;
    json!({ "all": all, "shown": items.len(), "more": more, "most": MOST_GROUPS, "looked_up": MOST_OLDEST })
}

/// The queue by something, or its recipients.
pub fn center<'a>(
    looked: &'a Looked,
    door: &'a Door,
    data: &'a mut Map<String, Value>,
) -> BoxFuture<'a, Result<(), Problem>> {
    Box::pin(async move {
        let filters = filters(looked);
        let wanted = looked.asked("by").filter(|by| VIEWS.iter().any(|(name, _)| name == by));
        let by = wanted.unwrap_or(if filters.is_empty() { "route" } else { "recipients" });
        let mut rows = match by {
            "cause" => door.get(&format!("/queue/causes?oldest=true&limit={MOST_GROUPS}")).await?,
            "recipients" => {
                let mut asked = filters.clone();
                asked.extend(looked.asked("after").map(|after| ("after".into(), after.into())));
                door.get(&format!("/queue?{}", encoded(&asked))).await?
            }
            by => door.get(&format!("/queue/counts?by={by}&oldest=true&limit={MOST_GROUPS}")).await?,
        };
        let routes = match by {
            "route" => rows.clone(),
            _ => door.get(&format!("/queue/counts?by=route&limit={MOST_GROUPS}")).await?,
        };
        let sum = |name: &str| -> u64 {
            let items = routes["items"].as_array().into_iter().flatten();
            items.filter_map(|one| one[name].as_u64()).sum()
        };
        data.insert("totals".into(), json!({ "pending": sum("pending"), "held": sum("held") }));
        if by != "recipients" {
            data.insert("groups".into(), cut(&mut rows, groups_wanted(looked)));
        }
        data.insert("by".into(), by.into());
        data.insert("views".into(), json!(VIEWS));
        data.insert("operations".into(), json!(OPERATIONS));
        data.insert("rows".into(), rows);
        data.insert("filtered".into(), encoded(&filters).into());
        // Where the queue is going is worth showing, but not worth failing for.
        if let Ok(series) = door.get("/series?over=hour").await {
            data.insert("trend".into(), series["trend"].clone());
        }
        data.insert("paused".into(), door.get("/jobs/claims").await?["paused"].take());
        if let Some(stalled) = stalled(door).await? {
            data.insert("stalled".into(), stalled);
        }
        Ok(())
    })
}

/// The incident of a queue that stands still, with its steps.
async fn stalled(door: &Door) -> Result<Option<Value>, Problem> {
    let open = door.get("/incidents?open=true&reason=queue_stalled&limit=1").await?;
    match open["items"][0]["id"].as_str() {
        Some(id) => door.get(&format!("/incidents/{}", segment(id))).await.map(Some),
        None => Ok(None),
    }
}

/// How many it would be, before it is done.
pub fn confirm<'a>(
    looked: &'a Looked,
    door: &'a Door,
    data: &'a mut Map<String, Value>,
) -> BoxFuture<'a, Result<(), Problem>> {
    Box::pin(async move {
        let asked = looked.asked("op").unwrap_or("retry");
        let Some(&(name, words, meaning)) = OPERATIONS.iter().find(|(name, ..)| *name == asked) else {
            return Err(Problem::not_found());
        };
        data.insert("operation".into(), json!({ "name": name, "words": words, "meaning": meaning }));
        let ids: Vec<&str> = looked.query.iter().filter(|(name, _)| name == "id").map(|(_, id)| id.as_str()).collect();
        let filters = filters(looked);
        let all = looked.asked("all") == Some("true");
        // What was selected one by one is meant; the conditions only say from which list.
        let (body, hidden) = match (ids.is_empty(), filters.is_empty()) {
            (false, _) => {
                let hidden: Vec<(String, String)> = ids.iter().map(|id| ("ids".into(), (*id).to_owned())).collect();
                (json!({ "ids": ids, "dry_run": true }), hidden)
            }
            (true, false) => {
                let selector: Map<String, Value> =
                    filters.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
                let named = |(name, value): &(String, String)| (format!("selector.{name}"), value.clone());
                (json!({ "selector": selector, "dry_run": true }), filters.iter().map(named).collect())
            }
            (true, true) if all => (
                json!({ "selector": { "all": true }, "dry_run": true }),
                vec![("selector.all".to_owned(), "true".to_owned())],
            ),
            (true, true) => (Value::Null, Vec::new()),
        };
        if !body.is_null() {
            let preview = door.send(Method::POST, &format!("/queue/{name}"), Some(body)).await?;
            data.insert("preview".into(), preview);
        }
        data.insert("hidden".into(), json!(hidden));
        data.insert("filters".into(), json!(if ids.is_empty() { filters.clone() } else { Vec::new() }));
        data.insert("again".into(), encoded(&looked.query).into());
        let back = match (looked.asked("from"), filters.is_empty()) {
            (Some(cause), _) => format!("/admin/processing-center/causes/{}", segment(cause)),
            (None, true) if !ids.is_empty() => "/admin/processing-center?by=recipients".to_owned(),
            (None, true) => "/admin/processing-center".to_owned(),
            (None, false) => format!("/admin/processing-center?{}", encoded(&filters)),
        };
        data.insert("back".into(), back.into());
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_groups_are_shown_as_are_asked_for_and_all_are_counted() {
        for (query, groups, shown, more) in [
            ("", 437, 100, false),
            ("", 3, 3, false),
            ("limit=1000", 437, 437, false),
            ("limit=0", 3, 1, false),
            ("limit=many", 437, 100, false),
            ("limit=9999999", 1_000, 1_000, true),
            ("by=domain", 1_000, 100, true),
        ] {
            let mut rows = json!({ "items": vec![json!({ "group": "x" }); groups], "next": null });
            let told = cut(&mut rows, groups_wanted(&Looked::at(Vec::new(), query)));
            assert_eq!(rows["items"].as_array().unwrap().len(), shown, "{query} {groups}");
            assert_eq!((&told["all"], &told["shown"]), (&json!(groups), &json!(shown)), "{query}");
            assert_eq!(told["more"], json!(more), "{query} {groups}");
        }
    }
}
