//! Taking a secret from where it is, never from the command line.

use std::io::{BufRead, IsTerminal};

use anyhow::{Context, anyhow};
use secrecy::SecretString;

use super::Fault;
use super::args_settings::Source;

/// Reads a secret.
pub fn read(source: &Source, prompt: &str) -> Result<SecretString, Fault> {
    let text = match source {
        Source::Prompt => prompted(prompt),
        Source::Stdin => first_line(std::io::stdin().lock()).context("cannot read the password from standard input"),
        Source::Env(name) => std::env::var(name).map_err(|_| anyhow!("the environment variable {name} is not set")),
        Source::File(path) => std::fs::File::open(path)
            .and_then(|file| first_line(std::io::BufReader::new(file)))
            .with_context(|| format!("cannot read {}", path.display())),
    };
    let text = text.map_err(Fault::cannot)?;
    if text.is_empty() {
        return Err(Fault::Usage("the password is empty".into()));
    }
    Ok(text.into())
}

/// Asks on the terminal, once: a password that exists already shows by itself whether it was typed well.
pub fn asked_once(prompt: &str) -> Result<SecretString, Fault> {
    let asked = rpassword::prompt_password(format!("{prompt}: ")).context("cannot ask on the terminal");
    let text = asked.map_err(Fault::cannot)?;
    match text.is_empty() {
        true => Err(Fault::Usage("the password is empty".into())),
        false => Ok(text.into()),
    }
}

/// The source that was named, or the terminal if there is one.
pub fn or_prompt(source: Option<&Source>) -> Result<Source, Fault> {
    match source {
        Some(source) => Ok(source.clone()),
        None if std::io::stdin().is_terminal() => Ok(Source::Prompt),
        None => Err(Fault::Usage("a password is needed: --password-from stdin, env:NAME or file:PATH".into())),
    }
}

fn prompted(prompt: &str) -> anyhow::Result<String> {
    let ask = |prompt: &str| rpassword::prompt_password(prompt).context("cannot ask on the terminal");
    let first = ask(&format!("{prompt}: "))?;
    if ask("Again: ")? != first {
        return Err(anyhow!("the two differ"));
    }
    Ok(first)
}

fn first_line(mut input: impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
