//! What people write for a server: `host`, `host:port`, `[IPv6]:port`, `smtp://user@host:port`.

use std::net::{IpAddr, Ipv6Addr};

use super::TlsMode;

/// A target, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aim {
    /// Host name, domain or address, without brackets.
    pub host: String,
    /// Port, if it was written or the scheme stands for one.
    pub port: Option<u16>,
    /// What the scheme says of TLS.
    pub tls: Option<TlsMode>,
    /// User name of a URL.
    pub user: Option<String>,
}

/// Why it is no target. Never quotes what may be a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Nothing there.
    #[error("the target is empty: name a host, a domain or an address")]
    Empty,
    /// `smtp://user:password@host`.
    #[error(
        "the target holds a password, which others can read in the list of processes and in the history of the shell: \
         leave it out, change it if it was real, and give it at the prompt, by --password-file, --password-stdin or \
         PILLARBOX_PASSWORD"
    )]
    Password,
    /// A scheme that is not mail.
    #[error("`{0}` is no scheme for sending mail; there are smtp, smtps, submission and submissions")]
    Scheme(String),
    /// `ann@example.com`.
    #[error("that is a mail address: name its domain as target, and the address as recipient")]
    Address,
    /// Not a number from 1 to 65535.
    #[error("the port has to be a number from 1 to 65535")]
    Port,
    /// Something that cannot be a host.
    #[error("`{0}` is no host name, domain or IP address")]
    Host(String),
    /// A path or query.
    #[error("there is something behind host and port: a target has no path")]
    Path,
}

impl Aim {
    /// Reads a target.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(TargetError::Empty);
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, text),
        };
        let (tls, default_port) = match scheme.as_deref() {
            None => (None, None),
            Some("smtp") => (None, None),
            Some("smtps" | "submissions") => (Some(TlsMode::Implicit), Some(465)),
            Some("submission") => (Some(TlsMode::Starttls), Some(587)),
            Some(other) => return Err(TargetError::Scheme(other.escape_debug().to_string())),
        };
        let (user, rest) = match (rest.rsplit_once('@'), &scheme) {
            (Some((user, rest)), Some(_)) => (Some(user_of(user)?), rest),
            // Without a scheme, `user:password@host` is more than an address.
            (Some((user, _)), None) if user.contains(':') => return Err(TargetError::Password),
            (Some(_), None) => return Err(TargetError::Address),
            (None, _) => (None, rest),
        };
        let rest = if scheme.is_some() { rest.strip_suffix('/').unwrap_or(rest) } else { rest };
        if rest.contains(['/', '?', '#']) {
            return Err(TargetError::Path);
        }
        let (host, port) = host_and_port(rest)?;
        Ok(Self { host: checked(host)?, port: port.or(default_port), tls, user })
    }
}

fn user_of(text: &str) -> Result<String, TargetError> {
    if text.contains(':') {
        return Err(TargetError::Password);
    }
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let code = (first == b'%').then(|| behind.get(..2)).flatten();
        let code =
            code.and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code {
            Some(octet) => {
                octets.push(octet);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                octets.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8(octets).map_err(|_| TargetError::Host("the user name".into()))
}

fn host_and_port(text: &str) -> Result<(&str, Option<u16>), TargetError> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, behind) = rest.split_once(']').ok_or_else(|| TargetError::Host(text.escape_debug().to_string()))?;
        return match behind.strip_prefix(':') {
            Some(digits) => Ok((host, Some(port(digits)?))),
            None if behind.is_empty() => Ok((host, None)),
            None => Err(TargetError::Port),
        };
    }
    // More than one colon and no brackets: an IPv6 address alone.
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok((text, None));
    }
    match text.split_once(':') {
        None => Ok((text, None)),
        Some((host, digits)) => Ok((host, Some(port(digits)?))),
    }
}

fn port(digits: &str) -> Result<u16, TargetError> {
    match digits.parse() {
        Ok(0) | Err(_) => Err(TargetError::Port),
        Ok(port) => Ok(port),
    }
}

/// A name or an address; address literals of mail (RFC 5321 §4.1.3) lose their tag.
fn checked(host: &str) -> Result<String, TargetError> {
    let tagged = host.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case("IPv6:"));
    let bare = if tagged { host.get(5..).unwrap_or_default() } else { host };
    let name = bare.strip_suffix('.').unwrap_or(bare);
    let label = |label: &str| {
        let inside = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
        !label.is_empty() && label.len() <= 255 && label.chars().all(inside)
    };
    if bare.parse::<IpAddr>().is_ok() {
        return Ok(bare.to_owned());
    }
    if name.is_empty() {
        return Err(TargetError::Empty);
    }
    match name.len() <= 253 && name.split('.').all(label) {
        true => Ok(name.to_owned()),
        false => Err(TargetError::Host(host.escape_debug().take(100).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aim(host: &str, port: Option<u16>, tls: Option<TlsMode>, user: Option<&str>) -> Result<Aim, TargetError> {
        Ok(Aim { host: host.into(), port, tls, user: user.map(str::to_owned) })
    }

    #[test]
    fn the_forms_people_write_are_read() {
        use TlsMode::{Implicit, Starttls};
        for (text, expected) in [
            ("smtp.example.com", aim("smtp.example.com", None, None, None)),
            (" smtp.example.com:25 ", aim("smtp.example.com", Some(25), None, None)),
            ("example.com.", aim("example.com", None, None, None)),
            ("192.0.2.1:2525", aim("192.0.2.1", Some(2525), None, None)),
            ("2001:db8::1", aim("2001:db8::1", None, None, None)),
            ("[2001:db8::1]:587", aim("2001:db8::1", Some(587), None, None)),
            ("[IPv6:2001:db8::1]", aim("2001:db8::1", None, None, None)),
            ("[192.0.2.1]", aim("192.0.2.1", None, None, None)),
            ("smtp://mail.example.com", aim("mail.example.com", None, None, None)),
            ("smtps://mail.example.com/", aim("mail.example.com", Some(465), Some(Implicit), None)),
            ("submission://mail.example.com", aim("mail.example.com", Some(587), Some(Starttls), None)),
            (
                "submissions://ann@mail.example.com:4650",
                aim("mail.example.com", Some(4650), Some(Implicit), Some("ann")),
            ),
            ("smtp://ann%40example.com@mail.example.com", aim("mail.example.com", None, None, Some("ann@example.com"))),
            ("SMTP://ann@example.com@[2001:db8::1]:25", aim("2001:db8::1", Some(25), None, Some("ann@example.com"))),
            ("bücher.example", aim("bücher.example", None, None, None)),
        ] {
            assert_eq!(Aim::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_target_is_told_and_a_password_is_refused_without_being_shown() {
        for (text, expected) in [
            ("", TargetError::Empty),
            ("  ", TargetError::Empty),
            (":25", TargetError::Empty),
            ("smtp://ann:s3cret@mail.example.com", TargetError::Password),
            ("ann:s3cret@mail.example.com", TargetError::Password),
            ("ann@example.com", TargetError::Address),
            ("https://mail.example.com", TargetError::Scheme("https".into())),
            ("mail.example.com:smtp", TargetError::Port),
            ("mail.example.com:0", TargetError::Port),
            ("mail.example.com:99999", TargetError::Port),
            ("[::1]25", TargetError::Port),
            ("smtp://mail.example.com/x", TargetError::Path),
            ("mail example.com", TargetError::Host("mail example.com".into())),
            ("a..example", TargetError::Host("a..example".into())),
        ] {
            let error = Aim::parse(text).unwrap_err();
            assert!(!error.to_string().contains("s3cret"), "{error}");
            assert_eq!(error, expected, "{text}");
        }
    }
}
