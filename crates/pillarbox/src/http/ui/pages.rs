//! All pages: path, template, and what each asks of the API.

use super::mail;
use super::page::{Ask, Looked, Page};
use super::{conversation, overview, people, processing, setup};
use crate::http::auth::Caller;

/// Where the document of the API is shown.
pub const VIEWER: &str = "/api/docs";

/// The table.
pub const PAGES: &[Page] = &[
    // Operations.
    Page::new(
        "/admin/overview",
        "overview.html",
        &[
            Ask::new("status", "/status"),
            Ask::new("counts", "/queue/counts?by=route"),
            Ask::new("routes", "/routes").may(),
            Ask::new("alerts", "/alerts?limit=50").may(),
            Ask::new("failing", "/scheduled-checks?level=problem").may(),
        ],
    )
    .more(overview::add),
    Page::new("/admin/overview/causes", "overview-causes.html", &[Ask::new("patterns", "/patterns").pass(&["days"])])
        .more(overview::days),
    Page::new(
        "/admin/incidents",
        "incidents.html",
        &[
            Ask::new("found", "/incidents").pass(&["open", "scope", "reason", "before"]),
            Ask::new("status", "/status").may(),
        ],
    )
    .more(overview::open_first),
    Page::new("/admin/incidents/{id}", "incident.html", &[Ask::new("found", "/incidents/{id}")]),
    Page::new("/admin/jobs", "jobs.html", &[Ask::new("jobs", "/jobs").pass(&["group"])]),
    Page::new("/admin/jobs/{name}", "job.html", &[Ask::new("job", "/jobs/{name}")]),
    Page::new("/admin/nodes", "nodes.html", &[Ask::new("nodes", "/nodes")]),
    Page::new("/admin/checks", "checks.html", &[Ask::new("checks", "/scheduled-checks").pass(&["kind", "level"])]),
    Page::new("/admin/checks/add", "check-add.html", &[]),
    Page::new(
        "/admin/checks/{name}",
        "check.html",
        &[
            Ask::new("check", "/scheduled-checks/{name}"),
            Ask::new("history", "/scheduled-checks/{name}/results").pass(&["after"]),
        ],
    ),
    Page::new(
        "/admin/checks/dns-journal",
        "checks-journal.html",
        &[Ask::new("journal", "/dns-journal").pass(&["domain", "before"])],
    ),
    Page::new(
        "/admin/checks/dns-journal/{domain}",
        "checks-journal-domain.html",
        &[Ask::new("state", "/dns-journal/{domain}")],
    ),
    Page::new(
        "/admin/checks/blocklists",
        "checks-blocklists.html",
        &[Ask::new("lists", "/blocklists"), Ask::new("checks", "/scheduled-checks?kind=lists").may()],
    ),
    Page::new(
        "/admin/checks/arrivals",
        "checks-arrivals.html",
        &[
            Ask::new("arrivals", "/arrivals").pass(&["before", "state"]),
            Ask::new("routes", "/routes").may(),
            Ask::new("mailboxes", "/mailboxes").may(),
        ],
    ),
    Page::new("/admin/checks/arrivals/{id}", "checks-arrival.html", &[Ask::new("one", "/arrivals/{id}")]),
    Page::new("/admin/checks/configuration", "checks-configuration.html", &[Ask::new("audit", "/config-audit")]),
    Page::new("/admin/alerts", "alerts.html", &[Ask::new("alerts", "/alerts").pass(&["all", "before", "since"])]),
    Page::new("/admin/alerts/{id}", "alert.html", &[Ask::new("one", "/alerts/{id}")]),
    Page::new("/admin/alerts/channels", "alert-channels.html", &[Ask::new("channels", "/alert-channels")]),
    Page::new("/admin/alerts/channels/add", "alert-channel-add.html", &[]),
    Page::new("/admin/alerts/channels/{name}", "alert-channel.html", &[Ask::new("one", "/alert-channels/{name}")]),
    Page::new("/admin/alerts/rules", "alert-rules.html", &[Ask::new("rules", "/alert-rules")]),
    Page::new("/admin/alerts/rules/{name}", "alert-rule.html", &[Ask::new("rule", "/alert-rules/{name}")]),
    Page::new("/admin/processing-center", "processing-center.html", &[Ask::new("status", "/status")])
        .more(processing::center)
        .needs(&[("GET", "/queue"), ("GET", "/queue/counts")]),
    Page::new("/admin/processing-center/confirm", "processing-confirm.html", &[])
        .more(processing::confirm)
        .needs(&[("POST", "/queue/{operation}")]),
    Page::new(
        "/admin/processing-center/causes/{rule}",
        "processing-cause.html",
        &[Ask::new("found", "/queue/causes/{rule}")],
    ),
    Page::new("/admin/captured", "captured.html", &[Ask::new("mails", "/captured").pass(&["before"])]),
    Page::new("/admin/captured/{id}", "captured-mail.html", &[Ask::new("mail", "/captured/{id}")]),
    // Whom not to send to.
    Page::new(
        "/admin/suppressions",
        "suppressions.html",
        &[
            Ask::new("suppressions", "/suppressions").pass(&["search", "domain", "scope", "reason", "after", "limit"]),
            Ask::new("streams", "/streams").may(),
        ],
    ),
    Page::new("/admin/suppressions/import", "suppressions-import.html", &[Ask::new("streams", "/streams").may()]),
    Page::new(
        "/admin/suppressions/{address}",
        "suppression.html",
        &[Ask::new("one", "/suppressions/{address}"), Ask::new("preferences", "/preferences/{address}").may()],
    ),
    // Many messages.
    Page::new(
        "/admin/batches",
        "batches.html",
        &[Ask::new("batches", "/batches").pass(&["sender", "before", "limit"]), Ask::new("senders", "/senders").may()],
    ),
    Page::new("/admin/batches/new", "batch-new.html", &[Ask::new("senders", "/senders").may()]),
    Page::new(
        "/admin/batches/{id}",
        "batch.html",
        &[
            Ask::new("batch", "/batches/{id}"),
            Ask::new("rows", "/batches/{id}/rows").pass(&["state", "after", "limit"]),
        ],
    ),
    // Whom to tell, and who tells us.
    Page::new("/admin/webhooks", "webhooks.html", &[Ask::new("hooks", "/webhooks")]),
    Page::new(
        "/admin/webhooks/{name}",
        "webhook.html",
        &[
            Ask::new("hook", "/webhooks/{name}"),
            Ask::new("deliveries", "/webhooks/{name}/deliveries").pass(&["failed", "after", "limit"]),
        ],
    ),
    Page::new("/admin/returned", "returned.html", &[Ask::new("mails", "/bounces").pass(&["list", "before", "limit"])]),
    Page::new("/admin/returned/mailboxes", "mailboxes.html", &[Ask::new("boxes", "/mailboxes")]),
    Page::new("/admin/returned/mailboxes/{name}", "mailbox.html", &[Ask::new("box", "/mailboxes/{name}")]),
    Page::new("/admin/returned/providers", "provider-events.html", &[Ask::new("inlets", "/provider-events")]),
    Page::new(
        "/admin/returned/providers/{name}",
        "provider-event.html",
        &[Ask::new("inlet", "/provider-events/{name}")],
    ),
    // The server, and what helps.
    Page::new(
        "/admin/settings",
        "settings.html",
        &[Ask::new("status", "/status"), Ask::new("settings", "/settings"), Ask::new("log", "/log-level")],
    ),
    Page::new("/admin/settings/identity", "identity.html", &[Ask::new("providers", "/identity-providers")]),
    Page::new("/admin/settings/identity/{name}", "identity-one.html", &[Ask::new("one", "/identity-providers/{name}")]),
    Page::new("/admin/help", "help.html", &[Ask::new("topics", "/help").pass(&["q", "kind"])]),
    Page::new("/admin/help/{topic}", "help-topic.html", &[Ask::new("one", "/help/{topic}")]),
    Page::new("/admin/support", "support.html", &[]),
    Page::new(VIEWER, "api-docs.html", &[]),
    // Who may do what, and who did.
    Page::new("/admin/users", "users.html", &[Ask::new("users", "/users")]),
    Page::new(
        "/admin/users/{name}",
        "user.html",
        &[Ask::new("one", "/users/{name}"), Ask::new("sessions", "/sessions?user={name}")],
    ),
    Page::new("/admin/sessions", "sessions.html", &[Ask::new("sessions", "/sessions").pass(&["user"])]),
    Page::new("/admin/keys", "keys.html", &[Ask::new("keys", "/keys")]).more(people::scopes),
    Page::new("/admin/keys/{name}", "key.html", &[Ask::new("key", "/keys/{name}")]).more(people::scopes),
    Page::new("/admin/account", "account.html", &[Ask::new("me", "/me"), Ask::new("sessions", "/me/sessions").may()]),
    Page::new(
        "/admin/audit",
        "audit.html",
        &[Ask::new("acts", "/audit").pass(&["who", "what", "action", "since", "until", "before", "limit"])],
    ),
    // Set-up.
    Page::new(
        "/admin/smtp-test",
        "smtp-test.html",
        &[
            Ask::new("routes", "/routes"),
            Ask::new("tests", "/smtp-tests").pass(&["before"]),
            Ask::new("arrivals", "/arrivals?limit=5").may(),
        ],
    ),
    Page::new(
        "/admin/smtp-test/{id}",
        "smtp-test-one.html",
        &[
            Ask::new("one", "/smtp-tests/{id}"),
            Ask::new("compared", "/smtp-tests/{id}/comparison").pass(&["with"]).may(),
            Ask::new("tests", "/smtp-tests?limit=25"),
            Ask::new("nodes", "/nodes"),
        ],
    )
    .more(conversation::of_test),
    Page::new(
        "/admin/start",
        "start.html",
        &[
            Ask::new("status", "/status"),
            Ask::new("routes", "/routes"),
            Ask::new("rules", "/rules"),
            Ask::new("senders", "/senders"),
            Ask::new("tests", "/smtp-tests?limit=25"),
            Ask::new("arrivals", "/arrivals?limit=5").may(),
        ],
    ),
    Page::new("/admin/routes", "routes.html", &[Ask::new("routes", "/routes"), Ask::new("rules", "/rules")])
        .more(setup::route_states),
    Page::new(
        "/admin/routes/new",
        "route-new.html",
        &[Ask::new("presets", "/providers"), Ask::new("routes", "/routes")],
    ),
    Page::new(
        "/admin/routes/{name}",
        "route.html",
        &[
            Ask::new("route", "/routes/{name}"),
            Ask::new("status", "/routes/{name}/status"),
            Ask::new("audit", "/routes/{name}/audit"),
            Ask::new("routes", "/routes"),
            Ask::new("rules", "/rules"),
        ],
    ),
    Page::new(
        "/admin/routes/{name}/login/{id}",
        "route-login.html",
        &[Ask::new("progress", "/routes/{name}/login/{id}").may(), Ask::new("route", "/routes/{name}")],
    ),
    Page::new("/admin/domains", "domains.html", &[Ask::new("domains", "/domains?limit=100").pass(&["after"])]),
    Page::new(
        "/admin/domains/{name}",
        "domain.html",
        &[
            Ask::new("domain", "/domains/{name}"),
            Ask::new("checks", "/scheduled-checks").may(),
            Ask::new("journal", "/dns-journal/{name}").may(),
        ],
    ),
    Page::new(
        "/admin/streams",
        "streams.html",
        &[Ask::new("streams", "/streams?limit=100").pass(&["after"]), Ask::new("presets", "/stream-presets")],
    ),
    Page::new(
        "/admin/streams/{name}",
        "stream.html",
        &[Ask::new("stream", "/streams/{name}"), Ask::new("rules", "/rules")],
    ),
    Page::new("/admin/senders", "senders.html", &[Ask::new("senders", "/senders?limit=100").pass(&["after"])]),
    Page::new("/admin/senders/{name}", "sender.html", &[Ask::new("sender", "/senders/{name}")]),
    // Messages: searching, one with all that is known of it, and those that did not arrive.
    Page::new(
        "/admin/logging",
        "logging.html",
        &[
            Ask::new("routes", "/routes").may(),
            Ask::new("streams", "/streams").may(),
            Ask::new("senders", "/senders").may(),
        ],
    )
    .more(mail::logging)
    .needs(&[("GET", "/messages")]),
    Page::new("/admin/messages/{id}", "dossier.html", &[Ask::new("dossier", "/messages/{id}/dossier")]),
    Page::new("/admin/why", "why.html", &[Ask::new("streams", "/streams").may()])
        .more(mail::why)
        .needs(&[("GET", "/why")]),
];

/// The page at a path of this server, with its parts and its query.
pub fn find(at: &str) -> Option<(&'static Page, Looked)> {
    let (path, query) = at.split_once('?').unwrap_or((at, ""));
    let segments: Vec<&str> = path.split('/').collect();
    let parts = |page: &Page| {
        let wanted: Vec<&str> = page.path.split('/').collect();
        let mut parts = Vec::new();
        for (want, has) in wanted.iter().zip(&segments) {
            match want.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                Some(name) => parts.push((name.to_owned(), percent_decoded(has)?)),
                None if want == has => {}
                None => return None,
            }
        }
        (wanted.len() == segments.len()).then_some(parts)
    };
    // A word is before a name.
    let found = PAGES.iter().filter_map(|page| Some((page, parts(page)?)));
    let (page, parts) = found.min_by_key(|(_, parts)| parts.len())?;
    Some((page, Looked::at(parts, query)))
}

/// Whether a link leads them somewhere: to a page that they may see, or to what is no page.
pub fn leads(caller: &Caller, to: &str) -> bool {
    find(to).is_none_or(|(page, _)| page.is_for(caller))
}

fn percent_decoded(text: &str) -> Option<String> {
    percent_encoding::percent_decode_str(text).decode_utf8().ok().map(|text| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::ui::{schema, template};

    #[test]
    fn every_page_has_its_template_and_asks_what_the_api_has() {
        for page in PAGES {
            assert!(template::pages().get_template(page.template).is_ok(), "{}", page.template);
            for path in page.asks() {
                let path = path.replace(['{', '}'], "");
                assert!(schema::pattern(&axum::http::Method::GET, &path).is_some(), "{}: {path}", page.path);
            }
        }
    }

    #[test]
    fn a_page_is_found_by_its_path() {
        let (page, looked) = find("/admin/captured/a%2Fb?x=1").unwrap();
        assert_eq!(
            (page.template, looked.part("id"), looked.asked("x")),
            ("captured-mail.html", Some("a/b"), Some("1"))
        );
        assert!(find("/admin/nothing").is_none() && find("https://evil.example/").is_none());
    }
}
