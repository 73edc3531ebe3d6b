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

/// How long a host may take until a connection is ready, before the next one is asked; one alone has twice the time. Half of
/// it is for being connected to: a name may have two addresses.
const HOST: Duration = Duration::from_secs(5);
/// A connection whose server says nothing for so long is dead.
const SILENCE: Duration = Duration::from_secs(10);

/// How connections are made.
pub(super) struct Place {
    pub(super) config: Config,
    /// The same for each host alone. The library limits the time of being connected to, and of nothing that comes after it.
    pub(super) hosts: Vec<Config>,
    /// How long each of them may take.
    pub(super) limit: Duration,
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
    let (names, addresses, ports) = (config.get_hosts().len(), config.get_hostaddrs().len(), config.get_ports().len());
    let count = names.max(addresses);
    if count == 0 || (names.min(addresses) > 0 && names != addresses) || (ports > 1 && ports != count) {
        return Err(StoreError::Invalid(
            "the store's address names no host, or not one port for each of its hosts".into(),
        ));
    }
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
    let limit = if count == 1 { HOST * 2 } else { HOST };
    let connect = config.get_connect_timeout().copied().unwrap_or(limit / 2);
    config.connect_timeout(connect);
    let limit = limit.max(connect.saturating_mul(2));
    let hosts = (0..count).map(|index| alone(&config, index)).collect();
    Ok(Place { config, hosts, limit, tls })
}

/// One of the hosts, with all else as it is for all of them.
fn alone(all: &Config, index: usize) -> Config {
    let mut one = without_hosts(all);
    match all.get_hosts().get(index) {
        Some(Host::Tcp(name)) => {
            one.host(name);
        }
        Some(Host::Unix(path)) => {
            one.host_path(path);
        }
        None => {}
    }
    if let Some(address) = all.get_hostaddrs().get(index) {
        one.hostaddr(*address);
    }
    if let Some(port) = all.get_ports().get(index).or(all.get_ports().first()) {
        one.port(*port);
    }
    one
}

/// All but the hosts, by hand: the library cannot take them away.
fn without_hosts(all: &Config) -> Config {
    let mut one = Config::new();
    if let Some(user) = all.get_user() {
        one.user(user);
    }
    if let Some(password) = all.get_password() {
        one.password(password);
    }
    if let Some(name) = all.get_dbname() {
        one.dbname(name);
    }
    if let Some(options) = all.get_options() {
        one.options(options);
    }
    if let Some(name) = all.get_application_name() {
        one.application_name(name);
    }
    if let Some(time) = all.get_connect_timeout() {
        one.connect_timeout(*time);
    }
    if let Some(time) = all.get_tcp_user_timeout() {
        one.tcp_user_timeout(*time);
    }
    if let Some(time) = all.get_keepalives_interval() {
        one.keepalives_interval(time);
    }
    if let Some(times) = all.get_keepalives_retries() {
        one.keepalives_retries(times);
    }
    one.keepalives(all.get_keepalives()).keepalives_idle(all.get_keepalives_idle());
    one.ssl_mode(all.get_ssl_mode()).ssl_negotiation(all.get_ssl_negotiation());
    one.channel_binding(all.get_channel_binding()).load_balance_hosts(all.get_load_balance_hosts());
    one.target_session_attrs(all.get_target_session_attrs());
    one
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
    format!("{}/{}", named(config), config.get_dbname().unwrap_or_default())
}

/// The hosts, with their ports.
pub(super) fn named(config: &Config) -> String {
    let ports = config.get_ports();
    let port = |index: usize| ports.get(index).or(ports.first()).copied().unwrap_or(5432);
    if config.get_hosts().is_empty() {
        let addresses = config.get_hostaddrs().iter().enumerate();
        return addresses.map(|(index, address)| format!("{address}:{}", port(index))).collect::<Vec<_>>().join(",");
    }
    let hosts = config.get_hosts().iter().enumerate().map(|(index, host)| match host {
        Host::Tcp(name) => format!("{name}:{}", port(index)),
        Host::Unix(path) => format!("{}:{}", path.display(), port(index)),
    });
    hosts.collect::<Vec<_>>().join(",")
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
    fn each_host_is_asked_with_all_that_the_url_says() {
        let asked = |hosts: &str| {
            let said = "options=-c%20geqo%3Doff&connect_timeout=3&keepalives=0&channel_binding=disable\
                        &load_balance_hosts=random&sslmode=verify-full";
            try_parse(&format!("postgres://u:p@{hosts}/mail?{said}")).unwrap()
        };
        let place = asked("a:1,b:2,c");
        let each: Vec<Config> = ["a:1", "b:2", "c:5432"].map(|host| asked(host).config).into();
        assert_eq!(place.hosts, each);
        assert_eq!(place.limit, Duration::from_secs(6));
        let socket = try_parse("postgres://u@%2Frun%2Fpostgresql/mail").unwrap();
        assert_eq!(socket.hosts, [socket.config]);
    }

    #[test]
    fn a_url_has_a_port_for_each_host() {
        for url in
            ["postgres://u:p@/mail", "postgres://u:p@a,b/mail?port=1", "postgres://u:p@a,b/mail?hostaddr=192.0.2.1"]
        {
            assert!(matches!(try_parse(url), Err(StoreError::Invalid(_))), "{url}");
        }
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
