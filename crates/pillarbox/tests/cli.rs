//! The command line without a server: exit codes, the configuration, documents, secrets that never come back.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Server, program, repository_file, with_input};
use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    Command::new(program()).args(args).current_dir(dir.path()).env_remove("PILLARBOX_CONFIG").output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn exit_codes_tell_wrong_usage_from_not_being_able() {
    assert_eq!(run(&["--version"]).status.code(), Some(0));
    assert_eq!(run(&["nonsense"]).status.code(), Some(2));
    assert_eq!(run(&["queue", "ls"]).status.code(), Some(3), "no server, no data");
    assert_eq!(run(&["queue", "ls", "--config", "missing.toml"]).status.code(), Some(3));
    assert_eq!(run(&["send", "--from", "a@b.test", "--to", "c@d.test"]).status.code(), Some(3), "no server");
}

#[test]
fn a_database_that_is_away_at_the_start_is_told_and_without_its_password() {
    let dir = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let store = format!("postgres://pillarbox:s3cret@{closed}/pillarbox?sslmode=disable");
    let output = Command::new(program())
        .arg("serve")
        .current_dir(dir.path())
        .env_remove("PILLARBOX_CONFIG")
        .env("PILLARBOX_STORE", store)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("the database of `store` cannot be used") && said.contains(&closed.to_string()), "{said}");
    assert!(!said.contains("s3cret") && !said.contains("panicked"), "{said}");
}

#[test]
fn a_wrong_configuration_is_shown_with_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.toml");
    std::fs::write(&path, "hostname = \"ok.test\"\n[retry]\nexpiry = \"5y\"\n").unwrap();
    let check = |json: bool| {
        let mut command = Command::new(program());
        command.args(["config", "check", "--config"]).arg(&path);
        if json { command.arg("--json").output() } else { command.output() }.unwrap()
    };
    let output = check(false);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("p.toml:3:10: `retry.expiry`: expected a duration"), "{}", text(&output));
    let json: serde_json::Value = serde_json::from_slice(&check(true).stdout).unwrap();
    assert_eq!((json["problems"][0]["line"].as_u64(), json["problems"][0]["column"].as_u64()), (Some(3), Some(10)));
    std::fs::write(&path, "hostname = \"ok.test\"\n").unwrap();
    assert_eq!(check(false).status.code(), Some(0));
}

#[test]
fn every_value_is_shown_with_its_source() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("pillarbox.toml"), "[retry]\nexpiry = \"1d\"\n").unwrap();
    let output = Command::new(program())
        .args(["config", "show", "--json"])
        .current_dir(dir.path())
        .env_remove("PILLARBOX_CONFIG")
        .env("PILLARBOX_LOG_LEVEL", "debug")
        .output()
        .unwrap();
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let one = |setting: &str| all.as_array().unwrap().iter().find(|one| one["setting"] == setting).unwrap().clone();
    assert_eq!((one("retry.expiry")["source"].as_str(), one("retry.expiry")["line"].as_u64()), (Some("file"), Some(2)));
    assert_eq!(one("log.level")["variable"], "PILLARBOX_LOG_LEVEL");
    assert_eq!(one("http.address")["source"], "default");
}

#[test]
fn the_manual_pages_in_the_repository_are_what_the_program_writes() {
    let current = "run `make docs`: the page is not what the program writes now";
    assert!(text(&run(&["config", "reference"])) == repository_file("docs/manual/configuration.md"), "{current}");
    assert!(text(&run(&["man", "--markdown"])) == repository_file("docs/manual/cli.md"), "{current}");
}

#[test]
fn completions_and_manual_pages_are_written() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(text(&run(&["completions", shell])).contains("pillarbox"), "{shell}");
    }
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    assert!(Command::new(program()).arg("man").arg(&pages).status().unwrap().success());
    assert!(pages.join("pillarbox-queue-ls.1").is_file());
}

#[test]
fn a_reader_that_stops_early_is_no_error() {
    let pipe = format!("'{}' completions bash | head -1; exit ${{PIPESTATUS[0]}}", program().display());
    let output = Command::new("bash").args(["-c", &pipe]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn settings_can_be_changed_while_no_server_runs_and_secrets_never_come_back() {
    let mut server = Server::start();
    server.terminate();
    let mut add = server.command(&["route", "add", "provider", "--smarthost", "smtp.provider.test:465"]);
    add.args(["--tls", "implicit", "--username", "shop", "--password-from", "stdin", "--default"]);
    let output = with_input(add, "hunter2-secret\n");
    assert!(output.status.success(), "{output:?}");
    let shown = server.run(&["route", "show", "provider", "--json"]);
    assert!(shown.contains("\"has_password\": true") && !shown.contains("hunter2"), "{shown}");
    assert!(server.run(&["route", "rule", "ls"]).contains("provider"));
    let removed = server.command(&["route", "remove", "provider"]).output().unwrap();
    assert_eq!(removed.status.code(), Some(1), "a rule uses it");

    let made = server.run_json(&["sender", "add", "shop", "--allow-from", "shop.test", "--rate", "60"]);
    let password = made["new_password"].as_str().unwrap();
    let shown = server.run(&["sender", "show", "shop", "--json"]);
    assert!(!shown.contains(password) && !shown.contains("argon2"), "{shown}");
    server.run(&["sender", "set", "shop", "--clear", "rate", "--disabled"]);
    let shown = server.run_json(&["sender", "show", "shop"]);
    assert_eq!((shown["messages_per_minute"].is_null(), shown["disabled"].as_bool()), (true, Some(true)));
    let wrong = server.command(&["sender", "add", "x", "--allow-from", "not a domain"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(1));
    let bad_name = server.command(&["sender", "add", "No Name", "--allow-from", "*"]).output().unwrap();
    assert_eq!(bad_name.status.code(), Some(1));
}

#[test]
fn a_backup_can_be_made_with_and_without_a_server_and_verifies() {
    let mut server = Server::start();
    server.run(&["send", "--from", "a@shop.test", "--to", "b@one.test", "--subject", "s", "--text", "t"]);
    server.run(&["backup", "one"]);
    assert_eq!(server.run(&["verify", "--deep"]), "no problems\n");
    server.terminate();
    server.run(&["backup", "two"]);
    for name in ["one", "two"] {
        let copy = server.dir.path().join(name);
        let mut list = server.command(&["capture", "ls", "--json"]);
        list.env("PILLARBOX_DATA_DIR", &copy).env("PILLARBOX_KEY", "07".repeat(32));
        let output = list.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(text(&output).contains("b@one.test"), "{name}");
    }
}

#[test]
fn every_command_explains_itself() {
    for command in [&["queue", "ls"][..], &["sender", "add"], &["route", "add"], &["send"], &["serve"]] {
        let output = run(&[command, &["--help"]].concat());
        assert!(text(&output).contains("Examples:"), "{command:?}");
    }
}
