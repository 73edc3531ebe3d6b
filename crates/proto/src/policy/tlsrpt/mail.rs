//! The mail a report goes in (RFC 8460 §5.3), and its file name (§5.1). The octets come packed; nothing here packs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Media type of a packed report.
pub const MEDIA_TYPE: &str = "application/tlsrpt+gzip";
/// Octets of base64 in one line (RFC 2045 §6.8).
const LINE: usize = 76;

/// A report to be sent by mail. Names and addresses hold no line ends.
#[derive(Debug, Clone, Copy)]
pub struct ReportMail<'a> {
    /// Address in From.
    pub from: &'a str,
    /// Where it goes.
    pub to: &'a str,
    /// Whom it is about.
    pub domain: &'a str,
    /// Domain of who reports.
    pub submitter: &'a str,
    /// `left@right`, without brackets.
    pub report_id: &'a str,
    /// RFC 5322 date.
    pub date: &'a str,
    /// With angle brackets.
    pub message_id: &'a str,
    /// From [`file_name`].
    pub file_name: &'a str,
    /// For people, ASCII, lines end with `\n`.
    pub text: &'a str,
    /// The JSON, packed by gzip.
    pub packed: &'a [u8],
}

/// `submitter!domain!first!last!name.json.gz`, both ends in Unix seconds. Of `name` only letters and digits are used.
pub fn file_name(submitter: &str, domain: &str, (first_s, last_s): (i64, i64), name: &str) -> String {
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{submitter}!{domain}!{first_s}!{last_s}!{name}.json.gz")
}

/// The mail, seven bits, CRLF lines.
pub fn compose(mail: &ReportMail<'_>) -> Vec<u8> {
    let ReportMail { domain, submitter, report_id, .. } = mail;
    // Neither the text nor base64 has lines of this form.
    let name: String = mail.message_id.chars().filter(char::is_ascii_alphanumeric).take(40).collect();
    let boundary = format!("=_tlsrpt_{name}");
    let mut out = Vec::with_capacity(mail.packed.len() * 3 / 2 + 2_048);
    let mut put = |line: &str| {
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(b"\r\n");
    };
    put(&format!("Date: {}", mail.date));
    put(&format!("From: <{}>", mail.from));
    put(&format!("To: <{}>", mail.to));
    put(&format!("Subject: Report Domain: {domain}"));
    put(&format!("\tSubmitter: {submitter}"));
    put(&format!("\tReport-ID: <{report_id}>"));
    put(&format!("Message-ID: {}", mail.message_id));
    put(&format!("TLS-Report-Domain: {domain}"));
    put(&format!("TLS-Report-Submitter: {submitter}"));
    // It arrives whatever is wrong with TLS (RFC 8460 §3, RFC 8689 §3).
    put("TLS-Required: No");
    put("Auto-Submitted: auto-generated");
    put("MIME-Version: 1.0");
    put("Content-Type: multipart/report; report-type=\"tlsrpt\";");
    put(&format!("\tboundary=\"{boundary}\""));
    put("");
    put(&format!("--{boundary}"));
    put("Content-Type: text/plain; charset=us-ascii");
    put("Content-Transfer-Encoding: 7bit");
    put("");
    mail.text.lines().for_each(&mut put);
    put("");
    put(&format!("--{boundary}"));
    put(&format!("Content-Type: {MEDIA_TYPE}"));
    put("Content-Transfer-Encoding: base64");
    put("Content-Disposition: attachment;");
    put(&format!("\tfilename=\"{}\"", mail.file_name));
    put("");
    let encoded = STANDARD.encode(mail.packed);
    for line in encoded.as_bytes().chunks(LINE) {
        put(&String::from_utf8_lossy(line));
    }
    put("");
    put(&format!("--{boundary}--"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::scan;

    #[test]
    fn a_report_by_mail_has_the_form_of_the_rfc() {
        let name = file_name("mail.sender.example", "example.net", (1_470_096_000, 1_470_182_399), "5065-a@x");
        assert_eq!(name, "mail.sender.example!example.net!1470096000!1470182399!5065ax.json.gz");
        let packed: Vec<u8> = (0..=255).collect();
        let mail = compose(&ReportMail {
            from: "tlsrpt@mail.sender.example",
            to: "reports@example.net",
            domain: "example.net",
            submitter: "mail.sender.example",
            report_id: "735ff.e317@mail.sender.example",
            date: "Fri, 9 May 2017 16:54:30 +0000",
            message_id: "<1@mail.sender.example>",
            file_name: &name,
            text: "one\ntwo",
            packed: &packed,
        });
        let header = scan(&mail).unwrap();
        let get = |name: &str| String::from_utf8_lossy(header.get(&mail, name).unwrap()).replace("\r\n\t", " ");
        let subject =
            "Report Domain: example.net Submitter: mail.sender.example Report-ID: <735ff.e317@mail.sender.example>";
        assert_eq!(get("Subject"), subject);
        assert_eq!(get("TLS-Report-Domain"), "example.net");
        assert_eq!(get("TLS-Report-Submitter"), "mail.sender.example");
        assert!(get("Content-Type").starts_with("multipart/report; report-type=\"tlsrpt\"; boundary="));
        assert!(header.is_tls_optional(&mail));
        let text = String::from_utf8(mail).unwrap();
        assert!(text.is_ascii() && text.lines().all(|line| line.len() <= 100), "{text}");
        let part = text.split("Content-Type: application/tlsrpt+gzip\r\n").nth(1).unwrap();
        let body = part.split("\r\n\r\n").nth(1).unwrap().replace("\r\n", "");
        assert_eq!(STANDARD.decode(body).unwrap(), packed);
    }
}
