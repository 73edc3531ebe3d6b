//! From a message to an [`Answer`]: which records belong to the question, and what their absence means.

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use crate::lookup::{Answer, Kind, MAX_RECORDS, Outcome, data_of, outcome_of, plain, record_type};
use crate::lookup::{Data, Proof};

/// What a message says.
pub(super) enum Read {
    /// This.
    Done(Answer),
    /// That the name is an alias, and nothing of where these lead.
    Follow(Vec<String>),
}

pub(super) fn answer(asked: &Name, kind: Kind, message: &Message) -> Read {
    let (end, aliases) = follow(asked, kind, &message.answers);
    let wanted = record_type(kind);
    let of_question = |record: &&Record| record.record_type() == wanted && record.name == *end;
    let found: Vec<&Record> = message.answers.iter().filter(of_question).take(MAX_RECORDS).collect();
    let records: Vec<Data> = found.iter().filter_map(|record| data_of(&record.data)).collect();
    let code = message.metadata.response_code;
    let soa = message.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    });
    let done = |outcome, records, ttl| {
        Read::Done(Answer { outcome, records, ttl, dnssec: Proof::Unknown, aliases: aliases.clone() })
    };
    if !records.is_empty() && code == ResponseCode::NoError {
        let ttl = message.answers.iter().map(|record| record.ttl).min();
        return done(Outcome::Records, records, ttl);
    }
    let refers = message.authorities.iter().any(|record| record.record_type() == RecordType::NS);
    match (code, soa) {
        (ResponseCode::NoError, None) if !aliases.is_empty() => Read::Follow(aliases),
        // A server that is asked directly and only names others does not have the zone.
        (ResponseCode::NoError, None) if refers => {
            done(Outcome::Failed("referral to other servers".into()), Vec::new(), None)
        }
        _ => done(outcome_of(code), Vec::new(), soa),
    }
}

/// The name at the end of the aliases in an answer, and those on the way to it.
fn follow<'m>(asked: &'m Name, kind: Kind, answers: &'m [Record]) -> (&'m Name, Vec<String>) {
    let (mut at, mut aliases) = (asked, Vec::new());
    if kind == Kind::Cname {
        return (at, aliases);
    }
    // Each alias is used once at most, so a circle ends.
    for _ in 0..answers.len().min(16) {
        let next = answers.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if record.name == *at => Some(&target.0),
            _ => None,
        });
        let Some(next) = next else { break };
        aliases.push(plain(next));
        at = next;
    }
    (at, aliases)
}
