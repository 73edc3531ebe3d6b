//! SCRAM (RFC 5802, RFC 7677): both sides prove that they know the password, and neither sends it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::ExposeSecret;
use secrecy::zeroize::Zeroizing;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::client::{ClientError, Parameters};
use super::prepare::prepare;
use crate::smtp::reply::escape;

/// Most rounds of hashing that we do for a server: about a second.
const MAX_ITERATIONS: u32 = 1_000_000;
/// Longest salt, octets.
const MAX_SALT: usize = 1024;

type Octets = Zeroizing<Vec<u8>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Sha1,
    Sha256,
}

impl Hash {
    fn hmac(self, key: &[u8], text: &[u8]) -> Octets {
        match self {
            Self::Sha1 => mac::<Hmac<Sha1>>(key, text),
            Self::Sha256 => mac::<Hmac<Sha256>>(key, text),
        }
    }

    fn digest(self, text: &[u8]) -> Octets {
        Zeroizing::new(match self {
            Self::Sha1 => Sha1::digest(text).to_vec(),
            Self::Sha256 => Sha256::digest(text).to_vec(),
        })
    }

    fn stretch(self, password: &[u8], salt: &[u8], iterations: u32) -> Octets {
        let mut key = Zeroizing::new(vec![0; if self == Self::Sha1 { 20 } else { 32 }]);
        match self {
            Self::Sha1 => pbkdf2::pbkdf2_hmac::<Sha1>(password, salt, iterations, &mut key),
            Self::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut key),
        }
        key
    }
}

fn mac<M: Mac + KeyInit>(key: &[u8], text: &[u8]) -> Octets {
    // A key of any length is taken.
    let Ok(mut mac) = <M as KeyInit>::new_from_slice(key) else { return Zeroizing::new(Vec::new()) };
    mac.update(text);
    Zeroizing::new(mac.finalize().into_bytes().to_vec())
}

/// An exchange after its first message.
pub(super) struct Scram {
    hash: Hash,
    password: Zeroizing<String>,
    nonce: String,
    /// The first message without the part about channel binding.
    first: String,
    /// base64 of that part and the binding's octets.
    binding: String,
    state: State,
}

enum State {
    /// The server's first message is due.
    First,
    /// The server's proof is due, and is this.
    Last(Octets),
    Proven,
}

impl std::fmt::Debug for Scram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scram").field("hash", &self.hash).finish_non_exhaustive()
    }
}

impl Scram {
    /// The exchange and its first message.
    pub(super) fn start(hash: Hash, bound: bool, parameters: &Parameters) -> (Self, String) {
        // "y": we could, and the server did not offer it; a server that did then knows that somebody took the offer out.
        let (header, data) = match (&parameters.binding, bound) {
            (Some(binding), true) => (format!("p={},,", binding.name), binding.data.as_slice()),
            (Some(_), false) if !parameters.binding_offered => ("y,,".to_owned(), &[][..]),
            _ => ("n,,".to_owned(), &[][..]),
        };
        let username = prepare(&parameters.username).replace('=', "=3D").replace(',', "=2C");
        let first = format!("n={username},r={}", parameters.nonce);
        let message = format!("{header}{first}");
        let scram = Self {
            hash,
            password: prepare(parameters.secret.expose_secret()),
            nonce: parameters.nonce.clone(),
            first,
            binding: STANDARD.encode([header.as_bytes(), data].concat()),
            state: State::First,
        };
        (scram, message)
    }

    pub(super) fn is_proven(&self) -> bool {
        matches!(self.state, State::Proven)
    }

    /// The answer to a message of the server.
    pub(super) fn step(&mut self, name: &'static str, message: &[u8]) -> Result<Octets, ClientError> {
        let message = std::str::from_utf8(message).map_err(|_| ClientError::Malformed(name, "not UTF-8"))?;
        if let Some(error) = attribute(message, "e=") {
            return Err(ClientError::Server(escape(error.as_bytes(), 100)));
        }
        match &self.state {
            State::First => self.prove(name, message),
            State::Last(expected) => {
                let proof = attribute(message, "v=").and_then(|proof| STANDARD.decode(proof).ok()).unwrap_or_default();
                if !bool::from(expected.as_slice().ct_eq(&proof)) {
                    return Err(ClientError::NotProven);
                }
                self.state = State::Proven;
                Ok(Octets::default())
            }
            State::Proven => Err(ClientError::TooMany(name)),
        }
    }

    fn prove(&mut self, name: &'static str, server: &str) -> Result<Octets, ClientError> {
        let malformed = |what| ClientError::Malformed(name, what);
        if server.starts_with("m=") {
            return Err(malformed("an extension that we do not know is required"));
        }
        let nonce = attribute(server, "r=").ok_or(malformed("no nonce"))?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(malformed("the nonce is not ours"));
        }
        let salt = attribute(server, "s=").and_then(|salt| STANDARD.decode(salt).ok());
        let salt = salt.filter(|salt| (1..=MAX_SALT).contains(&salt.len())).ok_or(malformed("no salt"))?;
        let iterations: u32 =
            attribute(server, "i=").and_then(|count| count.parse().ok()).ok_or(malformed("no iteration count"))?;
        if iterations == 0 {
            return Err(malformed("no iterations"));
        }
        if iterations > MAX_ITERATIONS {
            return Err(ClientError::Iterations(iterations));
        }
        let hash = self.hash;
        let salted = hash.stretch(self.password.as_bytes(), &salt, iterations);
        let client_key = hash.hmac(&salted, b"Client Key");
        let last = format!("c={},r={nonce}", self.binding);
        let all = format!("{},{server},{last}", self.first);
        let signature = hash.hmac(&hash.digest(&client_key), all.as_bytes());
        let proof: Octets = Zeroizing::new(client_key.iter().zip(signature.iter()).map(|(a, b)| a ^ b).collect());
        self.state = State::Last(hash.hmac(&hash.hmac(&salted, b"Server Key"), all.as_bytes()));
        Ok(Zeroizing::new(format!("{last},p={}", STANDARD.encode(&*proof)).into_bytes()))
    }
}

/// The value of an attribute (`r=`).
fn attribute<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    message.split(',').find_map(|part| part.strip_prefix(name))
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::smtp::sasl::client::Binding;

    fn parameters(nonce: &str) -> Parameters {
        Parameters { nonce: nonce.into(), ..Parameters::new("user", &SecretString::from("pencil")) }
    }

    const SHA1: (&str, &str, &str) = (
        "fyko+d2lbbFgONRv9qkxdawL",
        "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
    );

    #[test]
    fn the_examples_of_the_rfcs() {
        let (nonce, server, answer) = SHA1;
        let (mut scram, first) = Scram::start(Hash::Sha1, false, &parameters(nonce));
        assert_eq!(first, "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL");
        assert_eq!(scram.step("", server.as_bytes()).unwrap().as_slice(), answer.as_bytes());
        assert!(!scram.is_proven());
        assert!(scram.step("", b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=").unwrap().is_empty());
        assert!(scram.is_proven());
        assert_eq!(scram.step("X", b"v=AA=="), Err(ClientError::TooMany("X")));

        let (mut scram, _) = Scram::start(Hash::Sha256, false, &parameters("rOprNGfwEbeRWgbNEkqO"));
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let answer = scram.step("", format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096").as_bytes()).unwrap();
        let expected = format!("c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        assert_eq!(answer.as_slice(), expected.as_bytes());
        assert!(scram.step("", b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").is_ok());
    }

    #[test]
    fn the_header_says_what_is_known_of_channel_binding() {
        let binding = Some(Binding { name: "tls-exporter", data: vec![1, 2, 3] });
        for (binding, offered, bound, header) in [
            (None, false, false, "n,,"),
            (None, true, false, "n,,"),
            (binding.clone(), false, false, "y,,"),
            (binding.clone(), true, false, "n,,"),
            (binding, true, true, "p=tls-exporter,,"),
        ] {
            let data: &[u8] = if bound { &[1, 2, 3] } else { &[] };
            let parameters = Parameters { binding, binding_offered: offered, ..parameters("abc") };
            let (scram, first) = Scram::start(Hash::Sha1, bound, &parameters);
            assert_eq!(first, format!("{header}n=user,r=abc"));
            assert_eq!(STANDARD.decode(&scram.binding).unwrap(), [header.as_bytes(), data].concat());
        }
    }

    #[test]
    fn names_with_commas_are_escaped() {
        let parameters = Parameters { username: "a,b=c".into(), ..parameters("x") };
        assert_eq!(Scram::start(Hash::Sha1, false, &parameters).1, "n,,n=a=2Cb=3Dc,r=x");
    }

    #[test]
    fn a_server_that_lies_is_not_answered() {
        let answer =
            |message: &str| Scram::start(Hash::Sha1, false, &parameters("abc")).0.step("X", message.as_bytes());
        for (message, error) in [
            ("r=abc,s=QSXC,i=4096", ClientError::Malformed("X", "the nonce is not ours")),
            ("r=other,s=QSXC,i=4096", ClientError::Malformed("X", "the nonce is not ours")),
            ("r=abcd,s=,i=4096", ClientError::Malformed("X", "no salt")),
            ("r=abcd,s=QSXC", ClientError::Malformed("X", "no iteration count")),
            ("r=abcd,s=QSXC,i=0", ClientError::Malformed("X", "no iterations")),
            ("r=abcd,s=QSXC,i=1000001", ClientError::Iterations(1_000_001)),
            ("m=x,r=abcd,s=QSXC,i=1", ClientError::Malformed("X", "an extension that we do not know is required")),
            ("e=unknown-user", ClientError::Server("unknown-user".into())),
            ("", ClientError::Malformed("X", "no nonce")),
        ] {
            assert_eq!(answer(message), Err(error), "{message}");
        }
        for proof in ["v=rmF9pqV8S7suAoZWja4dJRkFsKR=", "v=", "", "v=AAAA"] {
            let (nonce, server, _) = SHA1;
            let mut scram = Scram::start(Hash::Sha1, false, &parameters(nonce)).0;
            scram.step("", server.as_bytes()).unwrap();
            assert_eq!(scram.step("", proof.as_bytes()), Err(ClientError::NotProven), "{proof}");
            assert!(!scram.is_proven());
        }
    }
}
