//! What a failure means: rules as data, the matcher, and the words for people. Pure: no I/O, no clock.
//!
//! [`RuleBase::judge`] finds the most specific rule for a reply, a failure or a pasted text; [`render`] turns the
//! stored rule id and values into words when somebody reads them. What is done about it is decided elsewhere.

mod base;
pub mod credential;
pub mod delisting;
mod embedded;
mod error;
mod help;
mod interception;
mod judge;
mod lint;
pub mod lists;
mod manual;
mod model;
mod normal;
mod pattern;
mod play;
mod ports;
mod prefilter;
mod preset;
mod provider;
mod raw;
mod reason;
mod render;
mod sample;
mod values;

pub use base::{Origin, RuleBase};
pub use error::RulesError;
pub use help::{Help, Question, Step, Support, Term, help};
pub use interception::interception;
pub use judge::{Basis, Finding, Query, What};
pub use lint::{Problem, SampleCheck};
pub use manual::Page;
pub use model::{Code, EnhancedPattern, Fix, Owner, ResultWord, Retry, Rule, Scope, Severity, Source};
pub use normal::{Layer, Normal};
pub use pattern::Pattern;
pub use play::Played;
pub use ports::{PortBlock, blocked_ports, port_blocks};
pub use preset::{Preset, PresetTls, Region, SignIn, Speaks, preset, preset_of_host, presets};
pub use provider::{Provider, Submission};
pub use reason::{Reason, ReasonText};
pub use render::{Explanation, RenderedFix};
pub use sample::{Sample, SampleWhat};
pub use values::{Values, sign_value};
