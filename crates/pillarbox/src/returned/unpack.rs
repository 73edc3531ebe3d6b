//! Out of gzip, zip and mail: the documents that reporters pack. Whoever packed them is not trusted with our memory.
//!
//! Reading the documents is [`proto::report`]'s work.

use std::io::{Cursor, Read};

use flate2::read::MultiGzDecoder;
use mail_parser::{Message, MessageParser, MessagePart, PartType};
use proto::report::aggregate::{self, AggregateReport};
use proto::report::tls_report::{self, TlsReport};
use zip::ZipArchive;

/// Largest input, packed.
pub const MAX_INPUT: u64 = 32 << 20;
/// Largest document when it is unpacked.
const MAX_DOCUMENT: usize = 64 << 20;
/// Most octets that one packed octet may become, beyond the first [`FREE`]: XML packs to a hundredth at best.
const MAX_RATIO: usize = 300;
const FREE: usize = 1 << 20;
/// Most files in an archive; reporters send one.
const MAX_ENTRIES: usize = 20;
/// Deepest packing: a gzip in a zip in a mail in a mail.
const MAX_DEPTH: u8 = 4;
/// Most documents of one input.
const MAX_DOCUMENTS: usize = 100;

/// A report.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// Of DMARC.
    Aggregate(Box<AggregateReport>),
    /// Of TLS.
    Tls(Box<TlsReport>),
}

/// Why there is no report in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// The archive is damaged, or of a kind nobody sends.
    #[error("the {0} archive cannot be read: {1}")]
    Archive(&'static str, String),
    /// It would become too large.
    #[error("unpacked it is larger than {} MiB", MAX_DOCUMENT >> 20)]
    TooLarge,
    /// It is made to become large.
    #[error("it unpacks to more than {MAX_RATIO} times its size: no report does")]
    Ratio,
    /// Many files.
    #[error("the archive holds more than {MAX_ENTRIES} files")]
    Entries,
    /// Archives in archives.
    #[error("it is packed in too many layers")]
    Depth,
    /// The XML.
    #[error(transparent)]
    Aggregate(#[from] aggregate::AggregateError),
    /// The JSON.
    #[error(transparent)]
    Tls(#[from] tls_report::TlsReportError),
    /// Something else.
    #[error("there is no report in it: neither XML, JSON, gzip, zip nor a mail that brings one of them")]
    Nothing,
}

/// What the first octets say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Gzip,
    Zip,
    Xml,
    Json,
    Other,
}

fn look(octets: &[u8]) -> Look {
    if octets.starts_with(b"\x1f\x8b") {
        return Look::Gzip;
    }
    if octets.starts_with(b"PK\x03\x04") || octets.starts_with(b"PK\x05\x06") {
        return Look::Zip;
    }
    if octets.starts_with(b"\xff\xfe<") || octets.starts_with(b"\xfe\xff\0<") {
        return Look::Xml;
    }
    match octets.strip_prefix(b"\xef\xbb\xbf").unwrap_or(octets).trim_ascii_start().first() {
        Some(b'<') => Look::Xml,
        Some(b'{') => Look::Json,
        _ => Look::Other,
    }
}

/// The reports in a file: bare, packed, or attached to a mail. One error each for those that cannot be read.
pub fn reports(octets: &[u8]) -> Vec<Result<Document, UnpackError>> {
    let mut found = Vec::new();
    match look(octets) {
        Look::Other => from_mail(octets, &mut found),
        _ => unpack(octets, 0, &mut found),
    }
    if found.is_empty() {
        found.push(Err(UnpackError::Nothing));
    }
    found
}

/// The reports attached to a mail; empty if it brings none.
pub fn attached(mail: &[u8]) -> Vec<Result<Document, UnpackError>> {
    let mut found = Vec::new();
    from_mail(mail, &mut found);
    found
}

fn unpack(octets: &[u8], depth: u8, found: &mut Vec<Result<Document, UnpackError>>) {
    if found.len() >= MAX_DOCUMENTS {
        return;
    }
    if depth >= MAX_DEPTH {
        return found.push(Err(UnpackError::Depth));
    }
    match look(octets) {
        Look::Gzip => match inflate(MultiGzDecoder::new(octets), octets.len(), "gzip") {
            Ok(inner) => unpack(&inner, depth + 1, found),
            Err(error) => found.push(Err(error)),
        },
        Look::Zip => {
            if let Err(error) = from_zip(octets, depth, found) {
                found.push(Err(error));
            }
        }
        Look::Xml => {
            let report = aggregate::parse(octets).map_err(UnpackError::from);
            found.push(report.map(|report| Document::Aggregate(Box::new(report))));
        }
        Look::Json => {
            let report = tls_report::parse(octets).map_err(UnpackError::from);
            found.push(report.map(|report| Document::Tls(Box::new(report))));
        }
        Look::Other => found.push(Err(UnpackError::Nothing)),
    }
}

/// Reads to the end, or until it is clear that the end is too far.
fn inflate(mut packed: impl Read, size: usize, kind: &'static str) -> Result<Vec<u8>, UnpackError> {
    let mut out = Vec::new();
    let mut block = vec![0; 64 << 10];
    loop {
        let read = match packed.read(&mut block) {
            Ok(0) => return Ok(out),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(UnpackError::Archive(kind, error.to_string())),
        };
        out.extend_from_slice(&block[..read]);
        if out.len() > MAX_DOCUMENT {
            return Err(UnpackError::TooLarge);
        }
        if out.len() > FREE + size.saturating_mul(MAX_RATIO) {
            return Err(UnpackError::Ratio);
        }
    }
}

fn from_zip(octets: &[u8], depth: u8, found: &mut Vec<Result<Document, UnpackError>>) -> Result<(), UnpackError> {
    let wrong = |error: zip::result::ZipError| UnpackError::Archive("zip", error.to_string());
    if announced(octets).is_some_and(|entries| entries > MAX_ENTRIES) {
        return Err(UnpackError::Entries);
    }
    let mut archive = ZipArchive::new(Cursor::new(octets)).map_err(wrong)?;
    if archive.len() > MAX_ENTRIES {
        return Err(UnpackError::Entries);
    }
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(wrong)?;
        if !entry.is_file() {
            continue;
        }
        let inner = inflate(entry, octets.len(), "zip")?;
        unpack(&inner, depth + 1, found);
    }
    Ok(())
}

/// Number of entries the end record announces, so that a directory of a million is not read at all.
fn announced(octets: &[u8]) -> Option<usize> {
    let from = octets.len().saturating_sub(22 + 65_535);
    let at = from + memchr::memmem::rfind(&octets[from..], b"PK\x05\x06")?;
    let low = octets.get(at + 10)?;
    let high = octets.get(at + 11)?;
    Some(usize::from(u16::from_le_bytes([*low, *high])))
}

fn from_mail(octets: &[u8], found: &mut Vec<Result<Document, UnpackError>>) {
    if let Some(mail) = MessageParser::default().parse(octets) {
        from_parts(&mail, 0, found);
    }
}

fn from_parts(mail: &Message<'_>, depth: u8, found: &mut Vec<Result<Document, UnpackError>>) {
    if depth >= MAX_DEPTH {
        return;
    }
    for part in mail.parts.iter().take(200) {
        if let PartType::Message(inner) = &part.body {
            from_parts(inner, depth + 1, found);
        } else if brings_report(part) {
            unpack(part.contents(), depth, found);
        }
    }
}

/// Other attachments and the words for people are left alone.
fn brings_report(part: &MessagePart<'_>) -> bool {
    let octets = part.contents();
    let head = &octets[..octets.len().min(4_096)];
    let has = |needle: &[u8]| memchr::memmem::find(head, needle).is_some();
    match look(octets) {
        Look::Gzip | Look::Zip => true,
        // A wide character set has octets between the letters.
        Look::Xml => has(b"feedback") || has(b"f\0e\0e\0d\0b\0a\0c\0k"),
        Look::Json => has(b"\"organization-name\"") || has(b"\"policies\""),
        Look::Other => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const XML: &str = "<feedback><policy_published><domain>a.example</domain></policy_published></feedback>";
    const JSON: &str = r#"{"organization-name":"b","policies":[]}"#;

    fn gzip(octets: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packer.write_all(octets).unwrap();
        packer.finish().unwrap()
    }

    fn zipped(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, octets) in files {
            writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            writer.write_all(octets).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn mail(name: &str, kind: &str, octets: &[u8]) -> Vec<u8> {
        use base64::Engine as _;
        format!(
            "From: r@r.example\r\nTo: d@a.example\r\nSubject: Report domain: a.example\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\nThis is a report.\r\n\
             --x\r\nContent-Type: {kind}; name=\"{name}\"\r\nContent-Transfer-Encoding: base64\r\n\r\n{}\r\n--x--\r\n",
            base64::engine::general_purpose::STANDARD.encode(octets)
        )
        .into_bytes()
    }

    fn is_report(found: &[Result<Document, UnpackError>]) -> bool {
        matches!(found, [Ok(_)])
    }

    #[test]
    fn a_report_is_found_in_every_packing() {
        let (xml, json) = (XML.as_bytes(), JSON.as_bytes());
        for octets in [
            xml.to_vec(),
            json.to_vec(),
            gzip(xml),
            gzip(json),
            zipped(&[("a.xml", xml)]),
            zipped(&[("a.xml.gz", &gzip(xml))]),
            mail("a.xml.gz", "application/gzip", &gzip(xml)),
            mail("a.zip", "application/zip", &zipped(&[("a.xml", xml)])),
            mail("a.json.gz", "application/tlsrpt+gzip", &gzip(json)),
            mail("a.xml", "text/xml", xml),
        ] {
            let found = reports(&octets);
            assert!(is_report(&found), "{found:?}");
        }
        assert_eq!(reports(&zipped(&[("a.xml", xml), ("b.json", json)])).len(), 2);
    }

    #[test]
    fn bombs_are_put_down_before_they_fill_the_memory() {
        let zeros = vec![b' '; 16 << 20];
        assert_eq!(reports(&gzip(&zeros)), [Err(UnpackError::Ratio)]);
        assert_eq!(reports(&zipped(&[("a.xml", &zeros)])), [Err(UnpackError::Ratio)]);
        let many: Vec<(String, &[u8])> = (0..MAX_ENTRIES + 1).map(|n| (format!("{n}.xml"), XML.as_bytes())).collect();
        let many: Vec<(&str, &[u8])> = many.iter().map(|(name, octets)| (name.as_str(), *octets)).collect();
        assert_eq!(reports(&zipped(&many)), [Err(UnpackError::Entries)]);
        let mut nest = gzip(XML.as_bytes());
        for _ in 0..6 {
            nest = gzip(&nest);
        }
        assert_eq!(reports(&nest), [Err(UnpackError::Depth)]);
    }

    #[test]
    fn what_is_none_says_so_and_what_is_damaged_says_why() {
        assert_eq!(reports(b"hello"), [Err(UnpackError::Nothing)]);
        assert_eq!(reports(b""), [Err(UnpackError::Nothing)]);
        assert!(attached(b"Subject: x\r\n\r\nhello\r\n").is_empty());
        let packed = gzip(XML.as_bytes());
        assert!(matches!(reports(&packed[..packed.len() - 9])[..], [Err(UnpackError::Archive("gzip", _))]));
        assert!(matches!(reports(b"PK\x03\x04rest")[..], [Err(UnpackError::Archive("zip", _))]));
    }

    #[test]
    fn no_damage_to_a_package_makes_it_panic() {
        for packed in [gzip(XML.as_bytes()), zipped(&[("a.xml", XML.as_bytes())])] {
            for at in 0..packed.len() {
                let _ = reports(&packed[..at]);
                for octet in [0, 0x7f, 0xff] {
                    let mut damaged = packed.clone();
                    damaged[at] = octet;
                    let _ = reports(&damaged);
                }
            }
        }
    }
}
