//! Raw lookups for diagnosis: what came back, or exactly why nothing did, as plain values.
//!
//! Delivery does not use this; it asks [`Resolver::mail_hosts`] and [`Resolver::addresses`]. Questions go out through a
//! client of our own (`asker`), unless signatures are to be checked or this machine's hosts file has the name.

use std::collections::HashSet;

use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::dnssec::rdata::DNSSECRData;
use hickory_resolver::proto::dnssec::{Proof as HickoryProof, PublicKey};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
pub use proto::policy::dns::{Data, Kind, Question, Reply, Step, Steps};

use crate::resolver::Resolver;

/// Most records of an answer that are kept; more would be an attack on whoever shows them.
pub const MAX_RECORDS: usize = 500;

/// What became of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// There are records.
    Records,
    /// The name exists, the type does not.
    NoData,
    /// The name does not exist (or could not: RFC 7208 §4.3).
    NxDomain,
    /// Nothing is known: `SERVFAIL`, `REFUSED`, `timeout`, `DNSSEC validation failed`, ...
    Failed(String),
}

/// What the signatures say (RFC 4033 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Signed, and the chain from the root holds.
    Secure,
    /// Proven to be unsigned.
    Insecure,
    /// Signed, and wrong.
    Bogus,
    /// Not checked, or it could not be found out.
    Unknown,
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What became of it.
    pub outcome: Outcome,
    /// The records of the type asked for, at most [`MAX_RECORDS`].
    pub records: Vec<Data>,
    /// Smallest time to live of the answer, or of its absence, in seconds.
    pub ttl: Option<u32>,
    /// What the signatures say; [`Proof::Unknown`] unless the resolver validates.
    pub dnssec: Proof,
    /// Names that aliases led to, in order; empty without CNAME.
    pub aliases: Vec<String>,
}

impl Answer {
    pub(crate) fn without(outcome: Outcome) -> Self {
        Self { outcome, records: Vec::new(), ttl: None, dnssec: Proof::Unknown, aliases: Vec::new() }
    }

    /// As a policy takes it.
    pub fn reply(&self) -> Reply {
        match &self.outcome {
            Outcome::Records => Reply::Records(self.records.clone()),
            Outcome::NoData => Reply::NoData,
            Outcome::NxDomain => Reply::NoName,
            Outcome::Failed(reason) => Reply::Failed(reason.clone()),
        }
    }

    /// Whether anything is known.
    pub fn is_known(&self) -> bool {
        !matches!(self.outcome, Outcome::Failed(_))
    }

    /// The texts of TXT records, as far as they are UTF-8.
    pub fn texts(&self) -> Vec<String> {
        let texts = self.records.iter().filter_map(|data| match data {
            Data::Txt(text) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        });
        texts.collect()
    }
}

impl Resolver {
    /// Asks for the records of one type. Bounded by the time limit of the resolver's settings.
    pub async fn query(&self, typed: &str, kind: Kind) -> Answer {
        let Some(name) = fully_qualified(typed) else {
            return Answer::without(Outcome::NxDomain);
        };
        if let Some(asker) = &self.asker
            && !asker.is_in_hosts_file(&name, kind)
        {
            return asker.query(typed, kind).await;
        }
        let asked = name.clone();
        let lookup = Box::pin(self.inner.lookup(name, record_type(kind)));
        match tokio::time::timeout(self.timeout, lookup).await {
            Ok(Ok(lookup)) => self.found(&asked, kind, &lookup),
            Ok(Err(error)) => self.missed(error),
            Err(_) => Answer::without(Outcome::Failed("timeout".into())),
        }
    }

    /// Answers the questions of a procedure until it is done.
    pub async fn walk<S: Steps>(&self, procedure: &mut S) -> S::Output {
        loop {
            match procedure.step() {
                Step::Done(output) => return output,
                Step::Ask(question) => {
                    let reply = self.query(&question.name, question.kind).await.reply();
                    procedure.answer(question, reply);
                }
            }
        }
    }

    fn found(&self, asked: &Name, kind: Kind, lookup: &Lookup) -> Answer {
        let answers = lookup.answers();
        let wanted = record_type(kind);
        let of_type: Vec<&Record> =
            answers.iter().filter(|record| record.record_type() == wanted).take(MAX_RECORDS).collect();
        let records: Vec<Data> = of_type.iter().filter_map(|record| data_of(&record.data)).collect();
        let proofs = answers.iter().filter(|record| record.record_type() != RecordType::RRSIG);
        let worst = proofs.map(|record| proof(record.proof)).max_by_key(|proof| badness(*proof));
        Answer {
            outcome: if records.is_empty() { Outcome::NoData } else { Outcome::Records },
            ttl: answers.iter().map(|record| record.ttl).min(),
            dnssec: if self.validates { worst.unwrap_or(Proof::Unknown) } else { Proof::Unknown },
            aliases: if kind == Kind::Cname { Vec::new() } else { aliases(asked, answers) },
            records,
        }
    }

    fn missed(&self, error: NetError) -> Answer {
        match error {
            NetError::Dns(DnsError::NoRecordsFound(none)) => self.negative(&none),
            NetError::Dns(DnsError::Nsec { response, proof: found, .. }) => {
                let outcome = outcome_of(response.response_code);
                Answer { dnssec: proof(found), ..Answer::without(outcome) }
            }
            NetError::Dns(DnsError::DnssecBogus) => {
                Answer { dnssec: Proof::Bogus, ..Answer::without(Outcome::Failed("DNSSEC validation failed".into())) }
            }
            NetError::Dns(DnsError::ResponseCode(code)) => Answer::without(outcome_of(code)),
            NetError::Timeout => Answer::without(Outcome::Failed("timeout".into())),
            other => Answer::without(Outcome::Failed(other.to_string())),
        }
    }

    fn negative(&self, none: &NoRecords) -> Answer {
        let outcome = match none.response_code {
            // A server that is asked directly and only names others does not have the zone.
            ResponseCode::NoError if none.soa.is_none() && none.ns.as_ref().is_some_and(|ns| !ns.is_empty()) => {
                Outcome::Failed("referral to other servers".into())
            }
            code => outcome_of(code),
        };
        let authorities = none.authorities.iter().flat_map(|records| records.iter());
        let proofs = authorities.filter(|record| record.record_type() != RecordType::RRSIG).map(|record| record.proof);
        let worst = proofs.chain(none.soa.as_ref().map(|soa| soa.proof)).map(proof).max_by_key(|proof| badness(*proof));
        let dnssec = if self.validates { worst.unwrap_or(Proof::Unknown) } else { Proof::Unknown };
        Answer { ttl: none.negative_ttl, dnssec, ..Answer::without(outcome) }
    }
}

pub(crate) fn outcome_of(code: ResponseCode) -> Outcome {
    match code {
        ResponseCode::NoError => Outcome::NoData,
        ResponseCode::NXDomain => Outcome::NxDomain,
        ResponseCode::ServFail => Outcome::Failed("SERVFAIL".into()),
        ResponseCode::Refused => Outcome::Failed("REFUSED".into()),
        ResponseCode::FormErr => Outcome::Failed("FORMERR".into()),
        ResponseCode::NotImp => Outcome::Failed("NOTIMP".into()),
        ResponseCode::NotAuth => Outcome::Failed("NOTAUTH".into()),
        code => Outcome::Failed(code.to_string()),
    }
}

fn proof(found: HickoryProof) -> Proof {
    match found {
        HickoryProof::Secure => Proof::Secure,
        HickoryProof::Insecure => Proof::Insecure,
        HickoryProof::Bogus => Proof::Bogus,
        HickoryProof::Indeterminate => Proof::Unknown,
    }
}

fn badness(proof: Proof) -> u8 {
    match proof {
        Proof::Secure => 0,
        Proof::Insecure => 1,
        Proof::Unknown => 2,
        Proof::Bogus => 3,
    }
}

/// Any octets may stand in a label, so this takes more than host names; mail is never routed by a search list.
pub(crate) fn fully_qualified(name: &str) -> Option<Name> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        return Some(Name::root());
    }
    if !proto::policy::dns::is_possible(name) {
        return None;
    }
    let mut name = Name::from_labels(name.split('.').map(str::as_bytes)).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// Where the aliases lead, from the name that was asked for.
fn aliases(asked: &Name, answers: &[Record]) -> Vec<String> {
    let mut at = asked.to_lowercase();
    let mut seen = HashSet::from([at.clone()]);
    let mut found = Vec::new();
    while let Some(target) = answers.iter().find_map(|record| match &record.data {
        RData::CNAME(target) if record.name.to_lowercase() == at => Some(&target.0),
        _ => None,
    }) {
        found.push(plain(target));
        at = target.to_lowercase();
        if !seen.insert(at.clone()) {
            break;
        }
    }
    found
}

pub(crate) fn record_type(kind: Kind) -> RecordType {
    match kind {
        Kind::A => RecordType::A,
        Kind::Aaaa => RecordType::AAAA,
        Kind::Mx => RecordType::MX,
        Kind::Txt => RecordType::TXT,
        Kind::Ns => RecordType::NS,
        Kind::Soa => RecordType::SOA,
        Kind::Ptr => RecordType::PTR,
        Kind::Caa => RecordType::CAA,
        Kind::Tlsa => RecordType::TLSA,
        Kind::Cname => RecordType::CNAME,
        Kind::Dnskey => RecordType::DNSKEY,
        Kind::Ds => RecordType::DS,
    }
}

pub(crate) fn data_of(data: &RData) -> Option<Data> {
    Some(match data {
        RData::A(a) => Data::A(a.0),
        RData::AAAA(aaaa) => Data::Aaaa(aaaa.0),
        RData::MX(mx) => Data::Mx { preference: mx.preference, host: plain(&mx.exchange) },
        RData::TXT(txt) => Data::Txt(txt.txt_data.iter().flat_map(|text| text.iter().copied()).collect()),
        RData::NS(ns) => Data::Ns(plain(&ns.0)),
        RData::PTR(ptr) => Data::Ptr(plain(&ptr.0)),
        RData::CNAME(cname) => Data::Cname(plain(&cname.0)),
        RData::SOA(soa) => Data::Soa {
            primary: plain(&soa.mname),
            contact: plain(&soa.rname),
            serial: soa.serial,
            minimum: soa.minimum,
        },
        RData::CAA(caa) => Data::Caa {
            critical: caa.issuer_critical,
            tag: caa.tag.clone(),
            value: String::from_utf8_lossy(&caa.value).into_owned(),
        },
        RData::TLSA(tlsa) => Data::Tlsa {
            usage: tlsa.cert_usage.into(),
            selector: tlsa.selector.into(),
            matching: tlsa.matching.into(),
            data: tlsa.cert_data.clone(),
        },
        RData::DNSSEC(DNSSECRData::DNSKEY(key)) => Data::Dnskey {
            flags: key.flags(),
            algorithm: key.public_key().algorithm().into(),
            tag: key.calculate_key_tag().unwrap_or(0),
        },
        RData::DNSSEC(DNSSECRData::DS(ds)) => {
            Data::Ds { tag: ds.key_tag(), algorithm: ds.algorithm().into(), digest: ds.digest_type().into() }
        }
        _ => return None,
    })
}

/// Lower case, without the final dot; the root is `.`.
pub(crate) fn plain(name: &Name) -> String {
    if name.is_root() {
        return ".".into();
    }
    let labels: Vec<String> = name.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
    labels.join(".")
}
