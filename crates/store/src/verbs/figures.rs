//! What those who watch a store ask of it.

use crate::Pending;
use crate::model::{QueueFigures, StoreFigures};

/// Being watched. Nothing here waits for the writer.
pub trait Figures: Send + Sync {
    /// Counted since the store was opened, and how it is now; cheap.
    fn figures(&self) -> StoreFigures;
    /// The queue by route and stream. Costs a walk through all lanes: not for every second.
    fn queue_figures(&self) -> Pending<QueueFigures>;
}
