//! The check of our addresses' reverse names, six-hourly: that there is one, that it leads back, that EHLO fits (RFC 5321 §2.3.5).

use std::net::IpAddr;
use std::time::Duration;

use diagnose::Judge;
use diagnose::domain::{Auditor, Plan, Section};
use diagnose::journal::of_address;
use explain::Severity;
use futures_util::future::BoxFuture;
use serde_json::json;
use store::StoreError;

use super::look::note;
use crate::http::Shared;
use crate::monitor::{CheckKind, Found, Level, Schedule, Subject, dns};

const EVERY: Duration = Duration::from_secs(6 * 3_600);

/// `reverse-dns:<address>`
#[derive(Debug)]
pub struct ReverseKind;

impl CheckKind for ReverseKind {
    fn id(&self) -> &'static str {
        "reverse-dns"
    }

    fn title(&self) -> &'static str {
        "reverse names of our addresses"
    }

    fn schedule(&self) -> Schedule {
        Schedule::every(EVERY)
    }

    fn confirm(&self) -> u32 {
        2
    }

    fn subjects<'a>(&'a self, app: &'a Shared) -> BoxFuture<'a, Vec<Subject>> {
        Box::pin(async move {
            let subject = |address: IpAddr| Subject::new(address.to_string(), format!("address {address}"), 0);
            dns::addresses(app).into_keys().map(subject).collect()
        })
    }

    fn run<'a>(&'a self, app: &'a Shared, subject: &'a Subject) -> BoxFuture<'a, Found> {
        Box::pin(async move {
            let Ok(address) = subject.id.parse::<IpAddr>() else { return Found::skipped("no address") };
            match look(app, address).await {
                Ok(found) => found,
                Err(error) => Found::skipped(format!("the journal cannot be kept: {error}")),
            }
        })
    }
}

async fn look(app: &Shared, address: IpAddr) -> Result<Found, StoreError> {
    let mut troubles = Vec::new();
    if let Ok(authority) = &app.domains.authority {
        let (what, taken) = of_address(authority, address).await;
        match taken {
            Ok(snapshot) => troubles.extend(note(app, &address.to_string(), &what, snapshot).await?.troubles),
            Err(why) => tracing::debug!(%address, %why, "the name servers of an address cannot be asked"),
        }
    }
    let net = match app.dns.net() {
        Ok(net) => net,
        Err(why) => return Ok(Found::skipped(why)),
    };
    let plan = Plan {
        sections: [Section::Addresses].into(),
        ips: vec![address],
        helo: Some(helo(app, address)),
        ..Plan::default()
    };
    let (report, findings) = Auditor::new(net, None, Judge::new(app.rules()), plan).addresses(&app.hostname).await;
    let worst = findings.iter().map(|found| match found.severity {
        Severity::Problem => Level::Problem,
        Severity::Warning => Level::Warning,
        Severity::Note => Level::Note,
    });
    let failed = findings.iter().any(|found| found.sign == "domain_dns_failure");
    if failed {
        return Ok(Found::skipped("the DNS gave no usable answer"));
    }
    let level = worst.max().unwrap_or(Level::Ok).max(if troubles.is_empty() { Level::Ok } else { Level::Note });
    let signs: Vec<&str> = findings.iter().map(|found| found.sign.as_str()).collect();
    let names: Vec<&str> = report.records.iter().map(|record| record.value.as_str()).collect();
    let summary = match findings.first() {
        Some(first) => first.explanation.title.clone(),
        None => format!("{address} is {}, and back", names.first().copied().unwrap_or("without a name")),
    };
    let facts = json!({ "names": names, "signs": signs });
    Ok(Found::new(level, summary).facts(facts).detail(json!({ "findings": findings, "troubles": troubles })))
}

/// Our name in EHLO from this address.
fn helo(app: &Shared, address: IpAddr) -> String {
    let routes = dns::addresses(app).remove(&address).unwrap_or_default();
    let all = app.relay.as_ref().map(|relay| relay.routes()).unwrap_or_default();
    let of_route = all.iter().filter(|route| routes.contains(&*route.name));
    of_route.filter_map(|route| route.record.helo.clone()).next().unwrap_or_else(|| app.hostname.clone())
}
