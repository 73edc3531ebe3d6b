//! What can be typed about access: the audit log.

use clap::Args;

/// Which acts to list.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Who did it, or a part of the name.
    #[arg(long, value_name = "NAME")]
    pub who: Option<String>,
    /// What it was done to: `route/o365`, or all of a kind: `route`.
    #[arg(long, value_name = "WHAT")]
    pub what: Option<String>,
    /// What was done: add, change, remove, hold, ...
    #[arg(long, value_name = "ACTION")]
    pub action: Option<String>,
    /// From this time on: RFC 3339, or how long ago (`2h`, `7d`).
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Before this time.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Most lines.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub limit: u32,
    /// Continue below this id.
    #[arg(long, value_name = "ID")]
    pub before: Option<i64>,
}
