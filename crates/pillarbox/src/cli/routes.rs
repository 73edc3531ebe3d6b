//! `pillarbox route`.

use axum::http::Method;
use relay::directory::DEFAULT_RULE;
use relay::route::RouteRecord;
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use super::Fault;
use super::args::Global;
use super::args_oauth::OauthProvider;
use super::args_presets::{DerivedOptions, GuardOptions, PresetOptions};
use super::args_settings::{RouteClear, RouteCommand, RouteKindArgs, RouteOptions, RuleCommand, Tls};
use super::client::{Client, Need, escaped, read};
use super::output::{clean, facts, json as print_json, print, short_time, table};
use super::route_guard::{Test, save};
use super::route_rates::{chain, words as rate_words};
use super::{route_oauth, route_preset, secret};
use crate::config::values::duration;
use crate::http::api::routes::{RouteOut, RuleOut};
use crate::http::forecast::ForecastOut;
use crate::http::views::Page;
use crate::limits;

/// Does what was asked.
pub async fn run(global: &Global, command: RouteCommand) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    match command {
        RouteCommand::Add { name, kind, options, preset, derived, guard, test, default } => {
            let new = New { name, kind, options: *options, preset, derived, guard, test, default };
            add(global, &client, new).await
        }
        RouteCommand::Ls => list(global, client.get("/routes").await?, super::status::forecasts(&client).await?),
        RouteCommand::Show { name } => {
            let (value, now) = (client.get(&path(&name)).await?, client.get(&format!("{}/status", path(&name))).await?);
            show_now(global, value, now)
        }
        RouteCommand::Set { name, smarthost, options, derived, guard, clear } => {
            let mut patch = fields(&options)?;
            route_oauth::fields(&options.oauth, &mut patch)?;
            if let Some(text) = &smarthost {
                host(text, &mut patch)?;
            }
            if let Some(source) = &options.password_from {
                let password = secret::read(source, "Password")?;
                patch.insert("password".into(), password.expose_secret().into());
            }
            if let Some(file) = &derived.secret_access_key_file {
                let route: RouteOut = read(client.get(&path(&name)).await?)?;
                let host = patch.get("host").and_then(Value::as_str).map(str::to_owned).or(route.route.host);
                let password = route_preset::derived(file, host.as_deref().unwrap_or_default())?;
                patch.insert("password".into(), password.expose_secret().into());
            }
            for one in clear {
                cleared(one).iter().for_each(|field| drop(patch.insert((*field).into(), Value::Null)));
            }
            if patch.is_empty() {
                return Err(Fault::Usage("nothing to change; see `pillarbox route set --help`".into()));
            }
            let how = (Test::First, &guard);
            show(global, save(global, &client, (Method::PATCH, &path(&name)), patch, how).await?)
        }
        RouteCommand::Login { name } => route_oauth::login(global, &client, &name).await,
        RouteCommand::Rotate { name, new } => {
            let body = route_oauth::new_credential(&new)?;
            let value = client.send(Method::POST, &format!("{}/rotate", path(&name)), Value::Object(body)).await?;
            show(global, value)
        }
        RouteCommand::Check { name, options } => super::route_check::run(global, &client, &name, &options).await,
        RouteCommand::Export { name, options } => {
            super::route_export::run(global, &loaded, &client, &name, &options).await
        }
        RouteCommand::Remove { name } => {
            client.delete(&path(&name)).await?;
            done(global, &format!("route {name} removed"))
        }
        RouteCommand::Default { name } => {
            set_default(&client, &name).await?;
            done(global, &format!("mail that no other rule takes goes by {name}"))
        }
        RouteCommand::Rule(command) => rule(global, &client, command).await,
    }
}

fn path(name: &str) -> String {
    format!("/routes/{}", escaped(name))
}

/// A route to be added.
struct New {
    name: String,
    kind: RouteKindArgs,
    options: RouteOptions,
    preset: PresetOptions,
    derived: DerivedOptions,
    guard: GuardOptions,
    test: bool,
    default: bool,
}

async fn add(global: &Global, client: &Client, new: New) -> Result<(), Fault> {
    let mut body = fields(&new.options)?;
    let mut test = if new.test || new.guard.from.is_some() { Test::First } else { Test::No };
    let key_file = new.derived.secret_access_key_file.as_deref();
    if let Some(provider) = &new.kind.provider {
        let mut options = new.options.oauth.clone();
        let graph = explain::preset(provider).is_some_and(|preset| preset.kind == explain::Speaks::Graph);
        if graph && options.client_id.is_some() {
            options.oauth.get_or_insert(OauthProvider::Microsoft);
        }
        let oauth = route_oauth::fields(&options, &mut body)?;
        route_preset::complete(provider, &new.preset, &new.options, (key_file, oauth), &mut body)?;
        test = Test::First;
    } else {
        match (new.preset.port, new.kind.mx) {
            (Some(port), true) => drop(body.insert("port".into(), port.into())),
            (Some(port), false) => {
                return Err(Fault::Usage(format!("--port goes with a provider or --mx: a smart host is HOST:{port}")));
            }
            (None, _) => {}
        }
        by_kind(&new.kind, &new.options, key_file, &mut body)?;
    }
    body.insert("name".into(), new.name.clone().into());
    let value = save(global, client, (Method::POST, "/routes"), body, (test, &new.guard)).await?;
    if new.default {
        set_default(client, &new.name).await?;
    }
    show(global, value)
}

/// A route that is described as a whole.
fn by_kind(
    kind: &RouteKindArgs,
    options: &RouteOptions,
    key_file: Option<&std::path::Path>,
    body: &mut Map<String, Value>,
) -> Result<(), Fault> {
    let oauth = route_oauth::fields(&options.oauth, body)?;
    let word = match &kind.smarthost {
        Some(text) => {
            host(text, body)?;
            "smarthost"
        }
        None if kind.mx => "mx",
        None if kind.capture => "capture",
        None => "discard",
    };
    body.insert("kind".into(), word.into());
    if let Some(file) = key_file {
        let host = body.get("host").and_then(Value::as_str).unwrap_or_default();
        let password = route_preset::derived(file, host)?;
        body.insert("password".into(), password.expose_secret().into());
    } else if !oauth && (options.username.is_some() || options.password_from.is_some()) {
        let source = secret::or_prompt(options.password_from.as_ref())?;
        let password = secret::read(&source, "Password")?;
        body.insert("password".into(), password.expose_secret().into());
    }
    Ok(())
}

async fn set_default(client: &Client, name: &str) -> Result<(), Fault> {
    let rule = json!({ "order": i32::MAX, "route": name });
    client.send(Method::PUT, &format!("/rules/{DEFAULT_RULE}"), rule).await.map(drop)
}

/// `HOST`, `HOST:PORT`, `[IPv6]:PORT`.
fn host(text: &str, body: &mut Map<String, Value>) -> Result<(), Fault> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    if let Some(port) = port {
        let port: u16 = port.parse().map_err(|_| Fault::Usage(format!("{port} is not a port")))?;
        body.insert("port".into(), port.into());
    }
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    body.insert("host".into(), host.into());
    Ok(())
}

fn fields(options: &RouteOptions) -> Result<Map<String, Value>, Fault> {
    let seconds = |text: &str| {
        let value = duration(text).and_then(|value| u32::try_from(value.as_secs()).ok());
        value.ok_or_else(|| Fault::Usage(format!("{text} is not a duration such as 10s or 5m")))
    };
    let mut body = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.into(), value);
        }
    };
    put("tls", options.tls.map(|tls| tls_word(tls).into()));
    put("username", options.username.clone().map(Into::into));
    let ca_file = options.ca_file.as_ref().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()));
    put("ca_file", ca_file.map(|path| path.to_string_lossy().into_owned().into()));
    put("verify", options.verify.map(Into::into));
    put("mechanism", options.auth_mechanism.as_ref().map(|name| name.to_ascii_uppercase().into()));
    put("auth_without_tls", options.auth_without_tls.map(Into::into));
    put("connections", options.connections.map(Into::into));
    put("messages_per_connection", options.messages_per_connection.map(Into::into));
    put("recipients_per_transaction", options.recipients_per_transaction.map(Into::into));
    put("idle_s", options.idle.as_deref().map(seconds).transpose()?.map(Into::into));
    let retry = options.retry.as_deref().map(|list| list.split(',').map(seconds).collect::<Result<Vec<u32>, _>>());
    put("retry_s", retry.transpose()?.map(Into::into));
    put("source_address", options.source_address.map(|address| address.to_string().into()));
    put("helo", options.helo.clone().map(Into::into));
    let sources = options.sources.iter().map(|text| source(text)).collect::<Result<Vec<Value>, Fault>>()?;
    put("sources", (!sources.is_empty()).then(|| sources.into()));
    put("dane", options.dane.map(Into::into));
    put("mta_sts", options.mta_sts.map(Into::into));
    put("allow_private", options.allow_private.map(Into::into));
    put("return_path", options.return_path.clone().map(Into::into));
    let failover = options.rates.failover_after.as_deref().map(seconds).transpose()?;
    put("failover_after_s", failover.map(Into::into));
    options.rates.put(&mut body);
    Ok(body)
}

/// `ADDRESS` or `ADDRESS=NAME`.
fn source(text: &str) -> Result<Value, Fault> {
    let (address, helo) = text.split_once('=').map_or((text, None), |(address, helo)| (address, Some(helo)));
    let address: std::net::IpAddr =
        address.parse().map_err(|_| Fault::Usage(format!("{address} is not an IP address")))?;
    Ok(match helo {
        Some(helo) => json!({ "address": address, "helo": helo }),
        None => json!({ "address": address }),
    })
}

fn tls_word(tls: Tls) -> &'static str {
    match tls {
        Tls::None => "none",
        Tls::Opportunistic => "opportunistic",
        Tls::Required => "required",
        Tls::Implicit => "implicit",
    }
}

fn cleared(what: RouteClear) -> &'static [&'static str] {
    match what {
        RouteClear::Tls => &["tls"],
        RouteClear::Username => &["username", "password"],
        RouteClear::Oauth => &["oauth", "client_secret", "private_key", "refresh_token"],
        RouteClear::CaFile => &["ca_file"],
        RouteClear::Connections => &["connections"],
        RouteClear::MessagesPerConnection => &["messages_per_connection"],
        RouteClear::RecipientsPerTransaction => &["recipients_per_transaction"],
        RouteClear::Idle => &["idle_s"],
        RouteClear::Retry => &["retry_s"],
        RouteClear::SourceAddress => &["source_address"],
        RouteClear::Helo => &["helo"],
        RouteClear::Fallback => &["fallback"],
        RouteClear::FailoverAfter => &["failover_after_s"],
        RouteClear::ReturnPath => &["return_path"],
        RouteClear::Rates => &["rates"],
        RouteClear::DestinationRates => &["destination_rates"],
        RouteClear::Sources => &["sources"],
    }
}

fn word<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn target(route: &RouteRecord) -> String {
    match (&route.host, route.port) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.clone(),
        _ => route.next_host().unwrap_or_default().to_owned(),
    }
}

fn list(global: &Global, mut value: Value, forecasts: Vec<ForecastOut>) -> Result<(), Fault> {
    if global.json {
        for one in value.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
            let of_this = |found: &&ForecastOut| one.get("name").and_then(Value::as_str) == Some(&found.route);
            let found = forecasts.iter().find(of_this).and_then(|found| serde_json::to_value(found).ok());
            if let (Some(found), Some(one)) = (found, one.as_object_mut()) {
                one.insert("forecast".into(), found);
            }
        }
        return print_json(&value);
    }
    let page: Page<RouteOut> = read(value)?;
    let row = |one: &RouteOut| {
        let forecast = forecasts.iter().find(|found| found.route == one.name);
        let tls = one.route.tls.as_ref().map(word).unwrap_or_default();
        vec![
            one.name.clone(),
            word(&one.route.kind),
            target(&one.route),
            tls,
            one.route.username.clone().unwrap_or_default(),
            forecast.map(super::status::queue_words).unwrap_or_default(),
        ]
    };
    table(&["NAME", "KIND", "HOST", "TLS", "USER", "QUEUE"], &page.items.iter().map(row).collect::<Vec<_>>())
}

/// The settings, and what is known of the route now.
fn show_now(global: &Global, mut value: Value, now: Value) -> Result<(), Fault> {
    if global.json {
        if let Some(value) = value.as_object_mut() {
            value.insert("now".into(), now);
        }
        return print_json(&value);
    }
    show(global, value)?;
    super::status::route(&read(now)?)
}

fn show(global: &Global, value: Value) -> Result<(), Fault> {
    if global.json {
        return print_json(&value);
    }
    let one: RouteOut = read(value)?;
    let number = |value: Option<u32>| value.map(|value| value.to_string()).unwrap_or_default();
    let route = &one.route;
    let limits = limits::of(route);
    let limit = |name: &str| limits::shown(&limits, name);
    let reserve = route.rates.as_ref().and_then(|rates| rates.reserve_percent);
    let retry = route.retry_s.as_ref().map(|list| list.iter().map(|s| format!("{s}s")).collect::<Vec<_>>().join(" "));
    facts(&[
        ("name", one.name.clone()),
        ("kind", word(&route.kind)),
        ("host", target(route)),
        ("TLS", route.tls.as_ref().map(word).unwrap_or_default()),
        ("certificate", if route.verify { String::new() } else { "is not verified".into() }),
        ("authorities", route.ca_file.clone().unwrap_or_default()),
        ("user name", route.username.clone().unwrap_or_default()),
        ("password", if one.has_password { "set".into() } else { String::new() }),
        ("OAuth", route.oauth.as_ref().map(route_oauth::words).unwrap_or_default()),
        (
            "secrets",
            one.secrets
                .iter()
                .filter(|name| *name != "password")
                .map(|name| name.replace('_', " "))
                .collect::<Vec<_>>()
                .join(", "),
        ),
        ("AUTH mechanism", route.mechanism.clone().unwrap_or_default()),
        ("AUTH without TLS", if route.auth_without_tls { "allowed".into() } else { String::new() }),
        ("connections", limit("connections")),
        ("messages per connection", limit("messages_per_connection")),
        ("recipients per transaction", limit("recipients_per_transaction")),
        ("idle seconds", number(route.idle_s)),
        ("messages a second", limit("per_second")),
        ("messages a minute", limit("per_minute")),
        ("messages an hour", limit("per_hour")),
        ("messages a day", limit("per_day")),
        ("recipients a day", limit("recipients_per_day")),
        ("for urgent mail", reserve.map(|percent| format!("{percent} % of each")).unwrap_or_default()),
        ("at most to each destination", rate_words(route.destination_rates.as_ref())),
        ("fallback", chain(&route.fallback)),
        ("failover after seconds", number(route.failover_after_s)),
        ("retry", retry.unwrap_or_default()),
        ("from address", route.source_address.map(|address| address.to_string()).unwrap_or_default()),
        ("EHLO", route.helo.clone().unwrap_or_default()),
        ("sources", route.sources.iter().map(|source| source.address.to_string()).collect::<Vec<_>>().join(" ")),
        ("DANE", if route.dane { "honoured".into() } else { String::new() }),
        ("MTA-STS", if route.mta_sts { String::new() } else { "ignored".into() }),
        ("return path", route.return_path.as_ref().map(word).unwrap_or_default()),
        ("private addresses", if route.allow_private { "allowed".into() } else { String::new() }),
        ("changed", short_time(&one.updated)),
    ])
}

async fn rule(global: &Global, client: &Client, command: RuleCommand) -> Result<(), Fault> {
    match command {
        RuleCommand::Add { name, route, from_domain, to_domain, stream, order } => {
            let mut rule = json!({ "order": order, "route": route });
            for (field, value) in [("sender_domain", from_domain), ("recipient_domain", to_domain), ("stream", stream)]
            {
                if let (Some(value), Some(rule)) = (value, rule.as_object_mut()) {
                    rule.insert(field.into(), value.into());
                }
            }
            let value = client.send(Method::PUT, &format!("/rules/{}", escaped(&name)), rule).await?;
            if global.json { print_json(&value) } else { print(&format!("rule {} set\n", clean(&name))) }
        }
        RuleCommand::Ls => {
            let value = client.get("/rules").await?;
            if global.json {
                return print_json(&value);
            }
            let page: Page<RuleOut> = read(value)?;
            let any = |value: &Option<String>| value.clone().unwrap_or_else(|| "*".into());
            let row = |one: &RuleOut| {
                let rule = &one.rule;
                let order = if one.name == DEFAULT_RULE { "last".into() } else { rule.order.to_string() };
                vec![
                    order,
                    one.name.clone(),
                    any(&rule.sender_domain),
                    any(&rule.recipient_domain),
                    any(&rule.stream),
                    rule.route.clone(),
                ]
            };
            let rows: Vec<_> = page.items.iter().map(row).collect();
            table(&["ORDER", "NAME", "FROM", "TO", "STREAM", "ROUTE"], &rows)
        }
        RuleCommand::Remove { name } => {
            client.delete(&format!("/rules/{}", escaped(&name))).await?;
            done(global, &format!("rule {name} removed"))
        }
    }
}

fn done(global: &Global, text: &str) -> Result<(), Fault> {
    if global.json { print_json(&json!({ "done": text })) } else { print(&format!("{}\n", clean(text))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smart_host_may_name_its_port() {
        for (text, expected) in [
            ("smtp.example.com", json!({ "host": "smtp.example.com" })),
            ("smtp.example.com:465", json!({ "host": "smtp.example.com", "port": 465 })),
            ("[2001:db8::1]:25", json!({ "host": "2001:db8::1", "port": 25 })),
            ("2001:db8::1", json!({ "host": "2001:db8::1" })),
        ] {
            let mut body = Map::new();
            host(text, &mut body).unwrap();
            assert_eq!(Value::Object(body), expected, "{text}");
        }
        assert!(host("smtp.example.com:x", &mut Map::new()).is_err());
    }
}
