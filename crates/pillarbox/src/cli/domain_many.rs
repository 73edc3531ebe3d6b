//! `pillarbox domain --file`: a line in, a line out. Results are written as they come, and nothing is kept.

use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use diagnose::domain::{Audit, Auditor, Row, audit_many};
use futures_util::stream::unfold;
use net::Clock;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};

use super::Fault;
use super::args::Global;
use super::args_domain::DomainArgs;
use super::domain_view;
use super::output::{plural, print, print_raw};

/// Longest line that can be a domain; the rest of a longer one is left out.
const MAX_LINE: usize = 1_000;
/// Progress is told this often.
const PROGRESS_US: u64 = 200_000;

/// What was seen so far.
struct Tally {
    clock: Clock,
    began_us: u64,
    shown_us: u64,
    done: u64,
    unhealthy: u64,
    visible: bool,
}

/// Audits the domains of a file.
pub async fn run(global: &Global, args: &DomainArgs, auditor: &Arc<Auditor>, file: &Path) -> Result<(), Fault> {
    let input: Box<dyn AsyncBufRead + Unpin> = if file == Path::new("-") {
        // A copy of the descriptor: the runtime has no standard input of its own here.
        let copy = std::io::stdin().as_fd().try_clone_to_owned().context("cannot read standard input");
        let opened = copy.map_err(Fault::cannot)?;
        Box::new(BufReader::new(tokio::fs::File::from_std(opened.into())))
    } else {
        let opened = tokio::fs::File::open(file).await.with_context(|| format!("cannot read {}", file.display()));
        Box::new(BufReader::new(opened.map_err(Fault::cannot)?))
    };
    if args.csv {
        print(Row::HEAD)?;
    }
    // Lines to a terminal and a counter below them would overwrite each other.
    let visible = std::io::stderr().is_terminal() && !std::io::stdout().is_terminal();
    let clock = Clock::system();
    let began = clock.mono_us();
    let mut tally = Tally { clock, began_us: began, shown_us: began, done: 0, unhealthy: 0, visible };
    let mut outcome = Ok(());
    let domains = unfold(input, |mut input| async move { next(&mut input).await.map(|domain| (domain, input)) });
    let work = audit_many(auditor, domains, args.concurrency.into(), |audit| {
        tally.count(&audit);
        outcome = write(global, args, &audit);
        outcome.is_ok()
    });
    let interrupted = tokio::select! {
        () = work => false,
        _ = tokio::signal::ctrl_c() => true,
    };
    tally.end();
    outcome?;
    if interrupted {
        return Err(Fault::cannot(anyhow::anyhow!("interrupted after {}", plural(tally.done, "domain"))));
    }
    if tally.unhealthy == 0 { Ok(()) } else { Err(Fault::Told) }
}

fn write(global: &Global, args: &DomainArgs, audit: &Audit) -> Result<(), Fault> {
    if global.json {
        let mut line = serde_json::to_vec(audit).map_err(|error| Fault::cannot(error.into()))?;
        line.push(b'\n');
        print_raw(&line)
    } else if args.csv {
        print(&audit.row().csv())
    } else {
        print(&domain_view::line(audit))
    }
}

impl Tally {
    fn count(&mut self, audit: &Audit) {
        self.done += 1;
        self.unhealthy += u64::from(!audit.healthy);
        let now_us = self.clock.mono_us();
        if self.visible && now_us.saturating_sub(self.shown_us) >= PROGRESS_US {
            self.shown_us = now_us;
            self.tell("\r");
        }
    }

    fn end(&self) {
        if self.visible {
            self.tell("\r");
            let _ = writeln!(std::io::stderr());
        }
    }

    fn tell(&self, start: &str) {
        let seconds = (self.clock.mono_us().saturating_sub(self.began_us) as f64 / 1e6).max(0.001);
        let rate = self.done as f64 / seconds;
        let mut error = std::io::stderr();
        let _ = write!(error, "{start}{} domains, {} with problems, {rate:.0} a second ", self.done, self.unhealthy);
        let _ = error.flush();
    }
}

/// The next domain; `None` at the end, or when the file cannot be read on.
async fn next(input: &mut (dyn AsyncBufRead + Unpin)) -> Option<String> {
    loop {
        let mut line = Vec::new();
        let mut ended = false;
        while !ended {
            let block = input.fill_buf().await.ok()?;
            if block.is_empty() {
                if line.is_empty() {
                    return None;
                }
                break;
            }
            let end = block.iter().position(|octet| *octet == b'\n');
            ended = end.is_some();
            let used = end.map_or(block.len(), |end| end + 1);
            let room = MAX_LINE.saturating_sub(line.len());
            line.extend_from_slice(&block[..end.unwrap_or(used).min(room)]);
            input.consume(used);
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_start_matches('\u{feff}').trim();
        if !text.is_empty() && !text.starts_with('#') {
            return Some(text.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_domains_but_for_blanks_and_remarks_and_long_ones_are_cut() {
        let text = format!("\u{feff}example.com\r\n\n# remark\n  example.net  \n{}\nlast.example", "x".repeat(5_000));
        let mut input = text.as_bytes();
        let mut found = Vec::new();
        while let Some(domain) = next(&mut input).await {
            found.push(domain);
        }
        assert_eq!(found.len(), 4);
        assert_eq!(
            (found[0].as_str(), found[1].as_str(), found[3].as_str()),
            ("example.com", "example.net", "last.example")
        );
        assert_eq!(found[2].len(), MAX_LINE);
    }
}
