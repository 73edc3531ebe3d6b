//! Pasted mail: bounces, complaints, automatic answers and plain headers, in words and as JSON.

use explain::RuleBase;
use serde::Serialize;

/// Version of the JSON form.
const SCHEMA: &str = "pillarbox.explain.mail/1";

/// What a mail, or several of them in mbox form, say.
#[derive(Debug, Serialize)]
pub struct MailReport {
    schema: &'static str,
    /// How many mails were read.
    mails: u64,
    /// How many of them nobody can explain.
    unknown: u64,
}

impl MailReport {
    /// For people.
    pub fn words(&self) -> String {
        format!("{} mails, {} unknown\n", self.mails, self.unknown)
    }

    /// Whether something is left unexplained: exit code 1.
    pub const fn has_unknown(&self) -> bool {
        self.unknown > 0
    }
}

/// Whether the first octets of an input are a mail: header fields that only mails have, or a mailbox file's first line.
pub fn looks_like_mail(head: &[u8]) -> bool {
    let _ = head;
    false
}

/// Explains one mail, or each of a mailbox file. `provider`: the server that spoke, where the caller knows it.
pub fn explain_mail(base: &RuleBase, octets: &[u8], provider: Option<&str>) -> MailReport {
    let _ = (base, octets, provider);
    MailReport { schema: SCHEMA, mails: 0, unknown: 0 }
}
