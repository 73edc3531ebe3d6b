//! Where the database is: the URL, read by us as far as TLS is concerned, and by tokio-postgres for the rest.
//!
//! The URL has a password in it: it is never part of an error.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use super::tls::Rustls;
use crate::StoreError;

/// How long a host may take to answer before the next one is tried.
const CONNECT: Duration = Duration::from_secs(5);
/// A connection whose server says nothing for so long is dead.
const SILENCE: Duration = Duration::from_secs(10);

/// How connections are made.
pub(super) struct Place {
    pub(super) config: Config,
    pub(super) tls: Rustls,
}

/// Reads a URL, `postgres://user:password@host1:5432,host2:5432/database?sslmode=verify-full&sslrootcert=/path`.
pub(super) fn parse(url: &SecretString) -> Result<Place, StoreError> {
    let url = url.expose_secret();
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(StoreError::Invalid("the store's address has to begin with postgres://".into()));
    }
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let mut rest: Vec<&str> = Vec::new();
    let (mut mode, mut roots) = (None, None);
    for part in query.split('&').filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some(("sslmode", value)) => mode = Some(value),
            Some(("sslrootcert", value)) => roots = Some(PathBuf::from(decoded(value))),
            // A node writes: a standby is of no use to it, whatever the URL says.
            Some(("target_session_attrs", _)) => {}
            _ => rest.push(part),
        }
    }
    let url = if rest.is_empty() { address.to_owned() } else { format!("{address}?{}", rest.join("&")) };
    // What the library says of a URL may quote it.
    let mut config: Config = url.parse().map_err(|_| {
        StoreError::Invalid(
            "the store's address cannot be read: it is written postgres://user:password@host:5432/database, and special \
             characters of the password as %XX"
                .into(),
        )
    })?;
    let local = !config.get_hosts().is_empty() && config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
    let encrypted = match mode {
        Some("disable") => false,
        None if local => false,
        None | Some("verify-full") => true,
        Some(_) => {
            return Err(StoreError::Invalid(
                "the store's sslmode is verify-full (the default) or disable; a server whose certificate no public \
                 authority signed is trusted by sslrootcert=/path/to/ca.pem"
                    .into(),
            ));
        }
    };
    let tls = if encrypted { Rustls::trusting(roots.as_deref())? } else { Rustls::unused()? };
    config.ssl_mode(if encrypted { SslMode::Require } else { SslMode::Disable });
    config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    config.application_name("pillarbox");
    config.keepalives(true).keepalives_idle(SILENCE).keepalives_interval(Duration::from_secs(2)).keepalives_retries(3);
    config.tcp_user_timeout(SILENCE);
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT);
    }
    Ok(Place { config, tls })
}

/// Octets written as %XX.
fn decoded(text: &str) -> String {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()).filter(|_| *first == b'%');
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(octet) => {
                octets.push(octet);
                rest = &tail[2..];
            }
            None => {
                octets.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&octets).into_owned()
}

/// What a URL names, without user, password and parameters: for people.
pub(super) fn shown(config: &Config) -> String {
    let ports = config.get_ports();
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(index, host)| {
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(path) => format!("{}:{port}", path.display()),
            }
        })
        .collect();
    format!("{}/{}", hosts.join(","), config.get_dbname().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_parse(url: &str) -> Result<Place, StoreError> {
        parse(&SecretString::from(url.to_owned()))
    }

    #[test]
    fn several_hosts_are_read_and_only_one_that_writes_will_do() {
        let place = try_parse("postgres://u:p%40@a:1,b:2/mail?sslmode=disable&target_session_attrs=any").unwrap();
        assert_eq!(shown(&place.config), "a:1,b:2/mail");
        assert_eq!(place.config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        assert_eq!(place.config.get_password(), Some(&b"p@"[..]));
    }

    #[test]
    fn a_host_that_is_not_this_machine_is_verified_unless_it_is_said_otherwise() {
        let mode = |url: &str| try_parse(url).unwrap().config.get_ssl_mode();
        assert_eq!(mode("postgres://u:p@a/mail"), SslMode::Require);
        assert_eq!(mode("postgres://u:p@a/mail?sslmode=verify-full"), SslMode::Require);
        assert_eq!(mode("postgres://u:p@a/mail?sslmode=disable"), SslMode::Disable);
        assert_eq!(mode("postgres://u@%2Frun%2Fpostgresql/mail"), SslMode::Disable);
    }

    #[test]
    fn errors_never_show_the_password() {
        for url in [
            "postgres://u:hunter2@a/mail?sslmode=prefer",
            "postgres://u:hunter2@a:port/mail",
            "mysql://u:hunter2@a/b",
            "postgres://u:hunter2@a/mail?hunter2=1",
            "postgres://u:hunter2@a/mail?sslrootcert=/nowhere/ca.pem",
        ] {
            let error = try_parse(url).err().unwrap().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
