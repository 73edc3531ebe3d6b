//! The policy file by HTTPS, with the audit's resolver and limits; what went wrong as a fragment.

use std::net::SocketAddr;

use net::https::{self, FetchError, Request};

use super::audit::Scene;
use super::smtp::in_words;

/// The body of `https://host/path`.
pub(super) async fn get(scene: Scene<'_>, host: &str, path: &str) -> Result<Vec<u8>, String> {
    let (net, plan) = (&scene.auditor.net, &scene.auditor.plan);
    let peer = |ip| Some(plan.redirected(SocketAddr::new(ip, 443)));
    let request = Request { host, path, limit: plan.timeout, peer: &peer };
    https::get(net, request).await.map_err(|error| match error {
        FetchError::Reach(failure) => format!("{host}: {}", in_words(&failure)),
        FetchError::Tls(failure) => in_words(&failure),
        other => other.to_string(),
    })
}
