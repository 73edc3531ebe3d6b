//! Asks a server that our TLS library cannot talk to what it would have spoken: old versions, old ciphers, plain text.
//!
//! One ClientHello of the old form (RFC 5246 §7.4.1.2, and as RFC 2246 and RFC 4346 servers take it) with everything that
//! was ever common is sent, and the answer is read up to the ServerHello. No key is ever made and nothing else is sent, so
//! nothing secret can leak. For diagnosis only, after a handshake that failed.

use std::time::Duration;

use proto::smtp::reply::escape;
use proto::transcript::Failure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::provider;

/// Most octets of an answer that are read.
const MAX_ANSWER: usize = 20 * 1024;
/// Most octets of a plain text that are kept.
const MAX_TEXT: usize = 200;

/// What a server answered to the old ClientHello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A ServerHello.
    Chosen {
        /// `SSLv2`, `SSLv3`, `TLSv1.0`, `TLSv1.1`, `TLSv1.2` or `TLSv1.3`.
        version: String,
        /// Name of the cipher suite as in the IANA registry, or `0x1234`.
        cipher: String,
    },
    /// An alert.
    Alert {
        /// `handshake_failure`, or `alert 200`.
        description: String,
    },
    /// Plain text instead of TLS.
    Text {
        /// Its first line, escaped, at most 200 octets.
        text: String,
    },
    /// Neither TLS nor text.
    Garbage,
    /// The connection was closed without an answer.
    Closed,
    /// Nothing (or not enough) came in time.
    Silent,
}

impl Answer {
    /// Why the real handshake failed, where this answer tells more than that did.
    ///
    /// A version below 1.2 is [`Failure::TlsVersion`]. The other reasons are [`Failure::TlsHandshake`] and begin with
    /// "the server has only old ciphers" or "the server speaks plain text".
    pub fn failure(&self) -> Option<Failure> {
        match self {
            Self::Chosen { version, .. } if version != "TLSv1.2" && version != "TLSv1.3" => {
                Some(Failure::TlsVersion { offered: version.clone() })
            }
            Self::Chosen { version, cipher } if version == "TLSv1.2" && is_old(cipher) => Some(Failure::TlsHandshake {
                reason: format!("the server has only old ciphers for {version}: {cipher}"),
            }),
            Self::Text { text } => Some(Failure::TlsHandshake {
                reason: format!("the server speaks plain text where TLS was expected: {text}"),
            }),
            _ => None,
        }
    }
}

/// Sends the old ClientHello on a fresh connection (with STARTTLS: after its 220) and reads the answer.
///
/// `limit` is for all of it.
pub async fn ask(tcp: &mut TcpStream, host: &str, limit: Duration) -> Answer {
    let mut flight = Flight::default();
    let asked = tokio::time::timeout(limit, async {
        let mut random = [0; 32];
        // It need not be random, and what the server said before it closed is still to be read.
        let _ = provider().secure_random.fill(&mut random);
        let _ = tcp.write_all(&hello(host, random)).await;
        let mut octets = [0; 2048];
        loop {
            match tcp.read(&mut octets).await {
                Ok(0) | Err(_) => return flight.ended(),
                Ok(count) => {
                    if let Some(answer) = flight.take(&octets[..count]) {
                        return answer;
                    }
                }
            }
        }
    })
    .await;
    match asked {
        Ok(answer) => answer,
        Err(_) if flight.raw.is_empty() => Answer::Silent,
        Err(_) => match flight.ended() {
            Answer::Closed | Answer::Garbage => Answer::Silent,
            answer => answer,
        },
    }
}

/// The server's first octets as they come in.
#[derive(Debug, Default)]
struct Flight {
    /// Octets of a record that is not complete, or of a text.
    raw: Vec<u8>,
    /// Octets of handshake messages.
    handshake: Vec<u8>,
    taken: usize,
}

impl Flight {
    fn take(&mut self, octets: &[u8]) -> Option<Answer> {
        self.raw.extend_from_slice(octets);
        self.taken += octets.len();
        let answer = self.next();
        if answer.is_none() && self.taken > MAX_ANSWER { Some(Answer::Garbage) } else { answer }
    }

    fn next(&mut self) -> Option<Answer> {
        loop {
            let head = *self.raw.first()?;
            if !(0x14..=0x17).contains(&head) {
                return not_tls(&self.raw);
            }
            let [_, major, _, high, low] = *self.raw.first_chunk::<5>()?;
            if major != 3 {
                return Some(Answer::Garbage);
            }
            let length = usize::from(u16::from_be_bytes([high, low]));
            let record = self.raw.get(5..5 + length)?;
            match head {
                0x15 => {
                    return Some(
                        record.get(1).map_or(Answer::Garbage, |code| Answer::Alert { description: alert(*code) }),
                    );
                }
                0x16 => self.handshake.extend_from_slice(record),
                _ => return Some(Answer::Garbage),
            }
            self.raw.drain(..5 + length);
            if let Some(answer) = server_hello(&self.handshake) {
                return Some(answer);
            }
        }
    }

    /// The peer closed.
    fn ended(&self) -> Answer {
        match self.raw.first() {
            _ if !self.handshake.is_empty() => Answer::Garbage,
            None => Answer::Closed,
            Some(_) if is_text(&self.raw) => text(&self.raw),
            Some(_) => Answer::Garbage,
        }
    }
}

/// Plain text once its first line is complete, or the answer of a server that knows SSL 2 only.
fn not_tls(raw: &[u8]) -> Option<Answer> {
    if raw[0] & 0x80 != 0 {
        let old = *raw.get(2)? == 4;
        let chosen = Answer::Chosen { version: "SSLv2".into(), cipher: String::new() };
        return Some(if old { chosen } else { Answer::Garbage });
    }
    if !is_text(raw) {
        return Some(Answer::Garbage);
    }
    (raw.contains(&b'\n') || raw.len() >= MAX_TEXT).then(|| text(raw))
}

fn is_text(raw: &[u8]) -> bool {
    let line = raw.split(|octet| *octet == b'\n').next().unwrap_or_default();
    line.iter().take(MAX_TEXT).all(|octet| matches!(octet, b'\t' | b'\r' | 0x20..=0x7e | 0x80..=0xff))
}

fn text(raw: &[u8]) -> Answer {
    let line = raw.split(|octet| *octet == b'\n').next().unwrap_or_default();
    Answer::Text { text: escape(line.trim_ascii_end(), MAX_TEXT) }
}

/// The ServerHello at the start of the handshake messages; `None` if it is not complete.
fn server_hello(messages: &[u8]) -> Option<Answer> {
    let [kind, a, b, c] = *messages.first_chunk::<4>()?;
    if kind != 2 {
        return Some(Answer::Garbage);
    }
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    if length > MAX_ANSWER {
        return Some(Answer::Garbage);
    }
    let body = messages.get(4..4 + length)?;
    Some(chosen(body).unwrap_or(Answer::Garbage))
}

/// `version random session_id cipher compression extensions`.
fn chosen(body: &[u8]) -> Option<Answer> {
    let mut version = u16::from_be_bytes(*body.first_chunk::<2>()?);
    let session = usize::from(*body.get(34)?);
    let rest = body.get(35 + session..)?;
    let cipher = u16::from_be_bytes(*rest.first_chunk::<2>()?);
    // TLS 1.3 was not offered; a server that chooses it all the same says so in an extension.
    let mut extensions = rest.get(5..).unwrap_or_default();
    while let Some([a, b, c, d]) = extensions.first_chunk::<4>().copied() {
        let Some(value) = extensions.get(4..4 + usize::from(u16::from_be_bytes([c, d]))) else { break };
        if (a, b) == (0, 43)
            && let Some(real) = value.first_chunk::<2>()
        {
            version = u16::from_be_bytes(*real);
        }
        extensions = &extensions[4 + value.len()..];
    }
    let version = match version {
        0x0002 => "SSLv2",
        0x0300 => "SSLv3",
        0x0301 => "TLSv1.0",
        0x0302 => "TLSv1.1",
        0x0303 => "TLSv1.2",
        0x0304 => "TLSv1.3",
        _ => return None,
    };
    let known = CIPHERS.iter().find(|(code, _)| *code == cipher);
    let cipher = known.map_or_else(|| format!("0x{cipher:04x}"), |(_, name)| format!("TLS_{name}"));
    Some(Answer::Chosen { version: version.into(), cipher })
}

/// Whether our library refuses this cipher suite: all but ECDHE with an authenticated cipher.
fn is_old(cipher: &str) -> bool {
    !(cipher.starts_with("TLS_ECDHE_") && (cipher.contains("_GCM_") || cipher.contains("CHACHA20")))
}

fn alert(code: u8) -> String {
    let known = match code {
        0 => "close_notify",
        10 => "unexpected_message",
        20 => "bad_record_mac",
        22 => "record_overflow",
        40 => "handshake_failure",
        42 => "bad_certificate",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        90 => "user_canceled",
        109 => "missing_extension",
        112 => "unrecognized_name",
        116 => "certificate_required",
        120 => "no_application_protocol",
        other => return format!("alert {other}"),
    };
    known.into()
}

/// A ClientHello for TLS 1.2 and everything before it.
fn hello(host: &str, random: [u8; 32]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend(random);
    body.push(0);
    let ciphers: Vec<u8> = CIPHERS.iter().flat_map(|(code, _)| code.to_be_bytes()).chain([0x00, 0xff]).collect();
    with_length(&mut body, &ciphers);
    body.extend([1, 0]);
    let mut extensions = Vec::new();
    let is_name = host.parse::<std::net::IpAddr>().is_err() && !host.starts_with('[') && host.len() <= 255;
    if is_name && !host.is_empty() {
        let mut name = vec![0];
        with_length(&mut name, host.trim_end_matches('.').as_bytes());
        let mut list = Vec::new();
        with_length(&mut list, &name);
        extensions.extend([0, 0]);
        with_length(&mut extensions, &list);
    }
    // Curves: P-256, P-384, P-521, X25519; points uncompressed; signatures from SHA-512 down to SHA-1 and MD5.
    extensions.extend([0, 10, 0, 10, 0, 8, 0, 23, 0, 24, 0, 25, 0, 29]);
    extensions.extend([0, 11, 0, 2, 1, 0]);
    let signatures = [6, 1, 6, 3, 5, 1, 5, 3, 4, 1, 4, 3, 8, 4, 8, 5, 8, 6, 3, 1, 3, 3, 2, 1, 2, 3, 2, 2, 1, 1];
    let mut list = Vec::new();
    with_length(&mut list, &signatures);
    extensions.extend([0, 13]);
    with_length(&mut extensions, &list);
    with_length(&mut body, &extensions);
    let mut message = vec![1, 0];
    with_length(&mut message, &body);
    let mut record = vec![0x16, 3, 1];
    with_length(&mut record, &message);
    record
}

fn with_length(to: &mut Vec<u8>, octets: &[u8]) {
    to.extend(u16::try_from(octets.len()).unwrap_or(u16::MAX).to_be_bytes());
    to.extend(octets);
}

/// Everything that was ever common, without the `TLS_` of the names. Broken ones as well: they are named, never used.
const CIPHERS: &[(u16, &str)] = &[
    (0xc02f, "ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    (0xc030, "ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
    (0xc02b, "ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    (0xc02c, "ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    (0xcca8, "ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
    (0xcca9, "ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    (0xc027, "ECDHE_RSA_WITH_AES_128_CBC_SHA256"),
    (0xc028, "ECDHE_RSA_WITH_AES_256_CBC_SHA384"),
    (0xc023, "ECDHE_ECDSA_WITH_AES_128_CBC_SHA256"),
    (0xc024, "ECDHE_ECDSA_WITH_AES_256_CBC_SHA384"),
    (0xc013, "ECDHE_RSA_WITH_AES_128_CBC_SHA"),
    (0xc014, "ECDHE_RSA_WITH_AES_256_CBC_SHA"),
    (0xc009, "ECDHE_ECDSA_WITH_AES_128_CBC_SHA"),
    (0xc00a, "ECDHE_ECDSA_WITH_AES_256_CBC_SHA"),
    (0xc012, "ECDHE_RSA_WITH_3DES_EDE_CBC_SHA"),
    (0xc008, "ECDHE_ECDSA_WITH_3DES_EDE_CBC_SHA"),
    (0xc011, "ECDHE_RSA_WITH_RC4_128_SHA"),
    (0xc007, "ECDHE_ECDSA_WITH_RC4_128_SHA"),
    (0x009e, "DHE_RSA_WITH_AES_128_GCM_SHA256"),
    (0x009f, "DHE_RSA_WITH_AES_256_GCM_SHA384"),
    (0xccaa, "DHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
    (0x0067, "DHE_RSA_WITH_AES_128_CBC_SHA256"),
    (0x006b, "DHE_RSA_WITH_AES_256_CBC_SHA256"),
    (0x0033, "DHE_RSA_WITH_AES_128_CBC_SHA"),
    (0x0039, "DHE_RSA_WITH_AES_256_CBC_SHA"),
    (0x0032, "DHE_DSS_WITH_AES_128_CBC_SHA"),
    (0x0038, "DHE_DSS_WITH_AES_256_CBC_SHA"),
    (0x0016, "DHE_RSA_WITH_3DES_EDE_CBC_SHA"),
    (0x0013, "DHE_DSS_WITH_3DES_EDE_CBC_SHA"),
    (0x0045, "DHE_RSA_WITH_CAMELLIA_128_CBC_SHA"),
    (0x0088, "DHE_RSA_WITH_CAMELLIA_256_CBC_SHA"),
    (0x009c, "RSA_WITH_AES_128_GCM_SHA256"),
    (0x009d, "RSA_WITH_AES_256_GCM_SHA384"),
    (0x003c, "RSA_WITH_AES_128_CBC_SHA256"),
    (0x003d, "RSA_WITH_AES_256_CBC_SHA256"),
    (0x002f, "RSA_WITH_AES_128_CBC_SHA"),
    (0x0035, "RSA_WITH_AES_256_CBC_SHA"),
    (0x0041, "RSA_WITH_CAMELLIA_128_CBC_SHA"),
    (0x0084, "RSA_WITH_CAMELLIA_256_CBC_SHA"),
    (0x0096, "RSA_WITH_SEED_CBC_SHA"),
    (0x0007, "RSA_WITH_IDEA_CBC_SHA"),
    (0x000a, "RSA_WITH_3DES_EDE_CBC_SHA"),
    (0x0005, "RSA_WITH_RC4_128_SHA"),
    (0x0004, "RSA_WITH_RC4_128_MD5"),
    (0x0009, "RSA_WITH_DES_CBC_SHA"),
    (0x0015, "DHE_RSA_WITH_DES_CBC_SHA"),
    (0x0003, "RSA_EXPORT_WITH_RC4_40_MD5"),
    (0x0008, "RSA_EXPORT_WITH_DES40_CBC_SHA"),
    (0x0018, "DH_anon_WITH_RC4_128_MD5"),
    (0x0034, "DH_anon_WITH_AES_128_CBC_SHA"),
    (0x003a, "DH_anon_WITH_AES_256_CBC_SHA"),
    (0xc018, "ECDH_anon_WITH_AES_128_CBC_SHA"),
    (0xc019, "ECDH_anon_WITH_AES_256_CBC_SHA"),
    (0x0002, "RSA_WITH_NULL_SHA"),
    (0x003b, "RSA_WITH_NULL_SHA256"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(pieces: &[&[u8]]) -> Answer {
        let mut flight = Flight::default();
        pieces.iter().find_map(|piece| flight.take(piece)).unwrap_or_else(|| flight.ended())
    }

    fn server_hello_record(version: [u8; 2], cipher: [u8; 2], extensions: &[u8]) -> Vec<u8> {
        let mut body = version.to_vec();
        body.extend([7; 32]);
        body.extend([0, cipher[0], cipher[1], 0]);
        if !extensions.is_empty() {
            with_length(&mut body, extensions);
        }
        let mut message = vec![2, 0];
        with_length(&mut message, &body);
        let mut record = vec![0x16, 3, 1];
        with_length(&mut record, &message);
        record
    }

    fn chosen(version: &str, cipher: &str) -> Answer {
        Answer::Chosen { version: version.into(), cipher: cipher.into() }
    }

    #[test]
    fn the_version_and_cipher_of_a_server_hello_are_read_however_it_is_cut() {
        let hello = server_hello_record([3, 1], [0, 0x2f], &[]);
        let one_by_one: Vec<&[u8]> = hello.chunks(1).collect();
        assert_eq!(reads(&[&hello]), chosen("TLSv1.0", "TLS_RSA_WITH_AES_128_CBC_SHA"));
        assert_eq!(reads(&one_by_one), chosen("TLSv1.0", "TLS_RSA_WITH_AES_128_CBC_SHA"));
        assert_eq!(reads(&[&server_hello_record([3, 0], [0xff, 0xfe], &[])]), chosen("SSLv3", "0xfffe"));
        let thirteen = server_hello_record([3, 3], [0x13, 1], &[0, 43, 0, 2, 3, 4]);
        assert_eq!(reads(&[&thirteen]), chosen("TLSv1.3", "0x1301"));
    }

    #[test]
    fn plain_text_is_told_from_tls() {
        let text = |text: &str| Answer::Text { text: text.into() };
        assert_eq!(reads(&[b"220 mx.test ", b"ESMTP\r\n250"]), text("220 mx.test ESMTP"));
        assert_eq!(reads(&[b"HTTP/1.1 400 Bad Request\r\n"]), text("HTTP/1.1 400 Bad Request"));
        assert_eq!(reads(&[b"502 what?"]), text("502 what?"));
        assert_eq!(reads(&[&[b'a'; 5000]]), text(&"a".repeat(200)));
    }

    #[test]
    fn an_alert_has_its_name() {
        assert_eq!(reads(&[&[0x15, 3, 1, 0, 2, 2, 70]]), Answer::Alert { description: "protocol_version".into() });
        assert_eq!(reads(&[&[0x15, 3, 1, 0, 2, 2, 200]]), Answer::Alert { description: "alert 200".into() });
        assert_eq!(reads(&[&[0x15, 3, 1, 0, 0]]), Answer::Garbage);
    }

    #[test]
    fn lies_about_lengths_and_endless_answers_end() {
        assert_eq!(reads(&[]), Answer::Closed);
        assert_eq!(reads(&[&[0x16, 3, 1, 0xff, 0xff]]), Answer::Garbage);
        assert_eq!(reads(&[&[0x16, 3, 1, 0, 4, 2, 0xff, 0xff, 0xff]]), Answer::Garbage);
        assert_eq!(reads(&[&[0x16, 3, 1, 0, 5, 2, 0, 0, 1, 3]]), Answer::Garbage);
        assert_eq!(reads(&[&[0x16, 3, 1, 0, 0].repeat(10_000)]), Answer::Garbage);
        assert_eq!(reads(&[&[0, 1, 2]]), Answer::Garbage);
        assert_eq!(reads(&[&[0x80, 1, 4]]), chosen("SSLv2", ""));
    }

    #[test]
    fn only_what_tells_more_than_the_library_is_a_failure() {
        let old = chosen("TLSv1.1", "TLS_RSA_WITH_AES_128_CBC_SHA").failure();
        assert_eq!(old, Some(Failure::TlsVersion { offered: "TLSv1.1".into() }));
        assert_eq!(chosen("TLSv1.2", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256").failure(), None);
        let weak = chosen("TLSv1.2", "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256").failure();
        assert!(
            matches!(weak, Some(Failure::TlsHandshake { reason }) if reason.starts_with("the server has only old ciphers"))
        );
        assert_eq!(Answer::Alert { description: "handshake_failure".into() }.failure(), None);
    }

    #[test]
    fn the_lengths_of_our_hello_add_up() {
        for host in ["mx.example.net", "192.0.2.1", ""] {
            let hello = hello(host, [1; 32]);
            assert_eq!(usize::from(u16::from_be_bytes([hello[3], hello[4]])), hello.len() - 5);
            assert_eq!(usize::from(u16::from_be_bytes([hello[7], hello[8]])), hello.len() - 9);
        }
    }
}
