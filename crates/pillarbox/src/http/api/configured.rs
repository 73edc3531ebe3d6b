//! The configuration as it is in use, and what the file says now. Settings of the file are changed in the file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::config::keys::{self, Key};
use crate::config::show::{self, Shown};
use crate::config::values::expected;
use crate::config::{self, Loaded};
use crate::http::Shared;
use crate::http::auth::Admin;
use crate::http::problem::Problem;

/// What the server was started with.
#[derive(Debug)]
pub struct Configured {
    /// As it was named on the command line.
    named: Option<PathBuf>,
    file: Option<PathBuf>,
    shown: Vec<Shown>,
}

impl Configured {
    /// Of a start.
    pub fn new(loaded: &Loaded, named: Option<&Path>) -> Self {
        Self { named: named.map(Path::to_owned), file: loaded.file.clone(), shown: show::all(loaded) }
    }
}

/// The configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SettingsOut {
    /// The file; absent: the defaults hold.
    pub file: Option<PathBuf>,
    /// All settings, in the order of the reference.
    pub items: Vec<SettingOut>,
    /// What is wrong with the file as it is now: the next start would fail.
    pub problems: Vec<String>,
    /// Settings whose value in the file is another one now: it holds from the next start on.
    pub changed: Vec<String>,
}

/// A setting.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SettingOut {
    /// `retry.expiry`, `listener[0].address`.
    pub setting: String,
    /// Section of the file; empty: its top.
    pub section: String,
    /// As it would be typed, secrets masked; absent: not set.
    pub value: Option<String>,
    /// `default`, `file` or `environment`.
    pub source: String,
    /// Line in the file.
    pub line: Option<usize>,
    /// Environment variable.
    pub variable: Option<String>,
    /// What it would be otherwise; absent: nothing.
    pub default: Option<String>,
    /// What it takes.
    pub takes: String,
    /// What it means.
    pub meaning: String,
    /// What the file says now, where that is something else; `-`: it is no longer set.
    pub next: Option<String>,
}

/// All settings of the configuration file, as they are in use and as the file has them now.
pub async fn show(State(app): State<Shared>, _: Admin) -> Result<axum::Json<SettingsOut>, Problem> {
    let stopped = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server is not running");
    let used = app.configured.get().ok_or_else(stopped)?;
    let named = used.named.clone();
    let fresh = tokio::task::spawn_blocking(move || config::load(named.as_deref())).await;
    let (now, problems) = match fresh {
        Ok(Ok(fresh)) => (Some(show::all(&fresh)), Vec::new()),
        Ok(Err(error)) => (None, error.to_string().lines().map(str::to_owned).collect()),
        Err(error) => (None, vec![error.to_string()]),
    };
    let items: Vec<SettingOut> = used.shown.iter().map(|one| out(one, now.as_deref())).collect();
    let changed = items.iter().filter(|one| one.next.is_some()).map(|one| one.setting.clone()).collect();
    Ok(axum::Json(SettingsOut { file: used.file.clone(), items, problems, changed }))
}

fn out(one: &Shown, now: Option<&[Shown]>) -> SettingOut {
    let key = key_of(&one.setting);
    let fresh: Option<HashMap<&str, &Shown>> =
        now.map(|all| all.iter().map(|shown| (shown.setting.as_str(), shown)).collect());
    let next = fresh.and_then(|all| match all.get(one.setting.as_str()) {
        Some(fresh) if fresh.value == one.value => None,
        Some(fresh) => Some(masked(&one.setting, fresh.value.as_deref().unwrap_or("-"))),
        None => Some("-".into()),
    });
    SettingOut {
        setting: one.setting.clone(),
        section: key.map(Key::section).unwrap_or_default().to_owned(),
        value: one.value.as_deref().map(|value| masked(&one.setting, value)),
        source: one.source.to_owned(),
        line: one.line,
        variable: one.variable.clone(),
        default: key.map(|key| key.default).filter(|default| !default.is_empty()).map(str::to_owned),
        takes: key.map(|key| expected(key.shape)).unwrap_or_default(),
        meaning: key.map(|key| key.doc).unwrap_or_default().to_owned(),
        next,
    }
}

/// `listener[0].address` is `listener.address`.
fn key_of(setting: &str) -> Option<&'static Key> {
    match (setting.find('['), setting.find(']')) {
        (Some(from), Some(to)) if from < to => keys::find(&format!("{}{}", &setting[..from], &setting[to + 1..])),
        _ => keys::find(setting),
    }
}

/// Secrets are in files that settings name; should one stand in a setting all the same, it is not shown.
fn masked(setting: &str, value: &str) -> String {
    let name = setting.rsplit('.').next().unwrap_or(setting);
    let is_secret = ["password", "secret", "token", "credential"].iter().any(|word| name.contains(word));
    if is_secret && !name.ends_with("_file") && value != "-" {
        return "\"***\"".into();
    }
    let mut shown = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let ends = after.find(['/', '?', '#', '"', ' ', ',']).unwrap_or(after.len());
        rest = match after[..ends].rfind('@') {
            Some(at) => {
                shown.push_str("***");
                &after[at..]
            }
            None => after,
        };
    }
    let shown = shown + rest;
    // `password=…` of a connection string, in either of its forms.
    match shown.find("password=") {
        Some(at) => {
            let from = at + "password=".len();
            let ends = shown[from..].find([' ', '&', '"', '\'']).map_or(shown.len(), |ends| from + ends);
            format!("{}***{}", &shown[..from], &shown[ends..])
        }
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_a_setting_and_is_secret_is_masked() {
        for (setting, value, shown) in [
            ("store.url", "\"postgres://u:p@ss@db.test:5432/mail\"", "\"postgres://***@db.test:5432/mail\""),
            ("store.url", "\"host=db password=hunter2 user=x\"", "\"host=db password=*** user=x\""),
            ("metrics.token_file", "\"/run/token\"", "\"/run/token\""),
            ("metrics.token", "\"abc\"", "\"***\""),
            ("otlp.endpoint", "\"https://collect.test/v1\"", "\"https://collect.test/v1\""),
            ("x.y", "[\"http://a:b@c.test\", \"http://d.test\"]", "[\"http://***@c.test\", \"http://d.test\"]"),
        ] {
            assert_eq!(masked(setting, value), shown, "{setting} = {value}");
        }
    }

    #[test]
    fn settings_of_blocks_are_found_in_the_reference() {
        assert_eq!(key_of("listener[12].address").map(|key| key.path), Some("listener.address"));
        assert_eq!(key_of("retry.expiry").map(|key| key.path), Some("retry.expiry"));
        assert!(key_of("nothing").is_none());
    }
}
