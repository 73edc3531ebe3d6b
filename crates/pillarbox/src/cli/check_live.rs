//! What is seen while a check runs: stages as they happen, on a terminal, in a pipe, or as lines of JSON.

use std::io::{IsTerminal, Write};

use diagnose::check::{Event, Outcome, StageReport};
use explain::Severity;
use proto::transcript::Stage;
use serde_json::{Value, json};

use super::check_view::{Ended, StageView};
use super::check_words as words;
use super::output::clean;

/// How much is shown, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Nothing: the report comes in the end.
    Silent,
    /// Each event a line of JSON.
    JsonLines,
    /// A line for each stage when it has ended.
    Plain,
    /// The same, and the stage that runs in a line that is written over.
    Terminal,
}

impl Style {
    /// For people, as standard output is.
    pub fn of_stdout() -> Self {
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        if std::io::stdout().is_terminal() && !dumb { Self::Terminal } else { Self::Plain }
    }
}

/// Tells of a check while it runs, and remembers the stages for the case that it is interrupted.
pub struct Live {
    style: Style,
    stages: Vec<Value>,
    findings: Vec<Value>,
    last: Option<Stage>,
    running: Option<Stage>,
    ehlos: u32,
}

impl Live {
    /// Nothing has happened.
    pub fn new(style: Style) -> Self {
        Self { style, stages: Vec::new(), findings: Vec::new(), last: None, running: None, ehlos: 0 }
    }

    /// What is going to be done.
    pub fn head(&self, aim: &str, insecure: bool) {
        if matches!(self.style, Style::Plain | Style::Terminal) {
            write(&format!("{}\n{}\n", clean(aim), if insecure { words::insecure() } else { String::new() }));
        }
    }

    /// One event.
    pub fn event(&mut self, event: &Event<'_>) {
        if self.style == Style::JsonLines {
            let line = match event {
                Event::Began(stage) => json!({ "event": "began", "stage": stage }),
                Event::Step(step) => json!({ "event": "step", "step": step }),
                Event::Ended(report) => json!({ "event": "stage", "stage": report }),
                Event::Found(found) => json!({ "event": "finding", "finding": found }),
            };
            write(&format!("{line}\n"));
        }
        match event {
            Event::Began(stage) => {
                self.running = Some(*stage);
                if self.style == Style::Terminal {
                    write(&words::running(*stage));
                }
            }
            Event::Step(_) => {}
            Event::Ended(report) => self.ended(report),
            Event::Found(found) => {
                self.findings.extend(serde_json::to_value(found).ok());
                let credential = found.sign.as_deref().is_some_and(|sign| sign.starts_with("credential_"));
                let people = matches!(self.style, Style::Plain | Style::Terminal);
                if credential && people && found.severity != Severity::Note {
                    write(&words::noticed(&found.explanation.title));
                }
            }
        }
    }

    fn ended(&mut self, report: &StageReport) {
        self.running = None;
        if matches!(report.outcome, Outcome::Passed | Outcome::Failed) {
            self.last = Some(report.stage);
        }
        self.stages.extend(serde_json::to_value(report).ok());
        let again = report.stage == Stage::Ehlo && self.ehlos > 0;
        self.ehlos += u32::from(report.stage == Stage::Ehlo);
        let view = StageView {
            stage: report.stage,
            outcome: match report.outcome {
                Outcome::Passed => Ended::Passed,
                Outcome::Failed => Ended::Failed,
                Outcome::Skipped => Ended::Skipped,
                Outcome::NotReached => Ended::NotReached,
            },
            took_us: report.took_us,
            summary: report.summary.clone(),
        };
        match self.style {
            Style::Terminal => {
                write(&format!("{}{}", words::ERASE, words::stage_line(&view, again, words::Marks::Signs)))
            }
            Style::Plain => write(&words::stage_line(&view, again, words::Marks::Words)),
            Style::Silent | Style::JsonLines => {}
        }
    }

    /// No more events will come: a line that was to be written over goes.
    pub fn end(&mut self) {
        if self.style == Style::Terminal && self.running.take().is_some() {
            write(words::ERASE);
        }
    }

    /// What was learned before the interruption: as JSON, and how far it went in words.
    pub fn interrupted(self) -> (Value, String) {
        let reached = match self.last {
            Some(stage) => format!("the last stage that ended is {}", crate::http::words::stage(stage)),
            None => "no stage had ended".to_owned(),
        };
        let partial = json!({
            "schema": "pillarbox.check/1", "interrupted": true, "stages": self.stages, "findings": self.findings,
        });
        (partial, reached)
    }
}

/// Whoever reads may have gone; the check and its exit code are not changed by that.
fn write(text: &str) {
    let mut out = anstream::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
