//! The drop-in for sendmail: what cron and PHP call, under the names and with the codes they expect.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Server, program};

fn called_as(server: &Server, name: &str, args: &[&str]) -> std::process::Command {
    let link = server.dir.path().join(name);
    if !link.exists() {
        std::os::unix::fs::symlink(program(), &link).unwrap();
    }
    let mut command = std::process::Command::new(link);
    command.args(args).current_dir(server.dir.path()).env("PILLARBOX_CONFIG", server.config());
    command
}

#[tokio::test]
async fn a_message_with_recipients_in_its_header_is_submitted() {
    let server = Server::start();
    let message =
        "From: app@shop.test\nTo: Ann <ann@one.test>, root\nBcc: secret@two.test\nSubject: job\n\ndone\n.\nreally\n";
    let output = server.run_with_input(called_as(&server, "sendmail", &["-t", "-oi", "-fbounce@shop.test"]), message);
    assert!(output.status.success(), "{output:?}");
    let captured = server.run_json(&["capture", "ls"]);
    let one = &captured["items"][0];
    assert_eq!(one["envelope_from"], "bounce@shop.test");
    let to: Vec<_> = one["recipients"].as_array().unwrap().iter().map(|to| to["address"].as_str().unwrap()).collect();
    assert_eq!(to, ["ann@one.test", "root@relay.test", "secret@two.test"]);
    let raw = server.run(&["capture", "raw", one["id"].as_str().unwrap()]);
    assert!(raw.ends_with("done\r\n.\r\nreally\r\n") && !raw.contains("secret@two.test"), "{raw}");
}

#[tokio::test]
async fn smtp_on_standard_input_works_and_the_queue_can_be_listed() {
    let server = Server::start();
    let session =
        "EHLO job\r\nMAIL FROM:<a@shop.test>\r\nRCPT TO:<b@one.test>\r\nDATA\r\nSubject: s\r\n\r\nx\r\n.\r\nQUIT\r\n";
    let output = server.run_with_input(called_as(&server, "sendmail", &["-bs"]), session);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("250 2.0.0") && text.ends_with("221 2.0.0 bye\r\n"), "{text}");
    assert_eq!(server.run_json(&["capture", "ls"])["items"].as_array().unwrap().len(), 1);
    let list = called_as(&server, "mailq", &[]).output().unwrap();
    assert!(list.status.success());
    assert_eq!(String::from_utf8_lossy(&list.stdout), "Nothing is waiting.\n");
}

#[tokio::test]
async fn the_exit_codes_are_those_of_sendmail() {
    let mut server = Server::start();
    let code = |server: &Server, args: &[&str], input: &str| {
        server.run_with_input(called_as(server, "sendmail", args), input).status.code()
    };
    assert_eq!(code(&server, &["-i"], "x\n"), Some(64), "no recipients");
    assert_eq!(code(&server, &["-i", "not an address"], "x\n"), Some(65));
    assert_eq!(code(&server, &["-Z"], ""), Some(64));
    server.terminate();
    assert_eq!(code(&server, &["-i", "a@b.test"], "x\n"), Some(75), "later, when the server is there again");
}
