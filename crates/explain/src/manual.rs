//! The manual written from the rules: a page for each reason and each provider, indexes, and the help pages. Markdown.
//!
//! Pure: gives paths below `docs/manual` and texts; the command writes them, a test compares them.

use std::fmt::Write as _;

use crate::base::RuleBase;
use crate::help::help;
use crate::model::{Fix, Owner, Rule};
use crate::ports::port_blocks;
use crate::provider::Provider;
use crate::reason::{Reason, ReasonText};
use crate::render::RenderedFix;
use crate::sample::SampleWhat;
use crate::values::Values;

/// A page: its path below the manual's directory, and its Markdown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// `reasons/relay_denied.md`.
    pub path: String,
    /// Markdown.
    pub text: String,
}

const BY_HAND: &str = "\n---\nWritten by `pillarbox manual`. Do not edit by hand.\n";
/// Most octets of a sample that are shown.
const SAMPLE: usize = 150;

impl RuleBase {
    /// All pages, in the order of their paths.
    pub fn manual(&self) -> Vec<Page> {
        let mut pages = vec![
            page("reasons/README.md", self.reasons_index()),
            page("providers/README.md", self.providers_index()),
            page("help/errors.md", self.errors()),
            page("help/README.md", help_index()),
            page("help/faq.md", faq()),
            page("help/glossary.md", glossary()),
            page("help/not-received.md", not_received()),
            page("help/support.md", support()),
            page("help/ports.md", ports()),
        ];
        pages.extend(
            Reason::ALL
                .iter()
                .filter_map(|&reason| self.reason_page(reason).map(|text| page(&format!("reasons/{reason}.md"), text))),
        );
        let providers = self.providers().iter();
        pages.extend(providers.map(|one| page(&format!("providers/{}.md", one.id), self.provider_page(one))));
        pages.sort_by(|a, b| a.path.cmp(&b.path));
        pages
    }

    /// The page of one reason.
    pub fn reason_page(&self, reason: Reason) -> Option<String> {
        let text = self.reason(reason)?;
        let words = Blank::of(text);
        let mut out = format!("# {}\n\n{}\n\n", md(&words.title), md(&words.meaning));
        let _ = writeln!(out, "| | |\n|---|---|\n| Reason | `{reason}` |\n| Result | {} |", text.result);
        let _ = writeln!(out, "| Whose turn | {} |\n| Concerns | {} |", whose(text.owner), scope(text));
        list(&mut out, "Causes", &words.causes);
        fixes(&mut out, "What to do", &words.fixes, "##");
        let rules: Vec<&Rule> = self.rules().filter(|rule| rule.reason == reason).collect();
        let own = rules.iter().filter(|rule| rule.provider.is_none()).copied();
        let own: Vec<&Rule> = own.filter(|rule| !is_by_codes(rule)).collect();
        if !own.is_empty() {
            out.push_str("\n## How servers and programs say it\n");
            own.iter().for_each(|rule| rule_part(&mut out, rule, Some(text)));
        }
        let mut theirs: Vec<&Rule> = rules.iter().filter(|rule| rule.provider.is_some()).copied().collect();
        if !theirs.is_empty() {
            theirs.sort_by(|a, b| (&a.provider, &a.id).cmp(&(&b.provider, &b.id)));
            out.push_str("\n## At certain providers\n\n| Provider | They say | Rule |\n|---|---|---|\n");
            for rule in theirs {
                let id = rule.provider.as_deref().unwrap_or_default();
                let name = self.provider(id).map_or(id, |provider| provider.name.as_str());
                let said = shown(rule).into_iter().next().unwrap_or_default();
                let at = format!("../providers/{id}.md#{}", rule.id);
                let _ = writeln!(out, "| {} | {} | [{}]({at}) |", md(name), cell(&said), rule.id);
            }
        }
        Some(out)
    }

    /// The page of one provider or program.
    pub fn provider_page(&self, provider: &Provider) -> String {
        let mut out = format!("# {}\n\n", md(&provider.name));
        facts(&mut out, provider);
        let rules: Vec<&Rule> = self.rules().filter(|rule| rule.provider.as_deref() == Some(&provider.id)).collect();
        if !rules.is_empty() {
            out.push_str("\n## What it says, what that means, what to do\n");
            rules.iter().for_each(|rule| rule_part(&mut out, rule, None));
        }
        out
    }

    fn reasons_index(&self) -> String {
        let mut out = String::from(
            "# Reasons\n\nEach failure has one of these reasons, below one of the six result words. Have an error text? \
             `pillarbox explain \"...\"` finds the reason, and so does the [list of errors](../help/errors.md).\n",
        );
        for &result in crate::model::ResultWord::ALL {
            let rows = Reason::ALL.iter().filter_map(|&reason| self.reason(reason));
            let rows: Vec<&ReasonText> = rows.filter(|text| text.result == result).collect();
            let head = if result.as_str() == "none" { "Refused for a reason of its own" } else { result.as_str() };
            let _ = write!(out, "\n## {head}\n\n{} {}\n\n", result.meaning(), result.next_step());
            out.push_str("| Reason | What it is | Whose turn |\n|---|---|---|\n");
            for text in rows {
                let name = text.reason;
                let title = md(&Blank::of(text).title);
                let _ = writeln!(out, "| [{name}]({name}.md) | {title} | {} |", whose(text.owner));
            }
        }
        out
    }

    fn providers_index(&self) -> String {
        let mut out = String::from("# Providers and mail programs\n");
        let kinds = [
            ("mailbox", "Mailbox providers"),
            ("sending", "Sending services"),
            ("filter", "Filters in front of mailboxes"),
            ("forwarder", "Forwarders"),
            ("program", "Mail programs"),
        ];
        for (kind, head) in kinds {
            let _ = write!(out, "\n## {head}\n\n| Name | Submission | Rules |\n|---|---|---|\n");
            for provider in self.providers().iter().filter(|provider| provider.kind == kind) {
                let rules = self.rules().filter(|rule| rule.provider.as_deref() == Some(&provider.id)).count();
                let hosts: Vec<String> =
                    provider.submission.iter().map(|submission| format!("`{}`", submission.host)).collect();
                let name = md(&provider.name);
                let _ = writeln!(out, "| [{name}]({}.md) | {} | {rules} |", provider.id, hosts.join(", "));
            }
        }
        out
    }

    fn errors(&self) -> String {
        let mut out = String::from(
            "# Errors by their text\n\nFind a few words of your error on this page (Ctrl-F), and follow the link to \
             causes and fixes. Quicker: `pillarbox explain \"the error\"`.\n",
        );
        let mut stages: Vec<(String, Vec<String>)> = Vec::new();
        for rule in self.rules().filter(|rule| !is_by_codes(rule)) {
            let Some(said) = shown(rule).into_iter().next() else { continue };
            let link = match &rule.provider {
                Some(provider) => format!("../providers/{provider}.md#{}", rule.id),
                None => format!("../reasons/{}.md#{}", rule.reason, rule.id),
            };
            let title = md(&rule.explain(&Values::new()).title);
            let row = format!("| {} | [{title}]({link}) |\n", cell(&said));
            let stage = rule.stages.first().map_or_else(|| "any stage".into(), |stage| stage_word(*stage));
            match stages.iter_mut().find(|(known, _)| *known == stage) {
                Some((_, rows)) => rows.push(row),
                None => stages.push((stage, vec![row])),
            }
        }
        stages.sort();
        for (stage, mut rows) in stages {
            rows.sort();
            let _ = write!(out, "\n## At {stage}\n\n| The error | What it is |\n|---|---|\n{}", rows.concat());
        }
        out
    }
}

fn page(path: &str, mut text: String) -> Page {
    text.push_str(BY_HAND);
    Page { path: path.to_owned(), text }
}

/// The words of a reason without values.
struct Blank {
    title: String,
    meaning: String,
    causes: Vec<String>,
    fixes: Vec<RenderedFix>,
}

impl Blank {
    fn of(text: &ReasonText) -> Self {
        let fill = |template: &String| crate::render::fill_blank(template);
        let fix = |fix: &Fix| RenderedFix { who: fix.who, text: fill(&fix.text), run: fix.run.as_ref().map(fill) };
        Self {
            title: fill(&text.title),
            meaning: fill(&text.meaning),
            causes: text.causes.iter().map(fill).collect(),
            fixes: text.fixes.iter().map(fix).collect(),
        }
    }
}

/// A rule that rests on codes alone: no text to be found on a page.
fn is_by_codes(rule: &Rule) -> bool {
    rule.texts.is_empty() && rule.failures.is_empty() && rule.signs.is_empty()
}

/// The samples as people meet them.
fn shown(rule: &Rule) -> Vec<String> {
    let samples = rule.samples().iter().filter_map(|sample| match &sample.what {
        SampleWhat::Reply(_) | SampleWhat::Text(_) => {
            let body = if sample.source.starts_with('@') { sample.source.split_once(' ')?.1 } else { &sample.source };
            Some(short(&body.replace('\n', " / ")))
        }
        SampleWhat::Failure(_) | SampleWhat::Sign(..) => None,
    });
    samples.take(3).collect()
}

/// The values of a sign come from its first sample; those of a reply have their stand-ins.
fn example(rule: &Rule) -> Values {
    let values = rule.samples().iter().find_map(|sample| match &sample.what {
        SampleWhat::Sign(_, values) => Some(values.clone()),
        _ => None,
    });
    values.filter(|_| rule.texts.is_empty()).unwrap_or_default()
}

fn rule_part(out: &mut String, rule: &Rule, reason: Option<&ReasonText>) {
    let words = rule.explain(&example(rule));
    let _ = write!(out, "\n<a id=\"{}\"></a>\n\n### {}\n\n", rule.id, md(&words.title));
    let samples = shown(rule);
    samples.iter().for_each(|sample| {
        let _ = writeln!(out, "- {}", code(sample));
    });
    if samples.is_empty() {
        out.push_str(match rule.signs.is_empty() {
            true => "Seen by Pillarbox itself during a connection.\n",
            false => "Noticed by a check or an audit; the values are those of an example.\n",
        });
    }
    let same = reason.map(Blank::of);
    let _ = write!(out, "\n{}", md(&words.meaning));
    if let Some(dated) = &words.dated {
        let _ = write!(out, " {}", md(dated));
    }
    out.push('\n');
    match same {
        Some(blank) if blank.fixes == words.fixes => {}
        _ => fixes(out, "", &words.fixes, ""),
    }
    if reason.is_none() {
        let _ = writeln!(out, "\nReason: [{0}](../reasons/{0}.md).", rule.reason);
    }
}

fn facts(out: &mut String, provider: &Provider) {
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(out, "| {name} | {} |", value.replace('|', "\\|"));
        }
    };
    let codes = |words: &[String]| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    row("", String::from(" "));
    row("---", "---".into());
    row("Known as", format!("`{}`", provider.id));
    row("Recognised by hosts", codes(&provider.hosts));
    row("Recognised by greeting", codes(&provider.banners));
    for submission in &provider.submission {
        let ports = |ports: &[u16]| ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let mut ways = Vec::new();
        if !submission.starttls.is_empty() {
            ways.push(format!("{} with STARTTLS", ports(&submission.starttls)));
        }
        if !submission.implicit.is_empty() {
            ways.push(format!("{} with implicit TLS", ports(&submission.implicit)));
        }
        row("Submission", format!("`{}`: {}", submission.host, ways.join("; ")));
    }
    row("Sign-in by", provider.mechanisms.join(", "));
    row("User name", md(&provider.username));
    row("Password", md(&provider.password));
    row("Limits", md(&provider.limits));
    row("SPF term", codes(&Vec::from_iter(Some(provider.spf.clone()).filter(|spf| !spf.is_empty()))));
    row("DKIM selectors", codes(&provider.dkim_selectors));
    row("DKIM record", md(&provider.dkim_record));
    row("Return path", md(&provider.return_path));
    row("Regions", codes(&provider.regions));
    row("Pages for senders", provider.portals.iter().map(|url| format!("<{url}>")).collect::<Vec<_>>().join(", "));
    row("Settings", codes(&provider.settings));
    row("Good to know", md(&provider.notes));
    row("Checked", provider.checked.clone());
}

fn list(out: &mut String, head: &str, items: &[String]) {
    let _ = write!(out, "\n## {head}\n\n");
    items.iter().for_each(|item| {
        let _ = writeln!(out, "- {}", md(item));
    });
}

fn fixes(out: &mut String, head: &str, fixes: &[RenderedFix], level: &str) {
    match head.is_empty() {
        true => out.push('\n'),
        false => {
            let _ = write!(out, "\n{level} {head}\n\n");
        }
    }
    for (number, fix) in fixes.iter().enumerate() {
        let who = if fix.who == Owner::You { String::new() } else { format!("({}) ", whose(fix.who)) };
        let _ = writeln!(out, "{}. {who}{}", number + 1, md(&fix.text));
        match fix.run.as_deref() {
            Some(link) if link.starts_with("https://") && !link.contains(char::is_whitespace) => {
                let _ = writeln!(out, "   <{link}>");
            }
            Some(run) => {
                let _ = writeln!(out, "\n   ```sh\n   {run}\n   ```\n");
            }
            None => {}
        }
    }
}

fn whose(owner: Owner) -> &'static str {
    match owner {
        Owner::You => "you",
        Owner::YourProvider => "your provider",
        Owner::Recipient => "the recipient",
        Owner::RecipientAdmin => "the recipient's administrator",
        Owner::Nobody => "nobody: waiting solves it",
    }
}

fn scope(text: &ReasonText) -> String {
    match text.scope.as_str() {
        "recipient" => "this recipient".into(),
        "message" => "this message".into(),
        "sender" => "everything from this sender".into(),
        "route" => "everything that takes this route".into(),
        "destination" => "everything for this destination".into(),
        "our_address" => "everything from our IP address".into(),
        _ => "everything that leaves this machine".into(),
    }
}

fn stage_word(stage: proto::transcript::Stage) -> String {
    use proto::transcript::Stage;
    match stage {
        Stage::Dns => "dns: looking the host up",
        Stage::Tcp => "tcp: connecting",
        Stage::Banner => "banner: the greeting",
        Stage::Ehlo => "ehlo: the introduction",
        Stage::Tls => "tls: encryption",
        Stage::Auth => "auth: signing in",
        Stage::Sender => "sender: MAIL FROM",
        Stage::Recipient => "recipient: RCPT TO",
        Stage::Message => "message: the content",
        Stage::Quit => "quit",
    }
    .into()
}

fn help_index() -> String {
    "# Help\n\n- [Errors by their text](errors.md)\n- [Questions and answers](faq.md)\n- [A message did not arrive](not-received.md)\n\
     - [Where networks block mail ports](ports.md)\n- [What support wants to know](support.md)\n- [Glossary](glossary.md)\n\
     - [Reasons](../reasons/README.md), [providers and mail programs](../providers/README.md)\n"
        .into()
}

fn faq() -> String {
    let mut out = String::from("# Questions and answers\n\n");
    for question in &help().questions {
        let _ = writeln!(out, "- [{}](#{})", md(&question.ask), question.id);
    }
    for question in &help().questions {
        let _ = write!(out, "\n<a id=\"{}\"></a>\n\n## {}\n", question.id, md(&question.ask));
        question.answer.iter().for_each(|paragraph| {
            let _ = write!(out, "\n{}\n", md(paragraph));
        });
        commands(&mut out, &question.run);
        related(&mut out, &question.see);
        let _ = write!(out, "\nSubjects: {}.\n", question.tags.join(", "));
    }
    out
}

fn not_received() -> String {
    let mut out = String::from("# A message did not arrive\n\nStep by step, the likeliest first.\n");
    for (number, step) in help().steps.iter().enumerate() {
        let _ = write!(out, "\n## {}. {}\n", number + 1, md(&step.ask));
        commands(&mut out, &step.run);
        let _ = write!(out, "\n- **Yes:** {}\n- **No:** {}\n", md(&step.yes), md(&step.no));
        related(&mut out, &step.see);
    }
    out
}

fn commands(out: &mut String, run: &[String]) {
    if !run.is_empty() {
        let _ = write!(out, "\n```sh\n{}\n```\n", run.join("\n"));
    }
}

fn related(out: &mut String, see: &[String]) {
    if !see.is_empty() {
        let links: Vec<String> = see
            .iter()
            .map(|path| {
                let name = path.trim_end_matches(".md").rsplit('/').next().unwrap_or(path);
                format!("[{}](../{path})", if name == "README" { "index" } else { name })
            })
            .collect();
        let _ = write!(out, "\nSee {}.\n", links.join(", "));
    }
}

fn glossary() -> String {
    let mut out = String::from("# Glossary\n\n| Word | Meaning |\n|---|---|\n");
    for term in &help().terms {
        let _ = writeln!(out, "| {} | {} |", md(&term.name), md(&term.means));
    }
    out
}

fn support() -> String {
    let mut out =
        String::from("# What support wants to know\n\nCollect this before you write; it saves two rounds.\n\n");
    for one in &help().support {
        let run = one.run.as_ref().map(|run| format!(" `{run}`")).unwrap_or_default();
        let _ = writeln!(out, "- [ ] {}{run}", md(&one.ask));
    }
    out
}

fn ports() -> String {
    let mut out = String::from(
        "# Where networks block mail ports\n\nWhat is blocked here and now shows `pillarbox check`; this page says why, and whom to ask.\n\n\
         | Where | Blocked at first | Open | What is so | What to ask for | What works |\n|---|---|---|---|---|---|\n",
    );
    for place in port_blocks() {
        let ports = |ports: &[u16]| ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let until = if place.until.is_empty() { String::new() } else { format!(" {}", place.until) };
        let since = if place.since.is_empty() { String::new() } else { format!(" Since {}.", place.since) };
        let url = if place.url.is_empty() { String::new() } else { format!(" <{}>", place.url) };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {}{since}{until} | {}{url} | {} |",
            md(&place.name),
            ports(&place.blocked),
            ports(&place.open),
            md(&place.how),
            md(&place.ask),
            md(&place.instead)
        );
    }
    let checked = port_blocks().iter().map(|place| place.checked.as_str()).min().unwrap_or_default();
    let _ = write!(out, "\nChecked {checked}; practice changes.\n");
    out
}

/// A sample, cut to a length that a table can show.
fn short(text: &str) -> String {
    if text.len() <= SAMPLE {
        return text.to_owned();
    }
    let mut end = SAMPLE;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", text[..end].trim_end())
}

/// Prose that Markdown takes as it is.
fn md(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '<' | '>' | '|' | '*' | '\\' | '[' | ']') {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

/// A code span, whatever is in it.
fn code(text: &str) -> String {
    if text.contains('`') { format!("`` {text} ``") } else { format!("`{text}`") }
}

/// A code span in a table.
fn cell(text: &str) -> String {
    if text.is_empty() { String::new() } else { code(&text.replace('|', "\\|")) }
}
