//! Mail by Microsoft Graph, against a server that speaks its surface over HTTPS and keeps whom it would send to.

use std::sync::Arc;

use parking_lot::Mutex;
use proto::transcript::Failure;
use relay::route::Route;
use relay::token::{Boxed, Token, Tokens};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use store::settings::{Kind, SecretChange};
use store::{RecipientView, Selector};
use testkit::{Ca, Fault, Graph, Sink, Zones};

use crate::rig::{Rig, Setup, eventually, smarthost, with};

const MAILBOX: &str = "noreply@app.test";

/// Gives tokens in turn; the next one when one was refused.
#[derive(Debug)]
struct Purse {
    tokens: Mutex<Vec<&'static str>>,
    given: Mutex<u32>,
}

impl Purse {
    fn of(tokens: &[&'static str]) -> Arc<Self> {
        Arc::new(Self { tokens: Mutex::new(tokens.iter().rev().copied().collect()), given: Mutex::default() })
    }
}

impl Tokens for Purse {
    fn token<'a>(&'a self, _: &'a Route) -> Boxed<'a, Result<Token, Failure>> {
        *self.given.lock() += 1;
        let tokens = self.tokens.lock();
        let token = tokens.last().map(|token| Token { secret: SecretString::from(*token), fresh: tokens.len() == 1 });
        Box::pin(async move { token.ok_or_else(|| Failure::TokenUnavailable { reason: "no more".into() }) })
    }
    fn refused(&self, _: &Route, token: &SecretString) {
        let mut tokens = self.tokens.lock();
        if tokens.len() > 1 && tokens.last() == Some(&token.expose_secret()) {
            tokens.pop();
        }
    }
}

struct Scene {
    graph: Graph,
    rig: Rig,
}

fn route(graph: &Graph, more: Value) -> Value {
    let oauth = json!({"provider": "microsoft", "grant": "client_credentials", "tenant": "t.test", "client_id": "app"});
    let base = json!({"kind": "graph", "port": graph.port(), "username": MAILBOX, "oauth": oauth,
        "retry_s": [3]});
    with(base, more)
}

async fn scene(tokens: &[&'static str], more: Value, shape: impl FnOnce(Setup, &Graph) -> Setup) -> Scene {
    let (ca, zones) = (Ca::new(), Zones::start().await);
    zones.loopback("graph.microsoft.com");
    let graph = Graph::start(&ca.issue(&["graph.microsoft.com"]), &["good"], &[MAILBOX]).await;
    let secret = r#"{"pillarbox-secrets":1,"client_secret":"x"}"#;
    let purse: Arc<dyn Tokens> = Purse::of(tokens);
    let setup =
        Setup::by(json!({})).secret_route(route(&graph, more), secret).config(|config| config.tokens = Some(purse));
    let rig = shape(setup, &graph).start_with(ca, zones).await;
    Scene { graph, rig }
}

async fn plain() -> Scene {
    scene(&["good"], json!({}), |setup, _| setup).await
}

fn mail(headers: &str) -> String {
    format!("From: {MAILBOX}\r\n{headers}Subject: story\r\n\r\nonce upon a time\r\n")
}

fn api(view: &RecipientView) -> (u16, String) {
    match view.failure() {
        Some(Failure::Api { status, error, .. }) => (*status, error.clone()),
        other => panic!("{other:?}"),
    }
}

fn rule(view: &RecipientView) -> &str {
    view.cause.as_ref().and_then(|cause| cause.rule.as_deref()).unwrap_or_default()
}

#[tokio::test]
async fn each_recipient_gets_one_copy_whatever_the_header_names() {
    let scene = plain().await;
    let content = mail("To: A <a@x.test>, b@y.test, stranger@z.test\r\nCc: \"C, c\" <c@x.test>\r\nBcc: h@y.test\r\n");
    let id = scene.rig.send_mail(&["a@x.test", "b@y.test", "c@x.test", "h@y.test", "i@w.test"], &content).await;
    scene.rig.becomes(id, &["delivered"; 5]).await;
    let sent = scene.graph.sent();
    let mut all: Vec<String> = sent.iter().flat_map(|one| one.recipients.clone()).collect();
    all.sort();
    assert_eq!(all, ["a@x.test", "b@y.test", "c@x.test", "h@y.test", "i@w.test"], "{sent:#?}");
    assert!(sent.iter().all(|one| one.mailbox == MAILBOX && one.content.ends_with("\r\n\r\nonce upon a time\r\n")));
    let events = format!("{:?}", scene.rig.store.events(id, 1_000).await.expect("events"));
    assert!(events.contains("graph.microsoft.com [127.0.0.1]") && events.contains("202"), "{events}");
}

#[tokio::test]
async fn many_messages_share_connections_and_one_that_was_closed_meanwhile_loses_nothing() {
    let scene = scene(&["good"], json!({"connections": 2}), |setup, _| setup).await;
    scene.graph.faults([Fault::CloseAfterAnswer, Fault::CloseAfterAnswer]);
    for n in 0..40 {
        scene.rig.send(&[&format!("r{n}@x.test")]).await;
    }
    scene.rig.drained().await;
    assert_eq!(scene.graph.sent().len(), 40);
    assert!(scene.graph.connections() < 20, "{}", scene.graph.connections());
}

#[tokio::test]
async fn a_link_that_dies_after_the_message_leaves_it_unknown_and_no_other_route_sends_it() {
    let spare = Sink::start().await;
    let more = json!({"fallback": [{"route": "spare"}], "failover_after_s": 0});
    let scene = scene(&["good"], more, |setup, _| setup.route("spare", smarthost(&spare))).await;
    scene.graph.faults([Fault::CutAfterTaking]);
    let id = scene.rig.send(&["a@x.test"]).await;
    let views = scene.rig.becomes(id, &["deferred"]).await;
    assert_eq!(views[0].cause.as_ref().and_then(|cause| cause.unknown_via.as_deref()), Some("out"));
    scene.rig.becomes(id, &["delivered"]).await;
    assert_eq!((scene.graph.sent().len(), spare.count()), (2, 0), "by the same route, and by no other");
}

#[tokio::test]
async fn a_gateway_that_gave_up_is_as_unknown_as_a_dead_link() {
    let scene = plain().await;
    scene.graph.faults([Fault::Answer(504, "UnknownError", "")]);
    let id = scene.rig.send(&["a@x.test"]).await;
    let views = scene.rig.becomes(id, &["deferred"]).await;
    assert!(views[0].cause.as_ref().is_some_and(|cause| cause.unknown_via.is_some()));
    assert_eq!(api(&views[0]).0, 504);
    scene.rig.becomes(id, &["delivered"]).await;
}

#[tokio::test]
async fn a_link_that_dies_before_the_end_of_the_message_was_no_delivery_and_another_route_may_take_it() {
    let spare = Sink::start().await;
    let more = json!({"fallback": [{"route": "spare"}], "failover_after_s": 0});
    let scene = scene(&["good"], more, |setup, _| setup.route("spare", smarthost(&spare))).await;
    let large = mail(&format!("X-Large: {}\r\n", "x".repeat(500))) + &"long ago\r\n".repeat(310_000);
    scene.graph.faults(std::iter::repeat_n(Fault::CutInBody(1_000), 50));
    let id = scene.rig.send_mail(&["a@x.test"], &large).await;
    scene.rig.becomes(id, &["delivered"]).await;
    assert_eq!((scene.graph.sent().len(), spare.count()), (0, 1));
}

#[tokio::test]
async fn throttling_is_waited_for_as_long_as_graph_says() {
    let scene = plain().await;
    scene.graph.faults([Fault::Answer(429, "ApplicationThrottled", "Retry-After: 3\r\n")]);
    let began = scene.rig.now_ms();
    let id = scene.rig.send(&["a@x.test"]).await;
    let views = scene.rig.becomes(id, &["deferred"]).await;
    assert_eq!((api(&views[0]), rule(&views[0])), ((429, "ApplicationThrottled".into()), "graph-throttled"));
    scene.rig.becomes(id, &["delivered"]).await;
    assert!(scene.rig.now_ms() - began >= 3_000);
    assert_eq!(scene.graph.requests().len(), 2, "no storm");
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_once_and_the_message_goes_in_the_same_attempt() {
    let scene = scene(&["old", "good"], json!({}), |setup, _| setup).await;
    let id = scene.rig.send(&["a@x.test"]).await;
    let views = scene.rig.becomes(id, &["delivered"]).await;
    assert_eq!(views[0].attempts, 1);
    assert!(scene.rig.relay.status().brakes.is_empty());
}

#[tokio::test]
async fn a_missing_permission_brakes_the_route_after_one_try_and_loses_nothing() {
    const MESSAGES: usize = 200;
    let scene = scene(&["good"], json!({"retry_s": [3600]}), |setup, _| setup).await;
    scene.graph.faults(std::iter::repeat_n(Fault::Answer(403, "ErrorAccessDenied", ""), 1_000));
    for n in 0..MESSAGES {
        scene.rig.submit(scene.rig.submission(&[&format!("r{n}@x{}.test", n % 5)], mail("").as_bytes())).await;
    }
    eventually("all mail back in the store", || async {
        let all = Selector { all: true, ..Selector::default() };
        let views = scene.rig.store.recipients(all, None, 1_000).await.expect("the queue");
        let told = views.iter().filter(|view| view.failure().is_some() && rule(view) == "graph-access-denied").count();
        (told == MESSAGES && scene.rig.relay.status().window_recipients == 0).then_some(())
    })
    .await;
    assert_eq!(scene.graph.requests().len(), 1);
    assert_eq!(scene.rig.relay.status().brakes.len(), 1);
    // Permission is given, and the route touched: nothing waits for the end of the pause.
    scene.graph.forget_faults();
    let secret = SecretChange::Set(r#"{"pillarbox-secrets":1,"client_secret":"y"}"#.into());
    let body = route(&scene.graph, json!({}));
    scene.rig.store.put_document(Kind::Route, "out".into(), body, secret, scene.rig.now_ms()).await.expect("saved");
    scene.rig.relay.reload().await.expect("settings");
    scene.rig.drained().await;
    assert_eq!(scene.graph.sent().len(), MESSAGES);
}

#[tokio::test]
async fn a_recipient_that_graph_minds_fails_alone() {
    let scene = plain().await;
    let id = scene.rig.send(&["a@invalid.test", "b@invalid.test"]).await;
    let views = scene.rig.becomes(id, &["failed", "failed"]).await;
    assert_eq!(rule(&views[1]), "graph-invalid-recipients");
    scene.graph.faults([Fault::Answer(400, "ErrorInvalidRecipients", "Connection: close\r\n")]);
    let id = scene.rig.send(&["a@x.test", "b@x.test", "c@x.test"]).await;
    scene.rig.becomes(id, &["delivered"; 3]).await;
    assert_eq!(scene.graph.sent().len(), 2, "one alone, then the others together");
}

#[tokio::test]
async fn a_message_that_is_too_large_fails_with_our_words_and_nothing_is_sent() {
    let scene = plain().await;
    let large = mail("") + &"a line of seventy octets and a bit more, many times over, and over.\r\n".repeat(50_000);
    let id = scene.rig.send_mail(&["a@x.test"], &large).await;
    let views = scene.rig.becomes(id, &["failed"]).await;
    assert!(matches!(views[0].failure(), Some(Failure::TooLarge { limit: 3_145_728, .. })), "{:?}", views[0]);
    assert_eq!(rule(&views[0]), "graph-too-large");
    scene.graph.faults([Fault::Answer(413, "", "")]);
    let id = scene.rig.send(&["a@x.test"]).await;
    let views = scene.rig.becomes(id, &["failed"]).await;
    assert_eq!(rule(&views[0]), "graph-request-too-large");
    assert!(scene.graph.sent().is_empty());
}

#[tokio::test]
async fn a_mailbox_that_is_not_there_holds_the_route_and_not_the_recipient() {
    let scene = scene(&["good"], json!({"username": "gone@app.test", "retry_s": [3600]}), |setup, _| setup).await;
    let id = scene.rig.send(&["a@x.test"]).await;
    let views = scene.rig.becomes(id, &["deferred"]).await;
    assert_eq!((api(&views[0]).0, rule(&views[0])), (404, "graph-mailbox-not-found"));
    for n in 0..20 {
        scene.rig.send(&[&format!("r{n}@x.test")]).await;
    }
    scene.rig.send(&["last@x.test"]).await;
    assert!(scene.graph.requests().len() <= 3, "{:?}", scene.graph.requests());
}

#[tokio::test]
async fn the_probe_asks_for_leave_and_sends_nothing() {
    let scene = plain().await;
    let route = scene.rig.relay.routes().into_iter().next().expect("a route");
    scene.rig.relay.prove(&route, Some("good".into())).await.expect("it may send");
    let error = scene.rig.relay.prove(&route, Some("stale".into())).await.expect_err("it may not");
    assert!(matches!(error.failure, Failure::Api { status: 401, .. }), "{error:?}");
    let steps = format!("{:?}", error.transcript);
    assert!(steps.contains("POST /v1.0/users/noreply@app.test/sendMail") && !steps.contains("stale"), "{steps}");
    assert!(scene.graph.sent().is_empty() && scene.rig.relay.status().brakes.is_empty());
}
