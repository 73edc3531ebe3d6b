//! `pillarbox check`: a mail server probed stage by stage, live for people, as JSON for programs.

use std::io::IsTerminal;
use std::sync::Arc;

use anyhow::anyhow;
use axum::http::Method;
use diagnose::check::{Event, Report};
use explain::{RuleBase, Severity};
use net::Clock;
use proto::transcript::Stage;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::Fault;
use super::args::Global;
use super::args_check::CheckArgs;
use super::args_settings::Source;
use super::check_live::{Live, Style};
use super::check_view::{View, findings};
use super::check_words as words;
use super::client::{Client, Need};
use super::output::{json as print_json, print, print_raw};
use super::{check_via as via, secret};
use crate::check::{self, Aim, CheckIn, Families, MessageStage, Prepared, commands};
use crate::config::Loaded;
use crate::http::problem::FieldError;

/// The schema of the report.
const SCHEMA: &str = include_str!("../../../../docs/schemas/check-1.json");
/// Environment variable with the password.
const PASSWORD: &str = "PILLARBOX_PASSWORD";

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    People,
    Json,
    JsonLines,
}

/// Does what was asked.
pub async fn run(global: &Global, args: &CheckArgs) -> Result<(), Fault> {
    if args.show.schema {
        return print_raw(SCHEMA.as_bytes());
    }
    let loaded = super::load(global)?;
    let form = match (global.json, args.show.json_lines) {
        (_, true) => Form::JsonLines,
        (true, false) => Form::Json,
        (false, false) => Form::People,
    };
    if args.login.route.is_some() {
        return of_route(global, &loaded, args, form).await;
    }
    let mut input = input(args)?;
    let user = input.username.clone().or_else(|| user_of_target(args));
    if user.is_some() {
        input.password = Some(password(args)?);
        input.username = user;
    } else if args.login.password_file.is_some() || args.login.password_stdin {
        return Err(Fault::Usage("a password needs a user name: --user NAME".into()));
    }
    let rules = RuleBase::shared();
    let prepared = input.clone().prepare(&rules, &loaded.config.hostname).map_err(|wrong| usage(&wrong))?;
    if args.login.lint_only {
        return lint_only(&rules, &prepared, form);
    }
    match &args.way.via {
        None => here(&loaded, args, prepared, form).await,
        Some(there) => {
            let other = via::find(global, &loaded, there, args.way.via_key_file.as_deref()).await?;
            both(&loaded, args, (prepared, &input), (&other, there), form).await
        }
    }
}

fn input(args: &CheckArgs) -> Result<CheckIn, Fault> {
    let CheckArgs { login, mail, way, .. } = args;
    if mail.send && (mail.to.is_empty() || mail.from.is_none()) {
        return Err(Fault::Usage("--send needs --from and --to".into()));
    }
    let stage = |word: &String| serde_json::from_value::<Stage>(Value::from(word.as_str())).ok();
    Ok(CheckIn {
        target: args.target.clone(),
        route: login.route.clone(),
        tls: args.tls.map(Into::into),
        auth: Some(login.auth.clone()).filter(|name| name != "auto"),
        username: login.user.clone(),
        password: None,
        allow_plaintext_auth: login.allow_plaintext_auth,
        from: mail.from.clone(),
        to: mail.to.clone(),
        message: mail.send.then_some(MessageStage::Send),
        quit_after: mail.quit_after.as_ref().and_then(stage),
        families: match (way.four, way.six) {
            (true, _) => Some(Families::Four),
            (_, true) => Some(Families::Six),
            _ => None,
        },
        source: way.source,
        helo: way.helo.clone(),
        timeout_s: Some(way.timeout),
        insecure: way.insecure,
        resolver: way.resolver.clone(),
        connect_to: way.connect_to.clone(),
        ca_file: way.ca_file.clone(),
        open_relay: mail.open_relay,
        no_explore: way.no_explore,
        outside: way.outside,
        provider: way.provider.clone(),
    })
}

fn user_of_target(args: &CheckArgs) -> Option<String> {
    args.target.as_deref().and_then(|target| Aim::parse(target).ok()).and_then(|aim| aim.user)
}

fn password(args: &CheckArgs) -> Result<SecretString, Fault> {
    let login = &args.login;
    // The target is looked at first: a password in it is refused before another one is asked for.
    if let Some(Err(error)) = args.target.as_deref().map(Aim::parse) {
        return Err(Fault::Usage(error.to_string()));
    }
    if let Some(path) = &login.password_file {
        return secret::read(&Source::File(path.clone()), "Password");
    }
    if login.password_stdin {
        return secret::read(&Source::Stdin, "Password");
    }
    if std::env::var_os(PASSWORD).is_some() {
        return secret::read(&Source::Env(PASSWORD.into()), "Password");
    }
    match std::io::stdin().is_terminal() {
        true => secret::asked_once("Password"),
        false => Err(Fault::Usage(format!("a password is needed: --password-file, --password-stdin or {PASSWORD}"))),
    }
}

/// Fields of the API in words of the command line.
fn usage(wrong: &[FieldError]) -> Fault {
    let line = |error: &FieldError| match error.pointer.as_str() {
        "/target" => error.detail.clone(),
        pointer => {
            let option = pointer.trim_start_matches('/').split('/').next().unwrap_or_default();
            format!("--{} {}", option.replace("timeout_s", "timeout").replace('_', "-"), error.detail)
        }
    };
    Fault::Usage(wrong.iter().map(line).collect::<Vec<_>>().join("\n"))
}

fn lint_only(rules: &Arc<RuleBase>, prepared: &Prepared, form: Form) -> Result<(), Fault> {
    if prepared.plan.auth.is_none() {
        return Err(Fault::Usage("--lint-only needs a user name and its password".into()));
    }
    let found = check::credentials(rules, &prepared.plan, Clock::system().now_ms());
    match form {
        Form::People => print(&words::credentials(&findings(&found)?))?,
        _ => print_json(&json!({ "schema": "pillarbox.check.credentials/1", "findings": found }))?,
    }
    if found.iter().all(|one| one.severity == Severity::Note) { Ok(()) } else { Err(Fault::Told) }
}

async fn here(loaded: &Loaded, args: &CheckArgs, prepared: Prepared, form: Form) -> Result<(), Fault> {
    let helo = prepared.plan.helo.clone();
    let report = probe(loaded, prepared, form).await?;
    let mut value = value_of(&report)?;
    let view = super::check_view::read(&value)?;
    match form {
        Form::People => print(&words::verdict(&view))?,
        Form::Json => {
            extend(&mut value, &view, args, &helo);
            return print_json(&value).and_then(|()| healthy(view.healthy));
        }
        Form::JsonLines => {
            extend(&mut value, &view, args, &helo);
            return print(&format!("{}\n", json!({ "event": "report", "report": value })))
                .and_then(|()| healthy(view.healthy));
        }
    }
    extras(&view, args, &helo)?;
    healthy(view.healthy)
}

/// Runs the probe in this process and tells of it as it goes.
async fn probe(loaded: &Loaded, prepared: Prepared, form: Form) -> Result<Report, Fault> {
    let style = match form {
        Form::People => Style::of_stdout(),
        Form::Json => Style::Silent,
        Form::JsonLines => Style::JsonLines,
    };
    let mut live = Live::new(style);
    live.head(&words::aim(&prepared.plan), prepared.plan.insecure);
    let outcome = {
        let mut watch = |event: Event<'_>| live.event(&event);
        let check = check::perform(&loaded.config, Clock::system(), RuleBase::shared(), prepared, &mut watch);
        tokio::select! {
            report = check => Some(report.map_err(Fault::cannot)?),
            _ = tokio::signal::ctrl_c() => None,
        }
    };
    live.end();
    if let Some(report) = outcome {
        return Ok(report);
    }
    let (partial, reached) = live.interrupted();
    match form {
        Form::People => {}
        Form::Json => print_json(&partial)?,
        Form::JsonLines => print(&format!("{}\n", json!({ "event": "interrupted", "report": partial })))?,
    }
    Err(Fault::cannot(anyhow!("interrupted; {reached}")))
}

/// Here and on another Pillarbox at the same time.
async fn both(
    loaded: &Loaded,
    args: &CheckArgs,
    (prepared, input): (Prepared, &CheckIn),
    (other, name): (&Client, &str),
    form: Form,
) -> Result<(), Fault> {
    let helo = prepared.plan.helo.clone();
    let away = CheckIn { ca_file: None, ..input.clone() };
    let (here, there) = tokio::join!(probe(loaded, prepared, form), remote(other, &away));
    let here = value_of(&here?)?;
    let view = super::check_view::read(&here)?;
    if form == Form::People {
        print(&words::verdict(&view))?;
        extras(&view, args, &helo)?;
    }
    let there = there?;
    let other = super::check_view::read(&there)?;
    let name = super::output::clean(name);
    let compared = check::compare::machines(&RuleBase::shared(), &view, &other, &name);
    let compared = compared.ok_or_else(|| Fault::cannot(anyhow!("no rule speaks of this comparison")))?;
    let well = view.healthy && other.healthy;
    let all = json!({ "schema": "pillarbox.check.compare/1", "here": here, "there": there, "via": name, "finding": compared });
    match form {
        Form::People => print(&via::words(&view, &other, &name, &compared)?)?,
        Form::Json => print_json(&all)?,
        Form::JsonLines => print(&format!("{}\n", json!({ "event": "compare", "report": all })))?,
    }
    healthy(well)
}

/// With a route's settings: in the server, which has the password.
async fn of_route(global: &Global, loaded: &Loaded, args: &CheckArgs, form: Form) -> Result<(), Fault> {
    if args.login.lint_only {
        return Err(Fault::Usage("--lint-only looks at credentials given here, not at those of a route".into()));
    }
    let input = input(args)?;
    let client = Client::find(global, loaded, Need::Store).await?;
    let mut value = tokio::select! {
        value = remote(&client, &input) => value?,
        _ = tokio::signal::ctrl_c() => return Err(Fault::cannot(anyhow!("interrupted"))),
    };
    let view = super::check_view::read(&value)?;
    let helo = input.helo.unwrap_or_else(|| loaded.config.hostname.clone());
    if form == Form::People {
        print(&format!("{}{}", words::stages(&view), words::verdict(&view)))?;
        extras(&view, args, &helo)?;
    } else {
        extend(&mut value, &view, args, &helo);
        print_json(&value)?;
    }
    healthy(view.healthy)
}

async fn remote(client: &Client, input: &CheckIn) -> Result<Value, Fault> {
    let mut body = serde_json::to_value(input).map_err(|error| Fault::cannot(error.into()))?;
    if let (Some(password), Some(body)) = (&input.password, body.as_object_mut()) {
        body.insert("password".into(), password.expose_secret().into());
    }
    match client.send(Method::POST, "/checks", body).await {
        // What the other side finds wrong with the question was typed here.
        Err(Fault::Refused(problem)) if problem.status == 422 && !problem.errors.is_empty() => {
            Err(usage(&problem.errors))
        }
        // A question that was not answered is no finding about the server.
        Err(Fault::Refused(problem)) => Err(Fault::cannot(anyhow!("the check was not run there: {}", problem.detail))),
        other => other,
    }
}

fn value_of(report: &Report) -> Result<Value, Fault> {
    serde_json::to_value(report).map_err(|error| Fault::cannot(error.into()))
}

/// Adds to the JSON what was asked for beside the report.
fn extend(value: &mut Value, view: &View, args: &CheckArgs, helo: &str) {
    if let (true, Some(object)) = (args.show.commands, value.as_object_mut()) {
        object.insert("commands".into(), json!(commands::all(&wanted(view, args, helo))));
    }
}

/// What was asked for beside the verdict.
fn extras(view: &View, args: &CheckArgs, helo: &str) -> Result<(), Fault> {
    if args.show.transcript {
        print(&words::transcripts(view))?;
    }
    if args.show.commands {
        print(&words::commands(&commands::all(&wanted(view, args, helo))))?;
    }
    Ok(())
}

fn wanted<'a>(view: &'a View, args: &'a CheckArgs, helo: &'a str) -> commands::Wanted<'a> {
    commands::Wanted {
        target: &view.target,
        domain: args.target.as_deref().and_then(|target| Aim::parse(target).ok()).map(|aim| aim.host),
        user: args.login.user.clone().or_else(|| user_of_target(args)),
        mechanism: Some(args.login.auth.as_str()).filter(|name| *name != "auto"),
        from: args.mail.from.as_deref(),
        to: &args.mail.to,
        helo,
        send: args.mail.send,
        four: args.way.four,
        six: args.way.six,
        timeout: args.way.timeout,
    }
}

fn healthy(healthy: bool) -> Result<(), Fault> {
    if healthy { Ok(()) } else { Err(Fault::Told) }
}
