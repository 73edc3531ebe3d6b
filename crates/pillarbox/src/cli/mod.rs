//! The command line: reading it, doing it, and the exit code.
//!
//! Every command that works on data is a request to the HTTP API, whichever way [`client`] finds to it.

mod alerts;
mod alerts_view;
pub mod args;
pub mod args_access;
pub mod args_alert;
pub mod args_arrival;
pub mod args_batch;
pub mod args_bounce;
pub mod args_check;
pub mod args_dkim;
pub mod args_dns;
pub mod args_domain;
pub mod args_incident;
pub mod args_inlet;
pub mod args_jobs;
pub mod args_mailbox;
mod args_messages;
pub mod args_migrate;
pub mod args_nodes;
pub mod args_oauth;
pub mod args_policy;
pub mod args_presets;
pub mod args_report;
pub mod args_rules;
pub mod args_settings;
pub mod args_streams;
pub mod args_support;
pub mod args_suppression;
pub mod args_tlsrpt;
pub mod args_top;
pub mod args_webhook;
mod arrival;
mod audit;
mod batch;
mod batch_bar;
mod batch_csv;
mod batch_send;
mod blocklists;
mod bounce;
mod capture;
mod check;
mod check_live;
mod check_via;
mod check_view;
mod check_words;
mod client;
mod config;
mod config_audit;
mod dkim;
mod dkim_keys;
mod dkim_verify;
mod dmarc;
mod domain;
mod domain_many;
mod domain_view;
pub mod explain;
mod explain_decode;
mod explain_group;
mod explain_input;
mod explain_log;
mod explain_log_csv;
mod explain_log_more;
mod explain_log_unix;
mod explain_mail;
pub mod explain_mail_bounce;
pub mod explain_mail_signs;
mod explain_mail_words;
mod explain_mask;
mod explain_names;
mod explain_paste;
mod explain_plan;
mod explain_program;
mod explain_report;
mod explain_time;
mod explain_trace;
mod health;
mod help;
mod incidents;
mod inlets;
mod jobs;
mod journal;
mod keys;
mod mailboxes;
mod manual;
mod messages;
mod messages_view;
mod migrate;
mod nodes;
mod output;
mod patterns;
mod preferences;
mod providers;
mod queue;
mod rates;
mod report;
mod report_view;
mod route_check;
mod route_export;
mod route_guard;
mod route_oauth;
mod route_preset;
mod route_rates;
mod routes;
mod rules;
mod rules_user;
mod schedule;
mod secret;
mod send;
mod senders;
mod sendmail;
mod sendmail_args;
mod series;
mod server;
mod spf;
mod status;
mod stdio;
mod streams;
mod support;
mod suppression;
mod tlsrpt;
mod top;
mod top_rates;
mod top_screen;
mod top_view;
mod users;
mod version;
mod volume;
mod webhooks;

use std::process::ExitCode;

use clap::Parser;

use crate::config::Loaded;
use crate::http::problem::Problem;
use args::{Cli, Command, ConfigCommand, Global};

/// Why a command did not do what was asked.
#[derive(Debug)]
pub enum Fault {
    /// The server, or a check, says no: exit code 1.
    Refused(Box<Problem>),
    /// There is a problem, told already: exit code 1.
    Told,
    /// Wrong usage: exit code 2.
    Usage(String),
    /// It could not be tried: exit code 3.
    Cannot(anyhow::Error),
}

impl Fault {
    /// From an error of the surroundings.
    pub fn cannot(error: anyhow::Error) -> Self {
        Self::Cannot(error)
    }
    fn code(&self) -> u8 {
        match self {
            Self::Refused(_) | Self::Told => 1,
            Self::Usage(_) => 2,
            Self::Cannot(_) => 3,
        }
    }
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Refused(problem) => match problem.errors.as_slice() {
                [] | [_] => problem.detail.clone(),
                many => {
                    let lines = many.iter().map(|error| format!("\n  {}: {}", error.pointer, error.detail));
                    format!("{}:{}", problem.detail, lines.collect::<String>())
                }
            },
            Self::Told => String::new(),
            Self::Usage(text) => text.clone(),
            Self::Cannot(error) => format!("{error:#}"),
        }
    }
}

/// Reads the arguments and does what they say.
pub fn run() -> ExitCode {
    let called_as = std::env::args_os().next().unwrap_or_default();
    if let Some(mode) = sendmail::Mode::of_program(&called_as) {
        return sendmail::run(mode, std::env::args_os().skip(1).collect(), &Global::default());
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version are printed here too; a closed pipe is no error then.
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if let Command::Sendmail(sendmail) = cli.command {
        return sendmail::run(sendmail::Mode::Send, sendmail.args, &cli.global);
    }
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            let text = fault.text();
            if !text.is_empty() {
                let red = anstyle::AnsiColor::Red.on_default();
                output::complain(&format!("{red}pillarbox:{red:#} {}", output::clean_lines(&text)));
            }
            ExitCode::from(fault.code())
        }
    }
}

fn dispatch(cli: Cli) -> Result<(), Fault> {
    let global = &cli.global;
    match cli.command {
        Command::Serve => server::serve(global),
        Command::Explain(args) => explain::run(global, &args),
        Command::Spf(args) => wait(spf::run(global, &args)),
        Command::Dkim(command) => wait(dkim::run(global, &command)),
        Command::Support(command) => wait(support::run(global, &command)),
        Command::Tlsrpt(command) => wait(tlsrpt::run(global, &command)),
        Command::Dmarc(args) => wait(dmarc::run(global, &args)),
        Command::Rules(command) => rules::run(global, &command),
        Command::Report(args) => wait(report::run(global, &args)),
        Command::Config(ConfigCommand::Audit) => wait(config_audit::run(global)),
        Command::Config(command) => config::run(global, &command),
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { directory, markdown } => manual::run(directory.as_deref(), markdown),
        Command::Manual { directory, page } => help::run(directory.as_deref(), page.as_deref()),
        Command::Openapi => output::print(crate::http::api::openapi::DOCUMENT),
        Command::Version { check: false, .. } => manual::version(global.json),
        Command::Version { check: true, from } => wait(version::check(global, from.as_deref())),
        // Handled before.
        Command::Sendmail(_) => Ok(()),
        Command::Check(args) => wait(check::run(global, &args)),
        Command::Domain(args) => domain::run(global, &args),
        Command::Arrival(command) => wait(arrival::run(global, command)),
        Command::Journal(args) => wait(journal::run(global, &args)),
        Command::Blocklists(args) => wait(blocklists::run(global, &args)),
        Command::Send(args) => wait(send::run(global, &args)),
        Command::Queue(command) => wait(queue::run(global, command)),
        Command::Messages(command) => wait(messages::run(global, command)),
        Command::Why(args) => wait(messages::why(global, &args)),
        Command::Suppression(command) => wait(suppression::run(global, command)),
        Command::Rates => wait(rates::run(global)),
        Command::Volume => wait(volume::run(global)),
        Command::Series { over } => wait(series::run(global, &over)),
        Command::Patterns { days } => wait(patterns::run(global, days)),
        Command::FailedSignIns => wait(volume::failed_sign_ins(global)),
        Command::Sender(command) => wait(senders::run(global, command)),
        Command::Stream(command) => wait(streams::run(global, command)),
        Command::Preferences(command) => wait(preferences::run(global, command)),
        Command::Provider(command) => providers::run(global, &command),
        Command::Route(command) => wait(routes::run(global, command)),
        Command::Alert(command) => wait(alerts::run(global, command)),
        Command::Incident(command) => wait(incidents::run(global, command)),
        Command::Webhook(command) => wait(webhooks::run(global, command)),
        Command::ProviderEvents(command) => wait(inlets::run(global, command)),
        Command::Mailbox(command) => wait(mailboxes::run(global, command)),
        Command::Jobs(command) => wait(jobs::run(global, command)),
        Command::Node(command) => wait(nodes::run(global, command)),
        Command::Schedule(command) => wait(schedule::run(global, *command)),
        Command::Bounce(command) => wait(bounce::run(global, command)),
        Command::Batch(command) => wait(batch::run(global, command)),
        Command::Capture(command) => wait(capture::run(global, command)),
        Command::User(command) => wait(users::run(global, command)),
        Command::Session(command) => wait(users::sessions(global, command)),
        Command::Key(command) => wait(keys::run(global, command)),
        Command::Identity(command) => wait(keys::identity(global, command)),
        Command::Audit(args) => wait(audit::run(global, args)),
        Command::Status => wait(status::run(global)),
        Command::Reload => wait(server::reload(global)),
        Command::Top(args) => wait(top::run(global, &args)),
        Command::Health { timeout } => wait(health::run(global, timeout)),
        Command::LogLevel { level } => wait(health::log_level(global, level.as_deref())),
        Command::Login => wait(server::login(global)),
        Command::Backup { directory } => wait(server::backup(global, &directory)),
        Command::Migrate(args) => migrate::run(global, &args),
        Command::Verify { deep } => wait(server::verify(global, deep)),
    }
}

/// Runs a command to its end; commands need no threads of their own.
fn wait<T, E: From<Fault>>(command: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::cannot(anyhow::Error::new(error).context("cannot start the runtime")))?;
    runtime.block_on(command)
}

/// The configuration; one that is wrong keeps a command from running.
fn load(global: &Global) -> Result<Loaded, Fault> {
    crate::config::load(global.config.as_deref()).map_err(|error| Fault::cannot(error.into()))
}
