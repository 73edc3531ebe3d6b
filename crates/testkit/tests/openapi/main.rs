//! The document of the HTTP API, made from the sources: the router's lines, the handlers' signatures and words, and the
//! types as serde sees them. `BLESS=1` writes docs/openapi.json; without it a difference is an error.
//!
//! So a route that is added, a field that is renamed, a status that is new is in the document or fails here. What the
//! sources do not say stands in `exceptions.rs`.

#![expect(clippy::expect_used, unreachable_pub, reason = "test code: what cannot be read cannot be documented")]

mod exceptions;
mod routes;
mod schema;
mod source;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;

use serde_json::{Map, Value, json};

use routes::operations;
use schema::{Schemas, Way};
use source::{Sources, root};

const PROBLEM: &str = "crates/pillarbox/src/http/problem.rs";

fn document() -> Value {
    let sources = Sources::read();
    let mut schemas = Schemas { sources: &sources, named: BTreeMap::new(), files: HashMap::new() };
    let mut paths: Map<String, Value> = Map::new();
    let mut tags = BTreeSet::new();
    for operation in operations() {
        let described = operation.describe(&mut schemas);
        tags.insert(described["tags"][0].as_str().expect("a tag").to_owned());
        let entry = paths.entry(operation.path.clone()).or_insert_with(|| json!({}));
        entry[&operation.method] = described;
    }
    let problem = schemas.named(PROBLEM, "Problem", Way::Out);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Pillarbox",
            "version": "1",
            "summary": "Outbound mail that explains itself.",
            "description": "Errors are `application/problem+json` (RFC 9457) with a JSON Pointer to each wrong field. Lists have `items` and, if there is more, `next`: the cursor for the next page. Times are RFC 3339. Fields may be added; pass over those you do not know.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/api/v1" }],
        "security": [{ "key": [] }, { "session": [] }],
        "tags": tags.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": { "type": "http", "scheme": "bearer", "description": "An API key with a role (`pillarbox key add NAME --role ROLE`), or of a sender (`pillarbox sender key add NAME`)." },
                "session": { "type": "apiKey", "in": "cookie", "name": "__Host-pillarbox", "description": "The session of a user who has logged in at `/login`; named `pillarbox` without HTTPS. Changes need an `Origin` of this server." },
            },
            "responses": {
                "Problem": { "description": "It was not done.", "content": { "application/problem+json": { "schema": problem } } },
            },
            "schemas": schemas.named,
        },
    })
}

#[test]
fn the_document_says_what_the_sources_say() {
    let path = root().join("docs/openapi.json");
    let made = format!("{}\n", serde_json::to_string_pretty(&document()).expect("JSON"));
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, made).expect("written");
        return;
    }
    let kept = fs::read_to_string(&path).expect("docs/openapi.json");
    let first = made.lines().zip(kept.lines()).enumerate().find(|(_, (made, kept))| made != kept);
    assert!(
        made == kept,
        "docs/openapi.json is not what the sources say, at {first:?}: run BLESS=1 cargo test -p pillarbox-testkit --test openapi"
    );
}

#[test]
fn every_route_is_in_the_document_and_every_path_is_a_route() {
    let text = fs::read_to_string(root().join("docs/openapi.json")).expect("docs/openapi.json");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    let mut documented = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        documented.extend(methods.as_object().expect("methods").keys().map(|method| (path.clone(), method.clone())));
    }
    let routed: BTreeSet<(String, String)> =
        operations().into_iter().map(|operation| (operation.path, operation.method)).collect();
    assert!(routed.len() > 60, "the router's lines are found: {}", routed.len());
    assert_eq!(documented, routed);
}

#[test]
fn every_reference_leads_somewhere_and_every_name_is_used_once() {
    let text = fs::read_to_string(root().join("docs/openapi.json")).expect("docs/openapi.json");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    for reference in text.split("\"$ref\": \"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(document.pointer(reference).is_some_and(|found| !found.is_null()), "{reference}");
    }
    let operations = document["paths"].as_object().into_iter().flatten().flat_map(|(_, methods)| methods.as_object());
    let ids: Vec<&str> = operations.flatten().filter_map(|(_, one)| one["operationId"].as_str()).collect();
    assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len());
}
