//! The test points of RFC 5782 §5: what must be listed is, what must not be is not, and a name nobody listed is not either.

use explain::lists::{Blocklist, ListAnswer};
use net::lookup::Kind;
use net::{Answer, Outcome, Resolver};

use super::addresses;

/// Whether a list is to be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Its test points are right.
    Good,
    /// It does not answer us: code and meaning.
    Refused(String, String),
    /// It is no list (any more): why.
    Unusable(String),
}

/// Asks the test points.
pub(super) async fn of(resolver: &Resolver, list: &Blocklist, random: &str) -> Trust {
    let point =
        |given: &Option<String>, ip: &str| format!("{}.{}", given.clone().unwrap_or_else(|| ip.to_owned()), list.zone);
    let (yes, no, random) = (
        point(&list.test_listed, "2.0.0.127"),
        point(&list.test_clean, "1.0.0.127"),
        format!("{random}.{}", list.zone),
    );
    let (soa, yes, no, random) = tokio::join!(
        resolver.query(&list.zone, Kind::Soa),
        resolver.query(&yes, Kind::A),
        resolver.query(&no, Kind::A),
        resolver.query(&random, Kind::A),
    );
    believe(list, &soa, &yes, &no, &random)
}

fn believe(list: &Blocklist, soa: &Answer, yes: &Answer, no: &Answer, random: &Answer) -> Trust {
    for answer in [yes, no, random] {
        if let Outcome::Failed(reason) = &answer.outcome {
            return Trust::Unusable(format!("no answer ({reason})"));
        }
        let refusal = addresses(answer).find_map(|code| match list.read(code) {
            ListAnswer::Refused(meaning) => Some((code, meaning)),
            _ => None,
        });
        if let Some((code, meaning)) = refusal {
            return Trust::Refused(code.to_string(), meaning);
        }
    }
    if soa.records.is_empty() {
        return Trust::Unusable("there is no such zone".into());
    }
    if !random.records.is_empty() {
        return Trust::Unusable("a name nobody listed is listed".into());
    }
    if !no.records.is_empty() {
        return Trust::Unusable("the test point that must not be listed is listed".into());
    }
    if yes.records.is_empty() {
        return Trust::Unusable("the test point that must be listed is not".into());
    }
    if addresses(yes).any(|code| code.octets()[0] != 127) {
        return Trust::Unusable("answers outside of 127.0.0.0/8".into());
    }
    Trust::Good
}
