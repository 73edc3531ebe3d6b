//! Who changed what, and when: every change of settings and every wish of an operator, over HTTP and the control socket.
//!
//! There is one place for each: `http::api::settings` writes documents, and [`watch`] stands around every request that
//! changes something. An entry is written after the change: if the process dies in between, the change is there and its
//! entry is not. Secrets never get in: see [`diff`].

pub mod diff;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use net::Clock;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::settings::{Kind, SecretChange};
use store::{RecordKind, RecordWrite, Store};

use crate::http::auth::Caller;
use crate::http::{RequestId, Shared};
use diff::Change;

/// Who did it, where nobody asked: the program by itself.
pub const ITSELF: &str = "Pillarbox";
/// Requests that change nothing of ours, or are told of elsewhere: mail has events, checks have results.
const NOT_NOTED: &[&str] = &[
    "/messages",
    "/batches",
    "/checks",
    "/domains/{name}/check",
    "/verify",
    "/login-tokens",
    "/webhooks/{name}/test",
    "/explain",
];

/// Who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Who {
    /// `user ann`, `API key of app`, `control socket`, or [`ITSELF`].
    pub name: String,
    /// From where.
    pub address: Option<IpAddr>,
    /// The request, as the log names it.
    pub request: Option<String>,
}

impl Who {
    /// The program by itself.
    pub fn itself() -> Self {
        Self { name: ITSELF.into(), ..Self::default() }
    }
}

/// What is kept of one act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Who did it.
    pub who: String,
    /// From where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The request, as the log names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// `add`, `change`, `remove`, or the operation: `hold`, `rotate`, `pause`, …
    pub action: String,
    /// Fields of settings that changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Value>,
}

/// The request that is being answered.
struct Asked {
    who: Who,
    noted: AtomicBool,
    detail: Mutex<Option<Value>>,
}

tokio::task_local! {
    static ASKED: Asked;
}

/// Who asks for what is being done now.
pub fn who() -> Who {
    ASKED.try_with(|asked| asked.who.clone()).unwrap_or_else(|_| Who::itself())
}

/// Does this in the name of somebody who is not known by a request: a user who signs in for the first time.
pub async fn asking<T>(who: Who, work: impl Future<Output = T>) -> T {
    ASKED.scope(Asked { who, noted: AtomicBool::new(false), detail: Mutex::new(None) }, work).await
}

/// Adds what is worth knowing to the entry of this request: how many, which ones.
pub fn tell(detail: Value) {
    let _ = ASKED.try_with(|asked| *asked.detail.lock() = Some(diff::shown(&detail)));
}

/// This request changes nothing, although others like it do: a preview.
pub fn nothing() {
    let _ = ASKED.try_with(|asked| asked.noted.store(true, Ordering::Relaxed));
}

/// The log.
#[derive(Clone)]
pub struct Audit {
    store: Arc<dyn Store>,
    clock: Clock,
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit").finish_non_exhaustive()
    }
}

impl Audit {
    /// In this store.
    pub fn new(store: Arc<dyn Store>, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// Notes an act on `what` (`route/o365`, `queue`).
    pub async fn note(&self, who: Who, action: &str, what: &str, detail: Option<Value>) {
        self.write(who, action, what, Vec::new(), detail).await;
    }

    /// Notes a change of a document. Nothing is noted if nothing differs.
    pub async fn document(
        &self,
        kind: Kind,
        name: &str,
        before: Option<&Value>,
        after: Option<&Value>,
        secret: &SecretChange,
    ) {
        let mut changes = diff::changes(before, after);
        if !matches!(secret, SecretChange::Keep) {
            changes.push(Change::of_secret("/secret"));
        }
        let action = match (before, after) {
            (None, _) => "add",
            (Some(_), Some(_)) => "change",
            (Some(_), None) => "remove",
        };
        let _ = ASKED.try_with(|asked| asked.noted.store(true, Ordering::Relaxed));
        if changes.is_empty() && action == "change" {
            return;
        }
        let detail = ASKED.try_with(|asked| asked.detail.lock().take()).ok().flatten();
        self.write(who(), action, &format!("{}/{name}", kind_name(kind)), changes, detail).await;
    }

    async fn write(&self, who: Who, action: &str, what: &str, changes: Vec<Change>, detail: Option<Value>) {
        let entry = Entry {
            who: who.name,
            address: who.address,
            request: who.request,
            action: action.to_owned(),
            changes,
            detail: detail.as_ref().map(diff::shown),
        };
        let Ok(body) = serde_json::to_value(&entry) else { return };
        let add = RecordWrite::Add {
            kind: RecordKind::Audit,
            name: what.chars().take(200).collect(),
            open: false,
            at_ms: self.clock.now_ms(),
            body,
        };
        // What was done is done: that it could not be noted is worth a line, and no refusal.
        if let Err(error) = self.store.write_records(vec![add]).await {
            tracing::error!(%error, who = %entry.who, action, what, "an act could not be noted in the audit log");
        }
    }
}

/// A kind's name, as it stands in entries.
fn kind_name(kind: Kind) -> String {
    serde_json::to_value(kind).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Stands around the requests of the API: those that changed something and noted nothing themselves are noted here.
pub async fn watch(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let id = request.extensions().get::<RequestId>().map(|id| id.0.clone());
    let who = match request.extensions().get::<Caller>() {
        Some(caller) => Who { name: caller.who(), address: caller.address(), request: id },
        None => Who { name: "nobody".into(), address: None, request: id },
    };
    let act = (!request.method().is_safe()).then(|| act(&request)).flatten();
    let asked = Asked { who: who.clone(), noted: AtomicBool::new(false), detail: Mutex::new(None) };
    ASKED
        .scope(asked, async move {
            let response = next.run(request).await;
            let noted = ASKED.with(|asked| asked.noted.load(Ordering::Relaxed));
            if let Some((action, what)) = act.filter(|_| response.status().is_success() && !noted) {
                let detail = ASKED.with(|asked| asked.detail.lock().take());
                app.audit.note(who, &action, &what, detail).await;
            }
            response
        })
        .await
}

/// What a request is called: its last word if that is an operation, else what its method does.
fn act(request: &Request) -> Option<(String, String)> {
    let pattern = request.extensions().get::<MatchedPath>()?.as_str().strip_prefix("/api/v1")?.to_owned();
    let path = request.uri().path();
    let path = path.strip_prefix("/api/v1").unwrap_or(path).trim_start_matches('/');
    if NOT_NOTED.contains(&pattern.as_str()) {
        return None;
    }
    let (action, what) = named(request.method().as_str(), &pattern, path);
    Some((action, singular(&what)))
}

/// One thing is called the same whether its settings changed or something was done with it: `streams/news` is `stream/news`.
fn singular(what: &str) -> String {
    const NAMES: &[(&str, &str)] =
        &[("batches", "batch"), ("mailboxes", "mailbox"), ("provider-events", "inlet"), ("preferences", "preferences")];
    let (kind, rest) = what.split_once('/').map_or((what, None), |(kind, rest)| (kind, Some(rest)));
    let known = NAMES.iter().find(|(many, _)| *many == kind).map(|(_, one)| *one);
    let one = known.unwrap_or_else(|| kind.strip_suffix('s').filter(|one| !one.ends_with('s')).unwrap_or(kind));
    rest.map_or_else(|| one.to_owned(), |rest| format!("{one}/{rest}"))
}

fn named(method: &str, pattern: &str, path: &str) -> (String, String) {
    let last = pattern.rsplit('/').next().unwrap_or_default();
    let deep = pattern.trim_start_matches('/').contains('/');
    let operation = method == "POST" && (!last.starts_with('{') || matches!(last, "{operation}" | "{wish}"));
    if matches!(pattern, "/reload" | "/backup") {
        return (path.to_owned(), "server".to_owned());
    }
    match path.rsplit_once('/') {
        Some((rest, word)) if deep && operation => (word.to_owned(), rest.to_owned()),
        _ => {
            let action = match method {
                "DELETE" => "remove",
                "POST" => "add",
                _ => "change",
            };
            (action.to_owned(), path.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_act_is_called_by_its_operation_or_by_its_method() {
        for (method, pattern, path, action, what) in [
            ("POST", "/queue/{operation}", "queue/cancel", "cancel", "queue"),
            ("POST", "/streams/{name}/pause", "streams/news/pause", "pause", "streams/news"),
            ("POST", "/suppressions", "suppressions", "add", "suppressions"),
            ("DELETE", "/suppressions/{address}", "suppressions/a@b.example", "remove", "suppressions/a@b.example"),
            ("PATCH", "/preferences/{address}", "preferences/a@b.example", "change", "preferences/a@b.example"),
            ("POST", "/batches/{id}/{wish}", "batches/b1/pause", "pause", "batches/b1"),
            ("POST", "/reload", "reload", "reload", "server"),
        ] {
            let found = named(method, pattern, path);
            assert_eq!((found.0.as_str(), found.1.as_str()), (action, what), "{pattern}");
        }
        for (many, one) in [("streams/news", "stream/news"), ("queue", "queue"), ("mailboxes/m", "mailbox/m")] {
            assert_eq!(singular(many), one);
        }
    }
}
