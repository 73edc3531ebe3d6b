//! Drives one transaction: writes what `proto` says, feeds it the replies, sends the content.

use std::future::Future;
use std::time::Duration;

use proto::smtp::body;
use proto::smtp::client::{Plan, RecipientResult, State, Transaction, TransactionEnd};
use proto::transcript::{Fact, Failure, Stage, Step, Transcript};

use super::record::Mark;
use super::{Connection, Delivery, Recording};

/// Content up to this size is copied behind its dots into one buffer and leaves in one write. Above it, the copy
/// would cost more than the second write.
const ONE_WRITE: usize = 256 * 1024;
/// Buffers above this are not kept for the next message.
const KEEP: usize = 64 * 1024;

pub(super) async fn deliver(
    connection: &mut Connection,
    plan: &Plan<'_>,
    content: &[u8],
    before_dot: impl Future<Output = bool>,
) -> Delivery {
    let reused = connection.transactions > 0;
    let began = connection.recorder.now();
    let started_ms = connection.recorder.now_ms();
    let mut transaction = match Transaction::new(plan) {
        Ok(transaction) => transaction,
        Err(failure) => return unfit(connection, plan, failure, began),
    };
    connection.marks.clear();
    let mut failure = match ready(connection).await {
        Ok(()) => {
            connection.transactions += 1;
            drive(connection, &mut transaction, content, before_dot).await.err()
        }
        Err(failure) => Some((Stage::Sender, failure)),
    };
    if failure.is_some() {
        // A server that refuses MAIL and hangs up, with the rest of the pipeline unanswered, has refused all the same.
        transaction.link_died();
        failure = failure.filter(|_| transaction.outcome().is_none());
    }
    let stale = reused && is_stale(connection, failure.as_ref());
    connection.dirty = transaction.needs_reset();
    connection.dead = failure.is_some() || transaction.closing();
    connection.out.clear();
    if connection.out.capacity() > KEEP {
        connection.out = Vec::new();
    }
    let mut delivery = Delivery {
        results: transaction.recipients().to_vec(),
        end: transaction.outcome().cloned(),
        past_dot: failure.is_some() && transaction.past_dot(),
        failure,
        reusable: !connection.dead,
        stale,
        transcript: Transcript { started_ms, steps: Vec::new() },
    };
    write_transcript(connection, plan, &mut delivery, began, reused);
    delivery
}

/// The server cannot take this message; nothing was sent and the connection is as good as before.
fn unfit(connection: &Connection, plan: &Plan<'_>, failure: Failure, began: u64) -> Delivery {
    let step = Step {
        stage: Stage::Sender,
        started_us: 0,
        took_us: connection.recorder.now().saturating_sub(began),
        sent: None,
        reply: None,
        fact: None,
        failure: Some(failure.clone()),
    };
    Delivery {
        results: vec![RecipientResult::Pending; plan.recipients.len()],
        end: None,
        failure: Some((Stage::Sender, failure)),
        past_dot: false,
        reusable: !connection.dead,
        stale: false,
        transcript: Transcript { started_ms: connection.recorder.now_ms(), steps: vec![step] },
    }
}

/// Clears up what the last transaction left.
async fn ready(connection: &mut Connection) -> Result<(), Failure> {
    if connection.dead || connection.link.has_unread() {
        return Err(Failure::Disconnected);
    }
    if connection.dirty {
        connection.reset_quietly().await?;
    }
    Ok(())
}

/// The link broke before the server answered MAIL, or its answer was the good-bye of an idle connection.
fn is_stale(connection: &Connection, failure: Option<&(Stage, Failure)>) -> bool {
    match connection.marks.first() {
        None => {
            matches!(failure, Some((_, Failure::Disconnected | Failure::Refused(_) | Failure::TlsHandshake { .. })))
        }
        Some(mark) => mark.stage == Stage::Sender && mark.reply.code == 421,
    }
}

async fn drive(
    connection: &mut Connection,
    transaction: &mut Transaction,
    content: &[u8],
    before_dot: impl Future<Output = bool>,
) -> Result<(), (Stage, Failure)> {
    let mut before_dot = Some(before_dot);
    loop {
        match transaction.state() {
            State::NeedReply(stage) => {
                let batch = transaction.output();
                if !batch.is_empty() {
                    let sent = connection.link.send(batch, connection.timeouts.block).await;
                    batch.clear();
                    if let Err(failure) = sent {
                        last_words(connection, transaction, stage, failure).await?;
                        continue;
                    }
                }
                take_reply(connection, transaction, stage, None).await.map_err(|failure| (stage, failure))?;
            }
            State::SendContent => {
                let Some(before_dot) = before_dot.take() else {
                    return Err((Stage::Message, Failure::Local { reason: "content asked for twice".into() }));
                };
                match send_content(connection, content, before_dot).await {
                    Ok(()) => transaction.content_sent(),
                    Err(failure @ Failure::Local { .. }) => return Err((Stage::Message, failure)),
                    Err(failure) => last_words(connection, transaction, Stage::Message, failure).await?,
                }
            }
            State::Done => return Ok(()),
        }
    }
}

async fn take_reply(
    connection: &mut Connection,
    transaction: &mut Transaction,
    stage: Stage,
    limit: Option<Duration>,
) -> Result<(), Failure> {
    let timeouts = &connection.timeouts;
    let limit = limit.unwrap_or(match stage {
        Stage::Sender => timeouts.mail,
        Stage::Recipient => timeouts.rcpt,
        _ if transaction.past_dot() => timeouts.dot,
        _ => timeouts.data,
    });
    let started_us = connection.recorder.now();
    let reply = connection.link.reply(limit).await?;
    connection.marks.push(Mark {
        stage,
        recipient: transaction.current_recipient(),
        after_content: transaction.past_dot(),
        started_us,
        took_us: connection.recorder.now().saturating_sub(started_us),
        reply: reply.clone(),
    });
    transaction.reply(reply);
    Ok(())
}

/// Writing failed. A server that refuses and closes has often said why: one reply may be waiting.
async fn last_words(
    connection: &mut Connection,
    transaction: &mut Transaction,
    stage: Stage,
    failure: Failure,
) -> Result<(), (Stage, Failure)> {
    const LIMIT: Duration = Duration::from_secs(1);
    match take_reply(connection, transaction, stage, Some(LIMIT)).await {
        // Whatever it was, nothing can be written any more: only an end of the transaction is worth having.
        Ok(()) if transaction.state() == State::Done && transaction.closing() => Ok(()),
        _ => Err((stage, failure)),
    }
}

async fn send_content(
    connection: &mut Connection,
    content: &[u8],
    before_dot: impl Future<Output = bool>,
) -> Result<(), Failure> {
    let limit = connection.timeouts.block;
    connection.out.clear();
    if content.len() <= ONE_WRITE {
        body::stuff_into(content, &mut connection.out);
    } else {
        send_bulk(connection, content, limit).await?;
    }
    if !before_dot.await {
        return Err(Failure::Local { reason: "stopped before the final dot".into() });
    }
    connection.link.send(&connection.out, limit).await
}

/// Sends long runs from where they are; leaves the end of the content with its dot in the buffer.
async fn send_bulk(connection: &mut Connection, content: &[u8], limit: Duration) -> Result<(), Failure> {
    let mut slices = body::stuffed(content).peekable();
    while let Some(slice) = slices.next() {
        let last = slices.peek().is_none();
        let direct = !last && slice.len() >= KEEP;
        if !connection.out.is_empty() && (direct || connection.out.len() + slice.len() > KEEP) {
            connection.link.send(&connection.out, limit).await?;
            connection.out.clear();
        }
        if direct {
            connection.link.send(slice, limit).await?;
        } else {
            connection.out.extend_from_slice(slice);
        }
    }
    Ok(())
}

fn write_transcript(connection: &mut Connection, plan: &Plan<'_>, delivery: &mut Delivery, began: u64, reused: bool) {
    let clean = matches!(delivery.end, Some(TransactionEnd::Delivered(_)))
        && delivery.results.iter().all(|result| matches!(result, RecipientResult::Accepted));
    let full = !clean || connection.recording == Recording::Full;
    let count = connection.marks.len();
    let transcript = &mut delivery.transcript;
    if full && reused {
        let fact = Fact::Reused { transactions: connection.transactions.saturating_sub(1) };
        transcript.push(Step { fact: Some(fact), ..blank(Stage::Sender, 0, 0) });
    }
    for (index, mark) in connection.marks.drain(..).enumerate() {
        if !full && index + 1 < count {
            continue;
        }
        let expected = match (mark.stage, mark.after_content) {
            (Stage::Message, false) => 3,
            _ => 2,
        };
        let failure = (mark.reply.class() != expected).then(|| Failure::Refused(mark.reply.clone()));
        transcript.push(Step {
            sent: full.then(|| command(plan, &mark)),
            reply: Some(mark.reply),
            failure,
            ..blank(mark.stage, mark.started_us.saturating_sub(began), mark.took_us)
        });
    }
    if let Some((stage, failure)) = &delivery.failure {
        let at = connection.recorder.now().saturating_sub(began);
        let step = Step { failure: Some(failure.clone()), ..blank(*stage, at, 0) };
        // The last place is for the failure, whatever had to go.
        transcript.steps.truncate(Transcript::MAX_STEPS - 1);
        transcript.push(step);
    }
}

fn blank(stage: Stage, started_us: u64, took_us: u64) -> Step {
    Step { stage, started_us, took_us, sent: None, reply: None, fact: None, failure: None }
}

fn command(plan: &Plan<'_>, mark: &Mark) -> String {
    match (mark.stage, mark.recipient.and_then(|index| plan.recipients.get(index))) {
        (Stage::Sender, _) => format!("MAIL FROM:{}", plan.reverse_path),
        (_, Some((address, _))) => format!("RCPT TO:<{address}>"),
        _ if mark.after_content => format!("({} octets).", plan.size),
        _ => "DATA".into(),
    }
}
