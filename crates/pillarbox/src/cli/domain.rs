//! `pillarbox domain`: the audit of one domain. Many are `domain_many`'s, the words `domain_view`'s.

use std::sync::Arc;

use anyhow::Context;
use axum::http::Method;
use diagnose::Judge;
use diagnose::domain::{Auditor, Guess, OwnKey, Plan, Section, SendingRoute, Smtp};
use explain::RuleBase;
use net::{Clock, Dnssec, Resolver, ResolverSettings};
use relay::domain::KeyState;

use super::Fault;
use super::args::Global;
use super::args_domain::DomainArgs;
use super::client::{Client, Need, read};
use super::output::{json, print};
use super::{domain_many, domain_view};
use crate::config::Loaded;
use crate::http::api::domains::DomainOut;
use crate::http::api::routes::RouteOut;
use crate::http::views::Page;
use crate::serve::parts;

/// Does what was asked.
pub fn run(global: &Global, args: &DomainArgs) -> Result<(), Fault> {
    let Some(file) = &args.file else {
        return super::wait(one(global, args));
    };
    // Many domains keep all processors busy.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime").map_err(Fault::cannot)?;
    let outcome = runtime.block_on(async {
        let loaded = super::load(global)?;
        let auditor = Arc::new(auditor(global, &loaded, args).await?);
        domain_many::run(global, args, &auditor, file).await
    });
    // Without waiting for a read of standard input that may never come back.
    runtime.shutdown_background();
    outcome
}

async fn one(global: &Global, args: &DomainArgs) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let auditor = auditor(global, &loaded, args).await?;
    let name = args.name.as_deref().unwrap_or_default();
    let audit = tokio::select! {
        audit = auditor.audit(name) => audit,
        _ = tokio::signal::ctrl_c() => return Err(Fault::cannot(anyhow::anyhow!("interrupted"))),
    };
    if let Some(error) = &audit.error {
        return Err(Fault::Usage(error.clone()));
    }
    if global.json {
        json(&audit)?;
    } else {
        print(&domain_view::words(&audit))?;
    }
    if audit.healthy { Ok(()) } else { Err(Fault::Told) }
}

async fn auditor(global: &Global, loaded: &Loaded, args: &DomainArgs) -> Result<Auditor, Fault> {
    let config = &loaded.config;
    let clock = Clock::system();
    let mut net = parts::net(config, clock).map_err(Fault::cannot)?;
    let mut settings = ResolverSettings { timeout: args.timeout(), ..ResolverSettings::default() };
    settings.servers = match args.resolver.resolver.is_empty() {
        true => config.dns_servers.clone(),
        false => args.resolver.resolver.clone(),
    };
    net.resolver = Resolver::new(settings.clone()).context("cannot ask the DNS").map_err(Fault::cannot)?;
    let validating = match (args.no_dnssec, &args.trust_anchors) {
        (true, _) => None,
        (false, None) => Some(Dnssec::Root),
        (false, Some(file)) => {
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()));
            Some(Dnssec::Anchors(text.map_err(Fault::cannot)?))
        }
    };
    let validating = validating
        .map(|dnssec| Resolver::new(ResolverSettings { dnssec, ..settings }))
        .transpose()
        .context("cannot check signatures")
        .map_err(Fault::cannot)?;
    let (routes, own_keys) = if args.routes { sending(global, loaded).await? } else { Default::default() };
    let judge = Judge::new(RuleBase::shared());
    let lists = crate::monitor::dns::lists(config.blocklists.as_ref());
    let lists = Some(lists.map_err(|why| Fault::cannot(anyhow::anyhow!(why)))?);
    Ok(Auditor::new(net, validating, judge, Plan { own_keys, lists, ..plan(args, &config.hostname, routes) }))
}

fn plan(args: &DomainArgs, hostname: &str, routes: Vec<SendingRoute>) -> Plan {
    let many = args.file.is_some();
    let mut plan = Plan { timeout: args.timeout(), routes, ..Plan::default() };
    if !args.only.is_empty() {
        plan.sections = args.only.iter().copied().collect();
    } else if many {
        // A list of domains must not become a flood of questions to single servers.
        plan.sections.remove(&Section::Ns);
    }
    if args.blocklists {
        plan.sections.insert(Section::Blocklists);
    }
    plan.selectors.clone_from(&args.dkim_selector);
    plan.guess = match (args.no_guess, many) {
        (true, _) => Guess::Nothing,
        (false, true) => Guess::Few,
        (false, false) => Guess::Many,
    };
    plan.ips.clone_from(&args.ip);
    plan.helo.clone_from(&args.helo);
    plan.redirects = args.connect_to.iter().copied().collect();
    if !args.no_smtp && (!many || args.smtp) {
        let helo = args.helo.clone().unwrap_or_else(|| hostname.to_owned());
        plan.smtp = Some(Smtp { port: args.smtp_port, helo });
    }
    plan
}

/// The ways mail leaves this Pillarbox, and the keys it is signed with.
async fn sending(global: &Global, loaded: &Loaded) -> Result<(Vec<SendingRoute>, Vec<OwnKey>), Fault> {
    let client = Client::find(global, loaded, Need::Store).await?;
    let domains: Page<DomainOut> = read(client.get("/domains").await?)?;
    let keys = domains.items.iter().flat_map(|one| {
        let active = one.keys.iter().filter(|key| key.state == KeyState::Active);
        active.map(|key| OwnKey {
            domain: one.domain.clone(),
            selector: key.selector.clone(),
            subdomains: one.subdomains,
        })
    });
    let page: Page<RouteOut> = read(client.send(Method::GET, "/routes", serde_json::Value::Null).await?)?;
    let sending = page.items.into_iter().filter(|out| out.route.kind.leaves());
    let all = sending.map(|out| SendingRoute {
        name: out.name,
        host: out.route.next_host().map(str::to_owned),
        source: out.route.source_address,
        helo: out.route.helo.or_else(|| Some(loaded.config.hostname.clone())),
    });
    Ok((all.collect(), keys.collect()))
}
