//! `pillarbox patterns`.

use super::Fault;
use super::args::Global;
use super::client::{Client, Need, read};
use super::output::{clean, json as print_json, plural, print, short_time, table};
use crate::http::api::patterns::{CausePatternOut, PatternsOut};
use crate::patterns::ShareOut;

/// Shows the patterns of the last days.
pub async fn run(global: &Global, days: u32) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    let value = client.get(&format!("/patterns?days={days}")).await?;
    if global.json {
        return print_json(&value);
    }
    let found: PatternsOut = read(value)?;
    if found.failures == 0 {
        return print(&format!("Nothing failed since {}.\n", short_time(&found.from)));
    }
    print(&format!("{} since {}\n\n", plural(found.failures as u64, "failed attempt"), short_time(&found.from)))?;
    let row = |cause: &CausePatternOut| {
        vec![
            format!("{:.1} %", cause.percent),
            cause.failures.to_string(),
            cause.owner.clone(),
            sparkline(&cause.days),
            cause.title.clone(),
        ]
    };
    table(&["SHARE", "TIMES", "WHOSE TURN", "DAY BY DAY", "CAUSE"], &found.causes.iter().map(row).collect::<Vec<_>>())?;
    let mut more = String::new();
    for cause in &found.causes {
        if let Some(words) = &cause.recurs_words {
            more.push_str(&format!("{}: {words}\n", clean(&cause.title)));
        }
        if let Some(began) = &cause.began {
            more.push_str(&format!("{}: new since {}\n", clean(&cause.title), short_time(began)));
            more.extend(cause.changes_before.iter().map(|change| format!("  changed before: {}\n", clean(change))));
        }
    }
    if !more.is_empty() {
        print(&format!("\n{more}"))?;
    }
    print(&format!("\nBy whose turn it is: {}\nBy stage: {}\n", shares(&found.owners), shares(&found.stages)))
}

fn shares(list: &[ShareOut]) -> String {
    let one = |share: &ShareOut| format!("{} {:.1} %", clean(&share.name), share.percent);
    list.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The last four weeks in characters.
fn sparkline(days: &[u32]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let days = &days[days.len().saturating_sub(28)..];
    let most = days.iter().copied().max().unwrap_or(0).max(1);
    let bar = |n: &u32| if *n == 0 { '·' } else { BARS[((n - 1) * 8 / most).min(7) as usize] };
    days.iter().map(bar).collect()
}
