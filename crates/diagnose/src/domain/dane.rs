//! Certificates pinned in the DNS (RFC 7672): TLSA records of the mail hosts, whether they are signed, and whether the
//! certificates shown fit them.

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use futures_util::future::join_all;
use net::{Answer, Outcome, Proof, lookup::Data, lookup::Kind};
use proto::policy::sts::StsMode;
use proto::policy::tlsa::{Tlsa, Unusable};
use proto::transcript::CertificateProblem;

use super::audit::Scene;
use super::mx::{Host, Receiving};
use super::notes::Notes;
use super::plan::Section;
use super::smtp::{Shaken, problem_in_words};
use super::sts::Sts;
use super::text::{dotted, hex};

/// What was found.
pub(super) struct Dane {
    pub(super) notes: Notes,
    /// There are TLSA records that count.
    pub(super) pins: bool,
}

/// Looks at each mail host.
pub(super) async fn look(scene: Scene<'_>, receiving: &Receiving, sts: &Sts) -> Dane {
    let mut this = Dane { notes: Notes::new(Section::Dane), pins: false };
    if !scene.wants(Section::Dane) {
        return this;
    }
    let checked = scene.auditor.signatures().await.is_some();
    let mx = signed(scene, scene.domain, Kind::Mx, &mut this.notes).await;
    if !checked && scene.auditor.validating.is_some() {
        this.notes.detail("signatures were not checked: the resolver in use does not pass them on");
    }
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let asked = receiving.hosts.iter().map(|host| async move {
        let name = format!("_25._tcp.{}", host.name);
        let answer = scene.auditor.query(&name, Kind::Tlsa).await;
        (host, name, answer)
    });
    for (host, name, answer) in join_all(asked).await {
        this.notes.records(&name, Kind::Tlsa, &answer);
        if answer.records.is_empty() {
            without.push(host.name.as_str());
            if let Outcome::Failed(reason) = &answer.outcome {
                // RFC 7672 §2.1.1: senders with DANE put the mail off then.
                let values = [("domain", scene.domain), ("name", &name), ("type", "TLSA"), ("reason", reason)];
                this.notes.sign("domain_dns_failure", values);
            }
            continue;
        }
        with.push(host.name.as_str());
        let own = signed(scene, &name, Kind::Tlsa, &mut this.notes).await;
        if checked && (mx == Proof::Insecure || own == Proof::Insecure) {
            let unsigned = if own == Proof::Insecure { host.name.as_str() } else { scene.domain };
            let values = [("domain", scene.domain), ("host", &host.name), ("name", &name), ("unsigned", unsigned)];
            this.notes.sign("dane_insecure", values);
        }
        this.pins |= pins(scene, host, &name, &answer, sts, &mut this.notes);
    }
    if !with.is_empty() && !without.is_empty() {
        let values = [("domain", scene.domain), ("with", &with.join(", ")), ("without", &without.join(", "))];
        this.notes.sign("dane_partial", values);
    }
    let word = match (checked, mx) {
        (false, _) => "not checked",
        (true, Proof::Secure) => "secure",
        (true, Proof::Insecure) => "not signed",
        (true, Proof::Bogus) => "wrong",
        (true, Proof::Unknown) => "unknown",
    };
    this.notes.fact("dnssec", word);
    match with.is_empty() {
        true if !this.notes.has("dnssec_bogus") => this.notes.idle(format!("no TLSA records; DNSSEC: {word}")),
        true => this.notes.summary("DNSSEC signatures are wrong"),
        false => this.notes.summary(format!("TLSA for {}; DNSSEC: {word}", with.join(", "))),
    }
    this
}

/// What the signatures of an answer say; wrong ones are noted.
async fn signed(scene: Scene<'_>, name: &str, kind: Kind, notes: &mut Notes) -> Proof {
    let Some(validating) = scene.auditor.signatures().await else { return Proof::Unknown };
    let answer = validating.query(name, kind).await;
    if answer.dnssec == Proof::Bogus {
        notes.sign("dnssec_bogus", [("domain", scene.domain), ("name", name), ("type", kind.name())]);
    }
    answer.dnssec
}

/// Judges the records of one host; says whether one counts.
fn pins(scene: Scene<'_>, host: &Host, name: &str, answer: &Answer, sts: &Sts, notes: &mut Notes) -> bool {
    let domain = scene.domain;
    let shaken = host.probes.iter().find_map(|probe| match &probe.outcome.as_ref().ok()?.tls {
        Some(Ok(shaken)) => Some(shaken),
        _ => None,
    });
    let good = shaken.and_then(|shaken| own_record(name, shaken));
    let (mut usable, mut fits) = (false, false);
    for data in &answer.records {
        let Data::Tlsa { usage, selector, matching, data } = data else { continue };
        let tlsa = Tlsa::new(*usage, *selector, *matching, data);
        if let Some(why) = tlsa.unusable {
            let found = format!("{usage} {selector} {matching} {}", hex(&data[..data.len().min(40)]));
            let record =
                good.clone().unwrap_or_else(|| format!("{} IN TLSA 3 1 1 (hash of the public key)", dotted(name)));
            let values = [("domain", domain), ("host", &host.name), ("found", &found), ("problem", reason(why))];
            notes.sign("dane_unusable", values.into_iter().chain([("record", record.as_str())]));
            continue;
        }
        usable = true;
        fits |= shaken.is_some_and(|shaken| matches_chain(&tlsa, data, &shaken.chain));
    }
    let Some(shaken) = shaken.filter(|_| usable) else { return usable };
    if !fits {
        let record = good.unwrap_or_default();
        notes.sign("dane_mismatch", [("domain", domain), ("host", &host.name), ("record", &record)]);
    } else {
        notes.detail(format!("{}: a TLSA record fits the certificate", host.name));
    }
    if let Some(policy) = sts.policy.as_ref().filter(|policy| policy.mode == StsMode::Enforce) {
        let problem = match shaken.problems.first() {
            Some(CertificateProblem::Weak(_)) => None,
            Some(problem) => Some(format!("the certificate is {}", problem_in_words(problem))),
            None if !policy.allows(&host.name) => Some("the policy does not list the host".to_owned()),
            None => None,
        };
        if let (Some(problem), true) = (problem, fits) {
            notes.sign("dane_sts_conflict", [("domain", domain), ("host", &host.name), ("problem", &problem)]);
        }
    }
    usable
}

fn reason(why: Unusable) -> &'static str {
    match why {
        Unusable::PkixUsage => "usages 0 and 1 are for the web",
        Unusable::UnknownParameter => "a number that means nothing",
        Unusable::WrongLength => "the hash does not have its length",
        Unusable::Empty => "there is no data",
    }
}

fn own_record(name: &str, shaken: &Shaken) -> Option<String> {
    let key = public_key(shaken.chain.first()?)?;
    Some(format!("{} IN TLSA 3 1 1 {}", dotted(name), hex(digest(&SHA256, key).as_ref())))
}

/// Usage 3 pins the host's own certificate, usage 2 one above it (or its own, RFC 7671 §5.2).
fn matches_chain(tlsa: &Tlsa, data: &[u8], chain: &[Vec<u8>]) -> bool {
    let candidates = if tlsa.usage == 3 { &chain[..chain.len().min(1)] } else { chain };
    candidates.iter().any(|certificate| {
        let selected = if tlsa.selector == 1 { public_key(certificate) } else { Some(certificate.as_slice()) };
        selected.is_some_and(|octets| match tlsa.matching {
            0 => octets == data,
            1 => digest(&SHA256, octets).as_ref() == data,
            _ => digest(&SHA512, octets).as_ref() == data,
        })
    })
}

/// The `SubjectPublicKeyInfo` of a certificate (RFC 5280 §4.1), with its header.
fn public_key(certificate: &[u8]) -> Option<&[u8]> {
    let (outer, _) = element(certificate)?;
    let mut rest = element(outer.content)?.0.content;
    // Version is there in all but the oldest; then serial number, algorithm, issuer, validity, holder, key.
    let mut skip = if rest.first() == Some(&0xa0) { 6 } else { 5 };
    loop {
        let (one, behind) = element(rest)?;
        if skip == 0 {
            return Some(one.whole);
        }
        skip -= 1;
        rest = behind;
    }
}

struct Element<'d> {
    whole: &'d [u8],
    content: &'d [u8],
}

/// One DER element and what follows it.
fn element(der: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let first = *der.get(1)?;
    let (length, head) = match first {
        0..=0x7f => (usize::from(first), 2),
        0x81..=0x83 => {
            let count = usize::from(first & 0x7f);
            let octets = der.get(2..2 + count)?;
            (octets.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)), 2 + count)
        }
        _ => return None,
    };
    let whole = der.get(..head + length)?;
    Some((Element { whole, content: &whole[head..] }, &der[head + length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_key_is_cut_out_of_a_certificate() {
        let ca = testkit::Ca::new();
        let one = ca.issue(&["mail.example.com"]);
        let (key, again) = (public_key(&one.der()).unwrap().to_vec(), ca.issue(&["mail.example.com"]));
        assert!(key.starts_with(&[0x30]) && key.len() > 40);
        assert_ne!(public_key(&again.der()).unwrap(), key, "every certificate has a key of its own");
        let hash = digest(&SHA256, &key);
        let pin = Tlsa::new(3, 1, 1, hash.as_ref());
        assert!(matches_chain(&pin, hash.as_ref(), &[one.der()]));
        assert!(!matches_chain(&pin, hash.as_ref(), &[again.der(), one.der()]), "only the first counts");
        assert!(public_key(&one.der()[..30]).is_none());
    }
}
