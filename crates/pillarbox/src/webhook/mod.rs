//! Webhooks: applications are told by HTTP what became of their messages, signed as Standard Webhooks says.
//!
//! Each webhook follows the store's events behind a cursor of its own ([`endpoint`]); what one endpoint does or does not do
//! reaches neither the others nor the relay. [`record`] is what is set, [`health`] when to try again, [`payload`] what is
//! told, [`sign`] how it is signed, [`post`] the one place that connects.

mod chains;
mod endpoint;
pub mod health;
mod manager;
pub mod payload;
pub mod post;
pub mod record;
pub mod sign;

pub use chains::{Ended, Logged};
pub use manager::{Hooks, run};
