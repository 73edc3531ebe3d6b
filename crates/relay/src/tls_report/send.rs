//! After the day: who wants the report, and how it gets there (RFC 8460 §3, §5).
//!
//! By HTTPS it is there when the server says so; by mail when our own queue has it. What cannot be handed over is tried again
//! for a day, less and less often.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use net::https::{self, Request};
use net::lookup::{Kind, Outcome};
use proto::message::{iso_date, rfc5322_date};
use proto::policy::tlsrpt::mail::{MEDIA_TYPE, ReportMail, compose, file_name};
use proto::policy::tlsrpt::report::{DateRange, PolicyReport, Report};
use proto::policy::tlsrpt::{self, Target};
use proto::{Address, MailParameters, RcptParameters, Recipient, ReversePath};
use store::{Idempotency, Message, MessageDetails, NewMessage, Origin};
use tokio::task::JoinSet;

use super::ledger::{DAY_MS, Ledger, Row, SendState, day_of};
use crate::accept::DEFAULT_PRIORITY;
use crate::admission::Admission;
use crate::domain::seal;
use crate::shared::{Shared, default_stream};

/// How often what was seen is written down, and what is due is looked for.
const EVERY: Duration = Duration::from_secs(30);
/// Reports leave in a span of this length after the day, milliseconds: receivers hear of many senders.
const SPREAD_MS: u64 = 3 * 3_600_000;
/// The first ones leave so long after it, milliseconds.
const REST_MS: i64 = 5 * 60_000;
/// Pause after the first failure, milliseconds; twice as long after each further one.
const PAUSE_MS: i64 = 10 * 60_000;
/// Longest pause, milliseconds.
const MOST_PAUSE_MS: i64 = 4 * 3_600_000;
/// Reports on their way at once.
const AT_ONCE: usize = 8;
/// URIs of one record that get a report.
const MOST_TARGETS: usize = 5;
/// Limit of each connect to a server.
const LIMIT: Duration = Duration::from_secs(20);
/// Owner of the keys under which reports by mail are accepted once, and their sender in lists.
const NAME: &str = "~tls-reports";

/// One report that can be sent.
pub(super) struct Outgoing {
    pub(super) day: i64,
    pub(super) domain: Arc<str>,
    pub(super) policies: Vec<PolicyReport>,
    /// Last second it tells of.
    pub(super) end_s: i64,
    /// Another copy of a report is another mail.
    pub(super) copy: String,
}

/// Counts and sends until the relay stops.
pub(crate) async fn run(shared: Arc<Shared>, ledger: Arc<Ledger>) {
    ledger.begin(&shared).await;
    while !shared.is_stopping() {
        // Whoever leads reports what it sees itself.
        match ledger.is_ours(&shared).await {
            Ok(true) => {
                write(&shared, &ledger).await;
                tokio::select! {
                    () = due(&shared, &ledger) => {}
                    () = shared.stopping.cancelled() => break,
                }
            }
            Ok(false) => {
                if !shared.until_lead().await {
                    return;
                }
                continue;
            }
            Err(error) => tracing::warn!(%error, "what was seen of TLS cannot be read yet"),
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = shared.stopping.cancelled() => {}
        }
    }
    if matches!(ledger.is_ours(&shared).await, Ok(true)) {
        write(&shared, &ledger).await;
    }
}

async fn write(shared: &Shared, ledger: &Ledger) {
    if let Err(error) = ledger.write(&*shared.store, shared.now_ms()).await {
        tracing::warn!(%error, "what was seen of TLS is not written down yet");
    }
}

/// Sends what is due.
async fn due(shared: &Arc<Shared>, ledger: &Arc<Ledger>) {
    let now_ms = shared.now_ms();
    let mut waiting = ledger.open_before(day_of(now_ms));
    waiting
        .retain(|(day, domain, row)| row.sending.due_ms.max(first_ms(*day, domain, &shared.config.hostname)) <= now_ms);
    let mut under_way = JoinSet::new();
    for (day, domain, row) in waiting {
        if under_way.len() >= AT_ONCE {
            under_way.join_next().await;
        }
        let (shared, ledger) = (shared.clone(), ledger.clone());
        under_way.spawn(async move {
            let row = attempt(&shared, &ledger, day, &domain, row).await;
            ledger.sent(day, &domain, row);
        });
    }
    while under_way.join_next().await.is_some() {}
    write(shared, ledger).await;
}

/// When a report is sent first: some time after its day, the same after every restart.
fn first_ms(day: i64, domain: &str, hostname: &str) -> i64 {
    let hash = blake3::hash(format!("{day} {domain} {hostname}").as_bytes());
    let number = u64::from_le_bytes(std::array::from_fn(|at| hash.as_bytes()[at]));
    (day + 1) * DAY_MS + REST_MS + i64::try_from(number % SPREAD_MS).unwrap_or(0)
}

async fn attempt(shared: &Arc<Shared>, ledger: &Ledger, day: i64, domain: &Arc<str>, mut row: Row) -> Row {
    let outgoing = Outgoing {
        day,
        domain: domain.clone(),
        policies: row.policies.clone(),
        end_s: (day + 1) * DAY_MS / 1_000 - 1,
        copy: String::new(),
    };
    let problem = match receivers(shared, domain).await {
        Err(problem) => Some(problem),
        Ok(uris) if uris.is_empty() => {
            row.sending.state = SendState::Unwanted;
            return row;
        }
        Ok(uris) => {
            let mut problem = None;
            for uri in uris {
                if row.sending.done.contains(&uri) {
                    continue;
                }
                match hand_over(shared, ledger, &outgoing, &uri).await {
                    Ok(()) => row.sending.done.push(uri),
                    Err(why) => problem = Some(format!("{uri}: {why}")),
                }
            }
            problem
        }
    };
    let first = first_ms(day, domain, &shared.config.hostname);
    conclude(&mut row, problem, first, shared.now_ms());
    match row.sending.state {
        SendState::Sent => tracing::info!(%domain, day = iso_date(day * DAY_MS / 1_000), "TLS report sent"),
        SendState::GivenUp => {
            let problem = row.sending.problem.as_deref().unwrap_or_default();
            tracing::warn!(%domain, day = iso_date(day * DAY_MS / 1_000), problem, "TLS report given up");
        }
        SendState::Open | SendState::Unwanted => {}
    }
    row
}

/// Sent, later, or given up a day after the first attempt was due (RFC 8460 §5.5). At least one attempt is made.
fn conclude(row: &mut Row, problem: Option<String>, first_ms: i64, now_ms: i64) {
    let sending = &mut row.sending;
    sending.tries += 1;
    sending.problem = problem;
    if sending.problem.is_none() {
        sending.state = SendState::Sent;
        return;
    }
    let pause = PAUSE_MS.saturating_mul(1 << (sending.tries - 1).min(10)).min(MOST_PAUSE_MS);
    sending.due_ms = now_ms + pause;
    if sending.due_ms > first_ms + DAY_MS {
        sending.state = SendState::GivenUp;
    }
}

/// The URIs of the domain's record (RFC 8460 §3); none if it has no record, or several.
pub(super) async fn receivers(shared: &Shared, domain: &str) -> Result<Vec<String>, String> {
    if domain.starts_with('[') {
        return Ok(Vec::new());
    }
    let answer = shared.net.resolver.query(&format!("_smtp._tls.{domain}"), Kind::Txt).await;
    if let Outcome::Failed(reason) = &answer.outcome {
        return Err(format!("the record cannot be looked up: {reason}"));
    }
    let reply = answer.reply();
    let mut texts = reply.texts().filter(|text| tlsrpt::is_record(text));
    let record = match (texts.next(), texts.next()) {
        (Some(text), None) => tlsrpt::parse(text).record,
        _ => None,
    };
    Ok(record.map(|record| record.rua.into_iter().take(MOST_TARGETS).collect()).unwrap_or_default())
}

/// Gives a report to one receiver; `Err`: why not, in words.
pub(super) async fn hand_over(
    shared: &Arc<Shared>,
    ledger: &Ledger,
    outgoing: &Outgoing,
    uri: &str,
) -> Result<(), String> {
    let packed = pack(&report(ledger, outgoing).to_json()).map_err(|error| error.to_string())?;
    match tlsrpt::target(uri) {
        Some(Target::Https { host, port, path }) => {
            let private = ledger.config.allow_private;
            let peer = move |ip| (private || net::address::is_public(ip)).then(|| std::net::SocketAddr::new(ip, port));
            let request = Request { host: &host, path: &path, limit: LIMIT, peer: &peer };
            https::post(&shared.net, request, port, MEDIA_TYPE, &packed).await.map_err(|error| error.to_string())
        }
        Some(Target::Mail(address)) => {
            let to = Address::parse(&address).map_err(|error| error.to_string())?;
            mail(shared, ledger, outgoing, to, &packed).await
        }
        None => Err("is no address that can be used".into()),
    }
}

/// `2026-11-20.0123456789abcdef@example.com`
fn report_id(ledger: &Ledger, outgoing: &Outgoing) -> String {
    let Outgoing { day, domain, copy, .. } = outgoing;
    let submitter = ledger.config.contact.domain();
    let hash = blake3::hash(format!("{day} {domain} {submitter} {copy}").as_bytes()).to_hex();
    format!("{}.{}@{submitter}", iso_date(day * DAY_MS / 1_000), &hash[..16])
}

pub(super) fn report(ledger: &Ledger, outgoing: &Outgoing) -> Report {
    Report {
        organization_name: ledger.config.organization.clone(),
        date_range: DateRange::of(outgoing.day * DAY_MS / 1_000, outgoing.end_s),
        contact_info: ledger.config.contact.to_string(),
        report_id: report_id(ledger, outgoing),
        policies: outgoing.policies.clone(),
    }
}

fn pack(json: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    packer.write_all(json)?;
    packer.finish()
}

/// Through the same door as all mail: routed, signed, queued. It is sent whatever is wrong with TLS, and not reported on
/// (RFC 8460 §3, §5.3); nobody is told if it fails.
async fn mail(
    shared: &Arc<Shared>,
    ledger: &Ledger,
    outgoing: &Outgoing,
    to: Address,
    packed: &[u8],
) -> Result<(), String> {
    let now_ms = shared.now_ms();
    let id = shared.store.next_id(now_ms);
    let (from, submitter) = (ledger.config.contact.as_str(), ledger.config.contact.domain());
    let report_id = report_id(ledger, outgoing);
    let start_s = outgoing.day * DAY_MS / 1_000;
    let unique = report_id.split_once('.').map_or("", |(_, rest)| rest.split('@').next().unwrap_or(rest));
    let text = format!(
        "This is a report about TLS in mail to {} on {} (RFC 8460), made by a program.\nOrganization: {}\nContact: {from}\n",
        outgoing.domain,
        iso_date(start_s),
        ledger.config.organization.replace(|c: char| !c.is_ascii_graphic() && c != ' ', "?"),
    );
    let message_id = format!("<{id}@{submitter}>");
    let content = compose(&ReportMail {
        from,
        to: to.as_str(),
        domain: &outgoing.domain,
        submitter,
        report_id: &report_id,
        date: &rfc5322_date(now_ms),
        message_id: &message_id,
        file_name: &file_name(submitter, &outgoing.domain, (start_s, outgoing.end_s), unique),
        text: &text,
        packed,
    });
    let directory = shared.directory();
    let sealed = seal(&shared.sealer, &directory, Some(from.as_bytes()), content, false, now_ms).await;
    let (content, eight_bit) = sealed.map_err(|refusal| refusal.reply.to_string())?;
    let key = format!("{report_id} {to}");
    let new = Arc::new(Message {
        id,
        accepted_ms: now_ms,
        sender: NAME.into(),
        stream: default_stream(),
        priority: DEFAULT_PRIORITY,
        reverse_path: ReversePath(None),
        parameters: MailParameters { tls_optional: true, smtputf8: to.needs_smtputf8(), ..MailParameters::default() },
        size: u32::try_from(content.len()).unwrap_or(u32::MAX),
        eight_bit,
        not_before_ms: None,
        expires_ms: now_ms + DAY_MS,
        details: Arc::new(MessageDetails {
            subject: Some(format!("Report Domain: {} Submitter: {submitter}", outgoing.domain)),
            from: Some(from.to_owned()),
            message_id: Some(message_id),
            origin: Some(Origin { protocol: "LOCAL".into(), address: None, helo: None }),
            ..MessageDetails::default()
        }),
    });
    let idempotency = Idempotency { sender: NAME.into(), key, fingerprint: [0; 32], answer: id.to_string() };
    let recipient = Recipient { address: to, parameters: RcptParameters::default() };
    let plan = Admission::plan(shared, &directory, &new, &content, vec![recipient], Vec::new());
    let (recipients, admission) = plan.map_err(|refusal| refusal.reply.to_string())?;
    let new = NewMessage { idempotency: Some(idempotency), ..NewMessage::plain(new, content, recipients, shared.run) };
    admission.commit(new).await.map(drop).map_err(|refusal| refusal.reply.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_leave_within_hours_after_their_day_and_not_all_at_once() {
        let of = |domain: &str| first_ms(20_000, domain, "relay.test") - 20_001 * DAY_MS;
        let all: Vec<i64> = (0..200).map(|n| of(&format!("d{n}.test"))).collect();
        assert!(all.iter().all(|ms| (REST_MS..REST_MS + 3 * 3_600_000).contains(ms)));
        assert!(all.iter().max().unwrap() - all.iter().min().unwrap() > 2 * 3_600_000);
        assert_eq!(of("d1.test"), all[1], "the same after a restart");
    }

    #[test]
    fn what_fails_is_tried_less_and_less_often_for_a_day() {
        let mut row = Row::default();
        let mut now_ms = 0;
        let mut pauses = Vec::new();
        while row.sending.state == SendState::Open {
            conclude(&mut row, Some("no".into()), 0, now_ms);
            pauses.push((row.sending.due_ms - now_ms) / 60_000);
            now_ms = row.sending.due_ms;
        }
        assert_eq!((row.sending.state, &pauses[..6]), (SendState::GivenUp, &[10, 20, 40, 80, 160, 240][..]));
        assert!(now_ms > DAY_MS && now_ms <= DAY_MS + MOST_PAUSE_MS);
        let mut row = Row::default();
        conclude(&mut row, None, 0, 100 * DAY_MS);
        assert_eq!(row.sending.state, SendState::Sent, "late is better than never");
    }
}
