//! Errors as people paste them into forums: reason, whose turn it is, and the first thing to do.

use explain::{Query, RuleBase};

const TABLE: &str = include_str!("forum.tsv");

#[test]
fn what_people_paste_leads_to_the_reason_the_owner_and_the_right_first_fix() {
    let base = RuleBase::builtin();
    let rows: Vec<&str> = TABLE.lines().filter(|line| !line.starts_with('#')).collect();
    let mut wrong = Vec::new();
    for row in &rows {
        let &[text, reason, owner, first] = row.split('\t').collect::<Vec<_>>().as_slice() else {
            panic!("four columns: {row}");
        };
        let Some(finding) = base.judge(&Query::text(text)) else {
            wrong.push(format!("nothing found: {text}"));
            continue;
        };
        let explanation = base.explain(&finding).unwrap();
        let fix = explanation.fixes.first().unwrap();
        let fix = format!("{} {}", fix.text, fix.run.as_deref().unwrap_or_default());
        let fits = |wanted: &str, found: &str| wanted == "-" || wanted == found;
        let right = fits(reason, finding.reason.as_str())
            && fits(owner, explanation.owner.as_str())
            && (first == "-" || fix.to_lowercase().contains(&first.to_lowercase()))
            && !finding.is_by_class();
        if std::env::var_os("SHOW").is_some() {
            println!(
                "{} {text}\n   {} {} {} {:?}\n   {fix}",
                if right { " " } else { "!" },
                finding.rule,
                finding.reason,
                explanation.owner.as_str(),
                finding.basis
            );
        }
        if !right {
            wrong.push(format!(
                "{text}\n    wants {reason} {owner} {first}\n    found {} {} by {} ({:?}): {fix}",
                finding.reason, explanation.owner, finding.rule, finding.basis
            ));
        }
    }
    assert!(rows.len() >= 150, "{}", rows.len());
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}
