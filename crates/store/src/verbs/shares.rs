//! Limits that several nodes keep together.

use crate::Pending;
use crate::model::{Incarnation, Share, ShareRequest};

/// Shares of limits. Time is the server's here: nodes need not agree on it.
pub trait Shares: Send + Sync {
    /// Reports what a run used of its shares, and takes more or gives back what it does not use, in one transaction, at most
    /// [`crate::MOST_SHARES`]; gives how each stands now, in their order. `None`: there are no other nodes, and nothing to share.
    ///
    /// What all runs together were granted and what was used in a window is never more than its limit. Totals are those since the
    /// run began, so that a request whose answer was lost can be made again. What a run that is silent for its lease time holds
    /// counts as used from then on.
    fn share(&self, by: Incarnation, list: Vec<ShareRequest>) -> Option<Pending<Vec<Share>>> {
        let _ = (by, list);
        None
    }
}
