//! What set-up pages need beyond single answers of the API: how each route is.

use futures_util::future::{BoxFuture, join_all};
use serde_json::{Map, Value, json};

use super::door::Door;
use super::page::{Looked, segment};
use crate::http::problem::Problem;

/// Most routes whose state is asked for.
const MOST: usize = 100;

/// Adds `states` to a page that has asked for `routes`: by name, the status and how many findings its settings have.
pub fn route_states<'a>(
    _: &'a Looked,
    door: &'a Door,
    data: &'a mut Map<String, Value>,
) -> BoxFuture<'a, Result<(), Problem>> {
    Box::pin(async move {
        let items = data.get("routes").and_then(|routes| routes["items"].as_array()).cloned().unwrap_or_default();
        let names = items.iter().filter_map(|route| route["name"].as_str()).take(MOST).map(str::to_owned);
        let state = |name: String| async move {
            let path = format!("/routes/{}", segment(&name));
            let status = door.get(&format!("{path}/status")).await.unwrap_or_default();
            let audit = door.get(&format!("{path}/audit")).await.unwrap_or_default();
            let bad = audit["items"].as_array().into_iter().flatten().filter(|one| one["severity"] != "note").count();
            (name, json!({ "status": status, "findings": bad }))
        };
        let states: Map<String, Value> = join_all(names.map(state)).await.into_iter().collect();
        data.insert("states".into(), states.into());
        Ok(())
    })
}
