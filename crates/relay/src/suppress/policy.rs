//! What counts against an address, and how much of it suppresses. Pure.
//!
//! Only what the rule base explains as this recipient's own: the mailbox does not exist, is closed, is full; and complaints. Never
//! the reputation of our address, a credential, content or rate, and never a refusal whose words nobody knows: such a `550` may
//! mean anything. A 5.1.1 with unknown words counts, but not alone.

use explain::{Basis, Owner, Query, Reason, Retry, Rule, RuleBase, Scope};
use proto::smtp::reply::{EnhancedCode, Reply};
use proto::transcript::Stage;
use store::{Cause, EventKind, Severity, SuppressionReason};

/// How much suppresses, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold {
    /// On how many different days, unless one is enough because the server left no doubt.
    pub need: u32,
    /// Within how many days.
    pub within_days: u32,
    /// Days until it is tried again; `None`: never.
    pub keep_days: Option<u32>,
}

/// A threshold for each reason; `None`: never by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// No such mailbox.
    pub unknown_user: Option<Threshold>,
    /// Disabled or given up.
    pub mailbox_closed: Option<Threshold>,
    /// Full for long.
    pub mailbox_full: Option<Threshold>,
    /// Called unwanted.
    pub complaint: Option<Threshold>,
}

impl Default for Policy {
    fn default() -> Self {
        let threshold = |need, within_days, keep_days| Some(Threshold { need, within_days, keep_days });
        Self {
            unknown_user: threshold(2, 30, Some(180)),
            mailbox_closed: threshold(2, 30, Some(180)),
            mailbox_full: threshold(5, 14, Some(30)),
            complaint: threshold(1, 1, None),
        }
    }
}

impl Policy {
    /// The threshold of a reason.
    pub fn of(&self, reason: SuppressionReason) -> Option<Threshold> {
        match reason {
            SuppressionReason::UnknownUser => self.unknown_user,
            SuppressionReason::MailboxClosed => self.mailbox_closed,
            SuppressionReason::MailboxFull => self.mailbox_full,
            SuppressionReason::Complaint => self.complaint,
            SuppressionReason::OptOut | SuppressionReason::Manual => None,
        }
    }
}

/// What an event says against its recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// Why.
    pub reason: SuppressionReason,
    /// Once is enough.
    pub certain: bool,
}

/// What an event says against its recipient, if anything.
pub fn charge(rules: &RuleBase, kind: EventKind, severity: Option<Severity>, cause: Option<&Cause>) -> Option<Charge> {
    let hard = severity != Some(Severity::Soft);
    match kind {
        EventKind::Complained => Some(Charge { reason: SuppressionReason::Complaint, certain: true }),
        EventKind::Failed => by_cause(rules, cause?),
        EventKind::Bounced if hard => by_cause(rules, cause?),
        // Tried until its time was over: only a mailbox that stays full is told from a server that is slow to wake.
        EventKind::Expired | EventKind::Bounced => {
            by_cause(rules, cause?).filter(|charge| charge.reason == SuppressionReason::MailboxFull)
        }
        _ => None,
    }
}

fn by_cause(rules: &RuleBase, cause: &Cause) -> Option<Charge> {
    let reply = cause.failure.reply()?;
    let finding = rules.judge(&Query::failure(cause.stage, &cause.failure).at(cause.provider.as_deref()))?;
    let rule = rules.rule(&finding.rule)?;
    let about_the_recipient = matches!(cause.stage, Stage::Recipient | Stage::Message)
        && rule.scope == Scope::Recipient
        && matches!(rule.owner, Owner::You | Owner::Recipient);
    let reason = match rule.reason {
        Reason::MailboxUnknown => SuppressionReason::UnknownUser,
        Reason::MailboxDisabled => SuppressionReason::MailboxClosed,
        Reason::MailboxFull => SuppressionReason::MailboxFull,
        _ => return None,
    };
    let final_ = reply.class() == 5 || reason == SuppressionReason::MailboxFull;
    if !about_the_recipient || !final_ || !is_said(finding.basis, reason, reply) {
        return None;
    }
    Some(Charge { reason, certain: is_certain(rule, finding.basis, reason, reply) })
}

/// The server said so: in words that are known, or by the very code that means it. A bare `550` says nothing.
fn is_said(basis: Basis, reason: SuppressionReason, reply: &Reply) -> bool {
    match basis {
        Basis::Text => true,
        Basis::Enhanced => reply.enhanced().is_some_and(|code| means(code, reason)),
        Basis::Failure | Basis::Code | Basis::Class => false,
    }
}

/// RFC 3463 §3.2, §3.3: the code that means this and nothing else.
fn means(EnhancedCode(_, subject, detail): EnhancedCode, reason: SuppressionReason) -> bool {
    match reason {
        // X.1.10 in Exchange's sense; RFC 7505 gives it to domains that take no mail.
        SuppressionReason::UnknownUser => matches!((subject, detail), (1, 1 | 10)),
        SuppressionReason::MailboxClosed => (subject, detail) == (2, 1),
        SuppressionReason::MailboxFull => (subject, detail) == (2, 2),
        _ => false,
    }
}

/// Words and code agree, or a provider's own words say it and its code does not contradict. A mailbox is full for long where
/// the server says that waiting is useless.
fn is_certain(rule: &Rule, basis: Basis, reason: SuppressionReason, reply: &Reply) -> bool {
    if basis != Basis::Text {
        return false;
    }
    if reason == SuppressionReason::MailboxFull {
        return rule.retry == Retry::Stop && reply.class() == 5;
    }
    match reply.enhanced() {
        Some(code) if means(code, reason) => true,
        Some(EnhancedCode(_, subject, _)) => rule.provider.is_some() && matches!(subject, 1 | 2),
        None => rule.provider.is_some(),
    }
}

/// Whether a final failure is a bounce in the sense of providers, who count those against the account that sends: the address
/// was wrong. Full mailboxes and recipients who want nothing are not.
pub(crate) fn is_bounce(rules: &RuleBase, kind: EventKind, severity: Option<Severity>, cause: Option<&Cause>) -> bool {
    let hard = kind == EventKind::Failed || kind == EventKind::Bounced && severity != Some(Severity::Soft);
    // A provider that reports a hard bounce need not say more.
    let Some(cause) = cause else { return hard && kind == EventKind::Bounced };
    let query = Query::failure(cause.stage, &cause.failure).at(cause.provider.as_deref());
    let rule = rules.judge(&query).and_then(|finding| rules.rule(&finding.rule));
    hard && rule.is_some_and(|rule| {
        rule.scope == Scope::Recipient
            && matches!(
                rule.reason,
                Reason::MailboxUnknown
                    | Reason::MailboxDisabled
                    | Reason::MailboxMoved
                    | Reason::RecipientSyntax
                    | Reason::RecipientSuppressed
                    | Reason::HostUnknown
                    | Reason::NullMx
            )
    })
}

#[cfg(test)]
mod tests;
