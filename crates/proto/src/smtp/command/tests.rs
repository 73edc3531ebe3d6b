//! Which lines are which command, and what the others are answered.

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;
use crate::envelope::{BodyType, DeliveryNotify, ReturnContent};

fn shown(line: &str) -> String {
    match Command::parse(line.as_bytes()) {
        Ok(command) => format!("{command:?}"),
        Err(error) => error.to_string(),
    }
}

fn mail(line: &str) -> (ReversePath, MailParameters) {
    match Command::parse(line.as_bytes()) {
        Ok(Command::Mail { reverse_path, parameters }) => (reverse_path, parameters),
        other => panic!("{line}: {other:?}"),
    }
}

fn rcpt(line: &str) -> (Address, RcptParameters) {
    match Command::parse(line.as_bytes()) {
        Ok(Command::Rcpt { address, parameters }) => (address, parameters),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn simple_commands_in_any_case_with_trailing_blanks() {
    for (line, command) in [
        ("EHLO app.example.org", "EHLO \"app.example.org\""),
        ("ehlo [192.0.2.1]", "EHLO \"[192.0.2.1]\""),
        ("HELO x_y", "HELO \"x_y\""),
        ("DATA", "DATA"),
        ("data  ", "DATA"),
        ("BDAT 0", "BDAT 0"),
        ("BDAT 86 LAST", "BDAT 86 LAST"),
        ("bdat 86  last", "BDAT 86 LAST"),
        ("RSET", "RSET"),
        ("NOOP", "NOOP"),
        ("NOOP what ever", "NOOP"),
        ("VRFY ann", "VRFY \"ann\""),
        ("EXPN staff", "EXPN"),
        ("HELP", "HELP"),
        ("HELP MAIL", "HELP"),
        ("QUIT", "QUIT"),
        ("STARTTLS", "STARTTLS"),
        ("AUTH plain", "AUTH \"PLAIN\""),
        ("XCLIENT name=a.example addr=192.0.2.1", "XCLIENT [(\"NAME\", \"a.example\"), (\"ADDR\", \"192.0.2.1\")]"),
        ("GET / HTTP/1.1", "HTTP"),
        ("POST /x HTTP/1.1", "HTTP"),
        ("", "unknown"),
        ("MAILFROM:<a@b>", "unknown"),
        ("X", "unknown"),
        ("VERYLONGVERB x", "unknown"),
    ] {
        assert_eq!(shown(line), command, "{line}");
    }
}

#[test]
fn wrong_arguments_are_answered_with_the_reason() {
    for (line, start) in [
        ("EHLO", "501 5.5.4"),
        ("EHLO a b", "501 5.5.4"),
        ("EHLO m\u{fc}nchen", "501 5.5.4"),
        ("DATA now", "501 5.5.4"),
        ("RSET x", "501 5.5.4"),
        ("QUIT x", "501 5.5.4"),
        ("STARTTLS x", "501 5.5.4"),
        ("BDAT", "501 5.5.4"),
        ("BDAT x", "501 5.5.4"),
        ("BDAT -1", "501 5.5.4"),
        ("BDAT +1", "501 5.5.4"),
        ("BDAT 1 LAST x", "501 5.5.4"),
        ("BDAT 1 FIRST", "501 5.5.4"),
        ("BDAT 99999999999999999999", "501 5.5.4"),
        ("VRFY", "501 5.5.4"),
        ("EXPN", "501 5.5.4"),
        ("AUTH", "501 5.5.4"),
        ("AUTH PLAIN a b", "501 5.5.4"),
        ("AUTH PL@IN", "501 5.5.4"),
        ("XCLIENT", "501 5.5.4"),
        ("XCLIENT name", "501 5.5.4"),
        ("XCLIENT name=a+0Db", "501 5.5.4"),
        ("NOOP a\0b", "500 5.5.2"),
        ("NOOP a\rb", "500 5.5.2"),
        ("NOOP a\tb", "500 5.5.2"),
    ] {
        assert!(shown(line).starts_with(start), "{line:?} gave {}", shown(line));
    }
    let error = Command::parse(b"MAIL FROM:<a\xff@b>").unwrap_err();
    assert_eq!(error.reply().to_string(), "500 5.5.2 line is not UTF-8");
}

#[test]
fn long_lines_are_refused_but_auth_may_be_longer() {
    let long = "x".repeat(MAX_LINE);
    assert!(shown(&format!("NOOP {long}")).starts_with("500 5.5.2"));
    assert!(shown(&long.repeat(2)).starts_with("500 5.5.2"));
    assert_eq!(shown(&format!("AUTH PLAIN {long}")), "AUTH \"PLAIN\" [secret]");
    assert!(shown(&format!("AUTH PLAIN {}", "x".repeat(sasl::MAX_LINE))).starts_with("500 5.5.2"));
}

#[test]
fn debug_never_shows_what_auth_carries() {
    let command = Command::parse(b"AUTH PLAIN AGFwcABzZWNyZXQ=").unwrap();
    assert!(!format!("{command:?} {command:#?}").contains("AGFwcABzZWNyZXQ"));
    match command {
        Command::Auth { initial: Some(initial), .. } => assert_eq!(initial.expose_secret(), "AGFwcABzZWNyZXQ="),
        other => panic!("{other:?}"),
    }
}

#[test]
fn paths_of_mail() {
    for (line, path) in [
        ("MAIL FROM:<ann@example.org>", "<ann@example.org>"),
        ("mail from:<ann@example.org>", "<ann@example.org>"),
        ("MAIL FROM: <ann@example.org>", "<ann@example.org>"),
        ("MAIL FROM:<>", "<>"),
        ("MAIL FROM:<@a.example,@b.example:ann@example.org>", "<ann@example.org>"),
        ("MAIL FROM:<\"a>b\"@example.org>", "<\"a>b\"@example.org>"),
        ("MAIL FROM:<\"a\\\"> b\"@example.org>", "<\"a\\\"> b\"@example.org>"),
        ("MAIL FROM:<a%b@example.org>", "<a%b@example.org>"),
        ("MAIL FROM:<a!b@example.org>", "<a!b@example.org>"),
        ("MAIL FROM:<ann@[IPv6:::1]>", "<ann@[IPv6:::1]>"),
        ("MAIL FROM:<j\u{f6}rg@example.org>", "<j\u{f6}rg@example.org>"),
    ] {
        assert_eq!(mail(line).0.to_string(), path, "{line}");
    }
}

#[test]
fn strictness_of_paths_and_parameters() {
    for (line, start) in [
        ("MAIL", "501 5.5.4 syntax: MAIL"),
        ("MAIL FROM", "501 5.5.4 syntax: MAIL"),
        ("MAIL FROM:", "501 5.5.4 syntax: MAIL"),
        ("MAIL FROM:ann@example.org", "501 5.5.4 syntax: MAIL"),
        ("MAIL FROM :<ann@example.org>", "501 5.5.4 syntax: MAIL"),
        ("MAIL TO:<ann@example.org>", "501 5.5.4 syntax: MAIL"),
        ("MAIL <ann@example.org>", "501 5.5.4 syntax: MAIL"),
        ("MAIL FROM:<ann@example.org", "501 5.5.4 syntax: MAIL"),
        ("MAIL FROM:<ann@example.org>SIZE=1", "501 5.5.4 syntax: MAIL"),
        ("MAIL FROM:<ann@example.org>>", "501 5.5.4 syntax: MAIL"),
        ("MAIL FROM:<\"ann@example.org>", "501 5.5.4 syntax: MAIL"),
        ("MAIL FROM:<@a.example>", "501 5.5.4 syntax: MAIL"),
        ("MAIL FROM:<@:ann@example.org>", "501 5.5.4 syntax: MAIL"),
        ("MAIL FROM:<ann>", "501 5.1.7 sender address has no @"),
        ("MAIL FROM:< ann@example.org>", "501 5.1.7"),
        ("MAIL FROM:<ann@example.org >", "501 5.1.7"),
        ("MAIL FROM:<ann@example.org> ann2@example.org", "555 5.5.4"),
        ("MAIL FROM:<<ann@example.org>>", "501 5.5.4"),
        ("MAIL FROM:<ann bob@example.org>", "501 5.1.7"),
        ("MAIL FROM:<ann@exa mple.org>", "501 5.1.7"),
        ("MAIL FROM:<a@b> SIZE", "501 5.5.4"),
        ("MAIL FROM:<a@b> SIZE=", "501 5.5.4"),
        ("MAIL FROM:<a@b> SIZE=+1", "501 5.5.4"),
        ("MAIL FROM:<a@b> SIZE=1 SIZE=1", "501 5.5.4 SIZE given twice"),
        ("MAIL FROM:<a@b> BODY=BINARYMIME", "504 5.5.4"),
        ("MAIL FROM:<a@b> BODY=9BIT", "501 5.5.4"),
        ("MAIL FROM:<a@b> BODY", "501 5.5.4"),
        ("MAIL FROM:<a@b> SMTPUTF8=1", "555 5.5.4"),
        ("MAIL FROM:<a@b> RET=ALL", "501 5.5.4"),
        ("MAIL FROM:<a@b> ENVID=", "501 5.5.4"),
        ("MAIL FROM:<a@b> ENVID=a+2", "501 5.5.4"),
        ("MAIL FROM:<a@b> ENVID=a+0D+0A", "501 5.5.4"),
        ("MAIL FROM:<a@b> ENVID=a+3d", "501 5.5.4"),
        ("MAIL FROM:<a@b> ENVID=a=b", "501 5.5.4"),
        ("MAIL FROM:<a@b> AUTH=", "501 5.5.4"),
        ("MAIL FROM:<a@b> AUTH=a+00", "501 5.5.4"),
        ("MAIL FROM:<a@b> NOTIFY=NEVER", "555 5.5.4 parameter NOTIFY"),
        ("MAIL FROM:<a@b> HOLDFOR=1", "555 5.5.4 parameter HOLDFOR"),
        ("MAIL FROM:<a@b> =1", "555 5.5.4"),
        ("RCPT TO:<>", "501 5.1.3"),
        ("RCPT TO:<ann>", "501 5.1.3"),
        ("RCPT TO:<Postmaster>", "550 5.1.3"),
        ("RCPT FROM:<a@b>", "501 5.5.4 syntax: RCPT"),
        ("RCPT TO:a@b", "501 5.5.4 syntax: RCPT"),
        ("RCPT TO:<a@b> SIZE=1", "555 5.5.4"),
        ("RCPT TO:<a@b> NOTIFY", "501 5.5.4"),
        ("RCPT TO:<a@b> NOTIFY=", "501 5.5.4"),
        ("RCPT TO:<a@b> NOTIFY=NEVER,DELAY", "501 5.5.4"),
        ("RCPT TO:<a@b> NOTIFY=SOON", "501 5.5.4"),
        ("RCPT TO:<a@b> NOTIFY=NEVER NOTIFY=NEVER", "501 5.5.4"),
        ("RCPT TO:<a@b> ORCPT=a@b", "501 5.5.4"),
        ("RCPT TO:<a@b> ORCPT=;a@b", "501 5.5.4"),
        ("RCPT TO:<a@b> ORCPT=rfc822;", "501 5.5.4"),
        ("RCPT TO:<a@b> ORCPT=rfc822;a+0A@b", "501 5.5.4"),
    ] {
        assert!(shown(line).starts_with(start), "{line:?} gave {}", shown(line));
    }
    let long_envid = format!("MAIL FROM:<a@b> ENVID={}", "x".repeat(101));
    assert!(shown(&long_envid).starts_with("501 5.5.4"));
}

#[test]
fn parameters_of_mail() {
    let line = "MAIL FROM:<a@b> size=10  BODY=8bitmime SMTPUTF8 RET=hdrs ENVID=QQ+2B+3D+20x AUTH=e+3Dmc2@example.com";
    let (_, found) = mail(line);
    assert_eq!(found.size, Some(10));
    assert_eq!(found.body, BodyType::EightBitMime);
    assert_eq!(found.ret, Some(ReturnContent::Headers));
    assert_eq!(
        (found.smtputf8, found.envid.as_deref(), found.auth.as_deref()),
        (true, Some("QQ+= x"), Some("e=mc2@example.com"))
    );
    assert_eq!(mail("MAIL FROM:<a@b> AUTH=<>").1.auth.as_deref(), Some(""));
    assert_eq!(mail("MAIL FROM:<a@b> SIZE=99999999999999999999").1.size, Some(u64::MAX));
    assert_eq!(mail("MAIL FROM:<a@b>").1, MailParameters::default());
}

#[test]
fn parameters_of_rcpt() {
    let (address, found) = rcpt("RCPT TO: <ann@example.org> NOTIFY=success,DELAY ORCPT=rfc822;Bob+2Bx@example.com");
    assert_eq!(address.as_str(), "ann@example.org");
    assert_eq!(found.notify, Some(DeliveryNotify::On { success: true, failure: false, delay: true }));
    assert_eq!(found.orcpt.as_deref(), Some("rfc822;Bob+x@example.com"));
    assert_eq!(rcpt("RCPT TO:<a@b> NOTIFY=NEVER").1.notify, Some(DeliveryNotify::Never));
}

#[test]
fn a_hostile_stored_parameter_stays_one_parameter() {
    let parameters = RcptParameters { notify: None, orcpt: Some("rf c;x\r\nDATA".into()) };
    let mut out = Vec::new();
    encode_rcpt(&Address::parse("a@b").unwrap(), &parameters, &mut out);
    assert_eq!(out, b"RCPT TO:<a@b> ORCPT=rf+20c;x+0D+0ADATA\r\n");
}

fn notify() -> impl Strategy<Value = Option<DeliveryNotify>> {
    let on = any::<(bool, bool, bool)>().prop_filter("some event", |on| on.0 || on.1 || on.2);
    prop_oneof![
        Just(None),
        Just(Some(DeliveryNotify::Never)),
        on.prop_map(|(success, failure, delay)| Some(DeliveryNotify::On { success, failure, delay })),
    ]
}

proptest! {
    #[test]
    fn hostile_lines_never_panic(line in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = Command::parse(&line);
    }

    #[test]
    fn hostile_arguments_never_panic(
        verb in "(MAIL FROM:|RCPT TO:|AUTH |BDAT |XCLIENT |EHLO )",
        rest in "<?\\PC{0,20}>?( (SIZE|BODY|RET|ENVID|AUTH|NOTIFY|ORCPT|SMTPUTF8)?=?[ -~]{0,10}){0,3}",
    ) {
        let _ = Command::parse(format!("{verb}{rest}").as_bytes());
    }

    #[test]
    fn mail_as_written_is_read_back(
        size in any::<Option<u64>>(), eight_bit in any::<bool>(), smtputf8 in any::<bool>(), require_tls in any::<bool>(),
        ret in any::<Option<bool>>(), envid in prop::option::of("[ -~]{1,100}"), auth in prop::option::of("[ -~]{0,100}"),
    ) {
        let parameters = MailParameters {
            size, smtputf8, require_tls, envid, auth, tls_optional: false,
            body: if eight_bit { BodyType::EightBitMime } else { BodyType::SevenBit },
            ret: ret.map(|full| if full { ReturnContent::Full } else { ReturnContent::Headers }),
        };
        let path = ReversePath::from(Address::parse("\"a>b\"@example.org").unwrap());
        let mut out = Vec::new();
        encode_mail(&path, &parameters, &mut out);
        let line = std::str::from_utf8(&out).unwrap().strip_suffix("\r\n").unwrap();
        prop_assert_eq!(mail(line), (path, parameters));
    }

    #[test]
    fn rcpt_as_written_is_read_back(notify in notify(), orcpt in prop::option::of("[a-z0-9-]{1,8};[ -~]{1,100}")) {
        let parameters = RcptParameters { notify, orcpt };
        let address = Address::parse("ann@example.org").unwrap();
        let mut out = Vec::new();
        encode_rcpt(&address, &parameters, &mut out);
        let line = std::str::from_utf8(&out).unwrap().strip_suffix("\r\n").unwrap();
        prop_assert_eq!(rcpt(line), (address, parameters));
    }
}
