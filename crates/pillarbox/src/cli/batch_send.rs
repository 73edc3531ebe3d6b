//! `pillarbox batch send`: template and options into the first line, a CSV file into the others, streamed to the server.

use std::fs::File;
use std::io::{Error as IoError, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::Fault;
use super::args::Global;
use super::args_batch::BatchSendArgs;
use super::batch::follow;
use super::batch_bar::Bar;
use super::batch_csv;
use super::client::{Client, Lines, read};
use super::output::{clean, clean_lines, complain, json as print_json, plural, print};
use super::send::attachment;
use crate::http::auth::SENDER_HEADER;
use crate::http::problem::Problem;
use crate::http::views_batch::{BatchOut, CheckedBatch};

/// Octets sent at once.
const CHUNK: usize = 64 * 1024;
/// Bad rows printed; `--json` has the first 1,000.
const PRINTED: usize = 20;
/// Between two looks at how far the file is read.
const LOOK: Duration = Duration::from_millis(200);
/// Keys a template may have in its first lines, and their names in the request.
const FRONT: [(&str, &str); 9] = [
    ("subject", "subject"),
    ("from", "from"),
    ("reply-to", "reply_to"),
    ("stream", "stream"),
    ("name", "name"),
    ("priority", "priority"),
    ("spread", "spread"),
    ("send-at", "send_at"),
    ("deliver-by", "deliver_by"),
];

/// Does what was asked.
pub async fn run(global: &Global, client: &Client, args: BatchSendArgs) -> Result<(), Fault> {
    let header = header(&args)?;
    let (file, size) = recipients(&args.recipients)?;
    let reading = Arc::new(Reading { size, ..Reading::default() });
    let rows = batch_csv::open(Counted { file, reading: reading.clone() }, args.delimiter)?;
    let (sender, receiver) = mpsc::channel(8);
    let feeder = {
        let reading = reading.clone();
        tokio::task::spawn_blocking(move || feed(&header, rows, &sender, &reading))
    };
    let query = if args.dry_run { format!("?dry_run=true&show={}", args.show) } else { String::new() };
    let mut headers = Vec::new();
    headers.extend(args.idempotency_key.clone().map(|key| ("idempotency-key", key)));
    headers.extend(args.sender.clone().map(|name| (SENDER_HEADER, name)));
    let path = format!("/batches{query}");
    let call = client.lines(Lines { path: &path, headers, body: receiver });
    let answer = watched(call, &reading).await;
    // Whether the file or the server is to blame: the file's error comes first.
    if let Ok(Err(fault)) = feeder.await {
        return Err(fault);
    }
    let value = match answer {
        Err(Fault::Refused(problem)) if !problem.rows.is_empty() => return bad_rows(global, *problem, &reading),
        answer => answer?,
    };
    if args.dry_run {
        return checked(global, value);
    }
    let batch: BatchOut = read(value.clone())?;
    if args.follow {
        return follow(global, client, &batch.id).await;
    }
    if global.json {
        return print_json(&value);
    }
    print(&format!("{} accepted with {}\n", batch.id, plural(u64::from(batch.total), "row")))
}

/// How far the file was read.
#[derive(Default)]
struct Reading {
    /// Octets; 0: not known.
    size: u64,
    octets: AtomicU64,
    rows: AtomicU64,
    /// Line of the file of each row.
    lines: Mutex<Vec<u32>>,
}

struct Counted<R> {
    file: R,
    reading: Arc<Reading>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(into)?;
        self.reading.octets.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

fn recipients(path: &Path) -> Result<(Box<dyn Read + Send>, u64), Fault> {
    if path == Path::new("-") {
        return Ok((Box::new(std::io::stdin()), 0));
    }
    let open = || -> std::io::Result<(File, u64)> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok((file, size))
    };
    let (file, size) = open().with_context(|| format!("cannot read {}", path.display())).map_err(Fault::cannot)?;
    Ok((Box::new(file), size))
}

/// Sends the lines; an error of the file breaks the request off, so that nothing of it is accepted.
fn feed(
    header: &Value,
    rows: impl Iterator<Item = Result<batch_csv::CsvRow, Fault>>,
    to: &mpsc::Sender<Result<Bytes, IoError>>,
    reading: &Reading,
) -> Result<(), Fault> {
    let mut chunk = format!("{header}\n");
    for row in rows {
        let row = match row {
            Ok(row) => row,
            Err(fault) => {
                let _ = to.blocking_send(Err(IoError::other("the file is wrong")));
                return Err(fault);
            }
        };
        reading.rows.fetch_add(1, Ordering::Relaxed);
        reading.lines.lock().push(u32::try_from(row.line).unwrap_or(u32::MAX));
        chunk.push_str(&row.json);
        // A server that answered already wants no more.
        if chunk.len() >= CHUNK && to.blocking_send(Ok(std::mem::take(&mut chunk).into())).is_err() {
            return Ok(());
        }
    }
    let _ = to.blocking_send(Ok(chunk.into()));
    Ok(())
}

async fn watched(call: impl Future<Output = Result<Value, Fault>>, reading: &Reading) -> Result<Value, Fault> {
    let mut bar = Bar::new("octets read");
    let mut call = std::pin::pin!(call);
    loop {
        tokio::select! {
            answer = &mut call => return answer,
            () = tokio::time::sleep(LOOK) => {
                let octets = reading.octets.load(Ordering::Relaxed);
                let rows = plural(reading.rows.load(Ordering::Relaxed), "row");
                bar.show(octets, reading.size.max(octets), Some(&rows));
            }
        }
    }
}

fn header(args: &BatchSendArgs) -> Result<Value, Fault> {
    let source = file_text(&args.template)?;
    let (mut options, body) = front_matter(&source)?;
    let given = [
        ("subject", args.subject.clone().map(Value::from)),
        ("from", args.from.clone().map(Value::from)),
        ("reply_to", args.reply_to.clone().map(Value::from)),
        ("stream", args.stream.clone().map(Value::from)),
        ("name", args.name.clone().map(Value::from)),
        ("priority", args.priority.map(Value::from)),
        ("spread", args.spread.clone().map(Value::from)),
        ("send_at", args.send_at.clone().map(Value::from)),
        ("deliver_by", args.deliver_by.clone().map(Value::from)),
    ];
    options.extend(given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    let missing = |what: &str| Fault::Usage(format!("{what} is missing: --{what}, or a line in front of the template"));
    let subject = options.remove("subject").ok_or_else(|| missing("subject"))?;
    if !options.contains_key("from") {
        return Err(missing("from"));
    }
    let ending = args.template.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
    let kind = if matches!(ending.as_deref(), Some("html" | "htm")) { "html" } else { "text" };
    let attachments = args.attach.iter().map(|path| attachment(path)).collect::<Result<Vec<_>, _>>()?;
    let mut template = json!({ "subject": subject, kind: body, "attachments": attachments });
    if let Some(path) = &args.text_file {
        if kind == "text" {
            return Err(Fault::Usage("the template is plain text already: --text-file goes with an HTML one".into()));
        }
        template["text"] = file_text(path)?.into();
    }
    let mut headers = Map::new();
    for field in &args.header {
        let (name, value) =
            field.split_once(':').ok_or_else(|| Fault::Usage(format!("{field} is not 'Name: value'")))?;
        headers.insert(name.trim().to_owned(), value.trim().into());
    }
    template["headers"] = headers.into();
    options.insert("template".into(), template);
    options.insert("tags".into(), args.tag.clone().into());
    options.insert("test".into(), args.test.into());
    options.insert("duplicates".into(), if args.no_duplicates { "refuse" } else { "allow" }.into());
    Ok(options.into())
}

fn file_text(path: &Path) -> Result<String, Fault> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display())).map_err(Fault::cannot)
}

/// Lines `key: value` between two lines `---` at the beginning, and what comes behind.
fn front_matter(source: &str) -> Result<(Map<String, Value>, &str), Fault> {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    let mut options = Map::new();
    let Some(mut rest) = source.strip_prefix("---\n").or_else(|| source.strip_prefix("---\r\n")) else {
        return Ok((options, source));
    };
    let mut number = 1;
    loop {
        number += 1;
        let Some((line, behind)) = rest.split_once('\n') else {
            return Err(Fault::Usage("the template begins with a line --- that no other such line ends".into()));
        };
        rest = behind;
        let line = line.trim();
        if line == "---" {
            return Ok((options, rest));
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |why: &str| Fault::Usage(format!("line {number} of the template: {why}"));
        let (key, value) = line.split_once(':').ok_or_else(|| wrong("not `key: value`"))?;
        let key = key.trim().to_ascii_lowercase().replace('_', "-");
        let Some((_, name)) = FRONT.iter().find(|(known, _)| *known == key) else {
            let known: Vec<&str> = FRONT.iter().map(|(known, _)| *known).collect();
            return Err(wrong(&format!("`{}` is not one of {}", clean(&key), known.join(", "))));
        };
        let value = value.trim();
        let value = match value.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')) {
            Some(inner) if !inner.contains('"') => inner,
            _ => value,
        };
        let value = match *name {
            "priority" => value.parse::<u8>().map_err(|_| wrong("`priority` is 0 to 3"))?.into(),
            _ => value.into(),
        };
        options.insert((*name).to_owned(), value);
    }
}

/// Names the rows that are wrong by their lines in the file.
fn bad_rows(global: &Global, mut problem: Problem, reading: &Reading) -> Result<(), Fault> {
    let lines = reading.lines.lock();
    for row in problem.rows.iter_mut() {
        let at = usize::try_from(row.line).unwrap_or(usize::MAX).saturating_sub(2);
        row.line = lines.get(at).copied().unwrap_or(row.line);
    }
    if global.json {
        print_json(&problem)?;
        return Err(Fault::Told);
    }
    let in_all = problem.bad_rows.map_or(problem.rows.len() as u64, |count| u64::from(count.get()));
    let verb = if in_all == 1 { "is" } else { "are" };
    complain(&format!("pillarbox: nothing was accepted: {} {verb} wrong", plural(in_all, "row")));
    for row in problem.rows.iter().take(PRINTED) {
        let field = if row.field.is_empty() { String::new() } else { format!("`{}` ", row.field) };
        complain(&clean(&format!("  line {}: {field}{}", row.line, row.detail)));
    }
    if in_all > PRINTED as u64 {
        complain(&format!("  … and {} more; --json names the first 1,000", in_all - PRINTED as u64));
    }
    Err(Fault::Told)
}

fn checked(global: &Global, value: Value) -> Result<(), Fault> {
    if global.json {
        return print_json(&value);
    }
    let checked: CheckedBatch = read(value)?;
    for shown in &checked.shown {
        print(&format!("To: {}\nSubject: {}\n", clean(&shown.to), clean(&shown.subject)))?;
        for body in [&shown.text, &shown.html].into_iter().flatten() {
            print(&format!("\n{}\n", clean_lines(body)))?;
        }
        print(&format!("({} octets)\n{}\n", shown.size, "-".repeat(72)))?;
    }
    print(&format!("{} would be accepted; nothing was\n", plural(u64::from(checked.rows), "row")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_may_begin_with_options() {
        let (options, body) = front_matter(
            "---\nsubject: Hi, {{ name }}: you\n# note\nReply_To: \"a@b.example\"\npriority: 2\n---\n<p>\n",
        )
        .unwrap();
        assert_eq!(body, "<p>\n");
        let expected = json!({"subject": "Hi, {{ name }}: you", "reply_to": "a@b.example", "priority": 2});
        assert_eq!(Value::from(options), expected);
        assert_eq!(front_matter("<p>---\n").unwrap().1, "<p>---\n");
        for wrong in ["---\nsubject: x\n", "---\nto: x\n---\n", "---\nsubject\n---\n", "---\npriority: high\n---\n"] {
            assert!(matches!(front_matter(wrong), Err(Fault::Usage(_))), "{wrong}");
        }
    }
}
