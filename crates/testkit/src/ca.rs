//! A certificate authority for tests: valid, expired, not yet valid, misnamed and self-signed server certificates, and chains
//! with an authority between.
//!
//! Keys are made anew in each test; nothing is ever trusted by anything outside of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// The authority.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Issued {
    /// Leaf, then authority.
    pub cert_pem: String,
    /// PKCS #8.
    pub key_pem: String,
    cert: CertificateDer<'static>,
    key: Vec<u8>,
    above: Vec<CertificateDer<'static>>,
}

/// When a certificate holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// 2020 to 2100.
    Now,
    /// 2001 to 2002.
    Past,
    /// 2090 to 2100.
    Future,
}

impl Default for Ca {
    fn default() -> Self {
        Self::new()
    }
}

impl Ca {
    /// A new authority with a key of its own.
    pub fn new() -> Self {
        Self::named("Pillarbox test authority")
    }

    /// A new authority with this common name.
    pub fn named(name: &str) -> Self {
        let (key, params) = authority(name);
        let cert = params.self_signed(&key).expect("authority");
        Self { pem: cert.pem(), der: cert.der().clone(), issuer: Issuer::new(params, key) }
    }

    /// An authority below this one.
    pub fn intermediate(&self, name: &str) -> Self {
        let (key, params) = authority(name);
        let cert = params.signed_by(&key, &self.issuer).expect("authority");
        Self { pem: cert.pem(), der: cert.der().clone(), issuer: Issuer::new(params, key) }
    }

    /// The authority's certificate.
    pub fn der(&self) -> Vec<u8> {
        self.der.to_vec()
    }

    /// The authority's private key in PEM, for other programs that are to sign with it.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// The authority's certificate in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Writes `ca.pem` and gives its path.
    pub fn write_pem(&self, dir: &Path) -> PathBuf {
        let path = dir.join("ca.pem");
        std::fs::write(&path, &self.pem).expect("write ca.pem");
        path
    }

    /// A server certificate for these host names or addresses that is valid now.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_for(names, Validity::Now)
    }

    /// A server certificate with a chosen time. A wrong name is just another name.
    pub fn issue_for(&self, names: &[&str], validity: Validity) -> Issued {
        let (key, params) = server(names, validity);
        let cert = params.signed_by(&key, &self.issuer).expect("certificate");
        Issued {
            cert_pem: format!("{}{}", cert.pem(), self.pem),
            key_pem: key.serialize_pem(),
            cert: cert.der().clone(),
            key: key.serialize_der(),
            above: Vec::new(),
        }
    }

    /// A server certificate signed by its own key; `is_authority` as `openssl req -x509` makes it.
    pub fn self_signed(names: &[&str], validity: Validity, is_authority: bool) -> Issued {
        let (key, mut params) = server(names, validity);
        if is_authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let cert = params.self_signed(&key).expect("certificate");
        Issued {
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
            cert: cert.der().clone(),
            key: key.serialize_der(),
            above: Vec::new(),
        }
    }

    /// A client set-up that trusts this authority and nothing else.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

fn authority(name: &str) -> (KeyPair, CertificateParams) {
    let key = KeyPair::generate().expect("key");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(2100, 1, 1);
    (key, params)
}

fn server(names: &[&str], validity: Validity) -> (KeyPair, CertificateParams) {
    let key = KeyPair::generate().expect("key");
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names.clone()).expect("names");
    params.distinguished_name.push(DnType::CommonName, names.first().cloned().unwrap_or_default());
    let (from, to) = match validity {
        Validity::Now => (2020, 2100),
        Validity::Past => (2001, 2002),
        Validity::Future => (2090, 2100),
    };
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(to, 1, 1);
    (key, params)
}

/// The content of a TLSA record for a certificate, as a zone file has it: `3 1 1 …`.
pub fn pin(usage: u8, selector: u8, matching: u8, certificate: &[u8]) -> String {
    use aws_lc_rs::digest::{SHA256, SHA512, digest};
    let selected = if selector == 1 { public_key(certificate) } else { certificate };
    let data = match matching {
        0 => selected.to_vec(),
        1 => digest(&SHA256, selected).as_ref().to_vec(),
        _ => digest(&SHA512, selected).as_ref().to_vec(),
    };
    let hex: String = data.iter().map(|octet| format!("{octet:02x}")).collect();
    format!("{usage} {selector} {matching} {hex}")
}

/// The `SubjectPublicKeyInfo` of a certificate (RFC 5280 §4.1), with its header.
fn public_key(certificate: &[u8]) -> &[u8] {
    let mut rest = element(element(certificate).1).1;
    // Version, serial number, algorithm, issuer, validity, holder; then the key.
    for _ in 0..6 {
        rest = &rest[element(rest).0..];
    }
    &rest[..element(rest).0]
}

/// Length of one DER element with its header, and its content.
fn element(der: &[u8]) -> (usize, &[u8]) {
    let (length, head) = match der[1] {
        short @ 0..=0x7f => (usize::from(short), 2),
        long => {
            let count = usize::from(long & 0x7f);
            (der[2..2 + count].iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)), 2 + count)
        }
    };
    (head + length, &der[head..head + length])
}

impl Issued {
    /// Sends this authority's certificate behind its own: once for each authority of the chain, from below.
    #[must_use]
    pub fn with(mut self, above: &Ca) -> Self {
        self.above.push(above.der.clone());
        self
    }

    /// The certificate alone.
    pub fn der(&self) -> Vec<u8> {
        self.cert.to_vec()
    }

    /// Writes `cert.pem` and `key.pem` and gives their paths.
    pub fn write(&self, dir: &Path) -> (PathBuf, PathBuf) {
        let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
        std::fs::write(&cert, &self.cert_pem).expect("write cert.pem");
        std::fs::write(&key, &self.key_pem).expect("write key.pem");
        (cert, key)
    }

    /// A server set-up with this certificate.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(std::iter::once(&self.cert).chain(&self.above).cloned().collect(), key)
            .expect("certificate and key");
        Arc::new(config)
    }
}
