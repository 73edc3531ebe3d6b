//! Figures as text: OpenMetrics by its own library, and the older format of Prometheus made of it.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use relay::metrics::{Figure, Kind, Spread, Value};

use super::Snapshot;

/// Content type of OpenMetrics 1.0.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Content type of the older format.
pub const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Debug)]
struct Page(Snapshot);

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        self.0.figures.iter().filter(|figure| !figure.points.is_empty()).try_for_each(|one| figure(&mut encoder, one))
    }
}

fn figure(encoder: &mut DescriptorEncoder, figure: &Figure) -> fmt::Result {
    let kind = match figure.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
    };
    let mut encoder = encoder.encode_descriptor(figure.name, figure.help, None, kind)?;
    figure.points.iter().try_for_each(|point| match point.labels.is_empty() {
        // Braces without labels are allowed, and a riddle to those who search by lines.
        true => value(&mut encoder, &point.value),
        false => value(&mut encoder.encode_family(&point.labels)?, &point.value),
    })
}

fn value(encoder: &mut MetricEncoder<'_>, value: &Value) -> fmt::Result {
    match value {
        Value::Count(count) => encoder.encode_counter::<NoLabelSet, _, u64>(count, None),
        Value::Sum(sum) => encoder.encode_counter::<NoLabelSet, _, u64>(sum, None),
        Value::Level(level) => encoder.encode_gauge(level),
        Value::Spread(spread) => {
            encoder.encode_histogram::<NoLabelSet>(spread.sum, spread.count(), &buckets(spread), None)
        }
    }
}

fn buckets(spread: &Spread) -> Vec<(f64, u64)> {
    let bounds = spread.bounds.iter().copied().chain([f64::INFINITY]);
    bounds.zip(spread.counts.iter().copied()).collect()
}

/// As OpenMetrics.
pub fn openmetrics(snapshot: Snapshot) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page(snapshot)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

/// The same for those who do not know OpenMetrics: counters are named with their suffix, and nothing marks the end.
pub fn plain(openmetrics: &str) -> String {
    let counters: std::collections::HashSet<&str> =
        openmetrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut out = String::with_capacity(openmetrics.len());
    for line in openmetrics.lines() {
        match line.strip_prefix("# ") {
            Some(comment) => {
                let mut words = comment.splitn(3, ' ');
                if let (Some(what @ ("HELP" | "TYPE")), Some(name), Some(rest)) =
                    (words.next(), words.next(), words.next())
                {
                    let suffix = if counters.contains(name) { "_total" } else { "" };
                    out.push_str(&format!("# {what} {name}{suffix} {rest}\n"));
                }
            }
            None => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Snapshot {
        let spread = Spread { bounds: vec![0.5, 1.0], counts: vec![2, 0, 1], sum: 3.25 };
        let figures = vec![
            Figure::new(Kind::Counter, "pillarbox_refused", "Refused.")
                .with(vec![("reason", "too_large".into())], Value::Count(7)),
            Figure::new(Kind::Histogram, "pillarbox_accept_seconds", "Accept.").with(Vec::new(), Value::Spread(spread)),
            Figure::level("pillarbox_ready", "Ready.", 1.0),
            Figure::new(Kind::Gauge, "pillarbox_brake", "Nothing to show."),
        ];
        Snapshot { at_ms: 0, figures: figures.into() }
    }

    #[test]
    fn figures_are_open_metrics() {
        let text = openmetrics(sample()).unwrap_or_default();
        let expected = "# HELP pillarbox_refused Refused.\n# TYPE pillarbox_refused counter\n\
                        pillarbox_refused_total{reason=\"too_large\"} 7\n\
                        # HELP pillarbox_accept_seconds Accept.\n# TYPE pillarbox_accept_seconds histogram\n\
                        pillarbox_accept_seconds_sum 3.25\npillarbox_accept_seconds_count 3\n\
                        pillarbox_accept_seconds_bucket{le=\"0.5\"} 2\npillarbox_accept_seconds_bucket{le=\"1.0\"} 2\n\
                        pillarbox_accept_seconds_bucket{le=\"+Inf\"} 3\n\
                        # HELP pillarbox_ready Ready.\n# TYPE pillarbox_ready gauge\npillarbox_ready 1.0\n# EOF\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_older_format_knows_counters_by_their_full_name_and_has_no_end() {
        let text = plain(&openmetrics(sample()).unwrap_or_default());
        assert!(text.starts_with(
            "# HELP pillarbox_refused_total Refused.\n# TYPE pillarbox_refused_total counter\n\
             pillarbox_refused_total{reason=\"too_large\"} 7\n"
        ));
        assert!(text.contains("# TYPE pillarbox_accept_seconds histogram\n") && !text.contains("EOF"), "{text}");
    }
}
