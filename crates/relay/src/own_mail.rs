//! Mail of Pillarbox itself that must not depend on what is broken: by the queue on a route that is not to be avoided, or
//! straight to a server, past the queue.
//!
//! Nobody is told when such mail fails (RFC 3461 §4.1, NOTIFY=NEVER): whoever sends it looks after what becomes of it.

use std::sync::Arc;

use bytes::Bytes;
use proto::smtp::client::{Plan, RecipientResult, TransactionEnd};
use proto::transcript::{Failure, Stage};
use proto::{Address, DeliveryNotify, MailParameters, RcptParameters, Recipient, ReversePath};
use store::{Message, MessageDetails, MessageId, NewMessage, Origin};

use crate::admission::Admission;
use crate::connection::open::{Errand, open_route};
use crate::directory::Directory;
use crate::domain::seal;
use crate::route::{Route, RouteKind};
use crate::run::Relay;
use crate::shared::Shared;
use crate::signin::auth;

/// Who submits such mail, in lists and records. No sender of the settings can have this name.
pub const SENDER: &str = "~alerts";
/// The stream it is in: no setting of a stream holds it back.
pub const STREAM: &str = "~alerts";

/// Who submits test mail, in lists and records.
pub const TESTER: &str = "~arrival";

/// A mail.
#[derive(Debug, Clone)]
pub struct OwnMail {
    /// `From` and return path.
    pub from: Address,
    /// Who gets it.
    pub to: Vec<Address>,
    /// For lists.
    pub subject: String,
    /// For lists.
    pub message_id: String,
    /// All of it, CRLF lines, seven bits.
    pub content: Vec<u8>,
    /// How long the queue tries, seconds.
    pub lasts_s: u64,
    /// Routes it must not take.
    pub avoid: Vec<String>,
    /// Routes it takes rather than others, the best first.
    pub prefer: Vec<String>,
}

/// Why a mail did not go.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NotSent {
    /// There is no route for it, or the queue did not take it.
    #[error("{0}")]
    Queue(String),
    /// A server did not take it.
    #[error("{failure:?}")]
    Failed {
        /// Where.
        stage: Stage,
        /// Why.
        failure: Box<Failure>,
    },
}

impl Relay {
    /// Puts a mail into the queue, on routes that are not to be avoided and that work as far as is known. Gives its id and
    /// its routes.
    pub async fn send_own(&self, mail: OwnMail) -> Result<(MessageId, Vec<String>), NotSent> {
        let shared = self.shared();
        let directory = shared.directory();
        let broken = broken(shared);
        let now_ms = shared.now_ms();
        let id = shared.store.next_id(now_ms);
        let from = mail.from.as_str().to_owned();
        let refused = |refusal: crate::Refusal| NotSent::Queue(refusal.reply.to_string());
        let sealed = seal(&shared.sealer, &directory, Some(from.as_bytes()), mail.content.clone(), false, now_ms).await;
        let (content, eight_bit) = sealed.map_err(refused)?;
        let message = described(&mail, id, now_ms, &content, eight_bit);
        let chosen = |domain: &str| choose(&directory, &mail, domain, &broken);
        if let Some(nowhere) = mail.to.iter().find(|to| chosen(to.domain()).is_none()) {
            return Err(NotSent::Queue(no_route(nowhere, &mail, &broken)));
        }
        let recipients = mail.to.iter().map(|to| Recipient { address: to.clone(), parameters: silent() }).collect();
        let plan = Admission::plan_by(shared, &directory, &message, &content, (recipients, Vec::new()), chosen);
        let (recipients, admission) = plan.map_err(refused)?;
        let mut routes: Vec<String> = admission.routes().map(ToString::to_string).collect();
        routes.dedup();
        admission.commit(NewMessage::plain(message, content, recipients, shared.run)).await.map_err(refused)?;
        Ok((id, routes))
    }

    /// Puts a mail into the queue on just this route, whatever is known of it: to see whether mail by it arrives. Its return path
    /// is made as for all mail, so what comes back is heard of. Gives its id.
    pub async fn send_test(&self, route: &str, mail: OwnMail) -> Result<MessageId, NotSent> {
        let shared = self.shared();
        let directory = shared.directory();
        let now_ms = shared.now_ms();
        let id = shared.store.next_id(now_ms);
        let from = mail.from.as_str().to_owned();
        let refused = |refusal: crate::Refusal| NotSent::Queue(refusal.reply.to_string());
        let sealed = seal(&shared.sealer, &directory, Some(from.as_bytes()), mail.content.clone(), false, now_ms).await;
        let (content, eight_bit) = sealed.map_err(refused)?;
        let mut message = described(&mail, id, now_ms, &content, eight_bit);
        Arc::make_mut(&mut message).sender = TESTER.into();
        let chosen = |_: &str| directory.route(route).filter(|route| route.record.kind.leaves());
        if chosen("").is_none() {
            return Err(NotSent::Queue(format!("there is no route {route} that leads out of this machine")));
        }
        let recipients =
            mail.to.iter().map(|to| Recipient { address: to.clone(), parameters: RcptParameters::default() }).collect();
        let plan = Admission::plan_by(shared, &directory, &message, &content, (recipients, Vec::new()), chosen);
        let (recipients, admission) = plan.map_err(refused)?;
        admission.commit(NewMessage::plain(message, content, recipients, shared.run)).await.map_err(refused)?;
        Ok(id)
    }

    /// Hands a mail straight to a server that no queue, rule or brake stands before. Gives the server's answer.
    pub async fn send_directly(&self, route: &Route, mail: OwnMail) -> Result<String, NotSent> {
        let shared = self.shared();
        let failed = |stage: Stage, failure: Failure| NotSent::Failed { stage, failure: Box::new(failure) };
        let directory = shared.directory();
        let from = mail.from.as_str().to_owned();
        let sealed =
            seal(&shared.sealer, &directory, Some(from.as_bytes()), mail.content, false, shared.now_ms()).await;
        let (content, eight_bit) = sealed.map_err(|refusal| NotSent::Queue(refusal.reply.to_string()))?;
        let credential = auth(route, route.secrets.password.as_ref());
        let opened = open_route(shared, route, &Errand::nobody(), &route.name, credential).await;
        let mut connection = opened.map_err(|error| failed(error.stage, error.failure.clone()))?.connection;
        let (path, parameters) = (ReversePath(Some(mail.from)), MailParameters::default());
        let (capabilities, silent) = (connection.capabilities().clone(), silent());
        let plan = Plan {
            reverse_path: &path,
            parameters: &parameters,
            recipients: mail.to.iter().map(|address| (address, &silent)).collect(),
            size: content.len() as u64,
            eight_bit,
            caps: &capabilities,
        };
        let delivery = connection.deliver(&plan, &content, async { true }).await;
        let refused = delivery.results.iter().find_map(|result| match result {
            RecipientResult::Refused(reply) => Some(reply.clone()),
            _ => None,
        });
        let outcome = match (delivery.end, delivery.failure, refused) {
            (Some(TransactionEnd::Refused { stage, reply }), ..) => Err(failed(stage, Failure::Refused(reply))),
            (_, _, Some(reply)) => Err(failed(Stage::Recipient, Failure::Refused(reply))),
            (Some(TransactionEnd::Delivered(reply)), ..) => Ok(reply.to_string()),
            (_, Some((stage, failure)), _) => Err(failed(stage, failure)),
            _ => Err(failed(Stage::Message, Failure::Disconnected)),
        };
        connection.quit().await;
        outcome
    }
}

fn silent() -> RcptParameters {
    RcptParameters { notify: Some(DeliveryNotify::Never), ..RcptParameters::default() }
}

fn described(mail: &OwnMail, id: MessageId, now_ms: i64, content: &Bytes, eight_bit: bool) -> Arc<Message> {
    let smtputf8 = mail.from.needs_smtputf8() || mail.to.iter().any(Address::needs_smtputf8);
    Arc::new(Message {
        id,
        accepted_ms: now_ms,
        sender: SENDER.into(),
        stream: STREAM.into(),
        priority: 0,
        reverse_path: ReversePath(Some(mail.from.clone())),
        parameters: MailParameters { smtputf8, ..MailParameters::default() },
        size: u32::try_from(content.len()).unwrap_or(u32::MAX),
        eight_bit,
        not_before_ms: None,
        expires_ms: now_ms.saturating_add(i64::try_from(mail.lasts_s.saturating_mul(1_000)).unwrap_or(i64::MAX)),
        details: Arc::new(MessageDetails {
            subject: Some(mail.subject.clone()),
            from: Some(mail.from.as_str().to_owned()),
            message_id: Some(mail.message_id.clone()),
            origin: Some(Origin { protocol: "LOCAL".into(), address: None, helo: None }),
            ..MessageDetails::default()
        }),
    })
}

/// Routes of which it is known that nothing goes there now.
fn broken(shared: &Shared) -> Vec<String> {
    let mut names: Vec<String> = shared.brakes.lock().overview().into_iter().map(|brake| brake.route).collect();
    names.extend(shared.failover.lock().overview().into_iter().map(|out| out.name));
    names
}

/// What is preferred, then what the rules say, then any other route, smart hosts first.
fn choose<'a>(directory: &'a Directory, mail: &OwnMail, domain: &str, broken: &[String]) -> Option<&'a Arc<Route>> {
    let usable = |route: &&Arc<Route>| {
        let name = &*route.name;
        route.record.kind.leaves() && !mail.avoid.iter().chain(broken).any(|one| one == name)
    };
    let preferred = mail.prefer.iter().filter_map(|name| directory.route(name)).find(usable);
    let by_rule = || directory.route_for(mail.from.domain(), domain, STREAM).filter(usable);
    let other = || directory.routes().filter(usable).min_by_key(|route| (rank(route.record.kind), route.name.clone()));
    preferred.or_else(by_rule).or_else(other)
}

fn rank(kind: RouteKind) -> u8 {
    match kind {
        RouteKind::Smarthost => 0,
        RouteKind::Graph => 1,
        _ => 2,
    }
}

fn no_route(to: &Address, mail: &OwnMail, broken: &[String]) -> String {
    let mut left_out: Vec<&str> = mail.avoid.iter().chain(broken).map(String::as_str).collect();
    left_out.sort_unstable();
    left_out.dedup();
    match left_out.is_empty() {
        true => format!("no route leads out of this machine, to <{to}> neither"),
        false => format!("no other route than {} leads to <{to}>", left_out.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{RouteRecord, RuleRecord};
    use crate::secrets::Secrets;

    fn directory(routes: &[(&str, &str)], default: &str) -> Directory {
        let mut directory = Directory::default();
        for (name, kind) in routes {
            let body = match *kind {
                "smarthost" => serde_json::json!({ "kind": kind, "host": "x.example" }),
                _ => serde_json::json!({ "kind": kind }),
            };
            let record: RouteRecord = serde_json::from_value(body).unwrap();
            directory.put_route(Route::new((*name).into(), record, Secrets::default(), 1));
        }
        let rule = serde_json::json!({ "order": 9, "route": default });
        directory.put_rule("default", serde_json::from_value::<RuleRecord>(rule).unwrap());
        directory
    }

    fn mail(avoid: &[&str], prefer: &[&str]) -> OwnMail {
        OwnMail {
            from: Address::parse("pillarbox@example.com").unwrap(),
            to: vec![Address::parse("ops@example.net").unwrap()],
            subject: String::new(),
            message_id: String::new(),
            content: Vec::new(),
            lasts_s: 60,
            avoid: avoid.iter().map(ToString::to_string).collect(),
            prefer: prefer.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn a_route_that_is_broken_or_to_be_avoided_is_not_taken() {
        let directory =
            directory(&[("main", "smarthost"), ("second", "smarthost"), ("mx", "mx"), ("look", "capture")], "main");
        for (avoid, prefer, broken, wanted) in [
            (&[][..], &[][..], &[][..], Some("main")),
            (&["main"], &[], &[], Some("second")),
            (&["main"], &["mx"], &[], Some("mx")),
            (&["main"], &["mx"], &["mx"], Some("second")),
            (&["main", "second"], &[], &[], Some("mx")),
            (&["main", "second"], &[], &["mx"], None),
            (&[], &["look"], &[], Some("main")),
        ] {
            let broken: Vec<String> = broken.iter().map(ToString::to_string).collect();
            let found = choose(&directory, &mail(avoid, prefer), "example.net", &broken);
            assert_eq!(found.map(|route| &*route.name), wanted, "{avoid:?} {prefer:?} {broken:?}");
        }
    }

    #[test]
    fn without_a_way_out_it_is_said_which_routes_were_left_out() {
        let to = Address::parse("ops@example.net").unwrap();
        let said = no_route(&to, &mail(&["b", "a"], &[]), &["a".to_owned()]);
        assert_eq!(said, "no other route than a, b leads to <ops@example.net>");
    }
}
