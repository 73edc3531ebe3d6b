//! Who may look at `/metrics`: this machine, listed networks, and whoever has the token or a key that may.
//!
//! Figures tell of business: how much is sent by which provider. A request that came through a proxy is not this machine's,
//! wherever the proxy runs.

use std::net::IpAddr;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::text::{OPENMETRICS, PLAIN, openmetrics, plain};
use super::{Desk, snapshot};
use crate::http::auth;
use crate::http::listener::Client;
use crate::http::problem::Problem;
use crate::http::{App, Shared};

/// Headers that say that somebody stands between.
const PROXIED: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

/// For whoever asks over the network.
pub async fn public(State(app): State<Shared>, request: Request) -> Result<Response, Problem> {
    let peer = request.extensions().get::<ConnectInfo<Client>>().map(|ConnectInfo(client)| client.ip());
    admit(&app, peer, request.headers()).await?;
    page(&app, request.headers()).await
}

/// For whoever can open the control socket.
pub async fn local(State(app): State<Shared>, request: Request) -> Result<Response, Problem> {
    page(&app, request.headers()).await
}

async fn page(app: &App, headers: &HeaderMap) -> Result<Response, Problem> {
    let text = openmetrics(snapshot(app).await)
        .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the figures cannot be written out"))?;
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let modern = accepts.into_iter().any(|value| value.contains("application/openmetrics-text"));
    let (kind, text) = if modern { (OPENMETRICS, text) } else { (PLAIN, plain(&text)) };
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

async fn admit(app: &Shared, peer: Option<IpAddr>, headers: &HeaderMap) -> Result<(), Problem> {
    if by_place(&app.metrics, peer, headers) {
        return Ok(());
    }
    let Some(given) = headers.get(header::AUTHORIZATION).cloned() else {
        let text =
            "figures are for this machine, `metrics.networks`, and whoever sends the token of `metrics.token_file`";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, text));
    };
    let token = given
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    if let (Some((_, token)), Some(path)) = (token, &app.metrics.token_file) {
        match tokio::fs::read_to_string(path).await {
            // Hashes are compared in constant time.
            Ok(known) if !known.trim().is_empty() => {
                if blake3::hash(known.trim().as_bytes()) == blake3::hash(token.trim().as_bytes()) {
                    return Ok(());
                }
            }
            Ok(_) => {
                tracing::warn!(path = %path.display(), "the file of `metrics.token_file` is empty: it opens nothing")
            }
            Err(error) => tracing::warn!(path = %path.display(), %error, "the token of /metrics cannot be read"),
        }
    }
    let peer = peer.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
    auth::may(&auth::by_key(app, &given, peer).await?, "GET", "/metrics")
}

fn by_place(desk: &Desk, peer: Option<IpAddr>, headers: &HeaderMap) -> bool {
    let proxied = PROXIED.iter().any(|name| headers.contains_key(*name));
    peer.is_some_and(|peer| !proxied && (peer.is_loopback() || desk.from.iter().any(|network| network.contains(peer))))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn this_machine_and_listed_networks_need_no_token_unless_a_proxy_asks_for_somebody() {
        let desk = Desk {
            from: vec!["192.0.2.0/24".parse().unwrap()],
            token_file: None,
            started_ms: 0,
            latest: tokio::sync::Mutex::default(),
        };
        let peer = |text: &str| text.parse::<IpAddr>().ok();
        let none = HeaderMap::new();
        for (address, may) in [("127.0.0.1", true), ("::1", true), ("192.0.2.9", true), ("198.51.100.1", false)] {
            assert_eq!(by_place(&desk, peer(address), &none), may, "{address}");
        }
        assert!(!by_place(&desk, None, &none));
        for name in PROXIED {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_static("198.51.100.1"))]);
            assert!(!by_place(&desk, peer("127.0.0.1"), &headers), "{name}");
        }
    }
}
