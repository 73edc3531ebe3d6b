//! Off a blocklist, step by step: the cause, its end, the evidence, the request, and how mail goes on meanwhile.
//!
//! Words only: who is listed where is told by the audit and the scheduled check.

use serde::{Deserialize, Serialize};

use crate::lists::{Blocklist, ListFor, ListingKind, Removal};

/// Who is on which list.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The list.
    pub list: &'a Blocklist,
    /// The address or domain.
    pub subject: &'a str,
    /// What the entry says.
    pub kind: ListingKind,
    /// What the list says about it in words, where it does.
    pub reason: Option<&'a str>,
    /// Reverse name of the address, where there is one.
    pub reverse: Option<&'a str>,
    /// When it was first seen, as text.
    pub since: Option<&'a str>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What it is for: `Find the cause`.
    pub title: String,
    /// What to do, sentences.
    pub text: Vec<String>,
    /// A command or a page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

/// The way off a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guide {
    /// In their order.
    pub steps: Vec<Step>,
    /// A request to its operator, to be completed; none where none helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// A mail to a partner who refuses us meanwhile.
    pub partner: String,
}

/// What to do about an entry.
pub fn guide(case: &Case<'_>) -> Guide {
    let steps = vec![cause(case), fix(case), evidence(case), ask(case), interim(case)];
    Guide { steps, request: request(case), partner: partner(case) }
}

fn step(title: &str, text: Vec<String>, run: Option<String>) -> Step {
    Step { title: title.into(), text, run }
}

fn cause(case: &Case<'_>) -> Step {
    let mut text = Vec::new();
    if let Some(reason) = case.reason {
        text.push(format!("{} says: {reason}", case.list.name));
    }
    match (case.list.of, case.kind) {
        (_, ListingKind::Policy) => text.push(
            "Nobody is accused: the owner of the network says that mail should not come from this address directly.".into(),
        ),
        (ListFor::Ip, _) if case.list.removal == Removal::Provider => text.push(
            "The entry is about the network around the address, because of its neighbours: there is nothing to find here."
                .into(),
        ),
        (ListFor::Ip, _) => {
            text.push("Look who sent what in the days before: a sender with unusual amounts, recipients that do not exist, a stream with many complaints.".into());
            text.push("Look for other programs on the machine, and for other machines behind the same address, that connect to port 25.".into());
        }
        (ListFor::Domain, _) => {
            text.push("Look for pages and redirects on the web site that are not yours.".into());
            text.push("Look for mail of others with the domain in its links, and for mail that recipients did not ask for.".into());
        }
    }
    step("Find the cause", text, Some("pillarbox rates; pillarbox queue causes".into()))
}

fn fix(case: &Case<'_>) -> Step {
    let text = match (case.list.of, case.kind) {
        (_, ListingKind::Policy) => {
            "Give the address a reverse name of its own, or send through the provider's mail server.".to_owned()
        }
        (ListFor::Ip, _) if case.list.removal == Removal::Provider => {
            "Tell the provider; a network that stays listed is one to move away from.".to_owned()
        }
        (ListFor::Ip, _) => "Stop it before anything else: change the password of the sender, pause its stream, close port 25 for all but this program. A request while it goes on makes the entry last longer.".to_owned(),
        (ListFor::Domain, _) => "Clean the site, change its passwords and bring its software up to date; stop mail nobody asked for.".to_owned(),
    };
    step("End it", vec![text], None)
}

fn evidence(case: &Case<'_>) -> Step {
    let mut text =
        vec!["Write down when it began, what it was, when it ended and what keeps it from coming back.".to_owned()];
    if !case.list.evidence.is_empty() {
        text.push(format!("What {} wants to know: {}.", case.list.name, lower_first(&case.list.evidence)));
    }
    let run = (case.list.of == ListFor::Ip)
        .then(|| format!("pillarbox blocklists {}; pillarbox journal {}", case.subject, case.subject));
    step("Gather the evidence", text, run)
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

fn ask(case: &Case<'_>) -> Step {
    let list = case.list;
    let ends = list.ends_h.map(|hours| match hours % 24 {
        0 if hours > 24 => format!("{} days", hours / 24),
        _ => format!("{hours} hours"),
    });
    let mut text = Vec::new();
    match list.removal {
        Removal::Request => {
            text.push("Ask once, with the evidence, and wait a day: asking again and again does not help.".into())
        }
        Removal::Expires => text.push("Nothing has to be asked for: it ends by itself.".into()),
        Removal::Provider => text.push("Only the operator of the network can ask.".into()),
    }
    if let Some(ends) = ends {
        text.push(format!("An entry ends by itself {ends} after the last trouble."));
    }
    text.push("Serious lists take no money for a removal.".into());
    step("Ask for removal", text, Some(list.url.clone()).filter(|url| !url.is_empty()))
}

fn interim(case: &Case<'_>) -> Step {
    let mut text = vec![match case.list.of {
        ListFor::Ip => "Send by another route whose address is not listed; urgent streams first.".to_owned(),
        ListFor::Domain => "Leave links to the domain out of mail where that is possible; another route does not help, because the domain is what is listed.".to_owned(),
    }];
    text.push(
        "Ask partners whose servers refuse the mail to allow it until then: the text below is made for that.".into(),
    );
    step("Meanwhile", text, (case.list.of == ListFor::Ip).then(|| "pillarbox route ls".into()))
}

fn request(case: &Case<'_>) -> Option<String> {
    if case.list.removal != Removal::Request {
        return None;
    }
    let what = if case.list.of == ListFor::Ip { "IP address" } else { "Domain" };
    let mut text = format!("Removal of {} from {}\n\n{what}: {}\n", case.subject, case.list.name, case.subject);
    if let Some(reverse) = case.reverse {
        text.push_str(&format!("Reverse name: {reverse}\n"));
    }
    if let Some(since) = case.since {
        text.push_str(&format!("Listed, as we saw it: since {since}\n"));
    }
    text.push_str(
        "\nWhat happened: [the cause, in one or two sentences]\nStopped: [date and time, and how]\nWhat keeps it from coming back: [what was changed]\nContact: [name, mail address, telephone]\n",
    );
    Some(text)
}

fn partner(case: &Case<'_>) -> String {
    let (what, how) = match case.list.of {
        ListFor::Ip => {
            ("IP address", "allow mail from this address, if possible only with a DKIM signature of our domain")
        }
        ListFor::Domain => ("domain", "allow mail that is signed with DKIM by this domain"),
    };
    format!(
        "Our {what} {} is on {} at the moment, and your mail server refuses our mail because of it. The cause is [found and ended on …]; removal is [asked for on …]. Would you please {how} until then? We tell you when the entry is gone, so that you can take the exception back.\n",
        case.subject, case.list.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lists::blocklists;

    fn of(id: &str, kind: ListingKind) -> Guide {
        let list = blocklists().iter().find(|list| list.id == id).unwrap();
        let subject = if list.of == ListFor::Ip { "192.0.2.9" } else { "example.com" };
        let reverse = Some("mail.example.com");
        guide(&Case { list, subject, kind, reason: Some("sent to a trap"), reverse, since: Some("2026-11-20") })
    }

    #[test]
    fn every_list_has_a_way_off_in_five_steps() {
        for list in blocklists().iter().filter(|list| list.retired.is_none()) {
            let found = of(&list.id, ListingKind::Listed);
            let titles: Vec<&str> = found.steps.iter().map(|step| step.title.as_str()).collect();
            assert_eq!(titles, ["Find the cause", "End it", "Gather the evidence", "Ask for removal", "Meanwhile"]);
            assert!(
                found.steps.iter().all(|step| step.text.iter().all(|text| text.ends_with(['.', ':', 'p', '9', 'm'])))
            );
            assert!(found.partner.contains(&list.name));
        }
    }

    #[test]
    fn a_request_is_offered_only_where_one_helps() {
        let zen = of("spamhaus-zen", ListingKind::Listed).request.unwrap();
        assert!(zen.contains("192.0.2.9") && zen.contains("mail.example.com") && zen.contains("2026-11-20"), "{zen}");
        assert_eq!(of("spamcop", ListingKind::Listed).request, None);
        assert_eq!(of("uceprotect-3", ListingKind::Minor).request, None);
        let steps = of("spamcop", ListingKind::Listed).steps;
        assert!(steps[3].text.iter().any(|text| text.contains("24 hours")), "{steps:?}");
        let steps = of("uceprotect-1", ListingKind::Listed).steps;
        assert!(steps[3].text.iter().any(|text| text.contains("7 days")), "{steps:?}");
    }
}
