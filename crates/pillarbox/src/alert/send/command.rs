//! By a program of this machine: no shell, its words as they are set; the alerts as JSON on standard input.

use std::process::Stdio;
use std::time::Duration;

use proto::smtp::reply::escape;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::Sent;
use crate::alert::setting::Channel;
use crate::alert::text::{Item, body, subject, worst};
use crate::http::Shared;

/// Octets of its output that are read, and of them shown.
const MOST_OUTPUT: u64 = 64 << 10;
const SHOWN: usize = 300;

/// Runs the program to its end, or until its time is over.
pub async fn send(app: &Shared, channel: &Channel, items: &[Item]) -> Sent {
    run(&channel.record.command, &app.hostname, items, Duration::from_secs(channel.record.timeout.into())).await
}

async fn run(command: &[String], hostname: &str, items: &[Item], limit: Duration) -> Sent {
    let Some((program, arguments)) = command.split_first() else { return Sent::failed("there is no program") };
    let subject = subject(hostname, items);
    let input = json!({
        "hostname": hostname, "subject": subject, "text": body(hostname, items),
        "alerts": items.iter().map(Item::json).collect::<Vec<_>>(),
    });
    let severity = worst(items).map_or("resolved", |severity| severity.as_str());
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("PILLARBOX_HOSTNAME", hostname)
        .env("PILLARBOX_SUBJECT", subject.replace('\0', ""))
        .env("PILLARBOX_SEVERITY", severity)
        .env("PILLARBOX_ALERTS", items.len().to_string())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Sent::failed(format!("{program} cannot be started: {error}")),
    };
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let done = tokio::time::timeout(limit, talk(&mut child, input.to_string().into_bytes())).await;
    // What it started and left behind ends too.
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
    match done {
        Ok(Ok((status, _))) if status.success() => Sent::Taken("exit 0".into()),
        Ok(Ok((status, said))) => {
            let how = status.code().map_or_else(|| "was killed".to_owned(), |code| format!("exit {code}"));
            let said = escape(said.trim_ascii(), SHOWN);
            Sent::failed(if said.is_empty() { how } else { format!("{how}: {said}") })
        }
        Ok(Err(error)) => Sent::failed(format!("{program}: {error}")),
        Err(_) => {
            let _ = child.kill().await;
            Sent::failed(format!("did not end within {} s", limit.as_secs()))
        }
    }
}

/// Writes its input and reads its output, as far as that is wanted.
async fn talk(child: &mut Child, input: Vec<u8>) -> std::io::Result<(std::process::ExitStatus, Vec<u8>)> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // It need not read any of it.
            let _ = stdin.write_all(&input).await;
        }
    };
    let read_out = async {
        let mut octets = Vec::new();
        if let Some(stdout) = stdout {
            let _ = stdout.take(MOST_OUTPUT).read_to_end(&mut octets).await;
        }
        octets
    };
    let read_err = async {
        let mut octets = Vec::new();
        if let Some(stderr) = stderr {
            let _ = stderr.take(MOST_OUTPUT).read_to_end(&mut octets).await;
        }
        octets
    };
    let talk = async { tokio::join!(write, read_out, read_err) };
    tokio::pin!(talk);
    // A program that has ended is done, even if what it started holds its output open.
    let status = tokio::select! {
        status = child.wait() => {
            let status = status?;
            let rest = tokio::time::timeout(Duration::from_millis(100), &mut talk).await.ok();
            return Ok((status, rest.map(said).unwrap_or_default()));
        }
        done = &mut talk => (child.wait().await?, said(done)),
    };
    Ok(status)
}

/// What it complained of; else what it said.
fn said(((), out, err): ((), Vec<u8>, Vec<u8>)) -> Vec<u8> {
    if err.trim_ascii().is_empty() { out } else { err }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::plan::What;
    use crate::alert::rule::Severity;
    use crate::alert::text::tests::item;

    async fn shell(script: &str, seconds: u64) -> Sent {
        let command = ["/bin/sh", "-c", script].map(str::to_owned);
        let items = [item("It's `broken` $(now)", Severity::Critical, What::Raised)];
        run(&command, "relay.example", &items, Duration::from_secs(seconds)).await
    }

    fn failure(sent: Sent) -> String {
        match sent {
            Sent::Failed { problem, .. } => problem,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_program_gets_the_alerts_and_nothing_of_our_surroundings() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("out");
        let sent = shell(&format!("cat > {0}; env >> {0}", file.display()), 20).await;
        assert_eq!(sent, Sent::Taken("exit 0".into()));
        let text = std::fs::read_to_string(file).unwrap();
        let (json, environment) = text.split_at(text.rfind('}').unwrap() + 1);
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(json["alerts"][0]["title"], "It's `broken` $(now)");
        assert!(environment.contains("PILLARBOX_SEVERITY=critical"), "{environment}");
        assert!(!environment.contains("HOME="), "{environment}");
    }

    #[tokio::test]
    async fn a_program_that_fails_says_why() {
        assert_eq!(failure(shell("echo no modem >&2; exit 3", 20).await), "exit 3: no modem");
        let none = run(&["/nowhere/page".to_owned()], "x", &[], Duration::from_secs(1)).await;
        assert!(failure(none).starts_with("/nowhere/page cannot be started"));
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_ended_with_all_it_started() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("pid");
        let script = format!("sleep 300 & echo $! > {0}.new; mv {0}.new {0}; wait", file.display());
        assert_eq!(failure(shell(&script, 2).await), "did not end within 2 s");
        let pid: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let ended = async {
            while !(stat().is_empty() || stat().contains(") Z")) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap();
    }

    #[tokio::test]
    async fn what_it_says_is_not_read_for_ever() {
        let said = failure(shell("yes; exit 1", 20).await);
        assert!(said.starts_with("exit 1: y") && said.len() < 1_000, "{}", said.len());
        assert_eq!(shell("sleep 100 & exit 0", 20).await, Sent::Taken("exit 0".into()));
    }
}
