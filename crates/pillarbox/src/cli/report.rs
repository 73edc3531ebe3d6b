//! `pillarbox report`: reports of DMARC and TLS from files, summed up and judged.

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use diagnose::Judge;
use explain::RuleBase;

use super::Fault;
use super::args::Global;
use super::args_report::{ReportArgs, ReportCommand};
use super::bounce;
use super::client::{Client, Need, query, read as read_json};
use super::output::{clean_lines, json, print};
use super::report_view;
use crate::alert::weekly::{Report, words};
use crate::http::api::bounces::ReturnedOut;
use crate::http::views::Page;
use crate::returned::summary::Summary;
use crate::returned::unpack::{self, Document, MAX_INPUT, UnpackError};

/// Does what was asked.
pub async fn run(global: &Global, args: &ReportArgs) -> Result<(), Fault> {
    if let Some(ReportCommand::Weekly { since, html }) = &args.command {
        return weekly(global, since.clone(), *html).await;
    }
    let mut summary = Summary::new();
    if args.received {
        received(global, &mut summary).await?;
    }
    for path in &args.files {
        let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
        let octets = read(path).with_context(|| format!("cannot read {name}")).map_err(Fault::cannot)?;
        if octets.len() as u64 > MAX_INPUT {
            summary.unreadable(&name, format!("it is larger than {} MiB", MAX_INPUT >> 20));
            continue;
        }
        add(&mut summary, &name, unpack::reports(&octets));
    }
    tell(global, summary)
}

/// The report of the week, as the server makes it.
async fn weekly(global: &Global, since: Option<String>, html: bool) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    let value = client.get(&format!("/weekly-report{}", query(&[("since", since)]))).await?;
    if global.json {
        return json(&value);
    }
    let report: Report = read_json(value)?;
    match html {
        true => print(&words::html(&report).context("cannot write the page").map_err(Fault::cannot)?),
        false => print(&format!("{}\n", clean_lines(&words::text(&report)))),
    }
}

/// The mails with reports that the server keeps.
async fn received(global: &Global, summary: &mut Summary) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    let mut before = None;
    loop {
        let query = query(&[("list", Some("reports".into())), ("limit", Some("1000".into())), ("before", before)]);
        let page: Page<ReturnedOut> = read_json(client.get(&format!("/bounces{query}")).await?)?;
        for mail in &page.items {
            let octets = bounce::raw(&client, &mail.id).await?;
            add(summary, &format!("mail {}", mail.id), unpack::attached(&octets));
        }
        before = match page.next {
            Some(next) => Some(next),
            None => return Ok(()),
        };
    }
}

fn add(summary: &mut Summary, name: &str, found: Vec<Result<Document, UnpackError>>) {
    for found in found {
        match found {
            Ok(document) => summary.add(&document),
            Err(error) => summary.unreadable(name, error.to_string()),
        }
    }
}

/// Judges and prints.
fn tell(global: &Global, mut summary: Summary) -> Result<(), Fault> {
    summary.conclude(&Judge::new(RuleBase::shared()));
    if global.json {
        json(&summary)?;
    } else {
        print(&report_view::words(&summary))?;
    }
    if summary.has_problem() { Err(Fault::Told) } else { Ok(()) }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    // One octet more than allowed tells that it is too much.
    if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_INPUT + 1).read_to_end(&mut octets)?;
    } else {
        std::fs::File::open(path)?.take(MAX_INPUT + 1).read_to_end(&mut octets)?;
    }
    Ok(octets)
}
