//! Something says that a test mail came: the record is closed and judged, alerts are raised or ended.

use store::StoreError;

use super::judge::{self, Place, Seen, Way};
use super::record::{self, Arrival, ArrivalState, Stored, Token};
use crate::alert::{Alert, AlertRule, Severity};
use crate::http::App;

/// Takes the mail, or its header, that has a token of ours in it. `None`: there is none, or it names no test mail of ours.
pub async fn confirm(app: &App, mail: &[u8], seen: &Seen<'_>) -> Result<Option<Stored>, StoreError> {
    for token in Token::all_in(mail) {
        let Some(mut stored) = record::by_token(&*app.store, &token).await? else { continue };
        let judgement = judge::judge(&app.rules(), mail, stored.arrival.sent_ms, seen);
        // A person with the header knows more than we: it counts even for one that was given up.
        let late = judgement.at_ms > stored.arrival.deadline_ms();
        stored.arrival.state = if late { ArrivalState::Late } else { ArrivalState::Arrived };
        stored.arrival.problem = None;
        stored.arrival.judgement = Some(judgement);
        stored.open = false;
        if !record::change(&*app.store, &stored).await? {
            // Somebody else was faster, with the same news.
            return record::by_token(&*app.store, &token).await;
        }
        tracing::info!(token = token.as_str(), route = %stored.arrival.route, to = %stored.arrival.to, state = stored.arrival.state.as_str(), "a test mail arrived");
        tell(app, &stored.arrival).await;
        return Ok(Some(stored));
    }
    Ok(None)
}

/// As [`confirm`], for mail that came to our own listener.
pub async fn by_listener(app: &App, mail: &[u8], at_ms: i64) -> Result<Option<Stored>, StoreError> {
    let seen = Seen { way: Way::Listener, folder: None, at_ms: Some(at_ms), now_ms: app.clock.now_ms() };
    confirm(app, mail, &seen).await
}

/// Raises an alert, or ends it.
pub async fn tell(app: &App, arrival: &Arrival) {
    let key = arrival.alert_key();
    let way = format!("by the route {} to {}", arrival.route, arrival.to);
    let judgement = arrival.judgement.as_ref();
    let (severity, title, mut text) = match arrival.state {
        ArrivalState::Waiting => return,
        ArrivalState::Missing => (
            Severity::Problem,
            format!("A test mail {way} did not arrive"),
            format!(
                "It was given {} minutes. What the queue knows: pillarbox queue show {}",
                arrival.within_s.div_ceil(60),
                arrival.message.as_deref().unwrap_or("?")
            ),
        ),
        ArrivalState::Failed => (Severity::Problem, format!("A test mail {way} failed"), String::new()),
        ArrivalState::Arrived | ArrivalState::Late => match judgement {
            Some(found) if found.place == Place::Junk => (
                Severity::Problem,
                format!("A test mail {way} was filed as spam"),
                format!("It lay in {}.", found.folder.as_deref().unwrap_or("the junk folder")),
            ),
            Some(found) if !found.is_good() => {
                (Severity::Warning, format!("A test mail {way} arrived, but something is wrong"), String::new())
            }
            Some(found) if arrival.state == ArrivalState::Late => (
                Severity::Warning,
                format!("A test mail {way} arrived late"),
                format!("It took {} seconds.", found.delay_s),
            ),
            _ => return app.alerts.resolve(&key, "a test mail arrived in time").await,
        },
    };
    for line in arrival.problem.iter().cloned().chain(judgement.into_iter().flat_map(|found| {
        found.noticed.iter().map(|one| format!("{}. {} {}", one.title, one.meaning, one.fixes.join(" ")))
    })) {
        text.push('\n');
        text.push_str(&line);
    }
    let about = vec![("route".to_owned(), arrival.route.clone()), ("to".to_owned(), arrival.to.clone())];
    let alert = Alert {
        key,
        rule: AlertRule::Arrival,
        severity,
        title,
        text: text.trim().to_owned(),
        about,
        avoid: vec![arrival.route.clone()],
        link: None,
    };
    app.alerts.raise(alert).await;
}
