//! The rule files inside the program, by name. A test compares this list with the directory.

macro_rules! files {
    ($($path:literal,)+) => {
        &[$(($path, include_str!(concat!("../", $path))),)+]
    };
}

/// Name and TOML text of each file.
pub(crate) const FILES: &[(&str, &str)] = files![
    "rules/blocklists.toml",
    "rules/check.toml",
    "rules/client.toml",
    "rules/compare.toml",
    "rules/credentials.toml",
    "rules/domain.toml",
    "rules/exchange.toml",
    "rules/generic.toml",
    "rules/headers.toml",
    "rules/programs.toml",
    "rules/providers.toml",
    "rules/providers/apple.toml",
    "rules/providers/brevo.toml",
    "rules/providers/filters.toml",
    "rules/providers/google.toml",
    "rules/providers/mailgun.toml",
    "rules/providers/mailjet.toml",
    "rules/providers/microsoft.toml",
    "rules/providers/postmark.toml",
    "rules/providers/regional.toml",
    "rules/providers/sendgrid.toml",
    "rules/providers/ses.toml",
    "rules/providers/smtp2go.toml",
    "rules/providers/sparkpost.toml",
    "rules/providers/submission.toml",
    "rules/providers/yahoo.toml",
    "rules/providers/zoho.toml",
    "rules/reasons.toml",
    "rules/returned.toml",
    "rules/rfc.toml",
];
