//! A table of replies of servers and services, written apart from the rules' samples: each has its exact reason and owner.

use explain::{RuleBase, Sample};

const TABLE: &str = include_str!("matrix.tsv");

#[test]
fn every_reply_of_the_table_has_its_reason_and_its_owner() {
    let base = RuleBase::builtin();
    let mut wrong = Vec::new();
    let rows: Vec<&str> = TABLE.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    for row in &rows {
        let &[stage_word, provider, text, reason, owner] = row.split('\t').collect::<Vec<_>>().as_slice() else {
            panic!("five columns: {row}");
        };
        let sample = Sample::parse(&format!("@{stage_word} {}", text.replace("\\n", "\n")), None).unwrap();
        let finding = base.judge(&sample.query(Some(provider).filter(|name| *name != "-"))).unwrap();
        let explanation = base.explain(&finding).unwrap();
        if finding.reason.as_str() != reason || explanation.owner.as_str() != owner {
            let found = format!("{} {} by {}", finding.reason, explanation.owner, finding.rule);
            wrong.push(format!("{stage_word} {provider} `{text}`\n    wants {reason} {owner}, found {found}"));
        }
    }
    assert!(rows.len() >= 250, "{}", rows.len());
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}
