//! A progress bar on standard error, where somebody is looking.

use std::io::{IsTerminal, Write};

use super::output::clean;

/// Characters of the bar itself.
const WIDTH: usize = 30;

/// The bar; silent where standard error is no terminal.
#[derive(Debug)]
pub struct Bar {
    what: &'static str,
    visible: bool,
    last: String,
}

impl Bar {
    /// A bar that has not begun.
    pub fn new(what: &'static str) -> Self {
        Self { what, visible: std::io::stderr().is_terminal(), last: String::new() }
    }

    /// Whether somebody can see it.
    pub fn is_visible(&self) -> bool {
        self.visible
    }

    /// Shows how far it is.
    pub fn show(&mut self, done: u64, total: u64, note: Option<&str>) {
        if !self.visible {
            return;
        }
        let line = line(self.what, done, total, note);
        if line != self.last {
            let mut out = anstream::stderr().lock();
            // Whoever closed it does not want to see it.
            let _ = write!(out, "\r\x1b[K{line}").and_then(|()| out.flush());
            self.last = line;
        }
    }

    /// Leaves the line to others.
    pub fn end(&mut self) {
        if self.visible && !self.last.is_empty() {
            let mut out = anstream::stderr().lock();
            let _ = write!(out, "\r\x1b[K").and_then(|()| out.flush());
            self.last.clear();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.end();
    }
}

fn line(what: &str, done: u64, total: u64, note: Option<&str>) -> String {
    let share = done.min(total) as f64 / total.max(1) as f64;
    let full = (share * WIDTH as f64) as usize;
    let note = note.map_or_else(String::new, |note| format!("  {}", clean(note)));
    format!(
        "[{}{}] {:3} %  {done} of {total} {what}{note}",
        "#".repeat(full),
        "-".repeat(WIDTH - full),
        (share * 100.0) as u32
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_as_long_as_the_share() {
        assert_eq!(
            line("sent", 50, 100, None),
            format!("[{}{}]  50 %  50 of 100 sent", "#".repeat(15), "-".repeat(15))
        );
        assert!(line("sent", 0, 0, Some("x\u{7}")).ends_with("0 of 0 sent  x\u{fffd}"));
        assert!(line("sent", 200, 100, None).starts_with(&format!("[{}]", "#".repeat(30))));
    }
}
