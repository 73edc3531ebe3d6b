//! The key that encrypts stored secrets: where it comes from, and making one on the first start.

use std::fmt;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rand::Rng as _;
use secrecy::SecretBox;

use super::checked::KeySource;

/// The key's octets.
pub type Key = SecretBox<[u8; 32]>;

/// Where the key was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// An environment variable of this name.
    Environment(String),
    /// The systemd credential.
    Credential(PathBuf),
    /// A file.
    File(PathBuf),
    /// A file that was made just now.
    Made(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Credential(path) => write!(f, "systemd credential {}", path.display()),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Made(path) => write!(f, "{} (made now; keep a copy apart from the data)", path.display()),
        }
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It is not 32 octets.
    #[error("the key in {0} is not 32 octets (raw, base64 or hex)")]
    Shape(String),
    /// A file cannot be read or made.
    #[error("cannot use the key file {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others can read the file.
    #[error("the key file {0} can be read by others: chmod 600")]
    Open(PathBuf),
}

/// Finds the key; makes `key` in the data directory if there is none anywhere.
pub fn load(source: &KeySource, data_dir: &Path) -> Result<(Key, Origin), KeyError> {
    if let Some(found) = from_variable("PILLARBOX_KEY") {
        return found;
    }
    if let Some(directory) = std::env::var_os("CREDENTIALS_DIRECTORY") {
        let path = Path::new(&directory).join("pillarbox-key");
        if path.exists() {
            // systemd guards this directory; its modes differ between versions.
            return Ok((read(&path)?, Origin::Credential(path)));
        }
    }
    if let Some(path) = &source.file {
        guarded(path)?;
        return Ok((read(path)?, Origin::File(path.clone())));
    }
    let path = data_dir.join("key");
    if path.exists() {
        guarded(&path)?;
        return Ok((read(&path)?, Origin::File(path)));
    }
    Ok((make(&path)?, Origin::Made(path)))
}

fn from_variable(name: &str) -> Option<Result<(Key, Origin), KeyError>> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    let key = decode(text.as_bytes()).ok_or_else(|| KeyError::Shape(format!("environment variable {name}")));
    Some(key.map(|key| (key, Origin::Environment(name.to_owned()))))
}

fn read(path: &Path) -> Result<Key, KeyError> {
    let octets = std::fs::read(path).map_err(|source| KeyError::File { path: path.to_owned(), source })?;
    decode(&octets).ok_or_else(|| KeyError::Shape(path.display().to_string()))
}

fn guarded(path: &Path) -> Result<(), KeyError> {
    let metadata = std::fs::metadata(path).map_err(|source| KeyError::File { path: path.to_owned(), source })?;
    if metadata.permissions().mode() & 0o007 != 0 {
        return Err(KeyError::Open(path.to_owned()));
    }
    Ok(())
}

/// Raw, hex, or base64 in either alphabet.
fn decode(octets: &[u8]) -> Option<Key> {
    if let Ok(raw) = <[u8; 32]>::try_from(octets) {
        return Some(Key::new(Box::new(raw)));
    }
    let text = std::str::from_utf8(octets).ok()?.trim();
    let decoded = if text.len() == 64 && text.bytes().all(|octet| octet.is_ascii_hexdigit()) {
        (0..32).map(|n| u8::from_str_radix(text.get(2 * n..2 * n + 2)?, 16).ok()).collect::<Option<Vec<u8>>>()?
    } else {
        STANDARD.decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text.trim_end_matches('='))).ok()?
    };
    <[u8; 32]>::try_from(decoded.as_slice()).ok().map(|raw| Key::new(Box::new(raw)))
}

fn make(path: &Path) -> Result<Key, KeyError> {
    let mut raw = [0u8; 32];
    rand::rng().fill_bytes(&mut raw);
    let write = || -> std::io::Result<()> {
        // Two starts at once must not end with two keys: only one can create it.
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        writeln!(file, "{}", STANDARD.encode(raw))?;
        file.sync_all()?;
        std::fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|source| KeyError::File { path: path.to_owned(), source })?;
    Ok(Key::new(Box::new(raw)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn a_key_may_be_raw_hex_or_base64() {
        let raw = [7u8; 32];
        let hex = "07".repeat(32);
        let base64 = format!("{}\n", STANDARD.encode(raw));
        for text in [&raw[..], hex.as_bytes(), base64.as_bytes()] {
            assert_eq!(decode(text).unwrap().expose_secret(), &raw);
        }
        for text in ["", "short", &"07".repeat(31), "zz"] {
            assert!(decode(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn the_first_start_makes_a_key_and_the_next_one_finds_it() {
        let directory = tempfile::tempdir().unwrap();
        let (first, origin) = load(&KeySource::default(), directory.path()).unwrap();
        assert!(matches!(origin, Origin::Made(_)));
        let (second, origin) = load(&KeySource::default(), directory.path()).unwrap();
        assert!(matches!(origin, Origin::File(_)));
        assert_eq!(first.expose_secret(), second.expose_secret());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, "07".repeat(32)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load(&KeySource::default(), directory.path()), Err(KeyError::Open(_))));
    }
}
