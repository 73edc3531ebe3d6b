//! A page: a path, a template, and what it asks of the API. Nearly all pages are a line of the table in `pages`.

use std::sync::Arc;

use axum::extract::{RawPathParams, RawQuery};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum_extra::extract::CookieJar;
use futures_util::future::{BoxFuture, join_all};
use minijinja::value::Serde;
use minijinja::{Value, context};
use serde_json::{Map, Value as Json, json};

use super::door::{Door, Inside};
use super::live::Live;
use super::{done, schema, template};
use crate::http::auth::{self, Caller};
use crate::http::problem::Problem;
use crate::http::{RequestId, Shared};

/// Adds what is more than an answer of the API: a chart, a comparison.
pub type More = for<'a> fn(&'a Looked, &'a Door, &'a mut Map<String, Json>) -> BoxFuture<'a, Result<(), Problem>>;

/// A page.
#[derive(Debug)]
pub struct Page {
    /// Its path, as the router has it.
    pub path: &'static str,
    /// Its template.
    pub template: &'static str,
    /// What it asks.
    pub asks: &'static [Ask],
    /// What it adds.
    pub more: Option<More>,
    /// What that asks of the API.
    needs: &'static [(&'static str, &'static str)],
}

/// A question to the API; the answer has this name in the template.
#[derive(Debug)]
pub struct Ask {
    name: &'static str,
    path: &'static str,
    pass: &'static [&'static str],
    need: Need,
}

#[derive(Debug, PartialEq, Eq)]
enum Need {
    /// Without the answer there is no page.
    Must,
    /// Its problem is under the same name in `problems`.
    May,
}

impl Page {
    /// A page that asks this.
    pub const fn new(path: &'static str, template: &'static str, asks: &'static [Ask]) -> Self {
        Self { path, template, asks, more: None, needs: &[] }
    }
    /// The paths it asks for.
    #[cfg(test)]
    pub fn asks(&self) -> impl Iterator<Item = &'static str> {
        self.asks.iter().map(|ask| ask.path)
    }
    /// With something more.
    pub const fn more(self, more: More) -> Self {
        Self { more: Some(more), ..self }
    }
    /// For those who may do this too: method and operation.
    pub const fn needs(self, needs: &'static [(&'static str, &'static str)]) -> Self {
        Self { needs, ..self }
    }
    /// Whether it is shown to them.
    pub fn is_for(&self, caller: &Caller) -> bool {
        let must = self.asks.iter().filter(|ask| ask.need == Need::Must);
        let asked = must.filter_map(|ask| schema::pattern(&Method::GET, ask.path)).map(|pattern| ("GET", pattern));
        asked.chain(self.needs.iter().copied()).all(|(method, path)| auth::may(caller, method, path).is_ok())
    }
}

impl Ask {
    /// Asks for a path below `/api/v1`; `{name}` is the part of the page's own path with that name.
    pub const fn new(name: &'static str, path: &'static str) -> Self {
        Self { name, path, pass: &[], need: Need::Must }
    }
    /// Hands these parameters of the page's query on.
    pub const fn pass(self, pass: &'static [&'static str]) -> Self {
        Self { pass, ..self }
    }
    /// The page is shown without it too.
    pub const fn may(self) -> Self {
        Self { need: Need::May, ..self }
    }
}

/// All that pages share.
pub struct Ui {
    /// The server.
    pub app: Shared,
    /// The API.
    pub inside: Inside,
    /// Pages that are watched.
    pub live: Live,
}

impl std::fmt::Debug for Ui {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ui").finish_non_exhaustive()
    }
}

impl Ui {
    /// Of this server.
    pub fn new(app: &Shared) -> Arc<Self> {
        let inside = Inside::new(app);
        Arc::new(Self { app: app.clone(), inside, live: Live::default() })
    }
}

/// A look at a page: its place, and what happened before.
#[derive(Debug, Default)]
pub struct Looked {
    /// Parts of the path, as they are in it (percent-encoded again when they go into another path).
    pub params: Vec<(String, String)>,
    /// The query.
    pub query: Vec<(String, String)>,
    /// What a form sent that could not be done.
    pub typed: Vec<(String, String)>,
    /// Why not.
    pub problem: Option<Problem>,
    /// What was done, in words.
    pub done: Option<String>,
}

impl Looked {
    /// A look at a path with its query.
    pub fn at(params: Vec<(String, String)>, query: &str) -> Self {
        Self { params, query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(), ..Self::default() }
    }
    /// A parameter of the query.
    pub fn asked(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(other, value)| other == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }
    /// A part of the path.
    #[cfg(test)]
    pub fn part(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    fn path_of(&self, ask: &Ask) -> String {
        let mut path = ask.path.to_owned();
        for (name, value) in &self.params {
            path = path.replace(&format!("{{{name}}}"), &segment(value));
        }
        let pass = |(name, value): &&(String, String)| ask.pass.contains(&name.as_str()) && !value.is_empty();
        let pairs: Vec<_> = self.query.iter().filter(pass).cloned().collect();
        if !pairs.is_empty() {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(&template::encoded(&pairs));
        }
        path
    }
}

/// A name as one segment of a path.
pub fn segment(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, octet| {
        if octet.is_ascii_alphanumeric() || b"-._~@".contains(&octet) {
            text.push(char::from(octet));
        } else {
            text.push_str(&format!("%{octet:02X}"));
        }
        text
    })
}

/// What the template of a page gets.
pub async fn contents(ui: &Ui, page: &Page, looked: &Looked, door: &Door) -> Result<Value, Problem> {
    let asked = page.asks.iter().map(|ask| async move { (ask, door.get(&looked.path_of(ask)).await) });
    let (mut data, mut problems) = (Map::new(), Map::new());
    for (ask, answer) in join_all(asked).await {
        match answer {
            Ok(answer) => drop(data.insert(ask.name.to_owned(), answer)),
            Err(problem) if ask.need == Need::May => drop(problems.insert(ask.name.to_owned(), json!(problem))),
            Err(problem) => return Err(problem),
        }
    }
    if let Some(more) = page.more {
        more(looked, door, &mut data).await?;
    }
    data.insert("problems".into(), problems.into());
    Ok(frame(ui, page.path, looked, &door.caller, data))
}

/// What every template gets.
pub fn frame(ui: &Ui, path: &str, looked: &Looked, caller: &Caller, data: Map<String, Json>) -> Value {
    let named = |pairs: &[(String, String)]| {
        pairs.iter().cloned().map(|(name, value)| (name, Json::from(value))).collect::<Map<_, _>>()
    };
    let wrong: Map<String, Json> = looked.problem.iter().flat_map(|problem| &problem.errors).map(field_name).collect();
    let for_may = caller.clone();
    let may = move |method: String, pattern: String| auth::may(&for_may, &method, &pattern).is_ok();
    let for_leads = caller.clone();
    let leads = move |to: String| super::pages::leads(&for_leads, &to);
    let values = Value::from(Serde(Json::Object(data)));
    context! {
        page => path,
        params => Value::from(Serde(named(&looked.params))),
        asked => Value::from(Serde(named(&looked.query))),
        typed => Value::from(Serde(named(&looked.typed))),
        wrong => Value::from(Serde(wrong)),
        problem => Value::from(Serde(&looked.problem)),
        done => looked.done.clone(),
        who => caller.who(),
        user => caller.person().and_then(|person| person.user()).map(str::to_owned),
        role => caller.role().map(|role| role.name()),
        may => Value::from_function(may),
        leads => Value::from_function(leads),
        now_ms => ui.app.clock.now_ms(),
        hostname => ui.app.hostname.clone(),
        version => env!("CARGO_PKG_VERSION"),
        ..values
    }
}

/// `/retry/first_s` is the field `retry.first_s` of a form.
fn field_name(error: &crate::http::problem::FieldError) -> (String, Json) {
    (error.pointer.trim_start_matches('/').replace('/', "."), error.detail.clone().into())
}

/// Shows a page to somebody.
pub async fn show(ui: &Ui, page: &Page, looked: &Looked, door: &Door) -> Response {
    let status = looked.problem.as_ref().map_or(200, |problem| problem.status);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match contents(ui, page, looked, door).await {
        Ok(context) => template::render(status, page.template, &context),
        Err(problem) => failed(ui, &door.caller, problem),
    }
}

/// A problem as a page.
pub fn failed(ui: &Ui, caller: &Caller, problem: Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let looked = Looked { problem: Some(problem), ..Looked::default() };
    template::render(status, "problem.html", &frame(ui, "", &looked, caller, Map::new()))
}

/// Answers a GET of a page.
pub async fn get(
    ui: Arc<Ui>,
    page: &'static Page,
    params: RawPathParams,
    RawQuery(query): RawQuery,
    jar: CookieJar,
    caller: Caller,
    id: RequestId,
) -> Response {
    let params = params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut looked = Looked::at(params, query.as_deref().unwrap_or_default());
    looked.done = done::read(&jar);
    let door = ui.inside.door(caller, Some(id));
    let shown = show(&ui, page, &looked, &door).await;
    match looked.done {
        Some(_) => (done::taken(jar), shown).into_response(),
        None => shown,
    }
}
