//! Replies as they are met on the wire and in logs, none of them a sample of a rule: what they are taken for.

#![expect(clippy::unwrap_used, reason = "test code")]

use explain::{Query, Reason, RuleBase};
use proto::smtp::reply::Reply;
use proto::transcript::Stage::{self, Auth, Banner, Ehlo, Message, Recipient, Sender, Tls};

fn reply(text: &str) -> Reply {
    let code = text[..3].parse().unwrap();
    Reply::lines(code, text.split('\n').map(|line| line[4..].to_owned()).collect())
}

#[test]
fn real_replies_are_taken_for_what_they_mean() {
    use Reason::*;
    let cases: &[(Stage, &str, Reason)] = &[
        (Message, "250 2.0.0 Ok: queued as 4XyZ", Accepted),
        (
            Recipient,
            "550 5.1.1 <a@example.net>: Recipient address rejected: User unknown in local recipient table",
            MailboxUnknown,
        ),
        (Recipient, "550 No Such User Here", MailboxUnknown),
        (Recipient, "550 5.1.1 Recipient not found", MailboxUnknown),
        (
            Recipient,
            "550-5.1.1 The email account that you tried to reach does not exist. Please try\n550-5.1.1 double-checking the recipient's email address for typos or\n550 5.1.1 unnecessary spaces. https://support.google.com/mail/?p=NoSuchUser x - gsmtp",
            MailboxUnknown,
        ),
        (Recipient, "452 4.2.2 The email account that you tried to reach is over quota", MailboxFull),
        (Recipient, "552 5.2.2 Mailbox quota exceeded", MailboxFull),
        (Recipient, "554 5.7.1 <a@example.net>: Relay access denied", RelayDenied),
        (Recipient, "550 5.7.1 Unable to relay for a@example.net", RelayDenied),
        (
            Recipient,
            "550 5.4.1 Recipient address rejected: Access denied. AS(201806281) [DB5EUR01FT012.eop-EUR01.prod.protection.outlook.com]",
            MailboxUnknown,
        ),
        (
            Recipient,
            "450 4.2.0 <a@example.net>: Recipient address rejected: Greylisted, see http://postgrey.example/",
            Greylisted,
        ),
        (Recipient, "451 4.7.1 Greylisting in action, please come back later", Greylisted),
        (
            Recipient,
            "554 5.7.1 Service unavailable; Client host [198.51.100.7] blocked using zen.spamhaus.org; https://www.spamhaus.org/query/ip/198.51.100.7",
            IpBlocklisted,
        ),
        (
            Recipient,
            "550 5.7.606 Access denied, banned sending IP [198.51.100.7]. To request removal from this list please visit https://sender.office.com/",
            IpBlocked,
        ),
        (Recipient, "452 4.5.3 Error: too many recipients", TooManyRecipients),
        (
            Auth,
            "535-5.7.8 Username and Password not accepted. For more information, go to\n535 5.7.8  https://support.google.com/mail/?p=BadCredentials d2e1 - gsmtp",
            CredentialsInvalid,
        ),
        (Auth, "535 5.7.8 Error: authentication failed:", CredentialsInvalid),
        (
            Auth,
            "535 5.7.139 Authentication unsuccessful, basic authentication is disabled. [XX.namprd.prod.outlook.com]",
            BasicAuthRetired,
        ),
        (Auth, "535 Authentication credentials invalid", CredentialsInvalid),
        (Auth, "454 4.7.0 Temporary authentication failure", AuthTemporary),
        (Sender, "530 5.7.0 Must issue a STARTTLS command first", TlsRequired),
        (
            Sender,
            "530 5.7.0 Authentication Required. For more information, go to https://support.google.com/mail/?p=WantAuthError",
            AuthRequired,
        ),
        (
            Sender,
            "550 5.7.60 SMTP; Client does not have permissions to send as this sender [X.prod.outlook.com]",
            SenderNotAllowed,
        ),
        (Sender, "553 5.7.1 <boss@example.com>: Sender address rejected: not owned by user app", SenderNotAllowed),
        (Sender, "452 4.3.1 Insufficient system storage", StorageFull),
        (Sender, "552 5.3.4 Message size exceeds fixed limit", TooLarge),
        (
            Message,
            "550 5.7.26 This mail has been blocked because the sender is unauthenticated. Gmail requires all senders to authenticate with either SPF or DKIM.",
            Unauthenticated,
        ),
        (
            Message,
            "550-5.7.1 [198.51.100.7      12] Our system has detected that this message is\n550-5.7.1 likely unsolicited mail. To reduce the amount of spam sent to Gmail,\n550 5.7.1 this message has been blocked.",
            SpamContent,
        ),
        (
            Message,
            "421 4.7.0 [TSS04] Messages from 198.51.100.7 temporarily deferred due to unexpected volume or user complaints - 4.16.55.1; see https://postmaster.yahooinc.com/error-codes",
            IpReputation,
        ),
        (
            Message,
            "432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending for more information.",
            TooManyConnections,
        ),
        (
            Message,
            "554 Message rejected: Email address is not verified. The following identities failed the check in region US-EAST-1: a@example.com",
            SenderUnverified,
        ),
        (Message, "454 Throttling failure: Daily message quota exceeded.", QuotaExceeded),
        (
            Message,
            "550 5.4.5 Daily user sending limit exceeded. For more information go to https://support.google.com/a/answer/166852",
            QuotaExceeded,
        ),
        (Message, "550 5.7.1 Message contains a virus", Virus),
        (Message, "554 5.6.0 bare <LF> received after DATA", LineFormat),
        (Banner, "554 5.7.1 mx.example.net ESMTP not accepting connections", ConnectionRejected),
        (Banner, "421 4.7.0 mx.example.net Error: too many connections from 198.51.100.7", TooManyConnections),
        (Ehlo, "504 5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname", BadHelo),
        (
            Ehlo,
            "421 4.7.66 TLS 1.0 and 1.1 are not supported. Please upgrade/update your client to support TLS 1.2.",
            TlsVersion,
        ),
        (Recipient, "450 4.7.25 Client host rejected: cannot find your hostname, [198.51.100.7]", ReverseDns),
        (
            Recipient,
            "550 5.7.25 [198.51.100.7] The IP address sending this message does not have a PTR record setup",
            ReverseDns,
        ),
        (Sender, "550 5.1.8 <a@nowhere.invalid>: Sender address rejected: Domain not found", SenderDomain),
        (Message, "451 4.3.0 Temporary server error. Please try again later. PRX4", ServerBusy),
        (Message, "554 5.4.6 Too many hops 26 (25 max)", MailLoop),
        (Recipient, "550 5.1.1 The email account that you tried to reach does not exist. Please try", MailboxUnknown),
        (Recipient, "550 Requested action not taken: mailbox unavailable", MailboxUnknown),
        (Recipient, "550 5.2.1 The email account that you tried to reach is disabled. Learn more", MailboxDisabled),
        (Recipient, "451 4.7.1 Please try again later (greylisted)", Greylisted),
        (Recipient, "451 4.7.1 <a@b>: Recipient address rejected: Service is unavailable", ServerBusy),
        (Recipient, "550 5.7.1 <a@b.example>... Access denied", RecipientPolicy),
        (Recipient, "554 5.7.1 You are not allowed to connect.", IpBlocked),
        (Recipient, "550 Administrative prohibition", ContentPolicy),
        (
            Recipient,
            "550-Callback setup failed while verifying <a@x.example>\n550 Sender verify failed",
            SenderRejected,
        ),
        (Recipient, "550 5.7.1 Client was not authenticated to send anonymous mail", AuthRequired),
        (Recipient, "550 authentication required", AuthRequired),
        (Recipient, "550 Please turn on SMTP Authentication in your mail client", AuthRequired),
        (Recipient, "503 5.5.1 Error: need MAIL command", CommandSequence),
        (Recipient, "550 5.1.0 Address rejected", MailboxUnknown),
        (Recipient, "550 User's mailbox is full", MailboxFull),
        (Recipient, "552 5.2.2 Over quota", MailboxFull),
        (Recipient, "452 4.2.2 Mailbox full", MailboxFull),
        (Recipient, "550 5.1.2 Bad destination host", HostUnknown),
        (Recipient, "553 5.1.3 Invalid address syntax", RecipientSyntax),
        (Recipient, "550 5.7.1 IP 192.0.2.1 is blacklisted by Barracuda", IpBlocklisted),
        (Recipient, "554 Your IP 192.0.2.1 is listed on Spamcop", IpBlocklisted),
        (Recipient, "450 4.7.1 You've exceeded your sending limit to this domain", RateLimited),
        (Sender, "421 4.7.0 Too many messages, slow down", RateLimited),
        (Sender, "452 4.2.1 Sending quota exceeded", QuotaExceeded),
        (Sender, "550 5.7.1 Sender address rejected: SPF check failed", SpfFail),
        (Sender, "553 5.1.8 Sender domain does not exist", SenderDomain),
        (Sender, "550 5.1.0 Sender rejected", SenderRejected),
        (Sender, "501 5.1.7 Bad sender address syntax", SenderSyntax),
        (Sender, "552 Message size exceeds maximum value", TooLarge),
        (Sender, "554 5.7.1 Sender address blocked", SenderRejected),
        (Auth, "535 5.7.8 authentication failed", CredentialsInvalid),
        (Auth, "535 5.7.0 Invalid login or password", CredentialsInvalid),
        (Auth, "535 Login denied", CredentialsInvalid),
        (Auth, "535 5.7.1 Account locked", AccountLocked),
        (Auth, "535 5.7.1 Password expired", CredentialsInvalid),
        (Auth, "534 5.7.9 Application-specific password required", AppPasswordRequired),
        (Auth, "538 5.7.11 Encryption required", AuthNeedsTls),
        (Auth, "503 5.5.1 AUTH not available without TLS", AuthNeedsTls),
        (Auth, "454 4.3.0 Try again later", AuthTemporary),
        (Auth, "421 4.7.0 Too many failed login attempts", AccountLocked),
        (Message, "554 5.7.1 Message rejected due to content restrictions", ContentPolicy),
        (Message, "550 5.7.1 Attachment type not allowed", BannedContent),
        (Message, "552 5.7.0 Executable attachments are not permitted", BannedContent),
        (Message, "554 5.7.1 The message was rejected because it contains prohibited virus or spam content", Virus),
        (Message, "550 5.7.1 Message rejected because of DMARC policy", DmarcFail),
        (Message, "550 5.7.1 DKIM signature invalid", DkimFail),
        (Message, "554 5.3.4 Message too big for system", TooLarge),
        (Message, "550 5.6.0 Lone CR or LF in headers (see RFC2822 section 2.2)", LineFormat),
        (Message, "550 Message headers fail syntax check", HeaderInvalid),
        (Message, "554 Missing Date: header", HeaderInvalid),
        (Message, "451 4.3.0 Queue file write error", StorageFull),
        (Message, "451 4.6.0 Message processing failed", ServerError),
        (Message, "450 4.7.0 Message temporarily deferred", RefusedTemporarily),
        (Message, "554 5.7.7 Header From domain not aligned", DmarcFail),
        (Banner, "554 Access denied", ConnectionRejected),
        (Banner, "554 5.7.1 Blocked by Spamhaus", IpBlocklisted),
        (Banner, "421 4.3.2 Service not available", ServerBusy),
        (Banner, "421 Server too busy", ServerBusy),
        (Banner, "550 Dynamic IP addresses are not allowed", DynamicIp),
        (Banner, "421 4.7.0 Connection rate limit exceeded", TooManyConnections),
        (Ehlo, "550 Access denied - Invalid HELO name (See RFC2821 4.1.1.1)", BadHelo),
        (Ehlo, "501 5.0.0 Invalid domain name", BadHelo),
        (Ehlo, "550 5.7.1 Helo command rejected: Host not found", BadHelo),
        (Tls, "454 4.7.0 TLS not available due to local problem", TlsHandshake),
        (Tls, "502 5.5.1 Command not implemented", StartTlsMissing),
        (Tls, "500 5.5.1 STARTTLS not recognized", StartTlsMissing),
        (Recipient, "550 5.6.7 SMTPUTF8 required", ExtensionMissing),
        (Recipient, "450 4.4.2 Bad connection", Disconnected),
        (Recipient, "450 4.3.2 Too many recipients per hour", RateLimited),
        (Recipient, "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain", RelayDenied),
        (Message, "550 5.7.1 xyzzy plugh", ContentPolicy),
    ];
    let base = RuleBase::builtin();
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(stage, text, reason)| {
            let reply = reply(text);
            let finding = base.judge(&Query::reply(*stage, &reply)).unwrap();
            (finding.reason != *reason)
                .then(|| format!("{text}\n  is {} by {}, not {reason}", finding.reason, finding.rule))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pasted_lines_are_unwrapped_to_the_cause() {
    use Reason::*;
    let cases: &[(&str, Reason)] = &[
        (
            "postfix/smtp[712]: 4XyZ: to=<a@example.net>, relay=mx.example.net[192.0.2.25]:25, delay=1.2, dsn=5.1.1, status=bounced (host mx.example.net[192.0.2.25] said: 550 5.1.1 <a@example.net>: Recipient address rejected: User unknown in virtual mailbox table (in reply to RCPT TO command))",
            MailboxUnknown,
        ),
        (
            "postfix/smtp[712]: 4XyZ: to=<a@example.net>, relay=none, delay=30, status=deferred (connect to mx.example.net[192.0.2.25]:25: Connection timed out)",
            ConnectionTimeout,
        ),
        (
            "status=deferred (SASL authentication failed; server smtp.gmail.com[192.0.2.25] said: 535-5.7.8 Username and Password not accepted. 535 5.7.8 https://support.google.com/mail/?p=BadCredentials)",
            CredentialsInvalid,
        ),
        (
            "554 4.4.7 Message expired: unable to deliver in 840 minutes.<421 4.4.2 Connection timed out>",
            SessionTimeout,
        ),
        (
            "550 5.1.351 Remote server returned unknown recipient or mailbox unavailable -> 550 5.7.1 Relaying denied",
            RelayDenied,
        ),
        ("550 5.1.0 Unknown address error 550-'5.1.1 no such user here' (delivery attempts: 0)", MailboxUnknown),
        (
            "a@example.net R=dnslookup T=remote_smtp: SMTP error from remote mail server after RCPT TO:<a@example.net>: host mx.example.net [192.0.2.25]: 550 Mailbox full",
            MailboxFull,
        ),
        ("Diagnostic-Code: smtp; 550 5.7.1 Message rejected under suspicion of SPAM", SpamContent),
        ("smtplib.SMTPAuthenticationError: (535, b'5.7.8 Error: authentication failed')", CredentialsInvalid),
        ("Error: connect ECONNREFUSED 127.0.0.1:587\n    at TCPConnectWrap.afterConnect", ConnectionRefused),
        ("ssl.SSLError: [SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1129)", WrongTlsMode),
        (
            "System.Net.Mail.SmtpException: The SMTP server requires a secure connection or the client was not authenticated. The server response was: 5.7.57 Client not authenticated to send mail.",
            AuthRequired,
        ),
    ];
    let base = RuleBase::builtin();
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(text, reason)| {
            let finding = base.judge(&Query::text(text));
            let found = finding.as_ref().map(|finding| (finding.reason, finding.rule.as_str()));
            (found.map(|(reason, _)| reason) != Some(*reason)).then(|| format!("{text}\n  is {found:?}, not {reason}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn words_that_say_nothing_find_nothing() {
    for text in [
        "",
        "hello",
        "Dear customer, your parcel is on its way",
        "removed from queue",
        "the scan found no virus and no spam",
    ] {
        assert_eq!(RuleBase::builtin().judge(&Query::text(text)), None, "{text}");
    }
}

#[test]
fn one_code_means_what_the_provider_means_by_it() {
    let base = RuleBase::builtin();
    let ask = |provider, text: &str| {
        let reply = reply(text);
        base.judge(&Query::reply(Auth, &reply).at(Some(provider))).unwrap().rule
    };
    assert_eq!(ask("mailgun", "535 Authentication failed"), "mailgun-credentials");
    assert_eq!(ask("zoho", "535 Authentication Failed"), "zoho-credentials");
    assert_eq!(ask("postfix", "535 5.7.8 Error: authentication failed: wrong"), "generic-credentials");
}

#[test]
fn providers_are_known_by_host_banner_and_words() {
    let base = RuleBase::builtin();
    for (host, provider) in [
        ("aspmx.l.google.com", Some("google")),
        ("example-com.mail.protection.outlook.com.", Some("microsoft")),
        ("mta5.am0.yahoodns.net", Some("yahoo")),
        ("mx01.mail.icloud.com", Some("apple")),
        ("email-smtp.eu-west-1.amazonaws.com", Some("ses")),
        ("eu-smtp-inbound-1.mimecast.com", Some("mimecast")),
        ("mx.example.net", None),
    ] {
        assert_eq!(base.provider_of_host(host).map(|provider| provider.id.as_str()), provider, "{host}");
    }
    let banner = |text| base.provider_of_banner(text).map(|provider| provider.id.as_str());
    assert_eq!(banner("220 mail.example.net ESMTP Postfix (Debian/GNU)"), Some("postfix"));
    assert_eq!(banner("220 mail.example.net ESMTP Exim 4.97"), Some("exim"));
    assert_eq!(banner("220 mx.google.com ESMTP x - gsmtp"), Some("google"));
    assert_eq!(banner("220 mail.example.net ESMTP"), None);
}

#[test]
fn a_mistyped_host_leads_to_the_one_that_was_meant() {
    let base = RuleBase::builtin();
    let meant = |host| base.probably_meant(host).map(|submission| submission.host.as_str());
    assert_eq!(meant("smtp.ofice365.com"), Some("smtp.office365.com"));
    assert_eq!(meant("smtp.gmial.com"), Some("smtp.gmail.com"));
    assert_eq!(meant("smtp.gmail.com"), None);
    assert_eq!(meant("mail.example.net"), None);
}

#[test]
fn values_of_the_reply_are_in_the_words() {
    let base = RuleBase::builtin();
    let reply = reply(
        "554 5.7.1 Service unavailable; Client host [198.51.100.7] blocked using bl.example.org; https://bl.example.org/198.51.100.7",
    );
    let finding = base.judge(&Query::reply(Recipient, &reply)).unwrap();
    let words = base.explain(&finding).unwrap();
    let all = format!("{} {:?}", words.meaning, words.fixes);
    for value in ["198.51.100.7", "bl.example.org", "https://bl.example.org/198.51.100.7"] {
        assert!(all.contains(value), "{value} is not in {all}");
    }
    assert!(!all.contains('{') || all.contains("RenderedFix {"), "{all}");
}
