//! `pillarbox tlsrpt ls|show|send`: reports about TLS to receiving domains.

use std::fmt::Write as _;

use axum::http::{Method, StatusCode};
use relay::tls_report::{TlsReportSent, TlsReportView};
use serde::Serialize;
use serde_json::json;

use super::Fault;
use super::args::Global;
use super::args_tlsrpt::TlsrptCommand;
use super::client::{Client, Need, escaped, query, read};
use super::output::{clean, json as print_json, plural, print, table};
use crate::http::problem::Problem;
use crate::http::views::Page;

/// Days that are kept.
const DAYS: u32 = 100;

/// Does what was asked.
pub async fn run(global: &Global, command: &TlsrptCommand) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Server).await?;
    match command {
        TlsrptCommand::Ls { domain, limit } => list(global, &client, domain.clone(), *limit).await,
        TlsrptCommand::Show { domain, day } => show(global, &client, domain, day.as_deref()).await,
        TlsrptCommand::Send { domain, day } => send(global, &client, domain, day.as_deref()).await,
    }
}

async fn reports(client: &Client, domain: Option<String>, limit: u32) -> Result<serde_json::Value, Fault> {
    client.get(&format!("/tls-reports{}", query(&[("domain", domain), ("limit", Some(limit.to_string()))]))).await
}

async fn list(global: &Global, client: &Client, domain: Option<String>, limit: u32) -> Result<(), Fault> {
    let value = reports(client, domain, limit).await?;
    if global.json {
        return print_json(&value);
    }
    let page: Page<TlsReportView> = read(value)?;
    let rows: Vec<Vec<String>> = page
        .items
        .iter()
        .map(|one| {
            vec![
                one.day.clone(),
                one.domain.clone(),
                one.successful.to_string(),
                one.failed.to_string(),
                word(&one.state),
                one.problem.clone().unwrap_or_default(),
            ]
        })
        .collect();
    table(&["DAY", "DOMAIN", "FINE", "FAILED", "REPORT", "PROBLEM"], &rows)
}

/// A word of the report's own vocabulary.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

async fn show(global: &Global, client: &Client, domain: &str, day: Option<&str>) -> Result<(), Fault> {
    let page: Page<TlsReportView> = read(reports(client, Some(domain.to_owned()), DAYS).await?)?;
    let found = page.items.into_iter().find(|one| day.is_none_or(|day| one.day == day));
    let Some(found) = found else {
        let of_day = day.map(|day| format!(" on {day}")).unwrap_or_default();
        let text = format!(
            "nothing was seen of {domain}{of_day}: see `pillarbox tlsrpt ls`; only mail to mail exchangers counts"
        );
        return Err(Fault::Refused(Box::new(Problem::new(StatusCode::NOT_FOUND, text))));
    };
    if global.json { print_json(&found) } else { print(&words(&found)) }
}

fn words(view: &TlsReportView) -> String {
    let report = &view.report;
    let mut out = format!("{} on {}: {}\n", clean(&view.domain), view.day, word(&view.state));
    let _ =
        writeln!(out, "Report: {} by {}, {}", report.report_id, clean(&report.organization_name), report.contact_info);
    for uri in &view.sent_to {
        let _ = writeln!(out, "Sent to: {}", clean(uri));
    }
    if let Some(problem) = &view.problem {
        let _ = writeln!(out, "Not sent after {}: {}", plural(u64::from(view.tries), "attempt"), clean(problem));
    }
    for one in &report.policies {
        let _ = writeln!(
            out,
            "\n{} of {}: {} fine, {} failed",
            word(&one.policy.policy_type),
            clean(&one.policy.policy_domain),
            one.summary.total_successful_session_count,
            one.summary.total_failure_session_count
        );
        for line in &one.policy.policy_string {
            let _ = writeln!(out, "    {}", clean(line));
        }
        for failure in &one.failure_details {
            let host = failure.receiving_mx_hostname.as_deref().map(clean).unwrap_or_default();
            let ip = failure.receiving_ip.map(|ip| format!(" [{ip}]")).unwrap_or_default();
            let from = failure.sending_mta_ip.map(|ip| format!(" from {ip}")).unwrap_or_default();
            let reason = failure.failure_reason_code.as_deref().map(|reason| format!(": {}", clean(reason)));
            let (count, kind) = (failure.failed_session_count, word(&failure.result_type));
            let _ = writeln!(out, "  {count} × {kind} at {host}{ip}{from}{}", reason.unwrap_or_default());
        }
    }
    out
}

async fn send(global: &Global, client: &Client, domain: &str, day: Option<&str>) -> Result<(), Fault> {
    let path = format!("/tls-reports/{}/send", escaped(domain));
    let value = client.send(Method::POST, &path, json!({ "day": day })).await?;
    let sent: TlsReportSent = read(value.clone())?;
    if global.json {
        print_json(&value)?;
    } else {
        let given = sent.sent_to.iter().map(|uri| format!("sent to {}\n", clean(uri)));
        let refused = sent.problems.iter().map(|problem| format!("not sent: {}\n", clean(problem)));
        print(&given.chain(refused).collect::<String>())?;
    }
    if sent.problems.is_empty() { Ok(()) } else { Err(Fault::Told) }
}
