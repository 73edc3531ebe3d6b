//! Words of incidents: titles, meaning and what to do, in order. Made when somebody reads, so better rules help old incidents.

use explain::{Owner, Query, RenderedFix, RuleBase};
use serde::{Deserialize, Serialize};
use store::IncidentScope;

use super::model::Body;
use crate::alert::Severity;

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixOut {
    /// Whose turn it is: `you`, `your_provider`, `recipient`, `recipient_admin` or `nobody`.
    pub who: String,
    /// What to do.
    pub text: String,
    /// The exact command, DNS record or setting.
    pub run: Option<String>,
}

impl FixOut {
    /// A fix of a rule.
    pub fn of(fix: &RenderedFix) -> Self {
        Self { who: fix.who.to_string(), text: fix.text.clone(), run: fix.run.clone() }
    }

    fn own(text: &str, run: Option<&str>) -> Self {
        Self { who: Owner::You.to_string(), text: text.into(), run: run.map(Into::into) }
    }
}

/// What an incident says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// One line without a full stop.
    pub title: String,
    /// Full sentences.
    pub meaning: String,
    /// Likely causes, the likeliest first.
    pub causes: Vec<String>,
    /// What to do, in order.
    pub fixes: Vec<FixOut>,
}

/// Whom it touches, as one says it.
pub fn scope(scope: &IncidentScope) -> String {
    match scope {
        IncidentScope::Everyone => "all mail".into(),
        IncidentScope::Route(name) => format!("route {name}"),
        IncidentScope::Credential(name) => format!("the credential of route {name}"),
        IncidentScope::Source(name) => format!("our address {name}"),
        IncidentScope::Family(family) => format!("connections over {}", family.as_str().replace('v', "IPv")),
        IncidentScope::Provider(name) => format!("mail to {name}"),
        IncidentScope::Destination(name) => format!("destination {name}"),
        IncidentScope::Domain(name) => format!("mail to {name}"),
        IncidentScope::SenderDomain(name) => format!("mail from {name}"),
        IncidentScope::Stream(name) => format!("stream {name}"),
        IncidentScope::Sender(name) => format!("sender {name}"),
        IncidentScope::Address(name) => format!("mail to {name}"),
        IncidentScope::Itself(part) => format!("Pillarbox itself: {part}"),
    }
}

/// The words of an incident.
pub fn of(rules: &RuleBase, body: &Body) -> Words {
    if body.is_own() {
        return own(body);
    }
    let finding = body
        .cause
        .as_ref()
        .and_then(|cause| rules.judge(&Query::failure(cause.stage, &cause.failure).at(cause.provider.as_deref())));
    let told = finding.and_then(|finding| rules.explain(&finding));
    match told {
        Some(told) => Words {
            title: format!("{}: {}", capitalised(&scope(&body.scope)), told.title),
            meaning: told.meaning,
            causes: told.causes,
            fixes: told.fixes.iter().map(FixOut::of).collect(),
        },
        None => Words {
            title: format!("{}: {}", capitalised(&scope(&body.scope)), body.reason.replace('_', " ")),
            meaning: "The rule that explained it is gone.".into(),
            causes: Vec::new(),
            fixes: Vec::new(),
        },
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Failures of Pillarbox itself.
fn own(body: &Body) -> Words {
    let detail = body.detail.as_deref().unwrap_or_default();
    let (title, meaning, steps): (&str, &str, &[(&str, Option<&str>)]) = match body.reason.as_str() {
        "store_full" => (
            "The disk is nearly full: no mail is accepted",
            "Clients get 452 4.3.1 and keep their mail; what is queued is still delivered and recorded.",
            &[
                ("See what takes the room on the disk of the data directory.", Some("df -h; pillarbox status")),
                (
                    "Make room, or move the data directory to a larger disk. Mail is accepted again within a second.",
                    None,
                ),
                ("Keep contents and events for a shorter time.", Some("pillarbox config show")),
            ],
        ),
        "store_unwell" => (
            "The store cannot write: no mail is accepted until it was verified",
            "A write or sync failed. Nothing that was answered with 250 is lost; the store opens and verifies itself again each second.",
            &[
                ("Look for errors of the disk in the kernel's log.", Some("journalctl -k --since -1h")),
                ("Check that the disk is mounted for writing and has room.", Some("df -h; mount")),
                ("When the disk is well again, verify the store.", Some("pillarbox verify")),
                ("If it does not come back, restore the latest backup to a good disk.", None),
            ],
        ),
        "store_away" => (
            "The database cannot be used: no mail is accepted until it can",
            "Clients get 451 4.3.0 and keep their mail. Nothing that was answered with 250 is lost; what next hops took meanwhile is written down when the database is back.",
            &[
                ("See whether PostgreSQL runs, and start it.", Some("systemctl status postgresql")),
                ("See whether it answers this machine.", Some("pg_isready -h HOST -p PORT")),
                ("Read what its log says of the time before: room, memory, a restart, a failover.", None),
                (
                    "If its machine is lost, promote the standby, and name both in `store` with target_session_attrs=read-write.",
                    Some("pg_ctl promote"),
                ),
            ],
        ),
        "queue_stalled" => (
            "Mail is due and nothing is tried",
            "Mail has been due for minutes and no attempt was finished meanwhile.",
            &[
                ("See what the queue waits for: brakes, paused destinations, connections.", Some("pillarbox status")),
                ("See whether other incidents explain it.", Some("pillarbox incident list")),
                ("Look for errors in the log.", Some("journalctl -u pillarbox --since -15min -p warning")),
                ("Check that the store answers.", Some("pillarbox verify")),
                ("Try what is due now.", Some("pillarbox queue retry --all")),
                ("Restart the server: no mail is lost by it.", Some("systemctl restart pillarbox")),
            ],
        ),
        "clock_jumped" => (
            "The clock was set by a leap",
            "Due times, expiry, certificates and tokens depend on the clock. Mail that seems due in the far future is mended by itself.",
            &[
                ("See whether the clock is kept in step with others.", Some("timedatectl status")),
                ("Switch that on, or mend its servers.", Some("timedatectl set-ntp true")),
                ("On a virtual machine, look whether it was suspended or moved.", None),
            ],
        ),
        "certificate_expires" | "certificate_expired" => {
            let steps: &[(&str, Option<&str>)] = &[
                ("Renew it, and read it again without a restart.", Some("pillarbox reload")),
                ("See why it was not renewed by itself: the renewal has to write the same file.", None),
            ];
            if body.severity == Severity::Critical {
                let meaning = "Once it has ended, clients that verify certificates do not submit mail any more.";
                ("The certificate of a listener is at its end", meaning, steps)
            } else {
                let meaning = "Clients that verify certificates will not submit mail once it has ended.";
                ("The certificate of a listener ends soon", meaning, steps)
            }
        }
        "worker_died" => (
            "A part of the program ended by a defect",
            "Parts that go round were started again; what a connection had in hand is taken up after a restart. Please report it with the line below.",
            &[
                ("Look at the log around that time.", Some("journalctl -u pillarbox --since -1h -p err")),
                ("Restart the server: no mail is lost by it.", Some("systemctl restart pillarbox")),
                ("Report the defect, with version and line.", Some("pillarbox --version")),
            ],
        ),
        _ => ("Something is wrong with the program itself", "", &[]),
    };
    Words {
        title: title.into(),
        meaning: [meaning, detail].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" "),
        causes: Vec::new(),
        fixes: steps.iter().map(|(text, run)| FixOut::own(text, *run)).collect(),
    }
}
