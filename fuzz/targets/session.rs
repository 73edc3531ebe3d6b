//! A whole server session. The first octet chooses the listener's settings, the second how the others are cut, and the
//! peer's answers depend on what it is asked. A message needs MAIL and RCPT accepted in its own transaction, and where the octets are
//! cut makes no difference.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use proto::smtp::reply::Reply;
use proto::smtp::server::{AuthOffer, Event, Server, Settings};

fuzz_target!(|octets: &[u8]| {
    let [choice, cut, octets @ ..] = octets else { return };
    let settings = Arc::new(settings(*choice));
    let in_pieces = run(&settings, octets, usize::from(*cut).max(1));
    // A handshake is where a cut matters: whatever follows in the same read is an attack.
    if !settings.starttls {
        assert_eq!(in_pieces, run(&settings, octets, octets.len().max(1)));
    }
});

fn settings(choice: u8) -> Settings {
    let on = |bit: u8| choice & (1 << bit) != 0;
    Settings {
        max_size: if on(0) { 100 } else { 0 },
        max_recipients: 3,
        max_commands: if on(1) { 20 } else { 1000 },
        max_errors: if on(1) { 5 } else { 1000 },
        auth: if on(2) { AuthOffer::Always } else { AuthOffer::UnderTls },
        require_auth: on(3),
        starttls: on(4),
        require_tls: on(4) && on(5),
        xclient: on(6),
        ..Settings::new("mail.example")
    }
}

/// Everything written, and the messages taken.
fn run(settings: &Arc<Settings>, octets: &[u8], cut: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut server = Server::new(Arc::clone(settings), false);
    server.greet(None);
    let mut written = Vec::new();
    let mut messages = Vec::new();
    let mut accepted: Option<usize> = None;
    for piece in octets.chunks(cut) {
        server.receive(piece);
        loop {
            let answer = match server.poll() {
                Event::NeedInput => break,
                Event::Close => {
                    written.append(server.output());
                    check_lines(&written);
                    return (written, messages);
                }
                Event::StartTls => {
                    accepted = None;
                    server.tls_started();
                    continue;
                }
                Event::Authenticate(found) => verdict(found.username.as_bytes(), 235),
                Event::Mail(path, _) => {
                    let reply = verdict(path.to_string().as_bytes(), 250);
                    if reply.is_positive() {
                        accepted = Some(0);
                    }
                    reply
                }
                Event::Recipient(recipient) => {
                    let reply = verdict(recipient.address.as_str().as_bytes(), 250);
                    if reply.is_positive() {
                        accepted = Some(accepted.expect("RCPT only within a transaction") + 1);
                    }
                    reply
                }
                Event::Message(envelope, content) => {
                    let recipients = accepted.take().expect("a message only within a transaction");
                    assert!(
                        recipients > 0 && envelope.recipients.len() <= recipients && !envelope.recipients.is_empty()
                    );
                    assert!(settings.max_size == 0 || content.octets.len() as u64 <= settings.max_size);
                    let reply = verdict(&content.octets, 250);
                    messages.push(content.octets);
                    reply
                }
                Event::XClient(_) => server.greeting(),
            };
            server.answer(answer);
            if server.idle() {
                accepted = None;
            }
        }
        written.append(server.output());
        assert!(settings.max_size == 0 || server.content_len() as u64 <= settings.max_size);
    }
    check_lines(&written);
    (written, messages)
}

fn verdict(asked: &[u8], yes: u16) -> Reply {
    match asked.iter().fold(0u8, |sum, octet| sum.wrapping_add(*octet)) % 8 {
        0 => Reply::new(550, "5.7.1 no"),
        1 => Reply::new(451, "4.3.0 later"),
        _ => Reply::new(yes, "2.0.0 yes"),
    }
}

fn check_lines(written: &[u8]) {
    for line in written.split_inclusive(|octet| *octet == b'\n') {
        let text = line.strip_suffix(b"\r\n").expect("every reply line ends in CR LF");
        assert!(text.len() <= 510 && text.iter().all(|octet| (b' '..=b'~').contains(octet)));
    }
}
