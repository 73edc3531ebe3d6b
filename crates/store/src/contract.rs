//! The suite every engine has to pass: what the verbs promise, told as small stories.
//!
//! An engine's tests call [`run_all`]; each story gets a store of its own. Stories panic when a promise is broken.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test suite: a broken promise has to stop it")]

mod batches;
mod care;
mod digest;
mod figures;
mod held;
mod hooks;
mod intake;
mod nodes;
mod operate;
mod queue;
mod random;
mod records;
mod returned;
mod scene;
mod search;
mod shares;
mod suppress;

use std::path::Path;
use std::sync::Arc;

pub use self::scene::{MESSAGE_BODY, Scene};
use crate::model::MessageId;
use crate::verbs::Store;

/// What a story needs of the engine under test.
pub trait Engine {
    /// Opens the story's store: new at first, with its content after it was closed.
    fn open(&self) -> Arc<dyn Store>;
    /// How it is backed up.
    fn backups(&self) -> Option<&dyn Backups>;
    /// Changes an octet of a stored content behind the store's back.
    fn damage(&self, id: MessageId);
}

/// Backups of an engine that makes them itself. One that leaves them to its server says so instead.
pub trait Backups {
    /// Opens a backup.
    fn open_backup(&self, at: &Path) -> Arc<dyn Store>;
    /// A path for a backup, which does not exist.
    fn spare_path(&self) -> std::path::PathBuf;
}

/// A story: what it promises, and the test.
pub type Story = (&'static str, fn(&mut Scene));

/// All stories.
pub fn stories() -> Vec<Story> {
    [
        batches::STORIES,
        intake::STORIES,
        queue::STORIES,
        operate::STORIES,
        held::STORIES,
        care::STORIES,
        hooks::STORIES,
        suppress::STORIES,
        returned::STORIES,
        records::STORIES,
        nodes::STORIES,
        digest::STORIES,
        figures::STORIES,
        search::STORIES,
        shares::STORIES,
        random::STORIES,
    ]
    .concat()
}

/// Tells all stories, each on a new engine; panics at the first broken promise, naming the story.
pub fn run_all(make: impl Fn() -> Box<dyn Engine>) {
    for (name, story) in stories() {
        let mut scene = Scene::new(make());
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| story(&mut scene)));
        if told.is_err() {
            panic!("broken promise: {name}");
        }
    }
}
