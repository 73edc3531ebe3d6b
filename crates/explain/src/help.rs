//! Texts of the help pages: questions with answers, the glossary, the way to mail that did not arrive, what support asks.
//!
//! The texts are in `data/help.toml`; pages and the manual show them.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::embedded;

/// All help texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Help {
    /// Questions with answers, the most asked first.
    #[serde(rename = "question")]
    pub questions: Vec<Question>,
    /// Glossary, by name.
    #[serde(rename = "term")]
    pub terms: Vec<Term>,
    /// The way to a message that was not received, step by step.
    #[serde(rename = "step")]
    pub steps: Vec<Step>,
    /// What to tell support.
    pub support: Vec<Support>,
}

/// A question and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Name in links.
    pub id: String,
    /// The question.
    pub ask: String,
    /// The answer, a paragraph each.
    pub answer: Vec<String>,
    /// Commands.
    #[serde(default)]
    pub run: Vec<String>,
    /// Related pages of the manual.
    #[serde(default)]
    pub see: Vec<String>,
    /// Subjects.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// A word and its meaning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// The word.
    pub name: String,
    /// What it means.
    pub means: String,
}

/// A step of the search for a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Name in links.
    pub id: String,
    /// The question of this step.
    pub ask: String,
    /// Commands that answer it.
    #[serde(default)]
    pub run: Vec<String>,
    /// What to do if so.
    pub yes: String,
    /// What to do if not.
    pub no: String,
    /// Related pages of the manual.
    #[serde(default)]
    pub see: Vec<String>,
}

/// Something support wants to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Support {
    /// What.
    pub ask: String,
    /// The command that tells.
    #[serde(default)]
    pub run: Option<String>,
}

static HELP: LazyLock<Help> = LazyLock::new(|| embedded::data!("help"));

/// The help texts.
pub fn help() -> &'static Help {
    &HELP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_questions_of_the_inventory_are_answered_and_the_glossary_is_in_order() {
        let has = |id: &str| help().questions.iter().any(|question| question.id == id);
        for id in ["port-25-or-587", "spf-dkim-dmarc", "bounces", "delisting", "why-sign-in"] {
            assert!(has(id), "{id}");
        }
        let names: Vec<String> = help().terms.iter().map(|term| term.name.to_lowercase()).collect();
        assert!(names.is_sorted(), "{names:?}");
        for name in ["msa", "mta", "mx", "gateway"] {
            assert!(names.iter().any(|known| known == name), "{name}");
        }
    }
}
