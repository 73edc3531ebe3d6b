//! What can be typed for `migrate`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueHint};

/// Below the options.
pub const EXAMPLES: &str = "Examples:
  pillarbox migrate --from sqlite:/var/lib/pillarbox --to-file /etc/pillarbox/store.url
  pillarbox migrate --from sqlite:/var/lib/pillarbox --to 'postgres://pillarbox@%2Frun%2Fpostgresql/pillarbox'

The database has to be there and its schema empty. Everything moves: mail with its contents, states and history, settings with
their secrets, suppressions, batches, webhooks, records. The source stays as it is.

While the server works it is copied as it is (exit code 1), as often as you like. Then stop the server and give the same command
again: what has changed since moves, all is counted at both ends, every content is checked, and the target may be opened. Until
then no server opens it. Whoever is interrupted gives the same command again: only what differs moves.

A password is not typed here, where others see it: it is in the file of --to-file, which has the address on its first line.
Secrets move as they are sealed: each node needs the key of the source (`key` in its data directory, or the file of `key.file`).

Exit codes: 0 all is moved, 1 a server works on the source: the rest moves when it has stopped, 2 wrong usage, 3 it was not moved,
or not to its end.";

/// What to move, and where to.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("target").required(true).args(["to", "to_file"])))]
pub struct MigrateArgs {
    /// `sqlite:` and the data directory of a server.
    #[arg(long, value_name = "sqlite:DIRECTORY")]
    pub from: String,
    /// `postgres://user@host:5432/database`, without a password.
    #[arg(long, value_name = "URL")]
    pub to: Option<String>,
    /// A file with that address, with its password.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub to_file: Option<PathBuf>,
    /// Schema of the tables; it is made if it is not there.
    #[arg(long, default_value = "pillarbox", value_name = "NAME")]
    pub schema: String,
}
