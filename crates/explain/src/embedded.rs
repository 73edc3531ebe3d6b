//! The rule files inside the program, by name. A test compares this list with the directory.

macro_rules! files {
    ($($path:literal,)+) => {
        &[$(($path, include_str!(concat!("../", $path))),)+]
    };
}

/// Name and TOML text of each file.
pub(crate) const FILES: &[(&str, &str)] = files![
    "rules/client.toml",
    "rules/generic.toml",
    "rules/providers.toml",
    "rules/reasons.toml",
    "rules/rfc.toml",
];
