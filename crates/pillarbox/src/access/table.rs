//! Who may do what: one line for each operation of the API. `docs/manual/roles.md` shows the same table.
//!
//! An operation that has no line here is for administrators only, and a test fails until it has one.

use super::role::Role::{self, Administrator, Operator, Viewer};

/// The least that somebody has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Least {
    /// This role.
    Role(Role),
    /// This role for everything, or any sender's key for what is the sender's own.
    Sender(Role),
    /// Whoever has signed in, whatever for.
    Anyone,
    /// Only the control socket.
    Local,
}

/// Method, path below `/api/v1` as the router has it, and who may.
pub type Line = (&'static str, &'static str, Least);

const V: Least = Least::Role(Viewer);
const O: Least = Least::Role(Operator);
const A: Least = Least::Role(Administrator);

/// The table.
pub const TABLE: &[Line] = &[
    // Mail.
    ("POST", "/messages", Least::Sender(Operator)),
    ("GET", "/messages", Least::Sender(Viewer)),
    ("GET", "/messages/{id}", Least::Sender(Viewer)),
    ("GET", "/messages/{id}/events", Least::Sender(Viewer)),
    ("GET", "/events/live", Least::Sender(Viewer)),
    ("GET", "/messages/{id}/dossier", Least::Sender(Viewer)),
    ("GET", "/messages/{id}/export", Least::Sender(Viewer)),
    ("GET", "/why", V),
    ("GET", "/batches", Least::Sender(Viewer)),
    ("POST", "/batches", Least::Sender(Operator)),
    ("GET", "/batches/{id}", Least::Sender(Viewer)),
    ("GET", "/batches/{id}/rows", Least::Sender(Viewer)),
    ("POST", "/batches/{id}/{wish}", Least::Sender(Operator)),
    ("GET", "/captured", V),
    ("GET", "/captured/{id}", O),
    ("GET", "/captured/{id}/raw", O),
    ("GET", "/bounces", V),
    ("DELETE", "/bounces", O),
    ("DELETE", "/bounces/{id}", O),
    ("GET", "/bounces/{id}/raw", O),
    // The queue.
    ("GET", "/queue", V),
    ("GET", "/queue/counts", V),
    ("GET", "/queue/causes", V),
    ("GET", "/queue/causes/{rule}", V),
    ("POST", "/queue/{operation}", O),
    ("GET", "/failures", V),
    ("GET", "/plan", V),
    ("GET", "/rates", V),
    ("GET", "/series", V),
    ("GET", "/status", V),
    ("GET", "/volume", V),
    ("GET", "/failed-sign-ins", O),
    // Whom not to send to, and what people want.
    ("GET", "/suppressions", V),
    ("POST", "/suppressions", O),
    ("POST", "/suppressions/remove", O),
    ("POST", "/suppressions/import", O),
    ("GET", "/suppressions/export", O),
    ("GET", "/suppressions/{address}", V),
    ("DELETE", "/suppressions/{address}", O),
    ("GET", "/preferences/{address}", V),
    ("PATCH", "/preferences/{address}", O),
    // Diagnosis.
    ("POST", "/checks", O),
    ("GET", "/smtp-tests", V),
    ("POST", "/smtp-tests", O),
    ("POST", "/smtp-tests/import", O),
    ("GET", "/smtp-tests/{id}", V),
    ("GET", "/smtp-tests/{id}/comparison", V),
    ("POST", "/smtp-tests/{id}/repeat", O),
    ("POST", "/domains/{name}/check", O),
    ("GET", "/tls-reports", V),
    ("POST", "/tls-reports/{domain}/send", O),
    // Streams: an operator stops and starts them, an administrator says what they are.
    ("GET", "/streams", V),
    ("POST", "/streams", A),
    ("GET", "/streams/{name}", V),
    ("PATCH", "/streams/{name}", A),
    ("DELETE", "/streams/{name}", A),
    ("POST", "/streams/{name}/pause", O),
    ("POST", "/streams/{name}/resume", O),
    ("GET", "/stream-presets", V),
    // Settings.
    ("GET", "/senders", V),
    ("POST", "/senders", A),
    ("GET", "/senders/{name}", V),
    ("PATCH", "/senders/{name}", A),
    ("DELETE", "/senders/{name}", A),
    ("PUT", "/senders/{name}/password", A),
    ("DELETE", "/senders/{name}/password", A),
    ("POST", "/senders/{name}/keys", A),
    ("DELETE", "/senders/{name}/keys/{prefix}", A),
    ("POST", "/senders/{name}/pause", O),
    ("POST", "/senders/{name}/resume", O),
    ("GET", "/routes", V),
    ("POST", "/routes", A),
    ("GET", "/routes/{name}", V),
    ("PATCH", "/routes/{name}", A),
    ("DELETE", "/routes/{name}", A),
    ("POST", "/routes/{name}/login", A),
    ("GET", "/routes/{name}/login/{id}", A),
    ("POST", "/routes/{name}/rotate", A),
    ("GET", "/routes/{name}/audit", V),
    ("GET", "/routes/{name}/document", V),
    ("GET", "/routes/{name}/status", V),
    ("GET", "/providers", V),
    ("GET", "/providers/{name}", V),
    ("GET", "/rules", V),
    ("GET", "/rules/{name}", V),
    ("PUT", "/rules/{name}", A),
    ("DELETE", "/rules/{name}", A),
    ("GET", "/domains", V),
    ("POST", "/domains", A),
    ("GET", "/domains/{name}", V),
    ("PATCH", "/domains/{name}", A),
    ("DELETE", "/domains/{name}", A),
    ("POST", "/domains/{name}/activate", A),
    ("POST", "/domains/{name}/rotate", A),
    ("DELETE", "/domains/{name}/keys/{selector}", A),
    ("GET", "/webhooks", V),
    ("POST", "/webhooks", A),
    ("GET", "/webhooks/{name}", V),
    ("PATCH", "/webhooks/{name}", A),
    ("DELETE", "/webhooks/{name}", A),
    ("POST", "/webhooks/{name}/test", O),
    ("POST", "/webhooks/{name}/replay", O),
    ("POST", "/webhooks/{name}/resume", O),
    ("GET", "/webhooks/{name}/deliveries", V),
    ("POST", "/webhooks/{name}/rotate-secret", A),
    ("GET", "/provider-events", V),
    ("POST", "/provider-events", A),
    ("GET", "/provider-events/{name}", V),
    ("PATCH", "/provider-events/{name}", A),
    ("DELETE", "/provider-events/{name}", A),
    ("GET", "/mailboxes", V),
    ("POST", "/mailboxes", A),
    ("GET", "/mailboxes/{name}", V),
    ("PATCH", "/mailboxes/{name}", A),
    ("DELETE", "/mailboxes/{name}", A),
    // What is worth telling, and what runs by itself: an operator acts, an administrator says what there is.
    ("GET", "/alerts", V),
    ("GET", "/alerts/{id}", V),
    ("POST", "/alerts/{id}/ack", O),
    ("POST", "/alerts/{id}/close", O),
    ("GET", "/weekly-report", V),
    ("GET", "/alert-rules", V),
    ("GET", "/alert-rules/{name}", V),
    ("PATCH", "/alert-rules/{name}", A),
    ("DELETE", "/alert-rules/{name}", A),
    ("GET", "/alert-channels", V),
    ("POST", "/alert-channels", A),
    ("GET", "/alert-channels/{name}", V),
    ("PATCH", "/alert-channels/{name}", A),
    ("DELETE", "/alert-channels/{name}", A),
    ("POST", "/alert-channels/{name}/test", O),
    ("GET", "/incidents", V),
    ("GET", "/incidents/{id}", V),
    ("POST", "/incidents/{id}/acknowledge", O),
    ("POST", "/incidents/{id}/snooze", O),
    ("POST", "/incidents/{id}/close", O),
    ("POST", "/incidents/{id}/notes", O),
    ("POST", "/incidents/{id}/probe", O),
    ("GET", "/patterns", V),
    ("GET", "/config-audit", V),
    ("GET", "/jobs", V),
    ("GET", "/jobs/{name}", V),
    ("POST", "/jobs/{name}/run", O),
    ("POST", "/jobs/{name}/pause", O),
    ("POST", "/jobs/{name}/resume", O),
    ("POST", "/jobs/{name}/restart", O),
    ("GET", "/nodes", V),
    ("GET", "/nodes/{name}", V),
    ("POST", "/nodes/{name}/drain", O),
    ("POST", "/nodes/{name}/undrain", O),
    ("GET", "/scheduled-checks", V),
    ("POST", "/scheduled-checks", A),
    ("GET", "/scheduled-checks/{name}", V),
    ("PATCH", "/scheduled-checks/{name}", A),
    ("DELETE", "/scheduled-checks/{name}", A),
    ("GET", "/scheduled-checks/{name}/results", V),
    ("POST", "/scheduled-checks/{name}/run", O),
    ("GET", "/dns-journal", V),
    ("GET", "/dns-journal/{domain}", V),
    ("GET", "/blocklists", V),
    ("POST", "/blocklists/ask", O),
    ("GET", "/arrivals", V),
    ("POST", "/arrivals", O),
    ("GET", "/arrivals/{id}", V),
    ("POST", "/arrivals/confirm", O),
    // Access.
    ("GET", "/audit", O),
    ("GET", "/users", A),
    ("POST", "/users", A),
    ("GET", "/users/{name}", A),
    ("PATCH", "/users/{name}", A),
    ("DELETE", "/users/{name}", A),
    ("PUT", "/users/{name}/password", A),
    ("POST", "/users/{name}/totp", A),
    ("PUT", "/users/{name}/totp", A),
    ("DELETE", "/users/{name}/totp", A),
    ("GET", "/sessions", A),
    ("DELETE", "/sessions", A),
    ("DELETE", "/sessions/{id}", A),
    ("GET", "/keys", A),
    ("POST", "/keys", A),
    ("GET", "/keys/{name}", A),
    ("PATCH", "/keys/{name}", A),
    ("DELETE", "/keys/{name}", A),
    ("GET", "/identity-providers", A),
    ("GET", "/identity-providers/{name}", A),
    ("PUT", "/identity-providers/{name}", A),
    ("DELETE", "/identity-providers/{name}", A),
    // One's own account: only users have one.
    ("GET", "/me", Least::Anyone),
    ("PUT", "/me/password", Least::Anyone),
    ("POST", "/me/totp", Least::Anyone),
    ("PUT", "/me/totp", Least::Anyone),
    ("DELETE", "/me/totp", Least::Anyone),
    ("GET", "/me/sessions", Least::Anyone),
    ("DELETE", "/me/sessions/{id}", Least::Anyone),
    // The server.
    ("GET", "/openapi.json", Least::Anyone),
    ("GET", "/help", Least::Anyone),
    ("GET", "/help/{topic}", Least::Anyone),
    ("POST", "/explain", Least::Anyone),
    ("GET", "/settings", O),
    ("GET", "/support-bundle", A),
    ("GET", "/health", V),
    ("GET", "/metrics", V),
    ("GET", "/log-level", V),
    ("PUT", "/log-level", A),
    ("POST", "/reload", A),
    ("POST", "/backup", Least::Local),
    ("POST", "/verify", Least::Local),
    ("POST", "/login-tokens", Least::Local),
];

/// Who may do this; without a line: administrators.
pub fn least(method: &str, pattern: &str) -> Least {
    let method = if method == "HEAD" { "GET" } else { method };
    let line = TABLE.iter().find(|(verb, path, _)| *verb == method && *path == pattern);
    line.map_or(A, |(_, _, least)| *least)
}

/// The parts of scopes before the colon.
pub fn resources() -> Vec<&'static str> {
    let mut all: Vec<&str> =
        TABLE.iter().filter_map(|(_, path, _)| path.trim_start_matches('/').split('/').next()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The operations as the router's source has them: `.route("/path", get(…).post(…))`.
    fn routed() -> BTreeSet<(String, String)> {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/api");
        let sources: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
            .collect();
        let mut found = BTreeSet::new();
        for piece in sources.iter().flat_map(|source| source.split(".route(").skip(1)) {
            let piece = piece.split(".merge(").next().unwrap_or_default();
            let piece: String = piece.split_whitespace().collect();
            let path = piece.split('"').nth(1).unwrap_or_default().to_owned();
            let rest = piece.split_once("\",").map_or("", |(_, rest)| rest);
            // One call ends before the next begins; what is between are the methods.
            for (word, method) in
                [("get(", "GET"), ("post(", "POST"), ("put(", "PUT"), ("patch(", "PATCH"), ("delete(", "DELETE")]
            {
                if rest.starts_with(word) || rest.contains(&format!(").{word}")) {
                    found.insert((method.to_owned(), path.clone()));
                }
            }
        }
        found
    }

    #[test]
    fn every_operation_has_a_line_and_every_line_is_an_operation() {
        let routed = routed();
        assert!(routed.len() > 90, "the router's lines are found: {}", routed.len());
        let table: BTreeSet<(String, String)> =
            TABLE.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned())).collect();
        assert_eq!(table.len(), TABLE.len(), "a line stands twice in TABLE");
        let missing: Vec<_> = routed.difference(&table).collect();
        assert!(
            missing.is_empty(),
            "nobody said who may do this: add a line for each to TABLE in crates/pillarbox/src/access/table.rs \
             (V viewer, O operator, A administrator): {missing:?}"
        );
        let gone: Vec<_> = table.difference(&routed).collect();
        assert!(
            gone.is_empty(),
            "TABLE in crates/pillarbox/src/access/table.rs has lines without an operation: {gone:?}"
        );
    }

    #[test]
    fn the_manual_shows_the_table_as_it_is() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/manual/roles.md");
        let mut page = String::from(
            "# Roles\n\nWho may do what by the HTTP API: the least role, for each operation below `/api/v1`. \"or its sender\": a sender's \
             API key may too, for what is the sender's own. The control socket may do everything. See access.md.\n\n\
             Written by a test from the table that the server asks (`BLESS=1 cargo test -p pillarbox the_manual_shows`).\n\n\
             | method | path | who |\n| --- | --- | --- |\n",
        );
        for (method, path, least) in TABLE {
            let who = match least {
                Least::Role(role) => role.name().to_owned(),
                Least::Sender(role) => format!("{}, or its sender", role.name()),
                Least::Anyone => "anyone".to_owned(),
                Least::Local => "control socket".to_owned(),
            };
            page.push_str(&format!("| {method} | `{path}` | {who} |\n"));
        }
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), page, "BLESS=1 writes docs/manual/roles.md");
    }

    #[test]
    fn what_nobody_spoke_of_is_for_administrators() {
        assert_eq!(least("POST", "/new"), Least::Role(Administrator));
        assert_eq!(least("HEAD", "/queue"), Least::Role(Viewer));
    }

    #[test]
    fn no_viewer_changes_anything() {
        for (method, path, least) in TABLE {
            let viewer = matches!(least, Least::Role(Viewer) | Least::Sender(Viewer));
            assert!(!viewer || *method == "GET", "{method} {path}");
        }
    }

    #[test]
    fn no_viewer_reads_the_text_of_mail() {
        // Links that set a new password are in it; the dossier withholds it too.
        for path in ["/captured/{id}", "/captured/{id}/raw", "/bounces/{id}/raw"] {
            assert_eq!(least("GET", path), Least::Role(Operator), "{path}");
        }
    }
}
