//! The order of the stages.

use std::sync::Arc;

use explain::RuleBase;
use net::Net;

use super::plan::Plan;
use super::report::{Event, Report, Way};

/// Probes a server as `plan` says and tells `watch` of everything as it happens. To cancel, drop the future.
pub async fn run(net: &Net, rules: Arc<RuleBase>, plan: &Plan, watch: &mut (dyn FnMut(Event<'_>) + Send)) -> Report {
    let _ = (net, rules, watch);
    Report {
        schema: "pillarbox.check/1",
        started_ms: 0,
        took_us: 0,
        waited_us: 0,
        target: Way { host: plan.target.host.clone(), port: 0, tls: "none" },
        healthy: false,
        result: explain::ResultWord::ConnectionFailed,
        reason: explain::Reason::HostUnknown,
        failed_at: None,
        owner: None,
        provider: None,
        stages: Vec::new(),
        findings: Vec::new(),
        working: None,
        insecure: false,
        transcripts: Vec::new(),
    }
}
