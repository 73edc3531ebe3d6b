//! `pillarbox explain`: what pasted replies, traces, mails and logs mean. Works without server, data and network.

use std::fs::File;
use std::io::{IsTerminal, Read, Write as _};
use std::path::Path;

use anyhow::Context;

use super::Fault;
use super::args::Global;
use super::args_rules::ExplainArgs;
use super::explain_group::{Said, Tally, Words};
use super::explain_input::{Lines, unpacked};
use super::explain_log::{Form, Reader, form_of, form_of_line};
use super::explain_mail::{explain_mail, looks_like_mail};
use super::explain_paste::{Found, pieces};
use super::explain_report::{Recognised, Report};
use super::output::{json as print_json, print};

/// Octets at the start that tell what an input is.
const HEAD: usize = 256 << 10;
/// Largest mail or mailbox file that is taken apart.
const MAX_MAIL: u64 = 256 << 20;
/// Lines of a log without any failing line that are looked at as words.
const FEW_LINES: u64 = 200;
/// Octets between two signs of life.
const PROGRESS: u64 = 16 << 20;

/// An opened input.
struct Input {
    read: Box<dyn Read>,
    /// Its size, if it is a file.
    size: Option<u64>,
}

/// Does what was asked.
pub fn run(global: &Global, args: &ExplainArgs) -> Result<(), Fault> {
    if let [one] = args.what.as_slice()
        && looks_like_an_address(one)
        && !Path::new(one).exists()
    {
        let plan = super::explain_plan::run(global, one, args.from.as_deref(), args.stream.as_deref());
        return super::wait(plan);
    }
    if args.from.is_some() || args.stream.is_some() {
        return Err(Fault::Usage("--from and --stream go with an address".into()));
    }
    let base = super::rules::base(global)?;
    let provider = args.provider.as_deref();
    if let Some(id) = provider.filter(|id| base.provider(id).is_none()) {
        let known: Vec<&str> = base.providers().iter().map(|provider| provider.id.as_str()).collect();
        return Err(Fault::Usage(format!("no provider `{id}`; there are {}", known.join(", "))));
    }
    let input = open(&args.what)?;
    let size = input.size;
    let mut lines = Lines::new(unpacked(input.read).map_err(unreadable)?);
    let (head, _) = lines.peek().map_err(unreadable)?;
    if looks_like_mail(head) {
        let octets = lines.rest(MAX_MAIL).map_err(unreadable)?;
        let report = explain_mail(&base, &octets, provider);
        match global.json {
            true => print_json(&report)?,
            false => print(&report.words())?,
        }
        return if report.has_unknown() { Err(Fault::Told) } else { Ok(()) };
    }
    let mut tally = Tally::new(&base, provider);
    tally.set_stage(args.stage.as_deref().and_then(|word| serde_json::from_value(word.into()).ok()));
    let recognised = count(&mut lines, &mut tally, size)?;
    finish(global, recognised, tally)
}

/// What `--json` says of octets that were pasted somewhere else than into a terminal.
pub fn explain_octets(
    base: &explain::RuleBase,
    provider: Option<&str>,
    octets: &[u8],
) -> anyhow::Result<serde_json::Value> {
    if looks_like_mail(octets.get(..octets.len().min(HEAD)).unwrap_or_default()) {
        return Ok(serde_json::to_value(explain_mail(base, octets, provider))?);
    }
    let mut tally = Tally::new(base, provider);
    let mut lines = Lines::new(octets);
    let recognised = count(&mut lines, &mut tally, None).map_err(|_| anyhow::anyhow!("it is not text"))?;
    Ok(serde_json::to_value(Report::new(recognised, tally))?)
}

/// Counts the failures of a file, or of standard input where it is `-`, for commands that want the counts only.
pub fn read_input(what: &[String], tally: &mut Tally<'_>) -> Result<Recognised, Fault> {
    let input = open(what)?;
    let mut lines = Lines::new(unpacked(input.read).map_err(unreadable)?);
    count(&mut lines, tally, input.size)
}

fn count<R: Read>(lines: &mut Lines<R>, tally: &mut Tally<'_>, size: Option<u64>) -> Result<Recognised, Fault> {
    let (head, whole) = lines.peek().map_err(unreadable)?;
    if let Some(problem) = no_text(head) {
        return Err(Fault::Usage(problem.into()));
    }
    match form_of(head.get(..head.len().min(HEAD)).unwrap_or_default()) {
        Some(form) => log(lines, form, tally, size).map_err(unreadable),
        None if whole => Ok(paste(&String::from_utf8_lossy(head), tally)),
        None => stream(lines, tally, size).map_err(unreadable),
    }
}

fn finish(global: &Global, recognised: Recognised, tally: Tally<'_>) -> Result<(), Fault> {
    let unknown = tally.unknown;
    if tally.known + unknown == 0 && recognised.form.is_none() {
        return Err(Fault::Usage("there is nothing to explain: the input is empty".into()));
    }
    let report = Report::new(recognised, tally);
    match global.json {
        true => print_json(&report)?,
        false => print(&report.words())?,
    }
    if unknown > 0 { Err(Fault::Told) } else { Ok(()) }
}

/// What to do about octets that are no text in an encoding with ASCII inside: they would only be looked at for minutes.
fn no_text(head: &[u8]) -> Option<&'static str> {
    let utf16 = head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]);
    if utf16 {
        return Some(
            "the input is UTF-16; turn it into UTF-8 first: `iconv -f UTF-16 -t UTF-8 FILE | pillarbox explain -`",
        );
    }
    head.contains(&0).then_some(
        "the input is not text: it has NUL octets near its start. If it is UTF-16 without a mark, name the order: \
         `iconv -f UTF-16LE -t UTF-8 FILE | pillarbox explain -`; if it is a log with a hole, leave that out: \
         `tr -d '\\000' < FILE | pillarbox explain -`",
    )
}

fn unreadable(error: std::io::Error) -> Fault {
    Fault::cannot(anyhow::Error::new(error).context("cannot read"))
}

/// A file if there is one of this name, standard input, or the words themselves.
fn open(what: &[String]) -> Result<Input, Fault> {
    let stdin = || Input { read: Box::new(std::io::stdin().lock()), size: None };
    match what {
        [] if std::io::stdin().is_terminal() => {
            Err(Fault::Usage("name a file, `-`, or the reply itself; see `pillarbox explain --help`".into()))
        }
        [] => Ok(stdin()),
        [dash] if dash == "-" => Ok(stdin()),
        [one] if looks_like_a_path(one) || Path::new(one).exists() => {
            let opened = File::open(one).and_then(|file| {
                let about = file.metadata()?;
                match about.is_dir() {
                    true => Err(std::io::ErrorKind::IsADirectory.into()),
                    false => Ok((file, about.len())),
                }
            });
            let (file, size) = opened.with_context(|| format!("cannot read {one}")).map_err(Fault::cannot)?;
            Ok(Input { read: Box::new(file), size: Some(size) })
        }
        [one] if looks_like_an_address(one) => Err(Fault::Usage(format!(
            "{one} is an address, and there is nothing said about it: paste the reply, the bounce or the log line it is about, \
             or look at its queue with `pillarbox queue ls --recipient {one}`"
        ))),
        words => Ok(Input { read: Box::new(std::io::Cursor::new(words.join(" "))), size: None }),
    }
}

/// A mistyped name of a file is not a reply nobody knows.
fn looks_like_a_path(text: &str) -> bool {
    let file = [".log", ".txt", ".eml", ".json", ".gz", ".mbox"].iter().any(|ending| text.ends_with(ending));
    !text.contains(char::is_whitespace) && !text.contains("://") && (file || text.contains('/'))
}

fn looks_like_an_address(text: &str) -> bool {
    let parts = text.rsplit_once('@').filter(|(user, _)| !user.is_empty());
    let host = |host: &str| host.contains('.') && host.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-'));
    parts.is_some_and(|(user, domain)| host(domain) && !user.contains(char::is_whitespace))
}

/// Counts the failing lines of a log.
fn log<R: Read>(
    lines: &mut Lines<R>,
    form: Form,
    tally: &mut Tally<'_>,
    size: Option<u64>,
) -> std::io::Result<Recognised> {
    let mut reader = Reader::new(form);
    let mut recognised = Recognised::new(Some(form));
    let mut progress = Progress::new(size);
    let mut first = Vec::new();
    let mut last = Vec::new();
    // Few lines without a failure among them may still hold words of one.
    let mut few: Vec<Vec<u8>> = Vec::new();
    loop {
        progress.at(lines.octets);
        let count = lines.lines;
        let Some(line) = lines.next()? else { break };
        if first.is_empty() {
            first = reader.time(line).to_vec();
        }
        if count < FEW_LINES && recognised.failing == 0 {
            few.push(line.to_vec());
        }
        note_last(&mut last, line);
        let Some(hit) = reader.hit(line) else { continue };
        recognised.failing += 1;
        tally.add(&Said {
            words: Words::Line(&hit.text),
            stage: hit.stage,
            relay: &hit.relay,
            recipient: &hit.recipient,
            time: hit.time,
            dsn: hit.dsn,
            id: hit.id,
            own_refusal: hit.own_refusal,
            program: None,
        });
    }
    progress.end();
    recognised.lines = lines.lines;
    recognised.octets = lines.octets;
    recognised.times(&first, reader.time(&last));
    if recognised.failing == 0 && lines.lines <= FEW_LINES {
        recognised.failing = words_of_few(&few, tally);
    }
    Ok(recognised)
}

/// Keeps the head of a line: the last one's time is shown.
fn note_last(last: &mut Vec<u8>, line: &[u8]) {
    if !line.is_empty() {
        last.clear();
        last.extend_from_slice(line.get(..line.len().min(64)).unwrap_or_default());
    }
}

/// Lines that are no failures by their form, but hold words of one: `connect to mx: Connection refused` before the end
/// of a delivery is known. What is unknown among them is no news.
fn words_of_few(few: &[Vec<u8>], tally: &mut Tally<'_>) -> u64 {
    let mut found = 0;
    for line in few {
        let words = super::explain_log_unix::program(line).map_or(line.as_slice(), |program| program.message);
        let text = String::from_utf8_lossy(words);
        let known = tally.base().judge(&explain::Query::text(&text)).is_some_and(|finding| !finding.is_by_class());
        if known && !super::explain_log::has(words, b"status=sent") {
            tally.add(&Said::new(Words::Line(words)));
            found += 1;
        }
    }
    found
}

/// Text that was pasted: it is in memory as a whole.
fn paste(text: &str, tally: &mut Tally<'_>) -> Recognised {
    let mut recognised = Recognised::new(None);
    recognised.lines = text.lines().count() as u64;
    recognised.octets = text.len() as u64;
    for piece in pieces(tally.base(), tally.provider(), text) {
        let words = match &piece.what {
            Found::Reply(reply) => Words::Reply(reply),
            Found::Line(line) => Words::Line(line.as_bytes()),
        };
        let program = piece.program.map(|program| (program, piece.call.unwrap_or_default()));
        recognised.program(piece.program);
        recognised.failing += 1;
        tally.add(&Said { stage: piece.stage, program, ..Said::new(words) });
    }
    recognised
}

/// A long text of no known form: line by line. Only lines that the rules know, or that hold a code, count.
fn stream<R: Read>(lines: &mut Lines<R>, tally: &mut Tally<'_>, size: Option<u64>) -> std::io::Result<Recognised> {
    let mut progress = Progress::new(size);
    let mut recognised = Recognised::default();
    loop {
        progress.at(lines.octets);
        let Some(line) = lines.next()? else { break };
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        // Logs of several programs in one file: each line by its own form.
        match form_of_line(line) {
            Some(form) => {
                let mut reader = Reader::new(form);
                let Some(hit) = reader.hit(line) else { continue };
                tally.add(&Said {
                    stage: hit.stage,
                    relay: &hit.relay,
                    recipient: &hit.recipient,
                    time: hit.time,
                    dsn: hit.dsn,
                    ..Said::new(Words::Line(&hit.text))
                });
            }
            None => {
                tally.add(&Said::new(Words::Line(line)));
            }
        }
        recognised.failing += 1;
    }
    progress.end();
    recognised.lines = lines.lines;
    recognised.octets = lines.octets;
    Ok(recognised)
}

/// Signs of life on a terminal while much is read.
struct Progress {
    size: Option<u64>,
    next: u64,
    shown: bool,
}

impl Progress {
    fn new(size: Option<u64>) -> Self {
        let wanted = std::io::stderr().is_terminal();
        Self { size, next: if wanted { 4 * PROGRESS } else { u64::MAX }, shown: false }
    }

    fn at(&mut self, octets: u64) {
        if octets < self.next {
            return;
        }
        self.next = octets + PROGRESS;
        self.shown = true;
        let part = self.size.filter(|size| *size >= octets).map(|size| format!(" ({} %)", octets * 100 / size.max(1)));
        let mut err = anstream::stderr().lock();
        let _ = write!(err, "\r{} MB read{} ", octets / 1_000_000, part.unwrap_or_default()).and_then(|()| err.flush());
    }

    fn end(&self) {
        if self.shown {
            let _ = write!(anstream::stderr().lock(), "\r{:40}\r", "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_file_is_not_taken_for_a_reply() {
        for path in ["maillog.txt", "./x", "logs/today", "mail.log"] {
            assert!(looks_like_a_path(path), "{path}");
        }
        for reply in ["550 5.1.1 see https://x.example/y", "https://x.example/y", "5.1.1", "451"] {
            assert!(!looks_like_a_path(reply), "{reply}");
        }
    }

    #[test]
    fn an_address_is_told_from_words() {
        assert!(looks_like_an_address("ann@b.example"));
        for words in ["550 a@b.example", "@b.example", "a@b", "<a@b.example>:"] {
            assert!(!looks_like_an_address(words), "{words}");
        }
    }
}
