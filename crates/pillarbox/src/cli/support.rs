//! `pillarbox support bundle`: writes the archive that the server makes.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::Context as _;
use axum::http::Method;
use serde_json::json;

use super::Fault;
use super::args::Global;
use super::args_support::{BundleArgs, SupportCommand};
use super::client::{Call, Client, Need, query};
use super::output::{json as print_json, print};

/// Does what was asked.
pub async fn run(global: &Global, command: &SupportCommand) -> Result<(), Fault> {
    match command {
        SupportCommand::Bundle(args) => bundle(global, args).await,
    }
}

async fn bundle(global: &Global, args: &BundleArgs) -> Result<(), Fault> {
    if args.to.exists() {
        return Err(Fault::Usage(format!("{} is there already: name another file with --to", args.to.display())));
    }
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    let path = format!(
        "/support-bundle{}",
        query(&[
            ("what", args.what.clone()),
            ("since", args.since.clone()),
            ("proxy", args.proxy.clone()),
            ("samples", Some(args.samples.join(" ")).filter(|samples| !samples.is_empty())),
            ("spam_folder", args.spam_folder.map(|found| found.name().to_owned())),
        ])
    );
    let answer = client.call(Call { method: Method::GET, path: &path, headers: Vec::new(), body: None }).await?;
    let written = || -> anyhow::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&args.to)?;
        file.write_all(&answer.body)?;
        Ok(file.sync_all()?)
    };
    written().with_context(|| format!("cannot write {}", args.to.display())).map_err(Fault::cannot)?;
    if global.json {
        return print_json(&json!({ "file": args.to, "size": answer.body.len() }));
    }
    print(&format!("{}: {} octets. Look through it before you hand it on.\n", args.to.display(), answer.body.len()))
}
