//! Incoming TLS: certificate and key from PEM files, reloaded while in use; a self-signed pair for the first start.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, RwLock};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::{TlsError, provider};
use crate::clock::Clock;

/// A certificate with its key, for any number of listeners.
#[derive(Debug)]
pub struct ServerTls {
    certificate: PathBuf,
    key: PathBuf,
    current: Arc<Current>,
    stamp: Mutex<Stamp>,
    clock: Clock,
}

/// Size and time of change of the two files.
type Stamp = [Option<(u64, SystemTime)>; 2];

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }
}

impl ServerTls {
    /// Loads a chain (leaf first) and its private key (PKCS#8, PKCS#1 or SEC1), both in PEM form.
    pub fn load(certificate: &Path, key: &Path, clock: Clock) -> Result<Self, TlsError> {
        let stamp = stamp(certificate, key);
        let current = Arc::new(Current(RwLock::new(read(certificate, key)?)));
        Ok(Self { certificate: certificate.into(), key: key.into(), current, stamp: Mutex::new(stamp), clock })
    }

    /// Loads `cert.pem` and `key.pem` from `directory`; makes them first if neither exists.
    ///
    /// `names` are host names or IP addresses, at least one. The pair is valid for ten years; the key is ECDSA P-256
    /// and its file is readable for the owner only.
    pub fn self_signed(names: &[String], directory: &Path, clock: Clock) -> Result<Self, TlsError> {
        let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
        if !certificate.exists() && !key.exists() {
            let (certificate_text, key_text) = make(names, &clock)?;
            fs::create_dir_all(directory).map_err(|error| TlsError::File { path: directory.into(), error })?;
            write(&key, key_text.as_bytes(), 0o600)?;
            write(&certificate, certificate_text.as_bytes(), 0o644)?;
        }
        Self::load(&certificate, &key, clock)
    }

    /// Reads the files again; on an error the pair in use stays. Open connections are not touched.
    pub fn reload(&self) -> Result<(), TlsError> {
        let stamp = stamp(&self.certificate, &self.key);
        // Also after an error, so that a broken file is reported once and not every half minute.
        *self.stamp.lock() = stamp;
        *self.current.0.write() = read(&self.certificate, &self.key)?;
        Ok(())
    }

    /// Reads the files again if they look changed; says whether they did. Listeners call this every half minute.
    pub fn reload_if_changed(&self) -> Result<bool, TlsError> {
        if *self.stamp.lock() == stamp(&self.certificate, &self.key) {
            return Ok(false);
        }
        self.reload().map(|()| true)
    }

    /// The certificate file.
    pub fn certificate_path(&self) -> &Path {
        &self.certificate
    }

    /// End of validity of the leaf in use, Unix seconds.
    pub fn not_after(&self) -> Option<i64> {
        let key = self.current.0.read().clone();
        let (_, leaf) = x509_parser::parse_x509_certificate(key.cert.first()?).ok()?;
        Some(leaf.validity().not_after.timestamp())
    }

    /// An acceptor for one listener: TLS 1.2 or 1.3, no ALPN, tickets under a key of its own, so that a session of
    /// one listener cannot be resumed on another.
    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let mut config = ServerConfig::builder_with_details(provider(), Arc::new(self.clock.clone()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.current.clone());
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        config.send_tls13_tickets = 1;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn stamp(certificate: &Path, key: &Path) -> Stamp {
    [certificate, key].map(|path| {
        let meta = fs::metadata(path).ok()?;
        Some((meta.len(), meta.modified().ok()?))
    })
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, TlsError> {
    let file = |path: &Path| fs::read(path).map_err(|error| TlsError::File { path: path.into(), error });
    let none = |path: &Path, wanted| TlsError::Pem { path: path.into(), wanted };
    let chain = CertificateDer::pem_slice_iter(&file(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| none(certificate, "certificate"))?;
    if chain.is_empty() {
        return Err(none(certificate, "certificate"));
    }
    let secret = PrivateKeyDer::from_pem_slice(&file(key)?).map_err(|_| none(key, "private key"))?;
    let signer = provider().key_provider.load_private_key(secret)?;
    let pair = CertifiedKey::new(chain, signer);
    match pair.keys_match() {
        Ok(()) => Ok(Arc::new(pair)),
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(Arc::new(pair)),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(TlsError::KeyMismatch { certificate: certificate.into(), key: key.into() })
        }
        Err(error) => Err(error.into()),
    }
}

fn make(names: &[String], clock: &Clock) -> Result<(String, String), TlsError> {
    let mut params = rcgen::CertificateParams::new(names.to_vec())?;
    let mut subject = rcgen::DistinguishedName::new();
    // A common name has at most 64 characters (RFC 5280 §A.1); the alternative names are what counts.
    let common: String = names.first().map_or("pillarbox", String::as_str).chars().take(64).collect();
    subject.push(rcgen::DnType::CommonName, common);
    params.distinguished_name = subject;
    let today = jiff::Timestamp::from_millisecond(clock.now_ms())
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date();
    let yesterday = today.yesterday().unwrap_or(today);
    let day = |date: jiff::civil::Date, years: i32| {
        // Day 28 exists in every month, so ten years on is a date as well.
        let (month, day) = (date.month().unsigned_abs(), date.day().min(28).unsigned_abs());
        rcgen::date_time_ymd(i32::from(date.year()) + years, month, day)
    };
    params.not_before = day(yesterday, 0);
    params.not_after = day(today, 10);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Writes beside and renames, so that a crash leaves no half file that the next start would stumble over.
fn write(path: &Path, text: &[u8], mode: u32) -> Result<(), TlsError> {
    let part = path.with_extension("pem.part");
    let put = || -> io::Result<()> {
        match fs::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&part)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    put().map_err(|error| TlsError::File { path: path.into(), error })
}

/// How often listeners look whether their files changed.
pub(crate) const RELOAD_EVERY: Duration = Duration::from_secs(30);
