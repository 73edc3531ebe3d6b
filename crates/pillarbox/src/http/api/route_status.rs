//! `GET /routes/{name}/status`: what the server knows of a route now, for people who want to know why mail waits.

use axum::extract::{Path, State};
use relay::failover::OutStatus;
use relay::schedule::DestinationStatus;
use relay::state::RouteState;
use serde::{Deserialize, Serialize};
use store::settings::Kind;

use super::settings;
use crate::http::auth::Admin;
use crate::http::forecast::{self, ForecastOut};
use crate::http::problem::Problem;
use crate::http::{Shared, time, words};
use crate::oauth::expiry::{Expiring, expiring};

/// A route now.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RouteStatusOut {
    /// Name.
    pub name: String,
    /// A server runs; else there is nothing beyond the settings.
    pub running: bool,
    /// Its queue, if there is something in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<ForecastOut>,
    /// Its credential was rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brake: Option<BrakeOut>,
    /// Its destinations where nothing works.
    pub out: Vec<OutOut>,
    /// Its destinations with mail or connections.
    pub destinations: Vec<DestinationOut>,
    /// What is used of its limits.
    pub windows: Vec<WindowOut>,
    /// Its access token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenOut>,
    /// Its client secret or certificate, if that ends within 30 days.
    pub expiring: Vec<Expiring>,
    /// Addresses it may send from.
    pub sources: Vec<SourceOut>,
    /// Servers whose TLS is broken.
    pub tls: Vec<TlsOut>,
    /// What receivers will mind, in sentences.
    pub warnings: Vec<String>,
}

/// A brake that is on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BrakeOut {
    /// Next probe, RFC 3339.
    pub until: String,
    /// Rejections in a row.
    pub rejections: u32,
    /// The last one, in words.
    pub reason: String,
}

/// A destination where nothing works.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OutOut {
    /// Route, or `route/mx group`.
    pub destination: String,
    /// Since when, RFC 3339.
    pub since: String,
    /// Next probe, RFC 3339.
    pub probe: String,
    /// Messages that went by a fallback.
    pub diverted: u64,
}

/// A destination in memory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DestinationOut {
    /// Route, or `route/mx group`.
    pub name: String,
    /// Messages that wait for a connection.
    pub queued: usize,
    /// Connections open or being opened.
    pub connections: u32,
    /// Of these, without work.
    pub idle: usize,
    /// It cannot be reached: when it is tried again, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_until: Option<String>,
    /// A limit is used up: when there is room again, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_until: Option<String>,
    /// It wants nothing: when the next probe goes, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_until: Option<String>,
    /// It asked for less: messages a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowed_to_per_minute: Option<u32>,
}

/// A window of a limit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WindowOut {
    /// Route, or `route/mx group`.
    pub account: String,
    /// `second`, `minute`, `hour` or `day`.
    pub per: String,
    /// `messages` or `recipients`.
    pub unit: String,
    /// Used now.
    pub used: u32,
    /// Most in any such time.
    pub limit: u32,
    /// Of these, what mail that is not urgent may use.
    pub ordinary: u32,
    /// When something is free again, if nothing is, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frees: Option<String>,
}

/// An access token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokenOut {
    /// When it ends, RFC 3339; absent: there is none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// When it is renewed, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renews: Option<String>,
    /// Why the last renewal failed, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// When it is tried again, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<String>,
}

/// An address to send from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SourceOut {
    /// Address.
    pub address: std::net::IpAddr,
    /// Name in EHLO.
    pub helo: String,
    /// It is one of this machine's.
    pub ours: bool,
}

/// A server whose TLS is broken.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TlsOut {
    /// Its name.
    pub host: String,
    /// Its address.
    pub address: std::net::IpAddr,
    /// What works: `reduced handshake` or `clear text`.
    pub works: String,
    /// Until when that is believed, RFC 3339.
    pub until: String,
}

/// The route now.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<RouteStatusOut>, Problem> {
    settings::find(&app, Kind::Route, &name).await?;
    let Some(state) = app.relay.as_ref().and_then(|relay| relay.route_state(&name)) else {
        return Ok(axum::Json(RouteStatusOut { name, ..RouteStatusOut::default() }));
    };
    let mut out = RouteStatusOut::of(&state, app.clock.now_ms());
    out.forecast = forecast::all(&app).await?.into_iter().find(|one| one.route == name);
    out.token = app.tokens.as_ref().and_then(|tokens| tokens.seen(&name)).map(|seen| TokenOut {
        expires: seen.expires_ms.map(time::show),
        renews: seen.renew_ms.map(time::show),
        failure: seen.failed.as_ref().map(|(failure, _)| words::failure(failure)),
        again: seen.failed.as_ref().map(|(_, until)| time::show(*until)),
    });
    out.warnings.extend(app.domains.notes_about(&name));
    Ok(axum::Json(out))
}

impl RouteStatusOut {
    fn of(state: &RouteState, now_ms: i64) -> Self {
        let window = |account: &str, window: &relay::schedule::limit::WindowStatus| WindowOut {
            account: account.to_owned(),
            per: window.per.into(),
            unit: window.unit.into(),
            used: window.used,
            limit: window.limit,
            ordinary: window.ordinary,
            frees: window.frees_ms.map(time::show),
        };
        let windows = |account: &relay::schedule::AccountStatus| {
            account.windows.iter().map(|one| window(&account.name, one)).collect::<Vec<_>>()
        };
        Self {
            name: state.route.name.to_string(),
            running: true,
            forecast: None,
            brake: state.brake.as_ref().map(|brake| BrakeOut {
                until: time::show(brake.until_ms),
                rejections: brake.rejections,
                reason: words::failure(&brake.failure),
            }),
            out: state.out.iter().map(Into::into).collect(),
            destinations: state.destinations.iter().map(|one| destination(one, now_ms)).collect(),
            windows: state.accounts.iter().flat_map(windows).collect(),
            token: None,
            expiring: expiring([&*state.route], now_ms),
            sources: state
                .sources
                .iter()
                .map(|one| SourceOut { address: one.address, helo: one.helo.clone(), ours: one.ours })
                .collect(),
            tls: state
                .tls
                .iter()
                .map(|one| TlsOut {
                    host: one.host.clone(),
                    address: one.address,
                    works: if one.clear { "clear text" } else { "reduced handshake" }.into(),
                    until: time::show(one.until_ms),
                })
                .collect(),
            warnings: state.problems.clone(),
        }
    }
}

impl From<&OutStatus> for OutOut {
    fn from(out: &OutStatus) -> Self {
        Self {
            destination: out.name.clone(),
            since: time::show(out.since_ms),
            probe: time::show(out.probe_ms),
            diverted: out.diverted,
        }
    }
}

/// What is over is left out.
pub fn destination(one: &DestinationStatus, now_ms: i64) -> DestinationOut {
    let coming = |at: Option<i64>| at.filter(|at| *at > now_ms).map(time::show);
    DestinationOut {
        name: one.name.clone(),
        queued: one.queued,
        connections: one.connections,
        idle: one.idle,
        paused_until: coming(one.paused_until_ms),
        full_until: coming(one.full_until_ms),
        held_until: coming(one.held_until_ms),
        slowed_to_per_minute: one.slowed_to_per_minute,
    }
}
