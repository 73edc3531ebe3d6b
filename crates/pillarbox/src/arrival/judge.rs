//! How a test mail came: folder, delay, what the receiver found out about us, the way it took. The words are those of the rules.

use explain::{RuleBase, Severity};
use proto::report::{Headers, Report, classify};
use proto::smtp::reply::escape;
use serde::{Deserialize, Serialize};

use crate::cli::explain_mail_signs::of_headers;

/// Most steps and results that are kept.
const MOST: usize = 30;

/// Who said that it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// A mailbox that was looked into.
    Mailbox,
    /// Our own listener for returned mail.
    Listener,
    /// A person, with the header.
    Pasted,
}

/// Where it lay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Where it should.
    Inbox,
    /// Among the spam.
    Junk,
    /// In another folder.
    Other,
    /// Not known.
    Unknown,
}

/// One result of the receiver (RFC 8601).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthSeen {
    /// Who says so.
    pub server: String,
    /// `spf`, `dkim`, `dmarc`.
    pub method: String,
    /// `pass`, `fail`, ….
    pub result: String,
    /// The domain it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

/// One step of the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepSeen {
    /// Who handed it over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Who took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// `ESMTPS` and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<String>,
    /// Seconds since the step before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_s: Option<i64>,
}

/// Something noticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noticed {
    /// Id of the rule.
    pub rule: String,
    /// How bad it is.
    pub severity: Severity,
    /// One line.
    pub title: String,
    /// What it means.
    pub meaning: String,
    /// What to do, in order.
    pub fixes: Vec<String>,
}

/// How it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// Who said so.
    pub way: Way,
    /// Where it lay.
    pub place: Place,
    /// The folder's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// When it came, Unix milliseconds; as the receiver says, or when it was seen.
    pub at_ms: i64,
    /// Seconds from our queue to there.
    pub delay_s: i64,
    /// What the receiver found out.
    pub authentication: Vec<AuthSeen>,
    /// The way it took, from us to there.
    pub steps: Vec<StepSeen>,
    /// What is noticed, the worst first.
    pub noticed: Vec<Noticed>,
}

impl Judgement {
    /// It is in the inbox as far as is known, and nothing is wrong with it.
    pub fn is_good(&self) -> bool {
        self.place != Place::Junk && self.noticed.iter().all(|one| one.severity == Severity::Note)
    }
}

/// What is known beside the mail itself.
#[derive(Debug, Clone)]
pub struct Seen<'a> {
    /// Who says so.
    pub way: Way,
    /// Folder and what it is for.
    pub folder: Option<(&'a str, Place)>,
    /// When the receiver took it, where that is known, Unix milliseconds.
    pub at_ms: Option<i64>,
    /// Now, Unix milliseconds.
    pub now_ms: i64,
}

/// Judges a mail or its header; `sent_ms`: when it left our queue's door.
pub fn judge(rules: &RuleBase, mail: &[u8], sent_ms: i64, seen: &Seen<'_>) -> Judgement {
    let headers = match classify(mail) {
        Report::Mail(headers) => *headers,
        // It has our token, so it is our mail whatever it looks like; only its header is not known then.
        _ => Headers::default(),
    };
    let last_ms = headers.hops.iter().filter_map(|hop| hop.time).max().map(|seconds| seconds.saturating_mul(1_000));
    let at_ms = seen.at_ms.or(last_ms).unwrap_or(seen.now_ms);
    let (folder, place) = match (seen.folder, seen.way) {
        (Some((name, place)), _) => (Some(escape(name.as_bytes(), 200)), place),
        (None, Way::Listener) => (None, Place::Inbox),
        (None, _) => (None, Place::Unknown),
    };
    let bounded = |text: &String| escape(text.as_bytes(), 200);
    let findings = of_headers(rules, &headers);
    let noticed = findings.iter().filter_map(|finding| rules.explain(finding)).filter(|said| {
        // Our own listener checks no sender, so there is nothing to miss.
        seen.way != Way::Listener || said.rule != "headers-unauthenticated"
    });
    let mut noticed: Vec<Noticed> = noticed
        .map(|said| Noticed {
            rule: said.rule,
            severity: said.severity,
            title: said.title,
            meaning: said.meaning,
            fixes: said.fixes.into_iter().map(|fix| fix.text).collect(),
        })
        .collect();
    noticed.sort_by_key(|one| match one.severity {
        Severity::Problem => 0,
        Severity::Warning => 1,
        Severity::Note => 2,
    });
    noticed.truncate(MOST);
    Judgement {
        way: seen.way,
        place,
        folder,
        at_ms,
        // Clocks of others may be behind ours.
        delay_s: ((at_ms - sent_ms) / 1_000).max(0),
        authentication: headers
            .authentication
            .iter()
            .filter(|one| !one.forwarded)
            .take(MOST)
            .map(|one| AuthSeen {
                server: bounded(&one.server),
                method: bounded(&one.method),
                result: bounded(&one.result),
                domain: one.domain.as_ref().map(bounded),
            })
            .collect(),
        steps: headers
            .hops
            .iter()
            .take(MOST)
            .map(|hop| StepSeen {
                from: hop.from.as_ref().map(bounded),
                by: hop.by.as_ref().map(bounded),
                with: hop.with.as_ref().map(bounded),
                delay_s: hop.delay_s,
            })
            .collect(),
        noticed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT_MS: i64 = 1_795_248_000_000; // 2026-11-21T08:00:00Z

    fn mail(results: &str) -> Vec<u8> {
        format!(
            "Received: from relay.shop.test (relay.shop.test [192.0.2.9]) by mx.far.test with ESMTPS id 1; Sat, 21 Nov 2026 08:00:07 +0000\r\n\
             {results}From: <app@shop.test>\r\nTo: <probe@far.test>\r\nSubject: Test arrival-0123456789abcdefghjk\r\n\r\nHello\r\n"
        )
        .into_bytes()
    }

    fn seen(folder: Option<(&'static str, Place)>) -> Seen<'static> {
        Seen { way: Way::Mailbox, folder, at_ms: None, now_ms: SENT_MS + 60_000 }
    }

    #[test]
    fn a_mail_in_the_inbox_that_passes_is_good() {
        let passes = "Authentication-Results: mx.far.test; spf=pass smtp.mailfrom=shop.test; dkim=pass header.d=shop.test; dmarc=pass header.from=shop.test\r\n";
        let found = judge(RuleBase::builtin(), &mail(passes), SENT_MS, &seen(Some(("INBOX", Place::Inbox))));
        assert!(found.is_good(), "{found:#?}");
        assert_eq!((found.delay_s, found.steps.len(), found.authentication.len()), (7, 1, 3));
        let found = judge(RuleBase::builtin(), &mail(passes), SENT_MS, &seen(Some(("Junk", Place::Junk))));
        assert!(!found.is_good());
    }

    #[test]
    fn failing_authentication_is_told_with_its_fix() {
        let fails = "Authentication-Results: mx.far.test; spf=fail smtp.mailfrom=shop.test; dmarc=fail header.from=shop.test\r\n";
        let found = judge(RuleBase::builtin(), &mail(fails), SENT_MS, &seen(None));
        assert!(!found.is_good());
        assert!(found.noticed.iter().any(|one| !one.fixes.is_empty()), "{found:#?}");
        // What came to our own listener was checked by nobody.
        let own = Seen { way: Way::Listener, ..seen(None) };
        let found = judge(RuleBase::builtin(), &mail(""), SENT_MS, &own);
        assert!(found.is_good() && found.place == Place::Inbox, "{found:#?}");
    }
}
