//! Figures as they are handed on: names, labels and values without a format.

/// What stands for all that found no room in a set of labels.
pub const OTHER: &str = "other";

/// What kind of figure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// A distribution: how many were at most as large as each bound and larger than the one before.
#[derive(Debug, Clone, PartialEq)]
pub struct Spread {
    /// Upper bounds, ascending.
    pub bounds: Vec<f64>,
    /// One for each bound, and one for what is larger than all of them.
    pub counts: Vec<u64>,
    /// Sum of all.
    pub sum: f64,
}

impl Spread {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of a counter.
    Count(u64),
    /// Of a counter that is no whole number.
    Sum(f64),
    /// Of a gauge.
    Level(f64),
    /// Of a histogram.
    Spread(Spread),
}

/// A value with its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Names and values.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: Value,
}

/// One figure with all its points.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Name with its unit, without `_total`: `pillarbox_accept_seconds`.
    pub name: &'static str,
    /// What it is.
    pub help: &'static str,
    /// What kind.
    pub kind: Kind,
    /// Its points; none are left out.
    pub points: Vec<Point>,
}

impl Figure {
    /// A figure without points.
    pub fn new(kind: Kind, name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind, points: Vec::new() }
    }

    /// A counter with one point without labels.
    pub fn count(name: &'static str, help: &'static str, count: u64) -> Self {
        Self::new(Kind::Counter, name, help).with(Vec::new(), Value::Count(count))
    }

    /// A gauge with one point without labels.
    pub fn level(name: &'static str, help: &'static str, level: f64) -> Self {
        Self::new(Kind::Gauge, name, help).with(Vec::new(), Value::Level(level))
    }

    /// The same with one point more.
    #[must_use]
    pub fn with(mut self, labels: Vec<(&'static str, String)>, value: Value) -> Self {
        self.points.push(Point { labels, value });
        self
    }
}
