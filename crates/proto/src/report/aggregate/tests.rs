//! Samples after the formats, as several reporters write them, and documents that mean harm.

use super::*;

/// RFC 7489 with the namespace left out, as the large mailbox providers write it.
const CLASSIC: &str = r#"<?xml version="1.0" encoding="UTF-8" ?>
<feedback>
  <report_metadata>
    <org_name>mailboxes.example</org_name>
    <email>noreply-dmarc@mailboxes.example</email>
    <extra_contact_info>https://support.mailboxes.example/dmarc</extra_contact_info>
    <report_id>1234567890123456789</report_id>
    <date_range><begin>1762992000</begin><end>1763078399</end></date_range>
  </report_metadata>
  <policy_published>
    <domain>example.com</domain><adkim>r</adkim><aspf>r</aspf><p>none</p><sp>none</sp><pct>100</pct>
  </policy_published>
  <record>
    <row>
      <source_ip>192.0.2.7</source_ip><count>12</count>
      <policy_evaluated><disposition>none</disposition><dkim>pass</dkim><spf>fail</spf></policy_evaluated>
    </row>
    <identifiers><header_from>example.com</header_from></identifiers>
    <auth_results>
      <dkim><domain>example.com</domain><result>pass</result><selector>s1</selector></dkim>
      <spf><domain>bounce.service.example</domain><result>pass</result></spf>
    </auth_results>
  </record>
  <record>
    <row>
      <source_ip>2001:db8::25</source_ip><count>3</count>
      <policy_evaluated>
        <disposition>none</disposition><dkim>fail</dkim><spf>fail</spf>
        <reason><type>forwarded</type><comment>looks &amp; smells forwarded</comment></reason>
      </policy_evaluated>
    </row>
    <identifiers><envelope_to>d.example</envelope_to><envelope_from>example.com</envelope_from><header_from>example.com</header_from></identifiers>
    <auth_results><spf><domain>example.com</domain><scope>mfrom</scope><result>softfail</result></spf></auth_results>
  </record>
</feedback>"#;

/// RFC 9990, with a prefix on every element.
const CURRENT: &str = r#"<?xml version="1.0"?>
<d:feedback xmlns:d="urn:ietf:params:xml:ns:dmarc-2.0">
  <d:version>1.0</d:version>
  <d:report_metadata>
    <d:org_name>receiver.example</d:org_name><d:email>dmarc@receiver.example</d:email>
    <d:report_id>3v98abbp8ya9n3va8yr8oa3ya</d:report_id>
    <d:date_range><d:begin>1763000000</d:begin><d:end>1763086399</d:end></d:date_range>
    <d:generator>Reporter 2.1</d:generator>
    <d:error>one shard did not answer</d:error>
  </d:report_metadata>
  <d:policy_published>
    <d:domain>example.com</d:domain><d:discovery_method>treewalk</d:discovery_method>
    <d:p>reject</d:p><d:sp>quarantine</d:sp><d:np>reject</d:np><d:testing>n</d:testing><d:fo>1</d:fo>
    <d:adkim>s</d:adkim><d:aspf>r</d:aspf>
  </d:policy_published>
  <d:extension><x:anything xmlns:x="https://receiver.example/x">1</x:anything></d:extension>
  <d:record>
    <d:row>
      <d:source_ip>198.51.100.9</d:source_ip><d:count>40</d:count>
      <d:policy_evaluated><d:disposition>pass</d:disposition><d:dkim>pass</d:dkim><d:spf>pass</d:spf></d:policy_evaluated>
    </d:row>
    <d:identifiers><d:header_from>example.com</d:header_from><d:envelope_from>example.com</d:envelope_from></d:identifiers>
    <d:auth_results>
      <d:dkim><d:domain>example.com</d:domain><d:selector>a</d:selector><d:result>pass</d:result></d:dkim>
      <d:dkim><d:domain>list.example</d:domain><d:selector>b</d:selector><d:result>fail</d:result><d:human_result>body hash</d:human_result></d:dkim>
      <d:spf><d:domain>example.com</d:domain><d:result>pass</d:result></d:spf>
    </d:auth_results>
  </d:record>
</d:feedback>"#;

#[test]
fn a_report_of_the_older_form_is_read() {
    let report = parse(CLASSIC.as_bytes()).unwrap();
    assert_eq!(report.form, Form::Rfc7489);
    assert_eq!(report.organization, "mailboxes.example");
    assert_eq!((report.begin, report.end), (Some(1_762_992_000), Some(1_763_078_399)));
    assert_eq!((report.policy.domain.as_str(), report.policy.p.as_deref()), ("example.com", Some("none")));
    assert_eq!(report.messages(), 15);
    let [first, second] = &report.records[..] else { panic!("{report:?}") };
    assert!(first.passes() && first.dkim_aligned && !first.spf_aligned);
    assert_eq!(first.dkim[0].selector.as_deref(), Some("s1"));
    assert!(!second.passes());
    assert_eq!(second.overrides[0].kind, "forwarded");
    assert_eq!(second.overrides[0].comment.as_deref(), Some("looks & smells forwarded"));
    assert_eq!((second.envelope_to.as_deref(), second.spf[0].result.as_str()), (Some("d.example"), "softfail"));
}

#[test]
fn a_report_of_the_newer_form_is_read_whatever_the_prefix() {
    let report = parse(CURRENT.as_bytes()).unwrap();
    assert_eq!(report.form, Form::Rfc9990);
    assert_eq!(report.generator.as_deref(), Some("Reporter 2.1"));
    assert_eq!(report.errors, ["one shard did not answer"]);
    assert_eq!(report.policy.discovery.as_deref(), Some("treewalk"));
    assert_eq!((report.policy.np.as_deref(), report.policy.testing.as_deref()), (Some("reject"), Some("n")));
    let [record] = &report.records[..] else { panic!("{report:?}") };
    assert_eq!((record.disposition, record.count, record.dkim.len()), (Disposition::Pass, 40, 2));
    assert_eq!(record.dkim[1].human.as_deref(), Some("body hash"));
    let unprefixed = CURRENT.replace("d:", "").replace("xmlns:d=", "xmlns=");
    assert_eq!(parse(unprefixed.as_bytes()).unwrap().records, report.records);
}

#[test]
fn alignment_is_worked_out_where_the_reporter_says_nothing() {
    let of = |adkim: &str, results: &str| {
        let xml = format!(
            "<feedback><policy_published><domain>example.com</domain><adkim>{adkim}</adkim></policy_published>
             <record><row><source_ip>192.0.2.1</source_ip><count>1</count></row>
             <identifiers><header_from>example.com</header_from></identifiers>
             <auth_results>{results}</auth_results></record></feedback>"
        );
        let report = parse(xml.as_bytes()).unwrap();
        (report.records[0].dkim_aligned, report.records[0].spf_aligned)
    };
    let dkim = |domain: &str, result: &str| format!("<dkim><domain>{domain}</domain><result>{result}</result></dkim>");
    let spf = |domain: &str, scope: &str| {
        format!("<spf><domain>{domain}</domain><scope>{scope}</scope><result>pass</result></spf>")
    };
    assert_eq!(of("r", &dkim("mail.example.com", "pass")), (true, false));
    assert_eq!(of("s", &dkim("mail.example.com", "pass")), (false, false));
    assert_eq!(of("r", &dkim("example.com", "fail")), (false, false));
    assert_eq!(of("r", &dkim("example.net", "pass")), (false, false));
    assert_eq!(of("r", &spf("bounce.example.com", "mfrom")), (false, true));
    assert_eq!(of("r", &spf("example.com", "helo")), (false, false));
}

#[test]
fn dialects_with_missing_fields_are_read() {
    // No metadata, upper case results, one-letter slips, an address for a domain, blanks everywhere.
    let report = parse(
        b"\xef\xbb\xbf<feedback xmlns=\"http://dmarc.org/dmarc-xml/0.1\"><policy_published><p> REJECT </p></policy_published>
          <record><row><source_ip> 192.0.2.1 </source_ip><count>x</count><policy_evaluated><disposition>Reject</disposition>
          <dkim>FAIL</dkim><spf>Pass</spf></policy_evaluated></row>
          <identities><header_from>ann@Example.COM.</header_from></identities><auth_results/></record></feedback>",
    )
    .unwrap();
    assert_eq!(report.form, Form::Rfc7489);
    assert_eq!((report.policy.domain.as_str(), report.policy.p.as_deref()), ("example.com", Some("reject")));
    let record = &report.records[0];
    assert_eq!((record.count, record.disposition, record.spf_aligned), (1, Disposition::Reject, true));
    assert_eq!(record.source_ip, "192.0.2.1");
}

#[test]
fn other_charsets_are_read() {
    let of = |octets: &[u8]| parse(octets).unwrap().organization;
    let xml = |declared: &str, name: &str| {
        format!(
            "<?xml version=\"1.0\" encoding=\"{declared}\"?><feedback><report_metadata><org_name>{name}</org_name></report_metadata><policy_published><domain>a.example</domain></policy_published></feedback>"
        )
    };
    assert_eq!(of(xml("utf-8", "Grüße").as_bytes()), "Grüße");
    let latin: Vec<u8> = xml("ISO-8859-1", "Gr\u{fc}n").chars().map(|c| c as u8).collect();
    assert_eq!(of(&latin), "Grün");
    let mut wide = vec![0xff, 0xfe];
    wide.extend(xml("utf-16", "Grün").encode_utf16().flat_map(u16::to_le_bytes));
    assert_eq!(of(&wide), "Grün");
    assert_eq!(of(xml("utf-8", "A &lt;B&gt; &#x26; &unknown; C").as_bytes()), "A <B> & C");
}

#[test]
fn documents_that_mean_harm_are_refused_early() {
    let bomb = "<?xml version=\"1.0\"?><!DOCTYPE f [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;\">]><feedback>&b;</feedback>";
    assert_eq!(parse(bomb.as_bytes()), Err(AggregateError::DocumentType));
    let external = "<!DOCTYPE f SYSTEM \"file:///etc/passwd\"><feedback/>";
    assert_eq!(parse(external.as_bytes()), Err(AggregateError::DocumentType));
    let deep = format!("<feedback>{}", "<a>".repeat(100_000));
    assert_eq!(parse(deep.as_bytes()), Err(AggregateError::Depth));
    assert_eq!(parse(b"<html><body>no</body></html>"), Err(AggregateError::Root("html".into())));
    assert_eq!(parse(b"<feedback><record>"), Err(AggregateError::Incomplete));
    assert_eq!(parse(b"<feedback></feedback>"), Err(AggregateError::NoDomain));
    for wrong in ["", "no xml", "<feedback></record>", "<", "<feedback><![CDATA["] {
        assert!(parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn what_is_kept_is_bounded() {
    let record = "<record><row><count>99999999999999999999</count></row></record>";
    let many = format!(
        "<feedback><policy_published><domain>a.example</domain></policy_published>{}</feedback>",
        record.repeat(MAX_RECORDS + 7)
    );
    let report = parse(many.as_bytes()).unwrap();
    assert_eq!((report.records.len(), report.left_out), (MAX_RECORDS, 7));
    let long = format!(
        "<feedback><report_metadata><org_name>{}</org_name>{}</report_metadata><policy_published><domain>{}</domain></policy_published></feedback>",
        "x".repeat(1 << 20),
        "<error>e</error>".repeat(5_000),
        "d".repeat(1 << 20),
    );
    let report = parse(long.as_bytes()).unwrap();
    assert!(report.organization.len() <= 1_000 && report.errors.len() <= 100 && report.policy.domain.len() <= 253);
    let results = format!(
        "<feedback><policy_published><domain>a.example</domain></policy_published><record><auth_results>{}</auth_results></record></feedback>",
        "<dkim><domain>a.example</domain><result>fail</result></dkim>".repeat(5_000)
    );
    assert!(parse(results.as_bytes()).unwrap().records[0].dkim.len() <= 100);
}

#[test]
fn no_piece_and_no_damage_of_a_report_makes_it_panic() {
    for report in [CLASSIC, CURRENT] {
        let octets = report.as_bytes();
        for at in 0..octets.len() {
            let _ = parse(&octets[..at]);
            for replacement in [0, b'<', b'&', b'"', 0xff] {
                let mut damaged = octets.to_vec();
                damaged[at] = replacement;
                let _ = parse(&damaged);
            }
        }
    }
}
