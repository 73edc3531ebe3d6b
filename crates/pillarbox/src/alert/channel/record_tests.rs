//! Channels that make sense, and those that do not.

use serde_json::json;

use super::*;

fn problems(body: serde_json::Value, secret: Option<&str>) -> String {
    let record: ChannelRecord = serde_json::from_value(body).unwrap();
    let secret = secret.map(SecretString::from);
    let problems = record.problems(secret.as_ref(), &[]);
    problems.into_iter().map(|one| format!("{} {}", one.pointer, one.detail)).collect::<Vec<_>>().join("; ")
}

#[test]
fn each_kind_has_what_it_needs() {
    for (body, secret, wanted) in [
        (json!({ "kind": "webhook", "url": "https://ops.example.com/in" }), None, ""),
        (json!({ "kind": "webhook" }), None, "/url is missing"),
        (json!({ "kind": "webhook", "url": "https://10.0.0.1/" }), None, "/url 10.0.0.1 is on this machine"),
        (json!({ "kind": "webhook", "url": "https://10.0.0.1/", "networks": ["10.0.0.0/8"] }), None, ""),
        (json!({ "kind": "slack" }), None, "/secret is missing"),
        (json!({ "kind": "slack" }), Some("https://hooks.slack.example/services/T/B/x"), ""),
        (json!({ "kind": "teams" }), Some("http://flow.example/x"), "/secret would be called in the clear"),
        (json!({ "kind": "pagerduty" }), None, "/secret is missing"),
        (json!({ "kind": "pagerduty" }), Some("R0"), ""),
        (json!({ "kind": "email", "to": ["ops@example.com"], "from": "relay@example.com" }), None, ""),
        (json!({ "kind": "email", "to": ["ops@example.com"] }), None, "/from is missing"),
        (json!({ "kind": "email", "to": [], "from": "relay@example.com" }), None, "/to has 1 to 50"),
        (json!({ "kind": "email", "to": ["o"], "from": "relay@example.com" }), None, "/to o: "),
        (
            json!({ "kind": "email", "to": ["o@example.com"], "from": "r@example.com",
                    "smart_host": { "host": "mail.example.com", "username": "u" } }),
            None,
            "/smart_host A user name needs a password.",
        ),
        (json!({ "kind": "syslog", "server": "udp://log.example.com" }), None, ""),
        (json!({ "kind": "syslog", "server": "log.example.com" }), None, "/server is udp://"),
        (json!({ "kind": "syslog", "server": "unix:/dev/log", "facility": 24 }), None, "/facility is 0 to 23"),
        (json!({ "kind": "command", "command": ["/usr/local/bin/page", "ops"] }), None, ""),
        (json!({ "kind": "command", "command": ["page"] }), None, "/command begins with"),
        (json!({ "kind": "command", "command": ["/bin/true"], "to": ["a@b.example"] }), None, "/to is nothing that"),
        (
            json!({ "kind": "command", "command": ["/bin/true"], "quiet": { "from": "1", "to": "07:00" } }),
            None,
            "/quiet/from is a time",
        ),
        (json!({ "kind": "command", "command": ["/bin/true"], "step": 0 }), None, "/step is 1 to 9"),
    ] {
        let said = problems(body.clone(), secret);
        assert!(said.starts_with(wanted) && said.is_empty() == wanted.is_empty(), "{body}: {said}");
    }
}

#[test]
fn syslog_addresses_name_a_way_a_host_and_a_port() {
    for (text, wanted) in [
        ("udp://log.example.com", Some(SyslogTo::Udp("log.example.com".into(), 514))),
        ("tcp://192.0.2.1:1514", Some(SyslogTo::Tcp("192.0.2.1".into(), 1514))),
        ("tls://[2001:db8::1]", Some(SyslogTo::Tls("2001:db8::1".into(), 6514))),
        ("tls://[2001:db8::1]:99", Some(SyslogTo::Tls("2001:db8::1".into(), 99))),
        ("unix:/dev/log", Some(SyslogTo::Unix("/dev/log".into()))),
        ("unix:dev/log", None),
        ("udp://", None),
        ("udp://a b", None),
        ("udp://a:99999", None),
        ("http://a", None),
    ] {
        assert_eq!(SyslogTo::parse(text), wanted, "{text}");
    }
}

#[test]
fn mail_is_sent_less_often_than_the_rest() {
    let record = |kind: &str| serde_json::from_value::<ChannelRecord>(json!({ "kind": kind })).unwrap();
    assert_eq!((record("email").interval_s(), record("email").per_hour()), (300, 20));
    assert_eq!((record("slack").interval_s(), record("slack").per_hour()), (0, 60));
}
