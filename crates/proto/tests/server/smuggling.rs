//! Smuggling: exactly one message, or none, whatever stands where the end of data could be.

use std::sync::Arc;

use proto::smtp::body::stuff_into;
use proto::smtp::server::Settings;

use crate::driver::{Driver, Stop};

/// Ends that some server once took for CR LF . CR LF, and neighbours of the true one.
const ENDS: &[&str] = &[
    "\n.\n",
    "\n.\r\n",
    "\n.\r",
    "\r.\r",
    "\r.\r\n",
    "\r.\n",
    "\r\n.\n",
    "\r\n.\r",
    "\r\n.\rX\r\n",
    "\n\n.\n",
    "\n\n.\r\n",
    "\n.\n\n",
    "\r\r.\r\r",
    "\r\r.\r\n",
    "\r\n.\r\r\n",
    "\r\r\n.\n",
    "\n\r.\r\n",
    "\n\r.\n\r",
    "\r\n\n.\n",
    "\r\n\r.\r\n",
    "\r \n.\r\n",
    "\r\0\n.\r\0\n",
    "\r\n.\r\0\n",
    "\r\n\0.\r\n",
    "\r\n.\0\r\n",
    "\0\r\n.\0\r\n",
    "\r\n. \r\n",
    "\r\n.\t\r\n",
    "\r\n .\r\n",
    "\r\n\t.\r\n",
    "\r\n..\r\n",
    "\r\n.\u{b}\r\n",
    "\r\n.\u{c}\r\n",
    "\u{85}.\u{85}",
    "\r\u{85}.\r\n",
    "\u{2028}.\u{2028}",
    "\r\n\u{feff}.\r\n",
    "\r\n.\u{200b}\r\n",
    "\\r\\n.\\r\\n",
    "=0D=0A.=0D=0A",
    "&#13;&#10;.&#13;&#10;",
    "%0d%0a.%0d%0a",
    "\r\n.x\r\n",
    "\r\n\x08.\r\n",
    "\r\n.\x7f\r\n",
];
const SECOND: &str = "MAIL FROM:<evil@example.org>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\nsmuggled\r\n.\r\n";
const START: &str = "EHLO a\r\nMAIL FROM:<ann@example.org>\r\nRCPT TO:<bob@example.org>\r\n";

fn driver() -> Driver {
    Driver::new(&Arc::new(Settings::new("mail.example")), false)
}

/// No CR without LF and no LF without CR.
fn clean(octets: &[u8]) -> bool {
    let text: String = octets.iter().map(|octet| char::from(*octet)).collect();
    !text.replace("\r\n", "").contains(['\r', '\n'])
}

fn only_the_first_came_through(driver: &Driver, end: &str, body: &[u8]) {
    assert!(driver.messages.len() <= 1, "{end:?} made {} messages", driver.messages.len());
    match driver.messages.first() {
        None => assert!(!clean(body), "{end:?} is harmless and was refused: {}", driver.written),
        Some((envelope, content)) => {
            assert!(clean(&content.octets) && clean(body), "{end:?} let a bare CR or LF in");
            assert_eq!(envelope.recipients[0].address.as_str(), "bob@example.org");
            assert!(memchr::memmem::find(&content.octets, b"evil").is_some(), "{end:?} ended the message");
        }
    }
    if !clean(body) {
        assert_eq!(driver.stop, Stop::Closed, "{end:?}");
        assert!(
            driver.written.ends_with("550 5.5.2 lines of a message must end in CR LF\r\n"),
            "{end:?}: {}",
            driver.written
        );
    }
}

#[test]
fn no_end_but_cr_lf_dot_cr_lf_ends_data() {
    for end in ENDS {
        let body = format!("Subject: x\r\n\r\nbody{end}{SECOND}");
        let stream = format!("{START}DATA\r\n{body}");
        for cut in 1..stream.len() {
            let mut driver = driver();
            driver.send(stream.as_bytes(), &[cut, stream.len()]);
            only_the_first_came_through(&driver, end, body.as_bytes());
        }
        let mut driver = driver();
        driver.send(stream.as_bytes(), &[1]);
        only_the_first_came_through(&driver, end, body.as_bytes());
    }
}

#[test]
fn commands_in_a_chunk_stay_content() {
    for end in ENDS.iter().chain(&["\r\n.\r\n"]) {
        let body = format!("Subject: x\r\n\r\nbody{end}{SECOND}");
        for cut in (1..body.len()).step_by(7) {
            let (first, rest) = body.as_bytes().split_at(cut);
            let mut stream = format!("{START}BDAT {cut}\r\n").into_bytes();
            stream.extend_from_slice(first);
            stream.extend_from_slice(format!("BDAT {} LAST\r\n", rest.len()).as_bytes());
            stream.extend_from_slice(rest);
            for pieces in [stream.len(), 1, cut] {
                let mut driver = driver();
                driver.send(&stream, &[pieces]);
                only_the_first_came_through(&driver, end, body.as_bytes());
            }
        }
    }
}

#[test]
fn chunks_refused_at_any_stage_are_never_read_as_commands() {
    let chunk = format!("BDAT {} LAST\r\n{SECOND}", SECOND.len());
    for before in [
        "",
        "EHLO a\r\n",
        "EHLO a\r\nMAIL FROM:<ann@example.org>\r\n",
        "EHLO a\r\nMAIL FROM:<refuse@example.org>\r\nRCPT TO:<bob@example.org>\r\n",
        "EHLO a\r\nMAIL FROM:<ann@example.org>\r\nRCPT TO:<refuse@example.org>\r\n",
        "EHLO a\r\nMAIL FROM:<ann@example.org>\r\nRCPT TO:<bob@example.org>\r\nBDAT 9999999999\r\n",
    ] {
        let stream = format!("{before}{chunk}NOOP\r\n");
        for cut in 1..=stream.len() {
            let mut driver = driver();
            driver.send(stream.as_bytes(), &[cut]);
            assert!(driver.messages.is_empty(), "{before:?}: {}", driver.written);
            assert!(!driver.written.contains("354"), "{before:?}: {}", driver.written);
        }
    }
}

#[test]
fn a_chunk_of_unknown_length_ends_the_session() {
    for line in ["BDAT", "BDAT x", "bdat 5 5", "BDAT 99999999999999999999999 LAST", "BDAT -1 LAST"] {
        let mut driver = driver();
        driver.send_whole(format!("{START}{line}\r\n{SECOND}").as_bytes());
        assert_eq!((driver.stop, driver.messages.len()), (Stop::Closed, 0), "{line}");
    }
}

#[test]
fn commands_with_bare_line_ends_close_the_session() {
    for line in ["NOOP\n", "NOOP\rNOOP\r\n", "NOOP\r\r\n", "\n", "\r\r\n", "MAIL FROM:<a@b>\nRCPT TO:<c@d>\r\n"] {
        for cut in 1..=line.len() {
            let mut driver = driver();
            driver.send_whole(b"EHLO a\r\n");
            driver.take_written();
            driver.send(line.as_bytes(), &[cut]);
            assert_eq!(driver.written, "550 5.5.2 lines must end in CR LF\r\n", "{line:?}");
            assert_eq!(driver.stop, Stop::Closed);
        }
    }
}

#[test]
fn what_our_client_sends_of_hostile_content_is_one_message() {
    for end in ENDS.iter().chain(&["\r\n.\r\n"]) {
        let body = format!("Subject: x\r\n\r\nbody{end}{SECOND}");
        let mut stream = format!("{START}DATA\r\n").into_bytes();
        stuff_into(body.as_bytes(), &mut stream);
        stream.extend_from_slice(b"QUIT\r\n");
        let mut driver = driver();
        driver.send_whole(&stream);
        assert_eq!(driver.messages.len(), 1, "{end:?}: {}", driver.written);
        assert!(driver.written.ends_with("221 2.0.0 bye\r\n"), "{end:?}: {}", driver.written);
    }
}
