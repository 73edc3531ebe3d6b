//! What was done, carried from the form to the page that comes after it: a cookie that is read once.

use axum_extra::extract::CookieJar;
use axum_extra::extract::cookie::{Cookie, SameSite};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const NAME: &str = "pillarbox-done";
/// Longest text, characters.
const LONGEST: usize = 200;

/// The cookie that says so.
pub fn cookie(words: &str) -> Cookie<'static> {
    let words: String = words.chars().take(LONGEST).collect();
    Cookie::build((NAME, URL_SAFE_NO_PAD.encode(words))).http_only(true).same_site(SameSite::Strict).path("/").build()
}

/// What it says.
pub fn read(jar: &CookieJar) -> Option<String> {
    let octets = URL_SAFE_NO_PAD.decode(jar.get(NAME)?.value()).ok()?;
    let words = String::from_utf8(octets).ok()?;
    Some(words.chars().filter(|c| !c.is_control()).take(LONGEST).collect())
}

/// It has been read.
pub fn taken(jar: CookieJar) -> CookieJar {
    let mut gone = Cookie::build((NAME, "")).path("/").build();
    gone.make_removal();
    jar.add(gone)
}
