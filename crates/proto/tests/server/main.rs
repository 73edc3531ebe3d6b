//! The server machine seen from its wire: scripted dialogs, a reference model, smuggling, limits.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests stand outside of test functions")]

mod dialogs;
mod driver;
mod limits;
mod model;
mod smuggling;
mod starttls;
