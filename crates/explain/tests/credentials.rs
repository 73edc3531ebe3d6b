//! Credentials judged before the network: what is noticed where, nothing where nothing is wrong, and never the secret itself.

use explain::credential::{Login, lint};
use explain::{Query, RuleBase};
use proto::transcript::Stage;
use secrecy::SecretString;

/// 2026-11-21 06:00 UTC.
const NOW_S: i64 = 1_795_240_800;
const SENDGRID: &str = "SG.aaaaaaaaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const SES_PASSWORD: &str = "BIx7Kq3pW9zR2tYvL5mN8cQ1dF4gH6jS0aE+uO/iPxyZ";
const AWS_SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYzzzzzzzzzz";
const UUID: &str = "0a1b2c3d-0a1b-2c3d-4e5f-0a1b2c3d4e5f";
const OTHER_UUID: &str = "9a1b2c3d-0a1b-2c3d-4e5f-0a1b2c3d4e5f";
const HEX32: &str = "0123456789abcdef0123456789abcdef";
const AKIA: &str = "AKIAABCDEFGHIJKLMNOP";

struct Case {
    provider: &'static str,
    host: &'static str,
    user: &'static str,
    password: &'static str,
    /// Kinds without `credential_`, sorted.
    notes: &'static [&'static str],
}

const fn at(
    provider: &'static str,
    user: &'static str,
    password: &'static str,
    notes: &'static [&'static str],
) -> Case {
    Case { provider, host: "smtp.example.net", user, password, notes }
}

const fn anywhere(user: &'static str, password: &'static str, notes: &'static [&'static str]) -> Case {
    at("", user, password, notes)
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    // Nothing wrong, nothing said.
    anywhere("ann@example.net", "correct horse battery staple", &[]),
    anywhere("ann", "Tr0ub4dor&3", &[]),
    anywhere("EXAMPLE\\ann", "p%ssw0rd!", &[]),
    anywhere("ann", "100%sure", &[]),
    anywhere("ann", "\"half-quoted", &[]),
    at("sendgrid", "apikey", SENDGRID, &[]),
    at("google", "ann@gmail.com", "abcdefghijklmnop", &[]),
    at("google", "ann@corp.example", "abcd efgh ijkl mnop", &[]),
    at("apple", "ann@icloud.com", "abcd-efgh-ijkl-mnop", &[]),
    at("yahoo", "ann@yahoo.com", "abcdefghijklmnop", &[]),
    at("postmark", UUID, UUID, &[]),
    at("mailjet", HEX32, "fedcba9876543210fedcba9876543210", &[]),
    at("brevo", "7a1b2c001@smtp-brevo.com", "xsmtpsib-0123456789abcdef0123456789-AbCdEf", &[]),
    at("sparkpost", "SMTP_Injection", "0123456789abcdef0123456789abcdef01234567", &["region"]),
    at("resend", "resend", "re_AbCdEfGh_1234567890abcdefgh", &[]),
    at("mandrill", "anything", "md-AbCdEfGhIjKlMnOpQrStUv", &[]),
    at("mailersend", "MS_abc123@example.com", "SomePass1word", &[]),
    at("zeptomail", "emailapikey", "wSsVR60lOlongtoken==", &[]),
    at("microsoft", "app@corp.example", "Secret-pass-1", &[]),
    at("exchange", "CORP\\svc-mail", "Secret-pass-1", &[]),
    at("postfix", "ann", "Secret-pass-1", &[]),
    Case { host: "email-smtp.eu-west-1.amazonaws.com", ..at("ses", AKIA, SES_PASSWORD, &["region"]) },
    // What hides in the text.
    anywhere("ann", "secret-1 ", &["blank_around"]),
    anywhere(" ann", "secret-1", &["blank_around"]),
    anywhere("ann", "\tsecret-1 ", &["blank_around"]),
    anywhere("ann", "secret-1\n", &["line_end"]),
    anywhere("ann\r\n", "secret-1", &["line_end"]),
    anywhere("ann", "sec\u{200b}ret-1", &["invisible_character"]),
    anywhere("ann", "\u{feff}secret-1", &["invisible_character"]),
    anywhere("ann", "secret\u{a0}word", &["invisible_character"]),
    anywhere("ann\u{202e}", "secret-1", &["invisible_character"]),
    anywhere("ann", "secret\u{ad}1", &["invisible_character"]),
    anywhere("ann", "sec\u{7}ret-1", &["control_character"]),
    anywhere("ann", "secret\u{2013}1", &["smart_punctuation"]),
    anywhere("ann", "it\u{2019}s-me-1", &["smart_punctuation"]),
    anywhere("ann", "\u{ff53}ecret-1", &["full_width"]),
    anywhere("ann", "cafe\u{301}-noir", &["decomposed"]),
    anywhere("ann", "caf\u{e9}-noir", &["not_ascii"]),
    anywhere("\u{430}nn@example.net", "secret-1", &["look_alike"]),
    anywhere("ann", "secr\u{435}t-1", &["look_alike"]),
    anywhere("ann", "пароль-мой", &["not_ascii"]),
    // What was pasted with it, or in its place.
    anywhere("ann", "\"secret-1\"", &["quoted"]),
    anywhere("'ann'", "secret-1", &["quoted"]),
    anywhere("<ann@example.net>", "secret-1", &["quoted"]),
    anywhere("ann", "\u{201c}secret-1\u{201d}", &["quoted", "smart_punctuation"]),
    anywhere("ann", "Password: secret-1", &["label"]),
    anywhere("ann", "SMTP_PASS=secret-1", &["label"]),
    anywhere("mailto:ann@example.net", "secret-1", &["label"]),
    anywhere("ann", "", &["empty"]),
    anywhere(" ", "secret-1", &["blank_around", "empty"]),
    anywhere("ann", "your_password", &["placeholder"]),
    anywhere("ann", "${SMTP_PASSWORD}", &["placeholder"]),
    anywhere("ann", "$SMTP_PASSWORD", &["placeholder"]),
    anywhere("ann", "{{ smtp.password }}", &["placeholder"]),
    anywhere("ann", "%SMTP_PASSWORD%", &["placeholder"]),
    anywhere("ann", "<your-api-key>", &["placeholder"]),
    anywhere("ann", "xxxxxxxx", &["placeholder"]),
    anywhere("ann", "••••••••••", &["masked", "not_ascii"]),
    anywhere("ann", "************", &["masked"]),
    anywhere("ann", "SG.aaaaaaaa...", &["shortened"]),
    anywhere("ann%40example.net", "secret-1", &["url_encoded"]),
    anywhere("ann", "p%40ss%23word", &["url_encoded"]),
    anywhere("ann", "bXktc2VjcmV0LXBhc3N3b3Jk", &["base64"]),
    anywhere("YW5uQGV4YW1wbGUubmV0", "secret-1", &["base64"]),
    anywhere("ann", "AGFubgBzZWNyZXQtMQ==", &["base64"]),
    anywhere("ann@example.net", "ann@example.net:secret-1", &["user_in_password"]),
    anywhere("ann@example.net", "ann@example.net", &["same"]),
    anywhere("Ann Example <ann@example.net>", "secret-1", &["user_display_name"]),
    anywhere("Ann Example", "secret-1", &["user_blank"]),
    // What the provider wants.
    at("sendgrid", "ann@example.net", SENDGRID, &["user_fixed"]),
    at("sendgrid", "ApiKey", SENDGRID, &["user_case"]),
    at("sendgrid", "apikey", "MyAccountPass1", &["key_shape"]),
    at("sendgrid", SENDGRID, "apikey", &["placeholder", "swapped"]),
    at("sendgrid", "apikey", "aaaaaaaaaaaaaaaaaaaaaa", &["api_key"]),
    at("ses", AKIA, AWS_SECRET, &["aws_secret_key"]),
    at("ses", AKIA, "ConsolePassword1", &["key_shape"]),
    at("ses", "ASIAABCDEFGHIJKLMNOP", SES_PASSWORD, &["aws_temporary"]),
    at("ses", "ses-smtp-user.20261121-060000", SES_PASSWORD, &["user_shape"]),
    at("ses", "ann@example.net", SES_PASSWORD, &["user_shape"]),
    at("postmark", UUID, OTHER_UUID, &["token_differs"]),
    at("postmark", "ann@example.net", UUID, &["token_differs", "user_shape"]),
    at("postmark", UUID, "MyAccountPass1", &["key_shape"]),
    at("mailgun", "api", "0123456789abcdef", &["user_shape"]),
    at("mailgun", "postmaster@mg.example.com", "key-0123456789abcdef0123456789abcdef", &["api_key"]),
    at("mailgun", "postmaster", "0123456789abcdef", &["user_address"]),
    at("brevo", "ann@example.net", "xkeysib-0123456789abcdef0123456789-AbCdEf", &["api_key"]),
    at("brevo", "ann@example.net", "MyAccountPass1", &["key_shape"]),
    at("mailjet", "ann@example.net", HEX32, &["user_shape"]),
    at("mandrill", "ann", "0123456789abcdef0123456789abcdef-us12", &["api_key"]),
    at("sparkpost", "smtp_injection", "0123456789abcdef0123456789abcdef01234567", &["user_case"]),
    at("resend", "ann@example.net", "re_AbCdEfGh_1234567890abcdefgh", &["user_fixed"]),
    at("resend", "resend", SENDGRID, &["key_of_another"]),
    at("mailersend", "MS_abc123@example.com", "mlsn.0123456789abcdef0123456789abcdef", &["api_key"]),
    at("zeptomail", "ann@example.net", "wSsVR60lOlongtoken==", &["user_fixed"]),
    at("google", "ann@gmail.com", "MyAccountPass1", &["app_password"]),
    at("google", "ann", "abcdefghijklmnop", &["user_address"]),
    at("google", "ann@outlook.com", "abcdefghijklmnop", &["user_elsewhere"]),
    at("yahoo", "ann@yahoo.com", "MyAccountPass1", &["app_password"]),
    at("apple", "ann@icloud.com", "MyAccountPass1", &["app_password"]),
    at("microsoft", "CORP\\ann", "Secret-pass-1", &["user_windows_form"]),
    at("microsoft", "ann", "Secret-pass-1", &["user_address"]),
    at("microsoft", "app@corp.example", UUID, &["secret_id"]),
    at("azure", "res.app.tenant", UUID, &["secret_id"]),
    at("exchange", "svc-mail", "Secret-pass-1", &["user_windows"]),
    Case { host: "sandbox.smtp.mailtrap.io", ..at("mailtrap", "api", HEX32, &["user_shape"]) },
    Case { host: "live.smtp.mailtrap.io", ..at("mailtrap", "0123456789abcd", HEX32, &["user_fixed"]) },
    at("google", "ann@gmail.com", "MyAccountPass1 ", &["app_password", "blank_around"]),
    at("google", "ann@gmail.com", "\u{200b}abcdefghijklmnop", &["invisible_character"]),
    at("sendgrid", " apikey", SENDGRID, &["blank_around"]),
];

fn login<'a>(case: &'a Case, password: &'a SecretString) -> Login<'a> {
    let provider = Some(case.provider).filter(|provider| !provider.is_empty());
    Login { provider, host: Some(case.host), mechanism: None, username: case.user, password, now_s: NOW_S }
}

#[test]
fn each_credential_gets_its_notes_and_a_good_one_gets_none() {
    assert!(CASES.len() >= 60);
    let mut wrong = Vec::new();
    for case in CASES {
        let password = SecretString::from(case.password);
        let found = lint(&login(case, &password));
        let mut kinds: Vec<&str> = found.iter().filter_map(|note| note.kind.strip_prefix("credential_")).collect();
        kinds.sort_unstable();
        if kinds != case.notes {
            wrong.push(format!(
                "{} {:?} {:?}: {kinds:?}, not {:?}",
                case.provider, case.user, case.password, case.notes
            ));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn no_words_about_a_credential_hold_any_part_of_it() {
    let base = RuleBase::builtin();
    for case in CASES {
        let password = SecretString::from(case.password);
        let login = login(case, &password);
        for note in lint(&login) {
            let query = Query::sign(Some(Stage::Auth), &note.kind, &note.values).at(login.provider);
            let finding = base.judge(&query).unwrap_or_else(|| panic!("{} has no rule", note.kind));
            let explanation = base.explain(&finding).unwrap();
            let words = format!("{note:?} {finding:?} {explanation:?}");
            // Five letters in a row could be a word of ours: those of the secrets above are not, unless it is a placeholder.
            let secret: Vec<char> = case.password.chars().collect();
            let ours =
                ["placeholder", "label", "key_of_another", "user_in_password", "api_key", "swapped", "shortened"];
            if !ours.iter().any(|kind| note.kind.ends_with(kind)) && secret.len() >= 8 {
                for window in secret.windows(8) {
                    let part: String = window.iter().collect();
                    assert!(!words.contains(&part), "{part:?} of {:?} is in {words}", case.password);
                }
            }
            assert!(secret.len() < 8 || !words.contains(case.password), "{words}");
        }
    }
}

fn token(claims: &str) -> String {
    use base64::Engine as _;
    let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part(r#"{"alg":"RS256"}"#), part(claims), "s".repeat(40))
}

#[test]
fn a_token_is_told_from_a_password_and_says_when_it_ended_and_for_whom_it_is() {
    let notes = |provider, mechanism, password: &str| {
        let password = SecretString::from(password);
        let username = "app@corp.example";
        let login = Login { provider, host: None, mechanism, username, password: &password, now_s: NOW_S };
        lint(&login).into_iter().map(|note| note.kind).collect::<Vec<_>>()
    };
    let good = token(&format!(r#"{{"exp":{},"aud":"https://outlook.office365.com"}}"#, NOW_S + 3000));
    assert_eq!(notes(Some("microsoft"), Some("XOAUTH2"), &good), [""; 0]);
    assert_eq!(notes(Some("microsoft"), Some("LOGIN"), &good), ["credential_token_as_password"]);
    let late = token(&format!(r#"{{"exp":{},"aud":"https://outlook.office365.com"}}"#, NOW_S - 3000));
    assert_eq!(notes(Some("microsoft"), Some("XOAUTH2"), &late), ["credential_token_expired"]);
    let graph = token(&format!(r#"{{"exp":{},"aud":"https://graph.microsoft.com"}}"#, NOW_S + 3000));
    assert_eq!(notes(Some("microsoft"), Some("XOAUTH2"), &graph), ["credential_token_audience"]);
    assert_eq!(notes(None, Some("XOAUTH2"), "Secret-pass-1"), ["credential_not_a_token"]);
    let refresh = format!("1//{}", "r".repeat(80));
    assert_eq!(notes(Some("google"), Some("XOAUTH2"), &refresh), ["credential_refresh_token"]);
    assert_eq!(notes(Some("google"), Some("XOAUTH2"), "ya29.a0Afwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww"), [""; 0]);
}
