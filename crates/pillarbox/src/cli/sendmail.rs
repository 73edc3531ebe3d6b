//! Standing in for /usr/sbin/sendmail, mailq and newaliases, under the names and with the exit codes programs expect.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use axum::http::{Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use mail_parser::MessageParser;
use proto::message::{encode_phrase, scan};
use serde_json::json;

use super::Fault;
use super::args::{Global, SelectorArgs};
use super::client::{Call, Client, Need};
use super::output::{clean_lines, complain};
use super::sendmail_args::{Action, Parsed, parse, until_dot};
use crate::config::Loaded;
use crate::http::auth::SENDER_HEADER;

/// sysexits.h: what callers of sendmail look at.
pub const EX_USAGE: u8 = 64;
/// The message or an address is wrong.
pub const EX_DATAERR: u8 = 65;
/// No input.
const EX_NOINPUT: u8 = 66;
/// Try again later.
pub const EX_TEMPFAIL: u8 = 75;
/// Not allowed.
pub const EX_NOPERM: u8 = 77;
/// The configuration is wrong.
const EX_CONFIG: u8 = 78;

/// What the program was called as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `sendmail`.
    Send,
    /// `mailq`.
    List,
    /// `newaliases`.
    Aliases,
}

impl Mode {
    /// From `argv[0]`.
    pub fn of_program(called_as: &OsStr) -> Option<Self> {
        match Path::new(called_as).file_name()?.to_str()? {
            "sendmail" => Some(Self::Send),
            "mailq" => Some(Self::List),
            "newaliases" => Some(Self::Aliases),
            _ => None,
        }
    }
}

/// Why it did not work: exit code and a sentence.
#[derive(Debug)]
pub struct Failed(pub u8, pub String);

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        let text = fault.text();
        let code = match &fault {
            Fault::Refused(problem) => match StatusCode::from_u16(problem.status) {
                Ok(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => EX_NOPERM,
                Ok(StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT) => EX_TEMPFAIL,
                Ok(status) if status.is_server_error() => EX_TEMPFAIL,
                _ => EX_DATAERR,
            },
            Fault::Usage(_) => EX_USAGE,
            Fault::Cannot(_) | Fault::Told => EX_TEMPFAIL,
        };
        Self(code, text)
    }
}

/// Does what was asked; gives a code of sysexits.h.
pub fn run(mode: Mode, args: Vec<OsString>, global: &Global) -> ExitCode {
    let action = match mode {
        Mode::Send => Action::Send,
        Mode::List => Action::List,
        Mode::Aliases => Action::Nothing,
    };
    let done = parse(action, args).map_err(|text| Failed(EX_USAGE, text)).and_then(|parsed| act(&parsed, global));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed(code, text)) => {
            complain(&format!("sendmail: {}", clean_lines(&text)));
            ExitCode::from(code)
        }
    }
}

fn act(parsed: &Parsed, global: &Global) -> Result<(), Failed> {
    if parsed.action == Action::Nothing {
        return Ok(());
    }
    let loaded = super::load(global).map_err(|fault| Failed(EX_CONFIG, fault.text()))?;
    super::wait(async {
        match parsed.action {
            Action::List => {
                let client = Client::find(global, &loaded, Need::Store).await?;
                Ok(super::queue::list(global, &client, &SelectorArgs::default(), 1000, None).await?)
            }
            Action::Smtp => Ok(super::stdio::run(global, &loaded).await?),
            _ => send(parsed, global, &loaded).await,
        }
    })
}

async fn send(parsed: &Parsed, global: &Global, loaded: &Loaded) -> Result<(), Failed> {
    let limit = loaded.config.limits.message_size;
    let mut message = Vec::new();
    std::io::stdin()
        .lock()
        .take(limit + 1)
        .read_to_end(&mut message)
        .map_err(|error| Failed(EX_NOINPUT, format!("cannot read the message: {error}")))?;
    if message.len() as u64 > limit {
        return Err(Failed(EX_DATAERR, format!("the message is larger than {limit} octets")));
    }
    if !parsed.ignore_dots {
        until_dot(&mut message);
    }
    let hostname = &loaded.config.hostname;
    let mut recipients: Vec<String> = parsed.recipients.clone();
    if parsed.from_header {
        recipients.extend(header_recipients(&message));
    }
    if recipients.is_empty() {
        return Err(Failed(EX_USAGE, "no recipients: name them, or use -t with To, Cc or Bcc in the header".into()));
    }
    let recipients: Vec<String> = recipients.iter().map(|address| qualified(address, hostname)).collect();
    let sender = parsed.sender.clone().unwrap_or_else(user_name);
    let sender = if sender.is_empty() { sender } else { qualified(&sender, hostname) };
    let message = with_from(message, parsed.full_name.as_deref(), &sender);
    let body = json!({
        "envelope": {
            "from": sender, "to": recipients, "notify": parsed.notify, "ret": parsed.ret, "envid": parsed.envid,
        },
        "raw_base64": STANDARD.encode(&message),
    });
    let client = Client::find(global, loaded, Need::Server).await?;
    submit(&client, body).await.map_err(Failed::from)
}

/// Submits a finished message. `PILLARBOX_SENDER` chooses the sender on this machine.
pub async fn submit(client: &Client, body: serde_json::Value) -> Result<(), Fault> {
    let sender = std::env::var("PILLARBOX_SENDER").ok().filter(|name| !name.is_empty());
    let headers = sender.map(|name| (SENDER_HEADER, name)).into_iter().collect();
    let body = Some(("application/json", Bytes::from(body.to_string())));
    client.call(Call { method: Method::POST, path: "/messages", headers, body }).await.map(drop)
}

/// To, Cc and Bcc; or, where the message is resent, the Resent- fields instead (RFC 5322 §3.6.6).
fn header_recipients(message: &[u8]) -> Vec<String> {
    let Some(parsed) = MessageParser::default().parse_headers(message) else { return Vec::new() };
    let of = |names: [&str; 3]| -> Vec<String> {
        parsed
            .headers()
            .iter()
            .filter(|header| names.iter().any(|name| header.name().eq_ignore_ascii_case(name)))
            .filter_map(|header| header.value().as_address())
            .flat_map(|addresses| {
                // A word alone is read as a name; here it is a user of this machine. Anything else that is no address
                // stays, so that the server refuses it instead of nobody hearing of it.
                addresses.iter().filter_map(|one| one.address().or(one.name())).map(str::to_owned).collect::<Vec<_>>()
            })
            .collect()
    };
    let resent = of(["Resent-To", "Resent-Cc", "Resent-Bcc"]);
    if resent.is_empty() { of(["To", "Cc", "Bcc"]) } else { resent }
}

/// `root` means `root` at this machine.
fn qualified(address: &str, hostname: &str) -> String {
    if address.contains('@') { address.to_owned() } else { format!("{address}@{hostname}") }
}

/// The user's login name.
fn user_name() -> String {
    let uid = rustix::process::getuid().as_raw().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line =
        passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.get(2) == Some(&&*uid));
    match line.as_deref() {
        Some([name, ..]) => (*name).to_owned(),
        _ => std::env::var("LOGNAME").unwrap_or_else(|_| "nobody".into()),
    }
}

/// Puts a From in front if there is none.
fn with_from(message: Vec<u8>, full_name: Option<&str>, sender: &str) -> Vec<u8> {
    let has_from = scan(&message).is_ok_and(|scan| scan.has_from());
    if has_from || sender.is_empty() {
        return message;
    }
    let mut with = match full_name {
        Some(name) => format!("From: {} <{sender}>\r\n", encode_phrase(name)),
        None => format!("From: {sender}\r\n"),
    }
    .into_bytes();
    // Without any header the empty line has to be there, or the first line of the text would be taken for one.
    let has_header = scan(&message).is_ok_and(|scan| !scan.fields.is_empty());
    if !has_header && !message.starts_with(b"\n") && !message.starts_with(b"\r\n") {
        with.extend_from_slice(b"\r\n");
    }
    with.extend_from_slice(&message);
    with
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_come_from_the_header_and_resent_ones_win() {
        let message =
            b"To: Ann <ann@one.example>, bob@two.example\nCc: Group: c@three.example;\nBcc: d@four.example\n\n";
        assert_eq!(
            header_recipients(message),
            ["ann@one.example", "bob@two.example", "c@three.example", "d@four.example"]
        );
        let message = b"To: ann@one.example\nResent-To: x@five.example\n\n";
        assert_eq!(header_recipients(message), ["x@five.example"]);
    }

    #[test]
    fn users_of_this_machine_are_recipients_too() {
        assert_eq!(header_recipients(b"To: root, ann@one.example\n\n"), ["root", "ann@one.example"]);
        assert_eq!(header_recipients(b"To: root\n\n"), ["root"]);
        assert_eq!(qualified("root", "h.example"), "root@h.example");
    }

    #[test]
    fn a_message_without_from_gets_one() {
        let with = |message: &str, name| String::from_utf8(with_from(message.into(), name, "app@h.example")).unwrap();
        assert_eq!(with("Subject: x\n\ny\n", None), "From: app@h.example\r\nSubject: x\n\ny\n");
        assert_eq!(with("just text\n", Some("Cron, D.")), "From: \"Cron, D.\" <app@h.example>\r\n\r\njust text\n");
        assert_eq!(with("From: a@b.example\n\ny\n", None), "From: a@b.example\n\ny\n");
    }

    #[test]
    fn the_name_of_the_program_decides() {
        assert_eq!(Mode::of_program(OsStr::new("/usr/sbin/sendmail")), Some(Mode::Send));
        assert_eq!(Mode::of_program(OsStr::new("mailq")), Some(Mode::List));
        assert_eq!(Mode::of_program(OsStr::new("/usr/bin/pillarbox")), None);
    }
}
