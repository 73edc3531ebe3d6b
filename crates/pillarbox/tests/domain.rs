//! `pillarbox domain` as a user meets it: exit codes, rows, standard input, interruption, and routes of a real store.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;
mod schema;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};

use common::{program, repository_file, with_input};
use serde_json::Value;
use tempfile::TempDir;
use testkit::Zones;
use testkit::zones::{RecordType, Trouble};

/// A directory with a configuration, and a name server.
struct Place {
    dir: TempDir,
    zones: Zones,
}

/// What a domain that sends nothing and gets nothing needs to be healthy.
fn quiet(zones: &Zones, name: &str) {
    zones.line(&format!("{name} SOA ns1.{name}. hostmaster.{name}. 1 7200 900 1209600 3600"));
    zones.line(&format!("{name} NS ns1.{name}."));
    zones.mx(name, 0, ".").txt(name, "v=spf1 -all");
    zones.txt(&format!("_dmarc.{name}"), &format!("v=DMARC1; p=reject; rua=mailto:dmarc@{name}"));
}

impl Place {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("pillarbox.toml"), "hostname = \"here.test\"\ndata_dir = \"data\"\n").unwrap();
        let zones = Zones::start().await;
        quiet(&zones, "quiet.example");
        quiet(&zones, "open.example");
        zones.remove("open.example").mx("open.example", 0, ".").txt("open.example", "v=spf1 +all");
        zones.fail("servfail.example", Trouble::ServFail);
        Self { dir, zones }
    }

    fn plain(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(args).current_dir(self.dir.path());
        command.env("PILLARBOX_CONFIG", self.dir.path().join("pillarbox.toml"));
        for name in ["PILLARBOX_API_KEY", "NO_COLOR", "CLICOLOR_FORCE"] {
            command.env_remove(name);
        }
        command
    }

    fn command(&self, args: &[&str]) -> Command {
        let server = self.zones.address().to_string();
        self.plain(&[&["domain", "--resolver", &server, "--no-dnssec"], args].concat())
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().unwrap()
    }

    fn list(&self, text: &str) -> String {
        let path = self.dir.path().join("domains.txt");
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn rows(output: &Output) -> Vec<Value> {
    text(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exit_code_tells_healthy_from_broken_from_wrong_usage() {
    let place = Place::new().await;
    for (args, code) in [
        (&["quiet.example", "--no-smtp", "--only", "mx,spf,dmarc"][..], 0),
        (&["open.example", "--no-smtp", "--only", "spf"], 1),
        (&["missing.example", "--no-smtp"], 1),
        (&["servfail.example", "--no-smtp"], 1),
        (&["no such name"], 2),
        (&["quiet.example", "--csv"], 2),
        (&["--file", "not-there.txt"], 3),
        (&["quiet.example", "--only", "nonsense"], 2),
    ] {
        let output = place.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}{}", text(&output), errors(&output));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_domain_of_a_list_is_a_row_and_failing_ones_are_too() {
    let place = Place::new().await;
    let list = place.list("quiet.example\n\n# remark\nOpen.example\nmissing.example\nservfail.example\nno such name\n");
    let output = place.run(&["--file", &list, "--csv"]);
    assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
    assert_eq!(errors(&output), "", "progress is for terminals");
    let told = text(&output);
    let mut lines: Vec<&str> = told.split_terminator("\r\n").collect();
    let head = lines.remove(0);
    assert_eq!(head, "domain,healthy,problems,warnings,provider,spf_lookups,dmarc_policy,signs,error");
    lines.sort_unstable();
    let starts: Vec<String> = lines.iter().map(|line| line.split(',').take(2).collect::<Vec<_>>().join(" ")).collect();
    let expected = [
        "missing.example false",
        "no such name false",
        "open.example false",
        "quiet.example true",
        "servfail.example false",
    ];
    assert_eq!(starts, expected);
    assert!(lines[0].contains("domain_missing") && lines[4].contains("domain_dns_failure"), "{told}");
    assert!(lines[1].ends_with("is no domain name"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_lines_from_standard_input_keep_to_the_schema() {
    let place = Place::new().await;
    let output = with_input(place.command(&["--file", "-", "--json"]), "quiet.example\nopen.example\nno such name");
    assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
    let schema: Value = serde_json::from_str(&repository_file("docs/schemas/domain-1.json")).unwrap();
    let rows = rows(&output);
    assert_eq!(rows.len(), 3);
    for row in &rows {
        assert_eq!(schema::faults(&schema, row), Vec::<String>::new());
    }
    let healthy = rows.iter().filter(|row| row["healthy"] == true).count();
    let errors = rows.iter().filter(|row| row["error"].is_string()).count();
    assert_eq!((healthy, errors), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interruption_keeps_the_rows_that_are_there_and_says_how_many() {
    let place = Place::new().await;
    let mut command = place.command(&["--file", "-", "--csv"]);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child: Child = piped.spawn().unwrap();
    // The list does not end: standard input stays open.
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"quiet.example\n").unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("domain,healthy"));
    assert!(lines.next().unwrap().unwrap().starts_with("quiet.example,true"));
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", errors(&output));
    assert!(errors(&output).contains("interrupted after 1 domain"), "{}", errors(&output));
    drop(input);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_asked_twice_within_one_audit() {
    let place = Place::new().await;
    place.run(&["quiet.example", "--no-smtp"]);
    for (name, kind) in [
        ("quiet.example", RecordType::MX),
        ("quiet.example", RecordType::TXT),
        ("quiet.example", RecordType::SOA),
        ("_dmarc.quiet.example", RecordType::TXT),
    ] {
        assert_eq!(place.zones.queries(name, kind), 1, "{name} {kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_of_the_store_are_compared_with_what_the_domain_allows() {
    let place = Place::new().await;
    for (name, host) in [("office", "smtp.office365.com:587"), ("google", "smtp.gmail.com:587")] {
        let added = place.plain(&["route", "add", name, "--smarthost", host]).stdin(Stdio::null()).output().unwrap();
        assert!(added.status.success(), "{}", errors(&added));
    }
    let added = place.plain(&["route", "add", "direct", "--mx", "--default"]).stdin(Stdio::null()).output().unwrap();
    assert!(added.status.success(), "{}", errors(&added));
    let zones = &place.zones;
    zones
        .txt("_spf.google.com", "v=spf1 ip4:192.0.2.0/24 -all")
        .txt("sends.example", "v=spf1 include:_spf.google.com -all");
    let output = place.run(&["sends.example", "--routes", "--no-smtp", "--only", "spf", "--json"]);
    let audit: Value =
        serde_json::from_str(&text(&output)).unwrap_or_else(|error| panic!("{error}: {}", errors(&output)));
    let uncovered: Vec<&str> = audit["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|found| found["sign"] == "spf_route_not_covered")
        .map(|found| found["values"]["route"].as_str().unwrap())
        .collect();
    assert_eq!(uncovered, ["office"], "{audit:#}");
    assert_eq!(output.status.code(), Some(1));
}
