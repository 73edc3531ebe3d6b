//! The same check from here and from another Pillarbox: asking the other, and what a difference means.

use std::fmt::Write as _;
use std::path::Path;

use diagnose::Judged;

use super::Fault;
use super::args::Global;
use super::check_view::{Ended, View, findings};
use super::check_words as words;
use super::client::{Client, Need, at};
use super::output::clean;
use crate::config::Loaded;
use crate::http::words::stage as stage_word;

/// The way to the other one.
pub async fn find(global: &Global, loaded: &Loaded, name: &str, key_file: Option<&Path>) -> Result<Client, Fault> {
    if name == "server" {
        return Client::find(global, loaded, Need::Server).await;
    }
    if !name.starts_with("http://") && !name.starts_with("https://") {
        return Err(Fault::Usage("--via needs the URL of a Pillarbox, or the word server".into()));
    }
    let configured = loaded.config.client.key_file.as_deref();
    at(name, key_file.or(global.key_file.as_deref()).or(configured)).map_err(Fault::cannot)
}

/// Both side by side, then the finding.
pub fn words(here: &View, there: &View, name: &str, compared: &Judged) -> Result<String, Fault> {
    let mut out = format!("\nFrom here and from {name}:\n");
    let cell = |view: &View, n: usize| match view.stages.get(n) {
        None => String::new(),
        Some(stage) => {
            let word = match stage.outcome {
                Ended::Passed => "ok",
                Ended::Failed => "FAIL",
                Ended::Skipped | Ended::NotReached => "-",
            };
            let summary: String = clean(&stage.summary).chars().take(38).collect();
            format!("{word:<4} {summary}")
        }
    };
    let _ = writeln!(out, "  {:<10}  {:<44}  there", "stage", "here");
    for n in 0..here.stages.len().max(there.stages.len()) {
        let stage = here.stages.get(n).or_else(|| there.stages.get(n)).map_or("", |stage| stage_word(stage.stage));
        let line = format!("  {stage:<10}  {:<44}  {}", cell(here, n), cell(there, n));
        let _ = writeln!(out, "{}", line.trim_end());
    }
    let verdict = |view: &View| {
        format!("{} ({})", if view.healthy { "Success" } else { view.result.as_str() }, clean(&view.reason))
    };
    let _ = writeln!(out, "  {:<10}  {:<44}  {}", "result", verdict(here), verdict(there));
    out.push('\n');
    for found in findings(std::slice::from_ref(compared))? {
        words::finding(&found, &mut out);
    }
    if let Some(deciding) = there.deciding() {
        out.push_str("\nThere:\n");
        words::finding(deciding, &mut out);
    }
    Ok(out)
}
