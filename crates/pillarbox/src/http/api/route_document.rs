//! `GET /routes/{name}/document`: a route documented for those who run it.

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use relay::route::RuleRecord;
use serde::Deserialize;
use store::settings::Kind;

use super::routes::{self, RuleOut};
use super::senders;
use super::settings;
use crate::http::auth::Admin;
use crate::http::json::Query;
use crate::http::problem::Problem;
use crate::http::{Shared, time};
use crate::route_document::{Material, make, markdown};
use crate::serve::parts;

/// What goes into it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wanted {
    /// Look up the DNS records of the senders' domains too.
    dns: bool,
}

/// The settings of a route, its limits, rules and provider as Markdown; nothing secret.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let route = routes::document(&settings::find(&app, Kind::Route, &name).await?)?;
    let mut rules: Vec<RuleOut> = Vec::new();
    for document in app.store.documents(Kind::Rule).await? {
        let rule: RuleRecord = settings::record(&document)?;
        rules.push(RuleOut { name: document.name, updated: time::show(document.updated_ms), rule });
    }
    rules.sort_by(|a, b| (a.rule.order, &a.name).cmp(&(b.rule.order, &b.name)));
    let senders = app.store.documents(Kind::Sender).await?;
    let senders = senders.iter().map(senders::document).collect::<Result<Vec<_>, _>>()?;
    let net = wanted.dns.then(|| parts::net(app.checks.config(), app.clock.clone()).ok()).flatten();
    let material = Material {
        value: route.clone().into(),
        route: &route,
        senders: &senders,
        rules: &rules,
        domains: &[],
        resolver: net.as_ref().map(|net| &net.resolver),
    };
    let document = make(material, &app.rules()).await;
    let text = markdown(&route, &document, &time::show(app.clock.now_ms()));
    let file = format!("attachment; filename=\"route-{name}.md\"");
    let headers =
        [(header::CONTENT_TYPE, "text/markdown; charset=utf-8"), (header::CONTENT_DISPOSITION, file.as_str())];
    Ok((headers, text).into_response())
}
