//! A list of recipients: CSV with a head, read as a stream, each row one line of JSON.

use std::io::{BufRead, BufReader, Read};

use super::Fault;

/// Field that says where a row goes.
const ADDRESS: &str = "email";
/// Most columns.
const MAX_COLUMNS: usize = 200;
/// Longest head that is looked at for its delimiter.
const MAX_HEAD: usize = 64 * 1024;

/// Rows as they are read.
pub struct Rows<R> {
    reader: csv::Reader<R>,
    /// Names of the fields.
    names: Vec<String>,
    record: csv::StringRecord,
}

/// A row of a CSV file.
#[derive(Debug, PartialEq, Eq)]
pub struct CsvRow {
    /// Line of the file it begins on.
    pub line: u64,
    /// One line of JSON, with its end.
    pub json: String,
}

/// What the head of a file says: its names and what separates them.
fn sniff(head: &str) -> u8 {
    let count = |c: char| head.matches(c).count();
    let most = [(',', count(',')), (';', count(';')), ('\t', count('\t'))].into_iter().rev().max_by_key(|(_, n)| *n);
    most.map_or(b',', |(c, _)| c as u8)
}

/// A column's name as templates can write it: letters, digits and underscores.
fn field(name: &str) -> String {
    let name = name.trim();
    if name.eq_ignore_ascii_case(ADDRESS) {
        return ADDRESS.to_owned();
    }
    let mut field: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if field.starts_with(|c: char| c.is_ascii_digit()) {
        field.insert(0, '_');
    }
    field
}

/// A file whose lines end with LF: the CSV reader counts a line's CR and LF at two places.
pub struct Unix<R> {
    from: BufReader<R>,
    strip: bool,
}

impl<R: Read> Read for Unix<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let read = self.from.read(into)?;
            if !self.strip || read == 0 {
                return Ok(read);
            }
            let mut kept = 0;
            for at in 0..read {
                if into[at] != b'\r' {
                    into[kept] = into[at];
                    kept += 1;
                }
            }
            if kept > 0 {
                return Ok(kept);
            }
        }
    }
}

/// Opens a list of recipients.
pub fn open<R: Read>(from: R, delimiter: Option<char>) -> Result<Rows<Unix<R>>, Fault> {
    let mut from = BufReader::with_capacity(MAX_HEAD, from);
    let broken = |error: std::io::Error| Fault::cannot(anyhow::Error::new(error).context("cannot read the recipients"));
    let head = from.fill_buf().map_err(broken)?;
    let bom = head.starts_with(b"\xef\xbb\xbf");
    let strip = memchr::memchr(b'\n', head).is_some_and(|end| end > 0 && head[end - 1] == b'\r');
    let end = head.iter().position(|octet| *octet == b'\n').unwrap_or(head.len());
    let delimiter = match delimiter {
        Some(given) if given.is_ascii() => given as u8,
        Some(_) => return Err(Fault::Usage("--delimiter takes one ASCII character".into())),
        None => sniff(&String::from_utf8_lossy(&head[..end])),
    };
    if bom {
        from.consume(3);
    }
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(Unix { from, strip });
    let head = reader.headers().map_err(|error| problem(&error))?.clone();
    let names: Vec<String> = head.iter().map(field).collect();
    if names.len() > MAX_COLUMNS {
        return Err(Fault::Usage(format!("the recipients have {} columns, at most {MAX_COLUMNS}", names.len())));
    }
    if !names.iter().any(|name| name == ADDRESS) {
        let text = format!(
            "the recipients have no column `{ADDRESS}`; the first line names the columns: {}",
            names.join(", ")
        );
        return Err(Fault::Usage(text));
    }
    if let Some(twice) = names.iter().enumerate().find(|(n, name)| names[..*n].contains(name)) {
        return Err(Fault::Usage(format!("the recipients have the column `{}` twice", twice.1)));
    }
    Ok(Rows { reader, names, record: csv::StringRecord::new() })
}

/// An error of the file, with its line.
fn problem(error: &csv::Error) -> Fault {
    let line = error.position().map(csv::Position::line);
    let at = line.map_or_else(String::new, |line| format!("line {line} of the recipients: "));
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            Fault::Usage(format!("{at}{len} columns instead of {expected_len}"))
        }
        csv::ErrorKind::Utf8 { .. } => Fault::Usage(format!("{at}not UTF-8: save the file as CSV UTF-8")),
        _ => Fault::cannot(anyhow::anyhow!("cannot read the recipients: {error}")),
    }
}

impl<R: Read> Iterator for Rows<R> {
    type Item = Result<CsvRow, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.reader.read_record(&mut self.record) {
            Ok(false) => None,
            Err(error) => Some(Err(problem(&error))),
            Ok(true) => {
                let line = self.record.position().map_or(0, csv::Position::line);
                let fields = self.names.iter().cloned().zip(self.record.iter().map(|cell| cell.trim().into()));
                let row: serde_json::Map<String, serde_json::Value> = fields.collect();
                let json = serde_json::to_string(&row).unwrap_or_default() + "\n";
                Some(Ok(CsvRow { line, json }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Result<Vec<CsvRow>, String> {
        open(text.as_bytes(), None).and_then(Iterator::collect).map_err(|fault| fault.text())
    }

    #[test]
    fn columns_become_fields_and_lines_are_kept() {
        let text = "\u{feff}E-Mail,Email,First name,2nd\r\nx,ann@a.example,\"Ann, \"\"A\"\"\nB\",1\r\ny,bob@a.example,Bob,\r\n";
        let rows = rows(text).unwrap();
        let json: serde_json::Value = serde_json::from_str(&rows[0].json).unwrap();
        let expected =
            serde_json::json!({"E_Mail": "x", "email": "ann@a.example", "First_name": "Ann, \"A\"\nB", "_2nd": "1"});
        assert_eq!((json, rows[0].line, rows[1].line), (expected, 2, 4));
    }

    #[test]
    fn the_delimiter_is_recognised() {
        for text in
            ["email;name\na@b.example;x,y\n", "email\tname\na@b.example\tx,y\n", "name,email\n\"x,y\",a@b.example\n"]
        {
            assert_eq!(rows(text).unwrap()[0].json, "{\"email\":\"a@b.example\",\"name\":\"x,y\"}\n", "{text}");
        }
        assert_eq!(rows("email\na@b.example\n").unwrap().len(), 1);
    }

    #[test]
    fn a_file_that_is_wrong_is_told_with_its_line() {
        for (text, why) in [
            ("name\nx\n", "no column `email`"),
            ("email,a b,a-b\n", "`a_b` twice"),
            ("email,name\na@b.example,x\nc@d.example\n", "line 3 of the recipients: 1 columns instead of 2"),
            ("", "no column"),
        ] {
            let told = rows(text).unwrap_err();
            assert!(told.contains(why), "{text:?}: {told}");
        }
        let latin: &[u8] = b"email,name\na@b.example,\xe9\n";
        let told = open(latin, None).and_then(Iterator::collect::<Result<Vec<_>, _>>).unwrap_err().text();
        assert!(told.contains("line 2") && told.contains("UTF-8"), "{told}");
    }
}
