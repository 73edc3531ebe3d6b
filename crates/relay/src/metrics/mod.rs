//! What the relay counts: relaxed atomics behind bounded sets of labels, and figures for whoever shows them.
//!
//! The way of a message meets no lock, no allocation and no text here: label values become numbers once, and a number
//! finds its cell. Labels are names of ours (route, provider, reason, stream, …), never addresses or words of peers; what
//! finds no room in a set is counted as `other`. How figures are written out is others' affair.

mod cell;
mod family;
mod figure;
mod levels;
mod record;
mod totals;

pub use cell::{Counter, Histogram};
pub use figure::{Figure, Kind, OTHER, Point, Spread, Value};
pub use record::Metrics;
pub use totals::Totals;
