//! Outgoing TLS: the handshake always completes if it can, then the certificate is judged and the verdict kept.
//!
//! Judging after the handshake leaves names and dates of a refused certificate at hand for the explanation, lets
//! one configuration (with its resumption store) serve strict and opportunistic connections, and judges resumed
//! sessions like new ones. Nothing is sent on the connection before the verdict.

use std::path::PathBuf;
use std::sync::Arc;

use proto::transcript::{CertificateProblem, Fact, Failure};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{TlsError, provider};
use crate::clock::Clock;

/// Most names of a certificate that are kept for the report.
const MAX_NAMES: usize = 20;

/// Whose signatures are trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// The machine's store.
    System,
    /// Mozilla's list as compiled in.
    Web,
    /// Both.
    Both,
    /// The certificates in this PEM file, and no others.
    Pem(PathBuf),
}

/// What a certificate that does not verify does to the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// The connection fails.
    Full,
    /// It is noted, and the connection is used: encryption without authentication (RFC 7435).
    Opportunistic,
}

/// Settings of outgoing TLS 1.2 and 1.3; cheap to clone.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    roots: Arc<WebPkiServerVerifier>,
    clock: Clock,
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls").finish_non_exhaustive()
    }
}

impl ClientTls {
    /// Loads the roots. Reads files: call at start-up.
    pub fn new(roots: &Roots, clock: Clock) -> Result<Self, TlsError> {
        let provider = provider();
        let store = load(roots)?;
        if store.is_empty() {
            return Err(TlsError::NoRoots);
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone())
            .build()
            .map_err(|error| TlsError::Library(Error::General(error.to_string())))?;
        let mut config = ClientConfig::builder_with_details(provider.clone(), Arc::new(clock.clone()))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Later(provider)))
            .with_no_client_auth();
        config.enable_early_data = false;
        Ok(Self { config: Arc::new(config), roots: verifier, clock })
    }

    /// Does the handshake with `host` (a host name, IP address or address literal) and judges its certificate.
    ///
    /// Returns the stream and a [`Fact::Tls`]. No time limit: the caller has one.
    pub async fn handshake(
        &self,
        tcp: TcpStream,
        host: &str,
        verify: Verify,
    ) -> Result<(TlsStream<TcpStream>, Fact), Failure> {
        let name = server_name(host);
        // A host that cannot be in a certificate gets a handshake without a name, so that opportunistic TLS works.
        let indicated = match (&name, verify) {
            (Some(name), _) => name.clone(),
            (None, Verify::Opportunistic) => match tcp.peer_addr() {
                Ok(peer) => ServerName::from(peer.ip()),
                Err(_) => return Err(Failure::Disconnected),
            },
            (None, Verify::Full) => {
                return Err(Failure::TlsHandshake { reason: format!("{host:?} cannot be the name in a certificate") });
            }
        };
        let stream = TlsConnector::from(self.config.clone())
            .connect(indicated, tcp)
            .await
            .map_err(|error| handshake_failure(&error))?;
        let connection = stream.get_ref().1;
        let chain = connection.peer_certificates().unwrap_or_default();
        let problem = self.judge(chain, name.as_ref()).err();
        if let (Some(problem), Verify::Full) = (&problem, verify) {
            let (names, not_after) = chain.first().map(describe).unwrap_or_default();
            return Err(Failure::Certificate { problem: problem.clone(), names, not_after });
        }
        let fact = Fact::Tls {
            version: connection.protocol_version().map_or_else(|| "TLS".into(), version_text),
            cipher: connection
                .negotiated_cipher_suite()
                .map_or_else(String::new, |suite| suite.suite().as_str().unwrap_or("unknown").to_owned()),
            verified: problem.is_none(),
            problem: problem.map(|problem| problem_text(&problem)),
        };
        Ok((stream, fact))
    }

    fn judge(&self, chain: &[CertificateDer<'_>], name: Option<&ServerName<'_>>) -> Result<(), CertificateProblem> {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Err(CertificateProblem::Other("the server sent no certificate".into()));
        };
        let Some(name) = name else {
            return Err(CertificateProblem::NameMismatch);
        };
        let now = self.clock.current_time().unwrap_or(UnixTime::now());
        match self.roots.verify_server_cert(leaf, intermediates, name, &[], now) {
            Ok(_) => Ok(()),
            Err(error) => Err(problem_of(&error)),
        }
    }
}

fn load(roots: &Roots) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    if matches!(roots, Roots::Web | Roots::Both) {
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    if matches!(roots, Roots::System | Roots::Both) {
        let native = rustls_native_certs::load_native_certs();
        for error in &native.errors {
            tracing::warn!(%error, "a root certificate of this system cannot be read");
        }
        store.add_parsable_certificates(native.certs);
    }
    if let Roots::Pem(path) = roots {
        let file = |error| TlsError::File { path: path.clone(), error };
        let text = std::fs::read(path).map_err(file)?;
        let certificates = CertificateDer::pem_slice_iter(&text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| TlsError::Pem { path: path.clone(), wanted: "certificate" })?;
        for certificate in certificates {
            store.add(certificate)?;
        }
    }
    Ok(store)
}

fn server_name(host: &str) -> Option<ServerName<'static>> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let bare = match bare.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("ipv6:") => &bare[5..],
        _ => bare,
    };
    ServerName::try_from(bare.trim_end_matches('.').to_owned()).ok()
}

fn handshake_failure(error: &std::io::Error) -> Failure {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(inner) => Failure::TlsHandshake { reason: inner.to_string() },
        None if matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof) => {
            Failure::TlsHandshake { reason: "the peer closed the connection during the handshake".into() }
        }
        None => Failure::TlsHandshake { reason: error.to_string() },
    }
}

fn version_text(version: rustls::ProtocolVersion) -> String {
    match version {
        rustls::ProtocolVersion::TLSv1_2 => "TLSv1.2".into(),
        rustls::ProtocolVersion::TLSv1_3 => "TLSv1.3".into(),
        other => format!("{other:?}"),
    }
}

fn problem_of(error: &Error) -> CertificateProblem {
    let Error::InvalidCertificate(error) = error else {
        return CertificateProblem::Other(error.to_string());
    };
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => CertificateProblem::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => CertificateProblem::NotYetValid,
        // A bad signature is that of an authority with the name of a trusted one and another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => CertificateProblem::UnknownIssuer,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            CertificateProblem::NameMismatch
        }
        CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            CertificateProblem::Other("an authority's certificate (CA:TRUE) is used as the server's own".into())
        }
        other => CertificateProblem::Other(other.to_string()),
    }
}

fn problem_text(problem: &CertificateProblem) -> String {
    match problem {
        CertificateProblem::Expired => "expired".into(),
        CertificateProblem::NotYetValid => "not yet valid".into(),
        CertificateProblem::UnknownIssuer => "issuer is not trusted".into(),
        CertificateProblem::NameMismatch => "not for this name".into(),
        CertificateProblem::SelfSigned => "signed by its own key".into(),
        CertificateProblem::MissingIntermediate => "the signer's certificate was not sent".into(),
        CertificateProblem::Other(text) | CertificateProblem::Weak(text) => text.clone(),
    }
}

/// Names (alternative names, or else the common name; escaped) and end of validity (Unix seconds).
fn describe(certificate: &CertificateDer<'_>) -> (Vec<String>, Option<i64>) {
    use x509_parser::extensions::GeneralName;
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else {
        return (Vec::new(), None);
    };
    let mut names: Vec<String> = Vec::new();
    if let Ok(Some(alternative)) = certificate.subject_alternative_name() {
        names.extend(alternative.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(escaped(name)),
            GeneralName::IPAddress(octets) => match *octets {
                [a, b, c, d] => Some(std::net::Ipv4Addr::new(*a, *b, *c, *d).to_string()),
                octets => <[u8; 16]>::try_from(octets).ok().map(|six| std::net::Ipv6Addr::from(six).to_string()),
            },
            _ => None,
        }));
    }
    if names.is_empty() {
        names.extend(certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok().map(escaped)));
    }
    names.truncate(MAX_NAMES);
    (names, Some(certificate.validity().not_after.timestamp()))
}

fn escaped(text: &str) -> String {
    text.chars().take(255).flat_map(char::escape_default).collect()
}

/// Accepts any certificate during the handshake; checks that the peer has its key.
#[derive(Debug)]
struct Later(Arc<CryptoProvider>);

impl ServerCertVerifier for Later {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
