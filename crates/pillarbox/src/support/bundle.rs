//! Puts a support bundle together: what the API says, scrubbed, as a zip archive of JSON.

use std::io::{Cursor, Write as _};

use serde::Serialize;
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;

use super::scrub::Scrub;
use crate::http::ui::door::Door;
use crate::http::ui::page::segment;

/// Most samples.
pub const MOST_SAMPLES: usize = 10;
/// Most things of a kind that are looked at one by one.
const MOST_EACH: usize = 50;

/// What goes into every bundle: name of the file, what is asked.
const ASKS: &[(&str, &str)] = &[
    ("status", "/status"),
    ("health", "/health"),
    ("settings", "/settings"),
    ("log-level", "/log-level"),
    ("routes", "/routes"),
    ("rules", "/rules"),
    ("streams", "/streams"),
    ("senders", "/senders"),
    ("domains", "/domains"),
    ("webhooks", "/webhooks"),
    ("mailboxes", "/mailboxes"),
    ("provider-events", "/provider-events"),
    ("alert-rules", "/alert-rules"),
    ("alert-channels", "/alert-channels"),
    ("queue-by-route", "/queue/counts?by=route"),
    ("queue-by-destination", "/queue/counts?by=domain"),
    ("queue-causes", "/queue/causes"),
    ("failures", "/failures"),
    ("patterns", "/patterns"),
    ("incidents", "/incidents?limit=50"),
    ("alerts", "/alerts?limit=100"),
    ("jobs", "/jobs"),
    ("checks", "/scheduled-checks"),
    ("config-audit", "/config-audit"),
    ("rates", "/rates"),
    ("volume", "/volume"),
    ("figures", "/metrics"),
    ("dns-journal", "/dns-journal"),
    ("blocklists", "/blocklists"),
    ("tls-reports", "/tls-reports?limit=50"),
    ("batches", "/batches?limit=20"),
    ("changes", "/audit?limit=200"),
];

/// What is asked of each thing of a list: the list's file, the directory, what is asked.
const EACH: &[(&str, &str, &str)] = &[
    ("routes", "route-status", "/routes/{name}/status"),
    ("routes", "route-audit", "/routes/{name}/audit"),
    ("checks", "check-results", "/scheduled-checks/{name}/results?limit=3"),
];

/// What only whoever asks for help knows.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Answers {
    /// What goes wrong, in their words.
    pub what: Option<String>,
    /// Since when.
    pub since: Option<String>,
    /// The proxy or gateway between this server and the internet.
    pub proxy: Option<String>,
    /// Addresses that it happens to.
    pub samples: Vec<String>,
    /// Whether the spam folder was looked into, and what was there.
    pub spam_folder: Option<String>,
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It could not be packed.
    #[error("the archive could not be written: {0}")]
    Zip(#[from] zip::result::ZipError),
    /// It could not be packed.
    #[error("the archive could not be written: {0}")]
    Io(#[from] std::io::Error),
}

/// The archive.
///
/// # Errors
/// It could not be packed. What could not be asked is in it as a problem.
pub async fn made(door: &Door, answers: Answers, about: Value, salt: [u8; 32]) -> Result<Vec<u8>, BundleError> {
    let mut scrub = Scrub::new(salt);
    let mut files = vec![
        ("answers.json".to_owned(), scrub.value(json!({ "answers": answers }))),
        ("versions.json".to_owned(), about),
    ];
    for (name, path) in ASKS {
        let answer = asked(door, path).await;
        for (_, directory, path) in EACH.iter().filter(|(list, ..)| list == name) {
            for thing in names(&answer) {
                let answer = asked(door, &path.replace("{name}", &segment(&thing))).await;
                files.push((format!("{directory}/{}.json", segment(&thing)), scrub.value(answer)));
            }
        }
        files.push((format!("{name}.json"), scrub.value(answer)));
    }
    for (n, address) in answers.samples.iter().take(MOST_SAMPLES).enumerate() {
        let name = segment(address);
        let suppression = asked(door, &format!("/suppressions/{name}")).await;
        let since = answers.since.as_deref().filter(|since| crate::http::time::read(since).is_some());
        let since = since.map(|since| format!("&since={}", segment(since))).unwrap_or_default();
        let messages = asked(door, &format!("/messages?limit=20&recipient={name}{since}")).await;
        let all = json!({ "address": address, "suppression": suppression, "messages": messages });
        files.push((format!("samples/{}.json", n + 1), scrub.value(all)));
    }
    // Only now all names are known.
    let files = files.into_iter().map(|(name, value)| (name, scrub.names(value))).collect();
    packed(files)
}

/// An answer, or the problem in its place.
async fn asked(door: &Door, path: &str) -> Value {
    door.get(path).await.unwrap_or_else(|problem| json!({ "problem": problem }))
}

fn names(list: &Value) -> Vec<String> {
    let items = list.get("items").and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| item.get("name")?.as_str().map(str::to_owned)).take(MOST_EACH).collect()
}

fn packed(files: Vec<(String, Value)>) -> Result<Vec<u8>, BundleError> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default();
    archive.start_file("README.txt", options)?;
    archive.write_all(README.as_bytes())?;
    for (name, value) in files {
        archive.start_file(name, options)?;
        archive.write_all(&serde_json::to_vec_pretty(&value).unwrap_or_default())?;
    }
    Ok(archive.finish()?.into_inner())
}

const README: &str = "Pillarbox support bundle
========================

For whoever helps to find out why mail is not sent or does not arrive. Look through it before you hand it on: it is plain JSON.

answers.json    what the person who asks for help said: since when, proxy, samples, spam folder
versions.json   program, system, time of this bundle
settings.json   the configuration, secrets masked
status, health, incidents, alerts, failures, patterns, queue-*     how it is, and what fails why
routes, route-status/, route-audit/, streams, senders, domains     how it is set up
checks, check-results/, dns-journal, blocklists, config-audit       what was looked at
changes.json    what was changed last
samples/        what is known of the sample addresses

What is not in it: passwords, keys, tokens and other secrets; content and subjects of messages; names of people. Each mail address has
a name of its own in this bundle (a-1f2e3d4c@example.com), the same one wherever it stands; nobody can turn it back. Domains,
hosts, IP addresses, replies of servers and times are in it. The log of the server is not: it goes to standard error, and whoever
collects it there (journald, a container) keeps it.
";
