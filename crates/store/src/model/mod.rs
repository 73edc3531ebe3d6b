//! The nouns of the store.

mod batch;
mod digest;
mod figures;
mod hook;
mod id;
mod incident;
mod node;
mod queue;
mod record;
mod returned;
mod search;
mod share;
mod suppression;
mod tls;
mod view;

pub use batch::*;
pub use digest::*;
pub use figures::*;
pub use hook::*;
pub use id::*;
pub use incident::*;
pub use node::*;
pub use queue::*;
pub use record::*;
pub use returned::*;
pub use search::*;
pub use share::*;
pub use suppression::*;
pub use tls::*;
pub use view::*;
