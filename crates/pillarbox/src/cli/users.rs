//! `pillarbox user` and `pillarbox session`.

use axum::http::Method;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::Fault;
use super::args::Global;
use super::args_access::{SessionCommand, UserCommand};
use super::client::{Client, Need, escaped, query, read};
use super::output::{clean, facts, json as print_json, plural, print, short_time, table};
use super::secret;
use crate::http::api::sessions::{Revoked, SessionOut};
use crate::http::api::users::{FactorOut, RecoveryOut, UserOut};
use crate::http::views::Page;

/// Does what was asked about users.
pub async fn run(global: &Global, command: UserCommand) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    match command {
        UserCommand::Add { name, role, email, password_from } => {
            let password = password_from.as_ref().map(|from| secret::read(from, "Password")).transpose()?;
            let body = json!({
                "name": name, "role": role, "email": email,
                "password": password.as_ref().map(ExposeSecret::expose_secret),
            });
            made(global, client.send(Method::POST, "/users", body).await?)
        }
        UserCommand::List => list(global, client.get("/users").await?),
        UserCommand::Passwd { name, password_from } => {
            let password = password_from.as_ref().map(|from| secret::read(from, "New password")).transpose()?;
            let body = json!({ "password": password.as_ref().map(ExposeSecret::expose_secret) });
            made(global, client.send(Method::PUT, &format!("{}/password", path(&name)), body).await?)
        }
        UserCommand::Role { name, role } => {
            made(global, client.send(Method::PATCH, &path(&name), json!({ "role": role })).await?)
        }
        UserCommand::Disable { name, undo } => {
            made(global, client.send(Method::PATCH, &path(&name), json!({ "disabled": !undo })).await?)
        }
        UserCommand::Totp { name, confirm, remove } => totp(global, &client, &name, confirm, remove).await,
        UserCommand::Remove { name } => {
            client.delete(&path(&name)).await?;
            done(global, &format!("user {name} removed"))
        }
    }
}

fn path(name: &str) -> String {
    format!("/users/{}", escaped(name))
}

async fn totp(
    global: &Global,
    client: &Client,
    name: &str,
    confirm: Option<String>,
    remove: bool,
) -> Result<(), Fault> {
    let path = format!("{}/totp", path(name));
    if remove {
        client.delete(&path).await?;
        return done(global, &format!("second factor of {name} removed"));
    }
    if let Some(code) = confirm {
        let value = client.send(Method::PUT, &path, json!({ "code": code })).await?;
        if global.json {
            return print_json(&value);
        }
        let codes: RecoveryOut = read(value)?;
        print("From now on a code is asked for. Recovery codes, each good once in place of a code, shown once:\n")?;
        return print(&format!(
            "  {}\n",
            codes.recovery_codes.iter().map(|code| clean(code)).collect::<Vec<_>>().join("\n  ")
        ));
    }
    let value = client.send(Method::POST, &path, json!({})).await?;
    if global.json {
        return print_json(&value);
    }
    let factor: FactorOut = read(value)?;
    facts(&[("secret", factor.secret), ("link", factor.uri)])?;
    print(&format!("Type the secret into an authenticator app, then: pillarbox user totp {name} --confirm CODE\n"))
}

fn done(global: &Global, text: &str) -> Result<(), Fault> {
    if global.json { print_json(&json!({ "done": text })) } else { print(&format!("{}\n", clean(text))) }
}

fn list(global: &Global, value: Value) -> Result<(), Fault> {
    if global.json {
        return print_json(&value);
    }
    let page: Page<UserOut> = read(value)?;
    if page.items.is_empty() {
        return print("There are no users: `pillarbox user add NAME --role administrator` makes the first.\n");
    }
    let row = |one: &UserOut| {
        let how = match (one.has_password, one.has_second_factor, &one.provider) {
            (_, _, Some(provider)) => provider.clone(),
            (true, true, None) => "password, code".into(),
            (true, false, None) => "password".into(),
            (false, ..) => String::new(),
        };
        let disabled = if one.disabled { "disabled".into() } else { String::new() };
        vec![one.name.clone(), one.role.name().into(), how, one.email.clone().unwrap_or_default(), disabled]
    };
    table(&["NAME", "ROLE", "BY", "EMAIL", ""], &page.items.iter().map(row).collect::<Vec<_>>())
}

fn made(global: &Global, value: Value) -> Result<(), Fault> {
    if global.json {
        return print_json(&value);
    }
    let one: UserOut = read(value)?;
    facts(&[
        ("name", one.name.clone()),
        ("role", one.role.name().into()),
        ("email", one.email.unwrap_or_default()),
        (
            "second factor",
            if one.has_second_factor { plural(one.recovery_codes as u64, "recovery code") } else { "none".into() },
        ),
        ("disabled", if one.disabled { "yes".into() } else { String::new() }),
        ("changed", short_time(&one.updated)),
    ])?;
    match one.new_password {
        Some(password) => print(&format!("\nShown once, keep it now:\npassword  {}\n", clean(&password))),
        None => Ok(()),
    }
}

/// Does what was asked about sessions.
pub async fn sessions(global: &Global, command: SessionCommand) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    match command {
        SessionCommand::List { user } => {
            let value = client.get(&format!("/sessions{}", query(&[("user", user)]))).await?;
            if global.json {
                return print_json(&value);
            }
            let page: Page<SessionOut> = read(value)?;
            if page.items.is_empty() {
                return print("Nobody is logged in.\n");
            }
            let row = |one: &SessionOut| {
                let who = one.user.clone().unwrap_or_else(|| "(one-time token)".into());
                let agent = one.agent.chars().take(40).collect();
                vec![
                    one.id.to_string(),
                    who,
                    one.address.to_string(),
                    short_time(&one.created),
                    short_time(&one.seen),
                    agent,
                ]
            };
            table(&["ID", "USER", "FROM", "SINCE", "SEEN", "BROWSER"], &page.items.iter().map(row).collect::<Vec<_>>())
        }
        SessionCommand::Revoke { id: Some(id), .. } => {
            client.delete(&format!("/sessions/{id}")).await?;
            done(global, &format!("session {id} ended"))
        }
        SessionCommand::Revoke { id: None, user } => {
            let value = client.delete(&format!("/sessions{}", query(&[("user", user)]))).await?;
            if global.json {
                return print_json(&value);
            }
            let revoked: Revoked = read(value)?;
            print(&format!("{} ended\n", plural(revoked.revoked as u64, "session")))
        }
    }
}
