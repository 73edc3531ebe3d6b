//! `pillarbox provider`: what a route to each provider needs. Works without server and network.

use std::fmt::Write as _;

use explain::{PresetTls, RuleBase, SignIn};
use serde_json::json;

use super::Fault;
use super::args::Global;
use super::args_presets::ProviderCommand;
use super::output::{json as print_json, print, table};
use crate::presets::{PresetOut, shown};

/// Does what was asked.
pub fn run(global: &Global, command: &ProviderCommand) -> Result<(), Fault> {
    let base = super::rules::base(global)?;
    match command {
        ProviderCommand::Ls => list(global, &base),
        ProviderCommand::Show { name } => {
            let out = find(name).and_then(|preset| {
                shown(preset, &base).ok_or_else(|| Fault::Usage(format!("nothing is known of {}", preset.id)))
            })?;
            if global.json { print_json(&out) } else { print(&words(&out)) }
        }
    }
}

/// A preset by one of its names.
pub fn find(name: &str) -> Result<&'static explain::Preset, Fault> {
    explain::preset(name).ok_or_else(|| {
        let known: Vec<&str> = explain::presets().iter().map(|preset| preset.id.as_str()).collect();
        Fault::Usage(format!(
            "no provider `{}`; there are {}. For any other server: --smarthost HOST:PORT",
            name.escape_debug(),
            known.join(", ")
        ))
    })
}

fn list(global: &Global, base: &RuleBase) -> Result<(), Fault> {
    let all: Vec<PresetOut> = explain::presets().iter().filter_map(|preset| shown(preset, base)).collect();
    if global.json {
        return print_json(&json!({ "items": all }));
    }
    let row = |one: &PresetOut| {
        let host = one.host.clone().unwrap_or_else(|| match one.regions.first() {
            Some(region) => format!("{} …", region.host),
            None => "your own".into(),
        });
        vec![one.id.clone(), one.name.clone(), host, format!("{} {}", one.port, tls(one.tls))]
    };
    table(&["ID", "PROVIDER", "HOST", "PORT"], &all.iter().map(row).collect::<Vec<_>>())
}

/// The mode in words.
pub fn tls(tls: PresetTls) -> &'static str {
    match tls {
        PresetTls::Starttls => "STARTTLS",
        PresetTls::Implicit => "implicit TLS",
    }
}

fn words(one: &PresetOut) -> String {
    let mut out = format!("{} ({})\n\n", one.name, one.id);
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(out, "{name:<14}{value}");
        }
    };
    row("Also called", one.names.join(", "));
    match (&one.host, one.regions.is_empty()) {
        (None, true) => row("Host", "your own: --host HOST".into()),
        (Some(host), true) => row("Host", host.clone()),
        (_, false) => {
            for (n, region) in one.regions.iter().enumerate() {
                let head = if n == 0 { "Regions" } else { "" };
                row(head, format!("{:<16}{}", region.id, region.host));
            }
        }
    }
    let ways: Vec<String> = one.ways.iter().map(|way| format!("{} {}", way.port, tls(way.tls))).collect();
    row("Port", format!("{} {}", one.port, tls(one.tls)));
    row("All ports", ways.join(", "));
    let signs_in = match one.sign_in {
        SignIn::Password => "with user name and password",
        SignIn::Oauth => "with an access token (OAuth) only",
        SignIn::Optional => "with user name and password, or by address without any",
        SignIn::None => "not at all",
    };
    row("Signs in", signs_in.into());
    row("Mechanisms", one.mechanisms.join(", "));
    row("User name", one.username.clone());
    row("Password", one.password.clone());
    row("Limits", one.limits.words.clone());
    row("SPF term", one.spf.clone());
    row("DKIM", if one.dkim_record.is_empty() { one.dkim_selectors.join(", ") } else { one.dkim_record.clone() });
    row("Return path", one.return_path.clone());
    row("Pages", one.portals.join(" "));
    row("Checked", one.checked.clone());
    let _ = write!(out, "\n{}\n\nFirst of all:\n", one.help);
    for line in &one.verify {
        let _ = writeln!(out, "  - {line}");
    }
    out.push_str("\nWhen it is wrong, it is most likely one of these (`pillarbox rules show ID`):\n");
    let width = one.wrong.iter().map(|wrong| wrong.rule.len()).max().unwrap_or(0);
    for wrong in &one.wrong {
        let _ = writeln!(out, "  {:<width$}  {}", wrong.rule, wrong.title);
    }
    out
}
