//! placeholder
mod config;
mod http;
fn main() {}
