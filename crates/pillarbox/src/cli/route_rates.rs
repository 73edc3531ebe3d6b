//! A route's rate limits, as they are typed and as they are shown.

use std::str::FromStr;

use clap::Args;
use relay::failover::Fallback;
use relay::schedule::limit::Rates;
use serde_json::{Map, Value};

/// How much a route may send in a second, a minute, an hour, a day.
#[derive(Debug, Clone, Default, Args)]
pub struct RateOptions {
    /// Most messages in any second.
    #[arg(long, value_name = "N")]
    pub per_second: Option<u32>,
    /// Most messages in any minute.
    #[arg(long, value_name = "N")]
    pub per_minute: Option<u32>,
    /// Most messages in any hour.
    #[arg(long, value_name = "N")]
    pub per_hour: Option<u32>,
    /// Most messages in any 24 hours.
    #[arg(long, value_name = "N")]
    pub per_day: Option<u32>,
    /// Most recipients in any 24 hours.
    #[arg(long, value_name = "N")]
    pub recipients_per_day: Option<u32>,
    /// Percent of each quota that only urgent mail (priority 0) may use; 10 unless said otherwise.
    #[arg(long, value_name = "PERCENT")]
    pub reserve: Option<u8>,
    /// Most messages in any second to each destination of an MX route.
    #[arg(long, value_name = "N")]
    pub destination_per_second: Option<u32>,
    /// Most messages in any minute to each destination of an MX route.
    #[arg(long, value_name = "N")]
    pub destination_per_minute: Option<u32>,
    /// Most messages in any hour to each destination of an MX route.
    #[arg(long, value_name = "N")]
    pub destination_per_hour: Option<u32>,
    /// Most messages in any 24 hours to each destination of an MX route.
    #[arg(long, value_name = "N")]
    pub destination_per_day: Option<u32>,
    /// Routes that take over while this one does not work, in this order; NAME=WEIGHT for neighbours that share mail; may
    /// be repeated, and replaces the list.
    #[arg(long, value_name = "NAME[=WEIGHT]")]
    pub fallback: Vec<FallbackArg>,
    /// How long nothing works before a fallback takes over, such as 5m (the default).
    #[arg(long, value_name = "DURATION")]
    pub failover_after: Option<String>,
}

/// A fallback as it is typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FallbackArg(Fallback);

impl FromStr for FallbackArg {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (route, weight) = match text.split_once('=') {
            Some((route, weight)) => (route, Some(weight.parse().map_err(|_| format!("{weight} is not a weight"))?)),
            None => (text, None),
        };
        Ok(Self(Fallback { route: route.to_owned(), weight }))
    }
}

impl RateOptions {
    /// The fields of the record that were typed.
    pub(super) fn put(&self, body: &mut Map<String, Value>) {
        if !self.fallback.is_empty() {
            let chain = self.fallback.iter().map(|one| serde_json::to_value(&one.0).unwrap_or_default()).collect();
            body.insert("fallback".into(), Value::Array(chain));
        }
        let mut put = |name: &str, values: &[(&str, Option<u32>)]| {
            let typed = values.iter().filter_map(|(field, value)| Some(((*field).to_owned(), Value::from((*value)?))));
            let typed: Map<String, Value> = typed.collect();
            if !typed.is_empty() {
                body.insert(name.into(), Value::Object(typed));
            }
        };
        put(
            "rates",
            &[
                ("per_second", self.per_second),
                ("per_minute", self.per_minute),
                ("per_hour", self.per_hour),
                ("per_day", self.per_day),
                ("recipients_per_day", self.recipients_per_day),
                ("reserve_percent", self.reserve.map(u32::from)),
            ],
        );
        put(
            "destination_rates",
            &[
                ("per_second", self.destination_per_second),
                ("per_minute", self.destination_per_minute),
                ("per_hour", self.destination_per_hour),
                ("per_day", self.destination_per_day),
            ],
        );
    }
}

/// `spare, then a (weight 3), b (weight 1)`.
pub(super) fn chain(fallback: &[Fallback]) -> String {
    let one = |fallback: &Fallback| match fallback.weight {
        Some(weight) => format!("{} (weight {weight})", fallback.route),
        None => fallback.route.clone(),
    };
    fallback.iter().map(one).collect::<Vec<_>>().join(", then ")
}

/// `25 a minute, 10000 recipients a day`.
pub(super) fn words(rates: Option<&Rates>) -> String {
    let Some(rates) = rates else { return String::new() };
    let all = [
        (rates.per_second, "a second"),
        (rates.per_minute, "a minute"),
        (rates.per_hour, "an hour"),
        (rates.per_day, "a day"),
        (rates.recipients_per_day, "recipients a day"),
    ];
    let mut parts: Vec<String> =
        all.iter().filter_map(|(limit, words)| Some(format!("{} {words}", (*limit)?))).collect();
    if let Some(percent) = rates.reserve_percent {
        parts.push(format!("{percent} % of them for urgent mail"));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_typed_is_changed_and_all_of_it_is_shown() {
        let mut body = Map::new();
        RateOptions::default().put(&mut body);
        assert!(body.is_empty());
        let typed = RateOptions { per_minute: Some(25), recipients_per_day: Some(10_000), ..RateOptions::default() };
        typed.put(&mut body);
        assert_eq!(
            Value::Object(body.clone()),
            serde_json::json!({ "rates": { "per_minute": 25, "recipients_per_day": 10_000 } })
        );
        let rates: Rates = serde_json::from_value(body["rates"].clone()).unwrap();
        assert_eq!(words(Some(&rates)), "25 a minute, 10000 recipients a day");
    }
}
