//! Records and walks from the outside.

use super::*;
use crate::policy::dns::{Data, Question, Reply, Step, Steps};
use crate::policy::spf::SpfResult;

fn drive<S: Steps>(mut procedure: S, zone: &[(&str, &str)]) -> (S::Output, Vec<String>) {
    let mut asked = Vec::new();
    loop {
        match procedure.step() {
            Step::Done(output) => return (output, asked),
            Step::Ask(Question { name, kind }) => {
                let texts = zone.iter().filter(|(owner, _)| format!("_dmarc.{owner}") == name);
                let records: Vec<Data> = texts.map(|(_, text)| Data::Txt(text.as_bytes().to_vec())).collect();
                let reply = if records.is_empty() { Reply::NoName } else { Reply::Records(records) };
                asked.push(name.clone());
                procedure.answer(Question { name, kind }, reply);
            }
        }
    }
}

fn discover(domain: &str, zone: &[(&str, &str)]) -> DmarcDiscovery {
    drive(Discovery::new(domain), zone).0
}

#[test]
fn a_record_says_what_is_wrong_and_where() {
    for (text, kind, at, counts) in [
        ("v=DMARC1; p=reject; rua=mailto:a@example.com", "", 0, true),
        ("v=DMARC1; p=rejekt; rua=mailto:a@example.com", "bad_policy", 12, true),
        ("v=DMARC1; p=rejekt", "bad_policy", 12, false),
        ("v=DMARC1; sp=reject", "missing_policy", 19, false),
        ("v=DMARC1; p=none; rua=a@example.com", "bad_uri", 22, true),
        ("v=DMARC1; p=none; pct=50", "pct_below_100", 22, true),
        ("v=DMARC1; p=none; adkim=x", "bad_value", 24, true),
        ("v=DMARC1; p=none; rua=mailto:a@example.com!10m", "size_removed", 22, true),
        ("v=DMARC1; p=none; foo=bar", "unknown_tag", 18, true),
        ("v=DMARC2; p=none", "bad_version", 0, false),
        ("v=DMARC1, p=none", "bad_version", 0, false),
    ] {
        let parsed = parse(text.as_bytes());
        assert_eq!(parsed.record.is_some(), counts, "{text}: {:?}", parsed.remarks);
        match kind {
            "" => assert!(parsed.remarks.is_empty(), "{text}: {:?}", parsed.remarks),
            _ => assert!(parsed.remarks.iter().any(|r| (r.kind, r.at) == (kind, at)), "{text}: {:?}", parsed.remarks),
        }
    }
    let broken = parse(b"v=DMARC1; p=reject; sp=x; rua=mailto:a@example.com").record.expect("for its reports");
    assert_eq!(broken.p, Policy::None);
}

#[test]
fn the_walk_goes_up_and_needs_at_most_eight_questions() {
    let (found, asked) = drive(
        Discovery::new("a.b.c.d.e.f.g.h.i.j.mail.example.com"),
        &[("example.com", "v=DMARC1; p=reject; sp=none")],
    );
    assert_eq!(asked.len(), 8, "{asked:?}");
    assert_eq!(asked[1], "_dmarc.g.h.i.j.mail.example.com");
    assert_eq!(
        (found.current.at.as_deref(), found.current.policy(Whose::Domain)),
        (Some("example.com"), Some(Policy::None))
    );
    assert!(!found.differs());
}

#[test]
fn np_counts_only_in_the_new_form() {
    let found = discover("x.example.com", &[("example.com", "v=DMARC1; p=none; sp=quarantine; np=reject")]);
    assert_eq!(found.current.policy(Whose::NonExistent), Some(Policy::Reject));
    assert_eq!(found.classic.policy(Whose::NonExistent), Some(Policy::Quarantine));
    assert!(found.differs());
    let own = discover("example.com", &[("example.com", "v=DMARC1; p=none; sp=quarantine; np=reject")]);
    assert_eq!(own.current.policy(Whose::Domain), Some(Policy::None));
    assert_eq!(own.current.policy(Whose::Subdomain), Some(Policy::Quarantine));
}

#[test]
fn psd_moves_the_organizational_domain() {
    // A suffix that says so: the domain one label below it is the organizational one.
    let zone = [("bank.example", "v=DMARC1; p=reject; psd=y"), ("giant.bank.example", "v=DMARC1; p=quarantine")];
    let found = discover("mail.giant.bank.example", &zone);
    assert_eq!(found.current.organizational, "giant.bank.example");
    assert_eq!(found.current.at.as_deref(), Some("giant.bank.example"));
    // The suffix's own policy if the domain below it has none.
    let found = discover("mail.small.bank.example", &zone);
    assert_eq!(
        (found.current.organizational.as_str(), found.current.at.as_deref()),
        ("small.bank.example", Some("bank.example"))
    );
    // psd=n ends the walk below the list's idea.
    let zone = [("dept.example.com", "v=DMARC1; p=none; psd=n"), ("example.com", "v=DMARC1; p=reject")];
    let (found, asked) = drive(Discovery::new("a.dept.example.com"), &zone);
    assert_eq!(
        (found.current.organizational.as_str(), found.classic.organizational.as_str()),
        ("dept.example.com", "example.com")
    );
    assert_eq!(
        (found.current.at.as_deref(), found.classic.at.as_deref()),
        (Some("dept.example.com"), Some("example.com"))
    );
    assert_eq!(asked.len(), 3);
}

#[test]
fn the_record_highest_up_is_the_organizational_one() {
    let zone = [("a.example.com", "v=DMARC1; p=none"), ("example.com", "v=DMARC1; p=reject")];
    let found = discover("b.a.example.com", &zone);
    assert_eq!(
        (found.current.organizational.as_str(), found.current.at.as_deref()),
        ("example.com", Some("example.com"))
    );
    let (organizational, _) = drive(OrganizationalDomain::new("nothing.example.org"), &zone);
    assert_eq!(organizational, "nothing.example.org");
}

#[test]
fn several_records_are_none() {
    let found = discover("example.com", &[("example.com", "v=DMARC1; p=none"), ("example.com", "v=DMARC1; p=reject")]);
    assert!(found.current.record.is_none() && found.asked[0].texts.len() == 2);
    assert_eq!(found.asked[0].remarks[0].kind, "several_records");
}

#[test]
fn the_list_knows_suffixes_of_two_labels() {
    for (domain, organizational) in [
        ("a.b.example.co.uk", "example.co.uk"),
        ("Example.COM.", "example.com"),
        ("co.uk", "co.uk"),
        ("localhost", "localhost"),
    ] {
        assert_eq!(organizational_by_list(domain), organizational);
    }
}

#[test]
fn a_message_passes_by_one_aligned_identity() {
    let from = ("news.example.com", "example.com");
    let spf = |domain: &str, organizational: &str, result| SpfClaim {
        domain: domain.into(),
        organizational: organizational.into(),
        result,
    };
    let dkim = |domain: &str, organizational: &str, pass| DkimClaim {
        domain: domain.into(),
        organizational: organizational.into(),
        pass,
    };
    for (aspf, spf, adkim, dkim, pass) in [
        (
            Alignment::Relaxed,
            Some(spf("bounce.example.com", "example.com", SpfResult::Pass)),
            Alignment::Relaxed,
            vec![],
            true,
        ),
        (
            Alignment::Strict,
            Some(spf("bounce.example.com", "example.com", SpfResult::Pass)),
            Alignment::Relaxed,
            vec![],
            false,
        ),
        (
            Alignment::Relaxed,
            Some(spf("bounce.example.com", "example.com", SpfResult::Softfail)),
            Alignment::Relaxed,
            vec![],
            false,
        ),
        (
            Alignment::Relaxed,
            Some(spf("mailer.test", "mailer.test", SpfResult::Pass)),
            Alignment::Relaxed,
            vec![],
            false,
        ),
        (
            Alignment::Relaxed,
            None,
            Alignment::Relaxed,
            vec![dkim("mailer.test", "mailer.test", true), dkim("Example.com", "example.com", true)],
            true,
        ),
        (Alignment::Relaxed, None, Alignment::Strict, vec![dkim("example.com", "example.com", true)], false),
        (Alignment::Relaxed, None, Alignment::Strict, vec![dkim("News.Example.com", "example.com", true)], true),
        (Alignment::Relaxed, None, Alignment::Relaxed, vec![dkim("example.com", "example.com", false)], false),
    ] {
        assert_eq!(judge(from, aspf, adkim, spf.as_ref(), &dkim).pass, pass, "{aspf:?} {spf:?} {adkim:?} {dkim:?}");
    }
}
