//! Every reply a rule knows by its words, pasted, is explained as that rule.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::process::Command;

use explain::{Played, RuleBase};
use proto::smtp::reply::Reply;
use proto::transcript::Stage;
use serde_json::Value;

/// As it is seen on a terminal: each line with its code.
fn pasted(reply: &Reply) -> String {
    let mut octets = Vec::new();
    reply.encode_into(&mut octets);
    String::from_utf8_lossy(&octets).replace("\r\n", "\n")
}

/// How many replies were explained by which rule.
fn explained(stage: Stage, provider: Option<&str>, text: &str) -> BTreeMap<String, u64> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("replies.txt");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
    let stage = serde_json::to_value(stage).unwrap();
    command.args(["explain", "--json", "--stage", stage.as_str().unwrap()]).arg(&file);
    if let Some(provider) = provider {
        command.args(["--provider", provider]);
    }
    let output = command.output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let findings = report["findings"].as_array().unwrap();
    let count = |finding: &Value| {
        (finding["explanation"]["rule"].as_str().unwrap().to_owned(), finding["count"].as_u64().unwrap())
    };
    let mut counts = BTreeMap::new();
    for (rule, n) in findings.iter().map(count) {
        *counts.entry(rule).or_default() += n;
    }
    counts
}

#[test]
fn every_reply_a_rule_knows_is_explained_as_that_rule() {
    let mut kinds: BTreeMap<(Stage, Option<&str>), Vec<Played<'static>>> = BTreeMap::new();
    for played in RuleBase::builtin().playable().filter(|played| !played.rule.texts.is_empty()) {
        if matches!(played.reply.class(), 4 | 5) {
            // What a relay found in the DNS it says to RCPT.
            let stage = if played.stage == Stage::Dns { Stage::Recipient } else { played.stage };
            kinds.entry((stage, played.provider)).or_default().push(played);
        }
    }
    let mut wrong = Vec::new();
    for ((stage, provider), played) in &kinds {
        let mut wanted: BTreeMap<String, u64> = BTreeMap::new();
        let mut text = String::new();
        for one in played {
            *wanted.entry(one.rule.id.clone()).or_default() += 1;
            text.push_str(&pasted(one.reply));
        }
        let found = explained(*stage, *provider, &text);
        for rule in wanted.keys().chain(found.keys()).collect::<std::collections::BTreeSet<_>>() {
            if wanted.get(rule) != found.get(rule) {
                wrong.push(format!(
                    "{stage:?} {provider:?} {rule}: wanted {:?}, found {:?}",
                    wanted.get(rule),
                    found.get(rule)
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
