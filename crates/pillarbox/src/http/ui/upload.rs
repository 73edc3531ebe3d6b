//! Files that a page takes: a table of suppressions, a batch. They go on to the API as they are.
//!
//! A form has the file in `file`, or the same pasted in `text`; other fields are parameters of the API. `_back` is the page to
//! show again when it went wrong.

use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Multipart, Path, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::CookieJar;

use super::action::{self, Fields};
use super::page::{self, Ui};
use super::{done, template};
use crate::http::RequestId;
use crate::http::auth::{Caller, SENDER_HEADER};
use crate::http::problem::Problem;

/// Largest file, octets. Longer ones go by the API, which reads them as they come.
pub const LARGEST: usize = 16 << 20;
/// Largest field besides it, octets.
const LARGEST_FIELD: usize = 4 << 10;
/// Most fields.
const MOST_FIELDS: usize = 20;
/// Rows that a check of a batch shows.
const SHOWN: &str = "3";

/// What came: fields, and the content.
#[derive(Debug, Default)]
struct Came {
    fields: Fields,
    content: Bytes,
}

impl Came {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().rfind(|(other, value)| other == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }
    fn query(&self, names: &[&str]) -> String {
        let named = |(name, value): &&(String, String)| names.contains(&name.as_str()) && !value.is_empty();
        template::encoded(&self.fields.iter().filter(named).cloned().collect::<Vec<_>>())
    }
}

/// Takes a file for `/admin/upload/suppressions` or `/admin/upload/batches`.
pub async fn take(
    Extension(ui): Extension<Arc<Ui>>,
    Extension(id): Extension<RequestId>,
    Path(what): Path<String>,
    jar: CookieJar,
    caller: Caller,
    form: Multipart,
) -> Response {
    let door = ui.inside.door(caller, Some(id));
    let came = match read(form).await {
        Ok(came) => came,
        Err(problem) => return page::failed(&ui, &door.caller, problem),
    };
    let back = came.field("_back").map(str::to_owned);
    let request = match &*what {
        _ if came.content.is_empty() => Err(Problem::field("/file", "choose a file, or paste its content")),
        "suppressions" => suppressions(&came),
        "batches" => batch(&came),
        _ => return page::failed(&ui, &door.caller, Problem::not_found()),
    };
    let answer = match request {
        Ok(request) => door.ask(request).await,
        Err(problem) => Err(problem),
    };
    let tried = came.field("dry_run") == Some("true");
    match answer {
        Ok(answer) if what == "suppressions" => {
            action::shown(&ui, &door.caller, "suppressions-imported.html", answer, came.fields)
        }
        Ok(answer) if tried => action::shown(&ui, &door.caller, "batch-checked.html", answer, came.fields),
        Ok(answer) => {
            let id = answer.get("id").and_then(|id| id.as_str()).unwrap_or_default();
            let next = format!("/admin/batches/{}", page::segment(id));
            (jar.add(done::cookie("The batch was taken.")), Redirect::to(&next)).into_response()
        }
        Err(problem) => action::again(&ui, &door, back.as_deref(), came.fields, problem).await,
    }
}

async fn read(mut form: Multipart) -> Result<Came, Problem> {
    let mut came = Came::default();
    let (mut file, mut text) = (Bytes::new(), Bytes::new());
    while let Some(part) = form.next_field().await.map_err(broken)? {
        let name = part.name().unwrap_or_default().to_owned();
        let octets = part.bytes().await.map_err(broken)?;
        match &*name {
            "file" | "text" if octets.len() > LARGEST => return Err(too_large()),
            "file" => file = octets,
            "text" => text = octets,
            _ if octets.len() > LARGEST_FIELD || came.fields.len() == MOST_FIELDS => return Err(too_large()),
            _ => came.fields.push((name, String::from_utf8_lossy(&octets).into_owned())),
        }
    }
    // What was pasted is shown again where something is wrong with it; a browser never fills in a file again.
    if text.len() <= LARGEST_FIELD * 16 {
        came.fields.push(("text".into(), String::from_utf8_lossy(&text).into_owned()));
    }
    came.content = if file.is_empty() { text } else { file };
    Ok(came)
}

fn broken(error: axum::extract::multipart::MultipartError) -> Problem {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        status => Problem::new(status, "the form could not be read: send it again"),
    }
}

fn too_large() -> Problem {
    let detail = format!(
        "the file is larger than {} MiB: send it by the API, or with the command line, which takes it in parts",
        LARGEST >> 20
    );
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

fn suppressions(came: &Came) -> Result<Request, Problem> {
    let query = came.query(&["scope", "reason", "existing", "dry_run"]);
    let uri = format!("/api/v1/suppressions/import?{query}");
    let request = Request::post(uri).header(header::CONTENT_TYPE, "text/csv");
    request.body(Body::from(came.content.clone())).map_err(|_| Problem::not_found())
}

fn batch(came: &Came) -> Result<Request, Problem> {
    let Some(sender) = came.field("sender") else {
        return Err(Problem::field("/sender", "choose the sender that it is sent as"));
    };
    let uri = match came.field("dry_run") {
        Some("true") => format!("/api/v1/batches?dry_run=true&show={SHOWN}"),
        _ => "/api/v1/batches".to_owned(),
    };
    let mut request = Request::post(uri)
        .header(header::CONTENT_TYPE, "application/x-ndjson")
        .header(header::CONTENT_LENGTH, came.content.len())
        .header(SENDER_HEADER, sender);
    // The same form sent twice is one batch.
    if let Some(key) = came.field("key").filter(|_| came.field("dry_run") != Some("true")) {
        request = request.header("idempotency-key", key);
    }
    request.body(Body::from(came.content.clone())).map_err(|_| Problem::not_found())
}
