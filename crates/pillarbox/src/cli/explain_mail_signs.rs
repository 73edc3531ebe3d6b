//! What pasted mail shows beside a refusal, as signs for the rule base. All words are in `rules/headers.toml`.

use explain::{Finding, Query, RuleBase, Values};
use proto::report::{AutoReply, AutoReplyKind, Complaint, Headers};

use super::explain_mail_words::duration;

/// Every kind of sign; a test holds each against the rules.
#[cfg(test)]
pub const KINDS: &[&str] = &[
    "headers_spf_fail",
    "headers_spf_none",
    "headers_dkim_fail",
    "headers_dmarc_fail",
    "headers_unauthenticated",
    "headers_authenticated",
    "headers_slow_step",
    "headers_clock_skew",
    "headers_no_tls",
    "headers_microsoft_spam",
    "headers_spam_score",
    "headers_healthy",
    "mail_complaint",
    "mail_auth_report",
    "mail_automatic_answer",
    "mail_challenge",
    "mail_bounce_nobody",
    "mail_delivered",
];

/// Clocks that differ less are no news.
const SKEW_SECONDS: i64 = -3;

/// The finding for a sign; values that are `None` are left out.
pub fn sign(base: &RuleBase, kind: &str, values: &[(&str, Option<&str>)]) -> Option<Finding> {
    let known = values
        .iter()
        .filter_map(|(name, value)| Some(((*name).to_owned(), shown((*value)?))))
        .filter(|(_, value)| !value.is_empty());
    let values: Values = known.collect();
    base.judge(&Query::sign(None, kind, &values))
}

/// Values of strangers go into words and commands: short, and without what steers a terminal.
fn shown(value: &str) -> String {
    value.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// What the header of an ordinary mail shows, the worst first.
pub fn of_headers(base: &RuleBase, headers: &Headers) -> Vec<Finding> {
    let mut found = authentication(base, headers);
    found.extend(filters(base, headers));
    found.extend(way(base, headers));
    if found.is_empty() {
        let by = headers.hops.last().and_then(|hop| hop.by.as_deref());
        found.extend(sign(base, "headers_healthy", &[("by", by)]));
    }
    found
}

/// Results the last receiver recorded; those of earlier ones (ARC) are shown, not judged.
fn authentication(base: &RuleBase, headers: &Headers) -> Vec<Finding> {
    let mut found = Vec::new();
    let own: Vec<_> = headers.authentication.iter().filter(|one| !one.forwarded).collect();
    let Some(first) = own.first() else { return found };
    let server = Some(first.server.as_str());
    let passes = |method: &str| own.iter().any(|one| one.method == method && one.result == "pass");
    let mut told: Vec<&str> = Vec::new();
    for one in &own {
        let kind = match (one.method.as_str(), one.result.as_str()) {
            ("spf", "fail" | "softfail" | "hardfail" | "policy") => "headers_spf_fail",
            ("spf", "none" | "neutral" | "permerror" | "temperror") => "headers_spf_none",
            // One signature that holds is enough.
            ("dkim", "fail" | "permerror" | "policy" | "neutral") if !passes("dkim") => "headers_dkim_fail",
            ("dmarc", "fail" | "permerror") => "headers_dmarc_fail",
            _ => continue,
        };
        if !told.contains(&kind) {
            told.push(kind);
            let values = [
                ("result", Some(&*one.result)),
                ("domain", one.domain.as_deref()),
                ("server", Some(&*one.server)),
                ("detail", one.reason.as_deref()),
            ];
            found.extend(sign(base, kind, &values));
        }
    }
    let domain = headers.from.as_deref().and_then(|from| from.rsplit_once('@')).map(|(_, domain)| domain);
    let methods: Vec<&str> = ["spf", "dkim", "dmarc"].into_iter().filter(|method| passes(method)).collect();
    if methods.is_empty() && found.is_empty() {
        found.extend(sign(base, "headers_unauthenticated", &[("server", server), ("domain", domain)]));
    } else if found.is_empty() {
        found.extend(sign(
            base,
            "headers_authenticated",
            &[("methods", Some(&methods.join(", "))), ("server", server)],
        ));
    }
    found
}

fn filters(base: &RuleBase, headers: &Headers) -> Vec<Finding> {
    let mark = |filter: &str, name: &str| {
        headers.filters.iter().find(|mark| mark.filter == filter && mark.name == name).map(|mark| mark.value.as_str())
    };
    let domain = headers.from.as_deref().and_then(|from| from.rsplit_once('@')).map(|(_, domain)| domain);
    let mut found = Vec::new();
    let (scl, category, verdict) = (mark("microsoft", "SCL"), mark("microsoft", "CAT"), mark("microsoft", "SFV"));
    let is_spam = scl.and_then(|level| level.parse::<i32>().ok()).is_some_and(|level| level >= 5);
    if is_spam || category.is_some_and(|category| category != "NONE") || matches!(verdict, Some("SPM" | "SKS" | "SKB"))
    {
        found.extend(sign(
            base,
            "headers_microsoft_spam",
            &[("scl", scl), ("category", category), ("verdict", verdict), ("domain", domain)],
        ));
    }
    let yes = |value: &str| value.eq_ignore_ascii_case("yes");
    if mark("spamassassin", "verdict").is_some_and(yes) || mark("spamassassin", "flag").is_some_and(yes) {
        let (score, required, tests) =
            (mark("spamassassin", "score"), mark("spamassassin", "required"), mark("spamassassin", "tests"));
        found.extend(sign(base, "headers_spam_score", &[("score", score), ("required", required), ("tests", tests)]));
    }
    found
}

/// Slow steps, clocks that disagree, steps in the clear.
fn way(base: &RuleBase, headers: &Headers) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(hop) = headers.slowest.and_then(|index| headers.hops.get(index)) {
        let delay = hop.delay_s.map(duration);
        found.extend(sign(
            base,
            "headers_slow_step",
            &[("from", hop.from.as_deref()), ("by", hop.by.as_deref()), ("delay", delay.as_deref())],
        ));
    }
    if let Some(hop) = headers
        .hops
        .iter()
        .filter(|hop| hop.delay_s.is_some_and(|delay| delay < SKEW_SECONDS))
        .min_by_key(|hop| hop.delay_s)
    {
        let skew = hop.delay_s.map(|delay| duration(-delay));
        found.extend(sign(base, "headers_clock_skew", &[("by", hop.by.as_deref()), ("skew", skew.as_deref())]));
    }
    let public = |ip: &String| {
        ip.parse::<std::net::IpAddr>().is_ok_and(|ip| match ip {
            std::net::IpAddr::V4(ip) => !(ip.is_private() || ip.is_loopback() || ip.is_link_local()),
            std::net::IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()),
        })
    };
    let clear = |with: &String| matches!(with.to_ascii_uppercase().as_str(), "SMTP" | "ESMTP" | "ESMTPA");
    let open = headers
        .hops
        .iter()
        .find(|hop| hop.tls.is_none() && hop.with.as_ref().is_some_and(clear) && hop.ip.as_ref().is_some_and(public));
    if let Some(hop) = open {
        found.extend(sign(base, "headers_no_tls", &[("from", hop.from.as_deref()), ("by", hop.by.as_deref())]));
    }
    found
}

/// A complaint, or a report of failed authentication.
pub fn of_complaint(base: &RuleBase, complaint: &Complaint) -> Option<Finding> {
    let recipient = complaint.original_recipients.first().map(String::as_str);
    let domain = complaint.reported_domains.first().map(String::as_str);
    let kind = if complaint.feedback_type == "auth-failure" { "mail_auth_report" } else { "mail_complaint" };
    let values = [
        ("recipient", recipient),
        ("type", Some(&*complaint.feedback_type)),
        ("reporter", complaint.reporter.as_deref()),
        ("domain", domain),
        ("detail", complaint.auth_failure.as_deref()),
        ("ip", complaint.source_ip.as_deref()),
    ];
    sign(base, kind, &values)
}

/// An automatic answer.
pub fn of_answer(base: &RuleBase, answer: &AutoReply) -> Option<Finding> {
    let kind = if answer.answer == AutoReplyKind::Challenge { "mail_challenge" } else { "mail_automatic_answer" };
    sign(base, kind, &[("from", answer.from.as_deref())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_rule() {
        let base = RuleBase::builtin();
        for kind in KINDS {
            assert!(sign(base, kind, &[]).is_some(), "{kind}");
        }
    }
}
