//! How incidents end: probes, mail that is delivered again, and what is let go then.

use relay::brake::{BrakeScope, ProbeOutcome, Ramp};
use relay::incident::Over;

use super::super::book::{self, Incident};
use super::super::model::{Body, Closed, EventKind, Happened, How, State, name};
use super::super::{braking, diagnose, opening};
use super::{DELIVERED, LONGEST_STEADY_MS, Live, Manager, QUIET_MS, REOPENS_MS, SETTLED_MS, STILL_MS};
use crate::cluster;
use crate::http::Shared;
use crate::http::api::incidents::ProbeOut;

impl Manager {
    /// Closes incidents whose mail is delivered again, and those that were not seen for long.
    pub(super) async fn close_what_works(&self, now_ms: i64) {
        let verdict = |live: &Live| {
            let since = now_ms - live.body.last_ms;
            let (some, quiet_ms) = (DELIVERED.0, steady(DELIVERED.1, live.body.reopened));
            if live.unclosed.is_some() {
                live.unclosed.clone()
            } else if live.body.is_own() || live.body.brake.is_some() {
                None
            } else if (live.fine >= some && since >= quiet_ms)
                || (live.fine > 0 && since >= steady(SETTLED_MS, live.body.reopened))
            {
                Some((
                    How::Delivered,
                    format!("Mail is delivered again: {} recipients since the last failure.", live.fine),
                ))
            } else {
                (since >= QUIET_MS).then(|| (How::Quiet, "It was not seen for a day.".to_owned()))
            }
        };
        let over: Vec<_> = self
            .open
            .lock()
            .iter()
            .filter_map(|(id, live)| verdict(live).map(|(how, what)| (*id, how, what)))
            .collect();
        for (id, how, what) in over {
            self.close(id, how, &what).await;
        }
    }

    /// Closes one and lets its mail go.
    pub(super) async fn close(&self, id: i64, how: How, what: &str) {
        let now_ms = self.now_ms();
        let closed = book::update(&*self.app.store, id, now_ms, |body| {
            if body.state == State::Closed {
                return None;
            }
            body.state = State::Closed;
            body.closed = Some(Closed { at_ms: now_ms, how, what: what.to_owned(), by: None });
            Some(vec![Happened::new(EventKind::Closed, what)])
        });
        match closed.await {
            Ok(Some(body)) => {
                self.open.lock().remove(&id);
                self.follow();
                self.let_go(id, &body).await;
            }
            Ok(None) => {
                self.open.lock().remove(&id);
            }
            Err(error) => {
                tracing::warn!(incident = %name(id), %error, "an incident is not closed yet");
                if let Some(live) = self.open.lock().get_mut(&id) {
                    live.unclosed = Some((how, what.to_owned()));
                }
            }
        }
    }

    /// What was closed, by whomever: brakes come off, mail is due, the alert is over.
    pub(super) async fn let_go(&self, id: i64, body: &Body) {
        let what = body.closed.as_ref().map_or("closed", |closed| closed.what.as_str());
        tracing::info!(incident = %name(id), scope = %body.scope, reason = %body.reason, "incident is over: {what}");
        self.relay.forget_evidence(&body.scope, &body.reason);
        self.app.alerts.resolve(&opening::alert_key(Some(id), body), what).await;
        if braking::take_off(&self.relay, id).await {
            return;
        }
        let Some(over) = over(body) else { return };
        match self.relay.let_go_of(&over, &format!("incident {}", name(id))).await {
            Ok(0) => {}
            Ok(count) => {
                let text = format!("{count} recipients that waited are due.");
                let noted = Happened::new(EventKind::Released, text);
                let _ = book::note(&*self.app.store, id, &noted, self.now_ms()).await;
            }
            Err(error) => tracing::warn!(incident = %name(id), %error, "mail waits until it would have been due"),
        }
    }

    /// Probes those without a brake whose time has come. One that shows that it works closes the incident.
    pub(super) fn probe_what_is_due(&self, now_ms: i64) {
        let routes = self.relay.routes();
        let version = |name: &Option<String>| {
            routes.iter().find(|route| Some(&*route.name) == name.as_deref()).map(|route| route.version)
        };
        let mut due = Vec::new();
        for (id, live) in self.open.lock().iter_mut() {
            let aim = &live.body.aim;
            if !live.changed && aim.route.is_some() && version(&aim.route) != aim.route_version {
                live.changed = true;
                live.probing.hasten(now_ms);
            }
            if live.body.is_own() || live.body.brake.is_some() || !live.probing.begin(now_ms) {
                continue;
            }
            due.push((*id, live.body.clone(), live.changed));
        }
        for (id, body, changed) in due {
            let manager = self.clone();
            self.tasks.spawn(async move { manager.probe(id, &body, changed).await });
        }
    }

    async fn probe(&self, id: i64, body: &Body, changed: bool) {
        let works = diagnose::run(&self.app, body).await.and_then(|checked| checked.works);
        // Only a check that has seen the failure can show that it is gone.
        let reproduced = body.diagnosis.as_ref().is_some_and(|before| !before.healthy);
        let last_ms = self.open.lock().get(&id).map_or(i64::MAX, |live| live.body.last_ms);
        let still_ms = self.now_ms().saturating_sub(last_ms);
        let wanted_ms = steady(STILL_MS, body.reopened);
        if works == Some(true) && reproduced && still_ms < wanted_ms {
            if let Some(live) = self.open.lock().get_mut(&id) {
                live.probing.passed_too_soon(self.now_ms() + wanted_ms - still_ms.max(0));
            }
            return;
        }
        if works == Some(true) && reproduced {
            let route = body.aim.route.as_deref().unwrap_or_default();
            return match changed && !route.is_empty() {
                true => {
                    self.close(id, How::Setting, &format!("Route {route} was changed, and its check passes.")).await
                }
                false => self.close(id, How::Probe, "A probe went well: what failed works again.").await,
            };
        }
        let now_ms = self.now_ms();
        if let Some(live) = self.open.lock().get_mut(&id) {
            live.probing.failed(now_ms);
        }
    }

    /// What brakes tell.
    pub(super) async fn braked(&self, told: relay::brake::BrakeNews) {
        use relay::brake::BrakeNews as News;
        match told {
            News::Braked { incident: Some(incident), cause, at_ms, .. } => self.again(incident, &cause, at_ms).await,
            // Evidence opens what is not open yet: the rejected sign-in is settled as an attempt.
            News::Braked { incident: None, .. } => {}
            News::ProbeFailed { incident, next_ms, cause, .. } => {
                let text = format!("A probe failed: {}", crate::http::words::failure(&cause.failure));
                let note = move |body: &mut Body| {
                    if let Some(brake) = &mut body.brake {
                        brake.next_ms = Some(next_ms);
                    }
                };
                self.change(incident, vec![Happened::new(EventKind::ProbeFailed, text)], note).await;
            }
            News::SettingChanged { scope, incident, .. } => {
                if let Some(live) = self.open.lock().get_mut(&incident) {
                    live.changed = true;
                }
                let text = format!("{scope}: its route was changed, it is probed at once.");
                self.change(incident, vec![Happened::new(EventKind::Changed, text)], |_| {}).await;
            }
            News::ProbeSucceeded { scope, incident, .. } => self.probe_succeeded(&scope, incident).await,
            News::Released { incident, recipients, .. } => {
                let text = format!("All held mail was let go: {recipients} recipients.");
                let noted = Happened::new(EventKind::Released, text);
                if let Err(error) = book::note(&*self.app.store, incident, &noted, self.now_ms()).await {
                    tracing::warn!(incident = %name(incident), %error, "its history is not written");
                }
            }
        }
    }

    /// While its mail was let go it failed as before: the same incident goes on, and there is no second one.
    pub(super) async fn again(&self, id: i64, cause: &store::Cause, at_ms: i64) {
        let text = format!("It fails as before: {}", crate::http::words::failure(&cause.failure));
        let opened = book::update(&*self.app.store, id, at_ms, |body| {
            if body.state != State::Closed {
                return None;
            }
            (body.state, body.closed, body.last_ms) = (State::Open, None, body.last_ms.max(at_ms));
            Some(vec![Happened::new(EventKind::Opened, text.as_str())])
        });
        match opened.await {
            Ok(Some(body)) => {
                tracing::warn!(incident = %name(id), scope = %body.scope, "incident is open again: {text}");
                self.open.lock().insert(id, Live::new(body.clone(), self.now_ms()));
                self.follow();
                self.app.alerts.raise(opening::alert(Some(id), &body, &self.app.rules())).await;
            }
            Ok(None) => {}
            // Another one was opened for the same meanwhile: it has the brake too.
            Err(error) => tracing::warn!(incident = %name(id), %error, "an incident is not opened again"),
        }
    }

    /// It came back soon after it had ended by itself: the same incident goes on. Gives whether there was one.
    pub(super) async fn reopen(&self, id: i64, seen: &Body) -> bool {
        let now_ms = self.now_ms();
        let text = format!("It is back: {}.", opening::summary(seen).trim_end_matches('.'));
        let opened = book::update(&*self.app.store, id, now_ms, |body| {
            if !came_back(body, now_ms) {
                return None;
            }
            (body.state, body.closed) = (State::Open, None);
            body.reopened = body.reopened.saturating_add(1);
            body.last_ms = body.last_ms.max(seen.last_ms);
            body.severity = body.severity.max(seen.severity);
            body.counts.attempts += seen.counts.attempts;
            body.counts.recipients += seen.counts.recipients;
            body.counts.messages += seen.counts.messages;
            (body.cause, body.diagnosis, body.aim) = (seen.cause.clone(), None, seen.aim.clone());
            (body.rule, body.provider) = (seen.rule.clone(), seen.provider.clone());
            Some(vec![Happened::new(EventKind::Opened, text.as_str())])
        });
        match opened.await {
            Ok(Some(body)) if body.state == State::Open => {
                tracing::warn!(incident = %name(id), scope = %body.scope, reason = %body.reason, "incident: {text}");
                self.open.lock().insert(id, Live::new(body.clone(), now_ms));
                self.follow();
                self.opened(id, body).await;
                true
            }
            // A new one is opened, or it waits for the store.
            Ok(_) | Err(_) => false,
        }
    }

    pub(super) async fn probe_succeeded(&self, scope: &relay::brake::BrakeScope, incident: Option<i64>) {
        let of_scope = |(id, live): (&i64, &Live)| {
            let braked = live.body.brake.as_ref().is_some_and(|brake| brake.scope == scope.to_string());
            (Some(*id) == incident || braked).then_some((*id, live.changed, live.body.aim.route.clone()))
        };
        let over: Vec<_> = self.open.lock().iter().filter_map(of_scope).collect();
        for (id, changed, route) in over {
            let text = format!("A probe of {scope} went well.");
            self.change(id, vec![Happened::new(EventKind::ProbeSucceeded, text)], |_| {}).await;
            match (changed, route) {
                (true, Some(route)) => {
                    self.close(id, How::Setting, &format!("Route {route} was changed, and its probe went well.")).await;
                }
                _ => self.close(id, How::Probe, &format!("A probe of {scope} went well without a change here.")).await,
            }
        }
    }
}

/// Whether an incident ended by itself so lately that the same failure is still it. What stood still for it ends by its brake,
/// and what a person closed is over.
pub(super) fn came_back(body: &Body, now_ms: i64) -> bool {
    let lately = body
        .closed
        .as_ref()
        .is_some_and(|closed| closed.how != How::Manual && (0..REOPENS_MS).contains(&(now_ms - closed.at_ms)));
    body.state == State::Closed && lately && body.brake.is_none() && !body.is_own()
}

/// What an incident's end means to its mail. What flows already is not slowed down.
fn over(body: &Body) -> Option<Over> {
    let how = body.closed.as_ref().map(|closed| closed.how);
    Some(Over {
        scope: body.scope.clone(),
        rule: body.rule.clone()?,
        route: body.aim.route.clone(),
        ramp: (how != Some(How::Delivered)).then(Ramp::default),
    })
}

/// How long it must have been still: the oftener it came back, the longer; milliseconds.
fn steady(ms: i64, reopened: u32) -> i64 {
    ms.saturating_mul(1 << reopened.min(10)).min(LONGEST_STEADY_MS.max(ms))
}

/// A probe that somebody asks for: of the brake, or the check that fits. One that shows that it works closes the incident.
pub async fn probe_now(app: &Shared, one: &Incident) -> ProbeOut {
    let told = |works, text: String| ProbeOut { works, text };
    let Some(relay) = &app.relay else { return told(None, "The server is not running.".into()) };
    if cluster::tell(app, || cluster::Word::Probe(one.id)) {
        return told(None, "The node that leads probes it: look again in a moment.".into());
    }
    let brake = one.body.brake.as_ref().and_then(|brake| brake.scope.parse::<BrakeScope>().ok());
    let Some(scope) = brake else {
        let checked = diagnose::run(app, &one.body).await;
        let Some(checked) = checked else { return told(None, "There is nothing to probe for it.".into()) };
        if checked.works == Some(true) {
            app.incidents.probe(one.id);
        }
        return match checked.works {
            Some(true) => told(Some(true), "What failed works again.".into()),
            Some(false) => told(Some(false), format!("It still fails: {}.", checked.diagnosis.title)),
            None => told(None, format!("The check cannot tell: {}.", checked.diagnosis.title)),
        };
    };
    match relay.probe(&scope).await {
        ProbeOutcome::Succeeded => told(Some(true), format!("{scope} works again: the incident is being closed.")),
        ProbeOutcome::Failed { cause, next_ms } => {
            let next = next_ms.map(|at| format!(" The next probe goes at {}.", crate::http::time::show(at)));
            let what = crate::http::words::failure(&cause.failure);
            told(Some(false), format!("It still fails: {what}.{}", next.unwrap_or_default()))
        }
        ProbeOutcome::NothingToTry => told(None, "Only mail could show it, and none is held.".into()),
        ProbeOutcome::NotNow => told(None, "A probe is under way, or the brake has come off.".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Severity;

    #[test]
    fn what_comes_back_often_has_to_be_still_for_longer() {
        assert_eq!([0, 1, 3, 6, 60].map(|times| steady(10_000, times)), [10_000, 20_000, 80_000, 600_000, 600_000]);
        assert_eq!(steady(60_000, 4), 600_000);
    }

    #[test]
    fn only_what_ended_by_itself_a_moment_ago_is_the_same() {
        let closed = |how, at_ms| {
            let mut body = opening::own("x", "greylisted", Severity::Problem, String::new(), 1);
            (body.scope, body.state) = (store::IncidentScope::Route("out".into()), State::Closed);
            body.closed = Some(Closed { at_ms, how, what: "x".into(), by: None });
            body
        };
        assert!(came_back(&closed(How::Delivered, 1_000), 1_000 + REOPENS_MS - 1));
        assert!(!came_back(&closed(How::Delivered, 1_000), 1_000 + REOPENS_MS));
        assert!(!came_back(&closed(How::Manual, 1_000), 2_000), "a person said that it is over");
        let open = Body { state: State::Open, ..closed(How::Delivered, 1_000) };
        assert!(!came_back(&open, 2_000));
        let note = crate::incident::model::BrakeNote { scope: "route:out".into(), next_ms: None };
        let braked = Body { brake: Some(note), ..closed(How::Delivered, 1_000) };
        assert!(!came_back(&braked, 2_000), "its brake says when it ends");
    }
}
