//! What engines decide alike about the queue: what is refused, how mail starts, and how the queue is summed up.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::StoreError;
use crate::encode::Wish;
use crate::model::*;

/// Refuses what no engine could store.
pub(crate) fn check_message(new: &NewMessage) -> Result<(), StoreError> {
    if new.recipients.is_empty() {
        return Err(StoreError::Invalid("a message needs at least one recipient".into()));
    }
    if new.content.len() > u32::MAX as usize {
        return Err(StoreError::Invalid("a message may have at most 4 GiB".into()));
    }
    if new.message.id.0 <= 0 {
        return Err(StoreError::Invalid("a message id is a positive number".into()));
    }
    Ok(())
}
/// The first states as they are where some recipients were folded.
pub(crate) fn starts<'a>(planned: &'a [NewRecipient], folded: &HashMap<u32, i64>) -> Cow<'a, [NewRecipient]> {
    if folded.is_empty() {
        return Cow::Borrowed(planned);
    }
    let mut recipients = planned.to_vec();
    for (n, recipient) in recipients.iter_mut().enumerate() {
        if folded.contains_key(&(n as u32)) {
            recipient.start = Start::Held(FOLDED.into());
        }
    }
    Cow::Owned(recipients)
}

/// Why collected mail is held.
pub(crate) const FOLDED: &str = "digest: collected with equal mail, told of at the end of the window";

/// A hold's reason and who gave it, for the event.
pub(crate) fn hold_words(why: &str, who: &str) -> String {
    if who.is_empty() { why.to_owned() } else { format!("{why} (by {who})") }
}
/// Refuses selectors that mean nothing or, for changes, everything by accident.
pub(crate) fn check_selector(selector: &Selector, changes: bool) -> Result<(), StoreError> {
    if selector.n.is_some() && selector.message.is_none() {
        return Err(StoreError::Invalid("a recipient number needs a message".into()));
    }
    if selector.batch.is_some() && (selector.message.is_some() || selector.state.is_some_and(State::is_final)) {
        return Err(StoreError::Invalid(
            "a batch selects recipients that are not final, and no message beside it".into(),
        ));
    }
    if changes && *selector == Selector::default() {
        return Err(StoreError::Invalid("say which recipients: an empty selection is refused".into()));
    }
    Ok(())
}

/// An address as it is stored: domain in lower case.
pub(crate) fn stored_address(text: &str) -> String {
    match proto::Address::parse(text) {
        Ok(address) => address.as_str().to_owned(),
        Err(_) => text.to_owned(),
    }
}

/// A kind of event by its number.
pub(crate) fn event_kind(number: u8) -> Result<EventKind, StoreError> {
    Ok(match number {
        0 => EventKind::Accepted,
        1 => EventKind::Deferred,
        2 => EventKind::Delivered,
        3 => EventKind::Failed,
        4 => EventKind::Expired,
        5 => EventKind::Held,
        6 => EventKind::Released,
        7 => EventKind::Canceled,
        8 => EventKind::Suppressed,
        9 => EventKind::Bounced,
        10 => EventKind::Complained,
        11 => EventKind::Quarantined,
        12 => EventKind::WillBeLate,
        other => return Err(StoreError::Internal(format!("event kind {other} is not known"))),
    })
}

/// Priority of urgent mail.
pub(crate) const URGENT: u8 = 0;

/// What a group adds up to.
#[derive(Default)]
pub(crate) struct Sums {
    pub(crate) pending: i64,
    pub(crate) urgent: i64,
    pub(crate) held: i64,
    pub(crate) due: Option<i64>,
}

impl Sums {
    /// Adds another group.
    pub(crate) fn add(&mut self, other: &Self) {
        self.pending += other.pending;
        self.urgent += other.urgent;
        self.held += other.held;
        self.due = [self.due, other.due].into_iter().flatten().min();
    }
}

/// The groups with most pending, in order. Only those that are shown are sorted: most of 100,000 domains have one or two
/// recipients, and each comparison of such equals looks at their names.
pub(crate) fn largest(groups: HashMap<String, Sums>, limit: usize) -> Vec<QueueCount> {
    let mut groups: Vec<(String, Sums)> = groups.into_iter().collect();
    let order = |a: &(String, Sums), b: &(String, Sums)| {
        (b.1.pending, b.1.held).cmp(&(a.1.pending, a.1.held)).then_with(|| a.0.cmp(&b.0))
    };
    if groups.len() > limit {
        groups.select_nth_unstable_by(limit, order);
        groups.truncate(limit);
    }
    groups.sort_unstable_by(order);
    let count = |(group, sums): (String, Sums)| QueueCount {
        group,
        pending: sums.pending as u64,
        urgent: sums.urgent as u64,
        held: sums.held as u64,
        next_due_ms: sums.due,
    };
    groups.into_iter().map(count).collect()
}

/// A due time further away than this is from a broken clock.
pub(crate) const FURTHEST_MS: i64 = 30 * 86_400_000;
/// An expired message that was never attempted waits this much longer: a clock that jumped ahead must not end mail that
/// nobody tried to deliver.
pub(crate) const GRACE_MS: i64 = 3_600_000;

/// What a message that was held without growing older has left at least, milliseconds.
pub(crate) const LEFT_MS: i64 = 86_400_000;

/// Notes an operator's wish on a leased recipient; false if it changes nothing. A release only takes back a hold; a cancel
/// is not taken back.
pub(crate) fn note_wish(noted: &mut Option<Wish>, wish: &Wish) -> bool {
    let before = noted.as_ref().map(|noted| &noted.operation);
    if matches!(before, Some(Operation::Cancel)) {
        return false;
    }
    match &wish.operation {
        Operation::Release => {
            let held = matches!(before, Some(Operation::Hold(_)));
            if held {
                *noted = None;
            }
            held
        }
        Operation::Retry if before.is_some() => false,
        Operation::Hold(_) if wish.who.is_empty() && matches!(before, Some(Operation::Hold(_))) => false,
        _ => {
            *noted = Some(wish.clone());
            true
        }
    }
}
