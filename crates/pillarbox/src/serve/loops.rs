//! The parts of the server that go round as long as it runs, each looked after as a job.

use std::sync::Arc;

use net::Net;
use relay::verp::Verp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{alignment, domains};
use crate::http::Shared;
use crate::monitor::Group;
use crate::monitor::jobs::{Spec, supervise};
use crate::returned::{mailbox, reader};

const RETURNED: Spec = Spec {
    name: "returned-mail",
    title: "Reads mail that came back",
    group: Group::Mail,
    schedule: "when mail comes back",
};
const MAILBOXES: Spec = Spec {
    name: "mailboxes",
    title: "Polls mailboxes for what came back",
    group: Group::Mail,
    schedule: "as each mailbox says",
};
const KEYS: Spec =
    Spec { name: "domain-keys", title: "Keys of domains in the DNS", group: Group::Care, schedule: "every 5m" };
const WEBHOOKS: Spec = Spec {
    name: "webhooks",
    title: "Tells webhooks of events",
    group: Group::Mail,
    schedule: "when something happens",
};
const ALIGNMENT: Spec = Spec {
    name: "alignment",
    title: "Whether receivers will believe our mail",
    group: Group::Care,
    schedule: "daily for each domain, and after changes",
};

const ALERTS: Spec = Spec {
    name: "alerts",
    title: "Tells what is worth telling",
    group: Group::Report,
    schedule: "when something is raised",
};
const WATCH: Spec = Spec {
    name: "alert-watch",
    title: "Looks at the age of the queue, rates, quotas and fallbacks",
    group: Group::Care,
    schedule: "every 30s",
};
const VOLUMES: Spec = Spec {
    name: "volumes",
    title: "Learns usual volumes and finds spikes",
    group: Group::Care,
    schedule: "all the time",
};
const SESSIONS: Spec =
    Spec { name: "sessions", title: "Forgets sessions and acts that are over", group: Group::Care, schedule: "hourly" };
const ARRIVALS: Spec = Spec {
    name: "arrivals",
    title: "Follows test mails until they arrive",
    group: Group::Care,
    schedule: "while one is on its way",
};

/// What they need beside the application.
pub struct Needs {
    /// The network.
    pub net: Net,
    /// Return paths of our own.
    pub verp: Option<Arc<Verp>>,
    /// Wakes the reader of returned mail.
    pub came: Arc<Notify>,
}

/// Starts them all.
pub fn start(tasks: &TaskTracker, closing: &CancellationToken, app: &Shared, needs: Needs) {
    let Needs { net, verp, came } = needs;
    let closing = || closing.clone();
    let wake = came.clone();
    tasks.spawn(supervise(app.clone(), RETURNED, closing(), move |app, stop| {
        reader::run(app, verp.clone(), wake.clone(), stop)
    }));
    let polled = net.clone();
    tasks.spawn(supervise(app.clone(), MAILBOXES, closing(), move |app, stop| {
        mailbox::run(app, polled.clone(), came.clone(), stop)
    }));
    let looking = net.clone();
    tasks.spawn(supervise(app.clone(), ARRIVALS, closing(), move |app, stop| {
        crate::arrival::watch::run(app, looking.clone(), stop)
    }));
    tasks.spawn(supervise(app.clone(), KEYS, closing(), domains::run));
    tasks.spawn(supervise(app.clone(), WEBHOOKS, closing(), crate::webhook::run));
    tasks.spawn(supervise(app.clone(), ALERTS, closing(), crate::alert::dispatch::run));
    tasks.spawn(supervise(app.clone(), WATCH, closing(), crate::alert::watch::run));
    crate::alert::weekly::register(app);
    tasks.spawn(supervise(app.clone(), VOLUMES, closing(), crate::volume::run));
    tasks.spawn(supervise(app.clone(), SESSIONS, closing(), crate::access::run));
    tasks.spawn(supervise(app.clone(), ALIGNMENT, closing(), move |app, stop| alignment::run(app, net.clone(), stop)));
}
