//! `pillarbox config`: works on the file alone, without server and data.

use serde_json::json;

use super::Fault;
use super::args::{ConfigCommand, Global};
use super::output::{json as print_json, print, table};
use crate::config::{ConfigError, Place, reference, show};

/// Does what was asked.
pub fn run(global: &Global, command: &ConfigCommand) -> Result<(), Fault> {
    match command {
        ConfigCommand::Check => check(global),
        ConfigCommand::Show => {
            let all = show::all(&super::load(global)?);
            if global.json {
                return print_json(&all);
            }
            let row = |one: &show::Shown| {
                let source = match (one.line, &one.variable) {
                    (Some(line), _) => format!("line {line}"),
                    (_, Some(name)) => name.clone(),
                    _ => one.source.to_owned(),
                };
                vec![one.setting.clone(), one.value.clone().unwrap_or_else(|| "-".into()), source]
            };
            table(&["SETTING", "VALUE", "SOURCE"], &all.iter().map(row).collect::<Vec<_>>())
        }
        // Handled before: it is a question to the server.
        ConfigCommand::Audit => Ok(()),
        ConfigCommand::Reference => print(&reference::markdown()),
    }
}

fn check(global: &Global) -> Result<(), Fault> {
    match crate::config::load(global.config.as_deref()) {
        Ok(loaded) => {
            if global.json {
                return print_json(&json!({ "file": loaded.file, "problems": [] }));
            }
            match &loaded.file {
                Some(file) => print(&format!("{}: no problems\n", file.display())),
                None => print("no configuration file: the defaults hold\n"),
            }
        }
        Err(ConfigError::Problems(problems)) => {
            if global.json {
                let one = |problem: &crate::config::Problem| {
                    let (line, column) = match &problem.place {
                        Place::File { line, column } => (Some(line), Some(column)),
                        _ => (None, None),
                    };
                    json!({ "line": line, "column": column, "message": problem.message })
                };
                let file = problems.first().and_then(|problem| problem.file.clone());
                print_json(&json!({ "file": file, "problems": problems.iter().map(one).collect::<Vec<_>>() }))?;
            } else {
                problems.iter().try_for_each(|problem| print(&format!("{problem}\n")))?;
            }
            Err(Fault::Told)
        }
        Err(error) => Err(Fault::cannot(error.into())),
    }
}
