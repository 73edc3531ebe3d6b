//! Suppressions as CSV: rows in, with the line of what is wrong; rows out. One row at a time is in memory.

use std::io::Read;

use store::{Evidence, Suppression, SuppressionReason, SuppressionScope};

use super::{RowError, SuppressionOut, address, note, scope, until};
use crate::http::time;

/// Columns of an export, and those an import knows. Only the first has to be there.
pub const COLUMNS: [&str; 9] = ["address", "scope", "reason", "added", "expires", "who", "note", "reply", "rule"];
/// What other tools call the first.
const ALSO_ADDRESS: [&str; 3] = ["email", "email_address", "recipient"];

/// What an import adds to each row.
#[derive(Debug, Clone)]
pub struct Defaults {
    /// Instead of the column.
    pub reason: Option<SuppressionReason>,
    /// Instead of the column.
    pub scope: Option<SuppressionScope>,
    /// For rows without one: who imports.
    pub who: String,
    /// Now, Unix milliseconds.
    pub now_ms: i64,
    /// Lines of the file before this part of it.
    pub lines_before: u64,
}

/// Rows as they are read.
pub struct Rows<R> {
    reader: csv::Reader<R>,
    /// Place of each of [`COLUMNS`].
    places: [Option<usize>; COLUMNS.len()],
    /// Columns that mean nothing here.
    pub ignored: Vec<String>,
    defaults: Defaults,
    record: csv::ByteRecord,
}

/// Opens a table; the error says what is wrong with its first line.
pub fn open<R: Read>(from: R, defaults: Defaults) -> Result<Rows<R>, String> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(from);
    let head = reader.byte_headers().map_err(|error| format!("the table cannot be read: {error}"))?.clone();
    let mut places = [None; COLUMNS.len()];
    let mut ignored = Vec::new();
    for (place, name) in head.iter().enumerate() {
        let name = String::from_utf8_lossy(name).trim_start_matches('\u{feff}').trim().to_ascii_lowercase();
        let known = if ALSO_ADDRESS.contains(&&*name) { "address" } else { &*name };
        match COLUMNS.iter().position(|column| *column == known) {
            Some(column) if places[column].is_some() => return Err(format!("there are two columns `{known}`")),
            Some(column) => places[column] = Some(place),
            None => ignored.push(name),
        }
    }
    if places[0].is_none() {
        return Err(format!(
            "there is no column `address` (or `email`); the first line names the columns: {}",
            COLUMNS.join(",")
        ));
    }
    Ok(Rows { reader, places, ignored, defaults, record: csv::ByteRecord::new() })
}

impl<R: Read> Rows<R> {
    fn cell(&self, column: &str) -> Result<Option<&str>, String> {
        let place = COLUMNS.iter().position(|known| *known == column).and_then(|column| self.places[column]);
        let Some(cell) = place.and_then(|place| self.record.get(place)) else { return Ok(None) };
        let text = std::str::from_utf8(cell).map_err(|_| format!("{column} is not UTF-8"))?.trim();
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    fn row(&self) -> Result<Suppression, String> {
        let now_ms = self.defaults.now_ms;
        let address = address(self.cell("address")?.ok_or("there is no address")?)?;
        let scope = match (&self.defaults.scope, self.cell("scope")?) {
            (Some(scope), _) => scope.clone(),
            (None, Some(text)) => scope(text)?,
            (None, None) => SuppressionScope::Global,
        };
        let reason = match (self.defaults.reason, self.cell("reason")?) {
            (Some(reason), _) => reason,
            (None, Some(text)) => {
                text.to_ascii_lowercase().parse().map_err(|error| format!("{}: {error}", text.escape_debug()))?
            }
            (None, None) => SuppressionReason::Manual,
        };
        let added_ms = match self.cell("added")? {
            Some(text) => {
                time::read(text).ok_or_else(|| format!("added: {} is no RFC 3339 time", text.escape_debug()))?
            }
            None => now_ms,
        };
        let expires_ms = self.cell("expires")?.map_or(Ok(None), |text| until(text, now_ms))?;
        let words = |column| -> Result<Option<String>, String> {
            self.cell(column)?.map(|text| note(text).map_err(|error| format!("{column}: {error}"))).transpose()
        };
        Ok(Suppression {
            address,
            scope,
            reason,
            evidence: Evidence {
                note: words("note")?,
                reply: words("reply")?,
                rule: words("rule")?,
                source: Some("import".into()),
                ..Evidence::default()
            },
            who: words("who")?.unwrap_or_else(|| self.defaults.who.clone()),
            added_ms: added_ms.min(now_ms),
            expires_ms,
        })
    }
}

impl<R: Read> Iterator for Rows<R> {
    type Item = Result<Suppression, RowError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.reader.read_byte_record(&mut self.record) {
            Ok(false) => None,
            Ok(true) => {
                let line = self.record.position().map_or(0, csv::Position::line) + self.defaults.lines_before;
                Some(self.row().map_err(|detail| RowError { line, detail }))
            }
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line) + self.defaults.lines_before;
                Some(Err(RowError { line, detail: error.to_string() }))
            }
        }
    }
}

/// The first line of an export.
pub fn head() -> String {
    COLUMNS.join(",") + "\r\n"
}

/// A row of an export.
pub fn line(one: &SuppressionOut) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let cells = [
        one.address.clone(),
        one.scope.clone(),
        one.reason.as_str().to_owned(),
        one.added.clone(),
        text(&one.expires),
        one.who.clone(),
        text(&one.evidence.note),
        text(&one.evidence.reply),
        text(&one.evidence.rule),
    ];
    cells.map(|cell| quoted(&cell)).join(",") + "\r\n"
}

/// RFC 4180 §2.
fn quoted(cell: &str) -> String {
    // What a server said may span lines; on the way back a note may not.
    let cell: String = cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if cell.contains([',', '"']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_230_509_123;

    fn rows(text: &str) -> Result<Vec<Result<Suppression, RowError>>, String> {
        let defaults = Defaults { reason: None, scope: None, who: "tester".into(), now_ms: NOW, lines_before: 0 };
        open(text.as_bytes(), defaults).map(Iterator::collect)
    }

    #[test]
    fn what_is_exported_is_imported_again_as_it_was() {
        let one = Suppression {
            address: "bob+x@example.net".parse().unwrap(),
            scope: "news".into(),
            reason: SuppressionReason::Complaint,
            evidence: Evidence {
                note: Some("said \"no, thanks\"".into()),
                reply: Some("550 5.1.1 gone".into()),
                source: Some("import".into()),
                ..Evidence::default()
            },
            who: "ann".into(),
            added_ms: NOW - 5_000,
            expires_ms: Some(NOW + 86_400_000),
        };
        let text = head() + &line(&SuppressionOut::from(&one));
        assert_eq!(rows(&text).unwrap(), [Ok(one)]);
    }

    #[test]
    fn wrong_rows_are_named_with_their_line_and_the_others_are_read() {
        let text = "\u{feff}Email,Reason,Expires,Colour\r\na@x.test,,,red\nnot an address,,,\nb@x.test,boredom,,\nc@x.test,complaint,2020-01-01,\nd@x.test\n\"e@x.test\",opt-out,30d,\"a\nb\"\nf@x.test,,soon,\n";
        let found = rows(text).unwrap();
        let good: Vec<String> = found.iter().filter_map(|row| Some(row.as_ref().ok()?.address.to_string())).collect();
        assert_eq!(good, ["a@x.test", "d@x.test", "e@x.test"]);
        let wrong: Vec<u64> = found.iter().filter_map(|row| Some(row.as_ref().err()?.line)).collect();
        assert_eq!(wrong, [3, 4, 5, 9]);
        assert!(found[1].as_ref().unwrap_err().detail.contains("not an address"), "{:?}", found[1]);
        assert!(found[2].as_ref().unwrap_err().detail.contains("unknown-user"), "{:?}", found[2]);
        let first = found[0].as_ref().unwrap();
        assert_eq!((first.reason, &*first.who, first.expires_ms), (SuppressionReason::Manual, "tester", None));
        assert_eq!(found[5].as_ref().unwrap().expires_ms, Some(NOW + 30 * 86_400_000));
    }

    #[test]
    fn a_table_without_addresses_is_refused_and_an_export_cannot_be_torn_by_what_servers_say() {
        assert!(rows("name\nx\n").err().unwrap().contains("no column `address`"));
        assert!(rows("").err().unwrap().contains("no column `address`"));
        assert!(rows("address,email\n").err().unwrap().contains("two columns"));
        assert_eq!(quoted("a\r\nb,\"c\""), "\"a  b,\"\"c\"\"\"");
    }
}
