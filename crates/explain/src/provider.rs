//! Providers and mail programs: how they are recognised, and what is known about sending through them.

use serde::{Deserialize, Serialize};

/// A provider, filter or mail program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Short name, as rules use it.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// What it is: `mailbox`, `sending`, `filter`, `forwarder`, `program`.
    pub kind: String,
    /// Ends of host names of its MX and submission servers, in lower case.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Words of its greeting or EHLO answer, in lower case.
    #[serde(default)]
    pub banners: Vec<String>,
    /// Words that only its replies have, in lower case.
    #[serde(default)]
    pub marks: Vec<String>,
    /// Where and how mail is handed to it.
    #[serde(default)]
    pub submission: Vec<Submission>,
    /// Mechanisms of signing in, the best first.
    #[serde(default)]
    pub mechanisms: Vec<String>,
    /// What the user name looks like.
    #[serde(default)]
    pub username: String,
    /// What the password is.
    #[serde(default)]
    pub password: String,
    /// Limits in words.
    #[serde(default)]
    pub limits: String,
    /// Connections to hold at most, where known.
    #[serde(default)]
    pub connections: Option<u32>,
    /// Messages per connection at most, where known.
    #[serde(default)]
    pub messages_per_connection: Option<u32>,
    /// Messages per minute at most, where known.
    #[serde(default)]
    pub per_minute: Option<u32>,
    /// Messages or recipients in 24 hours at most, where known.
    #[serde(default)]
    pub per_day: Option<u32>,
    /// Term for the SPF record of a domain that sends through it.
    #[serde(default)]
    pub spf: String,
    /// DKIM selectors it uses.
    #[serde(default)]
    pub dkim_selectors: Vec<String>,
    /// What a DKIM selector's record is: a key of its own, or a pointer to the provider.
    #[serde(default)]
    pub dkim_record: String,
    /// Records for a return path (envelope domain) of the customer's own.
    #[serde(default)]
    pub return_path: String,
    /// Submission hosts by region, where accounts belong to one.
    #[serde(default)]
    pub regions: Vec<String>,
    /// Pages for senders: help, delisting, reputation.
    #[serde(default)]
    pub portals: Vec<String>,
    /// Configuration files or places to look at, for programs.
    #[serde(default)]
    pub settings: Vec<String>,
    /// What else a sender should know.
    #[serde(default)]
    pub notes: String,
    /// Date of the last check.
    pub checked: String,
}

/// One way to hand mail to a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// Host name; upper case words stand for what differs per customer.
    pub host: String,
    /// Ports with STARTTLS.
    #[serde(default)]
    pub starttls: Vec<u16>,
    /// Ports with implicit TLS.
    #[serde(default)]
    pub implicit: Vec<u16>,
}

impl Provider {
    /// The longest host name end that fits, in octets.
    pub(crate) fn fits_host(&self, host: &str) -> Option<usize> {
        let host = host.trim_end_matches('.');
        self.hosts.iter().filter(|end| ends_at_label(host, end)).map(String::len).max()
    }

    /// The longest word of a greeting that fits, in octets.
    pub(crate) fn fits_banner(&self, lower: &str) -> Option<usize> {
        self.banners.iter().filter(|word| lower.contains(word.as_str())).map(String::len).max()
    }

    /// The longest mark of a reply that fits, in octets.
    pub(crate) fn fits_text(&self, lower: &str) -> Option<usize> {
        self.marks.iter().filter(|mark| lower.contains(mark.as_str())).map(String::len).max()
    }
}

/// Whether two host names differ by one or two slips of typing: letters missing, added, wrong or swapped.
pub(crate) fn is_slip(typed: &str, meant: &str) -> bool {
    let (typed, meant) = (typed.as_bytes(), meant.as_bytes());
    if typed.len().abs_diff(meant.len()) > 2 || meant.len() < 8 || meant.len() > 253 {
        return false;
    }
    // Optimal string alignment, three rows at a time.
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=meant.len()).collect();
    for (i, a) in typed.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in meant.iter().enumerate() {
            let wrong = row[j] + usize::from(!a.eq_ignore_ascii_case(b));
            let mut best = wrong.min(row[j + 1] + 1).min(next[j] + 1);
            let swapped =
                i > 0 && j > 0 && a.eq_ignore_ascii_case(&meant[j - 1]) && typed[i - 1].eq_ignore_ascii_case(b);
            if swapped {
                best = best.min(before[j - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    (1..=2).contains(&row[meant.len()])
}

fn ends_at_label(host: &str, end: &str) -> bool {
    let Some(at) = host.len().checked_sub(end.len()) else { return false };
    host.get(at..).is_some_and(|tail| tail.eq_ignore_ascii_case(end))
        && (at == 0 || end.starts_with('.') || host.as_bytes()[at - 1] == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_typing_are_told_from_other_names() {
        for typed in ["smtp.gmial.com", "smtp.gmail.co", "smpt.gmail.com", "stmp.gmai.com"] {
            assert!(is_slip(typed, "smtp.gmail.com"), "{typed}");
        }
        for typed in ["smtp.gmail.com", "SMTP.gmail.com", "smtp.mail.com.example", "mail.example.net"] {
            assert!(!is_slip(typed, "smtp.gmail.com"), "{typed}");
        }
    }

    #[test]
    fn a_host_name_end_fits_whole_labels_only() {
        assert!(ends_at_label("aspmx.l.google.com", "google.com"));
        assert!(ends_at_label("GOOGLE.com", "google.com"));
        assert!(!ends_at_label("notgoogle.com", "google.com"));
        assert!(!ends_at_label("com", "google.com"));
        assert!(ends_at_label("mx1.example.qq.com", ".qq.com"));
    }
}
