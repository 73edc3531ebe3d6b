//! SMTP commands: a line parsed into a value for the server, and MAIL and RCPT written for the client.
//!
//! Judges syntax only; whether a command may come now is the session's business.

mod parameters;
mod path;
mod xtext;

use std::borrow::Cow;
use std::fmt;

use secrecy::SecretString;

pub use parameters::{encode_mail, encode_rcpt};
pub use xtext::{decode as decode_xtext, encode_into as encode_xtext};

use super::reply::{EnhancedCode, Reply};
use super::sasl;
use crate::address::{Address, ReversePath};
use crate::envelope::{MailParameters, RcptParameters};

/// Longest command without CR LF: 510 octets of RFC 5321 §4.5.3.1.4 and room for the parameters of extensions.
pub const MAX_LINE: usize = 2_046;
/// Longest name in EHLO and HELO.
const MAX_HELO: usize = 255;

/// A command as a client gave it, syntax checked.
#[derive(Clone)]
pub enum Command {
    /// EHLO with the name or literal given, printable ASCII, not verified.
    Ehlo(String),
    /// HELO, same.
    Helo(String),
    /// MAIL FROM.
    Mail {
        /// Sender.
        reverse_path: ReversePath,
        /// Parameters.
        parameters: MailParameters,
    },
    /// RCPT TO.
    Rcpt {
        /// Recipient.
        address: Address,
        /// Parameters.
        parameters: RcptParameters,
    },
    /// DATA.
    Data,
    /// BDAT (RFC 3030): this many octets follow the line.
    Bdat {
        /// Octets in the chunk.
        size: u64,
        /// The message ends with it.
        last: bool,
    },
    /// RSET.
    Rset,
    /// NOOP.
    Noop,
    /// VRFY with its argument.
    Vrfy(String),
    /// EXPN.
    Expn,
    /// HELP.
    Help,
    /// QUIT.
    Quit,
    /// STARTTLS.
    StartTls,
    /// AUTH (RFC 4954).
    Auth {
        /// In upper case.
        mechanism: String,
        /// Initial response, still base64; `=` if empty.
        initial: Option<SecretString>,
    },
    /// XCLIENT: names in upper case and values decoded from xtext, printable.
    XClient(Vec<(String, String)>),
    /// A request line of HTTP: a browser or a proxy was led here.
    Http,
    /// Any other verb.
    Unknown,
}

/// Why a line is no command: the reply to give.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code} {enhanced} {text}")]
pub struct CommandError {
    /// Reply code.
    pub code: u16,
    /// Enhanced code.
    pub enhanced: EnhancedCode,
    /// Text for the client.
    pub text: Cow<'static, str>,
}

impl CommandError {
    pub(crate) fn new(code: u16, enhanced: (u16, u16), text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, enhanced: EnhancedCode((code / 100) as u8, enhanced.0, enhanced.1), text: text.into() }
    }
    /// 501 5.5.4.
    fn arguments(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(501, (5, 4), text)
    }
    /// The reply to give.
    pub fn reply(&self) -> Reply {
        Reply::new(self.code, format!("{} {}", self.enhanced, self.text))
    }
}

impl Command {
    /// Parses a line without its CR LF.
    pub fn parse(line: &[u8]) -> Result<Self, CommandError> {
        let end = memchr::memchr(b' ', line).unwrap_or(line.len());
        let (verb, arguments) = line.split_at(end);
        let mut upper = [0; 8];
        let Some(upper) = upper.get_mut(..verb.len()) else { return Self::unknown(line) };
        upper.copy_from_slice(verb);
        upper.make_ascii_uppercase();
        let limit = if upper == b"AUTH" { sasl::MAX_LINE } else { MAX_LINE };
        if line.len() > limit {
            return Err(CommandError::new(500, (5, 2), "line too long"));
        }
        let arguments = clean(arguments)?;
        match &*upper {
            b"MAIL" => parameters::mail(arguments),
            b"RCPT" => parameters::rcpt(arguments),
            b"DATA" => without_arguments(arguments, Self::Data),
            b"BDAT" => bdat(arguments),
            b"RSET" => without_arguments(arguments, Self::Rset),
            b"QUIT" => without_arguments(arguments, Self::Quit),
            b"STARTTLS" => without_arguments(arguments, Self::StartTls),
            b"EHLO" => helo(arguments).map(Self::Ehlo),
            b"HELO" => helo(arguments).map(Self::Helo),
            b"AUTH" => auth(arguments),
            b"NOOP" => Ok(Self::Noop),
            b"HELP" => Ok(Self::Help),
            b"VRFY" if arguments.is_empty() => Err(CommandError::arguments("VRFY needs an argument")),
            b"VRFY" => Ok(Self::Vrfy(arguments.to_owned())),
            b"EXPN" if arguments.is_empty() => Err(CommandError::arguments("EXPN needs an argument")),
            b"EXPN" => Ok(Self::Expn),
            b"XCLIENT" => xclient(arguments),
            b"GET" | b"POST" | b"PUT" | b"HEAD" | b"DELETE" | b"OPTIONS" | b"PATCH" | b"CONNECT" | b"TRACE"
            | b"PRI" => Ok(Self::Http),
            _ => Ok(Self::Unknown),
        }
    }

    fn unknown(line: &[u8]) -> Result<Self, CommandError> {
        if line.len() > MAX_LINE {
            return Err(CommandError::new(500, (5, 2), "line too long"));
        }
        Ok(Self::Unknown)
    }

    /// The verb, for logs and transcripts.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Ehlo(_) => "EHLO",
            Self::Helo(_) => "HELO",
            Self::Mail { .. } => "MAIL",
            Self::Rcpt { .. } => "RCPT",
            Self::Data => "DATA",
            Self::Bdat { .. } => "BDAT",
            Self::Rset => "RSET",
            Self::Noop => "NOOP",
            Self::Vrfy(_) => "VRFY",
            Self::Expn => "EXPN",
            Self::Help => "HELP",
            Self::Quit => "QUIT",
            Self::StartTls => "STARTTLS",
            Self::Auth { .. } => "AUTH",
            Self::XClient(_) => "XCLIENT",
            Self::Http => "HTTP",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Debug for Command {
    /// Never shows what AUTH carries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ehlo(name) | Self::Helo(name) => write!(f, "{} {name:?}", self.verb()),
            Self::Mail { reverse_path, parameters } => write!(f, "MAIL {reverse_path} {parameters:?}"),
            Self::Rcpt { address, parameters } => write!(f, "RCPT <{address}> {parameters:?}"),
            Self::Bdat { size, last } => write!(f, "BDAT {size}{}", if *last { " LAST" } else { "" }),
            Self::Vrfy(argument) => write!(f, "VRFY {argument:?}"),
            Self::Auth { mechanism, initial } => {
                write!(f, "AUTH {mechanism:?}{}", if initial.is_some() { " [secret]" } else { "" })
            }
            Self::XClient(attributes) => write!(f, "XCLIENT {attributes:?}"),
            _ => f.write_str(self.verb()),
        }
    }
}

/// Arguments as text without blanks around; UTF-8 and no control characters.
fn clean(arguments: &[u8]) -> Result<&str, CommandError> {
    let text = std::str::from_utf8(arguments).map_err(|_| CommandError::new(500, (5, 2), "line is not UTF-8"))?;
    if text.bytes().any(|octet| octet < b' ' || octet == 0x7f) {
        return Err(CommandError::new(500, (5, 2), "control character in a command"));
    }
    Ok(text.trim_matches(' '))
}

fn without_arguments(arguments: &str, command: Command) -> Result<Command, CommandError> {
    if arguments.is_empty() { Ok(command) } else { Err(CommandError::arguments("no argument expected")) }
}

fn helo(name: &str) -> Result<String, CommandError> {
    if name.is_empty() || name.len() > MAX_HELO || !name.bytes().all(|octet| octet.is_ascii_graphic()) {
        return Err(CommandError::arguments("a host name or address literal is needed"));
    }
    Ok(name.to_owned())
}

fn bdat(arguments: &str) -> Result<Command, CommandError> {
    let (size, rest) = arguments.split_once(' ').unwrap_or((arguments, ""));
    let last = match rest.trim_start_matches(' ') {
        "" => false,
        word if word.eq_ignore_ascii_case("LAST") => true,
        _ => return Err(CommandError::arguments("syntax: BDAT size [LAST]")),
    };
    let digits = (1..=20).contains(&size.len()) && size.bytes().all(|octet| octet.is_ascii_digit());
    match size.parse() {
        Ok(size) if digits => Ok(Command::Bdat { size, last }),
        _ => Err(CommandError::arguments("syntax: BDAT size [LAST]")),
    }
}

fn auth(arguments: &str) -> Result<Command, CommandError> {
    let (mechanism, rest) = arguments.split_once(' ').unwrap_or((arguments, ""));
    // RFC 4422 §3.1
    let valid = (1..=20).contains(&mechanism.len())
        && mechanism.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'));
    let initial = rest.trim_start_matches(' ');
    if !valid || initial.contains(' ') {
        return Err(CommandError::arguments("syntax: AUTH mechanism [initial-response]"));
    }
    let initial = (!initial.is_empty()).then(|| SecretString::from(initial));
    Ok(Command::Auth { mechanism: mechanism.to_ascii_uppercase(), initial })
}

fn xclient(arguments: &str) -> Result<Command, CommandError> {
    let mut attributes = Vec::new();
    for word in arguments.split(' ').filter(|word| !word.is_empty()) {
        let pair = word.split_once('=').and_then(|(name, value)| Some((name, xtext::decode(value)?)));
        match pair {
            Some((name, value)) if !name.is_empty() && value.len() <= MAX_HELO && attributes.len() < 20 => {
                attributes.push((name.to_ascii_uppercase(), value));
            }
            _ => return Err(CommandError::arguments("syntax: XCLIENT name=value ...")),
        }
    }
    if attributes.is_empty() {
        return Err(CommandError::arguments("syntax: XCLIENT name=value ..."));
    }
    Ok(Command::XClient(attributes))
}

#[cfg(test)]
mod tests;
