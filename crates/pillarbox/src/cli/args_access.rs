//! What can be typed about access: users, sessions, API keys, identity providers, the audit log.

use clap::{Args, Subcommand};

use super::args_settings::{SOURCE_HELP, Source};
use crate::access::role::Role;

/// Which acts to list.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Who did it, or a part of the name.
    #[arg(long, value_name = "NAME")]
    pub who: Option<String>,
    /// What it was done to: `route/o365`, or all of a kind: `route`.
    #[arg(long, value_name = "WHAT")]
    pub what: Option<String>,
    /// What was done: add, change, remove, hold, ...
    #[arg(long, value_name = "ACTION")]
    pub action: Option<String>,
    /// From this time on: RFC 3339, or how long ago (`2h`, `7d`).
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Before this time.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Most lines.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub limit: u32,
    /// Continue below this id.
    #[arg(long, value_name = "ID")]
    pub before: Option<i64>,
}

/// Commands on users.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add a user. Without --password-from a password is made and shown once.
    #[command(
        after_help = "Examples:\n  pillarbox user add ann --role administrator\n  pillarbox user add bob --role viewer --email bob@example.com --password-from prompt"
    )]
    Add {
        /// Name, for logging in.
        name: String,
        /// What the user may do.
        #[arg(long, value_enum)]
        role: Role,
        /// Mail address, for people.
        #[arg(long, value_name = "ADDRESS")]
        email: Option<String>,
        /// Where the password comes from.
        #[arg(long, value_name = "SOURCE", help = SOURCE_HELP)]
        password_from: Option<Source>,
    },
    /// List users.
    #[command(visible_alias = "ls", after_help = "Examples:\n  pillarbox user list\n  pillarbox user list --json")]
    List,
    /// Set a password; all sessions of the user end.
    #[command(
        after_help = "Examples:\n  pillarbox user passwd ann\n  pillarbox user passwd ann --password-from prompt"
    )]
    Passwd {
        /// Name.
        name: String,
        /// Where the password comes from; without it one is made.
        #[arg(long, value_name = "SOURCE", help = SOURCE_HELP)]
        password_from: Option<Source>,
    },
    /// Say what a user may do, from the next request on.
    #[command(after_help = "Examples:\n  pillarbox user role bob operator")]
    Role {
        /// Name.
        name: String,
        /// The role.
        #[arg(value_enum)]
        role: Role,
    },
    /// Give a user a second factor (an authenticator app), or take it away.
    #[command(
        after_help = "Examples:\n  pillarbox user totp ann\n  pillarbox user totp ann --confirm 123456\n  pillarbox user totp ann --remove"
    )]
    Totp {
        /// Name.
        name: String,
        /// The code that the app shows: from then on one is asked for.
        #[arg(long, value_name = "CODE", conflicts_with = "remove")]
        confirm: Option<String>,
        /// Take it away: for somebody who lost app and recovery codes.
        #[arg(long)]
        remove: bool,
    },
    /// Keep a user from logging in, and end the sessions.
    #[command(after_help = "Examples:\n  pillarbox user disable bob\n  pillarbox user disable bob --undo")]
    Disable {
        /// Name.
        name: String,
        /// Let the user log in again.
        #[arg(long)]
        undo: bool,
    },
    /// Remove a user.
    #[command(visible_alias = "rm", after_help = "Examples:\n  pillarbox user remove bob")]
    Remove {
        /// Name.
        name: String,
    },
}

/// Commands on sessions.
#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// List who is logged in.
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  pillarbox session list\n  pillarbox session list --user ann --json"
    )]
    List {
        /// Of this user.
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
    /// End a session, or all of a user.
    #[command(after_help = "Examples:\n  pillarbox session revoke 17\n  pillarbox session revoke --user ann")]
    Revoke {
        /// Its number.
        #[arg(required_unless_present = "user", conflicts_with = "user")]
        id: Option<i64>,
        /// All of this user.
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
}

/// Commands on API keys of their own; those of senders are under `sender key`.
#[derive(Debug, Subcommand)]
pub enum ApiKeyCommand {
    /// Make a key; it is shown once.
    #[command(
        after_help = "Examples:\n  pillarbox key add monitoring --role viewer --scope status:read --scope queue:read\n  pillarbox key add deploy --role administrator --expires 2027-01-01T00:00:00Z --network 192.0.2.0/24\n\nA scope is NAME:read or NAME:write, with the first word of the path in the API, or messages:send."
    )]
    Add {
        /// Name.
        name: String,
        /// What it may do at most.
        #[arg(long, value_enum)]
        role: Role,
        /// Of that, only this; may be given several times.
        #[arg(long, value_name = "SCOPE")]
        scope: Vec<String>,
        /// When it ends: RFC 3339, or in how long (`90d`).
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
        /// Most requests a minute.
        #[arg(long, value_name = "N")]
        rate: Option<u32>,
        /// Address or network it may come from; may be given several times.
        #[arg(long, value_name = "NETWORK")]
        network: Vec<String>,
    },
    /// List keys with their last use.
    #[command(visible_alias = "ls", after_help = "Examples:\n  pillarbox key list")]
    List,
    /// Refuse a key for now.
    #[command(after_help = "Examples:\n  pillarbox key disable deploy\n  pillarbox key disable deploy --undo")]
    Disable {
        /// Name.
        name: String,
        /// Take it again.
        #[arg(long)]
        undo: bool,
    },
    /// Remove a key for good.
    #[command(visible_alias = "rm", after_help = "Examples:\n  pillarbox key remove deploy")]
    Remove {
        /// Name.
        name: String,
    },
}

/// Commands on identity providers.
#[derive(Debug, Subcommand)]
pub enum IdentityCommand {
    /// Add or replace a provider by OpenID Connect.
    #[command(
        after_help = "Examples:\n  pillarbox identity set corp --issuer https://login.example.com --client-id relay --client-secret-from prompt \\\n    --map mail-admins=administrator --map mail-team=operator --allow example.com\n  pillarbox identity set corp --issuer https://id.example.com --client-id relay --default-role viewer --allow example.com"
    )]
    Set(Box<IdentityArgs>),
    /// List providers with the address each has to know.
    #[command(visible_alias = "ls", after_help = "Examples:\n  pillarbox identity list")]
    List,
    /// Remove a provider. Its users stay, and cannot sign in.
    #[command(visible_alias = "rm", after_help = "Examples:\n  pillarbox identity remove corp")]
    Remove {
        /// Name.
        name: String,
    },
}

/// A provider.
#[derive(Debug, Args)]
pub struct IdentityArgs {
    /// Name, also in the address that the provider sends browsers back to.
    pub name: String,
    /// Its issuer.
    #[arg(long, value_name = "URL")]
    pub issuer: String,
    /// Our name there.
    #[arg(long, value_name = "ID")]
    pub client_id: String,
    /// Where our secret there comes from; without it the secret stays as it is.
    #[arg(long, value_name = "SOURCE", help = SOURCE_HELP)]
    pub client_secret_from: Option<Source>,
    /// What the button says.
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
    /// Scope besides `openid`; may be given several times. Without any: profile, email.
    #[arg(long, value_name = "SCOPE")]
    pub scope: Vec<String>,
    /// Claim with the groups of a user; `a.b` is inside of `a`.
    #[arg(long, value_name = "NAME", default_value = "groups")]
    pub claim: String,
    /// Value of the claim and its role; may be given several times, the highest counts.
    #[arg(long, value_name = "VALUE=ROLE")]
    pub map: Vec<String>,
    /// Role of those who have none of the values; without it they are not let in.
    #[arg(long, value_enum)]
    pub default_role: Option<Role>,
    /// Verified address, or domain of verified addresses, that is let in; may be given several times.
    #[arg(long, value_name = "ADDRESS|DOMAIN")]
    pub allow: Vec<String>,
    /// Nobody signs in with it.
    #[arg(long)]
    pub disabled: bool,
}
