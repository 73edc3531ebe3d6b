//! Who gets in, as what, and what an identity provider may say.

use super::*;
use serde_json::json;

fn record(more: Value) -> IdentityRecord {
    let mut value = json!({
        "issuer": "https://id.example", "client_id": "relay",
        "roles": [{"value": "mail-admins", "role": "administrator"}, {"value": "mail", "role": "viewer"}],
    });
    crate::http::api::settings::merge(&mut value, more);
    serde_json::from_value(value).unwrap()
}

#[test]
fn the_highest_role_of_the_groups_counts_and_without_one_nobody_gets_in() {
    let plain = record(json!({}));
    let claims = |groups: Value| json!({"sub": "1", "preferred_username": "Ann B@x", "groups": groups});
    let ann = plain.judge(&claims(json!(["mail", "mail-admins", 7]))).unwrap();
    assert_eq!((ann.role, &*ann.name), (Role::Administrator, "ann-b"));
    assert_eq!(plain.judge(&claims(json!("mail"))).unwrap().role, Role::Viewer);
    for none in [json!([]), json!("mail-admins-x"), json!(null), json!({"mail": true})] {
        assert!(matches!(plain.judge(&claims(none)), Err(SignInError::NotAllowed(_))));
    }
    let open = record(json!({"default_role": "viewer"}));
    assert_eq!(open.judge(&json!({"sub": "1"})).unwrap().role, Role::Viewer);
    let deep = record(json!({"claim": "realm_access.roles"}));
    assert_eq!(deep.judge(&json!({"sub": "1", "realm_access": {"roles": ["mail"]}})).unwrap().role, Role::Viewer);
    let url = record(json!({"claim": "https://x.example/roles"}));
    assert_eq!(url.judge(&json!({"sub": "1", "https://x.example/roles": ["mail"]})).unwrap().role, Role::Viewer);
}

#[test]
fn the_list_goes_by_verified_addresses_only() {
    let listed = record(json!({"default_role": "viewer", "allow": ["example.com", "bob@other.example"]}));
    let judge = |email: &str, verified: Value| {
        listed.judge(&json!({"sub": "1", "email": email, "email_verified": verified})).is_ok()
    };
    assert!(judge("Ann@Example.com", json!(true)) && judge("bob@other.example", json!("true")));
    for (email, verified) in [
        ("ann@example.com", json!(false)),
        ("ann@example.com", json!(null)),
        ("ann@sub.example.com", json!(true)),
        ("ann@example.com.evil.test", json!(true)),
        ("eve@other.example", json!(true)),
    ] {
        assert!(!judge(email, verified), "{email}");
    }
}

#[test]
fn names_can_be_typed_everywhere() {
    for (wish, name) in
        [("ann@x.example", "ann"), ("Ännchen Müller", "nnchen-m-ller"), ("../../etc", "etc"), ("@", "user")]
    {
        assert_eq!(plain_name(wish), name);
    }
    assert!(plain_name(&"x".repeat(300)).len() < 64);
}

#[test]
fn a_pending_sign_in_comes_back_from_its_cookie_and_the_challenge_is_that_of_rfc_7636() {
    let mut pending = Pending::new("corp", 5);
    assert_eq!(Pending::read(&pending.write()).unwrap().state, pending.state);
    assert!(Pending::read("not it").is_none());
    pending.verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".into();
    assert_eq!(pending.challenge(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
}

#[test]
fn only_this_machine_is_spoken_to_in_the_clear() {
    for (url, fine) in [
        ("https://id.example/x", true),
        ("http://127.0.0.1:9/x", true),
        ("http://[::1]:9/x", true),
        ("http://localhost/x", true),
        ("http://id.example/x", false),
        ("http://127.0.0.1.evil.test/", false),
        ("https://id.example/#x", false),
        ("file:///etc/passwd", false),
        ("x", false),
    ] {
        assert_eq!(check_url(url).is_ok(), fine, "{url}");
    }
}
