//! The pages: nothing without the one-time token, nothing of a message as HTML, no form from elsewhere.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::Server;
use reqwest::Method;
use serde_json::json;

fn token(server: &Server) -> String {
    let output = server.output();
    let mut lines = output.lines().skip_while(|line| !line.contains("with this token"));
    lines.nth(1).unwrap().trim().to_owned()
}

#[tokio::test]
async fn the_token_opens_the_pages_once() {
    let server = Server::start();
    let response = server.request(Method::GET, "/").send().await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["location"].to_str().unwrap()), (303, &"/login"));

    let origin = server.url("");
    let login = |token: String, origin: String| {
        server
            .request(Method::POST, "/login")
            .header("Origin", origin)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(format!("token={token}"))
            .send()
    };
    let token = token(&server);
    assert_eq!(login(token.clone(), "http://evil.test".into()).await.unwrap().status(), 403);
    assert_eq!(login("0".repeat(32), origin.clone()).await.unwrap().status(), 401);
    let opened = login(token.clone(), origin.clone()).await.unwrap();
    assert_eq!(opened.status(), 303);
    let cookie = opened.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    assert_eq!(login(token, origin.clone()).await.unwrap().status(), 401, "once");

    let message =
        json!({"from": "a@shop.test", "to": "b@one.test", "subject": "<b>x</b>", "html": "<script>alert(1)</script>"});
    let (_, answer) = server.post("/api/v1/messages", &message, None).await;
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let page = async |path: &str| server.request(Method::GET, path).header("Cookie", &cookie).send().await.unwrap();
    let path = format!("/admin/captured/{}", answer["id"].as_str().unwrap());
    server.until("the message is captured", async || (page(&path).await.status() == 200).then_some(())).await;
    let response = page(&path).await;
    let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let html = response.text().await.unwrap();
    assert!(!html.contains("<script>") && !html.contains("<b>x"), "{html}");
    assert!(html.contains("&lt;script&gt;alert(1)"), "the source is shown: {html}");
    for path in ["/admin/overview", "/admin/processing-center", "/admin/captured"] {
        assert_eq!(page(path).await.status(), 200, "{path}");
    }

    let again = server.run(&["login"]);
    assert_eq!(login(again.trim().to_owned(), origin.clone()).await.unwrap().status(), 303);
    let out = server
        .request(Method::POST, "/logout")
        .header("Cookie", &cookie)
        .header("Origin", &origin)
        .send()
        .await
        .unwrap();
    assert_eq!(out.status(), 303);
    assert_eq!(page("/admin/overview").await.status(), 303, "the session is over");
}
