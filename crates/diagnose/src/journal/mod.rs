//! The DNS records that mail of a domain depends on, as each authoritative server has them: taken, compared, put into words.
//!
//! Nothing is kept here: whoever asks keeps the snapshots and gives the one before. Nothing is judged beyond "gone",
//! "half there" and "dead": whether a policy is a good one is the audit's affair.

mod difference;
mod snapshot;
mod take;
mod what;

pub use difference::{Difference, ServerChange};
pub use snapshot::{Patience, ServerState, ServerView, Snapshot};
pub use take::{Taken, of_address, of_domain};
pub use what::What;
