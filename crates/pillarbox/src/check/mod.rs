//! A check of a mail server as it is asked for, on the command line or by the API: reading what was asked, looking at
//! the credentials, running the probe, and one report of both.

pub mod commands;
pub mod compare;
pub mod documented;
pub mod graph;
mod input;
pub mod route;
mod run;
mod target;
pub mod token;
pub mod view;

pub use input::{CheckIn, Families, MessageStage, Prepared, TlsMode};
pub use run::{credentials, perform};
pub use target::Aim;
