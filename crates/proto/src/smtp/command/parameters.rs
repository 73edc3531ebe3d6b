//! MAIL and RCPT with their parameters: SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531), REQUIRETLS (RFC 8689), AUTH (RFC 4954 §5),
//! RET, ENVID, NOTIFY and ORCPT (RFC 3461). A parameter given twice or not known is refused, never skipped.

use std::io::Write as _;

use super::{Command, CommandError, path, xtext};
use crate::address::{Address, AddressError, ReversePath};
use crate::envelope::{BodyType, DeliveryNotify, MailParameters, RcptParameters, ReturnContent};

/// Longest ENVID, decoded (RFC 3461 §4.4).
const MAX_ENVID: usize = 100;
/// Longest ORCPT and AUTH, decoded (RFC 3461 §4.2, RFC 4954 §5).
const MAX_ADDRESS: usize = 500;

pub(super) fn mail(arguments: &str) -> Result<Command, CommandError> {
    let (path, rest) = path::split(arguments, "FROM:", "syntax: MAIL FROM:<address>")?;
    let reverse_path = match path {
        "" => ReversePath(None),
        _ => Address::parse(path).map_err(|error| bad_address(error, (1, 7), "sender"))?.into(),
    };
    let mut parameters = MailParameters::default();
    let mut seen = 0;
    for word in words(rest) {
        let (keyword, value) = keyword(word);
        let bit = match keyword.len() {
            3 if keyword.eq_ignore_ascii_case("RET") => {
                parameters.ret = Some(ret(value)?);
                1
            }
            4 if keyword.eq_ignore_ascii_case("SIZE") => {
                parameters.size = Some(size(value)?);
                2
            }
            4 if keyword.eq_ignore_ascii_case("BODY") => {
                parameters.body = body(value)?;
                4
            }
            4 if keyword.eq_ignore_ascii_case("AUTH") => {
                parameters.auth = Some(auth(value)?);
                8
            }
            5 if keyword.eq_ignore_ascii_case("ENVID") => {
                parameters.envid = Some(envid(value)?);
                16
            }
            8 if keyword.eq_ignore_ascii_case("SMTPUTF8") && value.is_none() => {
                parameters.smtputf8 = true;
                32
            }
            10 if keyword.eq_ignore_ascii_case("REQUIRETLS") && value.is_none() => {
                parameters.require_tls = true;
                64
            }
            _ => return Err(unknown(keyword)),
        };
        once(&mut seen, bit, keyword)?;
    }
    Ok(Command::Mail { reverse_path, parameters })
}

pub(super) fn rcpt(arguments: &str) -> Result<Command, CommandError> {
    let (path, rest) = path::split(arguments, "TO:", "syntax: RCPT TO:<address>")?;
    if path.eq_ignore_ascii_case("postmaster") {
        return Err(CommandError::new(550, (1, 3), "postmaster needs a domain here"));
    }
    let address = Address::parse(path).map_err(|error| bad_address(error, (1, 3), "recipient"))?;
    let mut parameters = RcptParameters::default();
    let mut seen = 0;
    for word in words(rest) {
        let (keyword, value) = keyword(word);
        let bit = if keyword.eq_ignore_ascii_case("NOTIFY") {
            parameters.notify = Some(notify(value)?);
            1
        } else if keyword.eq_ignore_ascii_case("ORCPT") {
            parameters.orcpt = Some(orcpt(value)?);
            2
        } else {
            return Err(unknown(keyword));
        };
        once(&mut seen, bit, keyword)?;
    }
    Ok(Command::Rcpt { address, parameters })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').filter(|word| !word.is_empty())
}

fn keyword(word: &str) -> (&str, Option<&str>) {
    match word.split_once('=') {
        Some((keyword, value)) => (keyword, Some(value)),
        None => (word, None),
    }
}

fn once(seen: &mut u8, bit: u8, keyword: &str) -> Result<(), CommandError> {
    if *seen & bit != 0 {
        return Err(CommandError::arguments(format!("{} given twice", keyword.to_ascii_uppercase())));
    }
    *seen |= bit;
    Ok(())
}

fn unknown(keyword: &str) -> CommandError {
    let shown = &keyword[..keyword.floor_char_boundary(40)];
    CommandError::new(555, (5, 4), format!("parameter {shown} is not known"))
}

fn bad_address(error: AddressError, enhanced: (u16, u16), which: &str) -> CommandError {
    CommandError::new(501, enhanced, format!("{which} {error}"))
}

fn ret(value: Option<&str>) -> Result<ReturnContent, CommandError> {
    match value {
        Some(word) if word.eq_ignore_ascii_case("FULL") => Ok(ReturnContent::Full),
        Some(word) if word.eq_ignore_ascii_case("HDRS") => Ok(ReturnContent::Headers),
        _ => Err(CommandError::arguments("RET is FULL or HDRS")),
    }
}

fn size(value: Option<&str>) -> Result<u64, CommandError> {
    let digits =
        value.filter(|digits| (1..=20).contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_digit()));
    let digits = digits.ok_or_else(|| CommandError::arguments("SIZE is a number of octets"))?;
    // Twenty digits can exceed 64 bits; such a message is over any limit.
    Ok(digits.parse().unwrap_or(u64::MAX))
}

fn body(value: Option<&str>) -> Result<BodyType, CommandError> {
    match value {
        Some(word) if word.eq_ignore_ascii_case("7BIT") => Ok(BodyType::SevenBit),
        Some(word) if word.eq_ignore_ascii_case("8BITMIME") => Ok(BodyType::EightBitMime),
        Some(word) if word.eq_ignore_ascii_case("BINARYMIME") => {
            Err(CommandError::new(504, (5, 4), "BINARYMIME is not offered"))
        }
        _ => Err(CommandError::arguments("BODY is 7BIT or 8BITMIME")),
    }
}

fn auth(value: Option<&str>) -> Result<String, CommandError> {
    let decoded = match value {
        Some("<>") => Some(String::new()),
        Some("") | None => None,
        Some(value) => xtext::decode(value),
    };
    decoded.filter(|text| text.len() <= MAX_ADDRESS).ok_or_else(|| CommandError::arguments("AUTH is not a valid xtext"))
}

fn envid(value: Option<&str>) -> Result<String, CommandError> {
    let decoded = value.and_then(xtext::decode);
    decoded
        .filter(|text| (1..=MAX_ENVID).contains(&text.len()))
        .ok_or_else(|| CommandError::arguments("ENVID is not a valid xtext of 1 to 100 characters"))
}

fn notify(value: Option<&str>) -> Result<DeliveryNotify, CommandError> {
    let wrong = || CommandError::arguments("NOTIFY is NEVER or a list of SUCCESS, FAILURE and DELAY");
    let value = value.ok_or_else(wrong)?;
    if value.eq_ignore_ascii_case("NEVER") {
        return Ok(DeliveryNotify::Never);
    }
    let (mut success, mut failure, mut delay) = (false, false, false);
    for word in value.split(',') {
        let event = if word.eq_ignore_ascii_case("SUCCESS") {
            &mut success
        } else if word.eq_ignore_ascii_case("FAILURE") {
            &mut failure
        } else if word.eq_ignore_ascii_case("DELAY") {
            &mut delay
        } else {
            return Err(wrong());
        };
        *event = true;
    }
    Ok(DeliveryNotify::On { success, failure, delay })
}

fn orcpt(value: Option<&str>) -> Result<String, CommandError> {
    let decode = |value: &str| {
        let (kind, address) = value.split_once(';')?;
        let valid = !kind.is_empty() && kind.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
        let address = xtext::decode(address).filter(|address| !address.is_empty())?;
        (valid && kind.len() + address.len() < MAX_ADDRESS).then(|| format!("{kind};{address}"))
    };
    value.and_then(decode).ok_or_else(|| CommandError::arguments("ORCPT is type;address in xtext"))
}

/// Appends `MAIL FROM:<...>`, every parameter that is set, and CR LF.
///
/// The caller clears what the server does not offer; `SevenBit` writes nothing. `size` is sent as it stands.
pub fn encode_mail(reverse_path: &ReversePath, parameters: &MailParameters, out: &mut Vec<u8>) {
    out.extend_from_slice(b"MAIL FROM:<");
    if let Some(address) = &reverse_path.0 {
        out.extend_from_slice(address.as_str().as_bytes());
    }
    out.push(b'>');
    if let Some(size) = parameters.size {
        // Writing to a Vec cannot fail.
        let _ = write!(out, " SIZE={size}");
    }
    match parameters.body {
        BodyType::SevenBit => {}
        BodyType::EightBitMime => out.extend_from_slice(b" BODY=8BITMIME"),
        BodyType::BinaryMime => out.extend_from_slice(b" BODY=BINARYMIME"),
    }
    if parameters.smtputf8 {
        out.extend_from_slice(b" SMTPUTF8");
    }
    if parameters.require_tls {
        out.extend_from_slice(b" REQUIRETLS");
    }
    match parameters.ret {
        None => {}
        Some(ReturnContent::Full) => out.extend_from_slice(b" RET=FULL"),
        Some(ReturnContent::Headers) => out.extend_from_slice(b" RET=HDRS"),
    }
    if let Some(envid) = &parameters.envid {
        out.extend_from_slice(b" ENVID=");
        xtext::encode_into(envid, out);
    }
    if let Some(auth) = &parameters.auth {
        out.extend_from_slice(b" AUTH=");
        if auth.is_empty() {
            out.extend_from_slice(b"<>");
        }
        xtext::encode_into(auth, out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends `RCPT TO:<...>`, every parameter that is set, and CR LF. The caller clears what the server does not offer.
pub fn encode_rcpt(address: &Address, parameters: &RcptParameters, out: &mut Vec<u8>) {
    out.extend_from_slice(b"RCPT TO:<");
    out.extend_from_slice(address.as_str().as_bytes());
    out.push(b'>');
    if let Some(notify) = parameters.notify {
        write_notify(notify, out);
    }
    if let Some(orcpt) = &parameters.orcpt {
        // A stored value is not trusted to be well formed: whatever it holds, it stays one parameter.
        let (kind, address) = orcpt.split_once(';').unwrap_or(("rfc822", orcpt));
        out.extend_from_slice(b" ORCPT=");
        xtext::encode_into(kind, out);
        out.push(b';');
        xtext::encode_into(address, out);
    }
    out.extend_from_slice(b"\r\n");
}

fn write_notify(notify: DeliveryNotify, out: &mut Vec<u8>) {
    let words: [(bool, &[u8]); 3] = match notify {
        DeliveryNotify::Never => return out.extend_from_slice(b" NOTIFY=NEVER"),
        DeliveryNotify::On { success, failure, delay } => {
            [(success, b"SUCCESS"), (failure, b"FAILURE"), (delay, b"DELAY")]
        }
    };
    let mut separator: &[u8] = b" NOTIFY=";
    for (_, word) in words.iter().filter(|(wanted, _)| *wanted) {
        out.extend_from_slice(separator);
        out.extend_from_slice(word);
        separator = b",";
    }
}
