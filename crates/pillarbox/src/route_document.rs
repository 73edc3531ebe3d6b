//! A route documented for those who run it, as Markdown or JSON: settings, limits, which mail takes it, what its provider says,
//! the records of its domains. Everything but secrets.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use explain::{RuleBase, preset_of_host};
use net::Resolver;
use proto::policy::dns::Kind;
use relay::directory::DEFAULT_RULE;
use relay::route::RouteKind;
use serde::Serialize;
use serde_json::Value;

use crate::check::route::domain_of;
use crate::http::api::routes::{RouteOut, RuleOut};
use crate::http::api::senders::SenderOut;
use crate::limits::{self, Limit};
use crate::presets::{PresetOut, shown};

/// Most domains whose records are looked up.
const MOST_DOMAINS: usize = 20;

/// Whether a record is as expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Present,
    Missing,
    Unknown,
}

impl State {
    const fn words(self) -> &'static str {
        match self {
            Self::Present => "there",
            Self::Missing => "missing",
            Self::Unknown => "not known: the name servers did not answer",
        }
    }
}

/// A record that is expected.
#[derive(Debug, Clone, Serialize)]
struct Record {
    name: String,
    what: &'static str,
    expected: String,
    state: State,
}

/// The document.
#[derive(Debug, Serialize)]
pub struct RouteDocument {
    schema: &'static str,
    route: Value,
    provider: Option<PresetOut>,
    limits: Vec<Limit>,
    rules: Vec<String>,
    domains: Vec<String>,
    records: Vec<Record>,
}

/// What a document is made of.
#[derive(Debug)]
pub struct Material<'a> {
    /// The route as the API gives it.
    pub value: Value,
    /// The same, read.
    pub route: &'a RouteOut,
    /// All senders.
    pub senders: &'a [SenderOut],
    /// All rules.
    pub rules: &'a [RuleOut],
    /// Domains whose records are looked at instead of those of the senders.
    pub domains: &'a [String],
    /// Whom to ask for records; `None`: nobody.
    pub resolver: Option<&'a Resolver>,
}

/// Makes it.
pub async fn make(material: Material<'_>, base: &RuleBase) -> RouteDocument {
    let Material { value, route, senders, rules, domains: named, resolver } = material;
    let provider = route.route.next_host().and_then(preset_of_host).and_then(|preset| shown(preset, base));
    let domains = domains(senders, named);
    let records = match resolver.filter(|_| route.route.kind.leaves()) {
        Some(resolver) => records(resolver, &domains, provider.as_ref()).await,
        None => Vec::new(),
    };
    let rules = rules.iter().filter(|rule| rule.rule.route == route.name).map(rule_words).collect();
    let limits = limits::of(&route.route);
    RouteDocument { schema: "pillarbox.route.document/1", route: value, provider, limits, rules, domains, records }
}

fn domains(senders: &[SenderOut], named: &[String]) -> Vec<String> {
    let of_senders = senders.iter().filter(|sender| !sender.disabled).flat_map(|sender| &sender.allowed_from);
    let all: BTreeSet<String> = match named.is_empty() {
        true => of_senders.filter_map(|pattern| domain_of(pattern)).map(str::to_ascii_lowercase).collect(),
        false => named.iter().map(|domain| domain.to_ascii_lowercase()).collect(),
    };
    all.into_iter().take(MOST_DOMAINS).collect()
}

fn rule_words(rule: &RuleOut) -> String {
    let conditions =
        [("from", &rule.rule.sender_domain), ("to", &rule.rule.recipient_domain), ("stream", &rule.rule.stream)];
    let conditions: Vec<String> =
        conditions.iter().filter_map(|(word, value)| value.as_ref().map(|value| format!("{word} {value}"))).collect();
    let what = match (conditions.is_empty(), rule.name == DEFAULT_RULE) {
        (true, true) => "all mail that no other rule takes".to_owned(),
        (true, false) => "all mail".to_owned(),
        (false, _) => conditions.join(", "),
    };
    format!(
        "{} (order {}): {what}",
        rule.name,
        if rule.name == DEFAULT_RULE { "last".into() } else { rule.rule.order.to_string() }
    )
}

async fn records(resolver: &Resolver, domains: &[String], provider: Option<&PresetOut>) -> Vec<Record> {
    let mut all = Vec::new();
    for domain in domains {
        let term = provider.map(|provider| provider.spf.as_str()).unwrap_or_default();
        let spf = resolver.query(domain, Kind::Txt).await;
        let record = spf.texts().into_iter().find(|text| text.to_ascii_lowercase().starts_with("v=spf1"));
        let has_term = record.as_ref().is_some_and(|text| {
            term.is_empty()
                || text.split_ascii_whitespace().any(|word| word.trim_start_matches('+').eq_ignore_ascii_case(term))
        });
        let expected =
            if term.is_empty() { "an SPF record that allows where mail leaves".into() } else { term.to_owned() };
        all.push(Record { name: domain.clone(), what: "SPF", expected, state: state(spf.is_known(), has_term) });
        for selector in provider.map(|provider| provider.dkim_selectors.as_slice()).unwrap_or_default() {
            let name = format!("{selector}._domainkey.{domain}");
            let key = resolver.query(&name, Kind::Txt).await;
            let there = !key.records.is_empty() || !key.aliases.is_empty();
            let expected = "a key, where this selector is used".into();
            all.push(Record { name, what: "DKIM", expected, state: state(key.is_known(), there) });
        }
        let name = format!("_dmarc.{domain}");
        let policy = resolver.query(&name, Kind::Txt).await;
        let there = policy.texts().iter().any(|text| text.to_ascii_lowercase().starts_with("v=dmarc1"));
        all.push(Record {
            name,
            what: "DMARC",
            expected: "v=DMARC1; p=…".into(),
            state: state(policy.is_known(), there),
        });
    }
    all
}

fn state(known: bool, there: bool) -> State {
    match (known, there) {
        (_, true) => State::Present,
        (true, false) => State::Missing,
        (false, false) => State::Unknown,
    }
}

/// A cell of a table: nothing in it may end the cell or begin markup.
fn cell(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    clean.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;")
}

/// As Markdown; `at` is the time it is written at, for people.
pub fn markdown(route: &RouteOut, document: &RouteDocument, at: &str) -> String {
    let mut out = format!("# Route {}\n\n", cell(&route.name));
    let _ = writeln!(
        out,
        "Written {} by `pillarbox route export {}`. It holds no passwords.\n\n## Settings\n\n| setting | value |\n| --- | --- |",
        at,
        cell(&route.name)
    );
    if let Value::Object(fields) = &document.route {
        for (name, value) in fields.iter().filter(|(name, _)| *name != "name" && *name != "updated") {
            let shown = match value {
                Value::String(text) => text.clone(),
                Value::Null => continue,
                other => other.to_string(),
            };
            let _ = writeln!(out, "| {} | {} |", cell(&name.replace('_', " ")), cell(&shown));
        }
    }
    let _ = writeln!(out, "| last changed | {} |", cell(&short(&route.updated)));
    if !document.limits.is_empty() {
        out.push_str("\n## Limits\n\n| limit | value | where it comes from |\n| --- | --- | --- |\n");
        for limit in &document.limits {
            let value = limit.value.map_or_else(|| "none".to_owned(), |value| value.to_string());
            let _ = writeln!(out, "| {} | {value} | {} |", limit.words, cell(&limit.source));
        }
    }
    section(&mut out, "Which mail takes it", document.rules.iter().map(|rule| cell(rule)));
    if document.rules.is_empty() {
        out.push_str("\n## Which mail takes it\n\nNone: no rule names this route.\n");
    }
    if let Some(provider) = &document.provider {
        about_provider(&mut out, provider);
    }
    if !document.records.is_empty() {
        out.push_str(
            "\n## DNS records of the From domains\n\n| name | what | expected | state |\n| --- | --- | --- | --- |\n",
        );
        for record in &document.records {
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} |",
                cell(&record.name),
                record.what,
                cell(&record.expected),
                record.state.words()
            );
        }
        out.push_str("\nAn SPF term is looked for in the record itself, not in what it includes; `pillarbox domain` looks deeper.\n");
    }
    care(&mut out, route, document);
    out
}

/// A time without its fractions.
fn short(time: &str) -> String {
    match (time.get(..10), time.get(11..19)) {
        (Some(day), Some(clock)) if time.ends_with('Z') => format!("{day} {clock}Z"),
        _ => time.to_owned(),
    }
}

fn section(out: &mut String, head: &str, lines: impl Iterator<Item = String>) {
    let lines: Vec<String> = lines.collect();
    if !lines.is_empty() {
        let _ = writeln!(out, "\n## {head}\n");
        for line in &lines {
            let _ = writeln!(out, "- {line}");
        }
    }
}

fn about_provider(out: &mut String, provider: &PresetOut) {
    let _ = writeln!(out, "\n## Provider: {}\n\n{}\n", cell(&provider.name), cell(&provider.help));
    for (name, value) in [
        ("User name", &provider.username),
        ("Password", &provider.password),
        ("Limits", &provider.limits.words),
        ("DKIM", &provider.dkim_record),
        ("Return path", &provider.return_path),
        ("State of this knowledge", &provider.checked),
    ] {
        if !value.is_empty() {
            let _ = writeln!(out, "- {name}: {}", cell(value));
        }
    }
    section(out, "What has to be verified there", provider.verify.iter().map(|line| cell(line)));
    let wrong = |one: &crate::presets::WrongOut| format!("{} (`pillarbox rules show {}`)", cell(&one.title), one.rule);
    section(out, "What it looks like when it is wrong", provider.wrong.iter().map(wrong));
}

fn care(out: &mut String, route: &RouteOut, document: &RouteDocument) {
    let name = cell(&route.name);
    let send = match route.route.kind {
        RouteKind::Graph => String::new(),
        _ => format!("\n    pillarbox check --route {name} --from ADDRESS --to ADDRESS --send"),
    };
    let _ = writeln!(out, "\n## How to test\n\n    pillarbox route check {name}{send}");
    if route.has_password {
        let _ = writeln!(
            out,
            "\n## Changing the password\n\nThe settings were last changed on {}; the password is as old as that or older. A new one is \
             tried before it counts, and the old one stays until the new one has carried mail:\n\n    pillarbox route rotate {name} --password-from prompt",
            cell(&short(&route.updated))
        );
    }
    let portals = document.provider.iter().flat_map(|provider| &provider.portals).map(|page| cell(page));
    section(out, "Whom to ask", portals);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_cell_or_begins_markup() {
        assert_eq!(cell("a|b\n<script>\\"), "a\\|b &lt;script>\\\\");
    }

    #[test]
    fn silence_is_no_absence() {
        assert_eq!(
            (state(false, false), state(true, false), state(false, true)),
            (State::Unknown, State::Missing, State::Present)
        );
    }
}
