//! Clients that cannot sign in here, as alerts: one address that guesses, many addresses, a sender whose password is old, and a
//! guess that hit.

use std::collections::{BTreeMap, HashSet};

use relay::incident::signins::{FailedSignIns, SignInBy};

use crate::alert::{Alert, AlertRule, Severity};
use crate::http::Shared;

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

/// What was told and is not over.
#[derive(Debug, Default)]
pub struct Watch(HashSet<String>);

impl Watch {
    /// Looks at the failed sign-ins of the last minutes.
    pub async fn look(&mut self, app: &Shared, list: &[FailedSignIns], now_ms: i64) {
        let found = found(list, now_ms);
        let keys: HashSet<String> = found.iter().map(|alert| alert.key.clone()).collect();
        for alert in found {
            if !self.0.contains(&alert.key) {
                app.alerts.raise(alert).await;
            }
        }
        for key in self.0.difference(&keys) {
            app.alerts.resolve(key, "no more of it for ten minutes").await;
        }
        self.0 = keys;
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
