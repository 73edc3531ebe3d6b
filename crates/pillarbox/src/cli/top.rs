//! `pillarbox top`: looks at the figures again and again, over the control socket or a URL.

use std::time::Duration;

use serde::Serialize;

use super::Fault;
use super::args::Global;
use super::args_top::TopArgs;
use super::client::{Client, Need, read};
use super::output::{json as print_json, print};
use super::top_rates::{Rates, between};
use super::top_screen::Screen;
use super::top_view::{View, lines};
use crate::http::api::admin::StatusOut;
use crate::http::api::figures::FiguresOut;

/// One look.
struct Look {
    figures: FiguresOut,
    status: StatusOut,
    at_us: u64,
}

/// What `--json` gives for each look.
#[derive(Debug, Serialize)]
struct Out<'a> {
    at: &'a str,
    accepting: bool,
    figures: &'a Rates,
    troubles: Vec<String>,
}

/// Looks until somebody presses `q`, or once.
pub async fn run(global: &Global, args: &TopArgs) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Server).await?;
    let clock = net::Clock::system();
    let look = async || {
        let figures: FiguresOut = read(client.get("/metrics").await?)?;
        let status: StatusOut = read(client.get("/status").await?)?;
        Ok::<_, Fault>(Look { figures, status, at_us: clock.mono_us() })
    };
    let every = Duration::from_secs(args.interval);
    let first = look().await?;
    let mut screen = if args.once || global.json { None } else { Screen::take() };
    if let Some(screen) = &mut screen {
        return watch(screen, first, &look, every, args).await;
    }
    let mut before = first;
    loop {
        tokio::time::sleep(every).await;
        let now = look().await?;
        let rates = rates_of(&before, &now);
        show(global, &now, &rates, args)?;
        if args.once {
            return Ok(());
        }
        before = now;
    }
}

fn rates_of(before: &Look, now: &Look) -> Rates {
    between(&before.figures, &now.figures, now.at_us.saturating_sub(before.at_us) as f64 / 1e6)
}

fn show(global: &Global, now: &Look, rates: &Rates, args: &TopArgs) -> Result<(), Fault> {
    let troubles = super::status::troubles(&now.status);
    if global.json {
        let out = Out { at: &now.figures.at, accepting: now.status.accepting, figures: rates, troubles };
        return match args.once {
            true => print_json(&out),
            // One line for each look: for pipes.
            false => match serde_json::to_string(&out) {
                Ok(line) => print(&format!("{line}\n")),
                Err(error) => Err(Fault::cannot(error.into())),
            },
        };
    }
    let view = View { status: &now.status, rates, troubles: &troubles, order: args.sort, paused: false };
    print(&format!("{}\n", lines(&view).join("\n")))
}

async fn watch(
    screen: &mut Screen,
    first: Look,
    look: &impl AsyncFn() -> Result<Look, Fault>,
    every: Duration,
    args: &TopArgs,
) -> Result<(), Fault> {
    let (mut order, mut paused) = (args.sort, false);
    let mut rates = Rates::default();
    let mut now = first;
    let mut due = tokio::time::interval(every);
    due.tick().await;
    loop {
        let troubles = super::status::troubles(&now.status);
        screen.draw(&lines(&View { status: &now.status, rates: &rates, troubles: &troubles, order, paused }));
        tokio::select! {
            key = screen.key() => match key {
                b'q' | b'Q' => return Ok(()),
                b's' | b'S' => order = order.next(),
                b'p' | b'P' => paused = !paused,
                _ => {}
            },
            _ = tokio::signal::ctrl_c() => return Ok(()),
            _ = due.tick(), if !paused => {
                let later = look().await?;
                rates = rates_of(&now, &later);
                now = later;
            }
        }
    }
}
