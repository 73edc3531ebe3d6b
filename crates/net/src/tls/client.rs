//! Outgoing TLS: the handshake always completes if it can, then the certificate is judged and the verdict kept.
//!
//! Judging after the handshake leaves names and dates of a refused certificate at hand for the explanation, lets
//! one configuration (with its resumption store) serve strict and opportunistic connections, and judges resumed
//! sessions like new ones. Nothing is sent on the connection before the verdict.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use proto::transcript::{CertificateProblem, Fact, Failure};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::judge::{Judge, problem_text};
use super::memory::{Memory, Opening};
use super::pins::Pins;
use super::{TlsError, chain, provider};
use crate::clock::Clock;

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
    /// As little as a handshake needs, for servers that choke on more.
    reduced: Arc<ClientConfig>,
    memory: Arc<Memory>,
    judge: Judge,
    clock: Clock,
}

/// A handshake that was watched, and went well.
#[derive(Debug)]
pub struct Secured {
    /// The connection.
    pub stream: TlsStream<TcpStream>,
    /// [`Fact::Tls`].
    pub tls: Fact,
    /// [`Fact::Chain`].
    pub chain: Fact,
    /// What is wrong with the certificate, the most telling first: only with [`Verify::Opportunistic`].
    pub problems: Vec<CertificateProblem>,
}

/// A handshake that was watched, and did not lead to a usable connection.
#[derive(Debug, Clone, PartialEq)]
pub struct Unsecured {
    /// Why.
    pub failure: Failure,
    /// [`Fact::Chain`], if the server came to send it.
    pub chain: Option<Fact>,
    /// [`Fact::Tls`], if only the certificate was refused.
    pub tls: Option<Fact>,
    /// All that is wrong with the certificate; the first is that of the failure.
    pub problems: Vec<CertificateProblem>,
}

impl Unsecured {
    fn bare(failure: Failure) -> Box<Self> {
        Box::new(Self { failure, chain: None, tls: None, problems: Vec::new() })
    }
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls").finish_non_exhaustive()
    }
}

/// Settings for HTTPS: the same authorities as for mail, and no way around them. Reads files: call at start-up.
pub fn https(roots: &Roots, clock: Clock) -> Result<ClientConfig, TlsError> {
    let store = load(roots)?;
    if store.is_empty() {
        return Err(TlsError::NoRoots);
    }
    let builder =
        ClientConfig::builder_with_details(provider(), Arc::new(clock)).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(store).with_no_client_auth())
}

impl ClientTls {
    /// Loads the roots. Reads files: call at start-up.
    pub fn new(roots: &Roots, clock: Clock) -> Result<Self, TlsError> {
        let provider = provider();
        let store = load(roots)?;
        if store.is_empty() {
            return Err(TlsError::NoRoots);
        }
        let judge = Judge::new(store, provider.clone())?;
        let mut config = ClientConfig::builder_with_details(provider.clone(), Arc::new(clock.clone()))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Later { provider: provider.clone(), seen: None }))
            .with_no_client_auth();
        config.enable_early_data = false;
        let reduced = reduced(provider, &clock)?;
        let memory = Arc::new(Memory::new(clock.clone()));
        Ok(Self { config: Arc::new(config), reduced: Arc::new(reduced), memory, judge, clock })
    }

    /// Servers whose TLS is broken, and what works with them, by name.
    pub fn learnt(&self) -> Vec<super::memory::Learnt> {
        self.memory.all()
    }

    /// What was learnt about servers whose TLS is broken; shared by all clones.
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    fn opening(&self, opening: Opening) -> Arc<ClientConfig> {
        match opening {
            Opening::Full => self.config.clone(),
            Opening::Reduced => self.reduced.clone(),
        }
    }

    /// As [`Self::handshake`], with a certificate that fits the pins: nobody else is asked about it (RFC 7672 §3.1).
    ///
    /// `Err` with [`CertificateProblem::Other`] when none fits.
    pub async fn handshake_pinned(
        &self,
        tcp: TcpStream,
        pins: &Pins,
        opening: Opening,
    ) -> Result<(TlsStream<TcpStream>, Fact), Failure> {
        let host = pins.names.first().map_or("", String::as_str);
        let name = server_name(host);
        let stream = shake(self.opening(opening), tcp, host, name.as_ref(), Verify::Opportunistic).await?;
        let connection = stream.get_ref().1;
        let chain = connection.peer_certificates().unwrap_or_default();
        if let Err(reason) = pins.check(chain, &provider(), self.now()) {
            return Err(refused(&[CertificateProblem::Other(reason)], chain));
        }
        let mut fact = tls_fact(connection, None);
        if let Fact::Tls { by, .. } = &mut fact {
            *by = Some("DANE".into());
        }
        Ok((stream, fact))
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
        self.handshake_opened(tcp, host, verify, Opening::Full).await
    }

    /// As [`Self::handshake`], with a choice of the first message.
    pub async fn handshake_opened(
        &self,
        tcp: TcpStream,
        host: &str,
        verify: Verify,
        opening: Opening,
    ) -> Result<(TlsStream<TcpStream>, Fact), Failure> {
        let name = server_name(host);
        let stream = shake(self.opening(opening), tcp, host, name.as_ref(), verify).await?;
        let connection = stream.get_ref().1;
        let chain = connection.peer_certificates().unwrap_or_default();
        let problem = self.judge.verdict(chain, name.as_ref(), self.now()).err();
        if let (Some(problem), Verify::Full) = (&problem, verify) {
            let problems = self.judge.problems(chain, name.as_ref(), self.now(), problem.clone());
            return Err(refused(&problems, chain));
        }
        let fact = tls_fact(connection, problem.as_ref());
        Ok((stream, fact))
    }

    /// As [`Self::handshake`], and tells the chain and all that is wrong with it, whatever comes of it.
    ///
    /// For diagnosis: never resumes a session, and takes the certificates apart.
    pub async fn handshake_reported(
        &self,
        tcp: TcpStream,
        host: &str,
        verify: Verify,
    ) -> Result<Secured, Box<Unsecured>> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut config = (*self.config).clone();
        config.resumption = Resumption::disabled();
        let later = Later { provider: provider(), seen: Some(seen.clone()) };
        config.dangerous().set_certificate_verifier(Arc::new(later));
        let name = server_name(host);
        let outcome = shake(Arc::new(config), tcp, host, name.as_ref(), verify).await;
        let chain = std::mem::take(&mut *seen.lock());
        let verdict = self.judge.verdict(&chain, name.as_ref(), self.now());
        let problems = match &verdict {
            Ok(()) => Vec::new(),
            Err(problem) => self.judge.problems(&chain, name.as_ref(), self.now(), problem.clone()),
        };
        let sent = chain::fact(&chain);
        let stream = match outcome {
            Ok(stream) => stream,
            Err(failure) if chain.is_empty() => return Err(Unsecured::bare(failure)),
            Err(failure) => {
                let problems = match &failure {
                    // webpki does not look at the size of the server's own key.
                    Failure::Certificate { problem, .. } if problems.is_empty() => vec![problem.clone()],
                    Failure::Certificate { .. } => problems,
                    _ => Vec::new(),
                };
                let failure = if problems.is_empty() { failure } else { refused(&problems, &chain) };
                return Err(Box::new(Unsecured { failure, chain: Some(sent), tls: None, problems }));
            }
        };
        let tls = tls_fact(stream.get_ref().1, problems.first());
        if problems.is_empty() || verify == Verify::Opportunistic {
            return Ok(Secured { stream, tls, chain: sent, problems });
        }
        let failure = refused(&problems, &chain);
        Err(Box::new(Unsecured { failure, chain: Some(sent), tls: Some(tls), problems }))
    }

    fn now(&self) -> UnixTime {
        self.clock.current_time().unwrap_or(UnixTime::now())
    }
}

async fn shake(
    config: Arc<ClientConfig>,
    tcp: TcpStream,
    host: &str,
    name: Option<&ServerName<'static>>,
    verify: Verify,
) -> Result<TlsStream<TcpStream>, Failure> {
    // A host that cannot be in a certificate gets a handshake without a name, so that opportunistic TLS works.
    let indicated = match (name, verify) {
        (Some(name), _) => name.clone(),
        (None, Verify::Opportunistic) => match tcp.peer_addr() {
            Ok(peer) => ServerName::from(peer.ip()),
            Err(_) => return Err(Failure::Disconnected),
        },
        (None, Verify::Full) => {
            return Err(Failure::TlsHandshake { reason: format!("{host:?} cannot be the name in a certificate") });
        }
    };
    TlsConnector::from(config).connect(indicated, tcp).await.map_err(|error| handshake_failure(&error))
}

fn refused(problems: &[CertificateProblem], chain: &[CertificateDer<'_>]) -> Failure {
    let (names, not_after) = chain.first().map(|leaf| chain::names_and_end(leaf)).unwrap_or_default();
    let problem = problems.first().cloned().unwrap_or(CertificateProblem::Other("refused".into()));
    Failure::Certificate { problem, names, not_after }
}

fn tls_fact(connection: &ClientConnection, problem: Option<&CertificateProblem>) -> Fact {
    Fact::Tls {
        version: connection.protocol_version().map_or_else(|| "TLS".into(), version_text),
        cipher: connection
            .negotiated_cipher_suite()
            .map_or_else(String::new, |suite| suite.suite().as_str().unwrap_or("unknown").to_owned()),
        verified: problem.is_none(),
        problem: problem.map(problem_text),
        by: None,
    }
}

/// TLS 1.2 only, and no key exchange that makes the first message long: old servers and middle boxes fail at versions and
/// groups they do not know, or at a message in two segments.
fn reduced(provider: Arc<CryptoProvider>, clock: &Clock) -> Result<ClientConfig, TlsError> {
    use rustls::NamedGroup;
    let mut plain = (*provider).clone();
    plain.kx_groups.retain(|group| matches!(group.name(), NamedGroup::X25519 | NamedGroup::secp256r1));
    let mut config = ClientConfig::builder_with_details(Arc::new(plain), Arc::new(clock.clone()))
        .with_protocol_versions(&[&rustls::version::TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Later { provider, seen: None }))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
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
        Some(Error::InvalidCertificate(CertificateError::Other(OtherError(inner)))) if inner.is::<WeakKey>() => {
            inner.downcast_ref::<WeakKey>().map_or(Failure::Disconnected, |weak| weak.0.clone())
        }
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

/// Accepts any certificate during the handshake; checks that the peer has its key.
#[derive(Debug)]
struct Later {
    provider: Arc<CryptoProvider>,
    /// Where the chain is put for a report.
    seen: Option<Arc<Mutex<Vec<CertificateDer<'static>>>>>,
}

/// The handshake's signature cannot be checked, since the key is one that nobody should use: a failure of the
/// certificate, and not of the handshake.
#[derive(Debug, thiserror::Error)]
#[error("the server's key is too weak")]
struct WeakKey(Failure);

fn weak_key(error: Error, certificate: &CertificateDer<'_>) -> Error {
    match chain::weakness_of(certificate) {
        Some(weak) => {
            let failure = refused(&[CertificateProblem::Weak(weak)], std::slice::from_ref(certificate));
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(WeakKey(failure)))))
        }
        None => error,
    }
}

impl ServerCertVerifier for Later {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(seen) = &self.seen {
            let sent = std::iter::once(leaf).chain(intermediates);
            *seen.lock() = sent.map(|certificate| certificate.clone().into_owned()).collect();
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
            .map_err(|error| weak_key(error, certificate))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
            .map_err(|error| weak_key(error, certificate))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
