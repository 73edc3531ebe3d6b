//! Incidents: what fails for many becomes one thing that is told, diagnosed and closed.
//!
//! The relay gathers evidence ([`relay::incident`]). [`manager`] opens incidents from it, counts, runs the matching check
//! ([`diagnose`]), brakes and lets go, and closes what is fixed. [`own`] watches Pillarbox itself. What is kept are records
//! ([`book`], [`model`]); words are made by whoever reads ([`words`]).

pub mod book;
mod braking;
mod changes;
pub mod diagnose;
pub mod elsewhere;
pub mod manager;
pub mod model;
pub mod opening;
pub mod own;
#[cfg(test)]
mod own_story;
pub mod probe;
pub mod words;

pub use manager::{Incidents, prepare, run};
