//! What can be typed for `top`. What it means is in the file of that name.

use clap::{Args, ValueEnum};

/// Arguments of `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Seconds between two looks, 1 to 60.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60), value_name = "SECONDS")]
    pub interval: u64,
    /// Order of the queue.
    #[arg(long, value_enum, default_value_t = Order::Waiting)]
    pub sort: Order,
    /// Look once, over one interval, and end.
    #[arg(long)]
    pub once: bool,
}

/// What comes first in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Order {
    /// Where most waits.
    Waiting,
    /// Where the oldest waits.
    Oldest,
    /// By name.
    Name,
}

impl Order {
    /// The next one, round and round.
    pub fn next(self) -> Self {
        match self {
            Self::Waiting => Self::Oldest,
            Self::Oldest => Self::Name,
            Self::Name => Self::Waiting,
        }
    }

    /// As it is shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Oldest => "oldest",
            Self::Name => "name",
        }
    }
}
