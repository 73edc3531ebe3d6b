//! NTLM as a client (MS-NLMP): what Exchange asks for inside a company.
//!
//! Version 2, without session security: SMTP goes on in the clear or under TLS, so no key is ever exchanged. Servers that know
//! version 1 only (Exim) get that where nobody else can read it: its answer can be turned back into the password's hash.

use des::Des;
use des::cipher::{BlockCipherEncrypt, KeyInit};
use md4::{Digest, Md4};
use secrecy::ExposeSecret;
use secrecy::zeroize::Zeroizing;

use super::client::{ClientError, Parameters};
use super::cram_md5::hmac_md5;

const NAME: &str = "NTLM";
const SIGNATURE: &[u8; 8] = b"NTLMSSP\0";
const UNICODE: u32 = 0x1;
const TARGET_INFO: u32 = 0x0080_0000;
const SESSION_SECURITY: u32 = 0x0008_0000;
/// Unicode or OEM, request target, NTLM, always sign, extended session security, target info, 128 and 56 bits.
const FLAGS: u32 = 0x1 | 0x2 | 0x4 | 0x200 | 0x8000 | 0x0008_0000 | TARGET_INFO | 0x2000_0000 | 0x8000_0000;
/// Seconds from 1601 to 1970.
const EPOCH_S: i64 = 11_644_473_600;
/// Octets before the payload of AUTHENTICATE with version and integrity code.
const HEAD: usize = 88;
/// Where the integrity code is.
const MIC: std::ops::Range<usize> = 72..88;

/// Attributes of the server's target information.
const AV_END: u16 = 0;
const AV_FLAGS: u16 = 6;
const AV_TIME: u16 = 7;
/// AV_FLAGS: an integrity code is there.
const HAS_MIC: u32 = 2;

/// NEGOTIATE, without domain and workstation.
pub(super) const NEGOTIATE: [u8; 32] = {
    let mut message = [0; 32];
    let mut at = 0;
    while at < 8 {
        message[at] = SIGNATURE[at];
        at += 1;
    }
    message[8] = 1;
    let flags = FLAGS.to_le_bytes();
    let mut at = 0;
    while at < 4 {
        message[12 + at] = flags[at];
        at += 1;
    }
    message
};

/// AUTHENTICATE, the answer to a CHALLENGE.
pub(super) fn authenticate(challenge: &[u8], parameters: &Parameters) -> Result<Zeroizing<Vec<u8>>, ClientError> {
    let server = Challenge::parse(challenge).ok_or(ClientError::Malformed(NAME, "no challenge message"))?;
    let (domain, user) = identity(&parameters.username);
    if server.information.is_empty() && parameters.secluded {
        let hash = password_hash(parameters.secret.expose_secret());
        let response = version_1(&hash, &server.nonce);
        let text = |text: &str| server.text(text);
        return layout(
            &[vec![0; 24], response.to_vec(), text(domain), text(user), Vec::new(), Vec::new()],
            server.flags & FLAGS & !SESSION_SECURITY,
        );
    }
    let (information, time) = match server.time() {
        Some(time) => (server.with_mic_flag(), time),
        None => (server.information.clone(), file_time(parameters.now_ms)),
    };
    let key = response_key(parameters.secret.expose_secret(), user, domain);
    let answer = Answer::new(&key, &server.nonce, &parameters.challenge, time, &information);
    let mic = server.time().is_some();
    // MS-NLMP 3.1.5.1.2: with a time of the server's there is no LM response.
    let lm = if mic { vec![0; 24] } else { answer.lm };
    let text = |text: &str| server.text(text);
    let parts = [lm, answer.nt, text(domain), text(user), Vec::new(), Vec::new()];
    let mut message = layout(&parts, server.flags & FLAGS)?;
    if mic {
        let code = hmac_md5(&*answer.session_key, &[&NEGOTIATE, challenge, &message]);
        message[MIC].copy_from_slice(&code);
    }
    Ok(message)
}

/// Header, then the parts, each told by its length and place: LM, NT, domain, user, workstation, session key.
fn layout(parts: &[Vec<u8>; 6], flags: u32) -> Result<Zeroizing<Vec<u8>>, ClientError> {
    let mut message = Zeroizing::new(SIGNATURE.to_vec());
    message.extend(3_u32.to_le_bytes());
    let mut offset = HEAD;
    for part in parts {
        let too_long = |_| ClientError::Malformed(NAME, "too long");
        let length = u16::try_from(part.len()).map_err(too_long)?.to_le_bytes();
        message.extend(length);
        message.extend(length);
        message.extend(u32::try_from(offset).map_err(too_long)?.to_le_bytes());
        offset += part.len();
    }
    message.extend(flags.to_le_bytes());
    message.resize(HEAD, 0);
    for part in parts {
        message.extend(part);
    }
    Ok(message)
}

/// `DOMAIN\user` has a domain of its own; `user@domain` is a user principal name, which is sent whole.
fn identity(username: &str) -> (&str, &str) {
    username.split_once('\\').unwrap_or(("", username))
}

/// A CHALLENGE.
#[derive(Debug)]
struct Challenge {
    flags: u32,
    nonce: [u8; 8],
    information: Vec<u8>,
}

impl Challenge {
    fn parse(message: &[u8]) -> Option<Self> {
        let nonce = <[u8; 8]>::try_from(message.get(24..32)?).ok()?;
        if message.get(..8)? != SIGNATURE || message.get(8..12)? != 2_u32.to_le_bytes() {
            return None;
        }
        let flags = u32::from_le_bytes(message.get(20..24)?.try_into().ok()?);
        let mut information = Vec::new();
        if flags & TARGET_INFO != 0 {
            let [a, b, _, _, place @ ..] = *message.get(40..48)?.first_chunk::<8>()?;
            let offset = usize::try_from(u32::from_le_bytes(place)).ok()?;
            let end = offset.checked_add(usize::from(u16::from_le_bytes([a, b])))?;
            information.extend_from_slice(message.get(offset..end)?);
        }
        Some(Self { flags, nonce, information })
    }

    /// A name as the server wants it.
    fn text(&self, text: &str) -> Vec<u8> {
        if self.flags & UNICODE == 0 { text.as_bytes().to_vec() } else { utf16(text) }
    }

    /// The attributes before the end mark.
    fn attributes(&self) -> impl Iterator<Item = (u16, &[u8])> {
        let mut rest = self.information.as_slice();
        std::iter::from_fn(move || {
            let [a, b, c, d] = *rest.first_chunk::<4>()?;
            let id = u16::from_le_bytes([a, b]);
            let value = rest.get(4..4 + usize::from(u16::from_le_bytes([c, d])))?;
            rest = &rest[4 + value.len()..];
            (id != AV_END).then_some((id, value))
        })
    }

    fn time(&self) -> Option<u64> {
        let time = self.attributes().find(|(id, _)| *id == AV_TIME)?.1;
        time.try_into().ok().map(u64::from_le_bytes)
    }

    /// The attributes, and that an integrity code follows.
    fn with_mic_flag(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.information.len() + 8);
        let mut flags = HAS_MIC;
        for (id, value) in self.attributes() {
            if id == AV_FLAGS {
                flags |= value.try_into().map_or(0, u32::from_le_bytes);
                continue;
            }
            put(&mut out, id, value);
        }
        put(&mut out, AV_FLAGS, &flags.to_le_bytes());
        put(&mut out, AV_END, &[]);
        out
    }
}

fn put(out: &mut Vec<u8>, id: u16, value: &[u8]) {
    out.extend(id.to_le_bytes());
    out.extend(u16::try_from(value.len()).unwrap_or(0).to_le_bytes());
    out.extend(value);
}

/// The responses of version 2 (MS-NLMP 3.3.2).
struct Answer {
    lm: Vec<u8>,
    nt: Vec<u8>,
    session_key: Zeroizing<[u8; 16]>,
}

impl Answer {
    fn new(key: &[u8; 16], server: &[u8; 8], client: &[u8; 8], time: u64, information: &[u8]) -> Self {
        let mut blob = vec![1, 1, 0, 0, 0, 0, 0, 0];
        blob.extend(time.to_le_bytes());
        blob.extend(client);
        blob.extend([0; 4]);
        blob.extend(information);
        blob.extend([0; 4]);
        let proof = hmac_md5(key, &[server, &blob]);
        let lm = [&hmac_md5(key, &[server, client])[..], client].concat();
        Self { lm, session_key: Zeroizing::new(hmac_md5(key, &[&proof])), nt: [&proof[..], &blob].concat() }
    }
}

/// `NTOWFv2`.
fn response_key(password: &str, user: &str, domain: &str) -> Zeroizing<[u8; 16]> {
    Zeroizing::new(hmac_md5(&*password_hash(password), &[&utf16(&(user.to_uppercase() + domain))]))
}

/// `NTOWFv1`.
fn password_hash(password: &str) -> Zeroizing<[u8; 16]> {
    let password = Zeroizing::new(utf16(password));
    Zeroizing::new(Md4::digest(&*password).into())
}

/// `DESL` of the hash and the challenge (MS-NLMP 3.3.1): three times seven octets of it as keys.
fn version_1(hash: &[u8; 16], challenge: &[u8; 8]) -> [u8; 24] {
    let mut keys = Zeroizing::new([0; 21]);
    keys[..16].copy_from_slice(hash);
    let mut response = [0; 24];
    for (key, out) in keys.chunks_exact(7).zip(response.chunks_exact_mut(8)) {
        let bits = key.iter().fold(0_u64, |bits, octet| bits << 8 | u64::from(*octet));
        // Seven bits in each octet; the last one is for parity and not looked at.
        let mut spread = Zeroizing::new([0_u8; 8]);
        for (at, octet) in spread.iter_mut().enumerate() {
            *octet = ((bits >> (49 - 7 * at)) as u8 & 0x7f) << 1;
        }
        let mut block = (*challenge).into();
        Des::new((&*spread).into()).encrypt_block(&mut block);
        out.copy_from_slice(&block);
    }
    response
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// Tenths of a microsecond since 1601.
fn file_time(now_ms: i64) -> u64 {
    u64::try_from(now_ms.saturating_add(EPOCH_S * 1000)).unwrap_or(0).saturating_mul(10_000)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use secrecy::SecretString;

    use super::*;

    fn hex(octets: &[u8]) -> String {
        octets.iter().fold(String::new(), |mut text, octet| {
            let _ = write!(text, "{octet:02x}");
            text
        })
    }

    const SERVER: [u8; 8] = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];

    fn information(time: Option<u64>) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, 2, &utf16("Domain"));
        put(&mut out, 1, &utf16("Server"));
        if let Some(time) = time {
            put(&mut out, AV_TIME, &time.to_le_bytes());
        }
        put(&mut out, AV_END, &[]);
        out
    }

    fn challenge(flags: u32, information: &[u8]) -> Vec<u8> {
        let mut message = SIGNATURE.to_vec();
        message.extend(2_u32.to_le_bytes());
        message.extend([0; 8]);
        message.extend(flags.to_le_bytes());
        message.extend(SERVER);
        message.extend([0; 8]);
        let length = u16::try_from(information.len()).unwrap().to_le_bytes();
        message.extend([length, length].concat());
        message.extend(48_u32.to_le_bytes());
        message.extend(information);
        message
    }

    fn parameters(username: &str) -> Parameters {
        Parameters { challenge: [0xaa; 8], ..Parameters::new(username, &SecretString::from("Password")) }
    }

    /// A part of AUTHENTICATE by the place of its length.
    fn part(message: &[u8], at: usize) -> &[u8] {
        let length = usize::from(u16::from_le_bytes([message[at], message[at + 1]]));
        let offset = u32::from_le_bytes(message[at + 4..at + 8].try_into().unwrap()) as usize;
        &message[offset..offset + length]
    }

    #[test]
    fn the_example_of_ms_nlmp_4_2_4() {
        let key = response_key("Password", "User", "Domain");
        assert_eq!(hex(&*key), "0c868a403bfd7a93a3001ef22ef02e3f");
        let answer = Answer::new(&key, &SERVER, &[0xaa; 8], 0, &information(None));
        assert_eq!(hex(&answer.nt[..16]), "68cd0ab851e51c96aabc927bebef6a1c");
        assert_eq!(hex(&answer.lm), "86c35097ac9cec102554764a57cccc19aaaaaaaaaaaaaaaa");
        assert_eq!(hex(&*answer.session_key), "8de40ccadbc14a82f15cb0ad0de95ca3");
    }

    #[test]
    fn the_example_of_ms_nlmp_4_2_2_is_for_links_that_nobody_reads() {
        let hash = password_hash("Password");
        assert_eq!(hex(&*hash), "a4f49c406510bdcab6824ee7c30fd852");
        let response = version_1(&hash, &SERVER);
        assert_eq!(hex(&response), "67c43011f30298a2ad35ece64f16331c44bdbed927841f94");
        for (secluded, length) in [(true, 24), (false, 48)] {
            let parameters = Parameters { secluded, ..parameters("Domain\\User") };
            let message = authenticate(&challenge(0x8201, &[]), &parameters).unwrap();
            assert_eq!(part(&message, 20).len(), length);
            let modern = authenticate(&challenge(FLAGS, &information(None)), &parameters).unwrap();
            assert!(part(&modern, 20).len() > 48, "version 2 wherever the server can");
        }
    }

    #[test]
    fn domain_and_principal_name_are_told_apart() {
        for (username, domain, user) in
            [("Domain\\User", "Domain", "User"), ("user@example.net", "", "user@example.net"), ("user", "", "user")]
        {
            let message = authenticate(&challenge(FLAGS, &information(None)), &parameters(username)).unwrap();
            assert_eq!(part(&message, 28), utf16(domain), "{username}");
            assert_eq!(part(&message, 36), utf16(user), "{username}");
        }
        let oem = authenticate(&challenge(FLAGS & !UNICODE, &information(None)), &parameters("D\\u")).unwrap();
        assert_eq!((part(&oem, 28), part(&oem, 36)), (&b"D"[..], &b"u"[..]));
    }

    #[test]
    fn a_server_that_tells_its_time_gets_an_integrity_code() {
        let time = 0x01d9_0000_0000_0001_u64;
        let sent = challenge(FLAGS, &information(Some(time)));
        let mut message = authenticate(&sent, &parameters("Domain\\User")).unwrap();
        assert_eq!(part(&message, 12), [0; 24]);
        let nt = part(&message, 20).to_vec();
        assert_eq!(nt[24..32], time.to_le_bytes());
        assert!(nt.windows(8).any(|octets| octets == [6, 0, 4, 0, 2, 0, 0, 0]), "the flag is there");
        let code = message[MIC].to_vec();
        message[MIC].fill(0);
        let key = response_key("Password", "User", "Domain");
        let session = hmac_md5(&*key, &[&nt[..16]]);
        assert_eq!(code, hmac_md5(&session, &[&NEGOTIATE, &sent, &message]));
    }

    #[test]
    fn without_a_time_ours_is_taken() {
        assert_eq!(file_time(0), 116_444_736_000_000_000);
        let message = authenticate(&challenge(FLAGS, &information(None)), &parameters("u")).unwrap();
        assert_eq!(part(&message, 20)[24..32], file_time(0).to_le_bytes());
        assert_eq!(message[MIC], [0; 16]);
        let bare = authenticate(&challenge(0x201, &[]), &parameters("u")).unwrap();
        assert_eq!(part(&bare, 20).len(), 16 + 28 + 4);
    }

    #[test]
    fn rubbish_is_no_challenge() {
        let good = challenge(FLAGS, &information(None));
        for length in 0..good.len() {
            assert!(authenticate(&good[..length], &parameters("u")).is_err(), "{length}");
        }
        let mut wrong = good.clone();
        wrong[44..48].fill(0xff);
        assert!(authenticate(&wrong, &parameters("u")).is_err());
        let mut wrong = good;
        wrong[50] = 0xff;
        wrong[51] = 0xff;
        assert!(authenticate(&wrong, &parameters("u")).is_ok(), "attributes that lie are left out");
    }
}
