//! `pillarbox report`: reports of DMARC and TLS from files, summed up and judged.

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use diagnose::Judge;
use explain::RuleBase;

use super::Fault;
use super::args::Global;
use super::args_report::ReportArgs;
use super::output::{json, print};
use super::report_view;
use crate::returned::summary::Summary;
use crate::returned::unpack::{self, MAX_INPUT};

/// Does what was asked.
pub fn run(global: &Global, args: &ReportArgs) -> Result<(), Fault> {
    let mut summary = Summary::new();
    for path in &args.files {
        let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
        let octets = read(path).with_context(|| format!("cannot read {name}")).map_err(Fault::cannot)?;
        if octets.len() as u64 > MAX_INPUT {
            summary.unreadable(&name, format!("it is larger than {} MiB", MAX_INPUT >> 20));
            continue;
        }
        for found in unpack::reports(&octets) {
            match found {
                Ok(document) => summary.add(&document),
                Err(error) => summary.unreadable(&name, error.to_string()),
            }
        }
    }
    tell(global, summary)
}

/// Judges and prints.
fn tell(global: &Global, mut summary: Summary) -> Result<(), Fault> {
    summary.conclude(&Judge::new(RuleBase::shared()));
    if global.json {
        json(&summary)?;
    } else {
        print(&report_view::words(&summary))?;
    }
    if summary.has_problem() { Err(Fault::Told) } else { Ok(()) }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    // One octet more than allowed tells that it is too much.
    if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_INPUT + 1).read_to_end(&mut octets)?;
    } else {
        std::fs::File::open(path)?.take(MAX_INPUT + 1).read_to_end(&mut octets)?;
    }
    Ok(octets)
}
