//! From a report of the check engine to what a scheduled check found.

use diagnose::Judged;
use diagnose::check::{Outcome, Report};
use explain::{RenderedFix, Severity};
use proto::transcript::Stage;
use serde_json::{Value, json};

use crate::http::problem::Problem;
use crate::monitor::{Found, Level};

/// Most findings that are kept of a report.
const MOST: usize = 20;

/// The level of a finding.
pub(in crate::monitor) fn level_of(severity: Severity) -> Level {
    match severity {
        Severity::Problem => Level::Problem,
        Severity::Warning => Level::Warning,
        Severity::Note => Level::Note,
    }
}

/// A fix in one line.
pub(in crate::monitor) fn fix(fix: &RenderedFix) -> String {
    match &fix.run {
        Some(run) => format!("{}: {run}", fix.text.trim_end_matches(['.', ':'])),
        None => fix.text.clone(),
    }
}

/// Findings as they are kept.
pub(super) fn findings<'a>(all: impl IntoIterator<Item = &'a Judged>) -> Value {
    let one = |one: &Judged| {
        json!({
            "severity": one.severity, "stage": one.stage, "rule": one.explanation.rule, "title": one.explanation.title,
            "meaning": one.explanation.meaning, "fixes": one.explanation.fixes.iter().map(fix).collect::<Vec<_>>(),
        })
    };
    all.into_iter().take(MOST).map(one).collect()
}

/// What a report says, as far as its stages went.
pub(super) fn found(report: &Report, well: impl FnOnce() -> String) -> Found {
    let stages: Vec<Value> = report
        .stages
        .iter()
        .map(|one| json!({ "stage": one.stage, "outcome": one.outcome, "summary": one.summary }))
        .collect();
    let detail = json!({ "target": report.target, "stages": stages, "findings": findings(&report.findings) });
    let facts = json!({
        "healthy": report.healthy, "reason": report.reason, "failed_at": report.failed_at, "provider": report.provider,
    });
    if report.healthy {
        return Found::ok(well()).facts(facts).detail(detail);
    }
    let first = report.findings.first();
    let title = first.map_or_else(|| "the check failed".to_owned(), |one| one.explanation.title.clone());
    let at = format!("{}:{}", report.target.host, report.target.port);
    let advice = first.map(|one| one.explanation.fixes.iter().map(fix).collect()).unwrap_or_default();
    let found = Found::new(Level::Problem, format!("{at}: {title}")).facts(facts).detail(detail).advice(advice);
    // A server that said no to a credential means it; asking twice only makes it count.
    let refused = |one: &Judged| one.stage == Some(Stage::Auth) && one.reply.is_some();
    if report.failed_at == Some(Stage::Auth) && report.findings.iter().any(refused) { found.sure() } else { found }
}

/// A check that could not be run.
pub(super) fn not_run(problem: &Problem) -> Found {
    Found::skipped(format!("it could not be run: {}", problem.detail))
}

/// Whether a stage was passed.
pub(super) fn passed(report: &Report, stage: Stage) -> bool {
    report.stages.iter().any(|one| one.stage == stage && one.outcome == Outcome::Passed)
}
