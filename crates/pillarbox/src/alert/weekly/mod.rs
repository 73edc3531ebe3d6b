//! The weekly report: what was sent, what failed and why, who is slow, what to renew. By mail to the channels that want it.
//!
//! It costs the same however much was sent: of more than [`MOST_EVENTS`] events it looks at evenly spread ones, and says so.

pub mod renew;
pub mod tally;
pub mod words;

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use store::{RecipientId, RecordKind, RecordQuery, StoreError};

use super::channel::ChannelKind;
use super::send::Sent;
use super::send::mail::{self, Became, Letter};
use super::setting::Channel;
use crate::http::{Shared, time};
use crate::monitor::jobs::Work;
use crate::monitor::{Done, Group, Job, Level, Schedule};
use crate::oauth::expiry::{Expiring, expiring};
use renew::Renewal;
use tally::{Tally, Top};

/// Events that are looked at, and of them at once.
const MOST_EVENTS: i64 = 200_000;
const PAGE: u32 = 1_000;
/// Bounced recipients whose domains are looked up.
const MOST_BOUNCED: usize = 10_000;
/// Lines of each list.
const LINES: usize = 10;
const WEEK_MS: i64 = 7 * 86_400_000;
/// When it is sent: Mondays at seven.
const SCHEDULE: &str = "0 7 * * 1";

/// A report. Field names are a promise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Whose.
    pub hostname: String,
    /// From when, RFC 3339.
    pub since: String,
    /// Until when, RFC 3339.
    pub until: String,
    /// Share of the events that were looked at, if not all of them were: numbers are estimated from these.
    pub sampled: Option<f64>,
    /// Counts.
    pub volumes: tally::Volumes,
    /// Why mail failed for good, most first.
    pub failures: Vec<Top>,
    /// Why mail was late, most first: attempts that were repeated.
    pub delays: Vec<Top>,
    /// Next hops by the time from accept to delivery, the slowest first.
    pub slowest: Vec<tally::Slow>,
    /// Domains of recipients with most bounces.
    pub bouncing: Vec<Top>,
    /// Client secrets and certificates that end within 30 days.
    pub renew: Vec<Expiring>,
    /// Certificates of listeners and servers that end within 30 days, and signing keys that are to be replaced by then, as the
    /// scheduled checks found them last.
    #[serde(default)]
    pub also_renew: Vec<Renewal>,
    /// Alerts that are raised.
    pub alerts: Vec<OpenThing>,
    /// Incidents that are open.
    pub incidents: Vec<OpenThing>,
}

/// Something that is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenThing {
    /// Id.
    pub id: String,
    /// In a line.
    pub title: String,
    /// Since when, RFC 3339.
    pub since: String,
}

/// Makes the report. `since_ms`: by default a week ago.
pub async fn report(app: &Shared, since_ms: Option<i64>) -> Result<Report, StoreError> {
    let now_ms = app.clock.now_ms();
    let since_ms = since_ms.unwrap_or(now_ms - WEEK_MS).min(now_ms);
    let mut tally = Tally::default();
    let share = read(app, since_ms, &mut tally).await?;
    let rules = app.rules();
    let scale = share.unwrap_or(1.0);
    let bouncing = bouncing(app, &tally, scale).await?;
    let routes = app.relay.as_ref().map(|relay| relay.routes()).unwrap_or_default();
    let alerts = app.alerts.raised().await.into_iter().take(50).map(|one| OpenThing {
        id: format!("a-{}", one.id.unwrap_or_default()),
        title: one.entry.alert.title,
        since: time::show(one.entry.first_ms),
    });
    Ok(Report {
        hostname: app.hostname.clone(),
        since: time::show(since_ms),
        until: time::show(now_ms),
        sampled: share,
        volumes: tally.volumes.scaled(scale),
        failures: tally::top(&tally.failures, &rules, scale, LINES),
        delays: tally::top(&tally.delays, &rules, scale, LINES),
        slowest: tally.slowest(scale, LINES),
        bouncing,
        renew: expiring(routes.iter().map(|route| &**route), now_ms),
        also_renew: renew::due(&app.monitor.results),
        alerts: alerts.collect(),
        incidents: incidents(app).await?,
    })
}

/// Looks at events since a moment; gives their share if it is not all of them.
async fn read(app: &Shared, since_ms: i64, tally: &mut Tally) -> Result<Option<f64>, StoreError> {
    let newest = app.store.newest_event().await?;
    let first = first_after(app, since_ms, newest).await?;
    let total = newest - first + 1;
    if total <= MOST_EVENTS {
        let mut at = first - 1;
        while at < newest {
            let page = app.store.events_after(at, PAGE).await?;
            let Some(last) = page.last() else { break };
            at = last.seq;
            page.iter().for_each(|event| tally.add(event));
        }
        return Ok(None);
    }
    let pages = MOST_EVENTS / i64::from(PAGE);
    let mut seen = 0;
    for n in 0..pages {
        // Spread evenly; numbers are i64 of at most some thousand millions, times hundreds.
        let page = app.store.events_after(first - 1 + total / pages * n, PAGE).await?;
        seen += page.len();
        page.iter().for_each(|event| tally.add(event));
    }
    Ok(Some((seen as f64 / total as f64).clamp(f64::MIN_POSITIVE, 1.0)))
}

/// Number of the first event at or after a moment: events are in the order of time.
async fn first_after(app: &Shared, since_ms: i64, newest: i64) -> Result<i64, StoreError> {
    let (mut low, mut high) = (1, newest + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let event = app.store.events_after(middle - 1, 1).await?.into_iter().next();
        match event {
            Some(event) if event.at_ms < since_ms => low = event.seq + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// Domains of those that bounced; an event knows only its recipient's number.
async fn bouncing(app: &Shared, tally: &Tally, scale: f64) -> Result<Vec<Top>, StoreError> {
    let mut domains: HashMap<Arc<str>, u64> = HashMap::new();
    let names: &[RecipientId] = &tally.bounced[..tally.bounced.len().min(MOST_BOUNCED)];
    for names in names.chunks(PAGE as usize) {
        for recipient in app.store.recipients_named(names.to_vec()).await? {
            *domains.entry(recipient.lane.domain).or_default() += 1;
        }
    }
    let scale = scale * names.len() as f64 / tally.bounced.len().max(1) as f64;
    let mut top: Vec<Top> = domains
        .into_iter()
        .map(|(domain, count)| Top {
            name: domain.to_string(),
            title: String::new(),
            count: tally::grown(count, scale),
        })
        .collect();
    top.sort_by(|a, b| (b.count, &a.name).cmp(&(a.count, &b.name)));
    top.truncate(LINES);
    Ok(top)
}

async fn incidents(app: &Shared) -> Result<Vec<OpenThing>, StoreError> {
    let query = RecordQuery { limit: 50, ..RecordQuery::open(RecordKind::Incident) };
    let open = app.store.records(query).await?;
    let thing = |record: store::Record| OpenThing {
        id: format!("i-{}", record.id),
        title: record.name.replace('|', ": "),
        since: time::show(record.at_ms),
    };
    Ok(open.into_iter().map(thing).collect())
}

/// Has it sent each week.
pub fn register(app: &Shared) {
    let Ok(schedule) = Schedule::parse(SCHEDULE, None) else { return };
    let work = Work::new(|app: Shared| async move {
        match send(&app).await {
            Ok(summary) => Done { level: Level::Ok, summary },
            Err(summary) => Done { level: Level::Problem, summary },
        }
    });
    let job = Job::new("weekly-report", "Weekly report by mail", Group::Report, schedule, work);
    app.monitor.jobs.register(job, app.clock.now_ms());
}

/// Sends it to all channels that want it; what came of it, in words.
async fn send(app: &Shared) -> Result<String, String> {
    let settings = app.alerts.settings.read().clone();
    let wants = |channel: &&Channel| channel.record.kind == ChannelKind::Email && channel.record.report;
    let channels: Vec<&Channel> = settings.channels.iter().filter(wants).collect();
    if channels.is_empty() {
        return Ok("nobody wants it: no alert channel of kind email".into());
    }
    let report = report(app, None).await.map_err(|error| error.to_string())?;
    let (subject, text) = (words::subject(&report), words::text(&report));
    let html = words::html(&report).map_err(|error| error.to_string())?;
    let mut problems = Vec::new();
    for channel in &channels {
        let letter = Letter { subject: &subject, text: &text, html: Some(&html), thread: None };
        if let Err(problem) = deliver(app, channel, &letter).await {
            problems.push(format!("{}: {problem}", channel.name));
        }
    }
    if problems.is_empty() { Ok(format!("sent by {} channels", channels.len())) } else { Err(problems.join("; ")) }
}

/// By one channel; by another route where one fails at once.
async fn deliver(app: &Shared, channel: &Channel, letter: &Letter<'_>) -> Result<(), String> {
    let mut avoid: Vec<String> = Vec::new();
    loop {
        let posted = match mail::post(app, channel, letter, &avoid).await {
            Sent::Taken(_) => return Ok(()),
            Sent::Failed { problem, .. } => return Err(problem),
            Sent::Posted(posted) => posted,
        };
        let mut became = Became::UnderWay(None);
        for _ in 0..30 {
            became = mail::look(app, &posted).await;
            if became != Became::UnderWay(None) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        match became {
            // What only waits is in the queue, and goes on there.
            Became::Delivered | Became::UnderWay(None) => return Ok(()),
            Became::Lost(_) | Became::UnderWay(Some(_)) => {
                mail::withdraw(app, &posted).await;
                avoid.extend(posted.routes);
            }
        }
    }
}
