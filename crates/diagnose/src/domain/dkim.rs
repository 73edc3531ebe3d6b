//! Keys of signatures (RFC 6376 §3.6, RFC 8301): at selectors that were named, that the domain's providers use, and at
//! usual ones, because selectors cannot be listed.

use std::collections::BTreeSet;

use explain::lists::common_selectors;
use futures_util::StreamExt;
use net::{Answer, Outcome, lookup::Data, lookup::Kind};
use proto::policy::dkim::{is_record, key_name, parse_key};
use proto::policy::{Level, Remark};

use super::audit::Scene;
use super::mx::Receiving;
use super::notes::Notes;
use super::plan::{Guess, Section};
use super::spf::Sending;
use super::text::{txt_line, without_tags};

/// Questions of one domain at the same time.
const AT_ONCE: usize = 32;
/// Selectors tried of the list of usual ones, whose first are the most usual, for each of many domains.
const FEW: usize = 8;

/// Why a selector is tried.
#[derive(Clone, Copy, PartialEq)]
enum Reason {
    /// The operator named it: it must have a key.
    Named,
    /// A provider of the domain uses it.
    Provider,
    /// Many use it.
    Usual,
}

/// What was found.
pub(super) struct Keys {
    pub(super) notes: Notes,
    /// Selectors with a key that verifies.
    pub(super) selectors: Vec<String>,
}

/// Looks at all selectors.
pub(super) async fn look(scene: Scene<'_>, receiving: &Receiving, sending: &Sending, wild: bool) -> Keys {
    let mut keys = Keys { notes: Notes::new(Section::Dkim), selectors: Vec::new() };
    if !scene.wants(Section::Dkim) && scene.auditor.plan.routes.is_empty() {
        return keys;
    }
    let named: BTreeSet<String> =
        scene.auditor.plan.selectors.iter().map(|selector| selector.trim().to_ascii_lowercase()).collect();
    let of_provider = by_provider(scene, receiving, sending);
    let mut guessed = BTreeSet::new();
    // Under a wildcard every selector has some record; guessing finds nothing then.
    let guess = if wild { Guess::Nothing } else { scene.auditor.plan.guess };
    if guess != Guess::Nothing {
        let count = if guess == Guess::Few { FEW } else { usize::MAX };
        guessed.extend(of_provider.iter().cloned());
        guessed.extend(common_selectors().iter().take(count).cloned());
    }
    guessed.retain(|selector| !named.contains(selector));
    let count = guessed.len();
    let mut all: Vec<(String, Reason)> = named.iter().map(|one| (one.clone(), Reason::Named)).collect();
    for selector in guessed {
        let why = if of_provider.contains(&selector) { Reason::Provider } else { Reason::Usual };
        all.push((selector, why));
    }
    let mut answers = futures_util::stream::iter(all)
        .map(|(selector, why)| async move {
            let name = key_name(&selector, scene.domain);
            let answer = scene.auditor.query(&name, Kind::Txt).await;
            (selector, why, name, answer)
        })
        .buffered(AT_ONCE);
    let mut met = false;
    while let Some((selector, why, name, answer)) = answers.next().await {
        met |= one(scene, &mut keys, &selector, why, &name, &answer).await;
    }
    if !met && named.is_empty() && count > 0 {
        keys.notes.sign("dkim_not_found", [("domain", scene.domain), ("count", &count.to_string())]);
    }
    let line = match keys.selectors.as_slice() {
        [] if met => "no usable key".to_owned(),
        [] => format!("no key found ({count} usual selectors tried)"),
        found => found.join(", "),
    };
    keys.notes.summary(line);
    keys.notes.fact("selectors", keys.selectors.join(" "));
    keys
}

/// Selectors of the providers that take the domain's mail, send it by its SPF record, or by our own routes.
fn by_provider(scene: Scene<'_>, receiving: &Receiving, sending: &Sending) -> Vec<String> {
    let rules = scene.auditor.judge.rules();
    let mut ids: BTreeSet<&str> = receiving.provider.iter().map(String::as_str).collect();
    let routes = scene.auditor.plan.routes.iter().filter_map(|route| route.host.as_deref());
    ids.extend(
        sending.domains().into_iter().chain(routes).filter_map(|host| Some(rules.provider_of_host(host)?.id.as_str())),
    );
    ids.into_iter().filter_map(|id| rules.provider(id)).flat_map(|provider| provider.dkim_selectors.clone()).collect()
}

/// Judges the answer at one selector; says whether something is there.
async fn one(scene: Scene<'_>, keys: &mut Keys, selector: &str, why: Reason, name: &str, answer: &Answer) -> bool {
    let told = why == Reason::Named;
    let (domain, notes) = (scene.domain, &mut keys.notes);
    let base = [("domain", domain), ("selector", selector), ("name", name)];
    if let Outcome::Failed(reason) = &answer.outcome {
        if told {
            notes.sign("domain_dns_failure", [("domain", domain), ("name", name), ("type", "TXT"), ("reason", reason)]);
        }
        return false;
    }
    let texts: Vec<&Vec<u8>> = answer
        .records
        .iter()
        .filter_map(|data| match data {
            Data::Txt(text) if told || is_record(text) => Some(text),
            _ => None,
        })
        .collect();
    if texts.is_empty() {
        let alias = scene.auditor.query(name, Kind::Cname);
        // An alias to nothing looks like nothing, and asking at every usual selector would double the questions.
        let asks = why != Reason::Usual || !answer.aliases.is_empty();
        let target = match asks {
            true => alias.await.records.into_iter().find_map(|data| match data {
                Data::Cname(target) => Some(target),
                _ => None,
            }),
            false => None,
        };
        if let Some(target) = target {
            notes.record(name, Kind::Cname, &Data::Cname(target.clone()), None);
            notes.sign("dkim_alias_broken", base.into_iter().chain([("target", target.as_str())]));
            return true;
        }
        if told {
            let record = txt_line(name, "v=DKIM1; k=rsa; p=(the public key)");
            notes.sign("dkim_selector_missing", base.into_iter().chain([("record", record.as_str())]));
        }
        return false;
    }
    for alias in &answer.aliases {
        notes.record(name, Kind::Cname, &Data::Cname(alias.clone()), answer.ttl);
    }
    notes.records(name, Kind::Txt, answer);
    if texts.len() > 1 {
        notes.sign("dkim_several", base.into_iter().chain([("count", texts.len().to_string().as_str())]));
        return true;
    }
    if key(domain, selector, name, texts[0], notes) {
        keys.selectors.push(selector.to_owned());
    }
    true
}

/// Notes what is wrong with a key; says whether signatures with it verify.
fn key(domain: &str, selector: &str, name: &str, text: &[u8], notes: &mut Notes) -> bool {
    let base = [("domain", domain), ("selector", selector), ("name", name)];
    let parsed = parse_key(text);
    let shown = String::from_utf8_lossy(text);
    let bits = parsed.record.as_ref().and_then(|key| key.bits).unwrap_or(0).to_string();
    let with = |drop: &[&str]| txt_line(name, &without_tags(&shown, drop));
    let mut usable = parsed.record.as_ref().is_some_and(|key| !key.revoked);
    for Remark { kind, level, text, .. } in &parsed.remarks {
        match *kind {
            "revoked" => notes.sign("dkim_revoked", base),
            "testing" => notes.sign("dkim_testing", base.into_iter().chain([("record", with(&["t"]).as_str())])),
            "key_short" => notes.sign("dkim_key_weak", base.into_iter().chain([("bits", bits.as_str())])),
            "key_too_short" => {
                usable = false;
                notes.sign("dkim_key_short", base.into_iter().chain([("bits", bits.as_str())]));
            }
            "no_sha256" | "not_for_mail" => {
                usable = false;
                let record = with(&["h", "s"]);
                notes.sign("dkim_unusable", base.into_iter().chain([("problem", text.as_str()), ("record", &record)]));
            }
            _ => {
                let sign = if *level == Level::Error { "dkim_syntax" } else { "dkim_remark" };
                usable &= *level != Level::Error;
                notes.sign(sign, base.into_iter().chain([("problem", text.as_str())]));
            }
        }
    }
    if let Some(key) = &parsed.record {
        let algorithm = format!("{:?}", key.algorithm).to_ascii_lowercase();
        notes.detail(format!("{selector}: {algorithm}, {bits} bits{}", if key.revoked { ", revoked" } else { "" }));
    }
    usable
}
