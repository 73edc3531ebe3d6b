//! A report in words: the stages, the verdict with causes and fixes, the conversation.

use std::fmt::Write as _;
use std::io::IsTerminal;

use anstyle::{AnsiColor, Style};
use diagnose::check::{Plan, Tls};
use explain::{Owner, ResultWord, Severity};
use proto::transcript::{Stage, Step};

use super::check_view::{Ended, FindingView, FixView, StageView, View, WayView};
use super::output::clean;
use crate::check::commands::Equal;
use crate::http::words::{fact as fact_words, failure, stage as stage_word};

/// Back to the beginning of the line, and nothing in it.
pub const ERASE: &str = "\r\x1b[2K";

/// How outcomes are marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marks {
    /// `✓ ✗ –`, on a terminal.
    Signs,
    /// `ok`, `FAIL`, `-`, elsewhere.
    Words,
}

impl Marks {
    fn of_stdout() -> Self {
        if std::io::stdout().is_terminal() { Self::Signs } else { Self::Words }
    }
}

/// The head line: what is probed, and how.
pub fn aim(plan: &Plan) -> String {
    let host = &plan.target.host;
    let port = plan.target.port.map(|port| format!(":{port}")).unwrap_or_default();
    let host = if host.contains(':') && !port.is_empty() { format!("[{host}]") } else { host.clone() };
    let tls = match plan.tls {
        Tls::Auto => "",
        Tls::StartTls => ", STARTTLS required",
        Tls::Implicit => ", implicit TLS",
        Tls::None => ", without TLS",
    };
    format!("{host}{port}{tls}")
}

/// What nobody may overlook.
pub fn insecure() -> String {
    let loud = AnsiColor::Red.on_default().bold();
    format!(
        "{loud}INSECURE: the certificate is not required to be valid (--insecure). Not for production: anyone on the way \
         could read along and answer in the server's place.{loud:#}\n"
    )
}

/// The stage that runs.
pub fn running(stage: Stage) -> String {
    let dim = Style::new().dimmed();
    format!("{ERASE}  {dim}… {:<10}{dim:#}", stage_word(stage))
}

/// Something noticed before the network.
pub fn noticed(title: &str) -> String {
    let yellow = AnsiColor::Yellow.on_default();
    format!("  {yellow}!{yellow:#} before connecting: {}\n", clean(title))
}

/// One stage.
pub fn stage_line(stage: &StageView, again: bool, marks: Marks) -> String {
    let (sign, word, style) = match stage.outcome {
        Ended::Passed => ("✓", "ok  ", AnsiColor::Green.on_default()),
        Ended::Failed => ("✗", "FAIL", AnsiColor::Red.on_default()),
        Ended::Skipped | Ended::NotReached => ("–", "-   ", Style::new().dimmed()),
    };
    let mark = if marks == Marks::Signs { sign } else { word };
    let name = if again { "ehlo again" } else { stage_word(stage.stage) };
    let ran = matches!(stage.outcome, Ended::Passed | Ended::Failed);
    let took = if ran { milliseconds(stage.took_us) } else { String::new() };
    let summary = match stage.outcome {
        Ended::NotReached if stage.summary.is_empty() => "not reached".into(),
        Ended::Skipped if stage.summary.is_empty() => "not asked for".into(),
        _ => clean(&stage.summary),
    };
    format!("  {style}{mark}{style:#} {name:<10} {took:>9}  {summary}\n").replace(" \n", "\n")
}

/// `12.3 ms`, `4.56 s`.
fn milliseconds(us: u64) -> String {
    match us {
        0..=9_999 => format!("{}.{:02} ms", us / 1000, us % 1000 / 10),
        10_000..=999_999 => format!("{}.{} ms", us / 1000, us % 1000 / 100),
        _ => format!("{}.{:02} s", us / 1_000_000, us % 1_000_000 / 10_000),
    }
}

/// All stages, for a report that was not seen live.
pub fn stages(view: &View) -> String {
    let mut out = format!("{}\n{}", way(&view.target), if view.insecure { insecure() } else { String::new() });
    let mut ehlos = 0;
    for stage in &view.stages {
        let again = stage.stage == Stage::Ehlo && ehlos > 0;
        ehlos += u32::from(stage.stage == Stage::Ehlo);
        out.push_str(&stage_line(stage, again, Marks::of_stdout()));
    }
    out
}

/// `smtp.example.com port 465 with implicit TLS`.
pub fn way(way: &WayView) -> String {
    let tls = match way.tls.as_str() {
        "starttls" => "with STARTTLS",
        "implicit" => "with implicit TLS",
        _ => "without TLS",
    };
    format!("{} port {} {tls}", clean(&way.host), way.port)
}

/// The owner in words.
pub fn owner(owner: Owner) -> String {
    owner.as_str().replace('_', " ")
}

/// What came out of it, why, whose turn it is, and what to do.
pub fn verdict(view: &View) -> String {
    let mut out = String::from("\n");
    let word = result(view);
    let style = match view.healthy {
        true => AnsiColor::Green.on_default().bold(),
        false => AnsiColor::Red.on_default().bold(),
    };
    let (meaning, next) = meaning(view);
    let _ = writeln!(out, "{style}{word}{style:#}: {meaning}");
    let _ = writeln!(out, "Next step: {next}");
    if let Some(provider) = &view.provider {
        let _ = writeln!(out, "Provider: {}", clean(provider));
    }
    if let Some(deciding) = view.deciding() {
        out.push('\n');
        if let (Some(at), Some(turn)) = (view.failed_at, view.owner) {
            let _ = writeln!(
                out,
                "Failed at: {}   Reason: {}   Whose turn: {}",
                stage_word(at),
                clean(&view.reason),
                owner(turn)
            );
        }
        finding(deciding, &mut out);
    }
    if let Some(working) = &view.working {
        let green = AnsiColor::Green.on_default().bold();
        let _ = writeln!(out, "\n{green}This works: use {}.{green:#}", way(working));
    }
    let others = || view.findings.iter().skip(usize::from(!view.healthy));
    for (severity, head) in
        [(Severity::Problem, "Also wrong"), (Severity::Warning, "Warnings"), (Severity::Note, "Notes")]
    {
        let mut of_kind = others().filter(|one| one.severity == severity).peekable();
        if of_kind.peek().is_some() {
            let _ = writeln!(out, "\n{head}:");
        }
        of_kind.for_each(|one| brief(one, &mut out));
    }
    if view.insecure {
        let _ = write!(out, "\n{}", insecure());
    }
    let _ = writeln!(
        out,
        "\n{} in all, {} of them waiting for the network.",
        milliseconds(view.took_us),
        milliseconds(view.waited_us)
    );
    out
}

fn result(view: &View) -> String {
    if view.result == ResultWord::None { "Refused".into() } else { view.result.as_str().to_owned() }
}

/// Success means delivery only where a message was sent.
fn meaning(view: &View) -> (String, String) {
    if !view.healthy {
        return (view.result.meaning().into(), view.result.next_step().into());
    }
    let sent = view.transcripts.iter().flat_map(|transcript| &transcript.steps).any(is_taken_message);
    if sent && view.passed(Stage::Message) {
        return (view.result.meaning().into(), view.result.next_step().into());
    }
    let more = if view.passed(Stage::Recipient) {
        "add --send to have a test message delivered"
    } else if view.passed(Stage::Auth) {
        "add --from and --to to try sender and recipient as well"
    } else {
        "add --user to try signing in, and --from and --to to try sender and recipient"
    };
    ("Every stage that was asked for went well. No message was sent.".into(), format!("To go further, {more}."))
}

/// A reply of the class 2 at the message stage comes only behind the final dot.
fn is_taken_message(step: &Step) -> bool {
    step.stage == Stage::Message && step.reply.as_ref().is_some_and(|reply| reply.class() == 2)
}

/// A finding in full.
pub fn finding(found: &FindingView, out: &mut String) {
    let bold = Style::new().bold();
    let words = &found.explanation;
    let _ = writeln!(out, "{bold}{}{bold:#} (rule {})", clean(&words.title), clean(&words.rule));
    if let Some(reply) = &found.reply {
        for line in &reply.lines {
            let _ = writeln!(out, "  The server said: {} {}", reply.code, clean(line));
        }
    }
    let _ = writeln!(out, "  {}", clean(&words.meaning));
    if !words.causes.is_empty() {
        out.push_str("  Causes, the likeliest first:\n");
    }
    for cause in &words.causes {
        let _ = writeln!(out, "    - {}", clean(cause));
    }
    if !words.fixes.is_empty() {
        out.push_str("  Fixes, in this order:\n");
    }
    for (n, one) in words.fixes.iter().enumerate() {
        fix(&format!("{}.", n + 1), one, out);
    }
    if let Some(dated) = &words.dated {
        let _ = writeln!(out, "  Dated: {}", clean(dated));
    }
}

fn fix(mark: &str, fix: &FixView, out: &mut String) {
    let _ = writeln!(out, "    {mark} [{}] {}", owner(fix.who), clean(&fix.text));
    if let Some(run) = &fix.run {
        let _ = writeln!(out, "       {}", clean(run));
    }
}

/// A finding beside the one that decides: what it is, and the first thing to do.
fn brief(found: &FindingView, out: &mut String) {
    let style = match found.severity {
        Severity::Problem => AnsiColor::Red.on_default(),
        Severity::Warning => AnsiColor::Yellow.on_default(),
        Severity::Note => Style::new().dimmed(),
    };
    let words = &found.explanation;
    let at = found.stage.map(|stage| format!("{}: ", stage_word(stage))).unwrap_or_default();
    let _ = writeln!(out, "  {style}-{style:#} {at}{}. {}", clean(&words.title), clean(&words.meaning));
    if let (Some(first), true) = (words.fixes.first(), found.severity != Severity::Note) {
        fix("→", first, out);
    }
}

/// What was found in credentials, without any connection.
pub fn credentials(found: &[FindingView]) -> String {
    if found.is_empty() {
        return "Nothing is wrong with the credentials by their looks. Whether they are right, only the server knows.\n".into();
    }
    let mut out = String::new();
    for one in found {
        finding(one, &mut out);
        out.push('\n');
    }
    out
}

/// The same with the tools that are everywhere.
pub fn commands(all: &[Equal]) -> String {
    let mut out = String::from("\nThe same by hand:\n");
    let mut last = "";
    for one in all {
        if one.shows != last {
            let _ = writeln!(out, "  {}:", one.shows);
            last = one.shows;
        }
        let _ = writeln!(out, "    {}", clean(&one.command));
    }
    out
}

/// Every conversation, line by line.
pub fn transcripts(view: &View) -> String {
    let mut out = String::new();
    for (n, transcript) in view.transcripts.iter().enumerate() {
        let _ = writeln!(out, "\nConversation {} of {}:", n + 1, view.transcripts.len());
        transcript.steps.iter().for_each(|step| self::step(step, &mut out));
    }
    out
}

fn step(step: &Step, out: &mut String) {
    let at = format!("{:>9}", milliseconds(step.started_us));
    if let Some(sent) = &step.sent {
        let _ = writeln!(out, "{at} > {}", clean(sent));
    }
    if let Some(fact) = &step.fact {
        let _ = writeln!(out, "{at} * {}", clean(&fact_words(fact)));
    }
    if let Some(reply) = &step.reply {
        for line in &reply.lines {
            let _ = writeln!(out, "{at} < {} {}", reply.code, clean(line));
        }
    }
    if let Some(failed) = step.failure.as_ref().filter(|failed| failed.reply().is_none()) {
        let _ = writeln!(out, "{at} ! {}", clean(&failure(failed)));
    }
}
