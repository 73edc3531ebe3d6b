//! `pillarbox route export`: a route documented for those who run it, as Markdown or JSON.

use net::Clock;

use super::Fault;
use super::args::Global;
use super::args_presets::ExportOptions;
use super::client::{Client, escaped, read};
use super::output::{json as print_json, print, short_time};
use crate::config::Loaded;
use crate::http::api::routes::{RouteOut, RuleOut};
use crate::http::api::senders::SenderOut;
use crate::http::views::Page;
use crate::route_document::{Material, make, markdown};
use crate::serve::parts;

/// Does it.
pub async fn run(
    global: &Global,
    loaded: &Loaded,
    client: &Client,
    name: &str,
    options: &ExportOptions,
) -> Result<(), Fault> {
    let value = client.get(&format!("/routes/{}", escaped(name))).await?;
    let route: RouteOut = read(value.clone())?;
    let senders: Page<SenderOut> = read(client.get("/senders").await?)?;
    let rules: Page<RuleOut> = read(client.get("/rules").await?)?;
    let base = super::rules::base(global)?;
    let net = match options.no_dns {
        true => None,
        false => Some(parts::net(&loaded.config, Clock::system()).map_err(Fault::cannot)?),
    };
    let material = Material {
        value,
        route: &route,
        senders: &senders.items,
        rules: &rules.items,
        domains: &options.domain,
        resolver: net.as_ref().map(|net| &net.resolver),
    };
    let document = make(material, &base).await;
    if global.json {
        return print_json(&document);
    }
    let at = short_time(&crate::http::time::show(Clock::system().now_ms()));
    print(&markdown(&route, &document, &at))
}
