//! Nothing from before the handshake is known or run after it.

use std::sync::Arc;

use proto::smtp::server::{AuthOffer, SessionFacts, Settings};

use crate::driver::{Driver, Stop};

fn driver() -> Driver {
    let settings = Settings { starttls: true, auth: AuthOffer::Always, ..Settings::new("mail.example") };
    Driver::new(&Arc::new(settings), false)
}

#[test]
fn octets_behind_starttls_close_the_session_unread() {
    let injected = "STARTTLS\r\nEHLO x\r\nMAIL FROM:<evil@example.org>\r\n";
    for cut in 1..=injected.len() {
        let mut driver = driver();
        driver.send_whole(b"EHLO a\r\n");
        driver.take_written();
        driver.send(injected.as_bytes(), &[cut]);
        assert_eq!(driver.stop, Stop::Closed, "cut {cut}");
        assert!(!driver.written.contains("250"), "cut {cut}: {}", driver.written);
        assert!(driver.take_codes().len() <= 1, "cut {cut}");
        driver.tls_started();
        assert_eq!((driver.stop, driver.written.as_str()), (Stop::Closed, ""), "a handshake does not revive it");
    }
}

#[test]
fn the_handshake_wipes_name_credentials_and_transaction() {
    let mut driver = driver();
    driver.send_whole(b"EHLO a\r\nAUTH PLAIN AGFwcABzZWNyZXQ=\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n");
    assert_eq!(driver.machine.session().authenticated.as_deref(), Some("app"));
    driver.send_whole(b"STARTTLS\r\n");
    assert_eq!(driver.stop, Stop::StartTls);
    driver.tls_started();
    assert_eq!(*driver.machine.session(), SessionFacts { tls: true, ..SessionFacts::default() });
    driver.take_written();
    driver.send_whole(b"DATA\r\nRCPT TO:<c@d>\r\nMAIL FROM:<a@b>\r\nAUTH PLAIN AGFwcABzZWNyZXQ=\r\n");
    assert_eq!(driver.take_codes(), [503, 503, 503, 503]);
    driver.send_whole(b"STARTTLS\r\n");
    assert_eq!(driver.take_codes(), [503]);
}

#[test]
fn a_session_shown_for_debugging_shows_no_credentials() {
    let mut driver = driver();
    driver.send_whole(b"EHLO a\r\nAUTH PLAIN AGFwcABzZWNyZX");
    assert!(!format!("{:?}", driver.machine).contains("AGFw"));
    driver.send_whole(b"Q=\r\nNOOP");
    let shown = format!("{:?}", driver.machine);
    assert!(shown.contains("app") && !shown.contains("secret") && !shown.contains("AGFw"), "{shown}");
}

#[test]
fn a_handshake_nobody_asked_for_ends_the_session() {
    let mut driver = driver();
    driver.tls_started();
    assert_eq!(driver.stop, Stop::Closed);
}
