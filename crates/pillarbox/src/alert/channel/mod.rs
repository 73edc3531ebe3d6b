//! Ways by which alerts are told: what is set for them ([`record`]), when they are left alone ([`quiet`]).

pub mod quiet;
pub mod record;

pub use record::{ChannelKind, ChannelRecord};
