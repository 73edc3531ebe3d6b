//! `pillarbox config audit`: what is weak in configuration and settings.

use super::Fault;
use super::args::Global;
use super::client::{Client, Need, read};
use super::output::{clean, json as print_json, print};
use crate::http::api::config_audit::ConfigAuditOut;
use crate::monitor::Level;

/// Asks the server, or looks at the store while none runs.
pub async fn run(global: &Global) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    let value = client.get("/config-audit").await?;
    let audit: ConfigAuditOut = read(value.clone())?;
    if global.json {
        print_json(&value)?;
    } else if audit.items.is_empty() {
        print("nothing to complain about\n")?;
    }
    for one in audit.items.iter().filter(|_| !global.json) {
        let colour = match one.level {
            Level::Problem => anstyle::AnsiColor::Red.on_default(),
            Level::Warning => anstyle::AnsiColor::Yellow.on_default(),
            _ => anstyle::Style::new().dimmed(),
        };
        let (level, about) = (one.level.word(), clean(&one.about));
        print(&format!("{colour}{level}{colour:#}: {about}: {} ({})\n", clean(&one.text), clean(&one.id)))?;
        if !one.fix.is_empty() {
            print(&format!("  → {}\n", clean(&one.fix)))?;
        }
    }
    if audit.healthy { Ok(()) } else { Err(Fault::Told) }
}
