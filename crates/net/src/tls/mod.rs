//! TLS for both directions, on one provider, without process-wide state.

mod binding;
mod chain;
mod client;
mod judge;
pub mod legacy;
mod memory;
mod pins;
mod server;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use proto::transcript::Failure;
use rustls::crypto::CryptoProvider;

pub(crate) use binding::binding;
pub use chain::{certificate_end, certificate_key, days_left};
pub use client::{ClientTls, Roots, Secured, Unsecured, Verify, https};
pub use judge::problem_text;
pub(crate) use memory::{Habit, Memory};
pub use memory::{Learnt, Opening};
pub use pins::{MAX_PINS, Pin, Pins};
pub(crate) use server::RELOAD_EVERY;
pub use server::ServerTls;

/// TLS could not be set up. What a peer does wrong is a `Failure`, not this.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file holds no usable PEM section of the kind wanted.
    #[error("{path}: no {wanted} in PEM form")]
    Pem {
        /// Which.
        path: PathBuf,
        /// "certificate" or "private key".
        wanted: &'static str,
    },
    /// No trusted root certificate was found.
    #[error("no trusted root certificates found")]
    NoRoots,
    /// The private key is not the certificate's.
    #[error("{key} is not the private key of {certificate}")]
    KeyMismatch {
        /// Certificate file.
        certificate: PathBuf,
        /// Key file.
        key: PathBuf,
    },
    /// The library refuses the settings or the key.
    #[error("TLS set-up: {0}")]
    Library(#[from] rustls::Error),
    /// The self-signed certificate could not be made.
    #[error("making a self-signed certificate: {0}")]
    SelfSigned(#[from] rcgen::Error),
}

/// Random octets, from the library that makes the keys.
pub(crate) fn random<const COUNT: usize>() -> Result<[u8; COUNT], Failure> {
    let mut octets = [0; COUNT];
    match provider().secure_random.fill(&mut octets) {
        Ok(()) => Ok(octets),
        Err(_) => Err(Failure::Local { reason: "the system has no randomness".into() }),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
