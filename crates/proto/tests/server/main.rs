//! The server machine seen from its wire: scripted dialogs, a reference model, smuggling, limits.

mod dialogs;
mod driver;
mod limits;
mod model;
mod smuggling;
mod starttls;
