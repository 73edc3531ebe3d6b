//! By mail: through our own queue on a route that is not concerned and works, or straight to a smart host of the channel.
//!
//! What is in the queue has not arrived: [`look`] says what became of it.

use mail_builder::MessageBuilder;
use mail_builder::headers::address::Address as HeaderAddress;
use mail_builder::headers::raw::Raw;
use proto::message::rfc5322_date;
use relay::own_mail::{NotSent, OwnMail};
use store::{Operation, Selector, State};

use super::Sent;
use crate::alert::channel::ChannelRecord;
use crate::alert::entry::Posted;
use crate::alert::setting::Channel;
use crate::alert::text::{Item, body, subject};
use crate::http::{Shared, words};

/// How long the queue tries, seconds: later another route or channel has told it.
const LASTS_S: u64 = 3_600;

/// What a mail says.
pub struct Letter<'a> {
    /// Subject.
    pub subject: &'a str,
    /// Text for people.
    pub text: &'a str,
    /// The same with markup.
    pub html: Option<&'a str>,
    /// What mails about the same thing have in common.
    pub thread: Option<String>,
}

/// Tells a channel. `avoid`: routes that are concerned, or were tried in vain.
pub async fn send(app: &Shared, channel: &Channel, items: &[Item], avoid: &[String]) -> Sent {
    let subject = subject(&app.hostname, items);
    let thread = match items {
        [one] => Some(
            blake3::hash(format!("{} {}", one.entry.alert.key, one.entry.first_ms).as_bytes()).to_hex()[..24]
                .to_owned(),
        ),
        _ => None,
    };
    let text = body(&app.hostname, items);
    post(app, channel, &Letter { subject: &subject, text: &text, html: None, thread }, avoid).await
}

/// Sends a mail to those whom a channel names.
pub async fn post(app: &Shared, channel: &Channel, letter: &Letter<'_>, avoid: &[String]) -> Sent {
    let Some(relay) = &app.relay else { return Sent::failed("the server is not running") };
    let mail = match compose(app, &channel.record, letter, avoid) {
        Ok(mail) => mail,
        Err(problem) => return Sent::failed(problem),
    };
    if let Some(route) = channel.record.own_route(&channel.name, channel.version, channel.secret.as_ref()) {
        let limit = std::time::Duration::from_secs(u64::from(channel.record.timeout));
        return match tokio::time::timeout(limit, relay.send_directly(&route, mail)).await {
            Ok(Ok(reply)) => Sent::Taken(reply),
            Ok(Err(error)) => Sent::failed(problem(&error)),
            Err(_) => Sent::failed(format!("not done within {} s", limit.as_secs())),
        };
    }
    match relay.send_own(mail).await {
        Ok((message, routes)) => {
            Sent::Posted(Posted { message: message.to_string(), routes, at_ms: app.clock.now_ms(), over: false })
        }
        Err(error) => Sent::failed(problem(&error)),
    }
}

fn problem(error: &NotSent) -> String {
    match error {
        NotSent::Queue(text) => text.clone(),
        NotSent::Failed { failure, .. } => words::failure(failure),
    }
}

/// Marked as made by a program (RFC 3834 §5): nothing that answers by itself answers it.
fn compose(app: &Shared, record: &ChannelRecord, letter: &Letter<'_>, avoid: &[String]) -> Result<OwnMail, String> {
    let (from, to) = record.addresses().map_err(|(field, problem)| format!("its {field} {problem}"))?;
    let now_ms = app.clock.now_ms();
    let message_id = format!("<{:032x}@{}>", rand::random::<u128>(), app.hostname);
    let list = to.iter().map(|to| HeaderAddress::new_address(None::<&str>, to.as_str())).collect();
    let mut message = MessageBuilder::new()
        .from(HeaderAddress::new_address(Some(format!("Pillarbox at {}", app.hostname)), from.as_str()))
        .header("To", HeaderAddress::new_list(list))
        .subject(letter.subject)
        .header("Date", Raw::new(rfc5322_date(now_ms)))
        .header("Message-ID", Raw::new(message_id.clone()))
        .header("Auto-Submitted", Raw::new("auto-generated"))
        .header("X-Auto-Response-Suppress", Raw::new("All"))
        .text_body(letter.text);
    if let Some(thread) = &letter.thread {
        message = message.header("References", Raw::new(format!("<alert.{thread}@{}>", app.hostname)));
    }
    if let Some(html) = letter.html {
        message = message.html_body(html);
    }
    let content = message.write_to_vec().map_err(|error| error.to_string())?;
    Ok(OwnMail {
        from,
        to,
        subject: letter.subject.to_owned(),
        message_id,
        content,
        lasts_s: LASTS_S,
        avoid: avoid.to_vec(),
        prefer: record.routes.clone(),
    })
}

/// What became of a mail in our queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Became {
    /// A next hop has it, for somebody at least.
    Delivered,
    /// It is still under way; why it waits, if something failed.
    UnderWay(Option<String>),
    /// It will not arrive.
    Lost(String),
}

/// Looks after a mail.
pub async fn look(app: &Shared, posted: &Posted) -> Became {
    let Ok(id) = posted.message.parse() else { return Became::Lost("its id cannot be read".into()) };
    let view = match app.store.message(id, 100).await {
        Ok(view) => view,
        // History is kept for longer than this lasts: it was removed by hand.
        Err(store::StoreError::NotFound) => return Became::Lost("it is not there any more".into()),
        Err(error) => return Became::UnderWay(Some(error.to_string())),
    };
    if view.recipients.iter().any(|recipient| recipient.state == State::Delivered) {
        return Became::Delivered;
    }
    let why = view.recipients.iter().find_map(|recipient| {
        let failure = recipient.cause.as_ref().map(|cause| words::failure(&cause.failure));
        failure.or_else(|| recipient.why.clone())
    });
    match view.recipients.iter().all(|recipient| recipient.state.is_final()) {
        true => Became::Lost(why.unwrap_or_else(|| "it was not delivered".into())),
        false => Became::UnderWay(why),
    }
}

/// Takes a mail back that did not get away: another one tells it.
pub async fn withdraw(app: &Shared, posted: &Posted) {
    let (Some(relay), Ok(id)) = (&app.relay, posted.message.parse()) else { return };
    let selector = Selector { message: Some(id), ..Selector::default() };
    if let Err(error) = relay.operate(selector, Operation::Cancel, "alerts".into()).await {
        tracing::warn!(%error, message_id = %posted.message, "a mail with alerts is not withdrawn");
    }
}
