//! Which library or program wrote what was pasted, and what it was doing. Tables only.

use proto::transcript::Stage;

/// Words that only one library or program writes; the first that is there names it.
const PROGRAMS: &[(&str, &str)] = &[
    ("Send-MailMessage", "Send-MailMessage (PowerShell)"),
    ("MailKit.", "MailKit (.NET)"),
    ("System.Net.Mail", "System.Net.Mail (.NET)"),
    ("SmtpFailedRecipient", "System.Net.Mail (.NET)"),
    ("Symfony\\Component\\Mailer", "Symfony Mailer (PHP)"),
    ("Symfony/Component/Mailer", "Symfony Mailer (PHP)"),
    ("Symfony\\\\Component\\\\Mailer", "Symfony Mailer (PHP)"),
    ("Swift_Transport", "SwiftMailer (PHP)"),
    ("Swift_", "SwiftMailer (PHP)"),
    ("PHPMailer", "PHPMailer"),
    ("SMTP Error: ", "PHPMailer"),
    ("SMTP ERROR: ", "PHPMailer"),
    ("SERVER -> CLIENT", "PHPMailer"),
    ("Illuminate\\Mail", "Laravel Mail (PHP)"),
    ("Expected response code ", "Symfony Mailer (PHP)"),
    ("mail(): ", "PHP mail()"),
    ("aiosmtplib", "aiosmtplib (Python)"),
    ("django/core/mail", "Django mail (Python)"),
    ("smtplib.", "smtplib (Python)"),
    ("smtplib.py", "smtplib (Python)"),
    ("SMTPAuthenticationError: (", "smtplib (Python)"),
    ("SMTPRecipientsRefused: {", "smtplib (Python)"),
    ("SMTPSenderRefused: (", "smtplib (Python)"),
    ("SMTPDataError: (", "smtplib (Python)"),
    ("SMTPConnectError: (", "smtplib (Python)"),
    ("SMTPServerDisconnected", "smtplib (Python)"),
    ("org.springframework.mail", "Spring Mail (Java)"),
    ("jakarta.mail", "Jakarta Mail (Java)"),
    ("org.eclipse.angus", "Jakarta Mail (Java)"),
    ("javax.mail", "JavaMail (Java)"),
    ("com.sun.mail", "JavaMail (Java)"),
    ("org.apache.commons.mail", "Commons Email (Java)"),
    ("DEBUG SMTP: ", "JavaMail (Java)"),
    ("nodemailer", "Nodemailer (Node.js)"),
    ("SMTPConnection", "Nodemailer (Node.js)"),
    ("code: 'EAUTH'", "Nodemailer (Node.js)"),
    ("code: 'EENVELOPE'", "Nodemailer (Node.js)"),
    ("code: 'EMESSAGE'", "Nodemailer (Node.js)"),
    ("code: 'ESOCKET'", "Nodemailer (Node.js)"),
    ("command: 'CONN'", "Nodemailer (Node.js)"),
    ("node:internal", "Node.js"),
    ("node:net:", "Node.js"),
    ("action_mailer", "ActionMailer (Ruby)"),
    ("ActionMailer", "ActionMailer (Ruby)"),
    ("net/protocol.rb", "Net::SMTP (Ruby)"),
    ("net/smtp.rb", "Net::SMTP (Ruby)"),
    ("gomail", "gomail (Go)"),
    ("go-mail", "go-mail (Go)"),
    ("net/smtp", "net/smtp (Go)"),
    ("smtp.(*Client)", "net/smtp (Go)"),
    ("smtp.SendMail", "net/smtp (Go)"),
    ("dial tcp", "Go"),
    ("x509: ", "Go"),
    ("lettre", "lettre (Rust)"),
    ("permanent error (", "lettre (Rust)"),
    ("transient error (", "lettre (Rust)"),
    ("Net::SMTP=GLOB", "Net::SMTP (Perl)"),
    ("Net::SMTP::", "Net::SMTP (Perl)"),
    ("Net/SMTP.pm", "Net::SMTP (Perl)"),
    ("Net/Cmd.pm", "Net::SMTP (Perl)"),
    ("Net::SMTP", "Net::SMTP (Ruby)"),
    ("Net::OpenTimeout", "Net::SMTP (Ruby)"),
    ("Net::ReadTimeout", "Net::SMTP (Ruby)"),
    ("OpenSSL::SSL::SSLError", "Net::SMTP (Ruby)"),
    ("TcpTestSucceeded", "Test-NetConnection (Windows)"),
    ("Test-NetConnection", "Test-NetConnection (Windows)"),
    ("TNC :", "Test-NetConnection (Windows)"),
    ("curl: (", "curl"),
    ("msmtp: ", "msmtp"),
    ("ssmtp: ", "ssmtp"),
    ("sendmail: ", "sendmail"),
    ("s-nail: ", "mailx"),
    ("smtp-server: ", "mailx"),
    ("=== Trying ", "swaks"),
    ("=== Connected to ", "swaks"),
    ("<** ", "swaks"),
    ("*** Error connecting", "swaks"),
    ("Verify return code:", "openssl s_client"),
    ("verify error:num=", "openssl s_client"),
    ("CONNECTED(0000", "openssl s_client"),
    ("connect:errno=", "openssl s_client"),
    ("telnet: ", "telnet"),
    ("Connecting To ", "telnet (Windows)"),
    ("nc: connect", "nc"),
    ("Escape character is", "telnet"),
    ("AADSTS", "Microsoft Entra"),
    ("\"error_description\"", "OAuth token endpoint"),
    ("\"error\":\"invalid_", "OAuth token endpoint"),
    ("socket.gaierror", "Python"),
    ("Traceback (most recent call last)", "Python"),
];

/// Library or program behind a text.
pub fn recognise(text: &str) -> Option<&'static str> {
    PROGRAMS.iter().find(|(mark, _)| text.contains(mark)).map(|(_, name)| *name)
}

/// Words of traces that tell the call; the first that is there tells it.
const CALLS: &[(&str, &str, Stage)] = &[
    ("command: 'MAIL FROM'", "MAIL FROM", Stage::Sender),
    ("command: 'RCPT TO'", "RCPT TO", Stage::Recipient),
    ("command: 'DATA'", "DATA", Stage::Message),
    ("command: 'STARTTLS'", "STARTTLS", Stage::Tls),
    ("code: 'EAUTH'", "AUTH", Stage::Auth),
    ("code: 'EENVELOPE'", "RCPT TO", Stage::Recipient),
    ("code: 'EMESSAGE'", "DATA", Stage::Message),
    ("SMTPAuthenticationError", "login()", Stage::Auth),
    ("SMTPRecipientsRefused", "RCPT TO", Stage::Recipient),
    ("SMTPRecipientRefused", "RCPT TO", Stage::Recipient),
    ("SMTPSenderRefused", "MAIL FROM", Stage::Sender),
    ("SMTPDataError", "DATA", Stage::Message),
    ("SMTPHeloError", "EHLO", Stage::Ehlo),
    ("SMTPConnectError", "connect()", Stage::Banner),
    ("AuthenticationFailedException", "AUTH", Stage::Auth),
    ("MailAuthenticationException", "AUTH", Stage::Auth),
    ("MailKit.Security.AuthenticationException", "Authenticate", Stage::Auth),
    ("SslHandshakeException", "TLS handshake", Stage::Tls),
    ("SSLHandshakeException", "TLS handshake", Stage::Tls),
    ("SMTPSenderFailedException", "MAIL FROM", Stage::Sender),
    ("SMTPAddressFailedException", "RCPT TO", Stage::Recipient),
    ("SmtpFailedRecipient", "RCPT TO", Stage::Recipient),
    ("SenderNotAccepted", "MAIL FROM", Stage::Sender),
    ("RecipientNotAccepted", "RCPT TO", Stage::Recipient),
    ("MessageNotAccepted", "DATA", Stage::Message),
    ("check_auth_response", "AUTH", Stage::Auth),
    ("SMTPAuthenticationError", "AUTH", Stage::Auth),
    ("(*Client).Auth", "AUTH", Stage::Auth),
    ("(*Client).Mail", "MAIL FROM", Stage::Sender),
    ("(*Client).Rcpt", "RCPT TO", Stage::Recipient),
    ("(*Client).StartTLS", "STARTTLS", Stage::Tls),
    ("Could not authenticate", "AUTH", Stage::Auth),
    ("Failed to authenticate", "AUTH", Stage::Auth),
    ("authentication failed (method", "AUTH", Stage::Auth),
    ("The following From address failed", "MAIL FROM", Stage::Sender),
    ("MAIL FROM command failed", "MAIL FROM", Stage::Sender),
    ("The following recipients failed", "RCPT TO", Stage::Recipient),
    ("RCPT TO command failed", "RCPT TO", Stage::Recipient),
    ("data not accepted", "DATA", Stage::Message),
    ("DATA END command failed", "DATA", Stage::Message),
    ("No authentication type succeeded", "AUTH", Stage::Auth),
    ("curl: (67)", "AUTH", Stage::Auth),
    ("curl: (60)", "TLS handshake", Stage::Tls),
    ("curl: (35)", "TLS handshake", Stage::Tls),
    ("curl: (6)", "name look-up", Stage::Dns),
    ("curl: (7)", "connect()", Stage::Tcp),
    ("curl: (28)", "connect()", Stage::Tcp),
    ("Verify return code:", "TLS handshake", Stage::Tls),
    ("verify error:num=", "TLS handshake", Stage::Tls),
    ("do_handshake", "TLS handshake", Stage::Tls),
    ("getaddrinfo", "name look-up", Stage::Dns),
    ("gaierror", "name look-up", Stage::Dns),
    ("UnknownHostException", "name look-up", Stage::Dns),
    ("command: 'CONN'", "connect()", Stage::Tcp),
    ("create_connection", "connect()", Stage::Tcp),
    ("AADSTS", "token request", Stage::Auth),
    ("error_description", "token request", Stage::Auth),
];

/// The call that failed, and its stage.
pub fn call(text: &str) -> Option<(&'static str, Stage)> {
    CALLS.iter().find(|(mark, ..)| text.contains(mark)).map(|(_, name, stage)| (*name, *stage))
}

/// Marks at the start of a line in which programs write a server's answer down.
const ANSWERS: &[&str] = &[
    "SERVER -> CLIENT: ",
    "msmtp: server message: ",
    "smtp-server: ",
    "<** ",
    "<-  ",
    "<~  ",
    "<~* ",
    "<<< ",
    "< ",
    "S: ",
    "<- ",
    "reply: b'",
    "reply: ",
    "recv: ",
];

/// Marks of what a client said.
const QUESTIONS: &[&str] = &["CLIENT -> SERVER: ", " -> ", " ~> ", ">>> ", "> ", "C: ", "-> ", "send: '", "send: "];

/// A line of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken<'t> {
    /// Of the server.
    Answer(&'t str),
    /// Of the client.
    Question(&'t str),
}

/// The words of a line that writes a conversation down; times and names of objects in front go.
pub fn spoken(line: &str) -> Option<Spoken<'_>> {
    let line = match line.split_once("Net::SMTP=GLOB(").and_then(|(_, rest)| rest.split_once(')')) {
        Some((_, rest)) => rest,
        None => line,
    };
    // `2026-05-03 00:00:01 SERVER -> CLIENT: ...`
    let line =
        line.find("SERVER -> CLIENT: ").or_else(|| line.find("CLIENT -> SERVER: ")).map_or(line, |at| &line[at..]);
    let code = |rest: &str| rest.len() >= 3 && rest.bytes().take(3).all(|octet| octet.is_ascii_digit());
    for mark in ANSWERS {
        if let Some(rest) = line.strip_prefix(mark).map(str::trim_start).filter(|rest| code(rest)) {
            return Some(Spoken::Answer(rest));
        }
    }
    for mark in QUESTIONS {
        if let Some(rest) = line.strip_prefix(mark).filter(|rest| stage_of(rest).is_some()) {
            return Some(Spoken::Question(rest));
        }
    }
    None
}

/// The stage that a client's command begins.
pub fn stage_of(command: &str) -> Option<Stage> {
    let upper = command.trim_start().get(..4)?.to_ascii_uppercase();
    Some(match upper.as_str() {
        "EHLO" | "HELO" => Stage::Ehlo,
        "STAR" => Stage::Tls,
        "AUTH" => Stage::Auth,
        "MAIL" => Stage::Sender,
        "RCPT" => Stage::Recipient,
        "DATA" | "BDAT" => Stage::Message,
        "QUIT" => Stage::Quit,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversations_are_read_in_the_forms_programs_write_them() {
        for (line, code) in [
            ("2026-05-03 00:00:01 SERVER -> CLIENT: 535 5.7.8 no", "535"),
            ("<** 550 5.1.1 no", "550"),
            ("Net::SMTP=GLOB(0x55d0)<<< 535 no", "535"),
            ("< 535 no", "535"),
            ("reply: b'535 5.7.8 no\\r\\n'", "535"),
        ] {
            let Some(Spoken::Answer(rest)) = spoken(line) else { panic!("{line}") };
            assert!(rest.starts_with(code), "{line}");
        }
        assert_eq!(spoken(" -> RCPT TO:<a@b.example>"), Some(Spoken::Question("RCPT TO:<a@b.example>")));
        assert_eq!(spoken("> quoted mail"), None);
        assert_eq!(spoken("< 5 km"), None);
    }
}
