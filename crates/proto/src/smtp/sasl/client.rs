//! SASL as a client: which mechanism, and one exchange as a machine that turns challenges into responses.
//!
//! Randomness and time are arguments. What the server says is bounded by [`super::MAX_LINE`] and never believed: where a
//! mechanism lets the server prove itself, [`Exchange::finish`] says whether it did.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::{Zeroize, Zeroizing};
use secrecy::{ExposeSecret, SecretString};

use super::scram::{Hash, Scram};
use super::{MAX_LINE, cram_md5, ntlm, oauth};

pub use super::oauth::OauthError;

/// A mechanism our client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// RFC 7677, bound to the TLS connection.
    ScramSha256Plus,
    /// RFC 5802, bound to the TLS connection.
    ScramSha1Plus,
    /// RFC 7677.
    ScramSha256,
    /// RFC 5802.
    ScramSha1,
    /// RFC 2195.
    CramMd5,
    /// RFC 4616.
    Plain,
    /// User name and password one after the other.
    Login,
    /// RFC 7628, with an access token.
    OauthBearer,
    /// The older form of the same.
    Xoauth2,
    /// MS-NLMP: version 2, or 1 with a server that knows no other.
    Ntlm,
}

impl Mechanism {
    /// All of them, the strongest first. PLAIN stands before LOGIN since it is a standard and one round trip.
    pub const ALL: [Self; 10] = [
        Self::ScramSha256Plus,
        Self::ScramSha1Plus,
        Self::ScramSha256,
        Self::ScramSha1,
        Self::CramMd5,
        Self::Plain,
        Self::Login,
        Self::OauthBearer,
        Self::Xoauth2,
        Self::Ntlm,
    ];

    /// The registered name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Self::ScramSha1Plus => "SCRAM-SHA-1-PLUS",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::CramMd5 => "CRAM-MD5",
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::OauthBearer => "OAUTHBEARER",
            Self::Xoauth2 => "XOAUTH2",
            Self::Ntlm => "NTLM",
        }
    }

    /// By its name, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }

    /// Whether whoever reads the link learns the password or token.
    pub fn reveals(self) -> bool {
        matches!(self, Self::Plain | Self::Login | Self::OauthBearer | Self::Xoauth2)
    }

    /// Whether the secret is an access token and not a password.
    pub fn needs_token(self) -> bool {
        matches!(self, Self::OauthBearer | Self::Xoauth2)
    }

    /// Whether the exchange is bound to the TLS connection.
    pub fn is_bound(self) -> bool {
        matches!(self, Self::ScramSha256Plus | Self::ScramSha1Plus)
    }

    /// Whether a step may take long enough (a million rounds of hashing) to be kept off a thread that serves others.
    pub fn is_slow(self) -> bool {
        matches!(self, Self::ScramSha256Plus | Self::ScramSha1Plus | Self::ScramSha256 | Self::ScramSha1)
    }
}

/// What the choice of a mechanism depends on.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    /// As the server offers them.
    pub offered: &'a [String],
    /// The one that is configured.
    pub wanted: Option<&'a str>,
    /// The link is encrypted.
    pub encrypted: bool,
    /// The secret may cross a link that is not.
    pub allow_plaintext: bool,
    /// There is a channel binding.
    pub binding: bool,
    /// The secret has the form of an access token.
    pub token: bool,
}

/// Nothing can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoChoice {
    /// No mechanism that both sides have.
    Unknown,
    /// There is one, and it would show the secret on a link without TLS.
    NeedsTls,
}

impl Choice<'_> {
    /// The mechanisms to try, in this order; the later ones only where the server says that it cannot do the earlier.
    ///
    /// A token is only shown to mechanisms for tokens where there is one; NTLM comes only when there is nothing else. A
    /// mechanism that is configured is tried alone.
    pub fn candidates(&self) -> Result<Vec<Mechanism>, NoChoice> {
        let offered =
            |mechanism: Mechanism| self.offered.iter().any(|name| name.eq_ignore_ascii_case(mechanism.name()));
        let usable = |mechanism: Mechanism| {
            offered(mechanism)
                && (self.binding || !mechanism.is_bound())
                && self.wanted.is_none_or(|name| name.eq_ignore_ascii_case(mechanism.name()))
        };
        let mut found: Vec<Mechanism> = Mechanism::ALL.into_iter().filter(|mechanism| usable(*mechanism)).collect();
        if self.wanted.is_none() {
            let tokens = self.token && found.iter().any(|mechanism| mechanism.needs_token());
            found.retain(|mechanism| mechanism.needs_token() == tokens);
            if found.len() > 1 {
                found.retain(|mechanism| *mechanism != Mechanism::Ntlm);
            }
        }
        if found.is_empty() {
            return Err(NoChoice::Unknown);
        }
        found.retain(|mechanism| self.encrypted || self.allow_plaintext || !mechanism.reveals());
        if found.is_empty() { Err(NoChoice::NeedsTls) } else { Ok(found) }
    }
}

/// Whether a secret has the form of an access token: a JSON Web Token, or Google's or Microsoft's own form.
pub fn looks_like_token(secret: &SecretString) -> bool {
    let secret = secret.expose_secret();
    let jwt = secret.starts_with("eyJ") && secret.split('.').count() == 3;
    let opaque = ["ya29.", "EwA", "EwB"].iter().any(|start| secret.starts_with(start));
    secret.len() >= 60 && (jwt || opaque)
}

/// What ties an exchange to its TLS connection (RFC 5929, RFC 9266).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// `tls-exporter` or `tls-server-end-point`.
    pub name: &'static str,
    /// Its octets.
    pub data: Vec<u8>,
}

/// All that an exchange starts from.
#[derive(Debug, Clone)]
pub struct Parameters {
    /// User name; for NTLM also `DOMAIN\user` or `user@domain`.
    pub username: String,
    /// Password or access token.
    pub secret: SecretString,
    /// The server's name and port, which OAUTHBEARER tells.
    pub server: (String, u16),
    /// Channel binding of the link.
    pub binding: Option<Binding>,
    /// Nobody but the server can read the link, or nobody minds (NTLM version 1).
    pub secluded: bool,
    /// The server offers SCRAM with channel binding: not using it is then our own choice, and no attack.
    pub binding_offered: bool,
    /// Random text without comma, at least 18 characters, never used before (SCRAM).
    pub nonce: String,
    /// Random octets, never used before (NTLM).
    pub challenge: [u8; 8],
    /// Unix milliseconds (NTLM).
    pub now_ms: i64,
}

impl Parameters {
    /// For the mechanisms that need nothing else; fill in the rest for the others.
    pub fn new(username: &str, secret: &SecretString) -> Self {
        Self {
            username: username.to_owned(),
            secret: secret.clone(),
            server: (String::new(), 0),
            binding: None,
            secluded: false,
            binding_offered: false,
            nonce: String::new(),
            challenge: [0; 8],
            now_ms: 0,
        }
    }
}

/// Why our side ends an exchange. Texts are fragments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The challenge is not base64, or too long.
    #[error("the challenge of {0} is not base64")]
    NotBase64(&'static str),
    /// The challenge does not have the form the mechanism asks for.
    #[error("the challenge of {0} is malformed: {1}")]
    Malformed(&'static str, &'static str),
    /// More challenges than the mechanism has.
    #[error("a challenge too many for {0}")]
    TooMany(&'static str),
    /// SCRAM: so many rounds that the server could keep us busy.
    #[error("the server asks for {0} rounds of hashing, more than 1000000")]
    Iterations(u32),
    /// SCRAM: the server does not know the password, or somebody is in between.
    #[error("the server did not prove that it knows the password")]
    NotProven,
    /// SCRAM: the server says why it refuses.
    #[error("the server ends the exchange: {0}")]
    Server(String),
}

/// One exchange as a client.
#[derive(Debug)]
pub struct Exchange {
    mechanism: Mechanism,
    state: State,
    parameters: Parameters,
    /// What an OAuth server said before it refused.
    told: Option<OauthError>,
}

#[derive(Debug)]
enum State {
    /// Nothing sent.
    Start,
    /// LOGIN: the user name was sent.
    Named,
    Scram(Box<Scram>),
    /// NTLM: the NEGOTIATE message was sent.
    Negotiated,
    /// Nothing more to say.
    Said,
}

impl Exchange {
    /// A new exchange.
    pub fn new(mechanism: Mechanism, parameters: Parameters) -> Self {
        Self { mechanism, state: State::Start, parameters, told: None }
    }

    /// The mechanism.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The initial response, base64, to follow the AUTH command; `None` where the server has to speak first.
    ///
    /// If the command would become longer than 512 octets with it, send it as the answer to the first, empty challenge
    /// (RFC 4954 §4).
    pub fn initial(&mut self) -> Option<SecretString> {
        match self.mechanism {
            Mechanism::CramMd5 | Mechanism::Login | Mechanism::Ntlm => None,
            _ => self.first().ok(),
        }
    }

    /// The response to a challenge, which is the text behind `334 `. Base64; may be empty.
    pub fn step(&mut self, challenge: &str) -> Result<SecretString, ClientError> {
        let name = self.mechanism.name();
        match (&mut self.state, self.mechanism) {
            (State::Start, Mechanism::CramMd5) => {
                let challenge = decode(name, challenge)?;
                self.state = State::Said;
                let password = self.parameters.secret.expose_secret();
                Ok(encode(&cram_md5::response(&self.parameters.username, password, &challenge)))
            }
            // What the challenges of LOGIN say differs; their order does not. That of NTLM is no base64 on some servers.
            (State::Start, _) => self.first(),
            (State::Named, _) => {
                self.state = State::Said;
                Ok(encode(self.parameters.secret.expose_secret().as_bytes()))
            }
            (State::Scram(scram), _) => scram.step(name, &decode(name, challenge)?).map(|answer| encode(&answer)),
            (State::Negotiated, _) => {
                let challenge = decode(name, challenge)?;
                let answer = ntlm::authenticate(&challenge, &self.parameters)?;
                self.state = State::Said;
                Ok(encode(&answer))
            }
            (State::Said, mechanism) if mechanism.needs_token() && self.told.is_none() => {
                self.told = Some(OauthError::parse(&decode(name, challenge)?));
                let bearer = mechanism == Mechanism::OauthBearer;
                Ok(if bearer { encode(b"\x01") } else { SecretString::from("") })
            }
            (State::Said, _) => Err(ClientError::TooMany(name)),
        }
    }

    /// To be called when the server says that all is well.
    pub fn finish(&self) -> Result<(), ClientError> {
        match &self.state {
            State::Scram(scram) if !scram.is_proven() => Err(ClientError::NotProven),
            _ => Ok(()),
        }
    }

    /// What an OAuth server said about why it refuses.
    pub fn told(&self) -> Option<&OauthError> {
        self.told.as_ref()
    }

    /// The first message of the mechanism.
    fn first(&mut self) -> Result<SecretString, ClientError> {
        let Parameters { username, secret, server, .. } = &self.parameters;
        let message = match self.mechanism {
            Mechanism::Plain => Zeroizing::new(format!("\0{username}\0{}", secret.expose_secret()).into_bytes()),
            Mechanism::Login => {
                self.state = State::Named;
                return Ok(encode(username.as_bytes()));
            }
            Mechanism::OauthBearer => oauth::bearer(username, secret, server),
            Mechanism::Xoauth2 => oauth::xoauth2(username, secret),
            Mechanism::Ntlm => {
                self.state = State::Negotiated;
                return Ok(encode(&ntlm::NEGOTIATE));
            }
            Mechanism::CramMd5 => return Err(ClientError::Malformed("CRAM-MD5", "empty")),
            Mechanism::ScramSha256Plus | Mechanism::ScramSha256 => return Ok(self.scram(Hash::Sha256)),
            Mechanism::ScramSha1Plus | Mechanism::ScramSha1 => return Ok(self.scram(Hash::Sha1)),
        };
        self.state = State::Said;
        Ok(encode(&message))
    }

    fn scram(&mut self, hash: Hash) -> SecretString {
        let (scram, message) = Scram::start(hash, self.mechanism.is_bound(), &self.parameters);
        self.state = State::Scram(Box::new(scram));
        encode(message.as_bytes())
    }
}

fn decode(mechanism: &'static str, challenge: &str) -> Result<Zeroizing<Vec<u8>>, ClientError> {
    let challenge = challenge.trim();
    if challenge.len() > MAX_LINE {
        return Err(ClientError::NotBase64(mechanism));
    }
    STANDARD.decode(challenge).map(Zeroizing::new).map_err(|_| ClientError::NotBase64(mechanism))
}

fn encode(octets: &[u8]) -> SecretString {
    let mut text = STANDARD.encode(octets);
    let secret = SecretString::from(text.as_str());
    text.zeroize();
    secret
}

#[cfg(test)]
mod tests;
