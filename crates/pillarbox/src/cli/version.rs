//! `pillarbox version --check`.

use net::Clock;
use serde_json::json;

use super::Fault;
use super::args::Global;
use super::output::{json as print_json, print};
use crate::monitor::version::{OWN, Source, is_newer, latest};
use crate::serve::parts;

/// Asks the source, and says whether there is a newer version.
pub async fn check(global: &Global, from: Option<&str>) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let Some(from) = from.or(loaded.config.checks.version_from.as_deref()) else {
        let text = "nobody is named who could be asked: give --from, or set `checks.version_from`";
        return Err(Fault::Usage(text.into()));
    };
    let source = Source::parse(from).map_err(Fault::Usage)?;
    let net = parts::net(&loaded.config, Clock::system()).map_err(Fault::cannot)?;
    let newest = latest(&net, &source).await.map_err(|error| Fault::cannot(anyhow::Error::msg(error)))?;
    let newer = is_newer(&newest);
    if global.json {
        print_json(&json!({ "version": OWN, "newest": newest.to_string(), "newer": newer }))?;
    } else if newer {
        print(&format!("this is {OWN}, {newest} is there\n"))?;
    } else {
        print(&format!("this is {OWN}, the newest is {newest}\n"))?;
    }
    if newer { Err(Fault::Told) } else { Ok(()) }
}
