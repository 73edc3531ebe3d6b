//! `migrate`: moves an installation from its data directory to PostgreSQL.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, anyhow};
use secrecy::SecretString;
use serde_json::json;
use store::moved::{Progress, to_postgres};
use store::postgres::Options;
use store::secret::Keyring;

use super::args_migrate::MigrateArgs;
use super::output::{json as print_json, plural, print};
use super::{Fault, Global};
use crate::config::values::show_size;

/// Moves, and says what was moved.
pub fn run(global: &Global, args: &MigrateArgs) -> Result<(), Fault> {
    let Some(from) = args.from.strip_prefix("sqlite:").filter(|directory| !directory.is_empty()) else {
        return Err(Fault::Usage("--from is written sqlite:DIRECTORY, with the data directory of a server".into()));
    };
    let url = target(args)?;
    // No secret is opened here: they move as they are sealed.
    let options = Options { schema: args.schema.clone(), ..Options::new(url, Keyring::from_key(&[0; 32])) };
    let now_ms = net::Clock::system().now_ms();
    let mut tell = |progress: Progress| {
        if !global.json {
            let Progress { table, moved, total } = progress;
            let _ = writeln!(std::io::stderr(), "{table}: {moved} of {total}");
        }
    };
    let moved = to_postgres(Path::new(from), options, now_ms, &mut tell)
        .map_err(|error| Fault::cannot(anyhow!(error).context("the store was not moved")))?;
    let rows = |name: &str| moved.tables.iter().find(|(table, _)| *table == name).map_or(0, |(_, rows)| *rows);
    let contents = show_size(moved.octets);
    if global.json {
        let tables: serde_json::Map<_, _> =
            moved.tables.iter().map(|(table, rows)| ((*table).to_owned(), json!(rows))).collect();
        print_json(&json!({
            "complete": moved.complete,
            "tables": tables,
            "rows_written": moved.written,
            "rows_removed": moved.removed,
            "content_octets": moved.octets,
        }))?;
        return if moved.complete { Ok(()) } else { Err(Fault::Told) };
    }
    let what = format!(
        "{} with {}, {} of events, {} of settings",
        plural(rows("message"), "message"),
        plural(rows("recipient"), "recipient"),
        plural(rows("event"), "row"),
        plural(rows("setting"), "document"),
    );
    let now =
        format!("{} written now, {} removed, {contents} of contents", plural(moved.written, "row"), moved.removed);
    if !moved.complete {
        print(&format!("copied while the server works: {what}; {now}\n"))?;
        print(
            "Stop the server and give the same command again: what has changed since moves, and all is counted and checked.\n",
        )?;
        return Err(Fault::Told);
    }
    print(&format!("moved, counted and checked: {what}; {now}\n"))?;
    print("The key is not in it: give each node the key of the source.\n")
}

/// The address of the target; one with a password is not taken from where others see it.
fn target(args: &MigrateArgs) -> Result<SecretString, Fault> {
    if let Some(path) = &args.to_file {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))
            .map_err(Fault::cannot)?;
        return Ok(SecretString::from(text.lines().next().unwrap_or_default().trim().to_owned()));
    }
    let url = args.to.clone().unwrap_or_default();
    let authority = url.split_once("://").map_or("", |(_, rest)| rest).split('/').next().unwrap_or_default();
    let has_password = authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'));
    if has_password || url.contains("password=") {
        return Err(Fault::Usage(
            "--to has a password, which others can see in the list of processes: put the address into a file, and give \
             --to-file"
                .into(),
        ));
    }
    Ok(SecretString::from(url))
}
