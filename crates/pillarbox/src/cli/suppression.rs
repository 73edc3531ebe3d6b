//! `pillarbox suppression`.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

use anyhow::Context;
use axum::http::Method;
use bytes::Bytes;
use serde_json::{Value, json};

use super::Fault;
use super::args::Global;
use super::args_suppression::{SuppressionCommand, SuppressionFilterArgs};
use super::client::{Call, Client, Need, escaped, query, read};
use super::output::{clean, complain, facts, json as print_json, plural, print, short_time, table};
use crate::http::api::suppressions::{AddressOut, Changes, Removed};
use crate::http::views::Page;
use crate::suppression::{ChangeOut, ImportOut, SuppressionOut, table as csv};

/// Octets of a file that are sent at once: a part of it, at the end of a line.
const PART: usize = 512 << 10;
/// Longest line of a file.
const LONGEST: usize = 64 << 10;

/// Does what was asked.
pub async fn run(global: &Global, command: SuppressionCommand) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    match command {
        SuppressionCommand::Ls { filter, limit, after } => list(global, &client, &filter, limit, after).await,
        SuppressionCommand::Show { address } => show(global, &client, &address).await,
        SuppressionCommand::Check { addresses, stream } => check(global, &client, &addresses, &stream).await,
        SuppressionCommand::Add { addresses, scope, reason, until, note } => {
            let body = json!({
                "addresses": addresses, "scope": scope, "reason": reason, "until": until, "note": note,
            });
            added(global, client.send(Method::POST, "/suppressions", body).await?)
        }
        SuppressionCommand::Rm { addresses, scope, why } => {
            let body = json!({ "addresses": addresses, "scope": scope, "why": why });
            removed(global, client.send(Method::POST, "/suppressions/remove", body).await?)
        }
        SuppressionCommand::Import { file, reason, scope, replace, dry_run } => {
            let existing = if replace { "replace" } else { "keep" };
            let options = [
                ("reason", reason),
                ("scope", scope),
                ("existing", Some(existing.to_owned())),
                ("dry_run", dry_run.then(|| "true".to_owned())),
            ];
            import(global, &client, &file, &options).await
        }
        SuppressionCommand::Export { file, filter } => export(global, &client, file.as_deref(), &filter).await,
        SuppressionCommand::Log { since, limit } => log(global, &client, since.unwrap_or(0), limit).await,
    }
}

fn conditions(filter: &SuppressionFilterArgs) -> Vec<(&'static str, Option<String>)> {
    vec![
        ("scope", filter.scope.clone()),
        ("reason", filter.reason.clone()),
        ("domain", filter.domain.clone()),
        ("search", filter.search.clone()),
        ("added_from", filter.added_from.clone()),
        ("added_before", filter.added_before.clone()),
    ]
}

async fn page(
    client: &Client,
    filter: &SuppressionFilterArgs,
    limit: u32,
    after: Option<String>,
) -> Result<Value, Fault> {
    let mut pairs = conditions(filter);
    pairs.extend([("limit", Some(limit.to_string())), ("after", after)]);
    client.get(&format!("/suppressions{}", query(&pairs))).await
}

async fn list(
    global: &Global,
    client: &Client,
    filter: &SuppressionFilterArgs,
    limit: u32,
    after: Option<String>,
) -> Result<(), Fault> {
    let value = page(client, filter, limit, after).await?;
    if global.json {
        return print_json(&value);
    }
    let page: Page<SuppressionOut> = read(value)?;
    if page.items.is_empty() {
        return print("No such address is suppressed.\n");
    }
    let row = |one: &SuppressionOut| {
        let words = one.evidence.note.clone().or_else(|| one.evidence.reply.clone()).unwrap_or_default();
        vec![
            one.address.clone(),
            one.scope.clone(),
            one.reason.as_str().to_owned(),
            short_time(&one.added),
            one.expires.as_deref().map_or_else(|| "never".into(), short_time),
            one.who.clone(),
            words.chars().take(80).collect(),
        ]
    };
    let rows: Vec<_> = page.items.iter().map(row).collect();
    table(&["ADDRESS", "SCOPE", "REASON", "SINCE", "UNTIL", "BY", "IN WORDS"], &rows)?;
    match page.next {
        Some(next) => print(&format!("More: --after '{}'\n", clean(&next))),
        None => Ok(()),
    }
}

async fn show(global: &Global, client: &Client, address: &str) -> Result<(), Fault> {
    let value = client.get(&format!("/suppressions/{}", escaped(address))).await?;
    if global.json {
        return print_json(&value);
    }
    let found: AddressOut = read(value)?;
    if found.suppressions.is_empty() {
        print(&format!("{} is not suppressed.\n", clean(&found.address)))?;
    }
    for one in &found.suppressions {
        let evidence = &one.evidence;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        facts(&[
            ("address", one.address.clone()),
            ("mail", if one.scope == "*" { "all".into() } else { format!("of stream {}", one.scope) }),
            ("reason", one.reason.to_string()),
            ("since", short_time(&one.added)),
            ("until", one.expires.as_deref().map_or_else(|| "removed".into(), short_time)),
            ("by", one.who.clone()),
            ("message", text(&evidence.message)),
            ("rule", text(&evidence.rule)),
            ("it was said", text(&evidence.reply)),
            ("note", text(&evidence.note)),
            ("heard by", text(&evidence.source)),
        ])?;
        print("\n")?;
    }
    if found.history.is_empty() { Ok(()) } else { changes(&found.history) }
}

fn changes(list: &[ChangeOut]) -> Result<(), Fault> {
    let row = |one: &ChangeOut| {
        let change = serde_json::to_value(one.change).ok().and_then(|word| Some(word.as_str()?.to_owned()));
        vec![
            one.seq.to_string(),
            short_time(&one.at),
            change.unwrap_or_default(),
            one.address.clone(),
            one.scope.clone(),
            one.reason.as_str().to_owned(),
            one.who.clone(),
            one.why.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = list.iter().map(row).collect();
    table(&["NUMBER", "WHEN", "WHAT", "ADDRESS", "SCOPE", "REASON", "BY", "WHY"], &rows)
}

async fn check(global: &Global, client: &Client, addresses: &[String], stream: &str) -> Result<(), Fault> {
    let mut found = Vec::new();
    for address in addresses {
        let path = format!("/suppressions/{}?stream={}", escaped(address), escaped(stream));
        found.push(client.get(&path).await?);
    }
    let read_all: Vec<AddressOut> = found.iter().cloned().map(read).collect::<Result<_, _>>()?;
    if global.json {
        print_json(&found)?;
    } else {
        for one in &read_all {
            let words = one.words.clone().unwrap_or_else(|| "gets mail".into());
            print(&format!("{}: {}\n", clean(&one.address), clean(&words)))?;
        }
    }
    if read_all.iter().any(|one| one.suppressed) { Err(Fault::Told) } else { Ok(()) }
}

fn added(global: &Global, value: Value) -> Result<(), Fault> {
    if global.json {
        return print_json(&value);
    }
    let count: store::SuppressCount = read(value)?;
    let unchanged = if count.kept > 0 { format!(", {} as before", count.kept) } else { String::new() };
    let changed = if count.changed > 0 { format!(", {} changed", count.changed) } else { String::new() };
    print(&format!("{} added{changed}{unchanged}.\n", plural(count.added, "suppression")))
}

fn removed(global: &Global, value: Value) -> Result<(), Fault> {
    let count: Removed = read(value.clone())?;
    if global.json {
        print_json(&value)?;
    } else {
        print(&format!("{} removed.\n", plural(count.removed, "suppression")))?;
    }
    if count.removed == 0 { Err(Fault::Told) } else { Ok(()) }
}

async fn log(global: &Global, client: &Client, since: u64, limit: u32) -> Result<(), Fault> {
    let value = client.get(&format!("/suppressions?since={since}&limit={limit}")).await?;
    if global.json {
        return print_json(&value);
    }
    let found: Changes = read(value)?;
    if found.items.is_empty() {
        return print("Nothing has changed.\n");
    }
    changes(&found.items)?;
    if found.more { print(&format!("More: --since {}\n", found.next)) } else { Ok(()) }
}

async fn export(
    global: &Global,
    client: &Client,
    file: Option<&Path>,
    filter: &SuppressionFilterArgs,
) -> Result<(), Fault> {
    let trouble = |error: std::io::Error| {
        let name = file.map_or_else(|| "standard output".into(), |file| file.display().to_string());
        Fault::cannot(anyhow::Error::new(error).context(format!("cannot write {name}")))
    };
    if global.json {
        return Err(Fault::Usage("an export is CSV; `pillarbox suppression ls --json` gives JSON".into()));
    }
    let mut out: Box<dyn Write> = match file {
        Some(file) => Box::new(std::fs::OpenOptions::new().write(true).create_new(true).open(file).map_err(trouble)?),
        None => Box::new(std::io::stdout().lock()),
    };
    out.write_all(csv::head().as_bytes()).map_err(trouble)?;
    let mut after = None;
    loop {
        let page: Page<SuppressionOut> = read(page(client, filter, 1_000, after.take()).await?)?;
        let text: String = page.items.iter().map(csv::line).collect();
        out.write_all(text.as_bytes()).map_err(trouble)?;
        match page.next {
            Some(next) => after = Some(next),
            None => return out.flush().map_err(trouble),
        }
    }
}

/// A file in parts of whole rows, each with the first line.
struct Parts<R> {
    from: BufReader<R>,
    head: Vec<u8>,
    lines: u64,
}

impl<R: Read> Parts<R> {
    fn open(from: R) -> anyhow::Result<Self> {
        let mut parts = Self { from: BufReader::new(from), head: Vec::new(), lines: 0 };
        let mut head = Vec::new();
        parts.line(&mut head)?;
        parts.head = head;
        Ok(parts)
    }

    /// Adds a line; false at the end of the file.
    fn line(&mut self, into: &mut Vec<u8>) -> anyhow::Result<bool> {
        let before = into.len();
        let read = (&mut self.from).take(LONGEST as u64 + 1).read_until(b'\n', into)?;
        if read > LONGEST {
            anyhow::bail!("line {} is longer than {LONGEST} octets", self.lines + 1);
        }
        self.lines += u64::from(into.len() > before);
        Ok(into.len() > before)
    }

    /// The next part with the number of lines before it, beside the first line.
    fn next(&mut self) -> anyhow::Result<Option<(u64, Vec<u8>)>> {
        let before = self.lines.saturating_sub(1);
        let mut part = self.head.clone();
        let empty = part.len();
        // A quoted cell may span lines: a part ends where no quote is open.
        let mut open = false;
        loop {
            let start = part.len();
            if !self.line(&mut part)? {
                break;
            }
            open ^= part[start..].iter().filter(|octet| **octet == b'"').count() % 2 == 1;
            if part.len() >= PART && !open {
                break;
            }
            if part.len() >= 2 * PART {
                anyhow::bail!("a quote is open before line {}", self.lines);
            }
        }
        Ok((part.len() > empty).then_some((before, part)))
    }
}

async fn import(
    global: &Global,
    client: &Client,
    file: &Path,
    options: &[(&'static str, Option<String>)],
) -> Result<(), Fault> {
    let source: Box<dyn Read> = if file.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        let opened = std::fs::File::open(file).with_context(|| format!("cannot read {}", file.display()));
        Box::new(opened.map_err(Fault::cannot)?)
    };
    let mut parts = Parts::open(source).map_err(Fault::cannot)?;
    let mut out = ImportOut::default();
    let mut first = true;
    loop {
        let next = parts.next().map_err(Fault::cannot)?;
        // A file without rows has a first line that may be wrong.
        let (before, part) = match next {
            Some(next) => next,
            None if first => (0, parts.head.clone()),
            None => break,
        };
        first = false;
        let mut pairs = options.to_vec();
        pairs.push(("lines_before", Some(before.to_string())));
        let path = format!("/suppressions/import{}", query(&pairs));
        let body = Some(("text/csv", Bytes::from(part)));
        let answer = client.call(Call { method: Method::POST, path: &path, headers: Vec::new(), body }).await?;
        let part: ImportOut = serde_json::from_slice(&answer.body)
            .map_err(|error| Fault::cannot(anyhow::Error::new(error).context("the answer is not understood")))?;
        out.add(part);
    }
    told(global, &out, options.iter().any(|(name, value)| *name == "dry_run" && value.is_some()))
}

fn told(global: &Global, out: &ImportOut, dry_run: bool) -> Result<(), Fault> {
    if global.json {
        print_json(out)?;
    } else {
        for error in &out.errors {
            complain(&format!("line {}: {}", error.line, clean(&error.detail)));
        }
        if out.wrong > out.errors.len() as u64 {
            complain(&format!("and {} more", out.wrong - out.errors.len() as u64));
        }
        if !out.ignored_columns.is_empty() {
            complain(&format!("columns that mean nothing here: {}", clean(&out.ignored_columns.join(", "))));
        }
        let wrong = if out.wrong > 0 { format!(", {} wrong", out.wrong) } else { String::new() };
        let counts = format!("{} added, {} changed, {} as before", out.added, out.changed, out.kept);
        let counts = if dry_run { "nothing was imported".into() } else { counts };
        print(&format!("{}: {counts}{wrong}.\n", plural(out.rows, "row")))?;
    }
    if out.wrong > 0 { Err(Fault::Told) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_sent_in_parts_of_whole_rows_that_know_their_lines() {
        let row = format!("r@x.test,\"{}\n{}\"\n", "a".repeat(30_000), "b".repeat(30_000));
        let text = "address,note\n".to_owned() + &row.repeat(30);
        let mut parts = Parts::open(text.as_bytes()).unwrap();
        let mut whole = String::new();
        let mut count = 0;
        while let Some((before, part)) = parts.next().unwrap() {
            let part = String::from_utf8(part).unwrap();
            let rows = part.strip_prefix("address,note\n").unwrap();
            assert_eq!(before as usize, whole.lines().count());
            assert!(rows.starts_with("r@x.test") && part.len() <= PART + 60_020, "{}", part.len());
            whole.push_str(rows);
            count += 1;
        }
        assert_eq!(("address,note\n".to_owned() + &whole, count), (text, 4));
        let open = "address\n\"".to_owned() + &"a\n".repeat(2 * PART);
        let mut parts = Parts::open(open.as_bytes()).unwrap();
        assert!(parts.next().unwrap_err().to_string().contains("quote is open"));
    }
}
