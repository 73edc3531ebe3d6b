//! Printing: tables, facts, JSON. Control characters of strangers never reach the terminal; a closed pipe is no error.

use std::io::{ErrorKind, Write};

use anstyle::Style;
use serde::Serialize;

use super::Fault;

/// Writes to standard output. Whoever reads may stop early.
pub fn print(text: &str) -> Result<(), Fault> {
    raw(text.as_bytes(), Strip::Colours)
}

/// Octets as they are.
pub fn print_raw(octets: &[u8]) -> Result<(), Fault> {
    raw(octets, Strip::Nothing)
}

/// A line to standard error; if that is closed there is nobody to tell.
pub fn complain(line: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{line}");
}

enum Strip {
    Nothing,
    Colours,
}

fn raw(octets: &[u8], strip: Strip) -> Result<(), Fault> {
    let written = match strip {
        Strip::Colours => {
            let mut out = anstream::stdout().lock();
            out.write_all(octets).and_then(|()| out.flush())
        }
        Strip::Nothing => {
            let mut out = std::io::stdout().lock();
            out.write_all(octets).and_then(|()| out.flush())
        }
    };
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| Fault::cannot(anyhow::Error::new(error).context("cannot write the output"))),
    }
}

/// One JSON document.
pub fn json(value: &impl Serialize) -> Result<(), Fault> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Fault::cannot(error.into()))?;
    print(&format!("{text}\n"))
}

/// A text from outside, safe for a terminal.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || is_format(c) { '\u{fffd}' } else { c }).collect()
}

/// The same for texts of several lines.
pub fn clean_lines(text: &str) -> String {
    text.lines().map(|line| clean(&line.replace('\t', "    "))).collect::<Vec<_>>().join("\n")
}

/// Characters that change the direction of what follows: a file name or an address can lie with them.
fn is_format(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A table with a line of heads.
pub fn table(heads: &[&str], rows: &[Vec<String>]) -> Result<(), Fault> {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| clean(cell)).collect()).collect();
    let width = |n: usize| {
        let cells = rows.iter().filter_map(|row| row.get(n)).map(|cell| cell.chars().count());
        cells.chain(heads.get(n).map(|head| head.len())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let bold = Style::new().bold();
    let head = line(&heads.iter().map(|head| (*head).to_owned()).collect::<Vec<_>>());
    let mut out = format!("{bold}{head}{bold:#}\n");
    for row in &rows {
        out.push_str(&line(row));
        out.push('\n');
    }
    print(&out)
}

/// Names and values below each other; empty values are left out.
pub fn facts(pairs: &[(&str, String)]) -> Result<(), Fault> {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let dim = Style::new().dimmed();
    let mut out = String::new();
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        out.push_str(&format!("{dim}{name:<width$}{dim:#}  {}\n", clean(value)));
    }
    print(&out)
}

/// `2026-11-21 03:08:29Z` of an RFC 3339 time; tables need no fractions.
pub fn short_time(time: &str) -> String {
    match (time.get(..10), time.get(11..19)) {
        (Some(day), Some(clock)) if time.ends_with('Z') => format!("{day} {clock}Z"),
        _ => time.to_owned(),
    }
}

/// `3 recipients`, `1 recipient`.
pub fn plural(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_moves_the_cursor_or_turns_the_text_around() {
        assert_eq!(clean("a\x1b[2Jb\r\n\u{202e}c"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}\u{fffd}c");
        assert_eq!(clean_lines("a\tb\r\nc\x07"), "a    b\nc\u{fffd}");
    }

    #[test]
    fn times_in_tables_have_no_fractions() {
        assert_eq!(short_time("2026-11-21T03:08:29.123Z"), "2026-11-21 03:08:29Z");
        assert_eq!(short_time("soon"), "soon");
    }
}
