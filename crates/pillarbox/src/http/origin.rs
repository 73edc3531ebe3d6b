//! What browsers send: the session's cookie, and where a request came from.

use axum::http::{HeaderMap, StatusCode, header};
use axum_extra::extract::CookieJar;
use axum_extra::extract::cookie::{Cookie, SameSite};

use super::problem::Problem;
use super::{App, Shared};

/// Name of the session's cookie in the clear, and under TLS, where a browser keeps it from everybody else.
const NAMES: (&str, &str) = ("pillarbox", "__Host-pillarbox");

/// The public reaches this server under TLS.
pub fn is_secure(app: &App) -> bool {
    app.public_url.as_deref().is_some_and(|url| url.starts_with("https://"))
}

fn name(app: &App) -> &'static str {
    if is_secure(app) { NAMES.1 } else { NAMES.0 }
}

/// What the browser shows of its session.
pub fn session(app: &Shared, headers: &HeaderMap) -> Option<String> {
    CookieJar::from_headers(headers).get(name(app)).map(|cookie| cookie.value().to_owned())
}

/// The cookie of a new session.
pub fn cookie(app: &App, secret: String) -> Cookie<'static> {
    Cookie::build((name(app), secret))
        .http_only(true)
        .secure(is_secure(app))
        .same_site(SameSite::Strict)
        .path("/")
        .build()
}

/// The cookie that takes it away.
pub fn no_cookie(app: &App) -> Cookie<'static> {
    let mut cookie = cookie(app, String::new());
    cookie.make_removal();
    cookie
}

/// Refuses what does not come from a page of ours.
pub fn check(app: &App, headers: &HeaderMap) -> Result<(), Problem> {
    match is_ours(app.public_url.as_deref(), headers) {
        true => Ok(()),
        false => Err(Problem::new(StatusCode::FORBIDDEN, "this request was not sent from a page of this server")),
    }
}

/// Browsers say where a request was made; what they do not say did not come from our page.
fn is_ours(public_url: Option<&str>, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if text("sec-fetch-site").is_some_and(|site| site != "same-origin") {
        return false;
    }
    let Some(origin) = text(header::ORIGIN.as_str()) else { return false };
    let Some((scheme, from)) = origin.split_once("://") else { return false };
    if let Some(url) = public_url {
        let (ours, rest) = url.split_once("://").unwrap_or(("", url));
        let host = rest.split('/').next().unwrap_or_default();
        if ours.eq_ignore_ascii_case(scheme) && host.eq_ignore_ascii_case(from) {
            return true;
        }
    }
    text(header::HOST.as_str()).is_some_and(|host| from.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_pages_count_as_such() {
        let headers = |origin: Option<&str>, site: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "127.0.0.1:8025".parse().unwrap());
            origin.map(|origin| headers.insert(header::ORIGIN, origin.parse().unwrap()));
            site.map(|site| headers.insert("sec-fetch-site", site.parse().unwrap()));
            headers
        };
        let public = Some("https://mail.example/relay");
        assert!(is_ours(public, &headers(Some("http://127.0.0.1:8025"), None)));
        assert!(is_ours(public, &headers(Some("https://mail.example"), Some("same-origin"))), "behind a proxy");
        assert!(!is_ours(None, &headers(Some("https://mail.example"), None)));
        assert!(!is_ours(public, &headers(Some("http://127.0.0.1:8025"), Some("cross-site"))));
        for other in
            [None, Some("null"), Some("http://evil.example"), Some("http://127.0.0.1:9"), Some("http://mail.example")]
        {
            assert!(!is_ours(public, &headers(other, None)), "{other:?}");
        }
    }
}
