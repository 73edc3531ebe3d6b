//! Repository checks: rules of docs/ARCHITECTURE.md and CONTRIBUTING.md that a compiler does not know.
//!
//! They read manifests and sources as text, so they need no build of what they check. `BLESS=1` rewrites the
//! last column of docs/rfc.tsv instead of complaining about it.

#![expect(clippy::expect_used, reason = "test code: what cannot be read cannot be checked")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Which of our crates a crate may import, and what it must never import.
const IMPORTS: &[(&str, &[&str], &[&str])] = &[
    ("proto", &[], IMPURE),
    ("explain", &["proto"], IMPURE),
    ("net", &["proto"], &["axum", "rusqlite", "tokio-postgres", "reqwest", "clap"]),
    ("store", &["proto"], &["axum", "reqwest", "hickory-resolver", "clap"]),
    ("relay", &["proto", "explain", "net", "store"], &["axum", "rusqlite", "tokio-postgres", "reqwest", "clap"]),
    ("diagnose", &["proto", "explain", "net"], &["axum", "rusqlite", "tokio-postgres", "clap"]),
    ("pillarbox", &["proto", "explain", "net", "store", "relay", "diagnose"], &["rusqlite", "hickory-resolver"]),
    ("testkit", &["proto"], &["axum", "rusqlite"]),
];

/// What would let the world into a pure crate: sockets, files, clocks, randomness, logging.
const IMPURE: &[&str] = &[
    "tokio",
    "tokio-util",
    "tokio-rustls",
    "rustls",
    "socket2",
    "rustix",
    "tracing",
    "tracing-subscriber",
    "rand",
    "jiff",
    "axum",
    "reqwest",
    "rusqlite",
    "hickory-resolver",
    "aws-lc-rs",
    "tempfile",
    "clap",
];

const MOST_LINES: usize = 800;
const MANY_LINES: usize = 500;

/// Files that are tables, or that one subject fills: longer than [`MOST_LINES`] with a reason.
const LONG: &[&str] = &[];

struct Source {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("run by cargo");
    Path::new(&here).ancestors().nth(2).expect("the repository").to_owned()
}

/// All files of the repository with one of these endings, paths relative to its root.
fn files(endings: &[&str]) -> Vec<Source> {
    let root = root();
    let mut found = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).expect("a directory").flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let skip = name == "target" || name == "node_modules" || name == "data" || name == "corpus";
                if !skip && (!name.starts_with('.') || name == ".ci") {
                    open.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending))
                && let Ok(text) = fs::read_to_string(&path)
            {
                let path = path.strip_prefix(&root).expect("below the root").to_string_lossy().into_owned();
                found.push(Source { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "found no files: the check looks in the wrong place");
    found
}

/// The part of a source that ends up in the product: tests and benches are exempt from some rules.
fn product(source: &Source) -> Option<&str> {
    let exempt = ["crates/testkit/", "fuzz/", "bench/", "interop/"];
    if exempt.iter().any(|start| source.path.starts_with(start))
        || source.path.contains("/tests/")
        || source.path.contains("/benches/")
        || source.path.ends_with("tests.rs")
    {
        return None;
    }
    Some(source.text.split("#[cfg(test)]").next().unwrap_or_default())
}

fn assert_none(what: &str, problems: &[String]) {
    assert!(problems.is_empty(), "{what}:\n  {}", problems.join("\n  "));
}

fn dependencies(manifest: &toml::Table) -> BTreeSet<String> {
    let keys = |table: Option<&toml::Value>| -> Vec<String> {
        table.and_then(toml::Value::as_table).map(|table| table.keys().cloned().collect()).unwrap_or_default()
    };
    let mut all: BTreeSet<String> = keys(manifest.get("dependencies")).into_iter().collect();
    all.extend(keys(manifest.get("build-dependencies")));
    if let Some(targets) = manifest.get("target").and_then(toml::Value::as_table) {
        all.extend(targets.values().flat_map(|target| keys(target.get("dependencies"))));
    }
    all.into_iter().map(|name| name.strip_prefix("pillarbox-").unwrap_or(&name).to_owned()).collect()
}

#[test]
fn crates_import_only_what_the_architecture_allows() {
    let ours: BTreeSet<&str> = IMPORTS.iter().map(|(name, _, _)| *name).collect();
    let mut problems = Vec::new();
    for manifest in files(&["Cargo.toml"]).iter().filter(|source| source.path.starts_with("crates/")) {
        let name = manifest.path.split('/').nth(1).expect("crates/NAME/Cargo.toml");
        let Some((_, allowed, never)) = IMPORTS.iter().find(|(known, _, _)| *known == name) else {
            problems.push(format!("{name} is not in the import table: say what it may import and what never"));
            continue;
        };
        for dependency in dependencies(&manifest.text.parse().expect("a manifest")) {
            if never.contains(&dependency.as_str()) {
                problems.push(format!("{name} must never import {dependency}"));
            }
            if ours.contains(dependency.as_str()) && !allowed.contains(&dependency.as_str()) {
                problems.push(format!("{name} may not import our {dependency}"));
            }
        }
    }
    assert_none("import table", &problems);
}

/// The store speaks TLS to its database and to nobody else (ADR 11).
#[test]
fn one_file_of_the_store_speaks_tls() {
    let speaks = |source: &&Source| source.path.starts_with("crates/store/src/") && source.text.contains("rustls::");
    let sources = files(&[".rs"]);
    let speakers: Vec<&str> = sources.iter().filter(speaks).map(|source| &*source.path).collect();
    assert_eq!(speakers, ["crates/store/src/postgres/tls.rs"]);
}

#[test]
fn every_dependency_is_in_one_table_and_has_its_reason() {
    let root: toml::Table = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml").parse().expect("TOML");
    let table = root["workspace"]["dependencies"].as_table().expect("a table");
    let reasons = fs::read_to_string(self::root().join("docs/dependencies.md")).expect("docs/dependencies.md");
    let external = table.iter().filter(|(_, value)| value.get("path").is_none());
    let mut problems: Vec<String> = external
        .filter(|(name, _)| !reasons.contains(&format!("`{name}`")))
        .map(|(name, _)| format!("{name} has no line in docs/dependencies.md"))
        .collect();
    for manifest in files(&["Cargo.toml"]).iter().filter(|source| source.path.starts_with("crates/")) {
        let parsed: toml::Table = manifest.text.parse().expect("a manifest");
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, value) in parsed.get(section).and_then(toml::Value::as_table).into_iter().flatten() {
                if value.get("workspace").is_none() {
                    problems.push(format!("{}: {name} has its version outside of the workspace table", manifest.path));
                }
            }
        }
    }
    assert_none("dependencies", &problems);
}

#[test]
fn files_have_a_size_one_can_read() {
    let mut problems = Vec::new();
    for source in files(&[".rs"]) {
        let lines = source.text.lines().count();
        if lines > MOST_LINES && !LONG.contains(&source.path.as_str()) {
            problems.push(format!("{} has {lines} lines", source.path));
        } else if lines > MANY_LINES {
            println!("look for the seam: {} has {lines} lines", source.path);
        }
    }
    assert_none("files over 800 lines", &problems);
}

#[test]
fn files_say_what_they_are_for() {
    let problems: Vec<String> =
        files(&[".rs"]).iter().filter(|source| !source.text.starts_with("//!")).map(|s| s.path.clone()).collect();
    assert_none("files that do not start with //!", &problems);
}

#[test]
fn only_the_clock_reads_time() {
    let clocks = ["SystemTime::now", "Instant::now", "Timestamp::now", "Zoned::now", "Utc::now", "Local::now"];
    let problems = lines_with(&clocks, |path| path != "crates/net/src/clock.rs");
    assert_none("time is read outside of crates/net/src/clock.rs", &problems);
}

/// `message` is where the words of a line are: a field of that name would take their place in JSON.
#[test]
fn log_lines_name_messages_by_message_id() {
    let fields = ["message = %", "message = ?", "!(%message", "!(?message", ", %message,", ", ?message,"];
    let mut problems = lines_with(&fields, |path| path.contains("/src/"));
    problems.retain(|line| line.contains("tracing::"));
    assert_none("log fields called `message`", &problems);
}

#[test]
fn nothing_is_left_unfinished() {
    let mut problems = lines_with(&["todo!(", "unimplemented!(", "dbg!("], |_| true);
    let marker = concat!("#[ign", "ore");
    for source in files(&[".rs"]) {
        let lines = source.text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with(marker));
        problems.extend(lines.map(|(n, _)| format!("{}:{}: a test that is not run", source.path, n + 1)));
    }
    assert_none("unfinished", &problems);
}

fn lines_with(patterns: &[&str], concerns: impl Fn(&str) -> bool) -> Vec<String> {
    let mut problems = Vec::new();
    for source in files(&[".rs"]).iter().filter(|source| concerns(&source.path)) {
        let Some(text) = product(source) else { continue };
        for (n, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if patterns.iter().any(|pattern| code.contains(pattern)) {
                problems.push(format!("{}:{}: {}", source.path, n + 1, line.trim()));
            }
        }
    }
    problems
}

#[test]
fn tests_bind_no_fixed_port() {
    let mut problems = Vec::new();
    for source in files(&[".rs"]) {
        for (n, line) in source.text.lines().enumerate().filter(|(_, line)| line.contains("bind(\"")) {
            let address = line.split("bind(\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
            if !address.ends_with(":0") {
                problems.push(format!("{}:{}: {}", source.path, n + 1, line.trim()));
            }
        }
    }
    assert_none("a fixed port", &problems);
}

#[test]
fn no_machine_of_ours_shows() {
    let words = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/tm", "p/"), concat!("/ho", "me/")];
    let mut problems = Vec::new();
    for source in files(&[".rs", ".md", ".toml", ".sh", ".py", ".tsv", ".js", ".cf", ".conf", "Makefile", "run"]) {
        for (n, line) in source.text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                problems.push(format!("{}:{}: {}", source.path, n + 1, line.trim()));
            }
        }
    }
    assert_none("paths of a machine", &problems);
}

#[test]
fn links_of_documents_lead_somewhere() {
    let root = root();
    let mut problems = Vec::new();
    for source in files(&[".md"]) {
        let here = root.join(&source.path);
        let beside = here.parent().expect("a directory");
        let mut quoted = false;
        for (n, line) in source.text.lines().enumerate() {
            quoted ^= line.starts_with("```");
            if quoted {
                continue;
            }
            let plain: String = line.split('`').step_by(2).collect();
            for link in plain.split("](").skip(1).filter_map(|rest| rest.split([')', ' ', '#']).next()) {
                if !link.is_empty() && !link.contains(':') && !beside.join(link).exists() {
                    problems.push(format!("{}:{}: {link}", source.path, n + 1));
                }
            }
        }
    }
    assert_none("links that lead nowhere", &problems);
}

/// Numbers cited as `RFC nnnn`, and places that cite in another form.
fn citations(text: &str) -> (BTreeSet<u32>, usize) {
    let (mut numbers, mut odd) = (BTreeSet::new(), 0);
    for (at, _) in text.match_indices("RFC") {
        let rest = &text[at + 3..];
        let spaced = rest.strip_prefix(' ');
        let digits: String = spaced.unwrap_or(rest).chars().take_while(char::is_ascii_digit).collect();
        match (spaced.is_some(), digits.parse()) {
            (true, Ok(number)) => drop(numbers.insert(number)),
            // What IMAP calls a message.
            (false, Ok(822)) => {}
            (false, Ok(_)) => odd += 1,
            (_, Err(_)) => {}
        }
    }
    (numbers, odd)
}

#[test]
fn every_rfc_cited_is_listed_and_every_one_listed_is_cited() {
    let mut used: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    let mut problems = Vec::new();
    for source in files(&[".rs", ".md", ".smtp"]) {
        let place = match source.path.split('/').collect::<Vec<_>>()[..] {
            // Replies in the words of others.
            ["crates", "explain", "tests", "replies.rs"] => continue,
            ["docs", "manual", "help" | "providers" | "reasons", ..] => continue,
            ["crates", name, ..] => name.to_owned(),
            ["docs", ..] => "docs".to_owned(),
            _ => continue,
        };
        let (numbers, odd) = citations(&source.text);
        if odd > 0 {
            problems.push(format!("{}: write `RFC 5321 §4.2.1`, with the space", source.path));
        }
        for number in numbers {
            used.entry(number).or_default().insert(place.clone());
        }
    }
    let path = root().join("docs/rfc.tsv");
    let list = fs::read_to_string(&path).expect("docs/rfc.tsv");
    let mut new_list = String::new();
    let mut last = 0;
    for (n, line) in list.lines().enumerate() {
        let columns: Vec<&str> = line.split('\t').collect();
        let [number, title, status, places] = columns[..] else {
            problems.push(format!("docs/rfc.tsv:{}: needs four columns", n + 1));
            continue;
        };
        let Ok(number) = number.parse::<u32>() else {
            assert_eq!(n, 0, "docs/rfc.tsv:{}: the first column is a number", n + 1);
            new_list.push_str(&format!("{line}\n"));
            continue;
        };
        if number <= last || title.is_empty() || status.is_empty() {
            problems.push(format!("docs/rfc.tsv:{}: rows go by number, once each, with title and status", n + 1));
        }
        last = number;
        let Some(where_used) = used.remove(&number) else {
            problems.push(format!("RFC {number} is listed but nothing cites it"));
            continue;
        };
        let where_used = where_used.into_iter().collect::<Vec<_>>().join(" ");
        if where_used != places && std::env::var_os("BLESS").is_none() {
            problems.push(format!("RFC {number} is used in: {where_used} (BLESS=1 writes this column)"));
        }
        new_list.push_str(&format!("{number}\t{title}\t{status}\t{where_used}\n"));
    }
    problems.extend(used.keys().map(|number| format!("RFC {number} is cited but not in docs/rfc.tsv")));
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, new_list).expect("write docs/rfc.tsv");
    }
    assert_none("docs/rfc.tsv", &problems);
}

#[test]
fn citations_are_found_in_one_form() {
    let (numbers, odd) = citations(concat!("RFC 5321 §4.2.1, RF", "C3461, RFCs, RFC 6531"));
    assert_eq!(numbers.into_iter().collect::<Vec<_>>(), [5321, 6531]);
    assert_eq!(odd, 1);
}
