//! Pages and their forms give nobody more than the API does: by role, without a session, and from elsewhere.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::{Server, repository_file};
use futures_util::future::join_all;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::json;

const PASSWORD: &str = "correct horse battery";
const ROLES: [&str; 3] = ["viewer", "operator", "administrator"];
const KIND: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

/// Someone of each role, logged in.
async fn people(server: &Server) -> Vec<String> {
    let mut cookies = Vec::new();
    for role in ROLES {
        let mut command = server.command(&["user", "add", role, "--role", role, "--password-from", "env:NEW"]);
        assert!(command.env("NEW", PASSWORD).status().unwrap().success());
        cookies.push(login(server, role).await);
    }
    cookies
}

async fn login(server: &Server, user: &str) -> String {
    let request = server.request(Method::POST, "/login").header("Origin", server.url("")).header(KIND.0, KIND.1);
    let response = request.body(format!("user={user}&password={}", PASSWORD.replace(' ', "+"))).send().await.unwrap();
    assert_eq!(response.status(), 303);
    response.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned()
}

fn form(server: &Server, path: &str, cookie: &str, body: &str) -> RequestBuilder {
    server.request(Method::POST, path).header("Cookie", cookie).header(KIND.0, KIND.1).body(body.to_owned())
}

async fn send(request: RequestBuilder) -> Response {
    request.send().await.unwrap()
}

async fn get(server: &Server, path: &str, cookie: &str) -> Response {
    send(server.request(Method::GET, path).header("Cookie", cookie)).await
}

fn goes_to(response: &Response) -> &str {
    response.headers().get("location").map_or("", |to| to.to_str().unwrap())
}

/// The sources of the pages, all in one.
fn sources() -> String {
    let mut all = String::new();
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/ui")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                all.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    all
}

/// The paths of all pages of the table.
fn pages() -> BTreeSet<String> {
    let sources = sources();
    let literal = |piece: &str| piece.trim_start().strip_prefix('"')?.split('"').next().map(str::to_owned);
    let named = |piece: &str| {
        let name = piece.trim_start().split(',').next()?.to_owned();
        literal(sources.split(&format!("const {name}: &str =")).nth(1)?)
    };
    let path = |piece: &str| literal(piece).or_else(|| named(piece)).filter(|path| path.starts_with('/'));
    let pages: BTreeSet<String> = sources.split("Page::new(").skip(1).filter_map(path).collect();
    assert!(pages.len() > 3, "{pages:?}");
    pages
}

/// A path with something in the place of each part in braces.
fn filled(pattern: &str) -> String {
    pattern.split('/').map(|part| if part.starts_with('{') { "0" } else { part }).collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn a_form_does_for_nobody_what_the_api_refuses_them() {
    let server = Server::start();
    let cookies = people(&server).await;
    let table = repository_file("docs/manual/roles.md");
    let mut asked = 0;
    for line in table.lines().filter(|line| line.contains("| `/") && !line.starts_with("| GET")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let (method, pattern, who) = (cells[1], cells[2].trim_matches('`'), cells[3]);
        let path = format!("/admin/do{}", filled(pattern));
        let least = ROLES.iter().position(|role| who.starts_with(role)).unwrap_or(0);
        for (n, role) in ROLES.iter().enumerate() {
            let request = form(&server, &path, &cookies[n], &format!("_method={method}&_back=/admin/overview"));
            let response = send(request.header("Origin", server.url(""))).await;
            let status = response.status().as_u16();
            assert_ne!(goes_to(&response), "/login", "{role} is still logged in: {line}");
            match who {
                "control socket" => assert!([404, 403].contains(&status), "{role} {status}: {line}"),
                "anyone" => assert_ne!(status, 500, "{role}: {line}"),
                _ => assert_eq!(status == 403, n < least, "{role} {status}: {line}"),
            }
        }
        asked += 1;
    }
    assert!(asked > 80, "{asked}");
}

#[tokio::test]
async fn forms_from_elsewhere_are_refused_wherever_they_go() {
    let server = Server::start();
    let cookies = people(&server).await;
    let sources = sources();
    let posts: BTreeSet<String> = sources
        .split(".route(")
        .skip(1)
        .filter(|piece| piece.split(".route(").next().unwrap().split(";\n").next().unwrap().contains("post("))
        .filter_map(|piece| piece.trim_start().strip_prefix('"')?.split('"').next().map(str::to_owned))
        .collect();
    assert!(posts.contains("/admin/do/{*path}") && posts.contains("/logout") && posts.contains("/setup"), "{posts:?}");
    for path in posts.iter().map(|path| path.replace("{*path}", "suppressions")).chain(["/login".to_owned()]) {
        let path = filled(&path);
        let ours = server.url("");
        let body = if path == "/login" { "user=administrator&password=x" } else { "addresses=a%40b.test" };
        let from = |name: &'static str, value: String| form(&server, &path, &cookies[2], body).header(name, value);
        let asked = [
            ("no origin", form(&server, &path, &cookies[2], body)),
            ("null", from("Origin", "null".into())),
            ("another site", from("Origin", "https://evil.example".into())),
            ("another port", from("Origin", "http://127.0.0.1:1".into())),
            ("a site below it", from("Origin", ours.replace("127.0.0.1", "127.0.0.1.evil.example"))),
            ("the browser says so", from("Origin", ours.clone()).header("Sec-Fetch-Site", "cross-site")),
            ("the same site", from("Origin", ours.clone()).header("Sec-Fetch-Site", "same-site")),
        ];
        for (what, request) in asked {
            assert_eq!(send(request).await.status(), 403, "{path}: {what}");
        }
    }
    assert_eq!(server.run_json(&["suppression", "ls"])["items"].as_array().unwrap().len(), 0, "nothing was done");
    assert_eq!(get(&server, "/admin/overview", &cookies[2]).await.status(), 200, "nobody was logged out");
}

#[tokio::test]
async fn without_a_session_there_is_nothing_but_the_login() {
    let server = Server::start();
    let cookies = people(&server).await;
    let pages = pages();
    let key = server.run_json(&["key", "add", "all", "--role", "administrator"])["key"].as_str().unwrap().to_owned();
    let strange = format!("pillarbox={}", "A".repeat(43));
    let more = ["/", "/admin", "/admin/live?at=/admin/overview", "/setup"].map(str::to_owned);
    for path in pages.iter().map(|path| filled(path)).chain(more) {
        for cookie in ["", "pillarbox=", &strange] {
            let response = get(&server, &path, cookie).await;
            assert_eq!((response.status().as_u16(), goes_to(&response)), (303, "/login"), "{path}");
        }
        let by_key = send(server.request(Method::GET, &path).bearer_auth(&key)).await;
        assert_eq!(goes_to(&by_key), "/login", "{path}: a key is for the API");
    }
    for (n, cookie) in cookies.iter().enumerate() {
        for path in &pages {
            let status = get(&server, &filled(path), cookie).await.status().as_u16();
            assert!([200, 403, 404, 422].contains(&status), "{}: {path}: {status}", ROLES[n]);
            assert!(ROLES[n] != "administrator" || status != 403, "{path}");
        }
    }
}

#[tokio::test]
async fn captured_mail_is_listed_for_a_viewer_and_read_by_an_operator() {
    let server = Server::start();
    let cookies = people(&server).await;
    let message =
        json!({"from": "a@shop.test", "to": "b@one.test", "subject": "Your new password", "text": "secret-link"});
    let id = server.post("/api/v1/messages", &message, None).await.1["id"].as_str().unwrap().to_owned();
    let page = format!("/admin/captured/{id}");
    let read = async || (get(&server, &page, &cookies[2]).await.status() == 200).then_some(());
    server.until("the message is captured", read).await;
    for (n, role) in ROLES.iter().enumerate() {
        let list = get(&server, "/admin/captured", &cookies[n]).await.text().await.unwrap();
        assert!(list.contains("Your new password") && list.contains("b@one.test"), "{role}: {list}");
        assert_eq!(list.contains(&page), n > 0, "{role}: {list}");
        for path in [&page, &format!("/api/v1/captured/{id}"), &format!("/api/v1/captured/{id}/raw")] {
            let response = get(&server, path, &cookies[n]).await;
            let (status, text) = (response.status().as_u16(), response.text().await.unwrap());
            assert_eq!(status, if n > 0 { 200 } else { 403 }, "{role}: {path}");
            assert_eq!(text.contains("secret-link"), n > 0, "{role}: {path}");
        }
    }
}

/// Each role looks at a page and then watches it.
async fn watched(server: &Server, cookies: &[String], path: &str) -> bool {
    // Somebody who may looks first, so that there is something to be shared.
    for (n, cookie) in cookies.iter().enumerate().rev() {
        let shown = get(server, path, cookie).await;
        let (status, has_part) = (shown.status().as_u16(), shown.text().await.unwrap().contains("data-live"));
        if status == 200 && !has_part {
            return false;
        }
        let mut stream = get(server, &format!("/admin/live?at={path}"), cookie).await;
        if stream.status() == 404 {
            assert!(!has_part, "{path}: {status}");
            continue;
        }
        assert_eq!(stream.headers()["content-type"], "text/event-stream", "{path}");
        let first = stream.chunk().await.unwrap();
        let told = first.is_some_and(|octets| octets.starts_with(b"event: live"));
        assert_eq!(told, status == 200, "{} {path}: {status}", ROLES[n]);
    }
    true
}

#[tokio::test]
async fn the_stream_of_a_page_shows_nobody_what_the_page_does_not() {
    let server = Server::start();
    let cookies = people(&server).await;
    let pages: Vec<String> = pages().iter().map(|path| filled(path)).collect();
    let watched = join_all(pages.iter().map(|path| watched(&server, &cookies, path))).await;
    assert!(watched.iter().filter(|watched| **watched).count() > 1);
    for at in ["/admin/nothing", "//evil.example/admin/overview", "https://evil.example", "/api/v1/users", ""] {
        assert_eq!(get(&server, &format!("/admin/live?at={at}"), &cookies[2]).await.status(), 404, "{at}");
    }
    for at in ["/admin/account", "/admin/why?address=ann%40one.test"] {
        assert_eq!(get(&server, &format!("/admin/live?at={at}"), &cookies[0]).await.status(), 404, "{at}: no part");
    }
    assert!(!server.output().contains("could not be rendered"), "{}", server.output());
}
