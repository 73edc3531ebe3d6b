//! The choice of a mechanism, and exchanges line by line.

use super::*;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn choice(offered: &[String]) -> Choice<'_> {
    Choice { offered, wanted: None, encrypted: true, allow_plaintext: false, binding: true, token: false }
}

fn first(choice: Choice<'_>) -> Result<&'static str, NoChoice> {
    choice.candidates().map(|found| found[0].name())
}

#[test]
fn the_strongest_that_both_sides_have_is_chosen() {
    for (offered, expected) in [
        (&["PLAIN", "LOGIN"][..], Ok("PLAIN")),
        (&["login"], Ok("LOGIN")),
        (&["PLAIN", "CRAM-MD5", "DIGEST-MD5"], Ok("CRAM-MD5")),
        (&["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256"], Ok("SCRAM-SHA-256")),
        (&["SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"], Ok("SCRAM-SHA-256-PLUS")),
        (&["NTLM", "LOGIN"], Ok("LOGIN")),
        (&["GSSAPI", "NTLM"], Ok("NTLM")),
        (&["XOAUTH2"], Err(NoChoice::Unknown)),
        (&["PLAIN", "XOAUTH2"], Ok("PLAIN")),
        (&["GSSAPI", "EXTERNAL"], Err(NoChoice::Unknown)),
        (&[], Err(NoChoice::Unknown)),
    ] {
        assert_eq!(first(choice(&names(offered))), expected, "{offered:?}");
    }
    let offered = names(&["PLAIN", "SCRAM-SHA-256-PLUS"]);
    assert_eq!(first(Choice { binding: false, ..choice(&offered) }), Ok("PLAIN"));
}

#[test]
fn a_token_is_for_mechanisms_of_tokens() {
    let offered = names(&["PLAIN", "SCRAM-SHA-256", "XOAUTH2"]);
    assert_eq!(first(Choice { token: true, ..choice(&offered) }), Ok("XOAUTH2"));
    let offered = names(&["PLAIN", "LOGIN"]);
    assert_eq!(first(Choice { token: true, ..choice(&offered) }), Ok("PLAIN"), "an API key may look like one");
    let token = |text: &str| looks_like_token(&SecretString::from(text));
    assert!(token(&format!("eyJ{}.{}.{}", "a".repeat(40), "b".repeat(40), "c".repeat(40))));
    assert!(token(&format!("ya29.{}", "a".repeat(80))));
    assert!(
        !token("eyJ.short.one") && !token("correct horse battery staple") && !token(&format!("SG.{}", "a".repeat(66)))
    );
}

#[test]
fn without_tls_nothing_that_shows_the_secret_is_chosen() {
    let offered = names(&["PLAIN", "LOGIN", "XOAUTH2"]);
    let clear = Choice { encrypted: false, binding: false, ..choice(&offered) };
    assert_eq!(first(clear), Err(NoChoice::NeedsTls));
    assert_eq!(first(Choice { token: true, ..clear }), Err(NoChoice::NeedsTls));
    assert_eq!(first(Choice { allow_plaintext: true, ..clear }), Ok("PLAIN"));
    let offered = names(&["PLAIN", "CRAM-MD5"]);
    let found = Choice { encrypted: false, binding: false, ..choice(&offered) }.candidates();
    assert_eq!(found, Ok(vec![Mechanism::CramMd5]), "and no falling back to PLAIN");
}

#[test]
fn a_configured_mechanism_is_tried_alone() {
    let offered = names(&["PLAIN", "LOGIN", "NTLM", "XOAUTH2"]);
    for (wanted, expected) in [
        ("login", Ok(vec![Mechanism::Login])),
        ("NTLM", Ok(vec![Mechanism::Ntlm])),
        ("XOAUTH2", Ok(vec![Mechanism::Xoauth2])),
        ("CRAM-MD5", Err(NoChoice::Unknown)),
        ("GSSAPI", Err(NoChoice::Unknown)),
    ] {
        assert_eq!(Choice { wanted: Some(wanted), ..choice(&offered) }.candidates(), expected, "{wanted}");
    }
}

fn exchange(mechanism: Mechanism) -> Exchange {
    let parameters =
        Parameters { nonce: "abc".into(), ..Parameters::new("tim", &SecretString::from("tanstaaftanstaaf")) };
    Exchange::new(mechanism, parameters)
}

fn shown(secret: &SecretString) -> &str {
    secret.expose_secret()
}

#[test]
fn an_exchange_ends_after_its_last_word() {
    let mut plain = exchange(Mechanism::Plain);
    assert_eq!(shown(&plain.initial().unwrap()), STANDARD.encode("\0tim\0tanstaaftanstaaf"));
    assert_eq!(plain.step("").unwrap_err(), ClientError::TooMany("PLAIN"));
    assert_eq!(plain.finish(), Ok(()));

    let mut late = exchange(Mechanism::Plain);
    assert_eq!(shown(&late.step("").unwrap()), STANDARD.encode("\0tim\0tanstaaftanstaaf"));

    let mut cram = exchange(Mechanism::CramMd5);
    assert!(cram.initial().is_none());
    let challenge = STANDARD.encode("<1896.697170952@postoffice.reston.mci.net>");
    let expected = STANDARD.encode("tim b913a602c7eda7a495b4e6e7334d3890");
    assert_eq!(shown(&cram.step(&challenge).unwrap()), expected);
    assert_eq!(cram.step(&challenge).unwrap_err(), ClientError::TooMany("CRAM-MD5"));

    let mut login = exchange(Mechanism::Login);
    assert!(login.initial().is_none());
    assert_eq!(shown(&login.step("anything at all").unwrap()), STANDARD.encode("tim"));
    assert_eq!(shown(&login.step("UGFzc3dvcmQ6").unwrap()), STANDARD.encode("tanstaaftanstaaf"));
    assert_eq!(login.step("UGFzc3dvcmQ6").unwrap_err(), ClientError::TooMany("LOGIN"));
}

#[test]
fn a_server_that_says_yes_without_proof_is_not_believed() {
    let mut scram = exchange(Mechanism::ScramSha256);
    assert!(scram.initial().is_some());
    assert_eq!(scram.finish(), Err(ClientError::NotProven));
    assert_eq!(scram.step("?").unwrap_err(), ClientError::NotBase64("SCRAM-SHA-256"));
    assert_eq!(scram.step(&"A".repeat(20_000)).unwrap_err(), ClientError::NotBase64("SCRAM-SHA-256"));
}

#[test]
fn ntlm_begins_whatever_the_server_says_first() {
    for challenge in ["", "NTLM supported", "TlRMTQ=="] {
        let mut ntlm = exchange(Mechanism::Ntlm);
        assert!(ntlm.initial().is_none());
        assert!(shown(&ntlm.step(challenge).unwrap()).starts_with("TlRMTVNTUAABAAAA"));
        assert!(matches!(ntlm.step("AAAA"), Err(ClientError::Malformed("NTLM", _))));
    }
}

#[test]
fn the_reason_of_a_refused_token_is_kept() {
    for (mechanism, answer) in [(Mechanism::Xoauth2, ""), (Mechanism::OauthBearer, "AQ==")] {
        let mut oauth = exchange(mechanism);
        oauth.initial();
        assert_eq!(oauth.told(), None);
        let said = STANDARD.encode(r#"{"status":"invalid_token","scope":"mail"}"#);
        assert_eq!(shown(&oauth.step(&said).unwrap()), answer);
        assert_eq!(oauth.told().unwrap().text(), "status=invalid_token scope=mail");
        assert_eq!(oauth.step(&said).unwrap_err(), ClientError::TooMany(mechanism.name()));
    }
}

#[test]
fn debug_output_shows_no_secret() {
    for mechanism in Mechanism::ALL {
        let mut exchange = exchange(mechanism);
        exchange.initial();
        let _ = exchange.step("");
        let shown = format!("{exchange:?}");
        assert!(!shown.contains("tanstaaf") && !shown.contains(&STANDARD.encode("tanstaaf")[..8]), "{shown}");
    }
}

#[test]
fn every_mechanism_is_found_by_its_name() {
    for mechanism in Mechanism::ALL {
        assert_eq!(Mechanism::parse(&mechanism.name().to_lowercase()), Some(mechanism));
    }
    assert_eq!(Mechanism::parse("DIGEST-MD5"), None);
}
