//! Who may do what: the whole table of operations by role, users and their sessions, codes, keys, and where requests come from.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Server, repository_file};
use reqwest::header::HeaderMap;
use reqwest::{Method, Response};
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery";

fn user(server: &Server, name: &str, role: &str) {
    let mut command = server.command(&["user", "add", name, "--role", role, "--password-from", "env:NEW"]);
    let output = command.env("NEW", PASSWORD).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

async fn form(server: &Server, path: &str, cookie: &str, body: String) -> Response {
    let request = server
        .request(Method::POST, path)
        .header("Origin", server.url(""))
        .header("Cookie", cookie)
        .header("Content-Type", "application/x-www-form-urlencoded");
    request.body(body).send().await.unwrap()
}

fn cookie(headers: &HeaderMap) -> String {
    headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned()
}

async fn try_login(server: &Server, name: &str, password: &str, code: &str) -> Response {
    form(server, "/login", "", format!("user={name}&password={}&code={code}", password.replace(' ', "+"))).await
}

async fn login(server: &Server, name: &str) -> String {
    let response = try_login(server, name, PASSWORD, "").await;
    assert_eq!(response.status(), 303, "{}", response.text().await.unwrap());
    cookie(response.headers())
}

/// A request with a session, as a page's script sends it.
async fn page(server: &Server, method: Method, path: &str, cookie: &str, body: Option<&Value>) -> (u16, Value) {
    let mut request = server.request(method, path).header("Cookie", cookie).header("Origin", server.url(""));
    if let Some(body) = body {
        request = request.json(body);
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
}

fn first_token(server: &Server) -> String {
    let output = server.output();
    output.lines().skip_while(|line| !line.contains("with this token")).nth(1).unwrap().trim().to_owned()
}

#[tokio::test]
async fn every_operation_is_for_those_whom_the_manual_names_and_for_nobody_else() {
    let server = Server::start();
    let key = |name: &str, role: &str, more: &[&str]| {
        let made = server.run_json(&[&["key", "add", name, "--role", role, "--rate", "60000"], more].concat());
        made["key"].as_str().unwrap().to_owned()
    };
    let roles = ["viewer", "operator", "administrator"];
    let keys = roles.map(|role| key(role, role, &[]));
    let ended = key("ended", "administrator", &["--expires", "2020-01-01T00:00:00Z"]);
    let elsewhere = key("elsewhere", "administrator", &["--network", "192.0.2.0/24"]);
    let scoped = key("scoped", "administrator", &["--scope", "rates:read"]);
    let table = repository_file("docs/manual/roles.md");
    let mut asked = 0;
    for line in table.lines().filter(|line| line.contains("| `/")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let (method, pattern, who) = (cells[1], cells[2].trim_matches('`'), cells[3]);
        // What is named is not there, so that those who may change nothing either.
        let parts = pattern.split('/').map(|part| if part.starts_with('{') { "0" } else { part });
        let path = format!("/api/v1{}", parts.collect::<Vec<_>>().join("/"));
        let ask = async |bearer: Option<&str>| {
            let mut request = server.request(method.parse().unwrap(), &path);
            if let Some(bearer) = bearer {
                request = request.bearer_auth(bearer);
            }
            request.send().await.unwrap().status().as_u16()
        };
        asked += 1;
        if who == "control socket" {
            assert_eq!(ask(Some(&keys[2])).await, 404, "{line}");
            continue;
        }
        for (name, bearer) in [("nobody", None), ("ended", Some(&ended)), ("elsewhere", Some(&elsewhere))] {
            // An address that shows many keys that are not valid has to wait.
            let status = ask(bearer.map(String::as_str)).await;
            assert!(status == 401 || bearer.is_some() && status == 429, "{name} {status}: {line}");
        }
        let least = roles.iter().position(|role| who.starts_with(role)).unwrap_or(0);
        for (n, role) in roles.iter().enumerate() {
            let status = ask(Some(&keys[n])).await;
            // One's own account: a key has none.
            let own = path.starts_with("/api/v1/me/");
            assert_eq!([401, 403].contains(&status), n < least || own && status == 403, "{role} {status}: {line}");
        }
        let status = ask(Some(&server.key)).await;
        let sender_may = who.ends_with("or its sender") || who == "anyone" && !path.starts_with("/api/v1/me/");
        assert!(sender_may != (status == 403) || path.starts_with("/api/v1/me/"), "sender's key, {status}: {line}");
        let allowed = who == "anyone" || path == "/api/v1/rates";
        let status = ask(Some(&scoped)).await;
        assert!(allowed || status == 403, "scoped key, {status}: {line}");
    }
    assert!(asked > 120, "{asked}");
}

#[tokio::test]
async fn the_first_token_makes_the_first_administrator_and_no_second_one() {
    let server = Server::start();
    let opened = form(&server, "/login", "", format!("token={}", first_token(&server))).await;
    assert_eq!(opened.headers()["location"], "/setup");
    let token_session = cookie(opened.headers());
    let setup = |user: &str, password: &str| {
        form(&server, "/setup", &token_session, format!("user={user}&password={password}&again={password}"))
    };
    assert_eq!(setup("ann", "short").await.status(), 422);
    assert_eq!(setup("A B", "long-enough-1").await.status(), 422);
    let made = setup("ann", "long-enough-1").await;
    assert_eq!(made.status(), 303);
    let session = cookie(made.headers());
    assert_ne!(session, token_session, "a new id at login");
    assert_eq!(page(&server, Method::GET, "/api/v1/me", &token_session, None).await.0, 401, "the one before is over");
    let (_, me) = page(&server, Method::GET, "/api/v1/me", &session, None).await;
    assert_eq!((&me["user"], &me["role"]), (&json!("ann"), &json!("administrator")));
    let again = form(&server, "/login", "", format!("token={}", server.run(&["login"]).trim())).await;
    let token_session = cookie(again.headers());
    assert_eq!(again.headers()["location"], "/");
    let second =
        form(&server, "/setup", &token_session, "user=eve&password=long-enough-1&again=long-enough-1".into()).await;
    assert_eq!((second.status().as_u16(), &second.headers()["location"]), (303, &"/".parse().unwrap()));
    assert_eq!(server.run_json(&["user", "list"])["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_token_of_the_start_ends_with_the_first_user_and_a_later_one_after_ten_minutes() {
    let mut server = Server::start();
    let token = first_token(&server);
    assert!(!server.output().contains("ten minutes"), "good until there is a user");
    user(&server, "ann", "administrator");
    let late = form(&server, "/login", "", format!("token={token}")).await;
    assert_eq!(late.status(), 401, "there is a user");
    server.terminate();
    server.restart();
    assert!(server.output().contains("with this token, once, within ten minutes:"), "{}", server.output());
    let opened = form(&server, "/login", "", format!("token={}", first_token(&server))).await;
    assert_eq!((opened.status().as_u16(), opened.headers()["location"].to_str().unwrap()), (303, "/"));
}

#[tokio::test]
async fn sessions_survive_a_restart_and_end_at_logout_password_disabling_and_revocation() {
    let mut server = Server::start();
    user(&server, "ann", "administrator");
    user(&server, "bob", "viewer");
    let (ann, bob) = (login(&server, "ann").await, login(&server, "bob").await);
    server.terminate();
    server.restart();
    let open = async |cookie: &str| page(&server, Method::GET, "/api/v1/me", cookie, None).await.0 == 200;
    assert!(open(&ann).await && open(&bob).await, "they are in the store");

    assert_eq!(page(&server, Method::GET, "/api/v1/users", &bob, None).await.0, 403);
    let raised = json!({ "role": "administrator" });
    assert_eq!(page(&server, Method::PATCH, "/api/v1/users/bob", &ann, Some(&raised)).await.0, 200);
    assert_eq!(page(&server, Method::GET, "/api/v1/users", &bob, None).await.0, 200, "from the next request on");
    assert_eq!(page(&server, Method::PATCH, "/api/v1/users/bob", &bob, Some(&json!({"disabled": true}))).await.0, 409);

    let other = login(&server, "bob").await;
    let change = json!({ "current": "wrong password", "password": "another password" });
    assert_eq!(page(&server, Method::PUT, "/api/v1/me/password", &bob, Some(&change)).await.0, 422);
    let change = json!({ "current": PASSWORD, "password": "another password" });
    assert_eq!(page(&server, Method::PUT, "/api/v1/me/password", &bob, Some(&change)).await.0, 204);
    assert!(!open(&bob).await && !open(&other).await && open(&ann).await, "all of the user's, and nobody else's");
    assert_eq!(try_login(&server, "bob", PASSWORD, "").await.status(), 401);
    let bob = cookie(try_login(&server, "bob", "another password", "").await.headers());
    server.run(&["user", "disable", "bob"]);
    assert!(!open(&bob).await);
    assert_eq!(try_login(&server, "bob", "another password", "").await.status(), 401);

    let second = login(&server, "ann").await;
    let (_, list) = page(&server, Method::GET, "/api/v1/me/sessions", &ann, None).await;
    let others: Vec<&Value> = list["items"].as_array().unwrap().iter().filter(|one| one["current"] == false).collect();
    assert_eq!(others.len(), 1, "{list}");
    let revoke = format!("/api/v1/me/sessions/{}", others[0]["id"]);
    assert_eq!(page(&server, Method::DELETE, &revoke, &ann, None).await.0, 204);
    assert!(!open(&second).await && open(&ann).await);
    assert_eq!(form(&server, "/logout", &ann, String::new()).await.status(), 303);
    assert!(!open(&ann).await);
    let again = login(&server, "ann").await;
    assert_eq!(server.run_json(&["session", "revoke", "--user", "ann"])["revoked"], 1);
    assert!(!open(&again).await);
    let noted = server.run(&["audit", "--what", "user", "--json"]);
    assert!(noted.contains("login_failed") && !noted.contains("$argon2") && !noted.contains("battery"), "{noted}");
}

#[tokio::test]
async fn wrong_logins_tell_nothing_and_cost_a_growing_pause() {
    let server = Server::start();
    user(&server, "ann", "viewer");
    let mut texts = Vec::new();
    for (name, password) in [("ann", "wrong wrong"), ("nobody", "wrong wrong")] {
        let response = try_login(&server, name, password, "").await;
        assert_eq!(response.status(), 401);
        texts.push(response.text().await.unwrap());
    }
    assert_eq!(texts[0], texts[1], "who exists cannot be told");
    for name in ["ann", "nobody"] {
        // On a slow machine a short pause is over before the next try; each is twice as long as the one before.
        let mut tries = 0;
        while try_login(&server, name, "wrong wrong", "").await.status() != 429 {
            tries += 1;
            assert!(tries < 10, "{name}: ten wrong ones without a pause");
        }
        let response = try_login(&server, name, PASSWORD, "").await;
        assert_eq!(response.status(), 429, "{name}: the right password has to wait too");
        assert!(response.headers()["retry-after"].to_str().unwrap().parse::<u32>().unwrap() >= 1);
    }
}

#[tokio::test]
async fn a_code_is_asked_for_and_is_good_once_as_is_a_recovery_code() {
    let server = Server::start();
    user(&server, "ann", "viewer");
    let session = login(&server, "ann").await;
    let current = json!({ "current": PASSWORD });
    let (status, factor) = page(&server, Method::POST, "/api/v1/me/totp", &session, Some(&current)).await;
    assert_eq!(status, 200, "{factor}");
    assert_eq!(try_login(&server, "ann", PASSWORD, "").await.status(), 303, "not before it was confirmed");
    let wrong = json!({ "code": "000000" });
    assert_eq!(page(&server, Method::PUT, "/api/v1/me/totp", &session, Some(&wrong)).await.0, 422);
    let code = testkit_code(factor["secret"].as_str().unwrap());
    let (status, given) = page(&server, Method::PUT, "/api/v1/me/totp", &session, Some(&json!({ "code": code }))).await;
    assert_eq!(status, 200, "{given}");
    let recovery = given["recovery_codes"].as_array().unwrap();
    assert_eq!(recovery.len(), 10);
    assert_eq!(try_login(&server, "ann", PASSWORD, "").await.status(), 401, "the password is not enough");
    assert_eq!(try_login(&server, "ann", PASSWORD, &code).await.status(), 401, "the code that confirmed it is used up");
    let one = recovery[0].as_str().unwrap();
    assert_eq!(try_login(&server, "ann", PASSWORD, one).await.status(), 303);
    assert_eq!(try_login(&server, "ann", PASSWORD, one).await.status(), 401, "once");
    server.run(&["user", "totp", "ann", "--remove"]);
    let listed = server.run(&["user", "list", "--json"]);
    assert!(listed.contains("\"has_second_factor\": false") && !listed.contains(factor["secret"].as_str().unwrap()));
}

/// Guesses until one has to wait. On a slow machine a short pause is over before the next one; each is twice as long as the
/// one before.
async fn until_it_waits(guess: impl AsyncFn() -> Response) -> u32 {
    for _ in 0..10 {
        let response = guess().await;
        if response.status() == 429 {
            return response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        }
        assert_eq!(response.status(), 422);
    }
    panic!("ten wrong ones without a pause")
}

#[tokio::test]
async fn codes_are_not_guessed_with_an_open_session_and_the_password() {
    let server = Server::start();
    let ask = async |method: Method, path: &str, cookie: &str, body: Value| {
        let request = server.request(method, path).header("Cookie", cookie).header("Origin", server.url(""));
        request.json(&body).send().await.unwrap()
    };
    let confirmed = |name: &str| {
        let factor = server.run_json(&["user", "totp", name]);
        let code = testkit_code(factor["secret"].as_str().unwrap());
        server.run_json(&["user", "totp", name, "--confirm", &code])["recovery_codes"][0].as_str().unwrap().to_owned()
    };
    for name in ["ann", "bob", "eve"] {
        user(&server, name, "viewer");
    }
    let (ann, bob, eve) = (login(&server, "ann").await, login(&server, "bob").await, login(&server, "eve").await);

    let recovery = confirmed("eve");
    let leave = |current: &str| json!({ "current": current, "code": recovery });
    let wrong = ask(Method::DELETE, "/api/v1/me/totp", &eve, leave("wrong password")).await;
    assert_eq!(wrong.status(), 422);
    assert_eq!(ask(Method::DELETE, "/api/v1/me/totp", &eve, leave(PASSWORD)).await.status(), 204);
    assert_eq!(try_login(&server, "eve", PASSWORD, "").await.status(), 303, "the password is enough again");

    let begun = ask(Method::POST, "/api/v1/me/totp", &ann, json!({ "current": PASSWORD })).await;
    assert_eq!(begun.status(), 200);
    let confirm = async || ask(Method::PUT, "/api/v1/me/totp", &ann, json!({ "code": "000000" })).await;
    assert!(until_it_waits(confirm).await >= 1);

    confirmed("bob");
    let remove = async || {
        // The password is right each time, which forgives no wrong code.
        let short = json!({ "current": PASSWORD, "password": "short" });
        assert_eq!(ask(Method::PUT, "/api/v1/me/password", &bob, short).await.status(), 422);
        ask(Method::DELETE, "/api/v1/me/totp", &bob, json!({ "current": PASSWORD, "code": "000000" })).await
    };
    assert!(until_it_waits(remove).await >= 1);
    assert_eq!(page(&server, Method::GET, "/api/v1/me", &bob, None).await.1["has_second_factor"], true);
}

#[tokio::test]
async fn nobody_replaces_their_own_password_or_second_factor_without_the_password() {
    let server = Server::start();
    user(&server, "ann", "administrator");
    user(&server, "bob", "administrator");
    let ann = login(&server, "ann").await;
    let (password, totp) = ("/api/v1/users/ann/password", "/api/v1/users/ann/totp");
    let new = json!({ "password": "another password" });
    for (method, path, body, place) in [
        (Method::PUT, password, Some(&new), "/me/password"),
        (Method::POST, totp, None, "/me/totp"),
        (Method::PUT, totp, Some(&json!({ "code": "000000" })), "/me/totp"),
        (Method::DELETE, totp, None, "/me/totp"),
    ] {
        let (status, problem) = page(&server, method.clone(), path, &ann, body).await;
        assert_eq!(status, 409, "{method} {path}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(place), "{problem}");
    }
    assert_eq!(page(&server, Method::GET, "/api/v1/me", &ann, None).await.0, 200, "nothing was done");

    let others = "/api/v1/users/bob";
    assert_eq!(page(&server, Method::POST, &format!("{others}/totp"), &ann, None).await.0, 200);
    assert_eq!(page(&server, Method::DELETE, &format!("{others}/totp"), &ann, None).await.0, 204);
    assert_eq!(page(&server, Method::PUT, &format!("{others}/password"), &ann, Some(&new)).await.0, 200);
    let made = server.run_json(&["key", "add", "deploy", "--role", "administrator"]);
    let by_key = server.request(Method::PUT, password).bearer_auth(made["key"].as_str().unwrap()).json(&new);
    assert_eq!(by_key.send().await.unwrap().status(), 200, "a key is nobody's own");
    assert_eq!(try_login(&server, "ann", "another password", "").await.status(), 303);
    assert!(server.run_json(&["user", "passwd", "ann"])["new_password"].is_string());
}

/// The code of now, by the same algorithm as an app's (RFC 6238).
fn testkit_code(secret: &str) -> String {
    let script = "import base64,hmac,struct,sys,time\n\
        d=hmac.new(base64.b32decode(sys.argv[1]),struct.pack('>Q',int(time.time())//30),'sha1').digest()\n\
        o=d[19]&15\nprint('%06d'%((struct.unpack('>I',d[o:o+4])[0]&0x7fffffff)%1000000))";
    let output = std::process::Command::new("python3").args(["-c", script, secret]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_session_changes_things_only_from_our_own_pages() {
    let mut server = Server::start();
    let text = std::fs::read_to_string(server.config()).unwrap();
    std::fs::write(server.config(), text.replace("[http]\n", "[http]\npublic_url = \"https://mail.test\"\n")).unwrap();
    server.terminate();
    server.restart();
    user(&server, "ann", "administrator");
    let response = try_login(&server, "ann", PASSWORD, "").await;
    let set = response.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(set.starts_with("__Host-pillarbox="), "{set}");
    for part in ["HttpOnly", "Secure", "SameSite=Strict", "Path=/"] {
        assert!(set.contains(part), "{set}");
    }
    let session = cookie(response.headers());
    let ask = async |origin: Option<&str>, kind: &str, site: Option<&str>| {
        let mut request =
            server.request(Method::POST, "/api/v1/keys").header("Cookie", &session).header("Content-Type", kind);
        if let Some(origin) = origin {
            request = request.header("Origin", origin);
        }
        if let Some(site) = site {
            request = request.header("Sec-Fetch-Site", site);
        }
        request.body("{}").send().await.unwrap().status().as_u16()
    };
    let json = "application/json";
    assert_eq!(ask(Some("https://mail.test"), json, Some("same-origin")).await, 422, "from our own page");
    assert_eq!(ask(Some(&server.url("")), json, None).await, 422);
    for (origin, kind, site, status) in [
        (None, json, None, 403),
        (Some("null"), json, None, 403),
        (Some("https://evil.test"), json, None, 403),
        (Some("https://mail.test"), json, Some("same-site"), 403),
        (Some("https://mail.test"), "text/plain", None, 415),
        (Some("https://mail.test"), "application/x-www-form-urlencoded", None, 415),
    ] {
        assert_eq!(ask(origin, kind, site).await, status, "{origin:?} {kind} {site:?}");
    }
    let response = server.request(Method::GET, "/login").send().await.unwrap();
    let headers = response.headers();
    for (name, part) in [
        ("content-security-policy", "frame-ancestors 'none'"),
        ("strict-transport-security", "max-age="),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("permissions-policy", "camera=()"),
        ("x-frame-options", "DENY"),
    ] {
        assert!(headers[name].to_str().unwrap().contains(part), "{name}");
    }
    assert!(!headers["content-security-policy"].to_str().unwrap().contains("unsafe"));
    let (one, two) = (headers["x-request-id"].clone(), server.request(Method::GET, "/login").send().await.unwrap());
    assert_ne!(one, two.headers()["x-request-id"]);
}

#[tokio::test]
async fn a_key_is_held_to_its_pace_its_last_use_is_known_and_it_submits_for_a_named_sender() {
    let server = Server::start();
    let made = server.run_json(&["key", "add", "slow", "--role", "operator", "--rate", "10"]);
    let key = made["key"].as_str().unwrap().to_owned();
    let ask = async |path: &str| server.request(Method::GET, path).bearer_auth(&key).send().await.unwrap();
    let message = json!({"from": "a@shop.test", "to": "b@one.test", "subject": "s", "text": "t"});
    let submit = async |sender: Option<&str>| {
        let mut request = server.request(Method::POST, "/api/v1/messages").bearer_auth(&key).json(&message);
        if let Some(sender) = sender {
            request = request.header("Pillarbox-Sender", sender);
        }
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(submit(Some("app")).await, 202);
    assert_eq!(submit(None).await, 422);
    let refused = ask("/api/v1/status").await;
    assert_eq!(refused.status(), 429, "two at once of ten a minute");
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    let shown = server.run_json(&["key", "list"]);
    assert!(shown["items"][0]["used"].is_string() && shown["items"][0]["key"].is_null(), "{shown}");
    assert_eq!(shown["items"][0]["used_from"], "127.0.0.1");
    server.run(&["key", "remove", "slow"]);
    assert_eq!(ask("/api/v1/status").await.status(), 401);
}

#[tokio::test]
async fn the_command_line_works_on_a_remote_server_with_a_key_from_a_file() {
    let server = Server::start();
    let made = server.run_json(&["key", "add", "remote", "--role", "viewer"]);
    let file = server.dir.path().join("remote.key");
    std::fs::write(&file, made["key"].as_str().unwrap()).unwrap();
    let url = server.url("");
    let asked = |args: &[&str]| {
        let all = [args, &["--server", &url, "--token", file.to_str().unwrap()]].concat();
        server.command(&all).output().unwrap()
    };
    assert!(asked(&["queue", "ls"]).status.success());
    let refused = asked(&["user", "list"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("needs the role administrator"), "{refused:?}");
}
