//! `pillarbox dkim`: verifies the signatures of a message, and looks at keys. Own keys are `dkim_keys`'s.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;

use anyhow::Context;
use net::{Clock, Outcome};
use proto::policy::dkim::{DkimKey, KeyAlgorithm, is_record, key_name, parse_key};
use proto::policy::{Level, Remark, Reply};
use serde::Serialize;

use super::Fault;
use super::args::Global;
use super::args_policy::{DkimCommand, ResolverArgs};
use super::dkim_verify::{DkimResult, Message, Verified};
use super::dmarc::domain_name;
use super::output::{clean, json, print};
use super::spf::{remarks, resolver};

/// Longest message that is read.
const MAX_MESSAGE: u64 = 150 * 1024 * 1024;

#[derive(Serialize)]
struct VerifyReport<'a> {
    schema: &'static str,
    /// `pass` if any signature is good, `none` without a signature.
    result: &'static str,
    /// LF alone was taken for CRLF.
    line_ends_mended: bool,
    signatures: &'a [Verified],
}

#[derive(Serialize)]
struct KeyReport<'a> {
    schema: &'static str,
    name: &'a str,
    /// Records that look like keys; more than one is a mistake.
    records: Vec<String>,
    key: Option<&'a DkimKey>,
    /// A signature made with it can count.
    usable: bool,
    aliases: &'a [String],
    remarks: &'a [Remark],
}

/// Does what was asked.
pub async fn run(global: &Global, command: &DkimCommand) -> Result<(), Fault> {
    match command {
        DkimCommand::Verify { file, at, resolver } => {
            let now = at.map_or_else(|| Clock::system().now_ms() / 1000, |at| at.as_second());
            verify(global, file, u64::try_from(now).unwrap_or(0), resolver).await
        }
        DkimCommand::Key { selector, domain, resolver } => key(global, selector, domain, resolver).await,
        _ => super::dkim_keys::run(global, command).await,
    }
}

async fn verify(global: &Global, file: &str, now: u64, args: &ResolverArgs) -> Result<(), Fault> {
    let message = Message::new(&read(file)?);
    let resolver = resolver(args)?;
    let mut keys: BTreeMap<String, Reply> = BTreeMap::new();
    for name in message.key_names() {
        let reply = resolver.query(&name, net::lookup::Kind::Txt).await.reply();
        keys.insert(name, reply);
    }
    let signatures = message.verify(&keys, now);
    let good = signatures.iter().find(|verified| verified.result == DkimResult::Pass);
    let result = good.or(signatures.first()).map_or("none", |verified| verified.result.name());
    if global.json {
        let schema = "pillarbox.dkim-verify/1";
        json(&VerifyReport { schema, result, line_ends_mended: message.mended, signatures: &signatures })?;
    } else {
        print(&words(result, &message, &signatures))?;
    }
    if good.is_some() { Ok(()) } else { Err(Fault::Told) }
}

fn read(file: &str) -> Result<Vec<u8>, Fault> {
    let mut octets = Vec::new();
    let input: Box<dyn Read> = match file {
        "-" => Box::new(std::io::stdin().lock()),
        path => {
            let opened = std::fs::File::open(path).with_context(|| format!("cannot read {path}"));
            Box::new(opened.map_err(Fault::cannot)?)
        }
    };
    let count = input.take(MAX_MESSAGE + 1).read_to_end(&mut octets).context("cannot read the message");
    let count = count.map_err(Fault::cannot)?;
    match u64::try_from(count) {
        Ok(count) if count <= MAX_MESSAGE => Ok(octets),
        _ => Err(Fault::cannot(anyhow::anyhow!("the message is longer than 150 MiB"))),
    }
}

fn words(result: &str, message: &Message, signatures: &[Verified]) -> String {
    let mut out = String::new();
    let bold = anstyle::Style::new().bold();
    let _ = writeln!(out, "{bold}{result}{bold:#}");
    if message.mended {
        let _ = writeln!(out, "Line ends were LF alone; they were taken for CRLF.");
    }
    for verified in signatures {
        signature(verified, &mut out);
    }
    out
}

fn signature(verified: &Verified, out: &mut String) {
    let reason = verified.detail.as_ref().map_or_else(String::new, |detail| format!(": {}", clean(detail)));
    let Some(found) = &verified.signature else {
        let _ = writeln!(out, "{}{reason}", verified.result.name());
        out.push_str(&remarks(&verified.remarks, "  "));
        return;
    };
    let _ =
        writeln!(out, "{}  d={} s={}{reason}", verified.result.name(), clean(&found.domain), clean(&found.selector));
    let bits = verified.key_bits.map_or_else(String::new, |bits| format!(", key of {bits} bits"));
    let form = verified.canonicalization.as_deref().unwrap_or_default();
    let _ = writeln!(out, "  {} {form}{bits}", found.algorithm.name());
    if verified.testing {
        let _ = writeln!(out, "  the key is in test mode (t=y)");
    }
    for (name, time) in [("made", found.made_at), ("expires", found.expires_at)] {
        if let Some(time) = time.and_then(|time| i64::try_from(time).ok()) {
            let shown = jiff::Timestamp::from_second(time).map_or_else(|_| time.to_string(), |time| time.to_string());
            let _ = writeln!(out, "  {name} {shown}");
        }
    }
    let _ = writeln!(out, "  signed: {}", clean(&found.signed.join(", ")));
    out.push_str(&remarks(&verified.remarks, "  "));
    out.push_str(&remarks(&verified.key_remarks, "  key:"));
}

async fn key(global: &Global, selector: &str, domain: &str, args: &ResolverArgs) -> Result<(), Fault> {
    let resolver = resolver(args)?;
    let name = key_name(selector, &domain_name(domain)?);
    let answer = resolver.query(&name, net::lookup::Kind::Txt).await;
    if let Outcome::Failed(why) = &answer.outcome {
        return Err(Fault::cannot(anyhow::anyhow!("DNS does not answer for {name}: {why}")));
    }
    let reply = answer.reply();
    let texts: Vec<&[u8]> = reply.texts().filter(|text| is_record(text)).collect();
    let mut parsed: Vec<_> = texts.iter().take(10).map(|text| parse_key(text)).collect();
    let first = parsed.iter().position(|parsed| parsed.record.is_some()).unwrap_or(0);
    let (record, mut found) = match parsed.is_empty() {
        true => (None, vec![Remark::error("key_not_found", 0, missing(&answer.outcome))]),
        false => {
            let one = parsed.swap_remove(first);
            (one.record, one.remarks)
        }
    };
    if texts.len() > 1 {
        found.push(Remark::warning("several_records", 0, format!("{} keys at one name", texts.len())));
    }
    let broken = found.iter().any(|remark| remark.level == Level::Error);
    let usable = record.as_ref().is_some_and(|key| !key.revoked) && !broken;
    let records: Vec<String> = texts.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    if global.json {
        json(&KeyReport {
            schema: "pillarbox.dkim-key/1",
            name: &name,
            records,
            key: record.as_ref(),
            usable,
            aliases: &answer.aliases,
            remarks: &found,
        })?;
    } else {
        print(&key_words(&name, &records, record.as_ref(), usable, &found))?;
    }
    if usable { Ok(()) } else { Err(Fault::Told) }
}

fn missing(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::NxDomain => "the name does not exist",
        Outcome::NoData => "the name has no TXT record",
        _ => "no TXT record there is a key",
    }
}

fn key_words(name: &str, records: &[String], key: Option<&DkimKey>, usable: bool, found: &[Remark]) -> String {
    let mut out = format!("{}: {}\n", clean(name), if usable { "usable" } else { "not usable" });
    for record in records {
        let _ = writeln!(out, "  {}", clean(record));
    }
    if let Some(key) = key {
        let kind = match key.algorithm {
            KeyAlgorithm::Rsa => "RSA",
            KeyAlgorithm::Ed25519 => "Ed25519",
        };
        let bits = key.bits.map_or("revoked".to_owned(), |bits| format!("{bits} bits"));
        let _ = writeln!(out, "  {kind}, {bits}");
        if let Some(notes) = &key.notes {
            let _ = writeln!(out, "  note: {}", clean(notes));
        }
    }
    out.push_str(&remarks(found, ""));
    out
}
