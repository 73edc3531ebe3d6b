//! Two reports compared: from two machines, and from two times.

use std::sync::Arc;

use diagnose::{Judge, Judged};
use explain::{RuleBase, Values, sign_value};
use proto::transcript::Stage;

use super::view::View;
use crate::http::words::stage as stage_word;

/// What a report from here and one from another machine say together: a sign, judged by its rule.
pub fn machines(rules: &Arc<RuleBase>, here: &View, there: &View, name: &str) -> Option<Judged> {
    let stage = |view: &View| view.failed_at.map_or("the check", stage_word).to_owned();
    // Up to the greeting it is the way that fails; behind that it is the server that refuses.
    let on_the_way = matches!(here.failed_at, Some(Stage::Dns | Stage::Tcp | Stage::Banner) | None);
    let (kind, at, other) = match (here.healthy, there.healthy) {
        (true, true) => ("compare_well_in_both", None, None),
        (false, true) if on_the_way => ("compare_fails_only_here", Some(stage(here)), None),
        (false, true) => ("compare_refused_only_here", Some(stage(here)), None),
        (true, false) => ("compare_fails_only_there", Some(stage(there)), None),
        (false, false) if here.failed_at == there.failed_at && here.reason == there.reason => {
            ("compare_fails_in_both", Some(stage(here)), None)
        }
        (false, false) => ("compare_fails_differently", Some(stage(here)), Some(stage(there))),
    };
    let mut values = Values::new();
    values.insert("there".into(), sign_value(name));
    values.extend(at.map(|at| ("stage".to_owned(), at)));
    values.extend(other.map(|other| ("other_stage".to_owned(), other)));
    Judge::new(rules.clone()).sign(None, kind, &values)
}

/// What an earlier report and one of today say together.
pub fn since(now: &View, then: &View) -> String {
    let at = |view: &View| view.failed_at.map_or("before any stage", stage_word).to_owned();
    let why = |view: &View| view.deciding().map_or_else(String::new, |found| format!(" ({})", found.explanation.title));
    match (then.healthy, now.healthy) {
        (true, true) => "It went well then and goes well now.".into(),
        (true, false) => format!(
            "It went well then and fails now, at {}{}. Something changed in between: settings, DNS, certificate or the server.",
            at(now),
            why(now)
        ),
        (false, true) => format!("It failed then, at {}{}, and goes well now.", at(then), why(then)),
        (false, false) if then.failed_at == now.failed_at && then.reason == now.reason => {
            format!("It fails as it did then, at {}{}.", at(now), why(now))
        }
        (false, false) => {
            format!("It failed then at {}{}, and fails now at {}{}.", at(then), why(then), at(now), why(now))
        }
    }
}
