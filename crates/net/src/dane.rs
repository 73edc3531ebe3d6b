//! DANE as a sender of mail looks it up (RFC 7672 §2): addresses and TLSA records of a mail host, by a resolver that
//! validates.
//!
//! Three answers are told apart everywhere: proven, proven to be unsigned, and not known. The last is never read as the
//! second, since an attacker could turn the first into it.

use std::net::IpAddr;

use crate::Resolver;
use crate::lookup::{Answer, Data, Kind, Outcome, Proof};
use crate::resolver::MailHosts;
use crate::tls::{Pin, Pins};
use proto::transcript::Failure;

/// What is known of a mail host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPins {
    /// DANE does not apply: the host's zone is not signed, or has no TLSA records.
    None,
    /// The certificate has to fit these.
    Usable(Pins),
    /// There are records, and none that a sender of mail can use: TLS is a must, with any certificate.
    Unusable,
    /// Nothing is known: the host must not be used now. Why, in a few words.
    Unknown(String),
}

/// The mail hosts of a domain, and whether they are proven (RFC 7672 §2.2.1). A failure of the DNS is one of the look-up.
pub async fn mail_hosts(resolver: &Resolver, domain: &str) -> (Result<MailHosts, Failure>, bool) {
    let hosts = resolver.mail_hosts(domain).await;
    // From the cache: the question is the same.
    let answer = resolver.query(domain, Kind::Mx).await;
    let secure = answer.is_known() && answer.dnssec == Proof::Secure;
    (hosts, secure)
}

/// Looks up what is pinned for a host that secure MX records name. `domains`: further reference identifiers.
pub async fn host_pins(resolver: &Resolver, host: &str, port: u16, domains: &[String]) -> HostPins {
    if host.parse::<IpAddr>().is_ok() || host.starts_with('[') {
        return HostPins::None;
    }
    let bases = match bases(resolver, host).await {
        Ok(bases) => bases,
        Err(reason) => return HostPins::Unknown(reason),
    };
    for base in bases {
        let answer = resolver.query(&format!("_{port}._tcp.{base}"), Kind::Tlsa).await;
        match judge(&answer) {
            Ok(false) => {}
            Ok(true) => {
                let mut names = vec![base];
                names.extend(domains.iter().cloned());
                let pins = Pins::new(answer.records.iter().filter_map(pin), names);
                return if pins.records.is_empty() { HostPins::Unusable } else { HostPins::Usable(pins) };
            }
            Err(reason) => return HostPins::Unknown(reason),
        }
    }
    HostPins::None
}

/// Where TLSA records of a host may be (RFC 7672 §2.2.2, §2.2.3): behind its aliases if all of them are signed, and at
/// the name itself. None if its zone is not signed.
async fn bases(resolver: &Resolver, host: &str) -> Result<Vec<String>, String> {
    let (six, four) = tokio::join!(resolver.query(host, Kind::Aaaa), resolver.query(host, Kind::A));
    let unknown = |answer: &Answer| match &answer.outcome {
        Outcome::Failed(reason) => Some(reason.clone()),
        _ if matches!(answer.dnssec, Proof::Bogus | Proof::Unknown) => Some("DNSSEC validation failed".to_owned()),
        _ => None,
    };
    if let Some(reason) = unknown(&four).or_else(|| unknown(&six)) {
        return Err(format!("addresses: {reason}"));
    }
    let aliases = if four.aliases.is_empty() { &six.aliases } else { &four.aliases };
    let secure = |answer: &Answer| answer.dnssec == Proof::Secure;
    let with_address = [&four, &six].into_iter().filter(|answer| answer.outcome == Outcome::Records);
    let all_secure = with_address.clone().count() > 0 && with_address.clone().all(secure);
    match (aliases.last(), all_secure) {
        (Some(last), true) => Ok(vec![last.clone(), host.to_owned()]),
        (None, true) => Ok(vec![host.to_owned()]),
        (None, false) => Ok(Vec::new()),
        // The alias leads out of signed zones; the name itself may be in one.
        (Some(_), false) => {
            let alias = resolver.query(host, Kind::Cname).await;
            match unknown(&alias) {
                Some(reason) => Err(format!("alias: {reason}")),
                None if secure(&alias) => Ok(vec![host.to_owned()]),
                None => Ok(Vec::new()),
            }
        }
    }
}

/// Whether there are TLSA records that count; `Err`: it is not known.
fn judge(answer: &Answer) -> Result<bool, String> {
    match (&answer.outcome, answer.dnssec) {
        (Outcome::Failed(reason), _) => Err(format!("TLSA: {reason}")),
        (_, Proof::Bogus) => Err("TLSA: DNSSEC validation failed".into()),
        (_, Proof::Unknown) => Err("TLSA: the answer could not be validated".into()),
        (Outcome::Records, Proof::Secure) => Ok(true),
        // Unsigned records pin nothing; a proven absence is one.
        (_, Proof::Secure | Proof::Insecure) => Ok(false),
    }
}

fn pin(data: &Data) -> Option<Pin> {
    match data {
        Data::Tlsa { usage, selector, matching, data } => {
            Some(Pin { usage: *usage, selector: *selector, matching: *matching, data: data.clone() })
        }
        _ => None,
    }
}
