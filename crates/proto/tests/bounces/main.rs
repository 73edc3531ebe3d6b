//! Reports of the common mail programs, typical in form: what is read from each, with every kind of line end.

use proto::report::{Action, Bounce, Certainty, Report, classify};

/// File, form, recipient, action, status and code, server, words of the diagnostic; `-` for none.
const BOUNCES: &[(&str, &str, &str, Action, &str, &str, &str)] = &[
    (
        "postfix",
        "postfix",
        "user@there.example",
        Action::Failed,
        "5.1.1 550",
        "mx.there.example",
        "User unknown in local",
    ),
    (
        "postfix_without_status",
        "postfix",
        "user@there.example",
        Action::Failed,
        "5.2.2 552",
        "mx.there.example",
        "Mailbox full",
    ),
    ("exim", "exim", "user@there.example", Action::Failed, "5.1.1 550", "mx.there.example", "No such user here"),
    ("sendmail", "sendmail", "user@there.example", Action::Failed, "5.1.1 550", "mx.there.example", "User unknown"),
    ("exchange", "exchange", "user@there.example", Action::Failed, "- -", "-", "name is not recognized"),
    ("exchange2007", "exchange2007", "user@there.example", Action::Failed, "5.1.1 550", "-", "RecipNotFound"),
    ("office365", "office365", "user@there.example", Action::Failed, "5.2.2 550", "-", "Mailbox full"),
    ("gmail_old", "gmail", "user@there.example", Action::Failed, "5.1.1 550", "mx.there.example", "no such user"),
    ("yahoo", "yahoo", "user@there.example", Action::Failed, "- -", "-", "disabled or discontinued"),
    ("domino", "domino", "user@there.example", Action::Failed, "- -", "-", "not listed in Domino"),
    ("ses", "amazonses", "user@there.example", Action::Failed, "5.4.14 554", "-", "Hop count exceeded"),
    ("sns", "amazonses", "user@there.example", Action::Failed, "5.1.1 550", "-", "user unknown"),
    ("opensmtpd", "opensmtpd", "user@there.example", Action::Failed, "5.2.2 550", "-", "Mailbox Full"),
    ("groupwise", "groupwise", "user@there.example", Action::Failed, "- -", "-", "user not found"),
    ("interscan", "interscan", "user@there.example", Action::Failed, "5.1.1 550", "-", "unknown user"),
    ("mailmarshal", "mailmarshal", "user@there.example", Action::Failed, "5.1.1 550", "-", "User unknown"),
    ("james", "james", "user@there.example", Action::Failed, "- 550", "-", "no such user here"),
    ("mfilter", "mfilter", "user@there.example", Action::Failed, "5.1.1 550", "-", "User unknown"),
    ("x6", "x6", "user@there.example", Action::Failed, "5.1.1 550", "mx.there.example", "User Unknown"),
    ("smtputf8", "rfc3464", "grün@there.example", Action::Failed, "5.6.7 550", "-", "no SMTPUTF8"),
    ("delayed", "exim", "user@there.example", Action::Delayed, "4.7.1 451", "mx.there.example", "Greylisted"),
    ("relayed", "rfc3464", "user@there.example", Action::Relayed, "2.0.0 -", "-", "250 2.0.0 Ok"),
];

fn mail(name: &str) -> String {
    let path = format!("{}/tests/bounces/{name}.eml", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn bounce(name: &str) -> Bounce {
    match classify(mail(name).as_bytes()) {
        Report::Bounce(bounce) => *bounce,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn each_form_gives_recipient_codes_server_and_words() {
    for (name, form, recipient, action, codes, server, words) in BOUNCES {
        let found = bounce(name);
        let [one] = &*found.recipients else { panic!("{name}: {:?}", found.recipients) };
        let status = one.status.map_or("-".to_owned(), |status| status.to_string());
        let code = one.code.map_or("-".to_owned(), |code| code.to_string());
        let read = (
            found.format,
            one.final_recipient.as_str(),
            one.action,
            format!("{status} {code}"),
            one.remote_mta.as_deref().unwrap_or("-"),
        );
        assert_eq!(read, (*form, *recipient, *action, (*codes).to_owned(), *server), "{name}");
        assert!(one.diagnostic.contains(words), "{name}: {}", one.diagnostic);
    }
}

#[test]
fn line_ends_and_mailbox_lines_change_nothing() {
    let names = BOUNCES.iter().map(|row| row.0).chain(["qmail", "no_recipient", "complaint", "not_receipt"]);
    for name in names {
        let text = mail(name);
        let wanted = classify(text.as_bytes());
        for other in [
            text.replace('\n', "\r\n"),
            text.replace('\n', "\r"),
            format!("From MAILER-DAEMON Fri Mar  1 00:00:00 2024\n{text}"),
        ] {
            assert_eq!(classify(other.as_bytes()), wanted, "{name}");
        }
    }
}

#[test]
fn each_recipient_has_its_own_words() {
    let found = bounce("qmail");
    let said: Vec<_> = found
        .recipients
        .iter()
        .map(|one| (one.final_recipient.as_str(), one.code, one.diagnostic.contains("no mailbox here")))
        .collect();
    assert_eq!(said, [("user@there.example", Some(550), false), ("other@there.example", None, true)]);
}

#[test]
fn the_returned_mail_is_known_again() {
    for name in [
        "postfix",
        "postfix_without_status",
        "exim",
        "qmail",
        "sendmail",
        "gmail_old",
        "opensmtpd",
        "ses",
        "no_recipient",
    ] {
        let original = bounce(name).original;
        assert_eq!(original.message_id.as_deref(), Some("<42@sender.example>"), "{name}");
        assert_eq!(original.subject.as_deref(), Some("Your review is due"), "{name}");
        assert_eq!(original.from.as_deref(), Some("app@sender.example"), "{name}");
    }
    assert_eq!(bounce("exim").recipients[0].original_recipient.as_deref(), Some("alias@sender.example"));
}

#[test]
fn a_guess_is_called_one() {
    let found = bounce("no_recipient");
    assert_eq!(found.recipients[0].certainty, Certainty::FromOriginal);
    assert_eq!(found.recipients[0].final_recipient, "user@there.example");
}

#[test]
fn what_is_no_bounce_is_not_called_one() {
    for name in ["not_question", "not_newsletter"] {
        assert!(matches!(classify(mail(name).as_bytes()), Report::Mail(_)), "{name}");
    }
    for name in ["not_out_of_office", "not_receipt"] {
        assert!(matches!(classify(mail(name).as_bytes()), Report::AutoReply(_)), "{name}");
    }
}

#[test]
fn a_complaint_tells_who_complained_about_what() {
    let Report::Complaint(found) = classify(mail("complaint").as_bytes()) else { panic!("no complaint") };
    assert_eq!(found.feedback_type, "abuse");
    assert_eq!(found.original_recipients, ["user@there.example"]);
    assert_eq!(found.source_ip.as_deref(), Some("192.0.2.1"));
    assert_eq!(found.original.message_id.as_deref(), Some("<42@sender.example>"));
    assert_eq!(found.arrival, Some(1_709_251_200));
}
