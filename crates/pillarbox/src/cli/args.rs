//! What can be typed: the tree of commands with their examples. What it means is in the files beside.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::args_access::{ApiKeyCommand, AuditArgs, IdentityCommand, SessionCommand, UserCommand};
use super::args_alert::AlertCommand;
use super::args_arrival::ArrivalCommand;
use super::args_batch::BatchCommand;
use super::args_bounce::BounceCommand;
use super::args_check::{CheckArgs, EXAMPLES as CHECK_EXAMPLES};
use super::args_dns::{JOURNAL_EXAMPLES, JournalArgs, LISTS_EXAMPLES, ListsArgs};
use super::args_domain::{DomainArgs, EXAMPLES as DOMAIN_EXAMPLES};
use super::args_incident::IncidentCommand;
use super::args_inlet::InletCommand;
use super::args_jobs::{JobsCommand, ScheduleCommand};
use super::args_mailbox::MailboxCommand;
use super::args_messages::{MessagesCommand, WHY_EXAMPLES, WhyArgs};
use super::args_migrate::{EXAMPLES as MIGRATE_EXAMPLES, MigrateArgs};
use super::args_nodes::NodeCommand;
use super::args_policy::{DkimCommand, DmarcArgs, SpfArgs};
use super::args_presets::ProviderCommand;
use super::args_report::{EXAMPLES as REPORT_EXAMPLES, ReportArgs};
use super::args_rules::{ExplainArgs, RulesCommand};
use super::args_settings::{RouteCommand, SenderCommand};
use super::args_streams::{PreferencesCommand, StreamCommand};
use super::args_support::SupportCommand;
use super::args_suppression::SuppressionCommand;
use super::args_tlsrpt::TlsrptCommand;
use super::args_top::TopArgs;
use super::args_webhook::WebhookCommand;

/// Outbound mail that explains itself: relay, diagnosis and operation in one binary.
#[derive(Debug, Parser)]
#[command(
    name = "pillarbox",
    version,
    disable_help_subcommand = true,
    after_help = "Examples:\n  pillarbox serve\n  pillarbox send --to ann@example.com --from app@example.com --subject Hello --text Hi\n  pillarbox queue ls --domain example.com\n\nExit codes: 0 done, 1 there is a problem, 2 wrong usage, 3 could not run."
)]
pub struct Cli {
    /// What applies to all commands.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of all commands.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Configuration file.
    #[arg(long, global = true, value_name = "FILE", env = "PILLARBOX_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Print data as JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// Work on the server at this URL instead of the one on this machine.
    #[arg(long, global = true, value_name = "URL")]
    pub server: Option<String>,
    /// File with the API key for --server (or the key itself in PILLARBOX_API_KEY or PILLARBOX_TOKEN).
    #[arg(long, global = true, visible_aliases = ["token-file", "token"], value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server.
    #[command(
        after_help = "Examples:\n  pillarbox serve\n  pillarbox serve --config /etc/pillarbox/pillarbox.toml\n\nSIGTERM and SIGINT stop it in order, a second one at once. SIGHUP reads certificates, senders, routes and rules again."
    )]
    Serve,
    /// Compose a message and submit it.
    #[command(
        after_help = "Examples:\n  pillarbox send --from app@example.com --to ann@example.com --subject Report --text 'See below.' --attach report.pdf\n  date | pillarbox send --from app@example.com --to ann@example.com --subject Now --text -\n  pillarbox send --server http://mail.example.com:8025 --key-file key --from a@example.com --to b@example.com --html-file page.html"
    )]
    Send(Box<SendArgs>),
    /// Stand in for /usr/sbin/sendmail.
    #[command(
        disable_help_flag = true,
        after_help = "Examples:\n  pillarbox sendmail -t -i < message\n  pillarbox sendmail -f app@example.com ann@example.com < message\n  ln -s /usr/bin/pillarbox /usr/sbin/sendmail"
    )]
    Sendmail(SendmailArgs),
    /// Look at the queue and work on it.
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Find messages, and look at all that is known of one.
    #[command(subcommand)]
    Messages(MessagesCommand),
    /// Why mail to an address did not arrive: what is known, what to check next, whom it touches.
    #[command(after_help = WHY_EXAMPLES)]
    Why(WhyArgs),
    /// Addresses that get no mail: bounced for good, complained, opted out, or put on the list.
    #[command(subcommand)]
    Suppression(SuppressionCommand),
    /// Show the rates of bounces and complaints. Exit code 1 if one is above a threshold.
    #[command(after_help = "Examples:\n  pillarbox rates\n  pillarbox rates --json")]
    Rates,
    /// Show how much senders and streams send, and what they use to. Exit code 1 if one sends far more.
    #[command(after_help = "Examples:\n  pillarbox volume\n  pillarbox volume --json")]
    Volume,
    /// Show what became of mail over time: accepted, delivered, deferred, failed, latency, and where the queue is going.
    #[command(
        after_help = "Examples:\n  pillarbox series\n  pillarbox series --over week\n  pillarbox series --over hour --json | jq .total"
    )]
    Series {
        /// How far to look back: an hour in minutes, a day in quarters of an hour, a week in hours, a month in steps of 6 hours.
        #[arg(long, value_name = "SPAN", default_value = "day", value_parser = ["hour", "day", "week", "month"])]
        over: String,
    },
    /// Show what failed by cause over time: shares, what comes back at the same hour or day, what is new and what changed before.
    #[command(after_help = "Examples:\n  pillarbox patterns\n  pillarbox patterns --days 7 --json")]
    Patterns {
        /// Days to look back, at most 366.
        #[arg(long, value_name = "N", default_value_t = 28, value_parser = clap::value_parser!(u32).range(1..=366))]
        days: u32,
    },
    /// Show who could not sign in here in the last day, from where, and how often.
    #[command(after_help = "Examples:\n  pillarbox failed-sign-ins\n  pillarbox failed-sign-ins --json")]
    FailedSignIns,
    /// Who may submit.
    #[command(subcommand)]
    Sender(SenderCommand),
    /// How mail leaves.
    #[command(subcommand)]
    Route(RouteCommand),
    /// Named classes of mail: priority, deadline, pace, on and off.
    #[command(subcommand)]
    Stream(StreamCommand),
    /// Which streams recipients get.
    #[command(subcommand)]
    Preferences(PreferencesCommand),
    /// Providers that a route can be made for.
    #[command(subcommand)]
    Provider(ProviderCommand),
    /// Look at what runs by itself, and run, pause or restart it.
    #[command(subcommand)]
    Jobs(JobsCommand),
    /// The programs that work on one queue: how they are, and taking one out of work.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Scheduled checks: what they found, and checks of one's own.
    #[command(subcommand)]
    Schedule(Box<ScheduleCommand>),
    /// What fails for many: what it is, what to do, what fixed it.
    #[command(subcommand)]
    Incident(IncidentCommand),
    /// Whom to tell by HTTP what became of messages.
    #[command(subcommand)]
    Webhook(WebhookCommand),
    /// What is worth telling somebody, and how it is told.
    #[command(subcommand)]
    Alert(AlertCommand),
    /// Look at mail that came back and is kept: what could not be matched, and reports.
    #[command(subcommand)]
    Bounce(BounceCommand),
    /// Take bounces and complaints that providers tell of by HTTP.
    #[command(subcommand)]
    ProviderEvents(InletCommand),
    /// Poll mailboxes for bounces, complaints and reports.
    #[command(subcommand)]
    Mailbox(MailboxCommand),
    /// Send one template to many recipients, and look after it.
    #[command(subcommand)]
    Batch(BatchCommand),
    /// Look at captured mail.
    #[command(subcommand)]
    Capture(CaptureCommand),
    /// Probe a mail server stage by stage: what is wrong, why, whose turn it is, how to mend it.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Box<CheckArgs>),
    /// Audit a domain: MX, SPF, DKIM, DMARC, encryption, name servers, blocklists; with the record for each fix.
    #[command(after_help = DOMAIN_EXAMPLES)]
    Domain(Box<DomainArgs>),
    /// Send test mail by a route and prove that it arrives: folder, delay, what the receiver found out.
    #[command(subcommand)]
    Arrival(ArrivalCommand),
    /// What changed in the DNS of the domains that write, per name server, and whose mail it touches.
    #[command(after_help = JOURNAL_EXAMPLES)]
    Journal(JournalArgs),
    /// Whether addresses and domains are on blocklists, and how to get off them.
    #[command(after_help = LISTS_EXAMPLES)]
    Blocklists(Box<ListsArgs>),
    /// Say what replies and log lines mean, and what to do.
    #[command(
        after_help = "Examples:\n  pillarbox explain '550 5.1.1 The email account that you tried to reach does not exist'\n  pillarbox explain /var/log/mail.log --json\n  journalctl -u postfix -g status=bounced -o cat | pillarbox explain -\n  pillarbox explain ann@example.com --from app@example.net\n\nEach line is judged on its own, and the lines of one SMTP reply together. Exit code 1: some are unknown."
    )]
    Explain(ExplainArgs),
    /// Judge a client by the SPF policy of a sender, and show every step.
    #[command(
        after_help = "Examples:\n  pillarbox spf 192.0.2.7 mail.example.com ann@example.com\n  pillarbox spf 2001:db8::7 mail.example.com '<>' --json\n  pillarbox spf 192.0.2.7 mail.example.com ann@example.com --resolver 127.0.0.1:5353 --timeout 2\n\nExit codes: 0 pass, 1 any other result, 2 wrong usage, 3 could not run."
    )]
    Spf(SpfArgs),
    /// Sign with DKIM: keys of domains and their rotation; verify signatures, look at keys.
    #[command(subcommand)]
    Dkim(DkimCommand),
    /// Look at reports about TLS to receiving domains (RFC 8460), and send one now.
    #[command(subcommand)]
    Tlsrpt(TlsrptCommand),
    /// Find the DMARC policy of a domain, or judge a message by it.
    #[command(
        after_help = "Examples:\n  pillarbox dmarc example.com\n  pillarbox dmarc mail.example.com --json\n  pillarbox dmarc check --from example.com --spf-domain bounce.example.com --spf-result pass --dkim d=example.com\n\nExit codes: 0 there is a policy, 1 there is none, 2 wrong usage, 3 could not run."
    )]
    Dmarc(DmarcArgs),
    /// Read reports of DMARC and TLS: who sends in a domain's name, what fails, and how to mend it.
    #[command(after_help = REPORT_EXAMPLES)]
    Report(ReportArgs),
    /// Look at the rules behind `explain`, and check rules of your own.
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Check, show and explain the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Who may look at the pages and work on them.
    #[command(subcommand)]
    User(UserCommand),
    /// Who is logged in.
    #[command(subcommand)]
    Session(SessionCommand),
    /// API keys with a role, for programs that look at the server or work on it.
    #[command(subcommand)]
    Key(ApiKeyCommand),
    /// Identity providers that users may sign in with.
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// Show who changed what: settings and operations, newest first.
    #[command(
        after_help = "Examples:\n  pillarbox audit --since 24h\n  pillarbox audit --what route/o365\n  pillarbox audit --who ann --action remove --json"
    )]
    Audit(AuditArgs),
    /// Show how the server is doing.
    #[command(after_help = "Examples:\n  pillarbox status\n  pillarbox status --json")]
    Status,
    /// Watch the server live: rates, latency, queue by route, what needs looking at.
    #[command(
        after_help = "Examples:\n  pillarbox top\n  pillarbox top --interval 5 --sort oldest\n  pillarbox top --once\n  pillarbox top --json | jq .figures.rates\n\nKeys: q quit, s next order, p pause."
    )]
    Top(TopArgs),
    /// Say whether the server would take mail: for health checks of containers.
    #[command(
        after_help = "Examples:\n  pillarbox health\n  pillarbox health --timeout 2 --json\n  HEALTHCHECK CMD [\"pillarbox\", \"health\"]\n\nExit codes: 0 a message would be accepted, 1 not now, 3 nobody answers."
    )]
    Health {
        /// Seconds to wait for an answer.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=300), value_name = "SECONDS")]
        timeout: u64,
    },
    /// Show what the log says, or change it until the next reload or start.
    #[command(
        after_help = "Examples:\n  pillarbox log-level\n  pillarbox log-level debug\n  pillarbox log-level info,relay=debug,net=trace"
    )]
    LogLevel {
        /// `error`, `warn`, `info`, `debug`, `trace`, or a filter by parts of the program.
        level: Option<String>,
    },
    /// Read certificates, senders, routes and rules again.
    #[command(after_help = "Examples:\n  pillarbox reload")]
    Reload,
    /// Make a one-time token for the pages.
    #[command(after_help = "Examples:\n  pillarbox login")]
    Login,
    /// Copy the data into a directory, also while the server runs.
    #[command(after_help = "Examples:\n  pillarbox backup /srv/backup/2026-11-21")]
    Backup {
        /// A directory that does not exist or is empty.
        directory: PathBuf,
    },
    /// Move an installation to PostgreSQL, also while it works.
    #[command(after_help = MIGRATE_EXAMPLES)]
    Migrate(MigrateArgs),
    /// Check the stored data.
    #[command(after_help = "Examples:\n  pillarbox verify\n  pillarbox verify --deep")]
    Verify {
        /// Read every stored message and compare its hash.
        #[arg(long)]
        deep: bool,
    },
    /// What somebody who helps has to know of this server.
    #[command(subcommand)]
    Support(SupportCommand),
    /// Write completions for a shell.
    #[command(after_help = "Examples:\n  pillarbox completions bash > /etc/bash_completion.d/pillarbox")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages.
    #[command(
        after_help = "Examples:\n  pillarbox man /usr/share/man/man1\n  pillarbox man --markdown > docs/manual/cli.md"
    )]
    Man {
        /// Where to; without it the main page is printed.
        directory: Option<PathBuf>,
        /// Print one page for all commands in Markdown.
        #[arg(long, conflicts_with = "directory")]
        markdown: bool,
    },
    /// Write the pages on reasons, providers and help, or print one of them.
    #[command(
        after_help = "Examples:\n  pillarbox manual docs/manual\n  pillarbox manual --page relay_denied\n  pillarbox manual --page google\n  pillarbox manual --page faq"
    )]
    Manual {
        /// Where to.
        directory: Option<PathBuf>,
        /// Print this page: a reason, a provider, or errors, faq, glossary, not-received, ports, support.
        #[arg(long, value_name = "NAME", conflicts_with = "directory")]
        page: Option<String>,
    },
    /// Print the description of the HTTP API, OpenAPI 3.1.
    #[command(after_help = "Examples:\n  pillarbox openapi > openapi.json")]
    Openapi,
    /// Print the version.
    #[command(
        after_help = "Examples:\n  pillarbox version\n  pillarbox version --json\n  pillarbox version --check --from dns:_version.example.com\n\nNobody is asked without --check. Exit code 1: a newer version is there; 3: it could not be found out."
    )]
    Version {
        /// Ask whether there is a newer one.
        #[arg(long)]
        check: bool,
        /// Whom to ask: dns:NAME or https://…; by default `checks.version_from` of the configuration.
        #[arg(long, value_name = "SOURCE", requires = "check")]
        from: Option<String>,
    },
}

/// A message to compose.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// From header and envelope sender: user@example.com or 'Name <user@example.com>'.
    #[arg(long, value_name = "ADDRESS")]
    pub from: String,
    /// To; may be repeated.
    #[arg(long, value_name = "ADDRESS")]
    pub to: Vec<String>,
    /// Cc; may be repeated.
    #[arg(long, value_name = "ADDRESS")]
    pub cc: Vec<String>,
    /// Blind copy; may be repeated.
    #[arg(long, value_name = "ADDRESS")]
    pub bcc: Vec<String>,
    /// Reply-To; may be repeated.
    #[arg(long, value_name = "ADDRESS")]
    pub reply_to: Vec<String>,
    /// Subject.
    #[arg(long, value_name = "TEXT")]
    pub subject: Option<String>,
    /// Plain text body; `-` reads standard input.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub text: Option<String>,
    /// Plain text body from a file.
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    pub text_file: Option<PathBuf>,
    /// HTML body.
    #[arg(long, value_name = "HTML")]
    pub html: Option<String>,
    /// HTML body from a file.
    #[arg(long, value_name = "FILE", conflicts_with = "html")]
    pub html_file: Option<PathBuf>,
    /// Attach a file; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub attach: Vec<PathBuf>,
    /// Another header field, 'Name: value'; may be repeated.
    #[arg(long, value_name = "FIELD")]
    pub header: Vec<String>,
    /// Named class of mail.
    #[arg(long, value_name = "NAME")]
    pub stream: Option<String>,
    /// Tag for searching; may be repeated.
    #[arg(long, value_name = "TEXT")]
    pub tag: Vec<String>,
    /// Deliver over verified TLS on every hop, or not at all (REQUIRETLS, RFC 8689).
    #[arg(long)]
    pub require_tls: bool,
    /// Not before this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    pub send_at: Option<String>,
    /// Not after this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    pub deliver_by: Option<String>,
    /// Submit once, however often this is called with the same key.
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Submit as this sender (on this machine only).
    #[arg(long, value_name = "NAME")]
    pub sender: Option<String>,
}

/// As sendmail has them.
#[derive(Debug, Args)]
pub struct SendmailArgs {
    /// Print help. As sendmail has it, -h is something else.
    #[arg(long, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
    /// -t (recipients from the header), -i and -oi (a lone dot ends nothing), -f ADDRESS, -F NAME, -bs (SMTP on standard
    /// input), -bp (list the queue), -N and -R (delivery reports), -B 7BIT|8BITMIME, then recipients. Other -o, -d and -q
    /// options are taken and ignored.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS AND RECIPIENTS")]
    pub args: Vec<OsString>,
}

/// Commands on the queue.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// List recipients, oldest message first.
    #[command(
        after_help = "Examples:\n  pillarbox queue ls\n  pillarbox queue ls --domain example.com --state held\n  pillarbox queue ls --json --limit 1000"
    )]
    Ls {
        /// Which ones.
        #[command(flatten)]
        selector: SelectorArgs,
        /// Most lines.
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: u32,
        /// Continue behind this recipient id.
        #[arg(long, value_name = "ID")]
        after: Option<String>,
    },
    /// Count recipients by domain, route, sender or stream.
    #[command(after_help = "Examples:\n  pillarbox queue counts\n  pillarbox queue counts --by route")]
    Counts {
        /// What to count by.
        #[arg(long, value_enum, default_value = "domain")]
        by: By,
        /// Most lines.
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: u32,
    },
    /// Group what waits by the cause of its last failure, with its meaning and the first fix.
    #[command(
        after_help = "Examples:\n  pillarbox queue causes\n  pillarbox queue causes greylisting\n  pillarbox queue causes --json\n  pillarbox queue retry --cause greylisting"
    )]
    Causes {
        /// One of them, with all that is known: what to do in order, and what those who wait have in common.
        #[arg(value_name = "RULE")]
        rule: Option<String>,
        /// Most causes.
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: u32,
    },
    /// Show a message with its recipients and events.
    #[command(
        after_help = "Examples:\n  pillarbox queue show 01k2mzq8v4t7e\n  pillarbox queue show 01k2mzq8v4t7e --transcripts"
    )]
    Show {
        /// Message id.
        id: String,
        /// Print the conversations that were kept.
        #[arg(long)]
        transcripts: bool,
    },
    /// Try now. Age and attempts stay as they are.
    #[command(
        after_help = "Examples:\n  pillarbox queue retry 01k2mzq8v4t7e\n  pillarbox queue retry 01k2mzq8v4t7e.0 01k2mzq8v4t7e.3\n  pillarbox queue retry --domain example.com --dry-run"
    )]
    Retry(OperateArgs),
    /// Stop until released.
    #[command(
        after_help = "Examples:\n  pillarbox queue hold --stream newsletter --reason 'wrong template'\n  pillarbox queue hold --all"
    )]
    Hold {
        /// Which ones.
        #[command(flatten)]
        operate: OperateArgs,
        /// Shown with the held ones.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Let held ones go on.
    #[command(
        after_help = "Examples:\n  pillarbox queue release --stream newsletter\n  pillarbox queue release --all --dry-run"
    )]
    Release(OperateArgs),
    /// Withdraw; there is no way back.
    #[command(
        after_help = "Examples:\n  pillarbox queue cancel 01k2mzq8v4t7e.0\n  pillarbox queue cancel --sender app --domain example.com"
    )]
    Cancel(OperateArgs),
}

/// What the queue is counted by.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum By {
    /// Recipient domain.
    Domain,
    /// Route.
    Route,
    /// Sender.
    Sender,
    /// Stream.
    Stream,
}

/// Which recipients; all conditions have to hold.
#[derive(Debug, Clone, Default, Args)]
pub struct SelectorArgs {
    /// Recipient address.
    #[arg(long, value_name = "ADDRESS")]
    pub recipient: Option<String>,
    /// Recipient domain.
    #[arg(long, value_name = "DOMAIN")]
    pub domain: Option<String>,
    /// Route.
    #[arg(long, value_name = "NAME")]
    pub route: Option<String>,
    /// Sender.
    #[arg(long, value_name = "NAME")]
    pub sender: Option<String>,
    /// Stream.
    #[arg(long, value_name = "NAME")]
    pub stream: Option<String>,
    /// State.
    #[arg(long, value_name = "STATE", value_parser = ["waiting", "leased", "held", "delivered", "failed", "expired", "canceled", "suppressed", "bounced", "complained"])]
    pub state: Option<String>,
    /// Rule that explains the last failure (`queue causes` lists them); finds what is waiting or held.
    #[arg(long, value_name = "RULE")]
    pub cause: Option<String>,
}

/// Which recipients to change.
#[derive(Debug, Clone, Default, Args)]
pub struct OperateArgs {
    /// Message ids, or recipient ids (with .n); several go without conditions, at most 1000 recipients.
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// More conditions.
    #[command(flatten)]
    pub selector: SelectorArgs,
    /// The whole queue.
    #[arg(long)]
    pub all: bool,
    /// Only say how many.
    #[arg(long)]
    pub dry_run: bool,
}

/// Commands on captured mail.
#[derive(Debug, Subcommand)]
pub enum CaptureCommand {
    /// List captured mail, newest first.
    #[command(after_help = "Examples:\n  pillarbox capture ls\n  pillarbox capture ls --limit 5 --json")]
    Ls {
        /// Most lines.
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: u32,
        /// Continue before this message id.
        #[arg(long, value_name = "ID")]
        before: Option<String>,
    },
    /// Show header, text and attachments.
    #[command(after_help = "Examples:\n  pillarbox capture show 01k2mzq8v4t7e")]
    Show {
        /// Message id.
        id: String,
    },
    /// Print the octets of a message.
    #[command(after_help = "Examples:\n  pillarbox capture raw 01k2mzq8v4t7e > message.eml")]
    Raw {
        /// Message id.
        id: String,
    },
}

/// Commands on the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Find what is wrong, with line and column.
    #[command(after_help = "Examples:\n  pillarbox config check\n  pillarbox config check --config new.toml")]
    Check,
    /// Print every setting with its source.
    #[command(after_help = "Examples:\n  pillarbox config show\n  pillarbox config show --json")]
    Show,
    /// Find what is weak: TLS, rights that are too wide, secrets others can read, senders without limits, mail without
    /// signature. Exit code 1: one is a problem.
    #[command(after_help = "Examples:\n  pillarbox config audit\n  pillarbox config audit --json")]
    Audit,
    /// Print the reference of all settings in Markdown.
    #[command(after_help = "Examples:\n  pillarbox config reference > docs/manual/configuration.md")]
    Reference,
}
