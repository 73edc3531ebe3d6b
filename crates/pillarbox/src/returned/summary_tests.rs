//! Reports as several receivers write them, summed up.

use explain::RuleBase;

use super::*;
use crate::returned::summary_aggregate::Class;
use crate::returned::unpack::reports;

fn aggregate(organization: &str, id: &str, policy: &str, records: &str) -> String {
    format!(
        "<feedback><report_metadata><org_name>{organization}</org_name><report_id>{id}</report_id>
         <date_range><begin>1762992000</begin><end>1763078399</end></date_range></report_metadata>
         <policy_published><domain>example.com</domain><p>{policy}</p></policy_published>{records}</feedback>"
    )
}

fn record(ip: &str, count: u64, evaluated: &str, results: &str) -> String {
    format!(
        "<record><row><source_ip>{ip}</source_ip><count>{count}</count><policy_evaluated>{evaluated}</policy_evaluated></row>
         <identifiers><header_from>example.com</header_from></identifiers><auth_results>{results}</auth_results></record>"
    )
}

const FAIL: &str = "<disposition>none</disposition><dkim>fail</dkim><spf>fail</spf>";
const PASS: &str = "<disposition>none</disposition><dkim>pass</dkim><spf>pass</spf>";

fn sum(files: &[String]) -> Summary {
    let mut summary = Summary::new();
    for file in files {
        for found in reports(file.as_bytes()) {
            match found {
                Ok(document) => summary.add(&document),
                Err(error) => summary.unreadable("file", error.to_string()),
            }
        }
    }
    summary.conclude(&Judge::new(RuleBase::shared()));
    summary
}

fn signs(summary: &Summary) -> Vec<(&str, u64)> {
    summary.findings.iter().map(|found| (found.sign, found.count)).collect()
}

#[test]
fn every_kind_has_a_rule_of_its_own() {
    let judge = Judge::new(RuleBase::shared());
    for kind in KINDS {
        let judged = judge.sign(None, kind, &Values::new()).unwrap_or_else(|| panic!("{kind} has no rule"));
        assert_eq!(judged.explanation.rule, kind.replace('_', "-"));
    }
}

#[test]
fn each_way_to_fail_is_told_apart_with_its_sources() {
    let service = "<dkim><domain>service.example</domain><selector>k</selector><result>pass</result></dkim>
                   <spf><domain>bounces.service.example</domain><result>pass</result></spf>";
    let broken = "<dkim><domain>mail.example.com</domain><selector>s1</selector><result>fail</result>
                  <human_result>body hash did not verify</human_result></dkim>";
    let forwarded = format!("{FAIL}<reason><type>forwarded</type></reason>");
    let stopped = "<disposition>reject</disposition><dkim>fail</dkim><spf>fail</spf>";
    let records = [
        record("192.0.2.1", 500, PASS, ""),
        record("192.0.2.2", 12, FAIL, service),
        record("192.0.2.3", 7, FAIL, broken),
        record("192.0.2.4", 5, &forwarded, ""),
        record("192.0.2.5", 3, FAIL, "<spf><domain>example.com</domain><result>softfail</result></spf>"),
        record("192.0.2.6", 2, "<disposition>none</disposition><dkim>fail</dkim><spf>pass</spf>", ""),
        record("192.0.2.7", 1, "<disposition>none</disposition><dkim>pass</dkim><spf>fail</spf>", ""),
    ];
    let summary = sum(&[aggregate("receiver.example", "1", "none", &records.concat())]);
    let found = signs(&summary);
    for wanted in [
        ("aggregate_unaligned", 12),
        ("aggregate_dkim_broken", 7),
        ("aggregate_forwarded", 5),
        ("aggregate_unauthenticated", 3),
        ("aggregate_spf_only", 2),
        ("aggregate_dkim_only", 1),
    ] {
        assert!(found.contains(&wanted), "{wanted:?} in {found:?}");
    }
    assert!(summary.has_problem());
    // Problems first.
    assert_eq!(found[0].0, "aggregate_unaligned");
    let first = &summary.findings[0];
    assert!(first.explanation.title.contains("service.example sends as example.com"), "{}", first.explanation.title);
    assert!(first.explanation.meaning.contains("192.0.2.2"), "{}", first.explanation.meaning);
    let broken = summary.findings.iter().find(|found| found.sign == "aggregate_dkim_broken").unwrap();
    assert!(broken.explanation.meaning.contains("selector s1"), "{}", broken.explanation.meaning);
    let domain = &summary.dmarc[0];
    assert_eq!((domain.messages, domain.passed, domain.sources.len()), (530, 503, 7));
    assert_eq!(domain.sources[0].classes[&Class::Both], 500);
    let stopped = sum(&[aggregate("r", "1", "reject", &record("192.0.2.5", 30, stopped, ""))]);
    assert_eq!(signs(&stopped), [("aggregate_stopped", 30)]);
    assert!(!stopped.has_problem());
}

#[test]
fn several_reports_are_put_together_and_the_same_one_counts_once() {
    let one = aggregate("a.example", "1", "none", &record("192.0.2.1", 100, PASS, ""));
    let two = aggregate("b.example", "1", "none", &record("192.0.2.1", 50, PASS, ""));
    let summary = sum(&[one.clone(), two, one]);
    assert_eq!((summary.reports, summary.repeated), (2, 1));
    assert_eq!((summary.dmarc[0].messages, summary.dmarc[0].reporters.len()), (150, 2));
    assert_eq!(signs(&summary), [("aggregate_ready", 150)]);
    assert!(!summary.has_problem());
}

#[test]
fn a_strict_domain_without_failures_is_clean() {
    let summary = sum(&[aggregate("a.example", "1", "reject", &record("192.0.2.1", 5, PASS, ""))]);
    assert_eq!(signs(&summary), [("aggregate_clean", 5)]);
}

#[test]
fn tls_failures_are_told_by_their_type() {
    let report = |kind: &str, count: u64| {
        format!(
            r#"{{"organization-name":"s.example","report-id":"{kind}","policies":[{{"policy":{{"policy-type":"sts","policy-domain":"example.com"}},
            "summary":{{"total-successful-session-count":90,"total-failure-session-count":{count}}},
            "failure-details":[{{"result-type":"{kind}","receiving-mx-hostname":"mx1.example.com","failed-session-count":{count}}}]}}]}}"#
        )
    };
    for (kind, sign) in [
        ("starttls-not-supported", "tls_report_starttls"),
        ("certificate-expired", "tls_report_certificate"),
        ("certificate-host-mismatch", "tls_report_certificate"),
        ("tlsa-invalid", "tls_report_dane"),
        ("sts-policy-fetch-error", "tls_report_policy"),
        ("sts-webpki-invalid", "tls_report_certificate"),
        ("validation-failure", "tls_report_validation"),
        ("something-new", "tls_report_other"),
    ] {
        let summary = sum(&[report(kind, 10)]);
        assert_eq!(signs(&summary), [(sign, 10)], "{kind}");
        assert!(summary.has_problem());
        assert!(summary.findings[0].explanation.title.contains("10"), "{}", summary.findings[0].explanation.title);
    }
    let good = r#"{"organization-name":"s.example","policies":[{"policy":{"policy-type":"sts","policy-domain":"example.com"},
        "summary":{"total-successful-session-count":90,"total-failure-session-count":0}}]}"#;
    assert_eq!(signs(&sum(&[good.into()])), [("tls_report_clean", 90)]);
    let none = good.replace("\"sts\"", "\"no-policy-found\"");
    assert_eq!(signs(&sum(&[none])), [("tls_report_no_policy", 90)]);
    let unsaid = good.replace("-failure-session-count\":0", "-failure-session-count\":4");
    assert_eq!(signs(&sum(&[unsaid])), [("tls_report_other", 4)]);
}

#[test]
fn what_holds_no_report_is_a_problem() {
    let summary = sum(&["hello".into()]);
    assert!(summary.has_problem() && summary.findings.is_empty());
    assert_eq!(summary.unreadable.len(), 1);
}
