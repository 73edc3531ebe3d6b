//! The service manager's notification socket (sd_notify), a few lines of our own: one datagram, best effort.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use relay::Relay;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Sends a state such as `READY=1` if somebody asked for it.
pub fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let text = path.to_string_lossy();
    let address = match text.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name.as_bytes()),
        None => SocketAddr::from_pathname(&path),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::debug!(%error, "the service manager could not be told");
    }
}

/// How often the watchdog wants to hear of this process, if it does (`WATCHDOG_USEC`, for this process or for any).
fn watchdog() -> Option<Duration> {
    let given = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let ours = given("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    given("WATCHDOG_USEC").filter(|us| ours && *us > 0).map(Duration::from_micros)
}

/// Tells the watchdog that the process lives, until the server stops.
///
/// It lives while tasks run and nobody keeps the schedule's lock: what a restart would mend. A full disk or a store that
/// cannot write is no reason to be killed.
pub fn keep_watchdog(tasks: &TaskTracker, closing: &CancellationToken, relay: Arc<Relay>) {
    let Some(within) = watchdog() else { return };
    let closing = closing.clone();
    tasks.spawn(async move {
        while !closing.is_cancelled() {
            let relay = relay.clone();
            // On a thread that may block: one that waits for ever is the sign.
            let lives = tokio::task::spawn_blocking(move || relay.lives());
            if matches!(tokio::time::timeout(within / 2, lives).await, Ok(Ok(()))) {
                notify("WATCHDOG=1");
            } else {
                tracing::error!("the schedule does not answer: the watchdog is not told that all is well");
            }
            tokio::select! {
                () = tokio::time::sleep(within / 3) => {}
                () = closing.cancelled() => {}
            }
        }
    });
}
