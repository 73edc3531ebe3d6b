//! Complaints (RFC 5965, RFC 6591): somebody pressed "this is spam".

use super::date::parse_date;
use super::model::{Complaint, Original};
use super::status::host;
use super::words::one_line;

/// Most values kept of a field that may come several times.
const MAX_VALUES: usize = 50;

/// Reads the fields of a `message/feedback-report` part.
pub(super) fn parse(text: &str, original: Original) -> Complaint {
    let mut found = Complaint { original, ..Complaint::default() };
    for field in unfolded(text) {
        let Some((name, value)) = field.split_once(':') else { continue };
        let value = one_line(value, 500);
        let address = value.trim_matches(['<', '>', ' ']).to_owned();
        match name.trim().to_ascii_lowercase().as_str() {
            "feedback-type" => found.feedback_type = value.to_ascii_lowercase(),
            "user-agent" => found.user_agent = Some(value),
            "original-rcpt-to" | "removal-recipient"
                if found.original_recipients.len() < MAX_VALUES
                    && !address.is_empty()
                    && !found.original_recipients.contains(&address) =>
            {
                found.original_recipients.push(address);
            }
            "original-mail-from" if !address.is_empty() => found.original_mail_from = Some(address),
            "source-ip" | "source" => found.source_ip = Some(value.trim_matches(['[', ']']).to_owned()),
            "reported-domain" if found.reported_domains.len() < MAX_VALUES => found.reported_domains.push(value),
            "reporting-mta" => found.reporter = host(&value),
            "arrival-date" | "received-date" => found.arrival = parse_date(&value),
            "auth-failure" => found.auth_failure = Some(value),
            "authentication-results" if found.auth_failure.is_none() => found.auth_failure = Some(value),
            _ => {}
        }
    }
    if found.feedback_type.is_empty() {
        "other".clone_into(&mut found.feedback_type);
    }
    found
}

/// Fields with their continuation lines.
fn unfolded(text: &str) -> Vec<String> {
    let mut fields: Vec<String> = Vec::new();
    for line in text.lines().take(500) {
        match fields.last_mut().filter(|_| line.starts_with([' ', '\t'])) {
            Some(last) if last.len() < 4000 => last.push_str(line),
            _ => fields.push(line.to_owned()),
        }
    }
    fields
}
