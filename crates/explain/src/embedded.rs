//! The rule and data files inside the program, in the form the build script gives them. Tests compare them with the
//! files as they are written.

use std::collections::HashMap;
use std::sync::LazyLock;

use proto::transcript::Stage;
use serde::de::DeserializeOwned;

use crate::raw::RawFile;
use crate::sample::Sample;

/// A file of `data/`, by its name without ending.
macro_rules! data {
    ($name:literal) => {
        $crate::embedded::parse(include_str!(concat!(env!("OUT_DIR"), "/", $name, ".json")))
    };
}
pub(crate) use data;

static SAMPLES: LazyLock<HashMap<String, Vec<String>>> =
    LazyLock::new(|| parse(include_str!(concat!(env!("OUT_DIR"), "/samples.json"))));

/// Reads a file that the build script wrote.
pub(crate) fn parse<T: DeserializeOwned>(json: &str) -> T {
    #[expect(clippy::expect_used, reason = "the embedded files are checked by the tests")]
    serde_json::from_str(json).expect("the files inside the program are valid")
}

/// Name and content of each rule file, without samples.
pub(crate) fn rule_files() -> Vec<(String, RawFile)> {
    parse(include_str!(concat!(env!("OUT_DIR"), "/rules.json")))
}

/// Samples of a rule inside the program; `stage` is the rule's first.
pub(crate) fn samples(rule: &str, stage: Option<Stage>) -> Vec<Sample> {
    let texts = SAMPLES.get(rule).map(Vec::as_slice).unwrap_or_default();
    #[expect(clippy::expect_used, reason = "the embedded files are checked by the tests")]
    texts.iter().map(|text| Sample::parse(text, stage).expect("the samples inside the program are valid")).collect()
}
