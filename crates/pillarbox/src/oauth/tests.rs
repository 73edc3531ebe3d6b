//! Tokens from a small token endpoint on this machine: how often it is asked, and what is kept.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State as Extract;
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::json;
use store::Settings as _;
use store::secret::Keyring;
use store::settings::{Kind, SecretChange};
use store::sqlite::{Options, SqliteStore};

use super::*;

/// Answers, and counts.
struct Endpoint {
    url: String,
    asked: Arc<Asked>,
}

#[derive(Default)]
struct Asked {
    count: AtomicUsize,
    bodies: Mutex<Vec<String>>,
    answer: Mutex<Option<(u16, String)>>,
    life_s: Mutex<i64>,
    /// The one refresh token that is good; `None`: all are.
    newest: Mutex<Option<String>>,
}

async fn answer(Extract(asked): Extract<Arc<Asked>>, body: String) -> (StatusCode, String) {
    let n = asked.count.fetch_add(1, Ordering::SeqCst) + 1;
    asked.bodies.lock().push(body.clone());
    if let Some((status, text)) = asked.answer.lock().clone() {
        return (StatusCode::from_u16(status).unwrap(), text);
    }
    if let Some(newest) = asked.newest.lock().as_mut() {
        if !body.contains(&format!("&refresh_token={newest}&")) {
            return (StatusCode::BAD_REQUEST, json!({"error": "invalid_grant"}).to_string());
        }
        *newest = format!("refresh-{n}");
    }
    // Time for others to queue behind this question.
    tokio::task::yield_now().await;
    let life_s = *asked.life_s.lock();
    let body =
        json!({"access_token": format!("token-{n}"), "expires_in": life_s, "refresh_token": format!("refresh-{n}")});
    (StatusCode::OK, body.to_string())
}

impl Endpoint {
    async fn start() -> Self {
        let asked = Arc::new(Asked { life_s: Mutex::new(3_600), ..Asked::default() });
        let device = || async {
            let body = json!({
                "device_code": "dev1ce", "user_code": "ABCD-1234", "verification_uri": "https://sso.example/device",
                "expires_in": 600, "interval": 5,
            });
            body.to_string()
        };
        let app = Router::new().route("/token", post(answer)).route("/device", post(device)).with_state(asked.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, asked }
    }
    fn count(&self) -> usize {
        self.asked.count.load(Ordering::SeqCst)
    }
    fn says(&self, status: u16, text: &str) {
        *self.asked.answer.lock() = Some((status, text.to_owned()));
    }
    /// From now on a refresh token is good for one use.
    fn rotates(&self) {
        *self.asked.newest.lock() = Some("first".to_owned());
    }
    fn route(&self, grant: &str) -> Route {
        let oauth =
            json!({"provider": "other", "grant": grant, "client_id": "c", "token_url": self.url, "scope": "mail"});
        let record = json!({"kind": "smarthost", "host": "h", "username": "u", "oauth": oauth});
        let secrets =
            Secrets { client_secret: Some("s3cret".into()), refresh_token: Some("first".into()), ..Secrets::default() };
        Route::new("out".into(), serde_json::from_value(record).unwrap(), secrets, 1)
    }
}

struct Scene {
    _dir: tempfile::TempDir,
    store: Arc<SqliteStore>,
    endpoint: Endpoint,
}

impl Scene {
    async fn new() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new(dir.path(), Keyring::from_key(&[7; 32]));
        let store = SqliteStore::open(options, Clock::system().now_ms()).unwrap();
        Self { _dir: dir, store, endpoint: Endpoint::start().await }
    }
    fn source(&self) -> Arc<TokenSource> {
        let tls = net::https(&net::Roots::Web, Clock::system()).unwrap();
        Arc::new(TokenSource::new(client(tls).unwrap(), self.store.clone(), Clock::system()))
    }
}

/// The token that a node holds is over.
async fn ends(source: &TokenSource, route: &Route) {
    let entry = source.entry(&route.name);
    let mut state = entry.state.lock().await;
    let held = state.held.as_mut().unwrap();
    (held.renew_ms, held.expires_ms) = (0, 0);
}

fn text(token: &Token) -> &str {
    token.secret.expose_secret()
}

#[tokio::test]
async fn a_hundred_that_need_a_token_ask_once() {
    let scene = Scene::new().await;
    let source = scene.source();
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let (source, route) = (source.clone(), scene.endpoint.route("client_credentials"));
            tokio::spawn(async move { source.token(&route).await.unwrap() })
        })
        .collect();
    for task in tasks {
        assert_eq!(text(&task.await.unwrap()), "token-1");
    }
    assert_eq!(scene.endpoint.count(), 1);
}

#[tokio::test]
async fn a_restart_needs_no_new_token_and_a_changed_secret_does() {
    let scene = Scene::new().await;
    let mut route = scene.endpoint.route("client_credentials");
    scene.source().token(&route).await.unwrap();
    let after = scene.source();
    assert_eq!(text(&after.token(&route).await.unwrap()), "token-1");
    assert_eq!(scene.endpoint.count(), 1);
    route.secrets.client_secret = Some("another".into());
    assert_eq!(text(&after.token(&route).await.unwrap()), "token-2");
    let documents = scene.store.documents(Kind::Token).await.unwrap();
    assert!(!documents[0].body.to_string().contains("token"), "{}", documents[0].body);
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_and_the_new_one_is_known_to_be_new() {
    let scene = Scene::new().await;
    let (source, route) = (scene.source(), scene.endpoint.route("client_credentials"));
    source.token(&route).await.unwrap();
    let restarted = scene.source();
    let old = restarted.token(&route).await.unwrap();
    restarted.refused(&route, &old.secret);
    let new = restarted.token(&route).await.unwrap();
    assert_eq!((text(&new), new.fresh), ("token-2", true));
    restarted.refused(&route, &old.secret);
    assert_eq!(
        text(&restarted.token(&route).await.unwrap()),
        "token-2",
        "a late word about the old one changes nothing"
    );
    assert_eq!(scene.endpoint.count(), 2);
}

#[tokio::test]
async fn a_token_that_ends_soon_is_renewed_with_the_newest_refresh_token() {
    let scene = Scene::new().await;
    let (source, route) = (scene.source(), scene.endpoint.route("refresh_token"));
    source.token(&route).await.unwrap();
    let entry = source.entry(&route.name);
    entry.state.lock().await.held.as_mut().unwrap().expires_ms = 0;
    entry.state.lock().await.held.as_mut().unwrap().renew_ms = 0;
    assert_eq!(text(&source.token(&route).await.unwrap()), "token-2");
    let bodies = scene.endpoint.asked.bodies.lock().clone();
    assert!(bodies[0].contains("refresh_token=first") && bodies[1].contains("refresh_token=refresh-1"), "{bodies:?}");
}

#[tokio::test]
async fn a_failure_is_asked_about_once_and_what_still_holds_is_used_meanwhile() {
    let scene = Scene::new().await;
    let (source, route) = (scene.source(), scene.endpoint.route("client_credentials"));
    scene.endpoint.says(401, r#"{"error":"invalid_client","error_description":"AADSTS7000222: expired"}"#);
    for _ in 0..50 {
        let failure = source.token(&route).await.unwrap_err();
        assert!(matches!(&failure, Failure::TokenRefused { error, .. } if error == "invalid_client"), "{failure:?}");
    }
    assert_eq!(scene.endpoint.count(), 1);

    *scene.endpoint.asked.answer.lock() = None;
    let mut changed = route.clone();
    changed.secrets.client_secret = Some("right".into());
    source.token(&changed).await.unwrap();
    let entry = source.entry(&changed.name);
    entry.state.lock().await.held.as_mut().unwrap().renew_ms = 0;
    scene.endpoint.says(503, "later");
    for _ in 0..5 {
        assert_eq!(text(&source.token(&changed).await.unwrap()), "token-2");
    }
    assert_eq!(scene.endpoint.count(), 3);
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_an_outage() {
    let scene = Scene::new().await;
    let mut route = scene.endpoint.route("client_credentials");
    let port = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() };
    route.record.oauth.as_mut().unwrap().token_url = Some(format!("http://127.0.0.1:{port}/token"));
    let failure = scene.source().token(&route).await.unwrap_err();
    assert!(matches!(&failure, Failure::TokenUnavailable { .. }), "{failure:?}");
    assert!(!format!("{failure:?}").contains("s3cret"));
}

#[test]
fn tokens_are_renewed_before_their_end_and_not_all_at_once() {
    for random in [0, 100, 255, u32::MAX] {
        let at = renewal(0, 3_600_000, random);
        assert!((3_150_000..=3_300_000).contains(&at), "{at}");
        let at = renewal(0, 60_000, random);
        assert!((42_000..=48_000).contains(&at), "{at}");
    }
}

#[tokio::test]
async fn a_sign_in_by_device_code_asks_no_more_often_than_it_may_and_ends_in_a_refresh_token() {
    let scene = Scene::new().await;
    let (source, route) = (scene.source(), scene.endpoint.route("refresh_token"));
    let mut record = route.record.oauth.clone().unwrap();
    record.device_url = Some(scene.endpoint.url.replace("/token", "/device"));
    let logins = device::Logins::default();
    let begun = logins.begin(source.http(), "out", &record, 0).await.unwrap();
    assert_eq!((begun.user_code.as_str(), begun.interval_s), ("ABCD-1234", 5));
    let ask = async |now_ms| logins.ask(source.http(), ("out", &begun.id), &record, &route.secrets, now_ms).await;

    assert!(matches!(ask(4_000).await, Some(device::Progress::Pending(1))));
    assert_eq!(scene.endpoint.count(), 0, "too early to ask");
    scene.endpoint.says(400, r#"{"error":"authorization_pending"}"#);
    assert!(matches!(ask(5_000).await, Some(device::Progress::Pending(5))));
    scene.endpoint.says(400, r#"{"error":"slow_down"}"#);
    assert!(matches!(ask(10_000).await, Some(device::Progress::Pending(10))));
    assert!(matches!(ask(15_000).await, Some(device::Progress::Pending(5))));
    assert_eq!(scene.endpoint.count(), 2);
    *scene.endpoint.asked.answer.lock() = None;
    let Some(device::Progress::Done(refresh)) = ask(20_000).await else { panic!("not done") };
    assert_eq!(refresh.expose_secret(), "refresh-3");
    assert!(ask(30_000).await.is_none(), "it can be finished once");
    assert!(scene.endpoint.asked.bodies.lock()[0].contains("device_code=dev1ce"));

    let late = logins.begin(source.http(), "out", &record, 0).await.unwrap();
    let ended = logins.ask(source.http(), ("out", &late.id), &record, &route.secrets, 600_000).await;
    assert!(matches!(ended, Some(device::Progress::Failed(_))));
    assert!(logins.ask(source.http(), ("other", &late.id), &record, &route.secrets, 1).await.is_none());
}

#[tokio::test]
async fn nodes_go_on_where_a_refresh_token_is_good_for_one_use() {
    let scene = Scene::new().await;
    scene.endpoint.rotates();
    let (one, other, route) = (scene.source(), scene.source(), scene.endpoint.route("refresh_token"));
    for source in [&one, &other] {
        assert_eq!(text(&source.token(&route).await.unwrap()), "token-1");
    }
    for n in 2..6 {
        ends(&one, &route).await;
        ends(&other, &route).await;
        let order = if n % 2 == 0 { [&other, &one] } else { [&one, &other] };
        for source in order {
            assert_eq!(text(&source.token(&route).await.unwrap()), format!("token-{n}"));
        }
    }
    assert_eq!(scene.endpoint.count(), 5, "one asks, the other reads what it got");
}

#[tokio::test]
async fn nodes_that_need_a_token_at_once_do_not_use_a_refresh_token_twice() {
    let scene = Scene::new().await;
    scene.endpoint.rotates();
    let tasks: Vec<_> = (0..3)
        .map(|_| {
            let (source, route) = (scene.source(), scene.endpoint.route("refresh_token"));
            tokio::spawn(async move { source.token(&route).await.unwrap() })
        })
        .collect();
    for task in tasks {
        assert_eq!(text(&task.await.unwrap()), "token-1");
    }
    assert_eq!(scene.endpoint.count(), 1);
}

#[tokio::test]
async fn a_refresh_token_that_another_node_used_is_given_up_for_the_stored_one() {
    let scene = Scene::new().await;
    scene.endpoint.rotates();
    let (one, other, route) = (scene.source(), scene.source(), scene.endpoint.route("refresh_token"));
    for source in [&one, &other] {
        source.token(&route).await.unwrap();
    }
    // Its last write failed: what it holds is newer than what is stored, as far as it knows.
    let trusts_itself = async || {
        ends(&other, &route).await;
        other.entry(&route.name).state.lock().await.unsaved = true;
    };
    ends(&one, &route).await;
    assert_eq!(text(&one.token(&route).await.unwrap()), "token-2");
    trusts_itself().await;
    assert_eq!(text(&other.token(&route).await.unwrap()), "token-2");
    assert_eq!(scene.endpoint.count(), 3, "refused once, then read");

    ends(&one, &route).await;
    let newer = one.token(&route).await.unwrap();
    assert_eq!(text(&newer), "token-4");
    trusts_itself().await;
    // The mail server does not take the stored one either: the stored refresh token is used.
    other.refused(&route, &newer.secret);
    assert_eq!(text(&other.token(&route).await.unwrap()), "token-6");
    ends(&one, &route).await;
    assert_eq!(text(&one.token(&route).await.unwrap()), "token-6");
    assert_eq!(scene.endpoint.count(), 6);
}

#[tokio::test]
async fn a_node_that_died_while_it_asked_is_not_waited_for() {
    let scene = Scene::new().await;
    let (source, route) = (scene.source(), scene.endpoint.route("refresh_token"));
    let token = source.token(&route).await.unwrap();
    let note = scene.store.put_document(Kind::Token, "out".into(), json!({"asking": true}), SecretChange::Keep, 1);
    let note = note.await.unwrap();
    let entry = source.entry(&route.name);
    entry.state.lock().await.held.as_mut().unwrap().renew_ms = 0;
    assert_eq!(text(&source.token(&route).await.unwrap()), "token-1", "it holds, and another node asks");
    assert_eq!(scene.endpoint.count(), 1);
    assert_eq!(entry.state.lock().await.noted.0, note);
    entry.state.lock().await.noted.1 = 0;
    source.refused(&route, &token.secret);
    assert_eq!(text(&source.token(&route).await.unwrap()), "token-2");
}

#[tokio::test]
async fn a_node_that_got_no_token_lets_the_others_ask() {
    let scene = Scene::new().await;
    let (one, other, route) = (scene.source(), scene.source(), scene.endpoint.route("refresh_token"));
    scene.endpoint.says(503, "later");
    one.token(&route).await.unwrap_err();
    let documents = scene.store.documents(Kind::Token).await.unwrap();
    assert!(documents[0].body.get("asking").is_none(), "{}", documents[0].body);
    *scene.endpoint.asked.answer.lock() = None;
    assert_eq!(text(&other.token(&route).await.unwrap()), "token-2");
}

#[tokio::test]
async fn what_the_provider_replaces_while_settings_are_tried_is_not_thrown_away() {
    let scene = Scene::new().await;
    scene.endpoint.rotates();
    let (source, mut route) = (scene.source(), scene.endpoint.route("refresh_token"));
    let oauth = route.record.token_settings().unwrap();
    assert!(source.newest(&route.name, &oauth, &route.secrets).await.is_none());
    source.token(&route).await.unwrap();
    let newest = source.newest(&route.name, &oauth, &route.secrets).await.unwrap();
    assert_eq!(newest.expose_secret(), "refresh-1");
    route.secrets.refresh_token = Some(newest);
    for n in 2..5 {
        let token = source.try_once(&oauth, &mut route.secrets).await.unwrap();
        assert_eq!(token.expose_secret(), format!("token-{n}"));
        assert_eq!(route.secrets.refresh_token.as_ref().unwrap().expose_secret(), format!("refresh-{n}"));
    }
}
