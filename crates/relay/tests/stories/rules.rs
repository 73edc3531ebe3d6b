//! Every reply a rule knows, met on the way of a queued message, is stored as that rule; its class decides, except where
//! the rule softens it.

use std::collections::BTreeMap;

use explain::{Played, RuleBase};
use futures_util::StreamExt;
use proto::smtp::reply::Reply;
use serde_json::json;
use store::{RecipientView, State};
use testkit::{Act, Rule, Sink, SinkOptions, Stage};

use crate::rig::{Setup, condition, smarthost, with};

/// How the sink's stages are called where the rules speak of `stage`.
fn met_at(stage: proto::transcript::Stage) -> Stage {
    use proto::transcript::Stage as At;
    match stage {
        At::Banner => Stage::Connect,
        At::Ehlo => Stage::Ehlo,
        At::Tls => Stage::StartTls,
        At::Auth => Stage::Auth,
        At::Sender => Stage::Mail,
        // What a relay found in the DNS it says to RCPT.
        At::Recipient | At::Dns | At::Tcp => Stage::Rcpt,
        At::Message | At::Quit => Stage::Message,
    }
}

fn in_lines(reply: &Reply) -> String {
    let mut octets = Vec::new();
    reply.encode_into(&mut octets);
    String::from_utf8_lossy(&octets).trim_end().to_owned()
}

/// Replies to MAIL, RCPT and the message of one kind of server, through one relay.
async fn play(provider: Option<&str>, played: Vec<Played<'static>>) -> Vec<String> {
    let base = RuleBase::builtin();
    let known = provider.and_then(|id| base.provider(id));
    // A provider is known by the name of its host, a program by its greeting.
    let host = known.and_then(|provider| provider.hosts.first()).map(|end| format!("mx{end}"));
    let greeting = known.and_then(|provider| provider.banners.first()).map(|words| format!("mx.test {words}"));
    let sink = Sink::with(SinkOptions { greeting, ..SinkOptions::default() }).await;
    let mut route = with(smarthost(&sink), json!({"retry_s": [86_400]}));
    if let Some(host) = &host {
        route = with(route, json!({ "host": host }));
    }
    // A route for each: what a reply does to its route must not keep the others.
    let setup = (0..played.len()).fold(Setup::bare(), |setup, n| {
        let name = format!("r{n}");
        let rule = json!({"order": n, "route": name, "recipient_domain": format!("n{n}.test")});
        setup.route(&name, route.clone()).rule(&name, rule)
    });
    // Most of this mail bounces; that is no reason to pause its stream here.
    let rig = setup.config(|config| config.rates.pauses = false).start().await;
    if let Some(host) = &host {
        rig.zones.loopback(host);
    }
    let mut sent = Vec::new();
    for (n, one) in played.iter().enumerate() {
        let stage = met_at(one.stage);
        let text = if stage == Stage::Message { format!("story-{n}-") } else { format!("<n{n}-") };
        sink.add(Rule::at(stage, Act::Reply(in_lines(one.reply))).with_text(&text));
        let mut mail = rig.submission(
            &[&format!("n{n}-@n{n}.test")],
            format!("From: n{n}-@app.test\r\nSubject: story-{n}-\r\n\r\nx\r\n").as_bytes(),
        );
        mail.envelope.reverse_path.0 = Some(format!("n{n}-@app.test").parse().unwrap());
        sent.push(rig.submit(mail).await);
    }
    let mut wrong = Vec::new();
    for (id, one) in sent.into_iter().zip(&played) {
        let view = crate::rig::eventually("an outcome", || async {
            let view = rig.recipients(id).await.remove(0);
            (view.state.is_final() || view.attempts > 0 && view.state == State::Waiting).then_some(view)
        })
        .await;
        wrong.extend(differs(&view, one));
    }
    wrong
}

fn differs(view: &RecipientView, played: &Played<'_>) -> Option<String> {
    let cause = view.cause.as_ref();
    let found = cause.and_then(|cause| cause.rule.as_deref());
    let fails = played.reply.class() == 5 && !played.rule.softens && !is_about_signing_in(played.reply);
    let wanted = if fails { "failed" } else { "deferred" };
    let right = found == Some(played.rule.id.as_str()) && condition(view) == wanted;
    (!right).then(|| format!("{} wanted {wanted}: {} -> {found:?} {}", played.rule.id, played.reply, condition(view)))
}

/// As `relay::verdict` has it: never held against a recipient.
fn is_about_signing_in(reply: &Reply) -> bool {
    let enhanced = reply.enhanced().map(|code| (code.0, code.1, code.2));
    matches!(reply.code, 530 | 534 | 535 | 538) || matches!(enhanced, Some((5, 7, 8 | 9 | 11 | 12)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reply_a_rule_knows_is_stored_as_that_rule() {
    let mut kinds: BTreeMap<Option<&str>, Vec<Played<'static>>> = BTreeMap::new();
    for played in RuleBase::builtin().playable() {
        let stage = met_at(played.stage);
        // 421 ends a session before others have had their say; it is played by `check`.
        let usual = matches!(played.reply.class(), 4 | 5) && played.reply.code != 421;
        if usual && matches!(stage, Stage::Mail | Stage::Rcpt | Stage::Message) {
            kinds.entry(played.provider).or_default().push(played);
        }
    }
    let count: usize = kinds.values().map(Vec::len).sum();
    assert!(count > 700, "{count}");
    let plays = kinds.into_iter().map(|(provider, played)| play(provider, played));
    let wrong: Vec<String> = futures_util::stream::iter(plays).buffer_unordered(8).concat().await;
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}
