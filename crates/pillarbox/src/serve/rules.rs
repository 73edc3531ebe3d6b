//! Rules of one's own: the files of a directory beside the rules inside the program.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use explain::RuleBase;

/// Most octets of a file of rules.
pub const MAX_FILE: u64 = 4 << 20;
/// Most files of rules.
const MAX_FILES: usize = 200;

/// Name and text of a file of rules.
pub type RuleFile = (String, String);

/// The `*.toml` files of the directory, by name; none without a directory.
pub fn files(directory: Option<&Path>) -> Result<Vec<RuleFile>> {
    let Some(directory) = directory else { return Ok(Vec::new()) };
    let cannot = || format!("cannot read the rules in {}", directory.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    ensure!(paths.len() <= MAX_FILES, "more than {MAX_FILES} files of rules in {}", directory.display());
    paths.sort();
    paths.iter().map(|path| file(path)).collect()
}

/// One file.
pub fn file(path: &Path) -> Result<RuleFile> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text));
    read.with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(text.len() as u64 <= MAX_FILE, "{} is larger than {MAX_FILE} octets", path.display());
    Ok((path.display().to_string(), text))
}

/// The rules inside the program with those of these files.
pub fn with(files: &[RuleFile]) -> Result<Arc<RuleBase>, explain::RulesError> {
    if files.is_empty() {
        return Ok(RuleBase::shared());
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    RuleBase::with_user_rules(&files).map(Arc::new)
}

/// The rules inside the program with those of the directory.
pub fn load(directory: Option<&Path>) -> Result<Arc<RuleBase>> {
    with(&files(directory)?).context("a rule of one's own cannot be used")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "[file]\nsource = \"mail from partner.example\"\nchecked = \"2026-11-21\"\n\n[[rule]]\nid = \"partner-contract\"\nstage = [\"recipient\"]\ntext = [\"no contract for {domain}\"]\nreason = \"recipient_policy\"\nsamples = [\"550 5.7.1 no contract for example.com\"]\n";

    #[test]
    fn rules_of_a_directory_are_used_and_a_broken_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("own.toml"), OWN).unwrap();
        std::fs::write(directory.path().join("notes.txt"), "no rules").unwrap();
        assert!(load(Some(directory.path())).unwrap().rule("partner-contract").is_some());
        std::fs::write(directory.path().join("zz.toml"), "[[rule]]\nid = 5\n").unwrap();
        let error = format!("{:#}", load(Some(directory.path())).unwrap_err());
        assert!(error.contains("zz.toml"), "{error}");
        assert!(load(Some(&directory.path().join("none"))).is_err());
        assert!(load(None).unwrap().rule("partner-contract").is_none());
    }
}
