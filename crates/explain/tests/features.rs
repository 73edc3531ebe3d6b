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
