//! Whether there is a newer version of this program: asked only where an operator says so, of a source they name.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use net::lookup::Kind;
use net::{Net, Outcome};

/// This version.
pub const OWN: &str = env!("CARGO_PKG_VERSION");
/// Longest wait for a connection.
const LIMIT: Duration = Duration::from_secs(10);

/// Where the newest version can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A text file: host, port, path.
    Https(String, u16, String),
    /// A TXT record.
    Dns(String),
}

impl Source {
    /// `https://host/path` or `dns:name`.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "a source is `https://host/path` of a text file, or `dns:name` of a TXT record".to_owned();
        if let Some(name) = text.strip_prefix("dns:") {
            let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            let good = !name.is_empty() && name.len() <= 253 && name.chars().all(is_name);
            return if good { Ok(Self::Dns(name.to_owned())) } else { Err(wrong()) };
        }
        let rest = text.strip_prefix("https://").ok_or_else(wrong)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
            None => (authority, 443),
        };
        let good = proto::address::parse_domain(host).is_ok() && path.chars().all(|c| c.is_ascii_graphic());
        if good { Ok(Self::Https(host.to_owned(), port, format!("/{path}"))) } else { Err(wrong()) }
    }
}

/// A version as numbers; what comes before a release is older than it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version([u32; 3], Rank, String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Before,
    Release,
}

impl Version {
    /// `1.2.3`, `v1.2`, `1.2.3-rc.1`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix("v=").unwrap_or(text);
        let text = text.strip_prefix('v').unwrap_or(text);
        if text.is_empty() || text.len() > 60 || !text.chars().all(|c| c.is_ascii_graphic()) {
            return None;
        }
        let text = text.split('+').next().unwrap_or(text);
        let (numbers, before) = text.split_once('-').map_or((text, None), |(numbers, before)| (numbers, Some(before)));
        let mut parts = [0; 3];
        let mut all = numbers.split('.');
        for (n, part) in parts.iter_mut().enumerate() {
            *part = match all.next() {
                Some(number) => number.parse().ok()?,
                None if n > 0 => 0,
                None => return None,
            };
        }
        let rank = if before.is_some() { Rank::Before } else { Rank::Release };
        all.next().is_none().then(|| Self(parts, rank, before.unwrap_or_default().to_owned()))
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self([major, minor, patch], rank, before) = self;
        write!(f, "{major}.{minor}.{patch}")?;
        if *rank == Rank::Before { write!(f, "-{before}") } else { Ok(()) }
    }
}

/// The newest version a source names.
///
/// # Errors
/// Why it is not known.
pub async fn latest(net: &Net, source: &Source) -> Result<Version, String> {
    let text = match source {
        Source::Dns(name) => {
            let answer = net.resolver.query(name, Kind::Txt).await;
            if let Outcome::Failed(why) = &answer.outcome {
                return Err(format!("the DNS does not answer for {name}: {why}"));
            }
            let texts = answer.texts();
            texts.into_iter().find(|text| Version::parse(text).is_some()).unwrap_or_default()
        }
        Source::Https(host, port, path) => {
            let peer = |ip: IpAddr| Some(SocketAddr::new(ip, *port));
            let request = net::https::Request { host, path, limit: LIMIT, peer: &peer };
            let body = net::https::get(net, request).await.map_err(|error| format!("{host}: {error}"))?;
            String::from_utf8_lossy(&body).lines().next().unwrap_or_default().to_owned()
        }
    };
    Version::parse(&text).ok_or_else(|| "the source names no version such as 1.2.3".to_owned())
}

/// Whether that is newer than this program.
pub fn is_newer(other: &Version) -> bool {
    Version::parse(OWN).is_some_and(|own| *other > own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let version = |text: &str| Version::parse(text).unwrap();
        let order = ["0.9.9", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2"];
        assert!(order.windows(2).all(|pair| version(pair[0]) < version(pair[1])));
        assert_eq!(version("v1.2"), version("1.2.0"));
        assert_eq!(version("v=1.2.3 "), version("1.2.3+build"));
        for text in ["", "one", "1.2.3.4", "1..2", "1.2.3 <b>", "99999999999"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
        assert!(is_newer(&version("99999.0")) && !is_newer(&version(OWN)));
    }

    #[test]
    fn a_source_is_a_text_file_or_a_record() {
        let https = |host: &str, port, path: &str| Ok(Source::Https(host.into(), port, path.into()));
        assert_eq!(Source::parse("https://example.com/pillarbox.txt"), https("example.com", 443, "/pillarbox.txt"));
        assert_eq!(Source::parse("https://example.com:8443"), https("example.com", 8443, "/"));
        assert_eq!(Source::parse("dns:_version.example.com"), Ok(Source::Dns("_version.example.com".into())));
        for text in
            ["http://example.com/", "example.com", "dns:", "dns:a b", "https:///x", "https://a/b c", "https://a:x/"]
        {
            assert!(Source::parse(text).is_err(), "{text}");
        }
    }
}
