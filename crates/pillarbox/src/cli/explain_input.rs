//! Pasted input, piece by piece: lines kept to a limit, replies of several lines joined. Nothing here judges.

use std::io::{self, BufRead};

use proto::smtp::reply::Reply;

/// Most octets kept of a line; the rest is read and dropped.
const MAX_LINE: usize = 8192;
/// Most lines kept of one reply.
const MAX_LINES: usize = 100;

/// What is judged at once.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// A reply of several lines.
    Reply(Reply),
    /// A line.
    Line(String),
}

/// Cuts input into pieces.
#[derive(Debug)]
pub struct Pieces<R> {
    input: R,
    /// A line read ahead that did not belong to the reply before it.
    ahead: Option<String>,
}

impl<R: BufRead> Pieces<R> {
    /// Of this input.
    pub fn new(input: R) -> Self {
        Self { input, ahead: None }
    }

    /// The next piece.
    ///
    /// # Errors
    /// Whatever reading gives.
    pub fn next(&mut self) -> io::Result<Option<Piece>> {
        let Some(first) = self.line()? else { return Ok(None) };
        let Some((code, '-', text)) = reply_line(&first) else { return Ok(Some(Piece::Line(first))) };
        let mut lines = vec![text.to_owned()];
        while let Some(line) = self.line()? {
            match reply_line(&line) {
                Some((same, mark, text)) if same == code => {
                    if lines.len() < MAX_LINES {
                        lines.push(text.to_owned());
                    }
                    if mark == ' ' {
                        break;
                    }
                }
                _ => {
                    self.ahead = Some(line);
                    break;
                }
            }
        }
        Ok(Some(Piece::Reply(Reply::lines(code, lines))))
    }

    /// The next line that is not empty, without blanks around it.
    fn line(&mut self) -> io::Result<Option<String>> {
        if let Some(line) = self.ahead.take() {
            return Ok(Some(line));
        }
        loop {
            let Some(octets) = self.octets()? else { return Ok(None) };
            let line = String::from_utf8_lossy(&octets);
            let line = line.trim();
            if !line.is_empty() {
                return Ok(Some(line.to_owned()));
            }
        }
    }

    fn octets(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut kept = Vec::new();
        let mut any = false;
        loop {
            let buffer = match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if buffer.is_empty() {
                return Ok(any.then_some(kept));
            }
            any = true;
            let end = buffer.iter().position(|octet| *octet == b'\n');
            let part = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
            let room = MAX_LINE.saturating_sub(kept.len()).min(part.len());
            kept.extend_from_slice(part.get(..room).unwrap_or_default());
            let used = part.len() + usize::from(end.is_some());
            self.input.consume(used);
            if end.is_some() {
                return Ok(Some(kept));
            }
        }
    }
}

/// Code, mark (`-` more lines follow, ` ` the last) and text of a line of a reply.
fn reply_line(line: &str) -> Option<(u16, char, &str)> {
    let code = line.get(..3).filter(|digits| digits.bytes().all(|octet| octet.is_ascii_digit()))?;
    let code = code.parse().ok().filter(|code| (200..600).contains(code))?;
    let rest = line.get(3..)?;
    match rest.chars().next() {
        None => Some((code, ' ', "")),
        Some(mark @ ('-' | ' ')) => Some((code, mark, rest.get(1..).unwrap_or_default())),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<Piece> {
        let mut pieces = Pieces::new(text.as_bytes());
        std::iter::from_fn(|| pieces.next().unwrap()).collect()
    }

    #[test]
    fn a_reply_of_several_lines_is_one_piece_and_other_lines_are_one_each() {
        let found = all("550-5.7.1 a\r\n550 5.7.1 b\r\n\r\n  451 4.7.1 c\nJan 1 postfix: x\n");
        let reply = Reply::lines(550, vec!["5.7.1 a".into(), "5.7.1 b".into()]);
        let lines = ["451 4.7.1 c", "Jan 1 postfix: x"].map(|line| Piece::Line(line.into()));
        assert_eq!(found, [&[Piece::Reply(reply)][..], &lines].concat());
    }

    #[test]
    fn a_reply_that_breaks_off_does_not_swallow_what_follows() {
        let found = all("550-5.7.1 a\n451 4.7.1 c");
        assert_eq!(found, [Piece::Reply(Reply::lines(550, vec!["5.7.1 a".into()])), Piece::Line("451 4.7.1 c".into())]);
    }

    #[test]
    fn long_lines_and_long_replies_are_cut() {
        let found = all(&format!("{}\nnext", "x".repeat(100_000)));
        assert_eq!(found, [Piece::Line("x".repeat(MAX_LINE)), Piece::Line("next".into())]);
        let [Piece::Reply(reply)] = &*all(&"550-x\n".repeat(10_000)) else { panic!("one reply") };
        assert_eq!(reply.lines.len(), MAX_LINES);
    }

    #[test]
    fn octets_that_are_no_text_do_not_stop_the_reading() {
        let mut pieces = Pieces::new(&b"\xff\xfe\n550 x"[..]);
        assert!(matches!(pieces.next(), Ok(Some(Piece::Line(_)))));
        assert_eq!(pieces.next().unwrap(), Some(Piece::Line("550 x".into())));
    }
}
