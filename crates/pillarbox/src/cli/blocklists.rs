//! `pillarbox blocklists`.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use anyhow::{Context, anyhow};
use axum::http::Method;
use diagnose::domain::label;
use diagnose::lists::{ListState, Lists, ListsReport, Rank, Subject, SubjectRow};
use explain::delisting::{Case, Guide, guide};
use explain::lists::Blocklist;
use net::{Clock, Resolver, ResolverSettings};
use serde_json::json;

use super::Fault;
use super::args::Global;
use super::args_dns::ListsArgs;
use super::client::{Client, Need, read};
use super::output::{clean, json as print_json, plural, print, table};
use crate::http::api::blocklists::BlocklistOut;
use crate::monitor::dns;

/// Does what was asked.
pub async fn run(global: &Global, args: &ListsArgs) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let lists = dns::lists(loaded.config.blocklists.as_ref()).map_err(|why| Fault::cannot(anyhow!(why)))?;
    if args.lists {
        return show_lists(global, &lists);
    }
    let report: ListsReport = if args.subjects.is_empty() {
        let client = Client::find(global, &loaded, Need::Store).await?;
        read(client.send(Method::POST, "/blocklists/ask", json!({})).await?)?
    } else {
        let mut servers = args.resolver.resolver.clone();
        if servers.is_empty() {
            servers.clone_from(&loaded.config.dns_servers);
        }
        ask(args, lists.clone(), servers).await?
    };
    let guides = if args.guide { guides(&report, &lists) } else { Vec::new() };
    if global.json {
        let mut value = serde_json::to_value(&report).map_err(|error| Fault::cannot(error.into()))?;
        if args.guide {
            value["guides"] = json!(
                guides
                    .iter()
                    .map(|(subject, list, guide)| json!({ "subject": subject, "list": list, "guide": guide }))
                    .collect::<Vec<_>>()
            );
        }
        print_json(&value)?;
    } else {
        print(&words(&report, &guides))?;
    }
    if report.rank() >= Rank::Warning {
        return Err(Fault::Told);
    }
    match report.subjects.iter().any(|row| row.answered > 0) || report.subjects.is_empty() {
        true => Ok(()),
        false => Err(Fault::cannot(anyhow!("no list answers: ask through a resolver of your own with --resolver"))),
    }
}

async fn ask(
    args: &ListsArgs,
    lists: Vec<Blocklist>,
    servers: Vec<std::net::SocketAddr>,
) -> Result<ListsReport, Fault> {
    let parse = |text: &String| {
        Subject::parse(text).ok_or_else(|| Fault::Usage(format!("{text} is neither an address nor a domain")))
    };
    let subjects = args.subjects.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let settings = ResolverSettings { servers, timeout: args.resolver.timeout, ..ResolverSettings::default() };
    let resolver = Resolver::new(settings).context("cannot ask the DNS").map_err(Fault::cannot)?;
    let clock = Clock::system();
    let seed = clock.mono_us() ^ u64::try_from(clock.now_ms()).unwrap_or(1);
    Ok(Lists::new(resolver, lists, label(seed)).report(&subjects, clock.now_ms()).await)
}

fn show_lists(global: &Global, lists: &[Blocklist]) -> Result<(), Fault> {
    let all: Vec<BlocklistOut> = lists.iter().map(BlocklistOut::of).collect();
    if global.json {
        return print_json(&json!({ "items": all }));
    }
    let row = |one: &BlocklistOut| {
        let state = one.retired.as_ref().map(|date| format!("closed {date}")).unwrap_or_default();
        let ends = one.ends_h.map(|hours| format!("{hours} h")).unwrap_or_default();
        [&one.id, &one.name, &one.zone, &one.of, &one.weight, &one.removal, &ends, &state].map(Clone::clone).to_vec()
    };
    let heads = ["ID", "NAME", "ZONE", "FOR", "WEIGHT", "REMOVAL", "ENDS AFTER", ""];
    table(&heads, &all.iter().map(row).collect::<Vec<_>>())
}

/// The way off each list, once for each.
fn guides(report: &ListsReport, lists: &[Blocklist]) -> Vec<(String, String, Guide)> {
    let mut all: Vec<(String, String, Guide)> = Vec::new();
    for row in &report.subjects {
        for listing in &row.listings {
            let Some(list) = lists.iter().find(|list| list.id == listing.list) else { continue };
            if all.iter().any(|(subject, id, _)| *subject == row.subject && *id == list.id) {
                continue;
            }
            let reason = listing.reason.as_deref();
            let case = Case { list, subject: &row.subject, kind: listing.kind, reason, reverse: None, since: None };
            all.push((row.subject.clone(), list.id.clone(), guide(&case)));
        }
    }
    all
}

fn words(report: &ListsReport, guides: &[(String, String, Guide)]) -> String {
    let mut out = String::new();
    if report.subjects.is_empty() {
        out.push_str("There is nobody to look for: mail leaves by smart hosts, and no domain writes. Name addresses or domains.\n");
    }
    for row in &report.subjects {
        subject(row, &mut out);
    }
    for list in report.lists.iter().filter(|list| list.state != ListState::Good) {
        let what =
            if list.state == ListState::Refused { "does not answer this resolver" } else { "does not work as a list" };
        let why = list.problem.as_deref().unwrap_or_default();
        let dim = Style::new().dimmed();
        let _ = writeln!(out, "{dim}{} ({}) {what}: {}{dim:#}", clean(&list.name), clean(&list.zone), clean(why));
    }
    for (subject, list, guide) in guides {
        steps(subject, list, guide, &mut out);
    }
    out
}

fn subject(row: &SubjectRow, out: &mut String) {
    let bold = Style::new().bold();
    let (word, style) = match row.rank {
        Rank::Clean if row.answered == 0 => ("nothing is known", AnsiColor::Yellow.on_default()),
        Rank::Clean => ("clean", AnsiColor::Green.on_default()),
        Rank::Note => ("note", Style::new()),
        Rank::Warning => ("warning", AnsiColor::Yellow.on_default()),
        Rank::Problem => ("problem", AnsiColor::Red.on_default()),
    };
    let answered = plural(row.answered.into(), "list");
    let _ = writeln!(
        out,
        "{bold}{}{bold:#}  {style}{word}{style:#}, {} points, {answered} answered",
        clean(&row.subject),
        row.points
    );
    for listing in &row.listings {
        let _ = writeln!(
            out,
            "  {} answers {} ({}). {}.",
            clean(&listing.name),
            listing.code,
            clean(&listing.meaning),
            clean(&listing.used)
        );
        if let Some(reason) = &listing.reason {
            let _ = writeln!(out, "    it says: {}", clean(reason));
        }
        if !listing.url.is_empty() {
            let _ = writeln!(out, "    {}", clean(&listing.url));
        }
    }
}

fn steps(subject: &str, list: &str, guide: &Guide, out: &mut String) {
    let bold = Style::new().bold();
    let _ = writeln!(out, "\n{bold}{} off {}{bold:#}", clean(subject), clean(list));
    for (n, step) in guide.steps.iter().enumerate() {
        let _ = writeln!(out, "{}. {bold}{}{bold:#}", n + 1, step.title);
        for text in &step.text {
            let _ = writeln!(out, "   {}", clean(text));
        }
        if let Some(run) = &step.run {
            let _ = writeln!(out, "   $ {}", clean(run));
        }
    }
    for (title, text) in
        [("Request to the list", guide.request.as_deref()), ("Mail to a partner", Some(guide.partner.as_str()))]
    {
        if let Some(text) = text {
            let _ = writeln!(out, "{bold}{title}{bold:#}");
            for line in text.trim_end().lines() {
                let _ = writeln!(out, "   | {}", clean(line));
            }
        }
    }
}
