//! What waits for an incident that is over: it is due at once, and nothing else is. What waits for another credential, another
//! provider or another domain was put off for a reason that still holds.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use store::{GroupBy, IncidentScope, Operation, Selector, State, StoreError};

use crate::dispatch::{destination_of, route_of};
use crate::route::RouteKind;
use crate::run::Relay;
use crate::schedule::ramp::Ramp;
use crate::shared::Shared;

/// Domains with mail whose destination is looked at.
const DOMAINS: u32 = 1_000;
/// Domains whose mail is looked for one by one: each look passes over all that waits for the rule.
const ONE_BY_ONE: usize = 20;

/// An incident that is over, as far as its mail goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Over {
    /// Whom it touched.
    pub scope: IncidentScope,
    /// The rule that explained the failures.
    pub rule: String,
    /// The route on which it was met.
    pub route: Option<String>,
    /// Its mail starts so; `None`: it flows already.
    pub ramp: Option<Ramp>,
}

impl Relay {
    /// Mail that waits for it is due, and its destinations need not wait for the end of their pauses. Gives the number of
    /// recipients.
    pub async fn let_go_of(&self, over: &Over, who: &str) -> Result<u64, StoreError> {
        let shared = self.shared();
        let (selectors, destinations) = match &over.scope {
            IncidentScope::Destination(_) | IncidentScope::Provider(_) => of_next_hops(shared, over).await?,
            _ => (selector(over).into_iter().collect(), HashSet::new()),
        };
        set_free(shared, over, &destinations);
        let mut count = 0;
        for selector in selectors {
            count += shared.store.operate(selector, Operation::Retry, who.to_owned(), shared.now_ms()).await?;
        }
        if count > 0 {
            shared.due_at(i64::MIN);
        }
        Ok(count)
    }
}

/// What failed for it and waits.
fn waiting(over: &Over) -> Selector {
    Selector { state: Some(State::Waiting), cause: Some(over.rule.clone()), ..Selector::default() }
}

/// The mail of a scope that the store can find.
fn selector(over: &Over) -> Option<Selector> {
    let (all, route) = (waiting(over), over.route.clone());
    Some(match &over.scope {
        IncidentScope::Route(name) | IncidentScope::Credential(name) => Selector { route: Some(name.clone()), ..all },
        IncidentScope::Domain(name) => Selector { domain: Some(name.clone()), route, ..all },
        IncidentScope::Stream(name) => Selector { stream: Some(name.clone()), route, ..all },
        IncidentScope::Sender(name) => Selector { sender: Some(name.clone()), route, ..all },
        IncidentScope::SenderDomain(name) => Selector { sender_domain: Some(name.clone()), ..all },
        IncidentScope::Address(address) => Selector { recipient: Some(address.clone()), ..all },
        // Other routes may have met it too.
        IncidentScope::Everyone | IncidentScope::Source(_) | IncidentScope::Family(_) => all,
        IncidentScope::Destination(_) | IncidentScope::Provider(_) | IncidentScope::Itself(_) => return None,
    })
}

/// The mail of domains whose exchangers are concerned, and these exchangers' destinations. Where none is known to lead there, or
/// too many, it is all that waits for the rule.
async fn of_next_hops(shared: &Shared, over: &Over) -> Result<(Vec<Selector>, HashSet<Arc<str>>), StoreError> {
    let rules = shared.rules();
    let concerns = |destination: &str, host: &str| match &over.scope {
        IncidentScope::Destination(name) => destination == name,
        IncidentScope::Provider(name) => rules.provider_of_host(host).is_some_and(|provider| provider.id == **name),
        _ => false,
    };
    let (directory, mut selectors, mut destinations) = (shared.directory(), Vec::new(), HashSet::new());
    for route in directory.routes().filter(|route| route.record.kind.has_account()) {
        if concerns(&route.name, route.record.host.as_deref().unwrap_or_default()) {
            selectors.push(Selector { route: Some(route.name.to_string()), ..waiting(over) });
            destinations.insert(route.name.clone());
        }
    }
    let domains = shared.store.counts(GroupBy::Domain, DOMAINS).await?;
    for domain in domains.into_iter().filter(|count| count.pending > 0).map(|count| count.group) {
        let exchanges = shared.exchangers.all_known(&domain.as_str().into(), i64::MIN);
        for route in directory.routes().filter(|route| route.record.kind == RouteKind::Mx) {
            let there = exchanges.iter().map(|exchange| (destination_of(route, exchange), &exchange.hosts));
            let there = there.filter(|(name, hosts)| {
                concerns(name, "") || hosts.first().is_some_and(|host| concerns("", &host.host))
            });
            let names: Vec<_> = there.map(|(name, _)| name).collect();
            if !names.is_empty() {
                let (domain, route) = (Some(domain.clone()), Some(route.name.to_string()));
                selectors.push(Selector { domain, route, ..waiting(over) });
                destinations.extend(names);
            }
        }
    }
    if selectors.is_empty() || selectors.len() > ONE_BY_ONE {
        selectors = vec![waiting(over)];
    }
    Ok((selectors, destinations))
}

/// Ends the pauses of its destinations.
fn set_free(shared: &Arc<Shared>, over: &Over, found: &HashSet<Arc<str>>) {
    let (now_ms, directory) = (shared.now_ms(), shared.directory());
    let of_domain: HashSet<Arc<str>> = match &over.scope {
        IncidentScope::Domain(name) => {
            let exchanges = shared.exchangers.all_known(&name.as_str().into(), i64::MIN);
            let routes = directory.routes().filter(|route| route.record.kind == RouteKind::Mx);
            routes.flat_map(|route| exchanges.iter().map(|exchange| destination_of(route, exchange))).collect()
        }
        _ => HashSet::new(),
    };
    let mut schedule = shared.schedule.lock();
    let stand = schedule.overview().into_iter().filter(|one| one.paused_until_ms.or(one.held_until_ms).is_some());
    // Those that stand still, and whether because it could not be reached, not because it asked for that.
    let stand: HashMap<Arc<str>, bool> =
        stand.map(|one| (one.name.as_str().into(), one.held_until_ms.is_none())).collect();
    let concerned = |destination: &str| match &over.scope {
        IncidentScope::Everyone => true,
        IncidentScope::Family(_) => stand.get(destination) == Some(&true),
        IncidentScope::Route(name) | IncidentScope::Credential(name) => route_of(destination) == name,
        IncidentScope::Source(name) => directory
            .route(route_of(destination))
            .is_some_and(|route| shared.keeper.sources_of(route).iter().any(|source| source.to_string() == *name)),
        _ => found.contains(destination) || of_domain.contains(destination),
    };
    // What flows is not slowed down.
    if let Some(ramp) = over.ramp {
        for name in stand.keys().filter(|name| concerned(name)) {
            if let Some(route) = directory.route(route_of(name)) {
                schedule.begin_slowly(name, route.limits(name), ramp, now_ms);
            }
        }
    }
    let actions = schedule.resume_of(concerned, now_ms);
    drop(schedule);
    shared.perform(actions);
}
