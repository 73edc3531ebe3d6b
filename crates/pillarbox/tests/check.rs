//! `pillarbox check` as a user meets it: healthy and broken servers, JSON that keeps to its schema, secrets that stay secret.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;
mod schema;

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use common::{program, repository_file, with_input};
use serde_json::Value;
use tempfile::TempDir;
use testkit::ca::{Ca, Validity};
use testkit::sink::{Act, Extensions, Rule, Sink, SinkOptions, Stage, Tls};

const PASSWORD: &str = "Kx7#hunter-Zebra";

/// A directory with a configuration, an authority and a password file.
struct Place {
    dir: TempDir,
    ca: Ca,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("pillarbox.toml"), "hostname = \"here.test\"\ndata_dir = \"data\"\n").unwrap();
        std::fs::write(dir.path().join("password"), format!("{PASSWORD}\n")).unwrap();
        let ca = Ca::new();
        ca.write_pem(dir.path());
        Self { dir, ca }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.arg("check").args(args).current_dir(self.dir.path());
        command.env("PILLARBOX_CONFIG", self.dir.path().join("pillarbox.toml"));
        for name in ["PILLARBOX_PASSWORD", "PILLARBOX_API_KEY", "NO_COLOR", "CLICOLOR_FORCE"] {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().unwrap()
    }

    async fn sink(&self, options: SinkOptions) -> Sink {
        Sink::with(options).await
    }

    /// STARTTLS, a user, a certificate for `mail.test`.
    fn secure(&self) -> SinkOptions {
        let users = vec![("ann".to_owned(), PASSWORD.to_owned())];
        SinkOptions { tls: Tls::StartTls(self.ca.issue(&["mail.test"])), users, ..SinkOptions::default() }
    }
}

fn options(rules: Vec<Rule>) -> SinkOptions {
    SinkOptions { rules, ..SinkOptions::default() }
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn check_schema() -> Value {
    serde_json::from_str(&repository_file("docs/schemas/check-1.json")).unwrap()
}

fn outcome<'v>(report: &'v Value, stage: &str) -> &'v str {
    let stages = report["stages"].as_array().unwrap();
    stages.iter().find(|one| one["stage"] == stage).map_or("", |one| one["outcome"].as_str().unwrap())
}

const SECURE: &[&str] =
    &["--connect-to", "127.0.0.1", "--ca-file", "ca.pem", "--user", "ann", "--password-file", "password"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_server_is_healthy_and_gets_no_message() {
    let place = Place::new();
    let sink = place.sink(place.secure()).await;
    let target = format!("mail.test:{}", sink.port());
    let mail = ["--from", "ann@shop.test", "--to", "bob@one.test"];
    let output = place.run(&[&[target.as_str()], SECURE, &mail, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output), errors(&output));
    let report = json(&output);
    for stage in ["tcp", "banner", "ehlo", "tls", "auth", "sender", "recipient", "message"] {
        assert_eq!(outcome(&report, stage), "passed", "{stage}: {report:#}");
    }
    assert_eq!((report["healthy"].as_bool(), report["result"].as_str()), (Some(true), Some("Success")));
    assert_eq!(sink.count(), 0, "nothing is delivered without --send");

    let output = place.run(&[&[target.as_str()], SECURE, &mail].concat());
    let shown = text(&output);
    assert!(shown.contains("ok   recipient") && shown.contains("No message was sent"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "no colours in a pipe: {shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_send_one_message_is_delivered() {
    let place = Place::new();
    let sink = place.sink(place.secure()).await;
    let target = format!("mail.test:{}", sink.port());
    let mail = ["--from", "ann@shop.test", "--to", "bob@one.test", "--send"];
    let output = place.run(&[&[target.as_str()], SECURE, &mail].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("The server took responsibility"), "{}", text(&output));
    let received = sink.received();
    assert_eq!((received.len(), received[0].to.join(",")), (1, "bob@one.test".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_password_says_whose_turn_it_is_and_is_shown_nowhere() {
    let place = Place::new();
    let sink = place.sink(SinkOptions { users: vec![("ann".into(), "other".into())], ..place.secure() }).await;
    let target = format!("mail.test:{}", sink.port());
    for more in [&["--transcript", "--commands"][..], &["--json"], &["--json-lines"], &["--json", "--commands"]] {
        let output = place.run(&[&[target.as_str()], SECURE, more].concat());
        assert_eq!(output.status.code(), Some(1), "{more:?} {output:?}");
        let all = text(&output) + &errors(&output);
        assert!(all.contains("credentials_invalid") && all.contains("535"), "{all}");
        assert!(!all.contains(PASSWORD) && !all.contains("hunter"), "{all}");
    }
    let output = place.run(&[&[target.as_str()], SECURE].concat());
    let shown = text(&output);
    for part in ["Authentication Failed: ", "Next step: ", "Whose turn: you", "The server said: 535", "1. [you]"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_noticed_in_the_credentials_is_told_before_the_network_and_becomes_the_likeliest_cause() {
    let place = Place::new();
    let hidden = "Kx7#hunter\u{200b}-Zebra ";
    // Nobody listens there.
    let free = { TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
    let args = ["--user", "ann", "--password-stdin", "--no-explore"];
    let output = with_input(place.command(&[&[free.to_string().as_str()], &args[..]].concat()), hidden);
    let shown = text(&output);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    let noticed = shown.find("before connecting: The password has").expect(&shown);
    assert!(noticed < shown.find("FAIL tcp").expect(&shown), "{shown}");
    assert!(shown.contains("zero width space (U+200B) at position 11"), "{shown}");

    let sink = place.sink(place.secure()).await;
    let target = format!("mail.test:{}", sink.port());
    let args = ["--connect-to", "127.0.0.1", "--ca-file", "ca.pem", "--user", "ann", "--password-stdin", "--json"];
    let report = json(&with_input(place.command(&[&[target.as_str()], &args[..]].concat()), hidden));
    assert_eq!(report["failed_at"], "auth", "{report:#}");
    let causes = report["findings"][0]["explanation"]["causes"].to_string();
    assert!(causes.starts_with("[\"The password has 1 blank"), "{causes}");
    assert!(!report.to_string().contains("hunter"), "{report:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_the_server_accepts_are_not_complained_about() {
    let place = Place::new();
    let sink = place.sink(SinkOptions { users: vec![("ann".into(), " padded ".into())], ..place.secure() }).await;
    let target = format!("mail.test:{}", sink.port());
    let args = ["--connect-to", "127.0.0.1", "--ca-file", "ca.pem", "--user", "ann", "--password-stdin", "--json"];
    let output = with_input(place.command(&[&[target.as_str()], &args[..]].concat()), " padded \n");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(!text(&output).contains("credential_"), "{}", text(&output));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lint_only_makes_no_connection_and_knows_the_provider() {
    let place = Place::new();
    let sink = place.sink(SinkOptions::default()).await;
    let args = [
        "--connect-to",
        &sink.address().to_string(),
        "--user",
        "ann@example.net",
        "--password-file",
        "password",
        "--lint-only",
    ];
    let output = place.run(&[&["smtp.sendgrid.net"], &args[..]].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output).contains("The user name must be the word apikey"), "{}", text(&output));
    let report = json(&place.run(&[&["smtp.sendgrid.net"], &args[..], &["--json"]].concat()));
    assert_eq!(report["findings"][0]["sign"], "credential_user_fixed", "{report:#}");
    let output = place.run(&[&["mail.test"], &args[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(sink.connections(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_in_the_environment_is_used() {
    let place = Place::new();
    let sink = place.sink(place.secure()).await;
    let target = format!("smtp://ann@mail.test:{}", sink.port());
    let mut command = place.command(&[&target, "--connect-to", "127.0.0.1", "--ca-file", "ca.pem", "--json"]);
    let output = command.env("PILLARBOX_PASSWORD", PASSWORD).stdin(Stdio::null()).output().unwrap();
    assert_eq!(outcome(&json(&output), "auth"), "passed", "{}", text(&output));
}

#[test]
fn wrong_usage_is_told_apart_from_problems_and_a_password_in_the_target_is_not_repeated() {
    let place = Place::new();
    for (args, part) in [
        (&["smtp://ann:s3cr3t-word@mail.test"][..], "--password-file"),
        (&["ann:s3cr3t-word@mail.test"], "--password-file"),
        (&["smtp://ann:s3cr3t-word@mail.test", "--user", "ann"], "--password-file"),
        (&["ann@mail.test"], "mail address"),
        (&["https://mail.test"], "scheme"),
        (&["mail.test", "--to", "a@b.test"], "--from"),
        (&["mail.test", "--send"], "--send needs"),
        (&["mail.test", "--user", "ann"], "--password-stdin"),
        (&["mail.test", "--password-file", "password"], "--user"),
        (&["mail.test", "--timeout", "0"], "--timeout"),
        (&["mail.test", "--provider", "nobody"], "no provider"),
        (&["mail.test", "--via", "nowhere"], "--via"),
        (&["mail.test", "--quit-after", "never"], "--quit-after"),
        (&[], "HOST"),
    ] {
        let output = place.run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?} {output:?}");
        assert!(errors(&output).contains(part), "{part}: {}", errors(&output));
        assert!(!errors(&output).contains("s3cr3t"), "{}", errors(&output));
    }
    let output = place.run(&["mail.test", "--ca-file", "missing.pem"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_report_keeps_to_the_schema_and_a_broken_one_does_not() {
    let place = Place::new();
    let schema = check_schema();
    let other_name = SinkOptions { tls: Tls::StartTls(place.ca.issue(&["other.test"])), ..SinkOptions::default() };
    let expired = Tls::Implicit(place.ca.issue_for(&["mail.test"], Validity::Past));
    let cases: Vec<(SinkOptions, &[&str], &str)> = vec![
        (place.secure(), &["--from", "", "--to", "bob@one.test"], "accepted"),
        (other_name, &[], "certificate_name"),
        (SinkOptions { tls: expired, ..SinkOptions::default() }, &["--tls", "implicit"], "certificate_expired"),
        (SinkOptions::default(), &["--tls", "starttls"], "starttls_missing"),
        (options(vec![Rule::at(Stage::Connect, Act::Close("554 5.7.1 go away".into()))]), &[], ""),
        (options(vec![Rule::at(Stage::Connect, Act::Garbage(b"HTTP/1.1 400 Bad\r\n\r\n".to_vec()))]), &[], ""),
        (options(vec![Rule::at(Stage::Connect, Act::Drop)]), &[], ""),
        (
            options(vec![Rule::reply(Stage::Rcpt, "554 5.7.1 Relay access denied")]),
            &["--tls", "none", "--from", "a@b.test", "--to", "c@d.test"],
            "relay_denied",
        ),
        (options(vec![Rule::reply(Stage::Mail, "452 4.3.1 disk full")]), &["--tls", "none", "--from", "a@b.test"], ""),
        (
            SinkOptions { extensions: Extensions::none(), ..SinkOptions::default() },
            &["--tls", "none", "--open-relay"],
            "",
        ),
    ];
    for (options, more, reason) in cases {
        let sink = place.sink(options).await;
        let target = format!("mail.test:{}", sink.port());
        let base = ["--connect-to", "127.0.0.1", "--ca-file", "ca.pem", "--no-explore", "--commands", "--json"];
        let login: &[&str] = if reason == "accepted" { &["--user", "ann", "--password-file", "password"] } else { &[] };
        let output = place.run(&[&[target.as_str()], &base[..], login, more].concat());
        let report = json(&output);
        let faults = schema::faults(&schema, &report);
        assert!(faults.is_empty(), "{more:?} {reason}\n{}\n{report:#}", faults.join("\n"));
        assert!(reason.is_empty() || report["reason"] == reason, "{reason}: {report:#}");
        assert_eq!(output.status.code(), Some(i32::from(!report["healthy"].as_bool().unwrap())));
        let mut broken = report.clone();
        broken["stages"][0]["outcome"] = "perhaps".into();
        broken["surprise"] = true.into();
        assert!(!schema::faults(&schema, &broken).is_empty());
    }
    assert_eq!(place.run(&["--schema"]).stdout, repository_file("docs/schemas/check-1.json").into_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_port_fails_at_tcp_and_the_schema_holds() {
    let place = Place::new();
    let free = { TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
    let output = place.run(&[&free.to_string(), "--no-explore", "--json"]);
    let report = json(&output);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!((report["failed_at"].as_str(), report["result"].as_str()), (Some("tcp"), Some("Connection Failed")));
    assert_eq!(outcome(&report, "banner"), "not_reached");
    assert_eq!(schema::faults(&check_schema(), &report), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_come_as_lines_of_json_and_the_report_is_the_last() {
    let place = Place::new();
    let sink = place.sink(SinkOptions::default()).await;
    let output = place.run(&[&sink.address().to_string(), "--tls", "none", "--json-lines"]);
    let lines: Vec<Value> = text(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let event = |line: &Value| line["event"].as_str().unwrap().to_owned();
    let kinds: Vec<String> = lines.iter().map(event).collect();
    let began = lines.iter().position(|line| line["event"] == "began" && line["stage"] == "banner");
    let ended = lines.iter().position(|line| line["event"] == "stage" && line["stage"]["stage"] == "banner");
    assert!(began.unwrap() < ended.unwrap(), "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| *kind == "report").count(), 1);
    assert_eq!(schema::faults(&check_schema(), &lines.last().unwrap()["report"]), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_verification_it_is_said_loudly() {
    let place = Place::new();
    let sink = place.sink(SinkOptions { users: Vec::new(), ..place.secure() }).await;
    let target = format!("mail.test:{}", sink.port());
    let args = [target.as_str(), "--connect-to", "127.0.0.1", "--insecure"];
    let shown = text(&place.run(&args));
    assert!(shown.matches("Not for production").count() >= 2, "{shown}");
    let output = place.run(&[&args[..], &["--json"]].concat());
    assert_eq!(json(&output)["insecure"], true);
    let output = place.run(&[target.as_str(), "--connect-to", "127.0.0.1"]);
    assert_eq!(output.status.code(), Some(1), "without --insecure it is a problem: {}", text(&output));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_says_cannot_move_the_cursor() {
    let place = Place::new();
    let evil = "554 5.7.1 no\u{1b}[2J\u{7}\u{202e}evil";
    let sink = place.sink(options(vec![Rule::reply(Stage::Mail, evil)])).await;
    let args = [&sink.address().to_string(), "--tls", "none", "--from", "a@b.test", "--transcript"];
    let shown = text(&place.run(&args));
    assert!(shown.contains("554 5.7.1 no"), "{shown}");
    assert!(!shown.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interruption_ends_it_and_says_how_far_it_went() {
    let place = Place::new();
    let sink = place.sink(options(vec![Rule::at(Stage::Connect, Act::Hang)])).await;
    for lines in [false, true] {
        let address = sink.address().to_string();
        let mut args = vec![address.as_str(), "--tls", "none", "--timeout", "60"];
        args.extend(lines.then_some("--json-lines"));
        let mut child = place.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let reached = if lines { "\"began\",\"stage\":\"banner\"" } else { "ok   tcp" };
        while !line.contains(reached) {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0, "it ended by itself");
        }
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        let mut complaint = String::new();
        child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(3), "{complaint}");
        assert!(complaint.contains("interrupted") && complaint.contains("tcp"), "{complaint}");
        if lines {
            let last: Value = serde_json::from_str(rest.lines().last().unwrap()).unwrap();
            assert_eq!(last["event"], "interrupted");
            assert_eq!(schema::faults(&check_schema(), &last["report"]), [""; 0]);
        }
    }
    sink.release();
}
