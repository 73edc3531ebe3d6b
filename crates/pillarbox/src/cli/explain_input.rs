//! Input in big blocks, cut into lines without copying them. Nothing here judges.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;

/// Octets read at once.
const BLOCK: usize = 1 << 20;
/// Most octets of a line that are looked at; the rest is read and dropped.
pub const MAX_LINE: usize = 64 << 10;

/// Lines of an input, one after the other, in constant memory.
pub struct Lines<R> {
    input: R,
    block: Vec<u8>,
    /// What of the block is not given yet.
    from: usize,
    to: usize,
    ended: bool,
    /// The rest of a line that was cut is being dropped.
    dropping: bool,
    /// Octets read.
    pub octets: u64,
    /// Lines given.
    pub lines: u64,
}

impl<R: Read> Lines<R> {
    /// Of this input.
    pub fn new(input: R) -> Self {
        let block = vec![0; BLOCK + MAX_LINE];
        Self { input, block, from: 0, to: 0, ended: false, dropping: false, octets: 0, lines: 0 }
    }

    /// What stands at the start, up to a block, without taking it; `true` if that is all of it.
    pub fn peek(&mut self) -> io::Result<(&[u8], bool)> {
        while !self.ended && self.to - self.from < BLOCK {
            self.fill()?;
        }
        Ok((self.block.get(self.from..self.to).unwrap_or_default(), self.ended))
    }

    /// Everything that is left, up to `most` octets.
    pub fn rest(mut self, most: u64) -> io::Result<Vec<u8>> {
        let mut all = self.block.get(self.from..self.to).unwrap_or_default().to_vec();
        if !self.ended {
            self.input.by_ref().take(most.saturating_sub(all.len() as u64)).read_to_end(&mut all)?;
        }
        Ok(all)
    }

    /// The next line, without its end.
    pub fn next(&mut self) -> io::Result<Option<&[u8]>> {
        let mut searched = 0;
        loop {
            let rest = self.block.get(self.from + searched..self.to).unwrap_or_default();
            if let Some(at) = memchr::memchr(b'\n', rest) {
                let (start, end) = (self.from, self.from + searched + at);
                self.from = end + 1;
                if std::mem::take(&mut self.dropping) {
                    searched = 0;
                    continue;
                }
                self.lines += 1;
                return Ok(self.block.get(start..end).map(without_return));
            }
            searched = self.to - self.from;
            if self.ended {
                if searched == 0 || std::mem::take(&mut self.dropping) {
                    self.from = self.to;
                    return Ok(None);
                }
                let start = std::mem::replace(&mut self.from, self.to);
                self.lines += 1;
                return Ok(self.block.get(start..self.to).map(without_return));
            }
            if searched >= MAX_LINE {
                let start = std::mem::replace(&mut self.from, self.to);
                if std::mem::replace(&mut self.dropping, true) {
                    searched = 0;
                    continue;
                }
                self.lines += 1;
                return Ok(self.block.get(start..start + MAX_LINE));
            }
            self.fill()?;
        }
    }

    /// Moves what is left to the front and reads on.
    fn fill(&mut self) -> io::Result<()> {
        if self.from > 0 {
            self.block.copy_within(self.from..self.to, 0);
            self.to -= self.from;
            self.from = 0;
        }
        loop {
            match self.input.read(self.block.get_mut(self.to..).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(0) => {
                    self.ended = true;
                    return Ok(());
                }
                Ok(read) => {
                    self.to += read;
                    self.octets += read as u64;
                    return Ok(());
                }
            }
        }
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The input unpacked if it is packed by gzip, in one member or several as `logrotate` makes them.
pub fn unpacked(mut input: Box<dyn Read>) -> io::Result<Box<dyn Read>> {
    let mut head = [0; 2];
    let mut read = 0;
    while read < head.len() {
        match input.read(head.get_mut(read..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let packed = head == [0x1f, 0x8b];
    let whole = io::Cursor::new(head).take(read as u64).chain(input);
    Ok(if packed { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one octet at a time, as a slow pipe does.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            to[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    fn all(input: impl Read) -> Vec<Vec<u8>> {
        let mut lines = Lines::new(input);
        let mut all = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            all.push(line.to_vec());
        }
        all
    }

    #[test]
    fn lines_come_whole_however_the_input_arrives() {
        let text = b"a\r\n\nbc\nlast";
        let wanted: Vec<Vec<u8>> = [&b"a"[..], b"", b"bc", b"last"].map(<[u8]>::to_vec).into();
        assert_eq!(all(&text[..]), wanted);
        assert_eq!(all(Slow(text)), wanted);
        assert!(all(&b""[..]).is_empty());
    }

    #[test]
    fn a_line_without_end_costs_no_memory_and_the_next_one_is_whole() {
        let text = [vec![b'x'; 5 << 20], b"\nnext\n".to_vec()].concat();
        let lines = all(&text[..]);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].iter().all(|octet| *octet == b'x') && lines[0].len() >= MAX_LINE);
        assert_eq!(lines[1], b"next");
    }

    #[test]
    fn many_lines_over_many_blocks_are_all_there() {
        let text: String = (0..300_000).map(|n| format!("line {n}\n")).collect();
        let lines = all(text.as_bytes());
        assert_eq!(lines.len(), 300_000);
        assert_eq!(lines[299_999], b"line 299999");
        assert_eq!(lines[123_456], b"line 123456");
    }

    #[test]
    fn packed_logs_are_read_member_by_member() {
        use std::io::Write as _;
        let pack = |text: &[u8]| {
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packer.write_all(text).unwrap();
            packer.finish().unwrap()
        };
        let packed = [pack(b"one\n"), pack(b"two\n")].concat();
        let read = |octets: Vec<u8>| all(unpacked(Box::new(io::Cursor::new(octets))).unwrap());
        assert_eq!(read(packed), [b"one".to_vec(), b"two".to_vec()]);
        assert_eq!(read(b"x".to_vec()), [b"x".to_vec()]);
    }

    #[test]
    fn what_is_looked_at_first_is_still_given() {
        let mut lines = Lines::new(&b"a\nb\n"[..]);
        assert_eq!(lines.peek().unwrap(), (&b"a\nb\n"[..], true));
        assert_eq!(lines.next().unwrap(), Some(&b"a"[..]));
    }
}
