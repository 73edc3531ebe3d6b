//! The configuration file: finding it, reading it, checking it, showing it.
//!
//! What was typed ([`raw`]) and what it means ([`checked`]) are two types. The table in [`keys`] is the only list of
//! settings: checking, `config show` and the generated reference all read it.

pub mod checked;
pub mod key;
pub mod keys;
pub mod raw;
mod reader;
pub mod reference;
pub mod show;
pub mod values;

use std::fmt;
use std::path::{Path, PathBuf};

pub use checked::Config;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Built in.
    Default,
    /// A line of the configuration file, both numbers from 1.
    File {
        /// Line.
        line: usize,
        /// Column, in characters.
        column: usize,
    },
    /// An environment variable of this name.
    Environment(String),
}

/// Something wrong with the configuration. Never quotes the file: a neighbouring line may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, if one was read.
    pub file: Option<PathBuf>,
    /// Where in it.
    pub place: Place,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.place, &self.file) {
            (Place::File { line, column }, Some(file)) => write!(f, "{}:{line}:{column}: ", file.display())?,
            (Place::File { line, column }, None) => write!(f, "{line}:{column}: ")?,
            (Place::Environment(name), _) => write!(f, "environment variable {name}: ")?,
            (Place::Default, Some(file)) => write!(f, "{}: ", file.display())?,
            (Place::Default, None) => {}
        }
        f.write_str(&self.message)
    }
}

/// The configuration could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file was named and cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It was read and is wrong.
    #[error("{}", list(.0))]
    Problems(Vec<Problem>),
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A configuration with where it came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// What was typed.
    pub raw: raw::Raw,
    /// What it means.
    pub config: Config,
}

/// Finds, reads and checks the configuration.
///
/// `named` (the option, or `PILLARBOX_CONFIG`) has to exist; without it `./pillarbox.toml` and
/// `/etc/pillarbox/pillarbox.toml` are tried, then the built-in defaults stand alone.
pub fn load(named: Option<&Path>) -> Result<Loaded, ConfigError> {
    let variable = std::env::var_os("PILLARBOX_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    let file = match named.map(Path::to_owned).or(variable) {
        Some(path) => Some(path),
        None => {
            ["pillarbox.toml", "/etc/pillarbox/pillarbox.toml"].iter().map(PathBuf::from).find(|path| path.is_file())
        }
    };
    let text = match &file {
        Some(path) => {
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.clone(), source })?
        }
        None => String::new(),
    };
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("PILLARBOX_"));
    read(file, &text, environment)
}

/// Checks a configuration text together with environment variables.
pub fn read(
    file: Option<PathBuf>,
    text: &str,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    let mut problems = Vec::new();
    let mut raw = raw::parse(text, &mut problems);
    raw::add_environment(&mut raw, environment);
    let config = checked::check(&raw, file.as_deref().and_then(Path::parent), &mut problems);
    if problems.is_empty() {
        return Ok(Loaded { file, raw, config });
    }
    for problem in &mut problems {
        problem.file.clone_from(&file);
    }
    problems.sort_by_key(|problem| match problem.place {
        Place::File { line, column } => (line, column),
        _ => (0, 0),
    });
    Err(ConfigError::Problems(problems))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        match read(Some("p.toml".into()), text, std::iter::empty()) {
            Ok(_) => Vec::new(),
            Err(error) => error.to_string().lines().map(str::to_owned).collect(),
        }
    }

    #[test]
    fn without_a_file_the_defaults_stand() {
        let config = read(None, "", std::iter::empty()).unwrap().config;
        assert_eq!(config.http.to_string(), "127.0.0.1:8025");
        assert_eq!(config.listeners[0].address.to_string(), "127.0.0.1:2525");
        assert_eq!(config.limits.message_size, 25 << 20);
        assert_eq!(config.expiry.as_secs(), 5 * 86_400);
        assert_eq!(config.data_dir, PathBuf::from("data"));
    }

    #[test]
    fn every_problem_is_told_with_its_line_and_column() {
        let text =
            "hostnam = \"mail.example.com\"\n\n[retry]\nexpiry = 5\n  intervals = []\n\n[[listener]]\nmode = \"tls\"\n";
        assert_eq!(
            problems(text),
            [
                "p.toml:1:1: there is no setting `hostnam`; did you mean `hostname`?",
                "p.toml:4:10: `retry.expiry`: expected a duration from 1m to 30d, such as \"90s\", \"10m\" or \"5d\"",
                "p.toml:5:15: `retry.intervals`: expected at least one duration",
                "p.toml:7:1: `listener.address` is missing here",
                "p.toml:8:8: `listener.mode`: expected one of \"starttls\", \"implicit\", \"plain\"",
            ]
        );
    }

    #[test]
    fn a_syntax_error_does_not_quote_the_file() {
        let found = problems("[key]\nfile = \"s3cret\nenv = 1\n");
        assert!(found[0].starts_with("p.toml:2:"), "{found:?}");
        assert!(!found.concat().contains("s3cret"), "{found:?}");
    }

    #[test]
    fn the_environment_lies_over_the_file() {
        let environment = [("PILLARBOX_RETRY_EXPIRY", "2d"), ("PILLARBOX_DNS_SERVERS", "192.0.2.1, 192.0.2.2:5353")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter();
        let config = read(None, "[retry]\nexpiry = \"1d\"\n", environment).unwrap().config;
        assert_eq!(config.expiry.as_secs(), 2 * 86_400);
        assert_eq!(config.dns_servers.len(), 2);
    }

    #[test]
    fn paths_in_a_file_start_at_the_file() {
        let config =
            read(Some("/etc/pillarbox/p.toml".into()), "data_dir = \"q\"\n", std::iter::empty()).unwrap().config;
        assert_eq!(config.data_dir, PathBuf::from("/etc/pillarbox/q"));
    }

    #[test]
    fn a_listener_with_half_a_certificate_is_refused() {
        let found = problems("[[listener]]\naddress = \"127.0.0.1:0\"\ncertificate = \"c.pem\"\n");
        assert_eq!(found, ["p.toml:3:15: `listener.certificate` needs `listener.key`"]);
    }
}
