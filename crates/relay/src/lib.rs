//! Accept, schedule, route, deliver, judge.
//!
//! `schedule`, `backoff` and `verdict` are pure. A message's way: [`smtp`] or HTTP → [`accept`] → `admission` → store →
//! `dispatch` → [`schedule`] → `connection` → `attempt` → [`verdict`] → `settle` → store; [`run`] keeps it going. `notice` follows the events.

pub mod accept;
mod admission;
mod attempt;
pub mod backoff;
pub mod batch;
pub mod brake;
pub mod budget;
pub mod config;
mod connection;
pub mod credential;
mod deadline;
mod digest;
pub mod directory;
mod dispatch;
mod divert;
pub mod domain;
mod exchangers;
pub mod failover;
pub mod graph;
mod hop;
pub mod incident;
pub mod metrics;
pub mod node;
mod notice;
pub mod oauth;
pub mod outlook;
pub mod own_mail;
mod pairs;
pub mod pulse;
pub mod rates;
pub mod refusal;
pub mod route;
pub mod run;
pub mod schedule;
pub mod secrets;
pub mod sender;
mod settle;
mod shared;
mod signin;
pub mod smtp;
pub mod state;
pub mod stream;
pub mod suppress;
pub mod tls_report;
pub mod token;
pub mod transport;
mod usage;
pub mod verdict;
pub mod verp;
pub mod whatif;

pub use accept::{Door, Receipt, Submission};
pub use admission::{Noted, Noting};
pub use config::{Keep, RelayConfig, StreamConfig};
pub use refusal::{Refusal, RefusalKind};
pub use run::{Relay, RelayError, Status};
pub use sender::Sender;
pub use smtp::SmtpFactory;
pub use tls_report::TlsReportConfig;
pub use transport::TransportConfig;
pub use transport::sources::SourceRecord;
