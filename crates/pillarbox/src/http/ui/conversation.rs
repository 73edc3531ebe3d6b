//! Transcripts of a report as lines for people.

use axum::http::StatusCode;
use futures_util::future::BoxFuture;
use proto::transcript::{Step, Transcript};
use serde::{Deserialize as _, Serialize};
use serde_json::{Map, Value};

use super::door::Door;
use super::page::Looked;
use crate::http::problem::Problem;
use crate::http::words;

/// A line of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Line {
    /// When, as a length of time.
    at: String,
    /// `>` ours, `<` theirs, `*` learned, `!` failed.
    mark: char,
    /// The line.
    text: String,
}

/// Adds `conversations` to a page that has asked for a test as `one`.
pub fn of_test<'a>(_: &'a Looked, _: &'a Door, data: &'a mut Map<String, Value>) -> BoxFuture<'a, Result<(), Problem>> {
    Box::pin(async move {
        let transcripts = data.get("one").and_then(|one| one.pointer("/report/transcripts"));
        let conversations = transcripts.map(of).unwrap_or_default();
        let value = serde_json::to_value(conversations)
            .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        data.insert("conversations".into(), value);
        Ok(())
    })
}

/// One list of lines for each conversation; what cannot be read is left out.
fn of(transcripts: &Value) -> Vec<Vec<Line>> {
    let all = transcripts.as_array().into_iter().flatten();
    all.filter_map(|one| Transcript::deserialize(one).ok())
        .map(|transcript| transcript.steps.iter().flat_map(lines).collect())
        .collect()
}

fn lines(step: &Step) -> Vec<Line> {
    let at = format!("{:>8.1} ms", step.started_us as f64 / 1_000.0);
    let line = |mark: char, text: String| Line { at: at.clone(), mark, text };
    let mut lines = Vec::new();
    lines.extend(step.sent.as_ref().map(|sent| line('>', sent.to_string())));
    lines.extend(step.fact.as_ref().map(|fact| line('*', words::fact(fact))));
    if let Some(reply) = &step.reply {
        lines.extend(reply.lines.iter().map(|text| line('<', format!("{} {text}", reply.code))));
    }
    let failed = step.failure.as_ref().filter(|failure| failure.reply().is_none());
    lines.extend(failed.map(|failure| line('!', words::failure(failure))));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::smtp::reply::Reply;
    use proto::transcript::Stage;

    #[test]
    fn both_sides_are_read_from_a_stored_report() {
        let step = Step {
            stage: Stage::Banner,
            started_us: 1_500,
            took_us: 1,
            sent: Some("EHLO here.test".into()),
            reply: Some(Reply::new(250, "hello")),
            fact: None,
            failure: None,
        };
        let transcript = Transcript { steps: vec![step], ..Transcript::default() };
        let lines = of(&serde_json::json!([transcript, "strange"]));
        let shown: Vec<String> = lines[0].iter().map(|line| format!("{} {}", line.mark, line.text)).collect();
        assert_eq!((shown, lines.len()), (vec!["> EHLO here.test".to_owned(), "< 250 hello".to_owned()], 1));
    }
}
