//! Clients that cannot sign in here, as alerts: one address that guesses, many addresses, a sender whose password is old, and a
//! guess that hit.
//!
//! Each node sees its own clients and raises what it sees every minute. The one that leads ends what no node raises any more,
//! also what an earlier run has left.

use std::collections::{BTreeMap, HashSet};

use relay::incident::signins::{FailedSignIns, SignInBy};

use crate::alert::{Alert, AlertRule, Alerts, Severity};

/// How the keys of these alerts begin.
const PREFIX: &str = "auth-incoming:";
/// What is still seen is raised again so often, milliseconds.
const AGAIN_MS: i64 = 60_000;
/// What no node has raised for so long is over, milliseconds.
const OVER_MS: i64 = 150_000;

/// What is looked back at, milliseconds.
const LATELY_MS: i64 = 600_000;
/// Failures from one address that are told.
const FROM_ONE: usize = 15;
/// Failures with a sender's name that are told: a program whose password is old tries again and again.
const OF_SENDER: usize = 15;
/// Failures in all, and addresses, that are told.
const FROM_MANY: (usize, usize) = (60, 8);
/// Failures before a success that make it look like a guess that hit.
const GUESSED: u64 = 15;
/// Alerts at once.
const MOST: usize = 50;

/// What this node saw last.
#[derive(Debug, Default)]
pub struct Watch {
    seen: HashSet<String>,
    /// When all of it was raised last, Unix milliseconds.
    raised_ms: i64,
    /// Which time it is that this node leads, and since when, Unix milliseconds.
    leads: Option<(u64, i64)>,
}

impl Watch {
    /// Looks at the failed sign-ins of the last minutes. `term`: which time it is that this node leads; `None`: another does.
    pub async fn look(&mut self, alerts: &Alerts, list: &[FailedSignIns], term: Option<u64>, now_ms: i64) {
        if self.leads.map(|(term, _)| term) != term {
            self.leads = term.map(|term| (term, now_ms));
        }
        let again = !(0..AGAIN_MS).contains(&(now_ms - self.raised_ms));
        if again {
            self.raised_ms = now_ms;
        }
        let found = found(list, now_ms);
        let seen = found.iter().map(|alert| alert.key.clone()).collect();
        for alert in found {
            if again || !self.seen.contains(&alert.key) {
                alerts.raise(alert).await;
            }
        }
        self.seen = seen;
        // Before that it is not known whether what was raised at an earlier time goes on.
        if again && self.leads.is_some_and(|(_, since_ms)| now_ms - since_ms >= LATELY_MS) {
            self.end(alerts, now_ms).await;
        }
    }

    async fn end(&self, alerts: &Alerts, now_ms: i64) {
        for raised in alerts.raised().await {
            let key = &raised.entry.alert.key;
            if key.starts_with(PREFIX) && !self.seen.contains(key) && now_ms - raised.entry.last_ms >= OVER_MS {
                alerts.resolve(key, "no more of it for ten minutes").await;
            }
        }
    }
}

/// What is worth telling, by what it is about.
fn found(list: &[FailedSignIns], now_ms: i64) -> Vec<Alert> {
    let from_ms = now_ms - LATELY_MS;
    let lately: Vec<(&FailedSignIns, usize)> =
        list.iter().map(|one| (one, one.since(from_ms))).filter(|(_, n)| *n > 0).collect();
    let mut alerts = Vec::new();
    let (mut by_address, mut by_sender) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
    for one in &lately {
        by_address.entry(one.0.address).or_default().push(*one);
        if one.0.exists {
            by_sender.entry(one.0.name.as_str()).or_default().push(*one);
        }
    }
    let sum = |group: &[(&FailedSignIns, usize)]| group.iter().map(|(_, n)| n).sum::<usize>();
    for (address, group) in &by_address {
        let n = sum(group);
        if n >= FROM_ONE {
            alerts.push(alert(
                format!("auth-incoming:address:{address}"),
                Severity::Warning,
                format!("{n} failed sign-ins from {address} in ten minutes"),
                format!(
                    "{address} tried to sign in and was refused {n} times in ten minutes. Each further try costs it more time; nobody is \
                     locked out. If it is one of yours, its password or key is wrong; if not, a firewall can keep it away, or \
                     `pillarbox sender set NAME --network CIDR` says from where a sender may connect."
                ),
                group,
            ));
        }
    }
    for (name, group) in &by_sender {
        let n = sum(group);
        if n >= OF_SENDER {
            alerts.push(alert(
                format!("auth-incoming:sender:{name}"),
                Severity::Problem,
                format!("{n} failed sign-ins as sender {name} in ten minutes"),
                format!(
                    "Somebody who calls themselves {name} was refused {n} times in ten minutes. A program with an old password does that: \
                     its mail waits where it is. Give it the password it should have, or make a new one with `pillarbox sender password {name}`."
                ),
                group,
            ));
        }
    }
    let (n, addresses) = (sum(&lately), by_address.len());
    if n >= FROM_MANY.0 && addresses >= FROM_MANY.1 {
        alerts.push(alert(
            "auth-incoming:many".into(),
            Severity::Problem,
            format!("{n} failed sign-ins from {addresses} addresses in ten minutes"),
            "Many addresses guess passwords here at the same time. Consider to let the listener be reached from your own networks only."
                .into(),
            &lately,
        ));
    }
    for (one, n) in &lately {
        if one.right_ms.is_some_and(|at| at >= from_ms && at >= one.last_ms)
            && one.times >= GUESSED
            && one.by == SignInBy::Smtp
        {
            let name = &one.name;
            alerts.push(alert(
                format!("auth-incoming:guessed:{name}"),
                Severity::Critical,
                format!("{} signed in as {name} after {} wrong passwords", one.address, one.times),
                format!(
                    "The password of sender {name} was wrong {} times from {} and then right: perhaps it was guessed. Make a new one with \
                     `pillarbox sender password {name}`, and look at its mail with `pillarbox queue ls --sender {name}`.",
                    one.times, one.address
                ),
                &[(one, *n)],
            ));
        }
    }
    alerts.truncate(MOST);
    alerts
}

fn alert(key: String, severity: Severity, title: String, text: String, group: &[(&FailedSignIns, usize)]) -> Alert {
    let mut group = group.to_vec();
    group.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let shown = |(one, n): &(&FailedSignIns, usize)| {
        let name = if one.name.is_empty() { one.by.as_str() } else { &one.name };
        (one.address.to_string(), format!("{name}: {n} times"))
    };
    let about = group.iter().take(10).map(shown).collect();
    Alert { key, rule: AlertRule::AuthIncoming, severity, title, text, about, avoid: Vec::new(), link: None }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use net::Clock;
    use store::Store;
    use store::sqlite::{Options, SqliteStore};

    use super::*;

    fn failed(address: &str, name: &str, times: u64, last_ms: i64) -> FailedSignIns {
        FailedSignIns {
            address: address.parse().unwrap(),
            name: name.into(),
            exists: name == "app",
            by: SignInBy::Smtp,
            times,
            first_ms: last_ms - times as i64 * 1_000,
            last_ms,
            lately: (0..times.min(32) as i64).rev().map(|n| last_ms - n * 1_000).collect(),
            right_ms: None,
        }
    }

    const MINUTE: Duration = Duration::from_secs(60);

    async fn raised(alerts: &Alerts) -> Vec<String> {
        alerts.raised().await.into_iter().map(|one| one.entry.alert.key).collect()
    }

    #[tokio::test]
    async fn what_is_raised_ends_after_a_restart_and_not_while_another_node_sees_it() {
        let place = tempfile::tempdir().unwrap();
        let clock = Clock::manual(1_790_000_000_000);
        let keyring = store::secret::Keyring::from_key(&[7; 32]);
        let store: Arc<dyn Store> = SqliteStore::open(Options::new(place.path(), keyring), clock.now_ms()).unwrap();
        let guesses = |now_ms: i64| [failed("192.0.2.1", "root", 20, now_ms)];
        let key = "auth-incoming:address:192.0.2.1";
        let now = || clock.now_ms();
        let alerts = Alerts::new(store.clone(), clock.clone());
        Watch::default().look(&alerts, &guesses(now()), Some(1), now()).await;
        assert_eq!(raised(&alerts).await, [key]);

        // The server is started anew, and this node hears of nothing; another one does, for half an hour.
        let alerts = Alerts::new(store.clone(), clock.clone());
        let (mut leads, mut other) = (Watch::default(), Watch::default());
        for _ in 0..30 {
            clock.advance(MINUTE);
            other.look(&alerts, &guesses(now()), None, now()).await;
            leads.look(&alerts, &[], Some(1), now()).await;
            assert_eq!(raised(&alerts).await, [key]);
        }
        for _ in 0..4 {
            clock.advance(MINUTE);
            other.look(&alerts, &[], None, now()).await;
            leads.look(&alerts, &[], Some(1), now()).await;
        }
        assert!(raised(&alerts).await.is_empty());

        // Nobody hears of it any more after a restart: it ends when that is known.
        leads.look(&alerts, &guesses(now()), Some(1), now()).await;
        let alerts = Alerts::new(store.clone(), clock.clone());
        let mut leads = Watch::default();
        for minute in 0..=10 {
            leads.look(&alerts, &[], Some(1), now()).await;
            assert_eq!(raised(&alerts).await.len(), usize::from(minute < 10), "{minute}");
            clock.advance(MINUTE);
        }
        store.close().await.unwrap();
    }

    fn keys(list: &[FailedSignIns]) -> Vec<String> {
        found(list, 10_000_000).into_iter().map(|alert| alert.key).collect()
    }

    #[test]
    fn one_guesser_an_old_password_many_guessers_and_a_hit_are_told_and_a_slip_is_not() {
        let now = 10_000_000;
        assert_eq!(keys(&[failed("192.0.2.1", "app", 3, now)]), [""; 0]);
        assert_eq!(keys(&[failed("192.0.2.1", "root", 20, now)]), ["auth-incoming:address:192.0.2.1"]);
        assert_eq!(keys(&[failed("192.0.2.1", "root", 20, now - LATELY_MS - 1)]), [""; 0], "long over");
        let spread: Vec<_> = (1..=5).map(|n| failed(&format!("192.0.2.{n}"), "app", 4, now)).collect();
        assert_eq!(keys(&spread), ["auth-incoming:sender:app"]);
        let many: Vec<_> = (1..=20).map(|n| failed(&format!("192.0.2.{n}"), "info", 4, now)).collect();
        assert_eq!(keys(&many), ["auth-incoming:many"]);
        let hit = FailedSignIns { right_ms: Some(now + 1), ..failed("192.0.2.1", "app", 20, now) };
        assert!(keys(&[hit]).contains(&"auth-incoming:guessed:app".to_owned()));
    }
}
