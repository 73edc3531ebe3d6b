//! The limits of a route with where each comes from: the preset of its provider, or whoever set it.

use explain::{Preset, presets};
use relay::route::RouteRecord;
use serde::Serialize;

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// As the route's record names it.
    pub name: &'static str,
    /// What it counts.
    pub words: &'static str,
    /// What the route keeps; nothing: no limit but the general ones.
    pub value: Option<u32>,
    /// What the preset of the provider says.
    pub preset: Option<u32>,
    /// `preset microsoft365`, `set here; preset microsoft365 says 25`, …
    pub source: String,
}

/// All limits that the route has or its provider's preset knows.
pub fn of(record: &RouteRecord) -> Vec<Limit> {
    let preset = record.next_host().and_then(|host| preset_of(host, record));
    let pairs = pairs(record, preset);
    let known = pairs.into_iter().filter(|(_, _, value, advised)| value.is_some() || advised.is_some());
    known
        .map(|(name, words, value, advised)| Limit {
            name,
            words,
            value,
            preset: advised,
            source: source(value, advised, preset),
        })
        .collect()
}

/// The source of one limit in brackets behind its value; nothing where there is neither.
pub fn shown(limits: &[Limit], name: &str) -> String {
    limits.iter().find(|limit| limit.name == name).map_or_else(String::new, |limit| {
        let value = limit.value.map_or_else(|| "no limit".to_owned(), |value| value.to_string());
        format!("{value} ({})", limit.source)
    })
}

/// One service may have several presets, one for each plan: the one that the route keeps to most.
fn preset_of(host: &str, record: &RouteRecord) -> Option<&'static Preset> {
    let first = explain::preset_of_host(host)?;
    let same_host = presets().iter().filter(|preset| preset.host == first.host && preset.host.is_some());
    let kept = |preset: &&Preset| {
        let pairs = pairs(record, Some(preset));
        pairs.iter().filter(|(_, _, value, advised)| advised.is_some() && value == advised).count()
    };
    // The first of the best: the smaller plan stands before the larger one.
    same_host.rev().max_by_key(kept).or(Some(first))
}

type Pair = (&'static str, &'static str, Option<u32>, Option<u32>);

fn pairs(record: &RouteRecord, preset: Option<&Preset>) -> [Pair; 8] {
    let rates = record.rates.clone().unwrap_or_default();
    let advised = |of: fn(&Preset) -> Option<u32>| preset.and_then(of);
    [
        ("connections", "connections", record.connections, advised(|preset| preset.connections)),
        (
            "messages_per_connection",
            "messages per connection",
            record.messages_per_connection,
            advised(|preset| preset.messages_per_connection),
        ),
        (
            "recipients_per_transaction",
            "recipients per transaction",
            record.recipients_per_transaction,
            advised(|preset| preset.recipients_per_transaction),
        ),
        ("per_second", "messages a second", rates.per_second, advised(|preset| preset.per_second)),
        ("per_minute", "messages a minute", rates.per_minute, advised(|preset| preset.per_minute)),
        ("per_hour", "messages an hour", rates.per_hour, advised(|preset| preset.per_hour)),
        ("per_day", "messages a day", rates.per_day, advised(|preset| preset.per_day)),
        (
            "recipients_per_day",
            "recipients a day",
            rates.recipients_per_day,
            advised(|preset| preset.recipients_per_day),
        ),
    ]
}

fn source(value: Option<u32>, advised: Option<u32>, preset: Option<&Preset>) -> String {
    let id = preset.map_or("", |preset| preset.id.as_str());
    match (value, advised) {
        (Some(value), Some(advised)) if value == advised => format!("preset {id}"),
        (Some(_), Some(advised)) => format!("set here; preset {id} says {advised}"),
        (None, Some(advised)) => format!("preset {id} says {advised}"),
        (_, None) => "set here".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use explain::RuleBase;
    use serde_json::{Map, json};

    use super::*;
    use crate::presets::fill;

    fn limits(preset: &str, more: serde_json::Value) -> Vec<(&'static str, String)> {
        let preset = explain::preset(preset).unwrap();
        let mut body: Map<_, _> = more.as_object().unwrap().clone();
        fill(preset, &preset.host_in(None).unwrap(), None, RuleBase::builtin(), &mut body);
        let record: RouteRecord = serde_json::from_value(body.into()).unwrap();
        let all = of(&record);
        all.iter().map(|limit| (limit.name, shown(&all, limit.name))).collect()
    }

    #[test]
    fn a_route_of_a_preset_has_its_numbers_and_says_so_until_somebody_sets_another() {
        let is = |all: &[(&str, String)], name: &str| all.iter().find(|one| one.0 == name).unwrap().1.clone();
        let plain = limits("microsoft365", json!({}));
        assert_eq!(is(&plain, "per_minute"), "25 (preset microsoft365)");
        assert_eq!(is(&plain, "recipients_per_day"), "10000 (preset microsoft365)");
        assert_eq!(is(&plain, "connections"), "3 (preset microsoft365)");
        let own = limits("microsoft365", json!({"rates": {"per_minute": 10, "per_hour": 300}}));
        assert_eq!(is(&own, "per_minute"), "10 (set here; preset microsoft365 says 25)");
        assert_eq!(is(&own, "per_hour"), "300 (set here)");
        assert_eq!(is(&own, "recipients_per_day"), "10000 (preset microsoft365)");
        let graph = limits(
            "graph",
            json!({"username": "a@x.test", "oauth": {"provider": "microsoft", "grant": "refresh_token"}}),
        );
        assert_eq!(is(&graph, "per_minute"), "25 (preset microsoft365-graph)");
    }

    #[test]
    fn plans_that_share_a_host_are_told_apart_by_their_numbers() {
        for (plan, day) in [("gmail", "400 (preset gmail)"), ("workspace", "1900 (preset workspace)")] {
            let all = limits(plan, json!({}));
            assert!(all.contains(&("per_day", day.to_owned())), "{all:?}");
        }
    }

    #[test]
    fn what_a_preset_knows_and_the_route_does_not_keep_is_told() {
        let record = json!({"kind": "smarthost", "host": "smtp.office365.com"});
        let all = of(&serde_json::from_value(record).unwrap());
        assert_eq!(shown(&all, "per_minute"), "no limit (preset microsoft365 says 25)");
        let record = json!({"kind": "smarthost", "host": "mail.example.net", "connections": 2});
        let all = of(&serde_json::from_value(record).unwrap());
        assert_eq!((all.len(), shown(&all, "connections")), (1, "2 (set here)".into()));
    }
}
