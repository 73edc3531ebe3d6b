//! The pages of the manual are those the rules give. `BLESS=1` writes them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use explain::RuleBase;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/manual")
}

fn on_disk() -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for directory in ["reasons", "providers", "help"] {
        let entries = std::fs::read_dir(root().join(directory)).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        paths.extend(names.map(|name| format!("{directory}/{name}")));
    }
    paths
}

#[test]
fn the_pages_in_the_repository_are_those_of_the_rules() {
    let pages = RuleBase::builtin().manual();
    if std::env::var_os("BLESS").is_some() {
        for path in on_disk() {
            std::fs::remove_file(root().join(path)).unwrap();
        }
        for page in &pages {
            let path = root().join(&page.path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, &page.text).unwrap();
        }
    }
    let wanted: BTreeSet<String> = pages.iter().map(|page| page.path.clone()).collect();
    assert_eq!(on_disk(), wanted, "BLESS=1 cargo test -p pillarbox-explain --test manual");
    let differs = |page: &&explain::Page| std::fs::read_to_string(root().join(&page.path)).unwrap() != page.text;
    let old: Vec<&str> = pages.iter().filter(differs).map(|page| page.path.as_str()).collect();
    assert!(old.is_empty(), "BLESS=1 cargo test -p pillarbox-explain --test manual: {old:?}");
}

#[test]
fn every_link_of_a_page_leads_to_a_page_or_an_anchor_that_is_there() {
    let pages = RuleBase::builtin().manual();
    let mut broken = Vec::new();
    for page in &pages {
        let directory = page.path.split('/').next().unwrap();
        for link in page.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("https://") || link.contains(' ') {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path.strip_prefix("../") {
                _ if path.is_empty() => page.path.clone(),
                Some(other) => other.to_owned(),
                None => format!("{directory}/{path}"),
            };
            let found = pages.iter().find(|other| other.path == target);
            let there = found
                .is_some_and(|other| anchor.is_empty() || other.text.contains(&format!("<a id=\"{anchor}\"></a>")));
            if !there {
                broken.push(format!("{}: {link}", page.path));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_reason_and_provider_has_a_page_with_something_to_do() {
    let base = RuleBase::builtin();
    for &reason in explain::Reason::ALL {
        let page = base.reason_page(reason).unwrap();
        assert!(page.contains("## Causes") && page.contains("## What to do") && page.contains("\n1. "), "{reason}");
    }
    for provider in base.providers() {
        let page = base.provider_page(provider);
        assert!(page.starts_with("# ") && page.contains("Checked"), "{}", provider.id);
    }
}
