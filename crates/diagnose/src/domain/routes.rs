//! The ways our own mail leaves against what the domain allows: the SPF term, the keys and the alignment each needs.

use proto::policy::dmarc::{DmarcDiscovery, Whose, aligned, organizational_by_list};

use super::audit::Scene;
use super::notes::Notes;
use super::plan::OwnKey;
use super::spf::{Sending, with_term};
use super::text::txt_line;

/// A key of ours that signs mail from this domain and is aligned with it (RFC 9989 §4.4).
fn own_key<'a>(scene: Scene<'a>, dmarc: Option<&DmarcDiscovery>) -> Option<&'a OwnKey> {
    let mode = dmarc.and_then(|found| found.current.record.as_ref()).map(|record| record.adkim).unwrap_or_default();
    let organizational = organizational_by_list(scene.domain);
    scene.auditor.plan.own_keys.iter().find(|key| {
        let below = scene.domain.strip_suffix(key.domain.as_str()).is_some_and(|rest| rest.ends_with('.'));
        let signs = key.domain == scene.domain || key.subdomains && below;
        let of_key = organizational_by_list(&key.domain);
        signs && aligned(mode, (scene.domain, &organizational), (&key.domain, &of_key))
    })
}

/// Compares each route that goes through a known provider. Routes with an address of their own are looked at by SPF
/// itself, and what is not known gives no finding.
pub(super) fn compare(
    scene: Scene<'_>,
    sending: &Sending,
    selectors: &[String],
    dmarc: Option<&DmarcDiscovery>,
    spf: &mut Notes,
    policy: &mut Notes,
) {
    let rules = scene.auditor.judge.rules();
    let own = own_key(scene, dmarc);
    if let Some(key) = own {
        let name = format!("{}._domainkey.{}", key.selector, key.domain);
        policy.detail(format!("mail is signed here with {name}, which is aligned: it passes by every route"));
    }
    for route in &scene.auditor.plan.routes {
        let Some(host) = &route.host else { continue };
        let Some(provider) = rules.provider_of_host(host) else {
            spf.detail(format!("route {}: {host} is no provider that is known", route.name));
            continue;
        };
        let record = sending.record().unwrap_or("v=spf1 -all");
        let better = txt_line(scene.domain, &with_term(record, &provider.spf));
        let target = provider.spf.split_once(':').map(|(_, target)| target);
        let allowed = target.map(|target| sending.domains().iter().any(|domain| domain.eq_ignore_ascii_case(target)));
        if allowed == Some(false) && sending.record().is_some() {
            let values = [("domain", scene.domain), ("route", &route.name), ("via", host), ("term", &provider.spf)];
            spf.sign(
                "spf_route_not_covered",
                values.into_iter().map(|(n, v)| (n, v as &str)).chain([("record", better.as_str())]),
            );
        }
        let keyed = provider.dkim_selectors.iter().any(|selector| selectors.contains(selector));
        let words = |known: bool, yes: bool| {
            if !known {
                "not known"
            } else if yes {
                "yes"
            } else {
                "no"
            }
        };
        spf.detail(format!(
            "route {} through {}: SPF {}, DKIM key {}",
            route.name,
            provider.name,
            words(allowed.is_some(), allowed == Some(true)),
            words(!provider.dkim_selectors.is_empty(), keyed),
        ));
        let asked = dmarc.and_then(|found| found.current.policy(Whose::Domain));
        let certain = !provider.dkim_selectors.is_empty();
        if let (Some(asked), Some(false) | None, true, false) = (asked, allowed, certain, keyed)
            && own.is_none()
        {
            let values = [("domain", scene.domain), ("route", &route.name), ("via", host), ("policy", asked.name())];
            let record = (!provider.spf.is_empty()).then_some(("record", better.as_str()));
            policy.sign("dmarc_sender_unaligned", values.into_iter().map(|(n, v)| (n, v as &str)).chain(record));
        }
    }
}
