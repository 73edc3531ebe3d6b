//! Words for people: a rule and stored values become title, meaning, causes and fixes when somebody reads them.
//!
//! Templates hold `{name}` or `{name|what to say without it}`.

use serde::Serialize;

use crate::base::RuleBase;
use crate::judge::Finding;
use crate::model::{Owner, ResultWord, Retry, Rule, Scope, Severity};
use crate::reason::Reason;
use crate::values::Values;

/// One fix in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RenderedFix {
    /// Who acts.
    pub who: Owner,
    /// What to do.
    pub text: String,
    /// The exact command, DNS record or setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

/// A finding in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Id of the rule.
    pub rule: String,
    /// Precise reason.
    pub reason: Reason,
    /// One of the six result words, or none of them.
    pub result: ResultWord,
    /// Whose turn it is.
    pub owner: Owner,
    /// What it is about.
    pub scope: Scope,
    /// How bad it is.
    pub severity: Severity,
    /// Advice on trying again.
    pub retry: Retry,
    /// One line.
    pub title: String,
    /// What it means.
    pub meaning: String,
    /// Likely causes in order.
    pub causes: Vec<String>,
    /// What to do in order.
    pub fixes: Vec<RenderedFix>,
    /// A dated fact the rule depends on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dated: Option<String>,
}

impl RuleBase {
    /// The words for a finding; `None` if its rule is gone.
    pub fn explain(&self, finding: &Finding) -> Option<Explanation> {
        let rule = self.rule(&finding.rule)?;
        let mut values = finding.values.clone();
        if let Some(provider) = finding.provider.as_deref() {
            let name = self.provider(provider).map_or(provider, |provider| provider.name.as_str());
            values.entry("provider".into()).or_insert_with(|| name.to_owned());
        }
        Some(rule.explain(&values))
    }
}

impl Rule {
    /// The words of this rule with values.
    pub fn explain(&self, values: &Values) -> Explanation {
        let fill = |template: &String| fill(template, values, Use::Prose);
        let command = |template: &String| self::fill(template, values, Use::of_command(template));
        Explanation {
            rule: self.id.clone(),
            reason: self.reason,
            result: self.result,
            owner: self.owner,
            scope: self.scope,
            severity: self.severity,
            retry: self.retry,
            title: fill(&self.title),
            meaning: fill(&self.meaning),
            causes: self.causes.iter().map(fill).collect(),
            fixes: self
                .fixes
                .iter()
                .map(|fix| RenderedFix { who: fix.who, text: fill(&fix.text), run: fix.run.as_ref().map(command) })
                .collect(),
            dated: self.dated.clone(),
        }
    }
}

/// Where a value goes: people copy commands into a shell, and values come from a peer.
#[derive(Clone, Copy, PartialEq)]
enum Use {
    Prose,
    Command,
    Link,
    /// A line of a zone file: nobody's shell sees it, and it needs blanks and quotation marks.
    Record,
}

impl Use {
    fn of_command(template: &str) -> Self {
        if template.starts_with("https://") || template.starts_with("{url") {
            Self::Link
        } else if template.starts_with("{record") {
            Self::Record
        } else {
            Self::Command
        }
    }

    /// Whether the value can do no more than stand there.
    fn takes(self, value: &str) -> bool {
        let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"._:@/+=%,-".contains(&octet);
        match self {
            Self::Prose => true,
            Self::Command => !value.starts_with('-') && value.bytes().all(plain),
            Self::Record => value.bytes().all(|octet| (b' '..=b'~').contains(&octet) && !b"`$\\".contains(&octet)),
            Self::Link => value.bytes().all(|octet| plain(octet) || b"?&#~".contains(&octet)),
        }
    }
}

/// Fills the templates of one text.
fn fill(template: &str, values: &Values, place: Use) -> String {
    let mut text = String::with_capacity(template.len());
    for piece in pieces(template) {
        match piece {
            Piece::Text(words) => text.push_str(words),
            Piece::Value { name, otherwise } => {
                match (values.get(name).filter(|value| !value.is_empty() && place.takes(value)), otherwise) {
                    (Some(value), _) => text.push_str(value),
                    (None, Some(otherwise)) => text.push_str(otherwise),
                    (None, None) => text.push_str(&name.to_uppercase()),
                }
            }
        }
    }
    text
}

/// A template without any value.
pub(crate) fn fill_blank(template: &str) -> String {
    fill(template, &Values::new(), Use::Prose)
}

/// Names of values a template uses.
pub(crate) fn names(template: &str) -> impl Iterator<Item = &str> {
    pieces(template).filter_map(|piece| match piece {
        Piece::Value { name, .. } => Some(name),
        Piece::Text(_) => None,
    })
}

enum Piece<'t> {
    Text(&'t str),
    Value { name: &'t str, otherwise: Option<&'t str> },
}

fn pieces(template: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = template;
    std::iter::from_fn(move || {
        let start = rest.find('{').unwrap_or(rest.len());
        if start > 0 {
            let (text, behind) = rest.split_at(start);
            rest = behind;
            return Some(Piece::Text(text));
        }
        let end = rest.find('}')?;
        let body = &rest[1..end];
        rest = &rest[end + 1..];
        let (name, otherwise) = match body.split_once('|') {
            Some((name, otherwise)) => (name, Some(otherwise)),
            None => (body, None),
        };
        Some(Piece::Value { name, otherwise })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_take_values_or_their_stand_in() {
        let values = Values::from([("ip".into(), "192.0.2.1".into())]);
        let fill = |template| fill(template, &values, Use::Prose);
        assert_eq!(fill("{ip} is on {list|a list}: dig {name}"), "192.0.2.1 is on a list: dig NAME");
        assert_eq!(fill("plain"), "plain");
        assert_eq!(fill("open { brace"), "open ");
    }

    #[test]
    fn a_value_from_a_peer_cannot_become_a_command() {
        for hostile in ["a@b.example;curl${IFS}x|sh", "$(id)", "`id`", "-oProxyCommand=x", "a b", "x'y"] {
            let values = Values::from([("address".into(), hostile.into())]);
            assert_eq!(fill("delete {address|ADDRESS}", &values, Use::Command), "delete ADDRESS");
        }
        let values = Values::from([("url".into(), "https://lists.example/q?ip=192.0.2.1&x=1".into())]);
        let template = "{url|https://lists.example/}";
        assert_eq!(fill(template, &values, Use::of_command(template)), "https://lists.example/q?ip=192.0.2.1&x=1");
    }
}
