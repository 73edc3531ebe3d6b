//! `explain` and `rules` as a user meets them: known and unknown replies, JSON, exit codes, hostile text.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{program, with_input};
use serde_json::Value;
use std::process::{Command, Output};

const BASIC_AUTH_OFF: &str =
    "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.";

fn run(args: &[&str]) -> Output {
    Command::new(program()).args(args).env_remove("PILLARBOX_CONFIG").output().unwrap()
}

fn pasted(args: &[&str], input: &str) -> Output {
    let mut command = Command::new(program());
    command.arg("explain").args(args);
    with_input(command, input)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_known_reply_gives_rule_meaning_owner_fixes_and_source() {
    let output = run(&["explain", BASIC_AUTH_OFF]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = text(&output);
    for part in [
        "Rule: microsoft-smtp-auth-off-tenant",
        "Authentication Failed",
        "Meaning: ",
        "Whose turn: ",
        "Causes",
        "1. [",
        "Source: ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("not known"), "{text}");
}

#[test]
fn a_reply_known_by_its_code_only_is_said_to_be_and_counts_as_unknown() {
    let output = run(&["explain", "550", "5.1.1", "qwertz", "uiop"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output).contains("only its code decided"), "{}", text(&output));
    let json = json(&run(&["explain", "--json", "550 5.1.1 qwertz uiop"]));
    assert_eq!((json["known"].as_u64(), json["unknown"].as_u64()), (Some(0), Some(1)));
    assert_eq!(json["findings"][0]["codes_only"], true);
}

#[test]
fn equal_findings_are_counted_and_lines_of_a_reply_belong_together() {
    let input =
        format!("{BASIC_AUTH_OFF}\r\n\r\n550-5.1.1 qwertz\n550 5.1.1 uiop\nnothing of the kind\n{BASIC_AUTH_OFF}\n");
    let output = pasted(&["-", "--json"], &input);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let json = json(&output);
    assert_eq!((json["known"].as_u64(), json["unknown"].as_u64()), (Some(2), Some(2)), "{json}");
    let first = &json["findings"][0];
    assert_eq!((first["count"].as_u64(), first["basis"].as_str()), (Some(2), Some("text")));
    for field in ["rule", "reason", "result", "owner", "meaning", "causes", "fixes"] {
        assert!(!first["explanation"][field].is_null(), "{field}: {first}");
    }
    assert!(first["source"]["checked"].is_string());
    assert_eq!(json["no_finding"][0]["example"], "nothing of the kind");
}

#[test]
fn a_file_is_read_and_one_that_is_not_there_is_no_reply() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("replies");
    std::fs::write(&path, BASIC_AUTH_OFF).unwrap();
    assert_eq!(run(&["explain", path.to_str().unwrap()]).status.code(), Some(0));
    assert_eq!(run(&["explain", dir.path().join("none").to_str().unwrap()]).status.code(), Some(3));
    assert_eq!(run(&["explain", dir.path().to_str().unwrap()]).status.code(), Some(3), "a directory");
    assert_eq!(pasted(&["-"], "\n \n").status.code(), Some(2), "nothing to explain");
    assert_eq!(run(&["explain", "--provider", "nobody-knows", "550 x"]).status.code(), Some(2));
}

#[test]
fn input_that_is_no_text_is_refused_at_once_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("input");
    let sixteen: Vec<u8> = BASIC_AUTH_OFF.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let marked = [&[0xff, 0xfe][..], &sixteen].concat();
    let hole = [b"550 5.1.1 no such user\n".to_vec(), vec![0; 4096], vec![0x90; 8 << 20]].concat();
    for (octets, advice) in [(marked, "iconv -f UTF-16 "), (sixteen, "iconv -f UTF-16LE"), (hole, "tr -d '\\000'")] {
        std::fs::write(&path, octets).unwrap();
        let output = run(&["explain", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(advice) && output.stdout.is_empty(), "{said}");
    }
}

#[test]
fn nothing_pasted_reaches_the_terminal_as_a_command() {
    let output =
        pasted(&["-"], "550 5.1.1 \x1b]0;gotcha\x07 \u{202e}abc http://x.example/\x1b[2J\nplain \x1b[31m words\n");
    let shown = text(&output);
    assert!(!shown.contains(['\x1b', '\x07', '\u{202e}']), "{shown:?}");
}

#[test]
fn the_rules_inside_the_program_can_be_listed_shown_and_have_no_problems() {
    let list = json(&run(&["rules", "list", "--json"]));
    let id = list["items"][0]["id"].as_str().unwrap();
    let shown = run(&["rules", "show", id]);
    assert!(text(&shown).contains("Samples"), "{shown:?}");
    assert_eq!(json(&run(&["rules", "show", id, "--json"]))["id"], id);
    assert_eq!(run(&["rules", "show", "no-such-rule"]).status.code(), Some(1));
    let lint = run(&["rules", "lint"]);
    assert!(lint.status.success() && text(&lint).contains("no problems"), "{}", text(&lint));
    let test = run(&["rules", "test"]);
    assert!(test.status.success() && text(&test).contains(" 0 wrong"), "{}", text(&test));
}

#[test]
fn rules_of_ones_own_are_checked_before_they_are_used() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("own.toml");
    let rule = "[file]\nsource = \"mail from partner.example\"\nchecked = \"2026-11-21\"\n\n[[rule]]\nid = \"partner-contract\"\n\
                stage = [\"recipient\"]\ntext = [\"no contract for {domain}\"]\nreason = \"recipient_policy\"\n\
                means = \"The partner takes mail only from domains with a contract.\"\n";
    let check = |more: &str, command: &str| {
        std::fs::write(&path, format!("{rule}{more}")).unwrap();
        run(&["rules", command, path.to_str().unwrap()])
    };
    let good = "samples = [\"550 5.7.1 no contract for example.com\"]\n";
    assert_eq!(check(good, "lint").status.code(), Some(0), "{}", text(&check(good, "lint")));
    assert_eq!(check(good, "test").status.code(), Some(0));
    let wrong = "samples = [\"550 5.7.1 something else\"]\n";
    assert!(text(&check(wrong, "lint")).contains("partner-contract"));
    assert_eq!(check(wrong, "test").status.code(), Some(1));
    let unreadable = check("nonsense = 1\n", "lint");
    assert_eq!(unreadable.status.code(), Some(1), "{unreadable:?}");
    assert_eq!(run(&["rules", "lint", "not-there.toml"]).status.code(), Some(3));
}
