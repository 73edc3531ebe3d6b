//! Returned mail as it comes: forms, line ends, hostile octets.

use proptest::prelude::*;

use super::*;

/// What reports are made of, whole and broken.
const PIECES: &[&str] = &[
    "From: MAILER-DAEMON@a.example\n",
    "Subject: failure notice\n",
    "Content-Type: multipart/report; boundary=x\n",
    "Content-Type: multipart/mixed; boundary=\"\n",
    "Content-Type: message/delivery-status\n",
    "Content-Type: message/rfc822\n",
    "Content-Type: text/html; charset=utf-16\n",
    "Content-Transfer-Encoding: base64\n",
    "Content-Transfer-Encoding: quoted-printable\n",
    "\n",
    "\r",
    "\r\n",
    "--x\n",
    "--x--\n",
    "Final-Recipient: rfc822; <a@b.example>\n",
    "Final-Recipient: utf-8; \\x{110000}\\x{\n",
    "Action: failed\n",
    "Status: 5.1.1\n",
    "Diagnostic-Code: smtp; 550 5.1.1 no\n",
    "Received: from [é by ((( ; 99 Foo\n",
    "Authentication-Results: ((;=;spf=\n",
    "<a@b.example>:\n",
    "550 5.1.1 <a@b.example>\n",
    ">>> RCPT To:<a@b.example>\n",
    "--- Below this line is a copy\n",
    "could not be delivered to: \n",
    "\"bouncedRecipients\" [{\"emailAddress\":\"\n",
    "<p>&#xFFFFFFFF;&amp;<!--<a@b\n",
    "=E9=\n",
    "é\u{202e}\u{3000}",
    "@",
    "Feedback-Type: abuse\n",
];

fn bounded(report: &Report) -> Result<(), TestCaseError> {
    if let Report::Bounce(bounce) = report {
        prop_assert!(bounce.recipients.len() <= MAX_RECIPIENTS && bounce.notice.len() <= 2000);
        for one in &bounce.recipients {
            prop_assert!(one.diagnostic.len() <= 2000 && one.final_recipient.len() <= 320);
            prop_assert!(!one.final_recipient.contains(char::is_control) && !one.diagnostic.contains(char::is_control));
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_octets_are_survived(octets in proptest::collection::vec(any::<u8>(), 0..400)) {
        bounded(&classify(&octets))?;
    }

    #[test]
    fn pieces_of_reports_are_survived_with_every_line_end(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..40)) {
        let mail = pieces.concat();
        let report = classify(mail.as_bytes());
        bounded(&report)?;
        let plain = mail.replace("\r\n", "\n").replace('\r', "\n");
        prop_assert_eq!(classify(plain.replace('\n', "\r\n").as_bytes()), classify(plain.as_bytes()));
    }
}

#[test]
fn a_nest_of_mails_ends() {
    let mut mail = String::from("From: MAILER-DAEMON@a.example\nSubject: Undelivered Mail\n");
    for _ in 0..10_000 {
        mail += "Content-Type: message/rfc822; report-type=delivery-status\n\n";
    }
    classify(mail.as_bytes());
}

#[test]
fn a_part_pasted_alone_is_a_report() {
    let text =
        "Reporting-MTA: dns; mx.a.example\n\nFinal-Recipient: rfc822; b@c.example\nAction: failed\nStatus: 5.1.1\n";
    let Report::Bounce(bounce) = classify(text.as_bytes()) else { panic!("no bounce") };
    assert_eq!(bounce.recipients[0].final_recipient, "b@c.example");
}
