//! `pillarbox manual`: the pages on reasons, providers and help, written from the rules.

use std::path::Path;

use anyhow::Context;
use explain::{Reason, RuleBase};

use super::Fault;
use super::output::print;

/// Writes all pages below a directory, or prints one.
pub fn run(directory: Option<&Path>, page: Option<&str>) -> Result<(), Fault> {
    let base = RuleBase::builtin();
    match (directory, page) {
        (_, Some(name)) => print(&one(base, name)?),
        (Some(directory), None) => write(base, directory).map_err(Fault::cannot),
        (None, None) => Err(Fault::Usage("name a directory, or a page with --page".into())),
    }
}

/// The page of a reason, a provider or a help subject by its name.
fn one(base: &RuleBase, name: &str) -> Result<String, Fault> {
    let reason = Reason::ALL.iter().find(|reason| reason.as_str() == name);
    if let Some(text) = reason.and_then(|&reason| base.reason_page(reason)) {
        return Ok(text);
    }
    if let Some(provider) = base.provider(name) {
        return Ok(base.provider_page(provider));
    }
    let path = format!("help/{name}.md");
    let page = base.manual().into_iter().find(|page| page.path == path);
    page.map(|page| page.text).ok_or_else(|| {
        Fault::Usage(format!(
            "no page `{name}`: give a reason, a provider, or one of errors, faq, glossary, not-received, ports, support"
        ))
    })
}

fn write(base: &RuleBase, directory: &Path) -> anyhow::Result<()> {
    for page in base.manual() {
        let path = directory.join(&page.path);
        let parent = path.parent().unwrap_or(directory);
        std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        std::fs::write(&path, page.text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
