//! `pillarbox route check`: the settings of a route compared with its provider's, and its server tried as the route does.

use std::fmt::Write as _;

use anstyle::AnsiColor;
use axum::http::Method;
use explain::Severity;
use proto::transcript::Stage;
use serde_json::{Value, json};

use super::Fault;
use super::args::Global;
use super::args_presets::CheckOptions;
use super::check_view::FindingView;
use super::check_words as words;
use super::client::{Client, escaped, read};
use super::output::{clean, json as print_json, print};
use crate::http::api::routes::RouteOut;

/// Begins the signs that a sign-in that went well proves wrong.
const ABOUT_CREDENTIALS: &str = "credential_";

/// Does it.
pub async fn run(global: &Global, client: &Client, name: &str, options: &CheckOptions) -> Result<(), Fault> {
    let path = format!("/routes/{}", escaped(name));
    let route: RouteOut = read(client.get(&path).await?)?;
    let audit = client.get(&format!("{path}/audit")).await?;
    let server = match route.route.kind.has_account() && !options.settings_only {
        true => Some(probe(client, name, options).await?),
        false => None,
    };
    let view = server.as_ref().map(super::check_view::read).transpose()?;
    let signed_in = view.as_ref().is_some_and(|view| view.passed(Stage::Auth));
    let items = audit.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    let sign = |one: &Value| one.get("sign").and_then(Value::as_str).unwrap_or_default().to_owned();
    // The report of the check has those about credentials too, where they matter.
    let drop_credentials = signed_in || server.is_some();
    let items: Vec<Value> =
        items.into_iter().filter(|one| !(drop_credentials && sign(one).starts_with(ABOUT_CREDENTIALS))).collect();
    let findings: Vec<FindingView> = read(Value::Array(items.clone()))?;
    let problem = findings.iter().any(|one| one.severity == Severity::Problem);
    let healthy = !problem && view.as_ref().is_none_or(|view| view.healthy);
    if global.json {
        print_json(&json!({
            "schema": "pillarbox.route.check/1", "route": name, "healthy": healthy, "settings": items, "server": server,
        }))?;
    } else {
        if let Some(view) = &view {
            print(&format!("{}{}", words::stages(view), words::verdict(view)))?;
        }
        print(&settings(name, &findings))?;
    }
    if healthy { Ok(()) } else { Err(Fault::Told) }
}

async fn probe(client: &Client, name: &str, options: &CheckOptions) -> Result<Value, Fault> {
    let mut body = json!({ "route": name });
    if let (Some(from), Some(body)) = (&options.from, body.as_object_mut()) {
        body.insert("from".into(), from.as_str().into());
        body.insert("to".into(), options.to.clone().into());
    }
    client.send(Method::POST, "/checks", body).await
}

fn settings(name: &str, findings: &[FindingView]) -> String {
    if findings.is_empty() {
        return format!("\nSettings of {}: nothing to complain about.\n", clean(name));
    }
    let mut out = format!("\nSettings of {}:\n", clean(name));
    for one in findings {
        let (mark, style) = match one.severity {
            Severity::Problem => ("problem", AnsiColor::Red.on_default()),
            Severity::Warning => ("warning", AnsiColor::Yellow.on_default()),
            Severity::Note => ("note", anstyle::Style::new().dimmed()),
        };
        let explanation = &one.explanation;
        let _ = writeln!(out, "  {style}{mark}{style:#}: {} ({})", clean(&explanation.title), clean(&explanation.rule));
        let _ = writeln!(out, "    {}", clean(&explanation.meaning));
        for fix in &explanation.fixes {
            let _ = writeln!(out, "    → {}", clean(&fix.text));
            if let Some(run) = &fix.run {
                let _ = writeln!(out, "      {}", clean(run));
            }
        }
    }
    out
}
