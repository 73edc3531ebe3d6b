//! Why a bounce came: the words about each recipient judged by the rules, and whether the address is done for.

use explain::{Basis, Finding, Query, Reason, RuleBase};
use proto::report::{Action, Bounce, BouncedRecipient};
use proto::transcript::Stage;
use serde::Serialize;

/// Whether mail to this address can ever arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hardness {
    /// The address or its domain does not exist (any more): send no more.
    Hard,
    /// Anything that can change: a full mailbox, a block, content, time.
    Soft,
    /// It arrived.
    None,
}

/// The finding for a recipient: from the words about it, else from the words of the whole report.
pub fn judge(
    base: &RuleBase,
    bounce: &Bounce,
    recipient: &BouncedRecipient,
    provider: Option<&str>,
) -> Option<Finding> {
    let by_host =
        || recipient.remote_mta.as_deref().and_then(|host| base.provider_of_host(host)).map(|found| found.id.as_str());
    let provider = provider.or_else(by_host);
    let words = words_of(recipient);
    let first = base.judge(&Query { stage: stage_of(&words), ..Query::text(&words).at(provider) });
    if first.as_ref().is_some_and(is_firm) {
        return first;
    }
    // Words for people around the reply; the report's own subject says it in some forms.
    let others = [bounce.notice.as_str(), bounce.subject.as_deref().unwrap_or_default()];
    let by_notice = others
        .iter()
        .filter(|words| !words.is_empty())
        .find_map(|words| base.judge(&Query::text(words)).filter(is_firm));
    let is_precise = |found: &Finding| found.basis == Basis::Enhanced && !is_vague(found.reason);
    match first {
        Some(first) if is_precise(&first) => Some(first),
        first => by_notice.or(first).or_else(|| base.judge(&Query::text(unsaid(recipient.action)))),
    }
}

/// The command that was refused, where the words tell it.
fn stage_of(words: &str) -> Option<Stage> {
    let lower = words.to_ascii_lowercase();
    let says = |marks: &[&str]| marks.iter().any(|mark| lower.contains(mark));
    if says(&["reply to rcpt to", "after rcpt to", "smtp:rcpt", "rcpt to:", "rcpt command"]) {
        Some(Stage::Recipient)
    } else if says(&[
        "reply to end of data",
        "reply to data",
        "after end of data",
        "after data",
        "smtp:data",
        "after pipelined data",
    ]) {
        Some(Stage::Message)
    } else if says(&["reply to mail from", "after mail from"]) {
        Some(Stage::Sender)
    } else {
        None
    }
}

/// A report that gives neither code nor known words still says that it failed, or that it is late.
const fn unsaid(action: Action) -> &'static str {
    if matches!(action, Action::Delayed) { "499 not said" } else { "599 not said" }
}

/// The reply as the rules read one: codes in front, from the fields where the words have none.
fn words_of(recipient: &BouncedRecipient) -> String {
    let words = recipient.diagnostic.as_str();
    let has = |code: &str| words.contains(code);
    let code = recipient.code.map(|code| code.to_string()).filter(|code| !has(code));
    let status = recipient.status.map(|status| status.to_string()).filter(|status| !has(status));
    match (code, status) {
        // A reply inside of the words is unwrapped by the rules.
        _ if recipient.code.is_some_and(|code| has(&code.to_string())) => words.to_owned(),
        (Some(code), Some(status)) => format!("{code} {status} {words}"),
        (Some(code), None) => format!("{code} {words}"),
        (None, Some(status)) => format!("{status} {words}"),
        (None, None) => words.to_owned(),
    }
}

/// Whether the words themselves were known, and say something.
fn is_firm(found: &Finding) -> bool {
    !found.is_by_class() && !is_vague(found.reason)
}

const fn is_vague(reason: Reason) -> bool {
    matches!(reason, Reason::RefusedPermanently | Reason::RefusedTemporarily | Reason::InnerReply)
}

/// Hard only where the address itself is the cause and the last word was no temporary one; all else is soft, since an
/// address taken off a list by mistake costs more than one more attempt.
pub fn hardness(recipient: &BouncedRecipient, finding: Option<&Finding>) -> Hardness {
    match recipient.action {
        Action::Delivered | Action::Relayed | Action::Expanded => return Hardness::None,
        Action::Delayed => return Hardness::Soft,
        Action::Failed => {}
    }
    let class = recipient.code.map(|code| code / 100).or_else(|| recipient.status.map(|status| u16::from(status.0)));
    // A code alone says too little about an address.
    let reason = finding.filter(|found| !matches!(found.basis, Basis::Code | Basis::Class)).map(|found| found.reason);
    let address = matches!(
        reason,
        Some(
            Reason::MailboxUnknown
                | Reason::MailboxMoved
                | Reason::HostUnknown
                | Reason::NoAddress
                | Reason::NullMx
                | Reason::RecipientSyntax
        )
    );
    if address && class != Some(4) { Hardness::Hard } else { Hardness::Soft }
}
