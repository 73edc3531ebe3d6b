//! SASL as a server: PLAIN (RFC 4616) and LOGIN, over AUTH (RFC 4954).
//!
//! Only turns lines into credentials; whether they are right is the caller's business. Secrets are wiped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

use crate::smtp::reply::Reply;

/// Longest user name, octets.
const MAX_USERNAME: usize = 255;

/// A mechanism our server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// User name and password one after the other.
    Login,
}

impl Mechanism {
    /// By its name, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Plain, Self::Login].into_iter().find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }
    /// `PLAIN` or `LOGIN`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        }
    }
}

/// What a client claims to be, not yet verified.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// How it was told.
    pub mechanism: Mechanism,
    /// At most 255 octets, no control characters.
    pub username: String,
    /// Never empty.
    pub password: SecretString,
}

/// Why an exchange ended without credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SaslError {
    /// The client sent `*`.
    #[error("authentication was cancelled")]
    Cancelled,
    /// Not base64.
    #[error("not base64")]
    NotBase64,
    /// Base64 of something that is no credential: not UTF-8, parts missing or empty, or another authorization identity.
    #[error("not valid credentials")]
    Malformed,
}

impl SaslError {
    /// The reply to give.
    pub fn reply(self) -> Reply {
        match self {
            Self::Cancelled => Reply::new(501, "5.7.0 authentication cancelled"),
            Self::NotBase64 => Reply::new(501, "5.5.2 not base64"),
            Self::Malformed => Reply::new(535, "5.7.8 authentication credentials are not valid"),
        }
    }
}

/// What the server does next.
#[derive(Debug)]
pub enum Step {
    /// Send `334 ` and this text.
    Challenge(&'static str),
    /// Verify these.
    Credentials(Credentials),
    /// Send the error's reply; the exchange is over.
    Failed(SaslError),
}

/// The server's side of one exchange.
#[derive(Debug)]
pub struct Exchange {
    mechanism: Mechanism,
    username: Option<String>,
}

impl Exchange {
    /// Starts with the initial response of the AUTH command, still base64; `=` is an empty one.
    pub fn start(mechanism: Mechanism, initial: Option<&[u8]>) -> (Self, Step) {
        let mut exchange = Self { mechanism, username: None };
        let step = match (initial, mechanism) {
            (Some(b"="), _) => Step::Failed(SaslError::Malformed),
            (Some(octets), _) => exchange.line(octets),
            (None, Mechanism::Plain) => Step::Challenge(""),
            (None, Mechanism::Login) => Step::Challenge("VXNlcm5hbWU6"),
        };
        (exchange, step)
    }

    /// Takes a line without its CR LF.
    pub fn line(&mut self, line: &[u8]) -> Step {
        if line == b"*" {
            return Step::Failed(SaslError::Cancelled);
        }
        let Ok(octets) = STANDARD.decode(line).map(Zeroizing::new) else { return Step::Failed(SaslError::NotBase64) };
        let result = match self.mechanism {
            Mechanism::Plain => plain(&octets).map(Step::Credentials),
            Mechanism::Login => self.login(&octets),
        };
        result.unwrap_or(Step::Failed(SaslError::Malformed))
    }

    fn login(&mut self, octets: &[u8]) -> Option<Step> {
        let text = std::str::from_utf8(octets).ok()?;
        match self.username.take() {
            None => {
                self.username = Some(username(text)?);
                Some(Step::Challenge("UGFzc3dvcmQ6"))
            }
            Some(username) => Some(Step::Credentials(Credentials {
                mechanism: Mechanism::Login,
                username,
                password: password(text)?,
            })),
        }
    }
}

/// `authzid NUL authcid NUL passwd`; we know no identity but the authenticated one.
fn plain(octets: &[u8]) -> Option<Credentials> {
    let text = std::str::from_utf8(octets).ok()?;
    let (authorize, rest) = text.split_once('\0')?;
    let (authenticate, secret) = rest.split_once('\0')?;
    if !authorize.is_empty() && authorize != authenticate {
        return None;
    }
    Some(Credentials { mechanism: Mechanism::Plain, username: username(authenticate)?, password: password(secret)? })
}

fn username(text: &str) -> Option<String> {
    let valid = (1..=MAX_USERNAME).contains(&text.len()) && !text.chars().any(char::is_control);
    valid.then(|| text.to_owned())
}

fn password(text: &str) -> Option<SecretString> {
    (!text.is_empty() && !text.contains('\0')).then(|| SecretString::from(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;
    use crate::smtp::sasl::client;

    fn run(mechanism: Mechanism, initial: Option<&str>, lines: &[&[u8]]) -> Result<(String, String), SaslError> {
        let encoded = initial.map(|text| if text == "=" { text.to_owned() } else { STANDARD.encode(text) });
        let (mut exchange, mut step) = Exchange::start(mechanism, encoded.as_deref().map(str::as_bytes));
        let mut lines = lines.iter();
        loop {
            match step {
                Step::Credentials(found) => return Ok((found.username, found.password.expose_secret().to_owned())),
                Step::Failed(error) => return Err(error),
                Step::Challenge(text) => {
                    assert!(STANDARD.decode(text).is_ok());
                    step = exchange.line(lines.next().expect("a line for the challenge"));
                }
            }
        }
    }

    fn known(username: &str, password: &str) -> Result<(String, String), SaslError> {
        Ok((username.to_owned(), password.to_owned()))
    }

    #[test]
    fn plain_with_and_without_initial_response() {
        for (message, expected) in [
            ("\0app\0secret", known("app", "secret")),
            ("app\0app\0secret", known("app", "secret")),
            ("\0j\u{f6}rg\0p\u{e4}ss", known("j\u{f6}rg", "p\u{e4}ss")),
            ("admin\0app\0secret", Err(SaslError::Malformed)),
            ("\0app\0", Err(SaslError::Malformed)),
            ("\0\0secret", Err(SaslError::Malformed)),
            ("\0app", Err(SaslError::Malformed)),
            ("app", Err(SaslError::Malformed)),
            ("\0app\0sec\0ret", Err(SaslError::Malformed)),
            ("\0ap\np\0secret", Err(SaslError::Malformed)),
        ] {
            assert_eq!(run(Mechanism::Plain, Some(message), &[]), expected, "{message:?}");
            assert_eq!(run(Mechanism::Plain, None, &[STANDARD.encode(message).as_bytes()]), expected, "{message:?}");
        }
        assert_eq!(run(Mechanism::Plain, Some("="), &[]), Err(SaslError::Malformed));
        assert_eq!(run(Mechanism::Plain, Some(&format!("\0{}\0x", "u".repeat(256))), &[]), Err(SaslError::Malformed));
    }

    #[test]
    fn login_with_and_without_initial_response() {
        assert_eq!(run(Mechanism::Login, None, &[b"YXBw", b"c2VjcmV0"]), known("app", "secret"));
        assert_eq!(run(Mechanism::Login, Some("app"), &[b"c2VjcmV0"]), known("app", "secret"));
        assert_eq!(run(Mechanism::Login, None, &[b"", b"c2VjcmV0"]), Err(SaslError::Malformed));
        assert_eq!(run(Mechanism::Login, None, &[b"YXBw", b""]), Err(SaslError::Malformed));
    }

    #[test]
    fn a_star_cancels_and_other_rubbish_is_named() {
        assert_eq!(run(Mechanism::Plain, None, &[b"*"]), Err(SaslError::Cancelled));
        assert_eq!(run(Mechanism::Login, None, &[b"YXBw", b"*"]), Err(SaslError::Cancelled));
        for line in [&b"?"[..], b"YXBw=", b"YXB", b"YX Bw", b"\xff\xff\xff\xff", b"AUTH"] {
            assert!(run(Mechanism::Plain, None, &[line]).is_err());
        }
        assert_eq!(run(Mechanism::Plain, None, &[b"YXB"]), Err(SaslError::NotBase64));
        assert_eq!(run(Mechanism::Plain, None, &[b"//8="]), Err(SaslError::Malformed));
    }

    #[test]
    fn credentials_never_show_the_password() {
        let (_, step) = Exchange::start(Mechanism::Plain, Some(STANDARD.encode("\0app\0hunter2").as_bytes()));
        assert!(!format!("{step:?}").contains("hunter2"));
    }

    proptest! {
        #[test]
        fn our_client_is_understood_by_our_server(username in "[^\\p{C}]{1,40}", password in "[^\\x00]{1,40}") {
            let expected = known(&username, &password);
            let parameters = || client::Parameters::new(&username, &SecretString::from(password.as_str()));
            let mut plain = client::Exchange::new(client::Mechanism::Plain, parameters());
            let initial = plain.initial().expect("an initial response");
            prop_assert_eq!(run(Mechanism::Plain, None, &[initial.expose_secret().as_bytes()]), expected.clone());
            let mut login = client::Exchange::new(client::Mechanism::Login, parameters());
            let answers = [login.step("VXNlcm5hbWU6"), login.step("UGFzc3dvcmQ6")].map(|answer| answer.expect("an answer"));
            let lines = answers.each_ref().map(|answer| answer.expose_secret().as_bytes());
            prop_assert_eq!(run(Mechanism::Login, None, &lines), expected);
        }
    }
}
