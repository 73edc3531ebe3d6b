//! Development only: what tests need and what must never be in the product.
//!
//! A scripted SMTP server ([`Sink`]), DNS zones ([`Zones`]), a certificate authority ([`Ca`]), a client that
//! says exactly what it is told ([`Client`]), a load with a ledger ([`Load`]) a PostgreSQL server ([`Postgres`]) and a real process that can be
//! killed ([`Daemon`]). Nothing here knows the crates it helps to test. Failing set-up panics: it is test code.
#![expect(clippy::expect_used, clippy::panic, reason = "test code: a broken set-up has to stop the test at once")]

pub mod ca;
pub mod client;
pub mod daemon;
pub mod graph;
pub mod ledger;
pub mod load;
pub mod openssl;
pub mod postgres;
pub mod signed;
pub mod sink;
pub mod web;
pub mod zones;

pub use ca::{Ca, Issued};
pub use client::{Answer, Client};
pub use daemon::{Daemon, DaemonPlan, free_port};
pub use graph::{Fault, Graph};
pub use ledger::{Reconciliation, reconcile};
pub use load::{Load, LoadPlan, LoadReport};
pub use openssl::OpenSsl;
pub use postgres::Postgres;
pub use sink::{Act, Extensions, Received, Rule, Sink, SinkOptions, Stage, Tls};
pub use web::{Page, Web};
pub use zones::{Trouble, Zones};
