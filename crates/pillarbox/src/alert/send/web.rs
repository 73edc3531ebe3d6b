//! By HTTP: JSON of our own, signed as webhooks are, and the formats of Slack, Teams and PagerDuty.
//!
//! Formats as documented by their makers: Slack incoming webhooks (blocks), Teams workflows (an Adaptive Card in a message),
//! PagerDuty Events API v2. Each has limits; what does not fit is cut, never refused.

use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::{Sent, secret};
use crate::alert::channel::ChannelKind;
use crate::alert::entry::cut;
use crate::alert::rule::Severity;
use crate::alert::setting::Channel;
use crate::alert::text::{Item, sorted, subject, worst};
use crate::http::{Shared, time};
use crate::webhook::payload::Request;
use crate::webhook::post::{Answer, Poster};
use crate::webhook::sign::Secrets;

/// Alerts that are told with all their words; of more only the headlines.
const IN_FULL: usize = 8;
/// Longest text of one alert in chats.
const MOST_CHAT: usize = 1_500;

/// Tells a channel.
pub async fn send(app: &Shared, channel: &Channel, items: &[Item]) -> Sent {
    let poster = match poster(app, channel) {
        Ok(poster) => poster,
        Err(problem) => return Sent::failed(problem),
    };
    let bodies = match bodies(app, channel, items) {
        Ok(bodies) => bodies,
        Err(failed) => return failed,
    };
    let mut said = String::new();
    for (id, body) in bodies {
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let request = Request { id, kind: "alerts", about: String::new(), body };
        let answer = poster.post(&request).await;
        if !answer.taken() {
            return Sent::Failed { problem: problem(channel, &answer), wish_s: answer.retry_after };
        }
        said = format!("status {}", answer.status.unwrap_or_default());
    }
    Sent::Taken(said)
}

fn poster(app: &Shared, channel: &Channel) -> Result<Poster, String> {
    let record = &channel.record;
    let target = record.target(channel.secret.as_ref()).map_err(|(field, problem)| format!("its {field} {problem}"))?;
    let secrets = match record.kind {
        ChannelKind::Webhook => Some(Secrets::read(channel.secret.as_ref()).map_err(|error| error.to_string())?),
        _ => None,
    };
    Ok(Poster::new(app.hooks.net()?, target, record.guard(app.hooks.networks()), secrets, record.timeout))
}

/// In words; what is said in an answer may help, and addresses that are secrets never show.
fn problem(channel: &Channel, answer: &Answer) -> String {
    let said = answer.body.trim();
    let said = if said.is_empty() { String::new() } else { format!(": {}", cut(said, 200)) };
    let mut text = format!("{}{said}", answer.problem);
    if let Some(secret) = channel.secret.as_ref().filter(|_| channel.record.kind != ChannelKind::Webhook) {
        text = text.replace(secret.expose_secret(), "…");
    }
    text
}

/// Requests with their ids: one for all, or one for each where a format knows no groups.
fn bodies(app: &Shared, channel: &Channel, items: &[Item]) -> Result<Vec<(String, Value)>, Sent> {
    let hostname = &app.hostname;
    let one = |body: Value| Ok(vec![(id_of(items), body)]);
    match channel.record.kind {
        ChannelKind::Slack => one(slack(hostname, items)),
        ChannelKind::Teams => one(teams(hostname, items)),
        ChannelKind::Pagerduty => {
            let key = secret(channel)?.expose_secret();
            Ok(items.iter().map(|item| (item.entry.alert.key.clone(), pagerduty(hostname, key, item))).collect())
        }
        _ => one(own(hostname, items, app.clock.now_ms())),
    }
}

/// The same for the same alerts in the same state, so that a receiver tells repetitions.
fn id_of(items: &[Item]) -> String {
    let mut hash = blake3::Hasher::new();
    for item in items {
        let entry = &item.entry;
        let end = entry.resolved.as_ref().filter(|_| item.is_over()).map_or(0, |resolved| resolved.at_ms);
        hash.update(format!("{}\0{}\0{end}\0{:?}\0", entry.alert.key, entry.first_ms, item.severity).as_bytes());
    }
    format!("alerts_{}", &hash.finalize().to_hex()[..32])
}

fn own(hostname: &str, items: &[Item], now_ms: i64) -> Value {
    json!({
        "type": "alerts",
        "timestamp": time::show(now_ms),
        "data": { "hostname": hostname, "alerts": items.iter().map(Item::json).collect::<Vec<_>>() },
    })
}

/// Slack's markup knows three characters that have to be written otherwise.
fn slack_text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn mark(item: &Item) -> &'static str {
    match (item.is_over(), item.severity) {
        (true, _) => "\u{2705}",
        (_, Severity::Critical) => "\u{1f534}",
        (_, Severity::Problem) => "\u{1f7e0}",
        (_, Severity::Warning) => "\u{1f7e1}",
    }
}

fn slack(hostname: &str, items: &[Item]) -> Value {
    let title = subject(hostname, items);
    let mut blocks = vec![json!({ "type": "header", "text": { "type": "plain_text", "text": cut(&title, 140) } })];
    for (n, item) in sorted(items).into_iter().enumerate() {
        let head = format!("{} *{}*", mark(item), slack_text(&item.headline()));
        let text = match n < IN_FULL {
            true => format!("{head}\n{}", slack_text(&cut(item.details().trim(), MOST_CHAT))),
            false => head,
        };
        // Escaping makes it longer: at most five characters for one.
        blocks.push(json!({ "type": "section", "text": { "type": "mrkdwn", "text": cut(&text, 2_900) } }));
        if blocks.len() >= 49 {
            break;
        }
    }
    json!({ "text": slack_text(&title), "blocks": blocks })
}

fn teams(hostname: &str, items: &[Item]) -> Value {
    let style = match worst(items) {
        Some(Severity::Critical | Severity::Problem) => "attention",
        Some(Severity::Warning) => "warning",
        None => "good",
    };
    let text = |text: &str, more: Value| {
        let mut block = json!({ "type": "TextBlock", "text": text, "wrap": true });
        if let (Some(block), Value::Object(more)) = (block.as_object_mut(), more) {
            block.extend(more);
        }
        block
    };
    let mut body = vec![json!({
        "type": "Container", "style": style, "bleed": true,
        "items": [text(&subject(hostname, items), json!({ "weight": "bolder", "size": "medium" }))],
    })];
    let mut actions = Vec::new();
    for (n, item) in sorted(items).into_iter().enumerate() {
        let alert = &item.entry.alert;
        body.push(text(
            &format!("{} {}", mark(item), item.headline()),
            json!({ "weight": "bolder", "separator": true }),
        ));
        if n >= IN_FULL {
            continue;
        }
        // Two line ends are one in its markdown.
        let words = cut(&alert.text, MOST_CHAT).replace('\n', "\n\n");
        body.push(text(&words, json!({})));
        let json = item.json();
        let mut facts: Vec<Value> =
            json.about.iter().map(|(name, value)| json!({ "title": name, "value": cut(value, 200) })).collect();
        facts.truncate(12);
        facts.push(json!({ "title": "since", "value": json.since }));
        if let (Some(at), Some(why)) = (json.resolved, json.resolution) {
            facts.push(json!({ "title": "over", "value": format!("{at}: {why}") }));
        }
        body.push(json!({ "type": "FactSet", "facts": facts }));
        if let Some(link) = alert.link.as_ref().filter(|_| actions.len() < 4) {
            actions.push(json!({ "type": "Action.OpenUrl", "title": cut(&alert.title, 60), "url": link }));
        }
    }
    let mut card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard", "version": "1.4", "msteams": { "width": "Full" }, "body": body,
    });
    if !actions.is_empty() {
        card["actions"] = actions.into();
    }
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": card,
        }],
    })
}

fn pagerduty(hostname: &str, key: &str, item: &Item) -> Value {
    let alert = &item.entry.alert;
    // Keys have at most 255 characters, and are one for each server.
    let dedup = cut(&format!("{hostname}/{}", alert.key), 250);
    if item.is_over() {
        return json!({ "routing_key": key, "event_action": "resolve", "dedup_key": dedup });
    }
    let severity = match item.severity {
        Severity::Critical => "critical",
        Severity::Problem => "error",
        Severity::Warning => "warning",
    };
    let mut details: serde_json::Map<String, Value> =
        alert.about.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    details.insert("text".into(), alert.text.clone().into());
    if let Some(id) = item.id {
        details.insert("acknowledge".into(), format!("pillarbox alert ack a-{id}").into());
    }
    let mut event = json!({
        "routing_key": key, "event_action": "trigger", "dedup_key": dedup, "client": "Pillarbox",
        "payload": {
            "summary": cut(&format!("{hostname}: {}", alert.title), 1_000),
            "source": hostname, "severity": severity, "timestamp": time::show(item.entry.first_ms),
            "component": "pillarbox", "class": alert.rule.as_str(), "custom_details": details,
        },
    });
    if let Some(link) = &alert.link {
        event["client_url"] = link.clone().into();
        event["links"] = json!([{ "href": link, "text": alert.title }]);
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::plan::What;
    use crate::alert::text::tests::item;

    fn many(n: usize) -> Vec<Item> {
        let severities = [Severity::Warning, Severity::Problem, Severity::Critical];
        let one = |n: usize| {
            let mut item = item(&format!("<{n}> & more"), severities[n % 3], What::Raised);
            item.entry.alert.text = "<&>".repeat(2_600);
            item
        };
        (0..n).map(one).collect()
    }

    #[test]
    fn slack_gets_what_fits_and_no_markup_of_strangers() {
        let body = slack("relay.example", &many(50));
        let blocks = body["blocks"].as_array().unwrap();
        assert!(blocks.len() <= 50);
        for block in blocks {
            let text = block["text"]["text"].as_str().unwrap();
            let most = if block["type"] == "header" { 150 } else { 3_000 };
            assert!(text.chars().count() <= most, "{}", text.len());
            assert!(block["type"] == "header" || !text.contains(['<', '>']), "{text}");
        }
        assert!(body["text"].as_str().unwrap().contains("50 alerts: CRITICAL: &lt;"));
    }

    #[test]
    fn a_card_for_teams_stays_below_its_limit() {
        let body = teams("relay.example", &many(50));
        assert!(body.to_string().len() < 28 << 10, "{}", body.to_string().len());
        let card = &body["attachments"][0]["content"];
        assert_eq!((card["type"].as_str(), card["version"].as_str()), (Some("AdaptiveCard"), Some("1.4")));
        assert_eq!(card["body"][0]["style"], "attention");
        let over = teams("relay.example", &[item("x", Severity::Critical, What::Resolved)]);
        assert_eq!(over["attachments"][0]["content"]["body"][0]["style"], "good");
    }

    #[test]
    fn pagerduty_knows_the_end_by_the_key_of_the_beginning() {
        let raised = pagerduty("relay.example", "R0", &item("x", Severity::Problem, What::Raised));
        let over = pagerduty("relay.example", "R0", &item("x", Severity::Problem, What::Resolved));
        assert_eq!(raised["event_action"], "trigger");
        assert_eq!(raised["payload"]["severity"], "error");
        assert_eq!(raised["payload"]["custom_details"]["route"], "out");
        assert_eq!(over["event_action"], "resolve");
        assert_eq!(raised["dedup_key"], over["dedup_key"]);
    }

    #[test]
    fn a_repetition_has_the_same_id_and_the_end_another() {
        let raised = [item("x", Severity::Problem, What::Raised)];
        let over = [item("x", Severity::Problem, What::Resolved)];
        assert_eq!(id_of(&raised), id_of(&raised.clone()));
        assert_ne!(id_of(&raised), id_of(&over));
    }
}
