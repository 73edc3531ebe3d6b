//! The rules inside the program are right: each sample hits exactly its rule, nothing ties, nothing is missing.

use explain::{Query, Reason, Retry, RuleBase};
use proto::smtp::reply::Reply;
use proto::transcript::Stage;

#[test]
fn every_sample_hits_its_rule_and_every_rule_is_complete() {
    let problems: Vec<String> = RuleBase::builtin().lint().iter().map(ToString::to_string).collect();
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn every_refusal_finds_a_rule_at_every_stage() {
    let base = RuleBase::builtin();
    use Stage::{Auth, Banner, Dns, Ehlo, Message, Quit, Recipient, Sender, Tcp, Tls};
    for stage in [Dns, Tcp, Banner, Ehlo, Tls, Auth, Sender, Recipient, Message, Quit] {
        for code in 200..600 {
            let reply = Reply::new(code, "xyzzy");
            let finding = base.judge(&Query::reply(stage, &reply));
            assert!(finding.is_some_and(|finding| finding.is_by_class()), "{code} at {stage:?}");
        }
    }
}

#[test]
fn every_file_of_the_directory_is_inside_the_program() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/rules");
    let base = RuleBase::builtin();
    for directory in ["", "/providers"] {
        for entry in std::fs::read_dir(format!("{root}{directory}")).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("rules{directory}/{}", path.file_name().unwrap().to_string_lossy());
            let has_rules = path.is_file() && std::fs::read_to_string(&path).unwrap().contains("\n[[rule]]");
            assert!(!has_rules || base.rules().any(|rule| rule.file == name), "{name}");
        }
    }
}

#[test]
fn a_user_can_add_rules_that_win_and_is_told_what_is_wrong() {
    let mine = r#"
        [file]
        source = "our own experience"
        checked = "2026-11-21"
        [[rule]]
        id = "mine"
        text = ["no mailbox here by that name"]
        reason = "recipient_policy"
        means = "Our partner says this when the contract is missing."
        samples = ["550 sorry, no mailbox here by that name"]
    "#;
    let base = RuleBase::with_user_rules(&[("mine.toml", mine)]).unwrap();
    assert!(base.lint_rule(base.rule("mine").unwrap()).is_empty());
    let reply = Reply::new(550, "sorry, no mailbox here by that name");
    let finding = base.judge(&Query::reply(Stage::Recipient, &reply)).unwrap();
    assert_eq!((finding.rule.as_str(), finding.reason), ("mine", Reason::RecipientPolicy));

    let error = RuleBase::with_user_rules(&[("mine.toml", "[[rule]]\nid = \"x\"\nreason = \"nonsense\"")]).unwrap_err();
    assert!(error.to_string().contains("mine.toml"), "{error}");
}

#[test]
fn the_example_of_the_manual_is_a_rule_without_faults() {
    let manual = include_str!("../../../docs/rules.md");
    let example = manual.split("```toml").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let base = RuleBase::with_user_rules(&[("example.toml", example)]).unwrap();
    let problems = base.lint_rule(base.rule("partner-contract").unwrap());
    assert!(problems.is_empty(), "{problems:?}");
}

#[test]
fn only_a_rule_that_says_so_softens_a_permanent_refusal() {
    let base = RuleBase::builtin();
    let rule = |id| base.rule(id).unwrap();
    assert_eq!(rule("google-receiving-rate").advice(Stage::Recipient, Some(5)), Retry::Retry);
    assert_eq!(rule("generic-credentials").advice(Stage::Sender, Some(5)), Retry::Class);
    assert_eq!(rule("generic-credentials").advice(Stage::Auth, Some(5)), Retry::HoldRoute);
    assert_eq!(rule("generic-busy").advice(Stage::Message, Some(4)), Retry::Retry);
    for rule in base.rules().filter(|rule| !rule.softens) {
        let advice = rule.advice(Stage::Message, Some(5));
        assert!(matches!(advice, Retry::Class | Retry::Stop), "{}", rule.id);
    }
}
