//! SMTP: commands, replies, capabilities, SASL, content framing, and the two machines.

pub mod body;
pub mod capability;
pub mod client;
pub mod command;
pub mod reply;
pub mod sasl;
pub mod server;
