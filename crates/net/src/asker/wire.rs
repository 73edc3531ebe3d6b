//! A question as octets (RFC 1035 §4.1), and what is let through as its answer.

/// What we take over UDP: fits one unfragmented datagram everywhere.
pub(super) const MAX_UDP: usize = 1_232;
const HEADER: usize = 12;
/// Root, type 41, our size, no flags, no options (RFC 6891 §6.1.2).
const OPT: [u8; 11] = [0, 0, 41, (MAX_UDP >> 8) as u8, (MAX_UDP & 0xff) as u8, 0, 0, 0, 0, 0, 0];

/// Whether a server is asked to find the answer elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recursion {
    /// It is.
    Desired,
    /// It says what it has itself.
    No,
}

/// Whether the question says how long an answer may be; some old servers refuse those that do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edns {
    Yes,
    No,
}

/// One question; the id is set when it is sent.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    octets: Vec<u8>,
    /// Where the question section ends.
    end: usize,
}

impl Packet {
    /// `name` is possible in DNS ([`proto::policy::dns::is_possible`]) or empty for the root.
    pub(super) fn new(name: &str, kind: u16, recursion: Recursion, edns: Edns) -> Self {
        let mut octets = Vec::with_capacity(HEADER + name.len() + 6 + OPT.len());
        let flags = if recursion == Recursion::Desired { 1 } else { 0 };
        octets.extend([0, 0, flags, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns == Edns::Yes)]);
        for label in name.split('.').filter(|label| !label.is_empty()) {
            octets.push(u8::try_from(label.len()).unwrap_or(63));
            octets.extend(label.as_bytes());
        }
        octets.push(0);
        octets.extend(kind.to_be_bytes());
        octets.extend([0, 1]);
        let end = octets.len();
        if edns == Edns::Yes {
            octets.extend(OPT);
        }
        Self { octets, end }
    }

    /// As it is sent.
    pub(super) fn with_id(mut self, id: u16) -> Self {
        self.octets[..2].copy_from_slice(&id.to_be_bytes());
        self
    }

    pub(super) fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Whether this may be the answer: a response to just this question. What does not fit is somebody else's, or forged.
    pub(super) fn fits(&self, answer: &[u8]) -> bool {
        let (Some(head), Some(own)) = (answer.get(..HEADER), self.octets.get(HEADER..self.end)) else { return false };
        let is_response = head[2] & 0xf8 == 0x80;
        let same = answer.get(HEADER..self.end).is_some_and(|theirs| theirs.eq_ignore_ascii_case(own));
        // Servers that do not understand a question do not repeat it either.
        let not_understood = head[4..6] == [0, 0] && matches!(head[3] & 15, 1 | 4);
        head[..2] == self.octets[..2] && is_response && ((head[4..6] == [0, 1] && same) || not_understood)
    }
}

/// The id of a packet.
pub(super) fn id(packet: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes([*packet.first()?, *packet.get(1)?]))
}

/// Whether there is more than fitted in.
pub(super) fn is_truncated(answer: &[u8]) -> bool {
    answer.get(2).is_some_and(|flags| flags & 2 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(packet: &Packet) -> Vec<u8> {
        let mut octets = packet.octets().to_vec();
        octets[2] |= 0x80;
        octets
    }

    #[test]
    fn a_question_has_its_labels_and_says_what_it_takes() {
        let packet = Packet::new("_a.example", 16, Recursion::Desired, Edns::Yes).with_id(0x1234);
        let head = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        let body = b"\x02_a\x07example\x00\x00\x10\x00\x01\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";
        assert_eq!(packet.octets(), [&head[..], &body[..]].concat());
        let root = Packet::new("", 6, Recursion::No, Edns::No);
        assert_eq!(root.octets(), b"\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\x06\0\x01");
    }

    #[test]
    fn only_a_response_to_the_same_question_fits() {
        let packet = Packet::new("mail.example", 1, Recursion::Desired, Edns::Yes).with_id(7);
        let good = answer(&packet);
        assert!(packet.fits(&good));
        let mut shouted = good.clone();
        shouted[13..17].make_ascii_uppercase();
        assert!(packet.fits(&shouted), "case does not count");
        for (place, value) in [(0, 1), (2, 0x01), (2, 0x91), (5, 0), (5, 2), (13, b'x'), (27, 16)] {
            let mut wrong = good.clone();
            wrong[place] = value;
            assert!(!packet.fits(&wrong), "{place}");
        }
        assert!(!packet.fits(&good[..20]) && !packet.fits(&[]));
        let refusal = [0, 7, 0x81, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(packet.fits(&refusal), "FORMERR without the question");
    }
}
