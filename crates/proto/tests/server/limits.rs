//! What the driver can do to a session from outside, and that memory follows what came, not what was claimed.

use std::sync::Arc;

use proto::smtp::reply::Reply;
use proto::smtp::server::{AuthOffer, Event, Server, Settings};

use crate::driver::{Driver, Stop};

const START: &[u8] = b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n";

fn driver() -> Driver {
    let settings = Settings {
        max_size: 1_000,
        max_errors: 3,
        max_commands: 10,
        max_recipients: 20,
        ..Settings::new("mail.example")
    };
    let mut driver = Driver::new(&Arc::new(settings), false);
    driver.take_written();
    driver
}

#[test]
fn a_refused_connection_gets_the_reason_and_is_closed() {
    let mut machine = Server::new(Arc::new(Settings::new("mail.example")), false);
    machine.greet(Some(Reply::new(421, "4.7.0 too many connections")));
    assert!(matches!(machine.poll(), Event::Close));
    assert_eq!(machine.output(), b"421 4.7.0 too many connections\r\n");
    machine.receive(START);
    assert!(matches!(machine.poll(), Event::Close));
}

#[test]
fn content_can_be_refused_while_it_arrives() {
    for (command, rest) in [("DATA\r\nabc\r\n", "more\r\n.\r\n"), ("BDAT 11 LAST\r\nabc\r\n", "more\r\n")] {
        let mut driver = driver();
        driver.send_whole(START);
        driver.send_whole(command.as_bytes());
        driver.take_written();
        assert!(driver.machine.in_content() && driver.machine.content_len() == 5 && !driver.machine.idle());
        driver.machine.refuse_content(Reply::new(452, "4.3.1 no room"));
        assert_eq!(driver.machine.content_len(), 0);
        driver.send_whole(rest.as_bytes());
        assert_eq!(driver.take_written(), "452 4.3.1 no room\r\n", "{command}");
        assert!(driver.machine.idle() && driver.messages.is_empty());
        driver.machine.refuse_content(Reply::new(452, "4.3.1 no room"));
        driver.send_whole(b"NOOP\r\n");
        assert_eq!(driver.take_codes(), [250], "a refusal without content is ignored");
    }
}

#[test]
fn content_over_the_limit_is_dropped_as_it_comes() {
    let mut driver = driver();
    driver.send_whole(START);
    driver.send_whole(b"DATA\r\n");
    for _ in 0..1000 {
        driver.send_whole(b"0123456789012345678901234567890123456789\r\n");
        assert!(driver.machine.content_len() <= 1_000);
    }
    driver.take_written();
    driver.send_whole(b".\r\nNOOP\r\n");
    assert_eq!(driver.take_codes(), [552, 250]);
}

#[test]
fn silence_is_answered_and_ends_the_session_wherever_it_was() {
    for octets in [&b""[..], b"EHLO", START, b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nabc"] {
        let mut driver = driver();
        driver.send(octets, &[4096]);
        driver.take_written();
        driver.machine.timeout();
        driver.run();
        assert_eq!((driver.stop, driver.take_codes()), (Stop::Closed, vec![421]));
        driver.machine.timeout();
        driver.run();
        assert_eq!(driver.take_written(), "", "said once");
    }
}

#[test]
fn shutdown_lets_a_transaction_finish() {
    let mut driver = driver();
    driver.send_whole(START);
    driver.take_written();
    driver.machine.shutdown();
    driver.run();
    assert_eq!((driver.stop, driver.written.as_str()), (Stop::NeedInput, ""));
    driver.send_whole(b"DATA\r\nabc\r\n.\r\nMAIL FROM:<a@b>\r\n");
    assert_eq!((driver.take_codes(), driver.messages.len(), driver.stop), (vec![354, 250, 421], 1, Stop::Closed));
}

#[test]
fn shutdown_ends_an_idle_session_at_once() {
    for octets in [&b"NOOP\r\n"[..], b"EHLO a\r\n", b"RSET\r\nNO"] {
        let mut driver = driver();
        driver.send_whole(octets);
        driver.take_written();
        assert!(driver.machine.idle());
        driver.machine.shutdown();
        driver.run();
        assert_eq!((driver.stop, driver.take_codes()), (Stop::Closed, vec![421]));
    }
}

#[test]
fn an_answer_of_421_ends_the_session() {
    let mut driver = driver();
    driver.send_whole(b"EHLO a\r\nMAIL FROM:<hangup@b>\r\nRCPT TO:<c@d>\r\n");
    assert_eq!((driver.take_codes(), driver.stop), (vec![250, 421], Stop::Closed));
}

#[test]
fn an_answer_to_no_question_is_ignored() {
    let mut driver = driver();
    driver.machine.answer(Reply::new(250, "2.0.0 ok"));
    driver.run();
    assert_eq!((driver.stop, driver.written.as_str()), (Stop::NeedInput, ""));
}

#[test]
fn errors_and_commands_are_counted_until_a_message_is_accepted() {
    let mut driver = driver();
    let message = [START, b"DATA\r\nabc\r\n.\r\n"].concat();
    for _ in 0..5 {
        driver.send_whole(b"X\r\nX\r\nX\r\n");
        driver.send(&message, &[4096]);
    }
    assert_eq!(driver.messages.len(), 5);
    driver.take_written();
    driver.send_whole(b"X\r\nX\r\nX\r\nX\r\nX\r\n");
    assert_eq!((driver.take_codes(), driver.stop), (vec![500, 500, 500, 500, 421], Stop::Closed));
}

#[test]
fn accepted_recipients_do_not_count_as_commands() {
    let mut driver = driver();
    driver.send_whole(START);
    for _ in 0..15 {
        driver.send_whole(b"RCPT TO:<c@d>\r\n");
    }
    driver.send_whole(b"DATA\r\nabc\r\n.\r\n");
    assert_eq!(driver.messages[0].0.recipients.len(), 16);
    driver.take_written();
    driver.send_whole(&b"NOOP\r\n".repeat(11));
    assert_eq!((driver.take_codes().last(), driver.stop), (Some(&421), Stop::Closed));
}

#[test]
fn an_endless_line_takes_no_memory_and_is_answered_once() {
    let mut driver = driver();
    for _ in 0..1000 {
        driver.send_whole(&[b'x'; 1000]);
    }
    driver.send_whole(b"\r\nNOOP\r\n");
    assert_eq!(driver.take_codes(), [500, 250]);
}

#[test]
fn an_authentication_line_is_as_long_as_rfc_4954_allows_and_no_longer() {
    let settings = Arc::new(Settings { auth: AuthOffer::Always, ..Settings::new("mail.example") });
    for (length, code) in [(12_288_usize, 535), (12_289, 500), (20_000, 500), (40_000, 500)] {
        let line = format!("{}\r\n", "A".repeat(length));
        for cut in [1, 1000, length, length + 1, length + 2] {
            let mut driver = Driver::new(&settings, false);
            driver.send_whole(b"EHLO a\r\nAUTH PLAIN\r\n");
            driver.take_written();
            driver.send(line.as_bytes(), &[cut]);
            driver.send_whole(b"NOOP\r\n");
            assert_eq!(driver.take_codes(), [code, 250], "{length} cut {cut}");
        }
    }
}
