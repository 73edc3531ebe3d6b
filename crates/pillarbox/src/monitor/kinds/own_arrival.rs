//! A check of one's own that sends a test mail, and waits until it is known what became of it.

use std::time::Duration;

use serde_json::json;
use store::{RecordKind, RecordQuery};

use super::own::CheckRecord;
use super::reported::not_run;
use crate::arrival::judge::{Judgement, Place};
use crate::arrival::send::{ArrivalIn, send};
use crate::arrival::{Arrival, ArrivalState, record};
use crate::http::Shared;
use crate::monitor::{Found, Level};

/// How often is looked, and how much of its time a run keeps to end in order.
const EVERY: Duration = Duration::from_secs(1);
const SPARE_S: u32 = 10;

/// Sends and waits. `usual_s`: time a run has if the check does not say otherwise.
pub(super) async fn run(app: &Shared, check: &CheckRecord, usual_s: u32) -> Found {
    let within_s = u64::from(check.timeout_s.unwrap_or(usual_s).saturating_sub(SPARE_S).max(SPARE_S));
    let wanted = ArrivalIn {
        route: check.target.clone(),
        from: check.from.clone(),
        to: check.to.first().cloned(),
        mailbox: check.mailbox.clone(),
        within_s: Some(within_s),
    };
    let sent = match send(app, wanted).await {
        Ok(sent) => sent,
        Err(problem) => return not_run(&problem),
    };
    loop {
        // Whoever runs this ends it when its time is over; the test mail is followed all the same.
        tokio::time::sleep(EVERY).await;
        match record::find(&*app.store, RecordQuery::one(RecordKind::Arrival, sent.id)).await {
            Ok(mut found) => match found.pop() {
                Some(one) if one.arrival.state == ArrivalState::Waiting => {}
                Some(one) => return judged(&one.arrival),
                None => return Found::skipped("the test mail is not known any more"),
            },
            Err(error) => return Found::skipped(error.to_string()),
        }
    }
}

fn judged(arrival: &Arrival) -> Found {
    let found = arrival.judgement.as_ref();
    let place = found.map_or(Place::Unknown, |found| found.place);
    let good = found.is_some_and(Judgement::is_good);
    let (level, words) = match arrival.state {
        ArrivalState::Arrived if good => (Level::Ok, "arrived".to_owned()),
        ArrivalState::Arrived | ArrivalState::Late if place == Place::Junk => {
            (Level::Problem, "was filed as spam".into())
        }
        ArrivalState::Late if good => (Level::Warning, "arrived late".into()),
        ArrivalState::Arrived | ArrivalState::Late => (Level::Warning, "arrived, but something is wrong".into()),
        _ => (Level::Problem, "did not arrive".into()),
    };
    let delay = found.map(|found| format!(" after {} s", found.delay_s)).unwrap_or_default();
    let why = arrival.problem.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let summary = format!("the test mail to {} {words}{delay}{why}", arrival.to);
    let facts = json!({ "state": arrival.state.as_str(), "place": place });
    Found::new(level, summary).facts(facts).detail(json!({ "arrival": arrival })).avoid(&arrival.route)
}
