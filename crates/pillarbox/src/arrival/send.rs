//! A test mail: composed, noted, queued on the route that is to be tried.

use proto::Address;
use proto::message::rfc5322_date;
use relay::own_mail::OwnMail;
use serde::Deserialize;
use store::settings::Kind;

use super::record::{self, Arrival, ArrivalState, Stored, Token};
use crate::http::Shared;
use crate::http::api::settings;
use crate::http::problem::Problem;

/// Shortest and longest time a test mail is given, seconds, and the usual one.
pub const WITHIN_S: (u64, u64, u64) = (10, 86_400, 600);
/// Open test mails at once.
const MOST_OPEN: u32 = 100;
/// Least time that the queue tries, seconds: a mail that comes late shall come.
const LEAST_LIFE_S: u64 = 3_600;

/// What is asked for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArrivalIn {
    /// The route to try.
    pub route: String,
    /// From and return path; by default `postmaster` of a domain that writes by the route.
    #[serde(default)]
    pub from: Option<String>,
    /// Recipient; by default an address of the bounce domain, so that our own listener confirms it.
    #[serde(default)]
    pub to: Option<String>,
    /// Name of a mailbox (`pillarbox mailbox`) that the recipient's mail comes to, to look for it.
    #[serde(default)]
    pub mailbox: Option<String>,
    /// Seconds it may take (10 to 86,400; default 600).
    #[serde(default)]
    pub within_s: Option<u64>,
}

/// Sends one.
pub async fn send(app: &Shared, wanted: ArrivalIn) -> Result<Stored, Problem> {
    let relay = app.relay()?;
    let routes = relay.routes();
    let route = routes.iter().find(|route| *route.name == *wanted.route);
    let route = route.ok_or_else(|| Problem::field("/route", "there is no such route"))?;
    if !route.record.kind.leaves() {
        return Err(Problem::field("/route", "mail on this route stays here: nothing could arrive"));
    }
    let (least, most, usual) = WITHIN_S;
    let within_s = wanted.within_s.unwrap_or(usual);
    if !(least..=most).contains(&within_s) {
        return Err(Problem::field("/within_s", format!("has to be from {least} to {most}")));
    }
    if let Some(mailbox) = &wanted.mailbox
        && !settings::exists(app, Kind::Mailbox, mailbox).await?
    {
        return Err(Problem::field("/mailbox", "there is no such mailbox: pillarbox mailbox add"));
    }
    let token = Token::new();
    let to = match (&wanted.to, &app.arrivals.domain) {
        (Some(to), _) => address("/to", to)?,
        (None, Some(domain)) => address("/to", &format!("{}@{domain}", token.as_str()))?,
        (None, None) => {
            return Err(Problem::field("/to", "is needed, as there is no bounce domain (`bounce.domain`) of our own"));
        }
    };
    let from = match &wanted.from {
        Some(from) => address("/from", from)?,
        None => address("/from", &default_from(app, &route.name)?)?,
    };
    let open = record::find(
        &*app.store,
        store::RecordQuery { limit: MOST_OPEN, ..store::RecordQuery::open(store::RecordKind::Arrival) },
    );
    if open.await?.len() >= MOST_OPEN as usize {
        return Err(Problem::new(
            axum::http::StatusCode::TOO_MANY_REQUESTS,
            format!("{MOST_OPEN} test mails are on their way"),
        ));
    }
    queue(app, &wanted, token, (from, to), within_s).await
}

async fn queue(
    app: &Shared,
    wanted: &ArrivalIn,
    token: Token,
    (from, to): (Address, Address),
    within_s: u64,
) -> Result<Stored, Problem> {
    let now_ms = app.clock.now_ms();
    let mut arrival = Arrival {
        token: token.clone(),
        route: wanted.route.clone(),
        from: from.to_string(),
        to: to.to_string(),
        mailbox: wanted.mailbox.clone(),
        within_s,
        message: None,
        sent_ms: now_ms,
        state: ArrivalState::Waiting,
        problem: None,
        judgement: None,
    };
    // Noted first: it may arrive before the answer of the queue does.
    let id = record::add(&*app.store, &arrival).await?;
    let message_id = format!("<{}@{}>", token.as_str(), from.domain());
    let subject = format!("Test of delivery {}", token.as_str());
    let content = compose(&arrival, &subject, &message_id, now_ms);
    let mail = OwnMail {
        from,
        to: vec![to],
        subject,
        message_id,
        content,
        lasts_s: within_s.max(LEAST_LIFE_S),
        avoid: Vec::new(),
        prefer: Vec::new(),
    };
    let sent = app.relay()?.send_test(&wanted.route, mail).await;
    let stored = record::by_token(&*app.store, &token).await?;
    let mut stored = stored.ok_or_else(|| store::StoreError::Internal(format!("the test mail {id} is gone")))?;
    match sent {
        Ok(message) => {
            arrival.message = Some(message.to_string());
            // What has arrived already stays so.
            stored.arrival.message.clone_from(&arrival.message);
        }
        Err(error) => {
            stored.arrival.state = ArrivalState::Failed;
            stored.arrival.problem = Some(error.to_string());
            stored.open = false;
        }
    }
    record::change(&*app.store, &stored).await?;
    if !crate::cluster::tell(app, || crate::cluster::Word::Arrival) {
        app.arrivals.wake.notify_one();
    }
    if stored.arrival.state == ArrivalState::Failed {
        let why = stored.arrival.problem.unwrap_or_default();
        return Err(Problem::new(
            axum::http::StatusCode::UNPROCESSABLE_ENTITY,
            format!("the queue did not take it: {why}"),
        ));
    }
    let stored = record::by_token(&*app.store, &token).await?;
    stored.ok_or_else(|| store::StoreError::Internal("the test mail is gone".into()).into())
}

fn address(pointer: &str, text: &str) -> Result<Address, Problem> {
    Address::parse(text.trim()).map_err(|error| Problem::field(pointer, error.to_string()))
}

/// `postmaster` of the first domain that writes by the route.
///
/// # Errors
/// 422: nobody is known to write by it.
pub fn default_from(app: &Shared, route: &str) -> Result<String, Problem> {
    let writers = app.relay()?.writers();
    let mut domains = writers.iter().filter(|(_, routes)| routes.iter().any(|one| *one.name == *route));
    let none = || Problem::field("/from", "is needed: no domain is known to write by this route");
    domains.next().map(|(domain, _)| format!("postmaster@{domain}")).ok_or_else(none)
}

fn compose(arrival: &Arrival, subject: &str, message_id: &str, now_ms: i64) -> Vec<u8> {
    let token = arrival.token.as_str();
    format!(
        "From: <{}>\r\nTo: <{}>\r\nSubject: {subject}\r\nDate: {}\r\nMessage-ID: {message_id}\r\nAuto-Submitted: auto-generated\r\n\
         X-Arrival-Token: {token}\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n\
         This mail tests whether mail arrives. Nobody has to answer it.\r\n\r\nRoute: {}\r\nToken: {token}\r\n\r\n\
         Where nobody looks for it by itself, paste its whole header into\r\n\r\n    pillarbox arrival confirm -\r\n",
        arrival.from,
        arrival.to,
        rfc5322_date(now_ms),
        arrival.route,
    )
    .into_bytes()
}
