//! Incidents, as far as the relay sees them: what attempts tell, whom trouble touches, what is unusual. Who keeps incidents,
//! diagnoses and alerts is above.

pub mod sample;
pub mod scope;
pub mod volume;

pub use sample::Sample;
pub use scope::{ScopeFound, find};
