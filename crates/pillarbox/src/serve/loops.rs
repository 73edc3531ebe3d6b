//! The parts of the server that go round as long as it runs, each looked after as a job.

use std::sync::Arc;
use std::time::Duration;

use net::Net;
use relay::verp::Verp;
use store::StoreError;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{alignment, domains};
use crate::http::Shared;
use crate::monitor::Group;
use crate::monitor::jobs::{Spec, supervise};
use crate::returned::{mailbox, reader};

const RETURNED: Spec =
    Spec::new("returned-mail", "Reads mail that came back", Group::Mail, "when mail comes back").at_lead();
const MAILBOXES: Spec =
    Spec::new("mailboxes", "Polls mailboxes for what came back", Group::Mail, "as each mailbox says").at_lead();
const KEYS: Spec = Spec::new("domain-keys", "Keys of domains in the DNS", Group::Care, "every 5m").at_lead();
const WEBHOOKS: Spec =
    Spec::new("webhooks", "Tells webhooks of events", Group::Mail, "when something happens").at_lead();
const ALIGNMENT: Spec = Spec::new(
    "alignment",
    "Whether receivers will believe our mail",
    Group::Care,
    "daily for each domain, and after changes",
);

const ALERTS: Spec =
    Spec::new("alerts", "Tells what is worth telling", Group::Report, "when something is raised").at_last_lead();
const WATCH: Spec =
    Spec::new("alert-watch", "Looks at the age of the queue, rates, quotas and fallbacks", Group::Care, "every 30s")
        .at_lead();
/// Opens and closes incidents.
pub const INCIDENTS: Spec = Spec::new("incidents", "Opens and closes incidents", Group::Care, "all the time").at_lead();
/// Looks at this node while another leads.
pub const ITSELF: Spec =
    Spec::new("self-watch", "Looks at this node and tells the one that leads", Group::Care, "every 5s");
const VOLUMES: Spec = Spec::new("volumes", "Learns usual volumes and finds spikes", Group::Care, "all the time");
const SERIES: Spec = Spec::new("series", "Writes down what became of mail, for the charts", Group::Care, "every 1m");
const SESSIONS: Spec =
    Spec::new("sessions", "Forgets sessions and acts that are over", Group::Care, "hourly").at_lead();
const ARRIVALS: Spec =
    Spec::new("arrivals", "Follows test mails until they arrive", Group::Care, "while one is on its way").at_lead();

const ASKED: Spec = Spec::new(
    "asked-tests",
    "Runs SMTP tests that another node asks this one for",
    Group::Care,
    "every second, with several nodes",
);

const SEARCH: Spec = Spec::new(
    "search-index",
    "Keeps what searches look into up to date",
    Group::Care,
    "every second, when mail came in",
)
.at_lead();
/// Mail that came in is in the index of searches so soon.
const SEARCH_EVERY: Duration = Duration::from_secs(1);

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
    tasks.spawn(crate::cluster::hear(app.clone(), closing()));
    tasks.spawn(supervise(app.clone(), VOLUMES, closing(), crate::volume::run));
    tasks.spawn(supervise(app.clone(), SERIES, closing(), crate::series::run));
    tasks.spawn(supervise(app.clone(), SESSIONS, closing(), crate::access::run));
    tasks.spawn(crate::smtp_test::until_closing(app.clone(), closing()));
    if app.tests.node().is_some() {
        tasks.spawn(supervise(app.clone(), ASKED, closing(), crate::smtp_test::elsewhere::run));
    }
    tasks.spawn(supervise(app.clone(), SEARCH, closing(), index));
    tasks.spawn(supervise(app.clone(), ALIGNMENT, closing(), move |app, stop| alignment::run(app, net.clone(), stop)));
}

/// Adds what came in to the index of searches. What is not in it yet is found by looking at it, so being late costs little.
async fn index(app: Shared, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(SEARCH_EVERY) => {}
            () = stop.cancelled() => return,
        }
        match app.store.catch_up_search().await {
            Ok(_) | Err(StoreError::Closed) => {}
            Err(error) => tracing::warn!(%error, "the index of searches could not be brought up to date"),
        }
    }
}
