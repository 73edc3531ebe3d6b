//! `sendmail -bs`: SMTP on standard input and output. The session machine runs here; messages go to the server by HTTP.

use std::io::{Read, Stdout, Write};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::smtp::reply::Reply;
use proto::smtp::server::{Content, Event, Server, Settings};
use proto::{DeliveryNotify, Envelope, ReturnContent};
use serde_json::json;

use super::Fault;
use super::args::Global;
use super::client::{Client, Need};
use super::sendmail::submit;
use crate::config::Loaded;

/// Speaks until QUIT or the end of input.
pub async fn run(global: &Global, loaded: &Loaded) -> Result<(), Fault> {
    let config = &loaded.config;
    let settings = Settings {
        max_size: config.limits.message_size,
        max_recipients: config.limits.recipients,
        max_commands: config.limits.commands,
        ..Settings::new(&*config.hostname)
    };
    let mut machine = Server::new(Arc::new(settings), false);
    // Without a server the client hears 421 at once instead of losing its message later.
    let client = Client::find(global, loaded, Need::Server).await;
    let refusal = client.is_err().then(|| Reply::new(421, "4.3.2 Server is not running, try again later"));
    machine.greet(refusal);
    // Nothing else runs in this process while a line is awaited, so waiting may block.
    let (mut input, mut output) = (std::io::stdin(), std::io::stdout());
    let mut buffer = vec![0u8; 65_536];
    let broken = |error: std::io::Error| Fault::cannot(anyhow::Error::new(error).context("the session broke off"));
    loop {
        match machine.poll() {
            Event::NeedInput => {
                flush(&mut machine, &mut output).map_err(broken)?;
                let read = input.read(&mut buffer).map_err(broken)?;
                if read == 0 {
                    return client.map(drop);
                }
                machine.receive(buffer.get(..read).unwrap_or_default());
            }
            Event::Close => {
                flush(&mut machine, &mut output).map_err(broken)?;
                return client.map(drop);
            }
            Event::Mail(..) => machine.answer(Reply::new(250, "2.1.0 Sender ok")),
            Event::Recipient(_) => machine.answer(Reply::new(250, "2.1.5 Recipient ok")),
            Event::Message(envelope, content) => {
                let reply = match &client {
                    Ok(client) => message(client, &envelope, &content).await,
                    Err(_) => Reply::new(421, "4.3.2 Server is not running, try again later"),
                };
                machine.answer(reply);
            }
            Event::Authenticate(_) | Event::XClient(_) | Event::StartTls => {
                machine.answer(Reply::new(502, "5.5.1 Not offered"));
            }
        }
    }
}

fn flush(machine: &mut Server, output: &mut Stdout) -> std::io::Result<()> {
    let octets = std::mem::take(machine.output());
    output.write_all(&octets)?;
    output.flush()
}

async fn message(client: &Client, envelope: &Envelope, content: &Content) -> Reply {
    // The API has one NOTIFY for all recipients; programs that speak SMTP to a pipe give the same to all.
    let notify = match envelope.recipients.first().and_then(|to| to.parameters.notify) {
        None => Vec::new(),
        Some(DeliveryNotify::Never) => vec!["never"],
        Some(DeliveryNotify::On { success, failure, delay }) => {
            let words = [success.then_some("success"), failure.then_some("failure"), delay.then_some("delay")];
            words.into_iter().flatten().collect()
        }
    };
    let ret = envelope.parameters.ret.map(|ret| match ret {
        ReturnContent::Full => "full",
        ReturnContent::Headers => "headers",
    });
    let body = json!({
        "envelope": {
            "from": envelope.reverse_path.0.as_ref().map_or("", |address| address.as_str()),
            "to": envelope.recipients.iter().map(|to| to.address.as_str()).collect::<Vec<_>>(),
            "notify": notify, "ret": ret, "envid": envelope.parameters.envid,
        },
        "raw_base64": STANDARD.encode(&content.octets),
    });
    match submit(client, body).await {
        Ok(()) => Reply::new(250, "2.0.0 Message accepted"),
        Err(Fault::Refused(problem)) if problem.status == 429 || problem.status >= 500 => {
            Reply::new(451, format!("4.3.0 {}", problem.detail))
        }
        Err(Fault::Refused(problem)) => Reply::new(554, format!("5.6.0 {}", problem.detail)),
        Err(_) => Reply::new(451, "4.3.0 Message could not be handed over, try again later"),
    }
}
