//! Why a text with rules cannot be used.

/// A rule file that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// Not TOML, or not of the expected shape.
    #[error("{file}: {source}")]
    Toml {
        /// Name of the file as given by the caller.
        file: String,
        /// What the parser says, with line and column.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value of a rule that cannot be understood.
    #[error("{file}: rule `{rule}`: {problem}")]
    Rule {
        /// Name of the file as given by the caller.
        file: String,
        /// Id of the rule.
        rule: String,
        /// What is wrong.
        problem: String,
    },
    /// Two rules with one id.
    #[error("{file}: rule `{rule}` is there already")]
    Duplicate {
        /// Name of the file as given by the caller.
        file: String,
        /// Id of the rule.
        rule: String,
    },
}
