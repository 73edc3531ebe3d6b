//! What forms do: each form posts to `/admin/do/` and a path of the API, and the page it came from is shown again.
//!
//! Fields of a form that begin with `_` are for us: `_method`, `_back` (the page to show, also when it went wrong, with what
//! was typed), `_next` (another one when it went well), `_done` (what to say then), `_keep` (fields that stay as they are
//! when they are empty), `_show` (a template that shows the answer, once: a new key). A field that begins with `?` goes into
//! the request's query unless it is empty. In `_next` and `_done`, `{name}` is a field of the answer, or of the form. A part `{name}` of the path
//! is that field of the form, which then is in the path only. A name with a slash in it (an address) is one part of the path.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Form, OriginalUri};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::CookieJar;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::page::{self, Looked, Ui};
use super::{done, pages, schema, template};
use crate::http::RequestId;
use crate::http::auth::Caller;
use crate::http::problem::Problem;

/// Below this is the API, for forms.
const BELOW: &str = "/admin/do/";

/// Fields of a form.
pub type Fields = Vec<(String, String)>;

/// Does what a form asks for.
pub async fn act(
    Extension(ui): Extension<Arc<Ui>>,
    Extension(id): Extension<RequestId>,
    OriginalUri(uri): OriginalUri,
    jar: CookieJar,
    caller: Caller,
    Form(form): Form<Fields>,
) -> Response {
    let (ours, fields): (Fields, Fields) = form.into_iter().partition(|(name, _)| name.starts_with('_'));
    let (queried, fields): (Fields, Fields) = fields.into_iter().partition(|(name, _)| name.starts_with('?'));
    let own = |name: &str| ours.iter().rfind(|(other, _)| other == name).map(|(_, value)| value.as_str());
    let keep: Vec<&str> = ours.iter().filter(|(name, _)| name == "_keep").map(|(_, value)| value.as_str()).collect();
    let method = own("_method").and_then(|name| name.parse::<Method>().ok()).unwrap_or(Method::POST);
    let (path, fields) = placed(uri.path().strip_prefix(BELOW).unwrap_or_default(), fields);
    let said = queried.iter().filter(|(_, value)| !value.trim().is_empty());
    let asked: Fields = said.map(|(name, value)| (name[1..].to_owned(), value.clone())).collect();
    let full = if asked.is_empty() { path.clone() } else { format!("{path}?{}", template::encoded(&asked)) };
    let body = schema::body(&method, &path, &fields, &keep);
    let door = ui.inside.door(caller, Some(id));
    match door.send(method, &full, body).await {
        Ok(answer) => match own("_show") {
            Some(name) => shown(&ui, &door.caller, name, answer, fields),
            None => {
                let next = filled(own("_next").or(own("_back")).unwrap_or("/"), &answer, &fields, page::segment);
                let next = if is_local(&next) { next } else { "/".into() };
                let words = filled(own("_done").unwrap_or("Done."), &answer, &fields, str::to_owned);
                (jar.add(done::cookie(&words)), Redirect::to(&next)).into_response()
            }
        },
        Err(problem) => {
            // What goes into the query is a field like others to whoever fills in the form.
            let typed = fields.into_iter().chain(queried).collect();
            again(&ui, &door, own("_back"), typed, problem).await
        }
    }
}

/// The path with what was typed in its places. It comes as it was sent: decoded part by part, a slash in a name ends nothing.
fn placed(path: &str, mut fields: Fields) -> (String, Fields) {
    let mut made = String::new();
    for part in path.split('/') {
        let part = percent_decode_str(part).decode_utf8_lossy();
        let named = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        let typed = named.and_then(|name| fields.iter().position(|(other, _)| other == name));
        let typed = typed.map(|at| fields.remove(at).1);
        made.push('/');
        made.push_str(&page::segment(typed.as_deref().map_or(&*part, str::trim)));
    }
    (made, fields)
}

/// The page of the form with what went wrong, and with what was typed but secrets: those are on no page.
pub async fn again(
    ui: &Ui,
    door: &super::door::Door,
    back: Option<&str>,
    mut typed: Fields,
    problem: Problem,
) -> Response {
    typed.retain(|(name, _)| !schema::is_secret(name));
    match back.and_then(pages::find) {
        Some((page, looked)) => {
            let looked = Looked { typed, problem: Some(problem), ..looked };
            page::show(ui, page, &looked, door).await
        }
        None => page::failed(ui, &door.caller, problem),
    }
}

/// An answer that is shown once and kept nowhere.
pub fn shown(ui: &Ui, caller: &Caller, name: &str, answer: Value, typed: Fields) -> Response {
    if template::pages().get_template(name).is_err() {
        return page::failed(ui, caller, Problem::not_found());
    }
    let looked = Looked { typed, ..Looked::default() };
    let data = Map::from_iter([("answer".to_owned(), answer)]);
    template::render(StatusCode::OK, name, &page::frame(ui, "", &looked, caller, data))
}

/// Puts fields of the answer, or of the form, in the place of `{name}`.
fn filled(text: &str, answer: &Value, form: &[(String, String)], shown: impl Fn(&str) -> String) -> String {
    let mut made = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        made.push_str(before);
        let Some((name, behind)) = after.split_once('}') else {
            rest = after;
            break;
        };
        let value = match answer.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(value) if !value.is_null() => value.to_string(),
            _ => form.iter().rfind(|(other, _)| other == name).map(|(_, value)| value.clone()).unwrap_or_default(),
        };
        made.push_str(&shown(&value));
        rest = behind;
    }
    made + rest
}

/// A path of this server, and not `//elsewhere`.
fn is_local(to: &str) -> bool {
    to.starts_with('/') && !to.starts_with("//") && !to.contains(['\\', '\r', '\n'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_filled_from_the_answer_and_then_the_form() {
        let form = [("name".to_owned(), "o 365".to_owned())];
        let answer = serde_json::json!({"count": 3});
        assert_eq!(filled("{count} of {name} {x}.", &answer, &form, str::to_owned), "3 of o 365 .");
        assert_eq!(filled("/admin/routes/{name}", &answer, &form, page::segment), "/admin/routes/o%20365");
    }

    #[test]
    fn a_name_that_is_typed_goes_into_the_path_and_cannot_leave_its_place() {
        let fields = || vec![("name".to_owned(), " a/../b ".to_owned()), ("order".to_owned(), "1".to_owned())];
        assert_eq!(placed("rules/{name}", fields()), ("/rules/a%2F..%2Fb".into(), fields().split_off(1)));
        assert_eq!(placed("rules/%7Bname%7D", fields()), placed("rules/{name}", fields()), "browsers encode braces");
        assert_eq!(placed("rules/{other}", fields()).0, "/rules/%7Bother%7D");
    }

    #[test]
    fn a_name_with_a_slash_stays_in_its_part_of_the_path() {
        for (sent, asked) in [
            ("suppressions/a%2Fb@x.test", "/suppressions/a%2Fb@x.test"),
            ("suppressions/a%2fb%40x.test", "/suppressions/a%2Fb@x.test"),
            ("rules/100%25/keys/%3F", "/rules/100%25/keys/%3F"),
            ("status", "/status"),
        ] {
            assert_eq!(placed(sent, Fields::new()).0, asked, "{sent}");
        }
    }

    #[test]
    fn a_form_leads_to_pages_of_this_server_only() {
        for (to, local) in
            [("/admin/routes", true), ("//evil.example", false), ("https://evil.example", false), ("/\\evil", false)]
        {
            assert_eq!(is_local(to), local, "{to}");
        }
    }
}
