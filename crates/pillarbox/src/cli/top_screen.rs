//! The terminal of `top`: a screen of its own, keys without Enter, and everything as it was in the end.

use std::io::{IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc;

/// A screen of its own, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// The terminal while `top` has it.
pub struct Screen {
    before: Option<Termios>,
    keys: mpsc::Receiver<u8>,
}

impl Screen {
    /// Takes the terminal; `None` if standard output is none.
    pub fn take() -> Option<Self> {
        if !std::io::stdout().is_terminal() || std::env::var("TERM").is_ok_and(|term| term == "dumb") {
            return None;
        }
        let input = std::io::stdin();
        let before = tcgetattr(&input).ok();
        if let Some(before) = &before {
            let mut now = before.clone();
            // Keys at once and unseen; Ctrl-C stays what it is.
            now.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            let _ = tcsetattr(&input, OptionalActions::Now, &now);
        }
        let (to, keys) = mpsc::channel(16);
        // It ends with the process: nothing else wakes a read of a terminal.
        let reader = move || {
            let mut octets = std::io::stdin().lock().bytes();
            while let Some(Ok(octet)) = octets.next() {
                if to.blocking_send(octet).is_err() {
                    return;
                }
            }
        };
        let _ = std::thread::Builder::new().name("keys".into()).spawn(reader);
        write(ENTER);
        Some(Self { before, keys })
    }

    /// The next key; waits for ever where nobody can type.
    pub async fn key(&mut self) -> u8 {
        match self.keys.recv().await {
            Some(key) => key,
            None => std::future::pending().await,
        }
    }

    /// Draws lines, as many and as wide as there is room for.
    pub fn draw(&self, lines: &[String]) {
        let (width, height) = terminal_size::terminal_size()
            .map_or((80, 24), |(width, height)| (usize::from(width.0), usize::from(height.0)));
        write(&frame(lines, width, height));
    }
}

/// One write for a whole picture: nothing flickers.
fn frame(lines: &[String], width: usize, height: usize) -> String {
    let mut out = String::from("\x1b[H");
    for (n, line) in lines.iter().take(height.max(1)).enumerate() {
        let cut: String = line.chars().take(width).collect();
        let heading = n == 0 || cut.trim_start().starts_with("WAITING ") || cut.starts_with("TO LOOK AT");
        if n > 0 {
            out.push_str("\r\n");
        }
        match heading {
            true => out.push_str(&format!("\x1b[1m{cut}\x1b[0m\x1b[K")),
            false => out.push_str(&format!("{cut}\x1b[K")),
        }
    }
    out.push_str("\x1b[J");
    out
}

impl Drop for Screen {
    fn drop(&mut self) {
        write(LEAVE);
        if let Some(before) = &self.before {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_never_larger_than_the_terminal() {
        let lines: Vec<String> = (0..50).map(|n| format!("line {n} {}", "ü".repeat(200))).collect();
        let picture = frame(&lines, 20, 5);
        let shown: Vec<&str> = picture.split("\r\n").collect();
        assert_eq!(shown.len(), 5);
        assert!(
            shown[1].starts_with("line 1 ") && shown[1].trim_end_matches("\x1b[K").chars().count() == 20,
            "{shown:?}"
        );
    }
}
