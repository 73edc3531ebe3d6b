//! The words of a report as the store keeps them: a reply, the rule that fits, and whether the address is done for.

use explain::{Finding, Query, RuleBase};
use proto::report::{Bounce, BouncedRecipient};
use proto::smtp::reply::Reply;
use proto::transcript::{Failure, Stage};
use store::Cause;

use crate::cli::explain_mail_bounce::{self as bounces, Hardness};

/// Longest reply text that is kept, octets.
const MAX_TEXT: usize = 480;

/// A word about a recipient, judged.
#[derive(Debug)]
pub struct Word {
    /// As the store keeps it.
    pub cause: Cause,
    /// `hard`, `soft` or `none`.
    pub hardness: &'static str,
    /// The rule's title.
    pub title: Option<String>,
}

/// Judges what a bounce says about one recipient, as `pillarbox explain` does.
pub fn judge(rules: &RuleBase, bounce: &Bounce, one: &BouncedRecipient) -> Word {
    let finding = bounces::judge(rules, bounce, one, None);
    let hardness = match bounces::hardness(one, finding.as_ref()) {
        Hardness::Hard => "hard",
        Hardness::Soft => "soft",
        Hardness::None => "none",
    };
    let text = if one.diagnostic.is_empty() { bounce.notice.as_str() } else { one.diagnostic.as_str() };
    let code = one.code.or_else(|| one.status.map(|status| if status.0 == 4 { 450 } else { 550 }));
    let enhanced = one.status.map(|status| status.to_string());
    let cause = cause(text, code, enhanced.as_deref(), finding.as_ref());
    let title = finding.as_ref().and_then(|finding| rules.explain(finding)).map(|words| words.title);
    Word { cause, hardness, title }
}

/// Judges words that come without a report around them.
pub fn judge_words(rules: &RuleBase, text: &str, code: Option<u16>, enhanced: Option<&str>) -> Word {
    let mut words = String::new();
    for part in [code.map(|code| code.to_string()), enhanced.map(str::to_owned)].into_iter().flatten() {
        if !text.contains(&part) {
            words.push_str(&part);
            words.push(' ');
        }
    }
    words.push_str(text);
    let finding = rules.judge(&Query { stage: Some(Stage::Recipient), ..Query::text(&words) });
    let title = finding.as_ref().and_then(|finding| rules.explain(finding)).map(|words| words.title);
    Word { cause: cause(text, code, enhanced, finding.as_ref()), hardness: "none", title }
}

/// A reply as the server may have given it: the words of a report are all there is.
fn cause(text: &str, code: Option<u16>, enhanced: Option<&str>, finding: Option<&Finding>) -> Cause {
    let code = code.filter(|code| (400..600).contains(code)).unwrap_or(550);
    let digits = code.to_string();
    // The words mostly begin with the codes.
    let mut rest = text.trim_start().trim_start_matches("smtp;").trim_start();
    rest = rest.strip_prefix(digits.as_str()).map_or(rest, |rest| rest.trim_start_matches([' ', '-']));
    let cut = &rest[..rest.floor_char_boundary(MAX_TEXT)];
    let text = match enhanced {
        Some(enhanced) if !cut.starts_with(enhanced) => format!("{enhanced} {cut}"),
        _ => cut.to_owned(),
    };
    Cause {
        stage: Stage::Recipient,
        failure: Failure::Refused(Reply::new(code, text.trim())),
        provider: finding.and_then(|finding| finding.provider.as_deref()).map(Into::into),
        rule: finding.map(|finding| finding.rule.as_str().into()),
        unknown_via: None,
    }
}

/// What is shown beside the event: `hard: 550 5.1.1 no such user`.
pub fn word_of(one: &BouncedRecipient, bounce: &Bounce, word: &Word) -> String {
    let said = [one.diagnostic.as_str(), bounce.notice.as_str()].into_iter().find(|text| !text.is_empty());
    let said = said.or(word.title.as_deref()).unwrap_or("no reason given");
    format!("{}: {said}", word.hardness)
}
