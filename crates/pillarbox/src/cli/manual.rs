//! Manual pages, the Markdown page of all commands, completions, version: all from the tree of commands.

use std::path::Path;

use anyhow::Context;
use clap::{Command, CommandFactory};

use super::Fault;
use super::args::Cli;
use super::output::{json, print, print_raw};

/// Completions for a shell.
pub fn completions(shell: clap_complete::Shell) -> Result<(), Fault> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pillarbox", &mut script);
    print_raw(&script)
}

/// Name and version.
pub fn version(as_json: bool) -> Result<(), Fault> {
    let version = env!("CARGO_PKG_VERSION");
    if as_json { json(&serde_json::json!({ "version": version })) } else { print(&format!("pillarbox {version}\n")) }
}

/// Manual pages into a directory, the main one to standard output, or Markdown.
pub fn run(directory: Option<&Path>, as_markdown: bool) -> Result<(), Fault> {
    if as_markdown {
        return print(&markdown());
    }
    match directory {
        Some(directory) => write(directory).map_err(Fault::cannot),
        None => {
            let mut page = Vec::new();
            let rendered = clap_mangen::Man::new(Cli::command()).render(&mut page);
            rendered.map_err(|error| Fault::cannot(error.into()))?;
            print_raw(&page)
        }
    }
}

fn write(directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    clap_mangen::generate_to(Cli::command(), directory)
        .with_context(|| format!("cannot write to {}", directory.display()))
}

/// One page for all commands.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Command line\n\nWritten by `pillarbox man --markdown`. Do not edit by hand.\n\n\
         Every command takes the global options at the end of this page. `--json` prints data as JSON.\n",
    );
    let mut root = Cli::command();
    root.build();
    let globals: Vec<_> = root.get_arguments().filter(|argument| argument.is_global_set()).cloned().collect();
    describe(&mut page, &root, "");
    page.push_str("\n## Global options\n\n");
    page.extend(globals.iter().map(option_line));
    page
}

fn describe(page: &mut String, command: &Command, parents: &str) {
    let name = format!("{parents}{}", command.get_name());
    if command.get_subcommands().next().is_none() {
        page.push_str(&format!("\n## {name}\n\n"));
        if let Some(about) = command.get_about() {
            page.push_str(&format!("{}.\n\n", about.to_string().trim_end_matches('.')));
        }
        let usage = command.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").trim().to_owned();
        page.push_str(&format!("```text\n{usage}\n```\n\n"));
        let own = command.get_arguments().filter(|argument| !argument.is_global_set() && argument.get_id() != "help");
        page.extend(own.map(option_line));
        if let Some(after) = command.get_after_help() {
            // The options are a list: it needs a line between itself and what follows.
            if !page.ends_with("\n\n") {
                page.push('\n');
            }
            page.push_str(&examples(&after.to_string()));
        }
    }
    for child in command.get_subcommands().filter(|child| child.get_name() != "help") {
        describe(page, child, &format!("{name} "));
    }
}

fn option_line(argument: &clap::Arg) -> String {
    let values: Vec<String> =
        argument.get_value_names().unwrap_or_default().iter().map(|name| format!("<{name}>")).collect();
    let takes_value = argument.get_action().takes_values();
    let value = if takes_value { values.join(" ") } else { String::new() };
    let name = match argument.get_long() {
        Some(long) if value.is_empty() => format!("--{long}"),
        Some(long) => format!("--{long} {value}"),
        None => value,
    };
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let possible: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|_| takes_value)
        .filter(|value| !value.is_hide_set())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    let possible = match possible.is_empty() || possible == ["`true`", "`false`"] {
        true => String::new(),
        false => format!(" One of {}.", possible.join(", ")),
    };
    format!("- `{name}`: {}.{possible}\n", help.trim_end_matches('.'))
}

fn examples(text: &str) -> String {
    match text.split_once("Examples:\n") {
        None => format!("{text}\n"),
        Some((_, rest)) => {
            let (code, notes) = rest.split_once("\n\n").unwrap_or((rest, ""));
            let code: Vec<&str> = code.lines().map(str::trim_start).collect();
            let notes = if notes.is_empty() { String::new() } else { format!("\n{notes}\n") };
            format!("```sh\n{}\n```\n{notes}", code.join("\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_sound_and_every_command_has_examples() {
        Cli::command().debug_assert();
        fn check(command: &Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            if command.get_subcommands().next().is_none() && command.get_name() != "help" {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.starts_with("Examples:\n"), "{path} has no examples");
                assert!(command.get_about().is_some(), "{path} does not say what it is");
            }
            command.get_subcommands().for_each(|child| check(child, &path));
        }
        Cli::command().get_subcommands().for_each(|child| check(child, "pillarbox"));
    }
}
