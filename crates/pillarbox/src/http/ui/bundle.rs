//! The support bundle as a page makes it: a file, or the form again with what is wrong. What somebody typed stays out of
//! addresses, which browsers and proxies remember.

use std::sync::Arc;

use axum::Extension;
use axum::extract::Form;
use axum::response::Response;

use super::action::{self, Fields};
use super::page::Ui;
use super::template;
use crate::http::RequestId;
use crate::http::auth::Caller;

/// The page of the form.
const BACK: &str = "/admin/support";

/// Makes one.
pub async fn make(
    Extension(ui): Extension<Arc<Ui>>,
    Extension(id): Extension<RequestId>,
    caller: Caller,
    Form(typed): Form<Fields>,
) -> Response {
    let door = ui.inside.door(caller, Some(id));
    let said: Fields = typed.iter().filter(|(_, value)| !value.trim().is_empty()).cloned().collect();
    match door.file(&format!("/support-bundle?{}", template::encoded(&said))).await {
        Ok(file) => file,
        Err(problem) => action::again(&ui, &door, Some(BACK), typed, problem).await,
    }
}
