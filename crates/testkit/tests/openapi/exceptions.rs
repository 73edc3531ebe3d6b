//! What the sources do not say by themselves: bodies that are merged from several things, answers that are no JSON,
//! and the shape of texts.

use serde_json::{Value, json};

use crate::schema::{Schemas, Way};

/// A body that its handler reads by hand.
pub enum Body {
    /// The fields of a record, and more.
    Merged(&'static str, Value),
    /// A merge patch of a record.
    Patch(&'static str, Value),
    /// This.
    Schema(Value),
    /// By media type.
    Content(fn(&mut Schemas<'_>, &str) -> Value),
}

fn text(description: &str) -> Value {
    json!({ "type": "string", "description": description })
}

/// What is secret about a route or a mailbox.
fn secrets() -> Value {
    let all = [
        ("password", "SMTP or IMAP password."),
        ("client_secret", "OAuth client secret."),
        ("refresh_token", "OAuth refresh token."),
        ("certificate", "Certificate of the OAuth client, PEM; comes with `private_key`."),
        ("private_key", "Its key, PEM."),
    ];
    let mut properties: serde_json::Map<String, Value> = all
        .map(|(name, description)| (name.to_owned(), json!({ "type": ["string", "null"], "description": description })))
        .into_iter()
        .collect();
    properties.insert(
        "service_account".into(),
        json!({ "type": "object", "description": "The JSON file that Google gives for a service account." }),
    );
    properties.into()
}

fn named(mut properties: Value, name: &str) -> Value {
    properties["name"] = text(name);
    json!({ "properties": properties, "required": ["name"] })
}

/// Bodies by handler.
pub fn body(handler: &str) -> Option<Body> {
    let plain = |properties: Value| json!({ "properties": properties });
    Some(match handler {
        "senders::add" => Body::Merged(
            "SenderRecord",
            named(
                json!({
                    "password_hash": null, "api_keys": null, "password": text("SMTP password, at least 10 characters."),
                    "make": { "type": "string", "enum": ["none", "password", "key", "both"], "description": "Secrets to make; they are in the answer, once." },
                }),
                "Name, also the SMTP user name.",
            ),
        ),
        "senders::change" => Body::Patch("SenderRecord", plain(json!({ "password_hash": null, "api_keys": null }))),
        "routes::add" => Body::Merged("RouteRecord", named(secrets(), "Name.")),
        "routes::change" => Body::Patch("RouteRecord", plain(secrets())),
        "mailboxes::add" => Body::Merged("MailboxRecord", named(secrets(), "Name.")),
        "mailboxes::change" => Body::Patch("MailboxRecord", plain(secrets())),
        "sign_in::rotate" => {
            Body::Schema(json!({ "type": "object", "properties": secrets(), "description": "At least one secret." }))
        }
        "domains::change" => Body::Schema(json!({
            "type": "object",
            "properties": {
                "subdomains": { "type": ["boolean", "null"], "description": "Sign mail of subdomains too." },
                "leave_out": { "type": ["array", "null"], "items": { "type": "string" }, "description": "Header fields that are not signed." },
            },
            "additionalProperties": false,
        })),
        "webhooks::add" => Body::Merged(
            "WebhookRecord",
            named(
                json!({
                    "secret": text("A signing secret that the application has already: `whsec_` and 24 to 64 octets in base64. Without it one is made."),
                    "since": { "type": "string", "format": "date-time", "description": "Begin with what happened since this moment." },
                }),
                "Name.",
            ),
        ),
        "webhooks::change" => Body::Patch("WebhookRecord", plain(json!({}))),
        "inlets::add" => Body::Merged(
            "InletRecord",
            named(
                json!({ "secret": text("What the provider proves itself with; which kind needs one, the manual says.") }),
                "Name.",
            ),
        ),
        "inlets::change" => Body::Patch("InletRecord", plain(json!({ "secret": text("As in POST.") }))),
        "streams::add" => {
            let properties = json!({
                "name": text("Name; without one it is that of the preset."),
                "preset": text("What to begin with: `GET /stream-presets`."),
            });
            Body::Merged("StreamRecord", plain(properties))
        }
        "streams::change" => Body::Patch("StreamRecord", plain(json!({}))),
        "scheduled::add" => Body::Merged("CheckRecord", named(json!({}), "Name.")),
        "scheduled::change" => Body::Patch("CheckRecord", plain(json!({}))),
        "alert_channels::add" => Body::Merged(
            "ChannelRecord",
            named(
                json!({ "secret": text("What only the channel knows: the manual says which kind has one.") }),
                "Name.",
            ),
        ),
        "alert_channels::change" => {
            Body::Patch("ChannelRecord", plain(json!({ "secret": text("Replaces what is secret.") })))
        }
        "alerts::change_rule" => Body::Patch("RuleSetting", plain(json!({}))),
        "batches::submit" => Body::Content(|schemas, _| {
            // For tools that cannot write lines; the lines themselves are described in words.
            let _ = schemas.named("crates/pillarbox/src/batch/input.rs", "BatchIn", Way::In);
            json!({ "application/x-ndjson": { "schema": {
                "type": "string",
                "description": "JSON objects, one on each line: the first one is a `BatchIn`, each other one a row: `email` and the fields of the template.",
            } } })
        }),
        "suppressions::import" => Body::Content(
            |_, _| json!({ "text/csv": { "schema": { "type": "string", "description": "A table with a line of heads; `address` is the one that is needed." } } }),
        ),
        "messages::submit" => Body::Content(|schemas, file| {
            json!({
                "application/json": { "schema": schemas.named(file, "MessageIn", Way::In) },
                "message/rfc822": { "schema": { "type": "string", "description": "A finished message; its envelope is in the query." } },
            })
        }),
        _ => return None,
    })
}

/// Answers that are no JSON, or not made by the handler itself.
pub fn answer(handler: &str, schemas: &mut Schemas<'_>, file: &str) -> Option<Value> {
    let mut json_of = |path: &str| json!({ "application/json": { "schema": schemas.named(file, path, Way::Out) } });
    Some(match handler {
        "messages::submit" => json_of("Submitted"),
        "checks::run" => {
            json!({ "application/json": { "schema": { "type": "object", "description": "A report, as docs/schemas/check.json says." } } })
        }
        "route_document::show" => json!({ "text/markdown": { "schema": { "type": "string" } } }),
        "captured::raw" | "bounces::raw" => {
            json!({ "message/rfc822": { "schema": { "type": "string", "contentMediaType": "message/rfc822" } } })
        }
        "batches::submit" => json_of("BatchOut"),
        "suppressions::list" => {
            let [list, changes] = ["Page<SuppressionOut>", "Changes"].map(|name| schemas.named(file, name, Way::Out));
            json!({ "application/json": { "schema": { "anyOf": [list, changes] } } })
        }
        "live_events::watch" => {
            let event = schemas.named(file, "LiveEventOut", Way::Out);
            json!({ "text/event-stream": { "schema": { "type": "string", "description": "Server-sent events; the name of each is its kind, its data a `LiveEventOut`." , "contentMediaType": "application/json", "contentSchema": event } } })
        }
        "support::bundle" => {
            json!({ "application/zip": { "schema": { "type": "string", "contentMediaType": "application/zip" } } })
        }
        "suppressions::export" => json!({ "text/csv": { "schema": { "type": "string" } } }),
        "help::show" => json_of("TopicOut"),
        "explain::explain" => {
            json!({ "application/json": { "schema": { "type": "object", "description": "What `pillarbox explain --json` says: `findings` and `no_finding` of replies and logs, `items` and `causes` of mails." } } })
        }
        "dossier::export" => {
            json!({ "application/json": { "schema": { "type": "object", "description": "The dossier with its addresses masked, without content." } } })
        }
        "openapi::show" => json!({ "application/json": { "schema": { "type": "object" } } }),
        _ => return None,
    })
}

/// Statuses that come from elsewhere than the handler's file.
pub fn statuses(handler: &str) -> &'static [u16] {
    match handler {
        "messages::submit" => &[403, 409, 413, 415, 422],
        "routes::remove" | "routes::add" | "routes::change" => &[409, 422],
        "streams::pause" | "streams::resume" => &[422],
        "jobs::run" | "jobs::pause" | "jobs::resume" | "jobs::restart" | "scheduled::run" => &[404, 409, 422],
        _ => &[],
    }
}

/// Header fields that a handler reads.
pub fn headers(handler: &str) -> Vec<Value> {
    match handler {
        "messages::submit" => vec![json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "A request with the same key and body is answered as the first one was, for 24 hours; with another body: 409.",
            "schema": { "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$" },
        })],
        "openapi::show" | "help::show" | "captured::raw" => vec![json!({
            "name": "If-None-Match", "in": "header", "required": false,
            "description": "The `ETag` of an earlier answer: 304 without content while it is still the same.",
            "schema": { "type": "string" },
        })],
        _ => Vec::new(),
    }
}

/// Queries that a handler reads by hand.
pub fn query(handler: &str) -> Option<Value> {
    Some(match handler {
        "messages::submit" => json!({ "properties": {
            "from": text("Envelope sender of a `message/rfc822` body."),
            "to": { "type": "array", "items": { "type": "string" }, "description": "Its recipients; may be repeated." },
        } }),
        _ => return None,
    })
}

/// Path parameters that take more than any text.
pub fn parameter(path: &str, name: &str) -> Option<Value> {
    Some(match (path, name) {
        ("/queue/{operation}", "operation") => {
            json!({ "type": "string", "enum": ["retry", "hold", "release", "cancel"] })
        }
        ("/batches/{id}/{wish}", "wish") => json!({ "type": "string", "enum": ["pause", "resume", "cancel"] }),
        _ => return None,
    })
}

/// Types that serde reads and writes in a way of their own.
pub fn schema(name: &str) -> Option<Value> {
    let many = json!({ "type": "array", "items": { "type": "string" } });
    Some(match name {
        "Mailboxes" => json!({
            "oneOf": [{ "type": "string" }, many, { "type": "null" }],
            "description": "`user@example.com`, `Display Name <user@example.com>`, or a list of them.",
        }),
        "Values" => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        "Time" => json!({ "type": "string", "format": "date-time", "description": "RFC 3339." }),
        _ => return None,
    })
}

/// Fields that are written in a way of their own: by file and name.
pub fn field(_file: &str, _name: &str) -> Option<Value> {
    None
}

/// Types that are written as a record with more fields in the same object.
pub fn merged(name: &str) -> Option<(&'static str, Value)> {
    let common = json!({ "name": text("Name."), "updated": text("Last change, RFC 3339.") });
    Some(match name {
        "RouteOut" => {
            let mut properties = common;
            properties["has_password"] = json!({ "type": "boolean", "description": "It has a password." });
            properties["secrets"] =
                json!({ "type": "array", "items": { "type": "string" }, "description": "Names of its secrets." });
            ("RouteRecord", json!({ "properties": properties, "required": ["name", "updated"] }))
        }
        "RuleOut" => ("RuleRecord", json!({ "properties": common, "required": ["name", "updated"] })),
        _ => return None,
    })
}
