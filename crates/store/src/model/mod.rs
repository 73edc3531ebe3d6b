//! The nouns of the store.

mod id;
mod queue;
mod view;

pub use id::*;
pub use queue::*;
pub use view::*;
