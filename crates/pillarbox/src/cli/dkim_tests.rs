//! Vectors of the RFCs, and what goes wrong with signatures.

use super::*;
use proto::policy::Data;

/// RFC 6376 appendix C.
const BRISBANE: &str = "v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYt\
    IxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToI\
    MmPSPDdQPNUYckcQ2QIDAQAB";
/// RFC 8463 appendix A.2.
const TEST: &str = "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2\
    jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTI\
    KT+l/K4w3QIDAQAB";
const ED25519: &str = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

/// RFC 6376 appendix A.2.
const SIMPLE: &str = "DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;
      c=simple/simple; q=dns/txt; i=joe@football.example.com;
      h=Received : From : To : Subject : Date : Message-ID;
      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB
      4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut
      KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV
      4bmp/YzhwvcubU4=;
Received: from client1.football.example.com  [192.0.2.1]
      by submitserver.example.com with SUBMISSION;
      Fri, 11 Jul 2003 21:01:54 -0700 (PDT)
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game. Are you hungry yet?

Joe.
";

/// RFC 8463 appendix A.3.
const TWO: &str = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
";

fn keys(all: &[(&str, &str)]) -> BTreeMap<String, Reply> {
    let reply = |text: &str| Reply::Records(vec![Data::Txt(text.as_bytes().to_vec())]);
    all.iter().map(|(name, text)| ((*name).to_owned(), reply(text))).collect()
}

fn football() -> BTreeMap<String, Reply> {
    keys(&[
        ("brisbane._domainkey.football.example.com", ED25519),
        ("test._domainkey.football.example.com", TEST),
        ("brisbane._domainkey.example.com", BRISBANE),
    ])
}

#[test]
fn the_vectors_of_the_rfcs_are_good() {
    let message = Message::new(SIMPLE.as_bytes());
    assert_eq!(message.key_names(), ["brisbane._domainkey.example.com"]);
    let found = message.verify(&football(), 1_700_000_000);
    assert_eq!((found.len(), found[0].result, found[0].key_bits), (1, DkimResult::Pass, Some(1024)));
    let both = Message::new(TWO.replace('\n', "\r\n").as_bytes()).verify(&football(), 1_700_000_000);
    assert_eq!(both.iter().map(|one| one.result).collect::<Vec<_>>(), [DkimResult::Pass, DkimResult::Pass]);
    assert_eq!(both[0].key_bits, Some(256));
}

#[test]
fn a_relaxed_body_may_gain_blank_lines_at_its_end() {
    for tail in ["\n", "\n\n\n", "  \n\t\n", "   "] {
        let found = Message::new(format!("{TWO}{tail}").as_bytes()).verify(&football(), 0);
        assert!(found.iter().all(|one| one.result == DkimResult::Pass), "{tail:?}: {found:?}");
    }
}

#[test]
fn each_reason_has_its_word() {
    let name = "brisbane._domainkey.example.com";
    let short = "v=DKIM1; p=MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKd7EH2BGdt3jpf5Gpd4QtW2iBvyN2gbqjyM9PGTbVYOHxAgdROTKd9W\
        k9yKuCpQWWbwDCGmUCW0RR4vM4jPWfUCAwEAAQ==";
    for (from, to, key, reason) in [
        ("hungry", "thirsty", Some(BRISBANE), Some("body_hash_mismatch")),
        ("dinner", "supper", Some(BRISBANE), Some("signature_mismatch")),
        ("", "", None, Some("key_not_found")),
        ("", "", Some("v=DKIM1; p="), Some("key_revoked")),
        ("", "", Some("v=DKIM1; p=AAAA"), Some("key_invalid")),
        ("", "", Some(ED25519), Some("key_type_mismatch")),
        ("", "", Some(short), Some("key_too_short")),
        ("v=1;", "v=2;", Some(BRISBANE), Some("signature_syntax")),
        ("c=simple/simple;", "c=simple/simple; l=9999;", Some(BRISBANE), Some("length_beyond_body")),
        ("To: Suzie", "X-New: 1\nTo: Suzie", Some(BRISBANE), None),
    ] {
        let message = Message::new(SIMPLE.replacen(from, to, usize::from(!from.is_empty())).as_bytes());
        let records = key.map(|key| keys(&[(name, key)])).unwrap_or_default();
        let found = message.verify(&records, 0);
        assert_eq!(found[0].reason, reason, "{from} -> {to}: {found:?}");
    }
    let strict = BRISBANE.replace("p=", "t=s; p=");
    let found = Message::new(SIMPLE.as_bytes()).verify(&keys(&[(name, &strict)]), 0);
    assert_eq!(found[0].reason, Some("identity_not_strict"));
    let failed = BTreeMap::from([(name.to_owned(), Reply::Failed("SERVFAIL".into()))]);
    assert_eq!(Message::new(SIMPLE.as_bytes()).verify(&failed, 0)[0].result, DkimResult::Temperror);
}

#[test]
fn a_message_without_signature_or_header_has_nothing_to_verify() {
    for text in ["", "\n", "no header", "\n\nDKIM-Signature: v=1", "From: a@example.com\n\nDKIM-Signature: v=1\n"] {
        assert!(Message::new(text.as_bytes()).verify(&football(), 0).is_empty(), "{text:?}");
    }
}
