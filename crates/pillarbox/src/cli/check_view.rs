//! Reports read on the command line: what is not understood is said so that somebody can help themselves.

use anyhow::Context;
use diagnose::Judged;
use serde_json::Value;

use super::Fault;
pub use crate::check::view::{Ended, FindingView, FixView, StageView, View, WayView};

/// Reads a report.
pub fn read(value: &Value) -> Result<View, Fault> {
    View::of(value)
        .context("the report is not understood: the versions of the two Pillarbox may differ")
        .map_err(Fault::cannot)
}

/// Findings by themselves.
pub fn findings(found: &[Judged]) -> Result<Vec<FindingView>, Fault> {
    let value = serde_json::to_value(found).map_err(|error| Fault::cannot(error.into()))?;
    serde_json::from_value(value).map_err(|error| Fault::cannot(error.into()))
}
