//! The API, version 1. One file for each kind of thing.

pub mod admin;
pub mod alert_channels;
pub mod alerts;
pub mod arrivals;
pub mod audit;
pub mod batches;
pub mod blocklists;
pub mod bounces;
pub mod captured;
pub mod checks;
pub mod compose;
pub mod config_audit;
pub mod configured;
pub mod dns_journal;
pub mod domains;
pub mod dossier;
pub mod explain;
pub mod figures;
pub mod guard;
pub mod help;
pub mod identity;
pub mod incidents;
pub mod inlets;
pub mod input;
pub mod jobs;
pub mod keys;
pub mod live_events;
pub mod mailboxes;
pub mod me;
pub mod messages;
pub mod nodes;
pub mod openapi;
pub mod patterns;
pub mod plan;
pub mod preferences;
pub mod providers;
pub mod queue;
pub mod rates;
pub mod route_audit;
pub mod route_document;
pub mod route_secrets;
pub mod route_status;
pub mod routes;
pub mod scheduled;
pub mod search;
pub mod senders;
pub mod series;
pub mod sessions;
pub mod settings;
pub mod sign_in;
pub mod smtp_tests;
pub mod streams;
pub mod support;
pub mod suppressions;
pub mod tls_reports;
pub mod unknown;
pub mod users;
pub mod volume;
pub mod webhooks;
pub mod why;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post, put};

use super::{Shared, body};

/// Everything under `/api/v1`, without authentication.
pub fn router(app: &Shared) -> Router<Shared> {
    let submit = Router::new()
        .route("/messages", post(messages::submit))
        .layer(DefaultBodyLimit::max(app.room.largest))
        .layer(from_fn_with_state(app.clone(), body::reserve));
    let import = Router::new()
        .route("/suppressions/import", post(suppressions::import))
        .layer(DefaultBodyLimit::max(suppressions::LARGEST_TABLE));
    Router::new()
        .merge(submit)
        .merge(import)
        .route("/messages", get(search::search))
        .route("/messages/{id}", get(messages::show))
        .route("/messages/{id}/events", get(messages::events))
        .route("/messages/{id}/dossier", get(dossier::show))
        .route("/messages/{id}/export", get(dossier::export))
        .route("/why", get(why::show))
        .route("/batches", get(batches::list).post(batches::submit))
        .route("/batches/{id}", get(batches::show))
        .route("/batches/{id}/rows", get(batches::rows))
        .route("/batches/{id}/{wish}", post(batches::change))
        .route("/queue", get(queue::list))
        .route("/queue/counts", get(queue::counts))
        .route("/queue/causes", get(queue::causes))
        .route("/queue/causes/{rule}", get(queue::cause))
        .route("/queue/{operation}", post(queue::operate))
        .route("/failures", get(unknown::list))
        .route("/senders", get(senders::list).post(senders::add))
        .route("/senders/{name}", get(senders::show).patch(senders::change).delete(senders::remove))
        .route("/senders/{name}/password", put(senders::set_password).delete(senders::clear_password))
        .route("/senders/{name}/keys", post(senders::add_key))
        .route("/senders/{name}/pause", post(senders::pause))
        .route("/senders/{name}/resume", post(senders::resume))
        .route("/senders/{name}/keys/{prefix}", delete(senders::revoke_key))
        .route("/routes", get(routes::list).post(routes::add))
        .route("/routes/{name}", get(routes::show).patch(routes::change).delete(routes::remove))
        .route("/routes/{name}/login", post(sign_in::begin))
        .route("/routes/{name}/login/{id}", get(sign_in::ask))
        .route("/routes/{name}/rotate", post(sign_in::rotate))
        .route("/routes/{name}/audit", get(route_audit::show))
        .route("/routes/{name}/document", get(route_document::show))
        .route("/routes/{name}/status", get(route_status::show))
        .route("/providers", get(providers::list))
        .route("/providers/{name}", get(providers::show))
        .route("/rules", get(routes::list_rules))
        .route("/rules/{name}", get(routes::show_rule).put(routes::put_rule).delete(routes::remove_rule))
        .route("/domains", get(domains::list).post(domains::add))
        .route("/domains/{name}", get(domains::show).patch(domains::change).delete(domains::remove))
        .route("/domains/{name}/check", post(domains::check))
        .route("/domains/{name}/activate", post(domains::activate))
        .route("/domains/{name}/rotate", post(domains::rotate))
        .route("/domains/{name}/keys/{selector}", delete(domains::remove_key))
        .route("/webhooks", get(webhooks::list).post(webhooks::add))
        .route("/webhooks/{name}", get(webhooks::show).patch(webhooks::change).delete(webhooks::remove))
        .route("/webhooks/{name}/test", post(webhooks::test))
        .route("/webhooks/{name}/replay", post(webhooks::replay))
        .route("/webhooks/{name}/deliveries", get(webhooks::deliveries))
        .route("/webhooks/{name}/resume", post(webhooks::resume))
        .route("/webhooks/{name}/rotate-secret", post(webhooks::rotate))
        .route("/alert-channels", get(alert_channels::list).post(alert_channels::add))
        .route(
            "/alert-channels/{name}",
            get(alert_channels::show).patch(alert_channels::change).delete(alert_channels::remove),
        )
        .route("/alert-channels/{name}/test", post(alert_channels::test))
        .route("/alert-rules", get(alerts::rules))
        .route("/alert-rules/{name}", get(alerts::show_rule).patch(alerts::change_rule).delete(alerts::reset_rule))
        .route("/alerts", get(alerts::list))
        .route("/weekly-report", get(alerts::weekly))
        .route("/alerts/{id}", get(alerts::show))
        .route("/alerts/{id}/ack", post(alerts::acknowledge))
        .route("/alerts/{id}/close", post(alerts::close))
        .route("/incidents", get(incidents::list))
        .route("/incidents/{id}", get(incidents::show))
        .route("/incidents/{id}/acknowledge", post(incidents::acknowledge))
        .route("/incidents/{id}/snooze", post(incidents::snooze))
        .route("/incidents/{id}/close", post(incidents::close))
        .route("/incidents/{id}/notes", post(incidents::write))
        .route("/incidents/{id}/probe", post(incidents::probe))
        .route("/bounces", get(bounces::list).delete(bounces::clear))
        .route("/bounces/{id}", delete(bounces::remove))
        .route("/bounces/{id}/raw", get(bounces::raw))
        .route("/provider-events", get(inlets::list).post(inlets::add))
        .route("/provider-events/{name}", get(inlets::show).patch(inlets::change).delete(inlets::remove))
        .route("/mailboxes", get(mailboxes::list).post(mailboxes::add))
        .route("/mailboxes/{name}", get(mailboxes::show).patch(mailboxes::change).delete(mailboxes::remove))
        .route("/suppressions", get(suppressions::list).post(suppressions::add))
        .route("/suppressions/remove", post(suppressions::remove_many))
        .route("/suppressions/export", get(suppressions::export))
        .route("/suppressions/{address}", get(suppressions::show).delete(suppressions::remove))
        .route("/rates", get(rates::list))
        .route("/series", get(series::show))
        .route("/volume", get(volume::list))
        .route("/patterns", get(patterns::show))
        .route("/failed-sign-ins", get(volume::failed_sign_ins))
        .route("/streams", get(streams::list).post(streams::add))
        .route("/streams/{name}", get(streams::show).patch(streams::change).delete(streams::remove))
        .route("/streams/{name}/pause", post(streams::pause))
        .route("/streams/{name}/resume", post(streams::resume))
        .route("/stream-presets", get(streams::presets))
        .route("/preferences/{address}", get(preferences::show).patch(preferences::change))
        .route("/arrivals", get(arrivals::list).post(arrivals::add))
        .route("/arrivals/confirm", post(arrivals::proof))
        .route("/arrivals/{id}", get(arrivals::show))
        .route("/dns-journal", get(dns_journal::list))
        .route("/dns-journal/{domain}", get(dns_journal::show))
        .route("/blocklists", get(blocklists::list))
        .route("/blocklists/ask", post(blocklists::ask))
        .route("/captured", get(captured::list))
        .route("/captured/{id}", get(captured::show))
        .route("/captured/{id}/raw", get(captured::raw))
        .route("/plan", get(plan::show))
        .route("/checks", post(checks::run))
        .route("/smtp-tests", get(smtp_tests::list).post(smtp_tests::add))
        .route("/smtp-tests/import", post(smtp_tests::import))
        .route("/smtp-tests/{id}", get(smtp_tests::show))
        .route("/smtp-tests/{id}/comparison", get(smtp_tests::compare))
        .route("/smtp-tests/{id}/repeat", post(smtp_tests::repeat))
        .route("/config-audit", get(config_audit::show))
        .route("/jobs", get(jobs::list))
        .route("/jobs/{name}", get(jobs::show))
        .route("/jobs/{name}/run", post(jobs::run))
        .route("/jobs/{name}/pause", post(jobs::pause))
        .route("/jobs/{name}/resume", post(jobs::resume))
        .route("/jobs/{name}/restart", post(jobs::restart))
        .route("/nodes", get(nodes::list))
        .route("/nodes/{name}", get(nodes::show))
        .route("/nodes/{name}/drain", post(nodes::drain))
        .route("/nodes/{name}/undrain", post(nodes::undrain))
        .route("/scheduled-checks", get(scheduled::list).post(scheduled::add))
        .route("/scheduled-checks/{name}", get(scheduled::show).patch(scheduled::change).delete(scheduled::remove))
        .route("/scheduled-checks/{name}/results", get(scheduled::history))
        .route("/scheduled-checks/{name}/run", post(scheduled::run))
        .route("/tls-reports", get(tls_reports::list))
        .route("/tls-reports/{domain}/send", post(tls_reports::send))
        .route("/audit", get(audit::list))
        .route("/users", get(users::list).post(users::add))
        .route("/users/{name}", get(users::show).patch(users::change).delete(users::remove))
        .route("/users/{name}/password", put(users::set_password))
        .route("/users/{name}/totp", post(users::begin_totp).put(users::confirm_totp).delete(users::remove_totp))
        .route("/sessions", get(sessions::list).delete(sessions::revoke_all))
        .route("/sessions/{id}", delete(sessions::revoke))
        .route("/keys", get(keys::list).post(keys::add))
        .route("/keys/{name}", get(keys::show).patch(keys::change).delete(keys::remove))
        .route("/identity-providers", get(identity::list))
        .route("/identity-providers/{name}", get(identity::show).put(identity::put).delete(identity::remove))
        .route("/me", get(me::show))
        .route("/me/password", put(me::set_password))
        .route("/me/totp", post(me::begin_totp).put(me::confirm_totp).delete(me::remove_totp))
        .route("/me/sessions", get(me::list_sessions))
        .route("/me/sessions/{id}", delete(me::end_session))
        .route("/openapi.json", get(openapi::show))
        .route("/support-bundle", get(support::bundle))
        .route("/events/live", get(live_events::watch))
        .route("/help", get(help::list))
        .route("/help/{topic}", get(help::show))
        .route("/explain", post(explain::explain))
        .route("/settings", get(configured::show))
        .route("/status", get(admin::status))
        .route("/reload", post(admin::reload))
        .route("/health", get(figures::health))
        .route("/metrics", get(figures::show))
        .route("/log-level", get(figures::log_level).put(figures::set_log_level))
}

/// What only the control socket offers: it names paths on the server's disk, or takes long.
pub fn local_router() -> Router<Shared> {
    Router::new()
        .route("/backup", post(admin::backup))
        .route("/verify", post(admin::verify))
        .route("/login-tokens", post(admin::login_token))
}
