//! Sign-ins by device code (RFC 8628): begun here, finished by a person in a browser, asked about until then.
//!
//! The codes live in memory only: whoever restarts the server begins again.

use std::collections::HashMap;

use parking_lot::Mutex;
use proto::transcript::Failure;
use relay::oauth::OauthRecord;
use relay::secrets::Secrets;
use secrecy::SecretString;

use super::request::{self, Device};

/// Sign-ins at once; the oldest gives way.
const MOST: usize = 16;

/// What a person is told.
#[derive(Debug, Clone)]
pub struct Begun {
    /// Names the sign-in.
    pub id: String,
    /// To be typed.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// Seconds it holds.
    pub expires_in_s: i64,
    /// Seconds between questions.
    pub interval_s: i64,
}

/// What has become of a sign-in.
#[derive(Debug)]
pub enum Progress {
    /// Nobody has signed in yet; ask again after so many seconds.
    Pending(i64),
    /// Done: the refresh token.
    Done(SecretString),
    /// It will come to nothing.
    Failed(Failure),
}

struct Login {
    route: String,
    device: Device,
    begun_ms: i64,
    /// Not asked before, Unix milliseconds.
    next_ms: i64,
}

/// The sign-ins that are under way.
#[derive(Default)]
pub struct Logins(Mutex<HashMap<String, Login>>);

impl Logins {
    /// Begins one.
    pub async fn begin(
        &self,
        http: &reqwest::Client,
        route: &str,
        record: &OauthRecord,
        now_ms: i64,
    ) -> Result<Begun, Failure> {
        let device = request::device(http, record).await?;
        let random: [u8; 16] = rand::random();
        let id: String = random.iter().map(|octet| format!("{octet:02x}")).collect();
        let begun = Begun {
            id: id.clone(),
            user_code: device.user_code.clone(),
            verification_uri: device.verification_uri.clone(),
            expires_in_s: device.life_s,
            interval_s: device.interval_s,
        };
        let mut logins = self.0.lock();
        logins.retain(|_, login| now_ms < login.begun_ms + login.device.life_s * 1_000);
        if logins.len() >= MOST
            && let Some(oldest) = logins.iter().min_by_key(|(_, login)| login.begun_ms).map(|(id, _)| id.clone())
        {
            logins.remove(&oldest);
        }
        let next_ms = now_ms + device.interval_s * 1_000;
        logins.insert(id, Login { route: route.to_owned(), device, begun_ms: now_ms, next_ms });
        Ok(begun)
    }

    /// Asks the identity provider about one, not more often than it wants. `None`: there is no such sign-in.
    pub async fn ask(
        &self,
        http: &reqwest::Client,
        (route, id): (&str, &str),
        record: &OauthRecord,
        secrets: &Secrets,
        now_ms: i64,
    ) -> Option<Progress> {
        let device = {
            let mut logins = self.0.lock();
            let login = logins.get_mut(id).filter(|login| login.route == route)?;
            if now_ms >= login.begun_ms + login.device.life_s * 1_000 {
                logins.remove(id);
                let words = "the code has expired before anybody signed in".to_owned();
                return Some(Progress::Failed(Failure::TokenRefused {
                    error: "expired_token".into(),
                    description: words,
                }));
            }
            let wait_ms = login.next_ms - now_ms;
            if wait_ms > 0 {
                return Some(Progress::Pending((wait_ms + 999) / 1_000));
            }
            login.next_ms = now_ms + login.device.interval_s * 1_000;
            login.device.clone()
        };
        let answer = request::poll(http, record, secrets, &device, now_ms / 1_000).await;
        let mut logins = self.0.lock();
        Some(match answer {
            Ok(granted) => {
                logins.remove(id);
                granted.refresh_token.map_or_else(
                    || {
                        let words = "the provider gave no refresh token: the scope has to allow it (offline_access)";
                        Progress::Failed(Failure::TokenRefused {
                            error: "no_refresh_token".into(),
                            description: words.into(),
                        })
                    },
                    Progress::Done,
                )
            }
            Err(Failure::TokenRefused { error, .. }) if error == "authorization_pending" => {
                Progress::Pending(device.interval_s)
            }
            // RFC 8628 §3.5: five seconds more, from now on.
            Err(Failure::TokenRefused { error, .. }) if error == "slow_down" => {
                let longer = (device.interval_s + 5).min(120);
                if let Some(login) = logins.get_mut(id) {
                    login.device.interval_s = longer;
                    login.next_ms = now_ms + longer * 1_000;
                }
                Progress::Pending(longer)
            }
            Err(Failure::TokenUnavailable { .. }) => Progress::Pending(device.interval_s),
            Err(failure) => {
                logins.remove(id);
                Progress::Failed(failure)
            }
        })
    }
}
