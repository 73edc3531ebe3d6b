//! What the engines have in common: decisions and limits that have nothing to do with how rows are kept.

pub(crate) mod batched;
pub(crate) mod figures;
pub(crate) mod listed;
pub(crate) mod queued;
pub(crate) mod recorded;
pub(crate) mod returned;
pub(crate) mod shares;
pub(crate) mod sought;
pub(crate) mod stretch;

/// Most rows a question may ask for.
pub(crate) const MOST: u32 = 1_000;

/// A limit within its bounds.
pub(crate) fn bounded(limit: u32) -> usize {
    limit.clamp(1, MOST) as usize
}
