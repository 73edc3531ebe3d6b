//! What the founding inventory asks to be recognised and advised: each row by its id, with the words that must be there.

use explain::{ResultWord, RuleBase, Sample};

const TABLE: &str = include_str!("features.tsv");

#[test]
fn every_row_of_the_inventory_is_recognised_and_advised() {
    let base = RuleBase::builtin();
    let mut wrong = Vec::new();
    for row in TABLE.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let &[id, provider, source, reason, phrases] = row.split('\t').collect::<Vec<_>>().as_slice() else {
            panic!("five columns: {row}");
        };
        let sample = Sample::parse(&source.replace("\\n", "\n"), None).unwrap();
        let provider = Some(provider).filter(|name| *name != "-");
        let Some(finding) = base.judge(&sample.query(provider)) else {
            wrong.push(format!("{id} `{source}` is not recognised"));
            continue;
        };
        let words = base.explain(&finding).unwrap();
        if reason != "-" && finding.reason.as_str() != reason {
            wrong.push(format!("{id} `{source}` is {} by {}, not {reason}", finding.reason, finding.rule));
        }
        let fixes = words.fixes.iter().flat_map(|fix| [fix.text.clone(), fix.run.clone().unwrap_or_default()]);
        let own = [words.title.clone(), words.meaning.clone(), words.dated.clone().unwrap_or_default()];
        let all: String = own.into_iter().chain(words.causes.clone()).chain(fixes).collect::<Vec<_>>().join("\n");
        for phrase in phrases.split('|').filter(|phrase| *phrase != "-" && !all.contains(phrase)) {
            wrong.push(format!("{id} `{source}`: `{}` does not say `{phrase}`", finding.rule));
        }
        if finding.is_by_class() && reason != "accepted" {
            wrong.push(format!("{id} `{source}`: found by codes only, `{}`", finding.rule));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn each_of_the_six_result_words_comes_out_for_its_reasons() {
    let base = RuleBase::builtin();
    let samples = [
        ("F02", "@message 250 2.0.0 Ok: queued", ResultWord::Success),
        ("F03", "!connect_refused", ResultWord::ConnectionFailed),
        ("F03", "!name_not_found", ResultWord::ConnectionFailed),
        ("F04", "@auth 535 5.7.8 Authentication credentials invalid", ResultWord::AuthenticationFailed),
        ("F05", "!certificate_expired", ResultWord::TlsError),
        ("F05", "!tls_version: TLSv1.0", ResultWord::TlsError),
        ("F06", "@recipient 550 5.7.1 Unable to relay", ResultWord::RelayDenied),
        ("F07", "!connect_timeout", ResultWord::Timeout),
        ("F07", "!timeout", ResultWord::Timeout),
    ];
    for (row, source, result) in samples {
        let sample = Sample::parse(source, None).unwrap();
        let finding = base.judge(&sample.query(None)).unwrap();
        assert_eq!(base.explain(&finding).unwrap().result, result, "{row} {source}");
        // F08: each has a meaning and a next step.
        assert!(result.meaning().ends_with('.') && result.next_step().ends_with('.'));
    }
}

#[test]
fn the_programs_and_services_the_inventory_names_are_known() {
    let base = RuleBase::builtin();
    // N01: by greeting, with the places of their settings.
    let greetings = [
        ("postfix", "220 mail.example.net ESMTP Postfix (Debian/GNU)", "main.cf"),
        ("sendmail", "220 mail.example.net ESMTP Sendmail 8.17.1/8.17.1; Sat, 21 Nov 2026", "sendmail.mc"),
        ("exim", "220 mail.example.net ESMTP Exim 4.98 Sat, 21 Nov 2026", "exim"),
        ("exchange", "220 mail.example.net Microsoft ESMTP MAIL Service ready", "ReceiveConnector"),
        ("domino", "220 mail.example.net ESMTP Service (HCL Domino Release 12.0.2) ready", "Server configuration"),
        ("hmailserver", "220 mail.example.net hMailServer ready", "hMailServer Administrator"),
        ("courier", "220 mail.example.net ESMTP Courier 1.3", "esmtpd"),
        ("james", "220 mail.example.net SMTP Server (JAMES SMTP Server 3.8) ready", "smtpserver.xml"),
    ];
    for (id, greeting, settings) in greetings {
        let provider = base.provider_of_banner(greeting).unwrap_or_else(|| panic!("{greeting}"));
        assert_eq!(provider.id, id, "{greeting}");
        assert!(provider.settings.iter().any(|place| place.contains(settings)), "{id}: {:?}", provider.settings);
    }
    // N02: by submission host.
    let hosts = [
        ("ses", "email-smtp.eu-west-1.amazonaws.com"),
        ("sendgrid", "smtp.sendgrid.net"),
        ("mailgun", "smtp.mailgun.org"),
        ("smtp2go", "mail.smtp2go.com"),
        ("socketlabs", "smtp.socketlabs.com"),
        ("pepipost", "smtp.pepipost.com"),
        ("mandrill", "smtp.mandrillapp.com"),
        ("zoho", "smtp.zoho.com"),
        ("yahoo", "smtp.mail.yahoo.com"),
        ("google", "smtp.gmail.com"),
        ("microsoft", "smtp.office365.com"),
    ];
    for (id, host) in hosts {
        let provider = base.provider_of_host(host).unwrap_or_else(|| panic!("{host}"));
        assert_eq!(provider.id, id);
        assert!(!provider.submission.is_empty() && !provider.username.is_empty(), "{id}");
    }
}

#[test]
fn the_way_to_a_message_that_was_not_received_has_its_steps_and_support_its_questions() {
    let help = explain::help();
    let steps = help.steps.iter().map(|step| format!("{} {} {}", step.ask, step.yes, step.no));
    let words = steps.chain(help.support.iter().map(|one| one.ask.clone())).collect::<Vec<_>>().join("\n");
    let rows = [
        ("J01", "spam or junk folder"),
        ("J02", "recipient's address right"),
        ("J03", "take the message"),
        ("J04", "for the user, and for everybody"),
        ("J05", "rule of the mailbox"),
        ("J06", "SPF, DKIM and DMARC pass"),
        ("J07", "outside the own organisation"),
        ("J08", "one address, one domain, or everybody"),
        ("J09", "Since when"),
        ("J10", "proxy"),
        ("J11", "sample addresses"),
        ("J12", "spam folder looked at"),
        ("J13", "log of the smart host or provider"),
        ("J14", "Junk by its default setting"),
        ("J15", "policy violations, approvals and alerts"),
        ("B20", "public IP addresses"),
    ];
    for (row, phrase) in rows {
        assert!(words.contains(phrase), "{row}: `{phrase}`");
    }
    // N04: related pages and subjects.
    assert!(help.questions.iter().all(|question| !question.see.is_empty() && !question.tags.is_empty()));
}
