//! Bytes to meaning and back, without sockets, files, clocks or randomness.
//!
//! Everything here is a function of its input: it cannot fail because of the world, only because of
//! what it was given. Time is an argument where it matters.

pub mod address;
pub mod envelope;
pub mod message;
pub mod policy;
pub mod report;
pub mod smtp;
pub mod transcript;

pub use address::{Address, AddressError, ReversePath};
pub use envelope::{BodyType, DeliveryNotify, Envelope, MailParameters, RcptParameters, Recipient, ReturnContent};
