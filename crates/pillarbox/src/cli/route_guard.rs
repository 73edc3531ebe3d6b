//! Saving a route only after it was tried: the request, and what is shown where the test did not go well.

use axum::http::Method;
use serde_json::{Map, Value};

use super::Fault;
use super::args::Global;
use super::args_presets::GuardOptions;
use super::check_words as words;
use super::client::{Client, query};
use super::output::{clean, complain, json as print_json, print};

/// Whether it is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// First of all.
    First,
    /// Not at all.
    No,
}

/// Sends a route that is to be saved; what the test found is shown. With `--force` it is saved all the same.
pub async fn save(
    global: &Global,
    client: &Client,
    (method, path): (Method, &str),
    body: Map<String, Value>,
    (test, guard): (Test, &GuardOptions),
) -> Result<Value, Fault> {
    if test == Test::No {
        return client.send(method, path, Value::Object(body)).await;
    }
    let tested = format!("{path}{}", query(&[("test", Some("true".into())), ("from", guard.from.clone())]));
    let problem = match client.send(method.clone(), &tested, Value::Object(body.clone())).await {
        Err(Fault::Refused(problem)) if problem.report.is_some() => problem,
        // With OAuth there may be nothing to try yet: somebody has to sign in first.
        Err(Fault::Refused(_)) if guard.force => return client.send(method, path, Value::Object(body)).await,
        other => return other,
    };
    let Some(report) = &problem.report else { return Err(Fault::Refused(problem)) };
    if global.json && !guard.force {
        print_json(&problem)?;
        return Err(Fault::Told);
    }
    if !global.json {
        let view = super::check_view::read(report)?;
        print(&format!("{}{}", words::stages(&view), words::verdict(&view)))?;
    }
    if guard.force {
        complain(&format!("pillarbox: saved although the test did not go well (--force): {}", clean(&title(report))));
        return client.send(method, path, Value::Object(body)).await;
    }
    complain("pillarbox: nothing was saved. Mend what is named above and repeat it, or save it as it is with --force.");
    Err(Fault::Told)
}

fn title(report: &Value) -> String {
    let title = report.pointer("/findings/0/explanation/title").and_then(Value::as_str);
    title.unwrap_or_default().to_owned()
}
