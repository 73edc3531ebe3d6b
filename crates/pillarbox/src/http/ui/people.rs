//! What pages of users, keys and settings show besides the answers of the API.

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use serde_json::{Map, Value as Json, json};

use super::door::Door;
use super::page::Looked;
use crate::access::table;
use crate::http::problem::Problem;

/// The names that scopes of API keys have.
pub fn scopes<'a>(_: &'a Looked, _: &'a Door, data: &'a mut Map<String, Json>) -> BoxFuture<'a, Result<(), Problem>> {
    data.insert("resources".into(), json!(table::resources()));
    ready(Ok(())).boxed()
}
