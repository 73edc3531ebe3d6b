//! `pillarbox queue`.

use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};

use super::Fault;
use super::args::{By, Global, OperateArgs, QueueCommand, SelectorArgs};
use super::batch_bar::Bar;
use super::client::{Client, Need, escaped, query, read};
use super::output::{clean, facts, json as print_json, plural, print, short_time, table};
use crate::http::forecast::ForecastOut;
use crate::http::views::{CauseDetailOut, CauseOut, CountOut, EventOut, MessageOut, Operated, Page, RecipientOut};

/// How often somebody who waits for an operation is shown how far it is.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Does what was asked.
pub async fn run(global: &Global, command: QueueCommand) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    match command {
        QueueCommand::Ls { selector, limit, after } => list(global, &client, &selector, limit, after).await,
        QueueCommand::Counts { by, limit } => counts(global, &client, by, limit).await,
        QueueCommand::Causes { rule: Some(rule), .. } => cause(global, &client, &rule).await,
        QueueCommand::Causes { rule: None, limit } => causes(global, &client, limit).await,
        QueueCommand::Show { id, transcripts } => show(global, &client, &id, transcripts).await,
        QueueCommand::Retry(args) => operate(global, &client, "retry", "to retry now", args, None).await,
        QueueCommand::Hold { operate: args, reason } => operate(global, &client, "hold", "held", args, reason).await,
        QueueCommand::Release(args) => operate(global, &client, "release", "released", args, None).await,
        QueueCommand::Cancel(args) => operate(global, &client, "cancel", "canceled", args, None).await,
    }
}

/// The queue in columns; also what `sendmail -bp` and `mailq` print.
pub async fn list(
    global: &Global,
    client: &Client,
    selector: &SelectorArgs,
    limit: u32,
    after: Option<String>,
) -> Result<(), Fault> {
    let query = query(&[
        ("recipient", selector.recipient.clone()),
        ("domain", selector.domain.clone()),
        ("route", selector.route.clone()),
        ("sender", selector.sender.clone()),
        ("stream", selector.stream.clone()),
        ("state", selector.state.clone()),
        ("cause", selector.cause.clone()),
        ("limit", Some(limit.to_string())),
        ("after", after),
    ]);
    let mut value = client.get(&format!("/queue{query}")).await?;
    let forecasts = forecasts(client, selector).await?;
    if global.json {
        if let (Some(value), Ok(forecasts)) = (value.as_object_mut(), serde_json::to_value(&forecasts)) {
            value.insert("forecasts".into(), forecasts);
        }
        return print_json(&value);
    }
    let page: Page<RecipientOut> = read(value)?;
    if page.items.is_empty() {
        return print("Nothing is waiting.\n");
    }
    let row = |one: &RecipientOut| {
        let due = one.due.as_deref().map_or_else(|| "-".into(), short_time);
        // What holds one back now is not its failure before.
        let stopped = matches!(one.state.as_str(), "held" | "suppressed");
        let finding = one.finding.as_ref().filter(|_| !stopped);
        let reason = finding.map_or_else(|| "-".into(), |finding| finding.reason.clone());
        let words = one.reason.clone().unwrap_or_default();
        vec![one.id.clone(), one.state.clone(), one.attempts.to_string(), due, one.address.clone(), reason, words]
    };
    let rows: Vec<_> = page.items.iter().map(row).collect();
    table(&["ID", "STATE", "TRIES", "NEXT", "RECIPIENT", "REASON", "IN WORDS"], &rows)?;
    if let Some(next) = page.next {
        print(&format!("More: --after {next}\n"))?;
    }
    let lines: Vec<String> =
        forecasts.iter().map(|one| format!("{}\n", clean(&super::status::queue_line(one)))).collect();
    if lines.is_empty() { Ok(()) } else { print(&format!("\n{}", lines.concat())) }
}

/// When the routes in question will have sent what they have; nothing for a part of a route's mail.
async fn forecasts(client: &Client, selector: &SelectorArgs) -> Result<Vec<ForecastOut>, Fault> {
    let SelectorArgs { recipient, domain, route, sender, stream, state, cause } = selector;
    if [recipient, domain, sender, stream, state, cause].iter().any(|part| part.is_some()) {
        return Ok(Vec::new());
    }
    let mut all = super::status::forecasts(client).await?;
    all.retain(|one| route.as_ref().is_none_or(|route| *route == one.route));
    Ok(all)
}

async fn counts(global: &Global, client: &Client, by: By, limit: u32) -> Result<(), Fault> {
    let (name, head) = match by {
        By::Domain => ("domain", "DOMAIN"),
        By::Route => ("route", "ROUTE"),
        By::Sender => ("sender", "SENDER"),
        By::Stream => ("stream", "STREAM"),
    };
    let value = client.get(&format!("/queue/counts?by={name}&limit={limit}")).await?;
    if global.json {
        return print_json(&value);
    }
    let page: Page<CountOut> = read(value)?;
    let row = |count: &CountOut| {
        let next = count.next_due.as_deref().map_or_else(|| "-".into(), short_time);
        vec![count.group.clone(), count.pending.to_string(), count.held.to_string(), next]
    };
    table(&[head, "PENDING", "HELD", "NEXT"], &page.items.iter().map(row).collect::<Vec<_>>())
}

/// The queue by cause, each with what it means and what to do first.
async fn causes(global: &Global, client: &Client, limit: u32) -> Result<(), Fault> {
    let value = client.get(&format!("/queue/causes?limit={limit}")).await?;
    if global.json {
        return print_json(&value);
    }
    let page: Page<CauseOut> = read(value)?;
    if page.items.is_empty() {
        return print("Nothing waits because of a failure.\n");
    }
    for (at, cause) in page.items.iter().enumerate() {
        let next = cause.next_due.as_deref().map(short_time);
        let next = next.map_or_else(String::new, |next| format!(", next attempt {next}"));
        let held = if cause.held > 0 { format!(", {} held", cause.held) } else { String::new() };
        let words = cause.finding.as_ref().map_or("No rule explains it", |finding| finding.title.as_str());
        let gap = if at == 0 { "" } else { "\n" };
        print(&format!("{gap}{}: {}{held}{next}\n", clean(words), plural(cause.pending, "waiting recipient")))?;
        let Some(finding) = &cause.finding else { continue };
        facts(&[
            ("  rule", cause.rule.clone()),
            ("  meaning", finding.meaning.clone()),
            ("  whose turn", finding.owner.replace('_', " ")),
            ("  first fix", finding.fix.clone().unwrap_or_default()),
            ("  ", finding.run.clone().unwrap_or_default()),
            ("  list them", format!("pillarbox queue ls --cause {}", cause.rule)),
        ])?;
    }
    Ok(())
}

/// One cause with all that is known of it.
async fn cause(global: &Global, client: &Client, rule: &str) -> Result<(), Fault> {
    let value = client.get(&format!("/queue/causes/{}", escaped(rule))).await?;
    if global.json {
        return print_json(&value);
    }
    let found: CauseDetailOut = read(value)?;
    let title = found.cause.finding.as_ref().map_or("No rule explains it", |finding| finding.title.as_str());
    let waiting = plural(found.cause.pending, "waiting recipient");
    print(&format!("{}: {waiting}, {} held\n", clean(title), found.cause.held))?;
    let finding = found.cause.finding.as_ref();
    facts(&[
        ("rule", found.cause.rule.clone()),
        ("meaning", finding.map(|finding| finding.meaning.clone()).unwrap_or_default()),
        ("whose turn", finding.map(|finding| finding.owner.replace('_', " ")).unwrap_or_default()),
        ("next attempt", found.cause.next_due.as_deref().map(short_time).unwrap_or_default()),
        ("oldest", found.cause.oldest.as_deref().map(short_time).unwrap_or_default()),
        ("example", found.example.clone().unwrap_or_default()),
    ])?;
    let mut text = String::new();
    if !found.causes.is_empty() {
        text.push_str("\nCauses, the likeliest first:\n");
        text.extend(found.causes.iter().map(|cause| format!("  - {}\n", clean(cause))));
    }
    if !found.fixes.is_empty() {
        text.push_str("\nWhat to do, in this order:\n");
        for (at, fix) in found.fixes.iter().enumerate() {
            text.push_str(&format!("  {}. {}\n", at + 1, clean(&fix.text)));
            text.extend(fix.run.iter().map(|run| format!("     {}\n", clean(run))));
        }
    }
    if found.looked_at > 0 {
        text.push_str(&format!("\nWhom it touches, of the oldest {}:\n", plural(found.looked_at, "recipient")));
        for (what, list) in [
            ("routes", &found.routes),
            ("destinations", &found.domains),
            ("senders", &found.senders),
            ("streams", &found.streams),
        ] {
            let shares: Vec<String> =
                list.iter().map(|one| format!("{} ({})", clean(&one.name), one.recipients)).collect();
            text.push_str(&format!("  {what}: {}\n", shares.join(", ")));
        }
    }
    print(&text)
}

async fn show(global: &Global, client: &Client, id: &str, transcripts: bool) -> Result<(), Fault> {
    let id = escaped(id.split('.').next().unwrap_or(id));
    let message = client.get(&format!("/messages/{id}")).await?;
    let events = client.get(&format!("/messages/{id}/events")).await?;
    if global.json {
        return print_json(&json!({ "message": message, "events": events.get("items") }));
    }
    let message: MessageOut = read(message)?;
    let events: Page<EventOut> = read(events)?;
    let from = if message.envelope_from.is_empty() { "<>".into() } else { message.envelope_from.clone() };
    facts(&[
        ("id", message.id.clone()),
        ("accepted", format!("{} from {}", short_time(&message.accepted), message.sender)),
        ("protocol", message.protocol.clone().unwrap_or_default()),
        ("client", message.client.clone().unwrap_or_default()),
        ("envelope from", from),
        ("From", message.from.clone().unwrap_or_default()),
        ("Subject", message.subject.clone().unwrap_or_default()),
        ("Message-ID", message.message_id.clone().unwrap_or_default()),
        ("stream", message.stream.clone()),
        ("size", format!("{} octets{}", message.size, if message.has_content { "" } else { ", content is gone" })),
        ("not before", message.send_at.as_deref().map(short_time).unwrap_or_default()),
        ("not after", short_time(&message.expires)),
        ("tags", message.tags.join(", ")),
    ])?;
    print("\n")?;
    let row = |one: &RecipientOut| {
        let due = one.due.as_deref().map_or_else(|| "-".into(), short_time);
        vec![one.id.clone(), one.address.clone(), one.meaning.clone(), due, one.route.clone()]
    };
    table(&["ID", "RECIPIENT", "STATE", "NEXT", "ROUTE"], &message.recipients.iter().map(row).collect::<Vec<_>>())?;
    message.recipients.iter().try_for_each(print_finding)?;
    print("\n")?;
    table(&["TIME", "RECIPIENT", "EVENT", "WHERE", "WHY"], &events.items.iter().map(event_row).collect::<Vec<_>>())?;
    if transcripts {
        events.items.iter().try_for_each(print_transcript)?;
    }
    Ok(())
}

/// What the last failure of a recipient means, and what to do first.
fn print_finding(one: &RecipientOut) -> Result<(), Fault> {
    let Some(finding) = &one.finding else { return Ok(()) };
    let note = if finding.codes_only { "its words are not known: only its code decided" } else { "" };
    print(&format!("\n{} {}\n", clean(&one.id), clean(&finding.title)))?;
    facts(&[
        ("  rule", finding.rule.clone()),
        ("  note", note.into()),
        ("  meaning", finding.meaning.clone()),
        ("  whose turn", finding.owner.replace('_', " ")),
        ("  first fix", finding.fix.clone().unwrap_or_default()),
        ("  ", finding.run.clone().unwrap_or_default()),
    ])
}

fn event_row(event: &EventOut) -> Vec<String> {
    let peer = event.attempt.as_ref().map(|attempt| attempt.peer.clone().unwrap_or_else(|| attempt.route.clone()));
    let reply = event.attempt.as_ref().and_then(|attempt| attempt.reply.clone());
    vec![
        short_time(&event.at),
        event.recipient.clone().unwrap_or_default(),
        event.event.clone(),
        peer.unwrap_or_default(),
        event.reason.clone().or(reply).unwrap_or_default(),
    ]
}

/// The conversation line by line, as it is stored.
fn print_transcript(event: &EventOut) -> Result<(), Fault> {
    let steps = event.attempt.as_ref().and_then(|attempt| attempt.transcript.as_ref()?.get("steps")?.as_array());
    let Some(steps) = steps else { return Ok(()) };
    let mut out = format!("\n{} {}\n", short_time(&event.at), event.event);
    for step in steps {
        let text = |field: &str| step.get(field).and_then(Value::as_str).map(clean);
        if let Some(sent) = text("sent") {
            out.push_str(&format!("  > {sent}\n"));
        }
        if let Some(fact) = step.get("fact").filter(|fact| !fact.is_null()) {
            out.push_str(&format!("  * {}\n", clean(&fact.to_string())));
        }
        if let Some(reply) = step.get("reply").filter(|reply| !reply.is_null()) {
            let code = reply.get("code").and_then(Value::as_u64).unwrap_or_default();
            for line in reply.get("lines").and_then(Value::as_array).into_iter().flatten() {
                out.push_str(&format!("  < {code} {}\n", clean(line.as_str().unwrap_or_default())));
            }
        }
        if let Some(failure) = step.get("failure").filter(|failure| !failure.is_null()) {
            out.push_str(&format!("  ! {}\n", clean(&failure.to_string())));
        }
    }
    print(&out)
}

async fn operate(
    global: &Global,
    client: &Client,
    operation: &str,
    done: &str,
    args: OperateArgs,
    reason: Option<String>,
) -> Result<(), Fault> {
    let body = match args.ids.len() {
        0 | 1 => json!({ "selector": selector(&args)?, "dry_run": args.dry_run, "reason": reason }),
        _ => json!({ "ids": named(client, &args).await?, "dry_run": args.dry_run, "reason": reason }),
    };
    let value = match args.dry_run {
        true => client.send(Method::POST, &format!("/queue/{operation}"), body).await?,
        false => watched(client, operation, body).await?,
    };
    if global.json {
        return print_json(&value);
    }
    let operated: Operated = read(value)?;
    let count = plural(operated.recipients, "recipient");
    let count = if operated.at_least { format!("at least {count}") } else { count };
    if operated.dry_run { print(&format!("{count} would be {done}\n")) } else { print(&format!("{count} {done}\n")) }
}

/// Waits until it is done; somebody who looks is shown how far it is.
async fn watched(client: &Client, operation: &str, body: Value) -> Result<Value, Fault> {
    let path = format!("/queue/{operation}");
    let mut done = std::pin::pin!(client.send(Method::POST, &path, body.clone()));
    let (mut bar, mut all) = (Bar::new("recipients"), None);
    loop {
        tokio::select! {
            answer = &mut done => return answer,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if bar.is_visible()
            && let Some(left) = left(client, operation, &body).await
        {
            let all = *all.get_or_insert(left);
            bar.show(all.saturating_sub(left), all, None);
        }
    }
}

/// How many an operation has not reached yet, if that can be told.
async fn left(client: &Client, operation: &str, body: &Value) -> Option<u64> {
    let mut body = body.clone();
    let selector = body.get_mut("selector")?.as_object_mut()?;
    match operation {
        "release" | "cancel" => {}
        "hold" => {
            selector.entry("state").or_insert_with(|| "waiting".into());
        }
        _ => return None,
    }
    body["dry_run"] = true.into();
    let seen = client.send(Method::POST, &format!("/queue/{operation}"), body).await.ok()?;
    read::<Operated>(seen).ok().map(|seen| seen.recipients)
}

/// The recipients that were named; of a message all that are in the queue.
async fn named(client: &Client, args: &OperateArgs) -> Result<Vec<String>, Fault> {
    let conditions = OperateArgs { ids: Vec::new(), ..args.clone() };
    if selector(&conditions).is_ok() {
        return Err(Fault::Usage("several ids go without conditions and without --all".into()));
    }
    let mut ids: Vec<String> = Vec::new();
    for id in &args.ids {
        if id.contains('.') {
            ids.push(id.clone());
            continue;
        }
        let path = format!("/queue{}", query(&[("message", Some(id.clone())), ("limit", Some("1000".into()))]));
        let page: Page<RecipientOut> = read(client.get(&path).await?)?;
        if page.items.is_empty() {
            return Err(Fault::Usage(format!("{} has no recipient in the queue", clean(id))));
        }
        ids.extend(page.items.into_iter().map(|one| one.id));
    }
    Ok(ids)
}

fn selector(args: &OperateArgs) -> Result<Value, Fault> {
    let mut selector = serde_json::Map::new();
    if let Some(id) = args.ids.first() {
        let (message, n) = id.split_once('.').map_or((id.as_str(), None), |(message, n)| (message, Some(n)));
        selector.insert("message".into(), message.into());
        if let Some(n) = n {
            let n: u32 = n.parse().map_err(|_| Fault::Usage(format!("{id} is not a recipient id")))?;
            selector.insert("n".into(), n.into());
        }
    }
    let mut put = |name: &str, value: &Option<String>| {
        if let Some(value) = value {
            selector.insert(name.into(), value.clone().into());
        }
    };
    put("recipient", &args.selector.recipient);
    put("domain", &args.selector.domain);
    put("route", &args.selector.route);
    put("sender", &args.selector.sender);
    put("stream", &args.selector.stream);
    put("state", &args.selector.state);
    put("cause", &args.selector.cause);
    match (args.all, selector.is_empty()) {
        (true, _) => {
            selector.insert("all".into(), true.into());
        }
        (false, true) => {
            let text = "name an id, a condition such as --domain, or --all; see `pillarbox queue --help`";
            return Err(Fault::Usage(text.into()));
        }
        (false, false) => {}
    }
    Ok(Value::Object(selector))
}
