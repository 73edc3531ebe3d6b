//! `pillarbox rules`: the rule base to look at, and checks for it and for rules of one's own.

use std::path::Path;

use explain::{Code, EnhancedPattern, Rule, RuleBase, RulesError, SampleCheck};
use serde_json::{Value, json};

use super::Fault;
use super::args::Global;
use super::args_rules::RulesCommand;
use super::output::{clean, facts, json as print_json, plural, print, table};
use super::rules_user;
use crate::http::words;
use crate::serve::rules as files;

pub use super::rules_user::base;

/// Does what was asked.
pub fn run(global: &Global, command: &RulesCommand) -> Result<(), Fault> {
    match command {
        RulesCommand::List { provider } => list(global, provider.as_deref()),
        RulesCommand::Show { id } => show(global, id),
        RulesCommand::Lint { file } => lint(global, file.as_deref()),
        RulesCommand::Test { file } => test(global, file.as_deref()),
        RulesCommand::Unknown { file, events } => rules_user::unknown(global, file.as_deref(), *events),
        RulesCommand::Backtest { file, log, events } => rules_user::backtest(global, file, log.as_ref(), *events),
    }
}

fn list(global: &Global, provider: Option<&str>) -> Result<(), Fault> {
    let base = base(global)?;
    if let Some(id) = provider.filter(|id| base.provider(id).is_none()) {
        let known: Vec<&str> = base.providers().iter().map(|provider| provider.id.as_str()).collect();
        return Err(Fault::Usage(format!("no provider `{id}`; there are {}", known.join(", "))));
    }
    let rules = base.rules().filter(|rule| provider.is_none() || rule.provider.as_deref() == provider);
    if global.json {
        let one = |rule: &Rule| {
            json!({ "id": rule.id, "reason": rule.reason, "result": rule.result, "provider": rule.provider,
                    "title": rule.title, "file": rule.file })
        };
        return print_json(&json!({ "items": rules.map(one).collect::<Vec<_>>() }));
    }
    let row = |rule: &Rule| {
        let provider = rule.provider.clone().unwrap_or_else(|| "-".into());
        vec![rule.id.clone(), provider, rule.reason.to_string(), rule.title.clone()]
    };
    table(&["ID", "PROVIDER", "REASON", "TITLE"], &rules.map(row).collect::<Vec<_>>())
}

fn show(global: &Global, id: &str) -> Result<(), Fault> {
    let base = base(global)?;
    let Some(rule) = base.rule(id) else {
        super::output::complain(&format!("there is no rule {}; see `pillarbox rules list`", clean(id)));
        return Err(Fault::Told);
    };
    if global.json {
        return print_json(&all(rule));
    }
    let join = |words: Vec<String>| words.join(", ");
    facts(&[
        ("id", rule.id.clone()),
        ("title", rule.title.clone()),
        ("file", rule.file.clone()),
        ("stage", join(rule.stages.iter().map(|stage| words::stage(*stage).to_owned()).collect())),
        ("provider", rule.provider.clone().unwrap_or_default()),
        ("code", join(rule.codes.iter().map(code).collect())),
        ("enhanced", join(rule.enhanced.iter().map(enhanced).collect())),
        ("failure", rule.failures.join(", ")),
        ("reason", rule.reason.to_string()),
        ("result", rule.result.to_string()),
        ("scope", rule.scope.to_string()),
        ("owner", rule.owner.to_string()),
        ("retry", rule.retry.to_string()),
        ("means", rule.meaning.clone()),
        ("dated", rule.dated.clone().unwrap_or_default()),
        ("source", format!("{} (checked {})", rule.source.name, rule.source.checked)),
    ])?;
    let mut out = String::new();
    let mut part = |head: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            out.push_str(&format!("\n{head}\n"));
            lines.iter().for_each(|line| out.push_str(&format!("  {}\n", clean(line))));
        }
    };
    part("Texts", rule.texts.iter().map(ToString::to_string).collect());
    part("Causes", rule.causes.clone());
    let fix = |fix: &explain::Fix| {
        let run = fix.run.as_ref().map(|run| format!("    {run}"));
        std::iter::once(format!("[{}] {}", fix.who, fix.text)).chain(run).collect::<Vec<_>>()
    };
    part("Fixes", rule.fixes.iter().flat_map(fix).collect());
    part("Samples", rule.samples().iter().map(|sample| sample.source.replace('\n', " / ")).collect());
    print(&out)
}

fn all(rule: &Rule) -> Value {
    let fixes = rule.fixes.iter().map(|fix| json!({ "who": fix.who, "do": fix.text, "run": fix.run }));
    json!({
        "id": rule.id, "title": rule.title, "file": rule.file, "stage": rule.stages, "provider": rule.provider,
        "provider_only": rule.provider_only, "code": rule.codes.iter().map(code).collect::<Vec<_>>(),
        "enhanced": rule.enhanced.iter().map(enhanced).collect::<Vec<_>>(), "failure": rule.failures,
        "text": rule.texts.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "reason": rule.reason, "result": rule.result, "scope": rule.scope, "owner": rule.owner, "retry": rule.retry,
        "softens": rule.softens, "means": rule.meaning, "causes": rule.causes, "fixes": fixes.collect::<Vec<_>>(),
        "dated": rule.dated, "source": { "name": rule.source.name, "checked": rule.source.checked },
        "samples": rule.samples().iter().map(|sample| &sample.source).collect::<Vec<_>>(),
    })
}

fn code(code: &Code) -> String {
    match code {
        Code::Exact(code) => code.to_string(),
        Code::Class(class) => format!("{class}yz"),
    }
}

fn enhanced(pattern: &EnhancedPattern) -> String {
    let class = pattern.class.map_or_else(|| "x".into(), |class| class.to_string());
    let detail = pattern.detail.map_or_else(|| "*".into(), |detail| detail.to_string());
    format!("{class}.{}.{detail}", pattern.subject)
}

/// The rules to check: all of those inside the program, or those of the file on top of them.
enum Checked {
    BuiltIn(&'static RuleBase),
    Own(Box<RuleBase>, String),
}

impl Checked {
    fn open(file: Option<&Path>) -> Result<Result<Self, RulesError>, Fault> {
        let Some(path) = file else { return Ok(Ok(Self::BuiltIn(RuleBase::builtin()))) };
        let (name, text) = files::file(path).map_err(Fault::cannot)?;
        Ok(RuleBase::with_user_rules(&[(&name, &text)]).map(|base| Self::Own(Box::new(base), name)))
    }

    fn base(&self) -> &RuleBase {
        match self {
            Self::BuiltIn(base) => base,
            Self::Own(base, _) => base,
        }
    }

    fn rules(&self) -> impl Iterator<Item = &Rule> {
        let wanted = match self {
            Self::BuiltIn(_) => None,
            Self::Own(_, name) => Some(name),
        };
        self.base().rules().filter(move |rule| wanted.is_none_or(|name| rule.file == *name))
    }
}

/// A file that cannot be loaded is a problem found.
fn told(global: &Global, error: &RulesError) -> Fault {
    let text = error.to_string();
    let printed = match global.json {
        true => print_json(&json!({ "rules": 0, "problems": [{ "rule": null, "problem": text }] })),
        false => print(&format!("{}\n", super::output::clean_lines(&text))),
    };
    printed.err().unwrap_or(Fault::Told)
}

fn lint(global: &Global, file: Option<&Path>) -> Result<(), Fault> {
    let checked = Checked::open(file)?.map_err(|error| told(global, &error))?;
    let problems: Vec<(String, String)> = match &checked {
        Checked::BuiltIn(base) => base.lint().into_iter().map(|found| (found.rule, found.problem)).collect(),
        Checked::Own(base, _) => {
            let of = |rule: &Rule| base.lint_rule(rule).into_iter().map(|found| (rule.id.clone(), found)).collect();
            checked.rules().flat_map::<Vec<_>, _>(of).collect()
        }
    };
    let rules = checked.rules().count();
    if global.json {
        let one = |(rule, problem): &(String, String)| json!({ "rule": rule, "problem": problem });
        print_json(&json!({ "rules": rules, "problems": problems.iter().map(one).collect::<Vec<_>>() }))?;
    } else {
        let lines = problems.iter().map(|(rule, problem)| format!("{}: {}\n", clean(rule), clean(problem)));
        let found = if problems.is_empty() { "no problems".into() } else { plural(problems.len() as u64, "problem") };
        print(&format!("{}{}: {found}\n", lines.collect::<String>(), plural(rules as u64, "rule")))?;
    }
    if problems.is_empty() { Ok(()) } else { Err(Fault::Told) }
}

fn test(global: &Global, file: Option<&Path>) -> Result<(), Fault> {
    let checked = Checked::open(file)?.map_err(|error| told(global, &error))?;
    let checks: Vec<SampleCheck> = checked.rules().flat_map(|rule| checked.base().test(rule)).collect();
    let wrong: Vec<&SampleCheck> = checks.iter().filter(|check| !check.is_right()).collect();
    let rules = checked.rules().count();
    if global.json {
        let one = |check: &&SampleCheck| json!({ "rule": check.rule, "sample": check.sample, "found": check.found, "tie": check.tie });
        let wrong: Vec<Value> = wrong.iter().map(one).collect();
        print_json(&json!({ "rules": rules, "checks": checks.len(), "wrong": wrong }))?;
    } else {
        let line = |check: &&SampleCheck| {
            let hits = match &check.tie {
                Some(tie) => format!("fits {tie} as well"),
                None => format!("hits {}", check.found.as_deref().unwrap_or("nothing")),
            };
            format!("{}: `{}` {hits}\n", clean(&check.rule), clean(&check.sample))
        };
        let lines: String = wrong.iter().map(line).collect();
        let counts = format!("{}, {}", plural(rules as u64, "rule"), plural(checks.len() as u64, "check"));
        print(&format!("{lines}{counts}: {} wrong\n", wrong.len()))?;
    }
    if wrong.is_empty() { Ok(()) } else { Err(Fault::Told) }
}
