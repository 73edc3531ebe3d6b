//! What can be typed for `node`.

use clap::Subcommand;

/// Commands on nodes.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// List the nodes that work on this queue: how they are and how much they do. Exit code 1: one is silent.
    #[command(alias = "list", after_help = "Examples:\n  pillarbox node ls\n  pillarbox node ls --json")]
    Ls,
    /// Take a node out of work: it takes no mail, gives its leases back and finishes what is in flight.
    ///
    /// It stays so, also over restarts, until `undrain`. Where there is one node only, the queue stands still meanwhile.
    #[command(
        after_help = "Examples:\n  pillarbox node drain\n  pillarbox node drain mail2 --wait 300\n\nWithout a name: the node that answers. Exit code 1: it has something left when the wait is over."
    )]
    Drain {
        /// Name.
        name: Option<String>,
        /// Wait at most so many seconds until it is empty.
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "300", value_parser = clap::value_parser!(u64).range(1..=86_400))]
        wait: Option<u64>,
    },
    /// Set a drained node to work again.
    #[command(after_help = "Examples:\n  pillarbox node undrain\n  pillarbox node undrain mail2")]
    Undrain {
        /// Name; without it, the node that answers.
        name: Option<String>,
    },
}
