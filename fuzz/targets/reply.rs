//! Replies of a server: the first octet says how the others are cut. No panic, bounded, the same however they are cut,
//! and what was read can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::smtp::capability::Capabilities;
use proto::smtp::reply::{Reply, ReplyReader};

fuzz_target!(|octets: &[u8]| {
    let Some((cut, octets)) = octets.split_first() else { return };
    let replies = read(octets, usize::from(*cut).max(1));
    assert_eq!(replies, read(octets, octets.len().max(1)));
    for reply in replies {
        assert!((200..600).contains(&reply.code) && (1..=100).contains(&reply.lines.len()));
        assert!(!reply.to_string().contains(['\r', '\n', '\x1b', '\0']));
        let _ = (reply.enhanced(), reply.text(), Capabilities::parse(&reply));
        let mut written = Vec::new();
        reply.encode_into(&mut written);
        let again = read(&written, 7);
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].code, reply.code);
    }
});

fn read(octets: &[u8], cut: usize) -> Vec<Reply> {
    let mut reader = ReplyReader::new();
    let mut replies = Vec::new();
    for piece in octets.chunks(cut) {
        reader.push(piece);
        loop {
            match reader.next() {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(bad) => {
                    assert!(bad.text.len() <= 200 && !bad.text.contains(['\r', '\n', '\x1b']));
                    return replies;
                }
            }
        }
    }
    replies
}
