//! SPF from the outside: records, clients, surveys. The suite of RFC 7208 itself runs against the binary.

use super::*;
use crate::policy::dns::{Data, Kind, Reply, Step, Steps};
use crate::policy::remark::Level;

/// `name TYPE value` each line; `name FAIL` does not answer, `name EMPTY` exists.
struct Zone(Vec<(String, String, String)>);

impl Zone {
    fn new(text: &str) -> Self {
        let line = |line: &str| {
            let mut words = line.trim().splitn(3, ' ').map(str::to_owned);
            (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or_default())
        };
        Self(text.lines().filter(|text| !text.trim().is_empty()).map(line).collect())
    }

    fn reply(&self, name: &str, kind: Kind) -> Reply {
        let own: Vec<_> = self.0.iter().filter(|(owner, ..)| owner == name).collect();
        if own.iter().any(|(_, what, _)| what == "FAIL") {
            return Reply::Failed("SERVFAIL".into());
        }
        let records: Vec<Data> = own
            .iter()
            .filter(|(_, what, _)| what == kind.name())
            .map(|(_, _, value)| match kind {
                Kind::A => Data::A(value.parse().unwrap()),
                Kind::Aaaa => Data::Aaaa(value.parse().unwrap()),
                Kind::Mx => Data::Mx { preference: 10, host: value.clone() },
                Kind::Ptr => Data::Ptr(value.clone()),
                _ => Data::Txt(value.as_bytes().to_vec()),
            })
            .collect();
        match (records.is_empty(), own.is_empty()) {
            (false, _) => Reply::Records(records),
            (true, false) => Reply::NoData,
            (true, true) => Reply::NoName,
        }
    }

    fn drive<S: Steps>(&self, mut procedure: S) -> S::Output {
        for _ in 0..500 {
            match procedure.step() {
                Step::Done(output) => return output,
                Step::Ask(question) => {
                    let reply = self.reply(&question.name, question.kind);
                    procedure.answer(question, reply);
                }
            }
        }
        panic!("asks without end");
    }

    fn judge(&self, ip: &str, mail_from: &str) -> SpfOutcome {
        let client = Client {
            ip: ip.parse().unwrap(),
            helo: "mail.example.org".into(),
            mail_from: mail_from.into(),
            receiver: "mx.example.net".into(),
            now: 0,
        };
        self.drive(Evaluation::new(client, Limits::default()))
    }

    fn survey(&self, domain: &str) -> SpfSurvey {
        self.drive(Survey::new(domain, Limits::default()))
    }
}

#[test]
fn records_of_many_kinds_give_what_the_rfc_says() {
    for (record, result) in [
        ("v=spf1 ip4:192.0.2.0/24 -all", SpfResult::Pass),
        ("v=spf1 ip4:192.0.2.8 ~all", SpfResult::Softfail),
        ("v=spf1 -ip4:192.0.2.7/32", SpfResult::Fail),
        ("v=spf1", SpfResult::Neutral),
        ("V=SPF1 ?ALL", SpfResult::Neutral),
        ("v=spf10 +all", SpfResult::None),
        ("v=spf1 a:host.test/30 -all", SpfResult::Pass),
        ("v=spf1 mx:list.test -all", SpfResult::Pass),
        ("v=spf1 exists:%{ir}.%{v}.list.test -all", SpfResult::Pass),
        ("v=spf1 exists:%{l}.%{o2}.list.test -all", SpfResult::Fail),
        ("v=spf1 include:nothing.test -all", SpfResult::Permerror),
        ("v=spf1 include:fails.test -all", SpfResult::Temperror),
        ("v=spf1 include:denies.test ?all", SpfResult::Neutral),
        ("v=spf1 redirect=denies.test", SpfResult::Fail),
        ("v=spf1 redirect=nothing.test", SpfResult::Permerror),
        ("v=spf1 ip4:192.0.2.7/33 -all", SpfResult::Permerror),
        ("v=spf1 ip4:192.0.2.7 typo -all", SpfResult::Permerror),
        ("v=spf1 redirect=a.test redirect=b.test", SpfResult::Permerror),
        ("v=spf1 a:%{x}.test -all", SpfResult::Permerror),
        ("v=spf1 ip6:2001:db8::/32 -all", SpfResult::Fail),
    ] {
        let zone = Zone::new(&format!(
            "example.test TXT {record}\nhost.test A 192.0.2.4\nlist.test MX mx.list.test\nmx.list.test A 192.0.2.7\n\
             7.2.0.192.in-addr.list.test A 127.0.0.2\nfails.test FAIL\ndenies.test TXT v=spf1 -all\n"
        ));
        let outcome = zone.judge("192.0.2.7", "ann@example.test");
        assert_eq!(outcome.result, result, "{record}: {:?}", outcome.problem);
    }
}

#[test]
fn the_limits_are_exact() {
    // A match ends the evaluation, so what stands behind it is not looked up.
    let first = Zone::new("example.test TXT v=spf1 ?exists:e.test a mx ptr -all\ne.test A 127.0.0.1");
    assert_eq!(first.judge("192.0.2.7", "a@example.test").lookups, 1);
    let hosts = |n: usize| -> String { (0..n).map(|n| format!(" a:h{n}.test")).collect() };
    let zone = |n: usize| {
        let found: String = (0..n).map(|n| format!("h{n}.test A 198.51.100.1\n")).collect();
        Zone::new(&format!("example.test TXT v=spf1{} -all\n{found}", hosts(n)))
    };
    assert_eq!(zone(10).judge("192.0.2.7", "a@example.test").result, SpfResult::Fail);
    assert_eq!(zone(11).judge("192.0.2.7", "a@example.test").result, SpfResult::Permerror);
    let void = |n: usize| Zone::new(&format!("example.test TXT v=spf1{} -all", hosts(n)));
    let two = void(2).judge("192.0.2.7", "a@example.test");
    assert_eq!((two.result, two.voids), (SpfResult::Fail, 2));
    assert_eq!(void(3).judge("192.0.2.7", "a@example.test").result, SpfResult::Permerror);
    let mx = |n: usize| {
        let found: String = (0..n).map(|n| format!("example.test MX m{n}.test\nm{n}.test A 198.51.100.1\n")).collect();
        Zone::new(&format!("example.test TXT v=spf1 mx -all\n{found}"))
    };
    assert_eq!(mx(10).judge("192.0.2.7", "a@example.test").result, SpfResult::Fail);
    assert_eq!(mx(11).judge("192.0.2.7", "a@example.test").result, SpfResult::Permerror);
}

#[test]
fn an_explanation_is_that_of_the_record_that_failed() {
    let zone = Zone::new(
        "example.test TXT v=spf1 include:other.test redirect=own.test\nother.test TXT v=spf1 -all exp=bad.test\n\
         own.test TXT v=spf1 -all exp=why.own.test\nwhy.own.test TXT %{i} is not one of %{d}'s (%{r})\nbad.test TXT no",
    );
    let outcome = zone.judge("192.0.2.7", "ann@example.test");
    assert_eq!(outcome.explanation.as_deref(), Some("192.0.2.7 is not one of own.test's (mx.example.net)"));
    assert_eq!(outcome.decided_by.as_deref(), Some("redirect=own.test"));
}

#[test]
fn without_a_sender_the_helo_name_is_judged() {
    let zone = Zone::new("mail.example.org TXT v=spf1 exists:%{l}.%{d} -all\npostmaster.mail.example.org A 127.0.0.1");
    let outcome = zone.judge("::ffff:192.0.2.7", "");
    assert_eq!((outcome.result, outcome.domain.as_str()), (SpfResult::Pass, "mail.example.org"));
}

#[test]
fn mistakes_are_found_where_they_are() {
    for (record, kind, at) in [
        ("v=spf1 ip4:1.2.3 -all", "bad_address", 11),
        ("v=spf1 a mx/40 -all", "bad_length", 11),
        ("v=spf1 include -all", "missing_domain", 14),
        ("v=spf1 ipv4:192.0.2.1 -all", "unknown_mechanism", 7),
        ("v=spf1 -all:x", "unexpected_argument", 11),
        ("v=spf1 exists:%{z}.test -all", "bad_macro", 14),
        ("v=spf1 a:example -all", "bad_domain", 9),
        ("v=spf1 exp=a.test exp=b.test -all", "modifier_twice", 18),
    ] {
        let parsed = parse(record.as_bytes());
        let errors: Vec<_> = parsed.remarks.iter().filter(|remark| remark.level == Level::Error).collect();
        assert_eq!(errors.iter().map(|error| (error.kind, error.at)).collect::<Vec<_>>(), [(kind, at)], "{record}");
    }
    for (record, kind, at) in [
        ("v=spf1 ptr -all", "ptr_used", 7),
        ("v=spf1 +all", "plus_all", 7),
        ("v=spf1 a", "missing_all", 8),
        ("v=spf1 -all a", "term_unreachable", 12),
        ("v=spf1 a a -all", "term_twice", 9),
        ("v=spf1 -all redirect=a.test", "redirect_ignored", 12),
        ("v=spf1 moo=1 -all", "unknown_modifier", 7),
    ] {
        let remarks = parse(record.as_bytes()).remarks;
        assert!(remarks.iter().all(|remark| remark.level == Level::Warning), "{record}: {remarks:?}");
        assert!(remarks.iter().any(|remark| (remark.kind, remark.at) == (kind, at)), "{record}: {remarks:?}");
    }
    let odd = parse(b"v=spf1 a:\xd1\x82\xd1.test");
    assert!(odd.remarks.iter().all(|remark| remark.at <= 17) && odd.has_errors(), "{:?}", odd.remarks);
    let long = format!("v=spf1 {}-all", "ip4:192.0.2.1/32 ".repeat(30));
    assert!(parse(long.as_bytes()).remarks.iter().any(|remark| remark.kind == "record_long"));
}

#[test]
fn a_survey_counts_the_whole_tree() {
    let zone = Zone::new(
        "example.test TXT v=spf1 ip4:192.0.2.7 include:one.test include:two.test a mx -all\n\
         example.test A 192.0.2.9\none.test TXT v=spf1 a:x.test a:y.test a:z.test include:deep.test ?all\n\
         deep.test TXT v=spf1 exists:%{i}.deep.test ptr ~all\ntwo.test TXT v=spf1 redirect=three.test\n\
         three.test TXT v=spf1 a:q.test -all\nx.test A 192.0.2.1\nq.test AAAA 2001:db8::1\n",
    );
    let survey = zone.survey("example.test");
    let by_term: Vec<_> = survey.tree.terms.iter().map(|term| (term.term.as_str(), term.lookups, term.voids)).collect();
    let expected = [
        ("ip4:192.0.2.7", 0, 0),
        ("include:one.test", 7, 2),
        ("include:two.test", 3, 0),
        ("a", 1, 0),
        ("mx", 1, 1),
        ("-all", 0, 0),
    ];
    assert_eq!(by_term, expected);
    assert_eq!((survey.lookups, survey.voids, survey.incomplete), (12, 3, false));
    let kinds: Vec<_> = survey.remarks.iter().map(|(domain, remark)| (domain.as_str(), remark.kind)).collect();
    for wanted in [
        ("example.test", "too_many_lookups"),
        ("example.test", "too_many_voids"),
        ("one.test", "void_lookup"),
        ("deep.test", "ptr_used"),
    ] {
        assert!(kinds.contains(&wanted), "{wanted:?} in {kinds:?}");
    }
    // A client in the first network costs nothing at all.
    assert_eq!(zone.judge("192.0.2.7", "a@example.test").lookups, 0);
}

#[test]
fn a_survey_ends_when_records_include_each_other() {
    let zone = Zone::new("a.test TXT v=spf1 include:b.test -all\nb.test TXT v=spf1 include:a.test -all");
    let survey = zone.survey("a.test");
    assert_eq!(survey.lookups, 2);
    assert!(survey.remarks.iter().any(|(domain, remark)| domain == "b.test" && remark.kind == "loop"));
    assert_eq!(zone.judge("192.0.2.7", "x@a.test").result, SpfResult::Permerror);
    let several = Zone::new("a.test TXT v=spf1 -all\na.test TXT v=spf1 +all").survey("a.test");
    assert_eq!((several.tree.result, several.tree.several.len()), (SpfResult::Permerror, 2));
    // Wide trees end too.
    let wide: String = (0..40).map(|n| format!(" include:c{n}.test")).collect();
    let records: String = (0..40)
        .map(|n| format!("c{n}.test TXT v=spf1{} -all\n", wide.replace(&format!(" include:c{n}.test"), "")))
        .collect();
    let survey = Zone::new(&format!("a.test TXT v=spf1{wide} -all\n{records}")).survey("a.test");
    assert!(survey.incomplete && survey.lookups > 100);
}
