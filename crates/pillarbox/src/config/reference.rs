//! The reference page of the configuration, written from the table of settings.

use super::keys::{BLOCKS, KEYS, Key, SECTIONS, Shape};
use super::raw::variable;
use super::values::expected;

/// The page, in Markdown.
pub fn markdown() -> String {
    let mut page = String::from(INTRODUCTION);
    for (section, text) in SECTIONS {
        let title = match (section.is_empty(), BLOCKS.contains(section)) {
            (true, _) => "Top of the file".to_owned(),
            (_, true) => format!("`[[{section}]]`"),
            _ => format!("`[{section}]`"),
        };
        page.push_str(&format!("\n## {title}\n\n{text}\n\n"));
        page.push_str("| setting | default | takes | meaning |\n| --- | --- | --- | --- |\n");
        for key in KEYS.iter().filter(|key| key.section() == *section) {
            page.push_str(&row(key));
        }
    }
    page.push_str(ENVIRONMENT);
    for key in KEYS.iter().filter(|key| !key.in_block()) {
        page.push_str(&format!("| `{}` | `{}` |\n", variable(key), key.path));
    }
    page
}

fn row(key: &Key) -> String {
    let default = if key.default.is_empty() { "–".to_owned() } else { format!("`{}`", key.default) };
    let takes = match key.shape {
        Shape::Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" "),
        shape => expected(shape).replace('|', "\\|"),
    };
    format!("| `{}` | {default} | {takes} | {} |\n", key.name(), key.doc)
}

const INTRODUCTION: &str = "# Configuration

Written by `pillarbox config reference`. Do not edit by hand.

The file is TOML. `--config` or `PILLARBOX_CONFIG` names it; otherwise `./pillarbox.toml` and then
`/etc/pillarbox/pillarbox.toml` are tried, and without any file the defaults below hold. `pillarbox config check` finds what is
wrong with line and column; `pillarbox config show` prints every value with its source. Relative paths in the file start at the
file's directory. SIGHUP reads certificates, senders, routes and rules again and checks the file; a changed setting takes effect
at the next start.

Senders, routes and rules are not here: they live in the data directory and are changed with `pillarbox sender` and
`pillarbox route`, or by the API.
";

const ENVIRONMENT: &str = "
## Environment

A variable wins over the file. Lists are separated by commas.

| variable | setting |
| --- | --- |
| `PILLARBOX_CONFIG` | path of the file |
| `PILLARBOX_KEY` | the encryption key itself, 32 octets in base64 or hex |
";
