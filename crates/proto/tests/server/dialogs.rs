//! Replays `tests/dialogs/*.smtp`, with the client's octets cut at every position and octet by octet.
//!
//! `S:` a reply line, ` *` at its end for any text; `C:` a line; `C|` octets with \r \n \0 \xHH escapes and no CR LF;
//! `TLS` a handshake; `CLOSE` the machine closes; `MESSAGE:` the content accepted since the last one, escaped;
//! `set name value` a setting. Settings come first.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use proto::smtp::server::{AuthOffer, Settings};

use crate::driver::{Driver, Stop};

#[derive(Debug)]
enum Step {
    Server(Vec<String>),
    Client(Vec<u8>),
    Tls,
    Close,
    Message(String),
}

struct Dialog {
    settings: Arc<Settings>,
    implicit_tls: bool,
    steps: Vec<Step>,
}

#[test]
fn dialogs_go_as_written_however_the_octets_arrive() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogs");
    let mut count = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let dialog = parse(&fs::read_to_string(&path).unwrap(), &name);
        let length: usize =
            dialog.steps.iter().map(|step| if let Step::Client(octets) = step { octets.len() } else { 0 }).sum();
        replay(&dialog, &format!("{name} whole"), usize::MAX);
        replay(&dialog, &format!("{name} by octets"), 0);
        for position in 1..length {
            replay(&dialog, &format!("{name} cut at {position}"), position);
        }
        count += 1;
    }
    assert!(count >= 15, "only {count} dialogs found");
}

/// Cuts at `position` of all client octets; 0 cuts everywhere.
fn replay(dialog: &Dialog, name: &str, position: usize) {
    let mut driver = Driver::new(&dialog.settings, dialog.implicit_tls);
    let mut sent = 0;
    let mut messages = 0;
    for (number, step) in dialog.steps.iter().enumerate() {
        let place = format!("{name}, step {number}");
        match step {
            Step::Client(octets) => {
                let within = position.checked_sub(sent).filter(|within| (1..octets.len()).contains(within));
                let first = if position == 0 { 1 } else { within.unwrap_or(octets.len()) };
                let later = if position == 0 { 1 } else { octets.len() };
                driver.send(&octets[..first], &[first]);
                if first < octets.len() && driver.stop != Stop::Closed {
                    driver.send(&octets[first..], &[later]);
                }
                sent += octets.len();
            }
            Step::Server(expected) => check(&driver.take_written(), expected, &place),
            Step::Tls => {
                assert_eq!((driver.stop, driver.written.as_str()), (Stop::StartTls, ""), "{place}");
                driver.tls_started();
            }
            Step::Close => assert_eq!((driver.stop, driver.written.as_str()), (Stop::Closed, ""), "{place}"),
            Step::Message(expected) => {
                assert_eq!(driver.messages[messages].1.octets.escape_ascii().to_string(), *expected, "{place}");
                messages += 1;
            }
        }
    }
    assert_eq!(driver.written, "", "{name}: unexpected output at the end");
    assert_eq!(driver.messages.len(), messages, "{name}: messages accepted that the dialog does not show");
}

fn check(written: &str, expected: &[String], place: &str) {
    let lines: Vec<&str> = written.split_terminator("\r\n").collect();
    let matches = lines.len() == expected.len()
        && lines.iter().zip(expected).all(|(line, expected)| match expected.strip_suffix(" *") {
            Some(start) => line.starts_with(start),
            None => line == expected,
        });
    assert!(matches, "{place}: expected\n{}\ngot\n{}", expected.join("\n"), lines.join("\n"));
}

fn parse(text: &str, name: &str) -> Dialog {
    let mut dialog = Dialog {
        settings: Arc::new(Settings { max_size: 10_000, ..Settings::new("mail.example") }),
        implicit_tls: false,
        steps: Vec::new(),
    };
    for (number, line) in text.lines().enumerate() {
        let (word, rest) = line.split_at(line.find([':', '|', ' ']).map_or(line.len(), |end| end + 1));
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        match (word, dialog.steps.last_mut()) {
            ("", _) => {}
            (comment, _) if comment.starts_with('#') => {}
            ("set ", _) => set(&mut dialog, rest),
            ("S:", Some(Step::Server(lines))) => lines.push(rest.to_owned()),
            ("S:", _) => dialog.steps.push(Step::Server(vec![rest.to_owned()])),
            ("C:", _) => client(&mut dialog, format!("{rest}\r\n").into_bytes()),
            ("C|", _) => client(&mut dialog, unescape(rest)),
            ("MESSAGE:", _) => dialog.steps.push(Step::Message(rest.to_owned())),
            ("TLS", _) => dialog.steps.push(Step::Tls),
            ("CLOSE", _) => dialog.steps.push(Step::Close),
            _ => panic!("{name}, line {}: {line}", number + 1),
        }
    }
    dialog
}

fn client(dialog: &mut Dialog, octets: Vec<u8>) {
    match dialog.steps.last_mut() {
        Some(Step::Client(before)) => before.extend(octets),
        _ => dialog.steps.push(Step::Client(octets)),
    }
}

fn set(dialog: &mut Dialog, text: &str) {
    let (name, value) = text.split_once(' ').unwrap_or((text, "1"));
    let settings = Arc::make_mut(&mut dialog.settings);
    let number = || value.parse::<u32>().unwrap();
    match name {
        "max_size" => settings.max_size = u64::from(number()),
        "max_recipients" => settings.max_recipients = number() as usize,
        "max_commands" => settings.max_commands = number(),
        "max_errors" => settings.max_errors = number(),
        "auth" => {
            settings.auth = match value {
                "always" => AuthOffer::Always,
                "tls" => AuthOffer::UnderTls,
                _ => AuthOffer::Never,
            }
        }
        "require_auth" => settings.require_auth = true,
        "require_tls" => settings.require_tls = true,
        "starttls" => settings.starttls = true,
        "xclient" => settings.xclient = true,
        "implicit_tls" => dialog.implicit_tls = true,
        _ => panic!("unknown setting {name}"),
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet != b'\\' {
            octets.push(octet);
            continue;
        }
        octets.push(match rest.next() {
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b'0') => 0,
            Some(b'\\') => b'\\',
            Some(b'x') => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&digits, 16).unwrap()
            }
            other => panic!("unknown escape {other:?}"),
        });
    }
    octets
}
