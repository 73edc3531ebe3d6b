//! Charts drawn on the server: lines over time as SVG with round numbers at the axes. Colours and dashes are the style sheet's
//! (`s1` to `s4`); who cannot see them reads the description, or the table that stands beside each chart.

use std::fmt::Write as _;

/// Size of the drawing, and of what is around the plot, in its own units: as in pixels, so that text keeps its size.
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 28.0;
/// Most marks at the axis of values.
const MARKS: usize = 5;

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// What values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number of something.
    Count,
    /// Milliseconds.
    Span,
}

/// Values over time.
#[derive(Debug, Clone)]
pub struct Line {
    /// Class: `s1` to `s4`.
    pub class: &'static str,
    /// In words, for the description.
    pub name: &'static str,
    /// One for each step; `None` is a gap.
    pub values: Vec<Option<f64>>,
}

/// A chart.
#[derive(Debug, Clone)]
pub struct Chart {
    /// Unique on its page.
    pub id: &'static str,
    /// What it shows.
    pub title: &'static str,
    /// What values are.
    pub unit: Unit,
    /// Beginning of the first step, Unix milliseconds.
    pub from_ms: i64,
    /// Length of a step, milliseconds.
    pub step_ms: i64,
    /// The lines, the most important last: it is drawn above the others.
    pub lines: Vec<Line>,
    /// The space below the first line is filled.
    pub filled: bool,
    /// About as wide as it is shown: 960 for a whole line, 460 for half of one.
    pub width: f64,
}

impl Chart {
    /// As SVG.
    pub fn svg(&self) -> String {
        let steps = self.lines.iter().map(|line| line.values.len()).max().unwrap_or(0).max(1);
        let most = self.lines.iter().flat_map(|line| line.values.iter().flatten()).copied().fold(0.0, f64::max);
        let marks = marks(most, self.unit);
        let top = marks.last().copied().unwrap_or(1.0).max(f64::MIN_POSITIVE);
        let width = self.width;
        let (wide, high) = (width - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
        let x = |at: f64| LEFT + wide * at / steps as f64;
        let y = |value: f64| TOP + high * (1.0 - value / top);
        let id = self.id;
        let mut svg = format!(
            "<svg class=\"chart\" viewBox=\"0 0 {width} {HEIGHT}\" role=\"img\" aria-labelledby=\"{id}-title {id}-words\">\
             <title id=\"{id}-title\">{}</title><desc id=\"{id}-words\">{}</desc><g class=\"axis\">",
            escaped(self.title),
            escaped(&self.words()),
        );
        for mark in &marks {
            let (at, text) = (y(*mark), label(*mark, self.unit));
            let _ = write!(
                svg,
                "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                width - RIGHT,
                LEFT - 8.0,
                at + 4.0,
            );
        }
        let most_times = (wide / 80.0) as i64;
        for (at_ms, text) in times(self.from_ms, self.from_ms + steps as i64 * self.step_ms, most_times) {
            let at = x((at_ms - self.from_ms) as f64 / self.step_ms as f64);
            let _ = write!(
                svg,
                "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
                TOP + high,
                TOP + high + 5.0,
                HEIGHT - 8.0,
            );
        }
        svg.push_str("</g>");
        for (at, line) in self.lines.iter().enumerate() {
            // A value belongs to its whole step: it stands in the middle.
            let places =
                line.values.iter().enumerate().map(|(n, value)| value.map(|value| (x(n as f64 + 0.5), y(value))));
            let parts = parts(places);
            if self.filled && at == 0 {
                let _ = write!(svg, "<path class=\"area {}\" d=\"{}\"/>", line.class, area(&parts, TOP + high));
            }
            let _ = write!(svg, "<path class=\"line {}\" d=\"{}\"/>", line.class, path(&parts));
            // A line of one value has no length.
            for (x, y) in parts.iter().filter_map(|part| if let [only] = part[..] { Some(only) } else { None }) {
                let _ = write!(svg, "<circle class=\"point {}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>", line.class);
            }
        }
        svg.push_str("</svg>");
        svg
    }

    /// The most and the latest of each line.
    fn words(&self) -> String {
        let mut words = String::new();
        for line in &self.lines {
            let known = || line.values.iter().flatten().copied();
            let (most, last) = (known().fold(0.0, f64::max), known().last());
            let _ = match last {
                Some(last) => {
                    write!(
                        words,
                        "{}: at most {}, last {}. ",
                        line.name,
                        label(most, self.unit),
                        label(last, self.unit)
                    )
                }
                None => write!(words, "{}: nothing is known. ", line.name),
            };
        }
        words.trim_end().to_owned()
    }
}

/// Values in a row as small bars, as high as the largest of them.
pub fn small(values: &[f64], words: &str) -> String {
    let most = values.iter().copied().fold(0.0, f64::max);
    let width = 4.0;
    let mut svg = format!(
        "<svg class=\"small\" viewBox=\"0 0 {:.0} 24\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}: at most {}\">",
        (values.len().max(1) as f64) * width,
        escaped(words),
        short(most),
    );
    for (at, value) in values.iter().enumerate().filter(|(_, value)| **value > 0.0) {
        let high = (value / most * 24.0).max(1.0);
        let _ = write!(
            svg,
            "<rect x=\"{:.0}\" y=\"{:.1}\" width=\"{:.0}\" height=\"{high:.1}\"/>",
            at as f64 * width,
            24.0 - high,
            width - 1.0,
        );
    }
    svg.push_str("</svg>");
    svg
}

/// Stretches without a gap.
fn parts(places: impl Iterator<Item = Option<(f64, f64)>>) -> Vec<Vec<(f64, f64)>> {
    let mut parts = vec![Vec::new()];
    for place in places {
        match (place, parts.last_mut()) {
            (Some(place), Some(part)) => part.push(place),
            (None, Some(part)) if !part.is_empty() => parts.push(Vec::new()),
            _ => {}
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

fn path(parts: &[Vec<(f64, f64)>]) -> String {
    let mut text = String::new();
    for part in parts {
        for (n, (x, y)) in part.iter().enumerate() {
            let _ = write!(text, "{}{x:.1} {y:.1}", if n == 0 { 'M' } else { 'L' });
        }
    }
    text
}

fn area(parts: &[Vec<(f64, f64)>], bottom: f64) -> String {
    let mut text = String::new();
    for part in parts {
        let (Some((first, _)), Some((last, _))) = (part.first(), part.last()) else { continue };
        let _ = write!(text, "M{first:.1} {bottom:.1}");
        for (x, y) in part {
            let _ = write!(text, "L{x:.1} {y:.1}");
        }
        let _ = write!(text, "L{last:.1} {bottom:.1}Z");
    }
    text
}

/// Round values from nothing to the first one that has room for all.
fn marks(most: f64, unit: Unit) -> Vec<f64> {
    let step = match unit {
        Unit::Count => decimal_step(most.max(1.0)).max(1.0),
        Unit::Span => time_step(most.max(10.0)),
    };
    let mut marks = vec![0.0];
    while marks.last().is_some_and(|last| *last < most.max(1.0)) && marks.len() <= MARKS + 1 {
        marks.push(step * marks.len() as f64);
    }
    marks
}

/// 1, 2 or 5 times a power of ten.
fn decimal_step(most: f64) -> f64 {
    let rough = most / MARKS as f64;
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|one| one * power).find(|step| *step >= rough).unwrap_or(10.0 * power)
}

/// What people count time in.
fn time_step(most_ms: f64) -> f64 {
    const STEPS: [i64; 14] = [
        SECOND_MS,
        2 * SECOND_MS,
        5 * SECOND_MS,
        10 * SECOND_MS,
        30 * SECOND_MS,
        MINUTE_MS,
        2 * MINUTE_MS,
        5 * MINUTE_MS,
        10 * MINUTE_MS,
        30 * MINUTE_MS,
        HOUR_MS,
        3 * HOUR_MS,
        6 * HOUR_MS,
        12 * HOUR_MS,
    ];
    let rough = most_ms / MARKS as f64;
    if rough <= SECOND_MS as f64 / 2.0 {
        return decimal_step(most_ms);
    }
    let known = STEPS.iter().map(|step| *step as f64).find(|step| *step >= rough);
    known.unwrap_or_else(|| decimal_step(most_ms / DAY_MS as f64).max(1.0) * DAY_MS as f64)
}

/// A value at an axis or in words.
fn label(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Count if value >= 1e6 => format!("{} M", short(value / 1e6)),
        Unit::Count if value >= 1e4 => format!("{} k", short(value / 1e3)),
        Unit::Count => short(value),
        Unit::Span => {
            let units = [(DAY_MS, "d"), (HOUR_MS, "h"), (MINUTE_MS, "min"), (SECOND_MS, "s")];
            match units.into_iter().find(|(size, _)| value >= *size as f64) {
                Some((size, name)) => format!("{} {name}", short(value / size as f64)),
                None => format!("{} ms", short(value)),
            }
        }
    }
}

/// With one decimal where it is one.
fn short(value: f64) -> String {
    let rounded = (value * 10.0).round() / 10.0;
    if rounded.fract() == 0.0 { format!("{rounded:.0}") } else { format!("{rounded:.1}") }
}

/// Round times between two, with their words, UTC.
fn times(from_ms: i64, until_ms: i64, most: i64) -> Vec<(i64, String)> {
    const STEPS: [(i64, &str); 11] = [
        (5 * MINUTE_MS, "%H:%M"),
        (10 * MINUTE_MS, "%H:%M"),
        (15 * MINUTE_MS, "%H:%M"),
        (HOUR_MS, "%H:%M"),
        (3 * HOUR_MS, "%H:%M"),
        (6 * HOUR_MS, "%H:%M"),
        (12 * HOUR_MS, "%a %H:%M"),
        (DAY_MS, "%a %-d"),
        (2 * DAY_MS, "%-d %b"),
        (5 * DAY_MS, "%-d %b"),
        (30 * DAY_MS, "%-d %b"),
    ];
    let span = until_ms - from_ms;
    let (step, words) = STEPS.into_iter().find(|(step, _)| span / step <= most).unwrap_or(STEPS[STEPS.len() - 1]);
    let first = (from_ms + step - 1).div_euclid(step) * step;
    let text = |at_ms: i64| {
        jiff::Timestamp::from_millisecond(at_ms).map(|at| at.strftime(words).to_string()).unwrap_or_default()
    };
    (0..=most).map(|n| first + n * step).filter(|at_ms| *at_ms <= until_ms).map(|at_ms| (at_ms, text(at_ms))).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: &[Option<f64>]) -> Chart {
        Chart {
            id: "flow",
            title: "Mail <in> an hour",
            unit: Unit::Count,
            from_ms: 0,
            step_ms: MINUTE_MS,
            lines: vec![Line { class: "s1", name: "accepted", values: values.to_vec() }],
            filled: true,
            width: 460.0,
        }
    }

    #[test]
    fn axes_have_round_numbers() {
        assert_eq!(marks(0.0, Unit::Count), [0.0, 1.0]);
        assert_eq!(marks(7.0, Unit::Count), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(marks(1_234.0, Unit::Count), [0.0, 500.0, 1_000.0, 1_500.0]);
        assert_eq!(marks(95.0, Unit::Span), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(marks(200_000.0, Unit::Span), [0.0, 60_000.0, 120_000.0, 180_000.0, 240_000.0]);
        for most in [0.3, 3.0, 17.0, 999.0, 1e4, 123_456.0, 9e7, 1e9] {
            for unit in [Unit::Count, Unit::Span] {
                let marks = marks(most, unit);
                assert!(marks.len() <= MARKS + 2 && marks.last().unwrap() >= &most, "{most} {unit:?}: {marks:?}");
            }
        }
    }

    #[test]
    fn values_are_told_as_people_say_them() {
        for (value, unit, text) in [
            (1_500.0, Unit::Count, "1500"),
            (25_000.0, Unit::Count, "25 k"),
            (2_500_000.0, Unit::Count, "2.5 M"),
            (250.0, Unit::Span, "250 ms"),
            (90_000.0, Unit::Span, "1.5 min"),
            (172_800_000.0, Unit::Span, "2 d"),
        ] {
            assert_eq!(label(value, unit), text);
        }
    }

    #[test]
    fn a_gap_stays_a_gap_and_one_value_alone_is_a_dot() {
        let svg = chart(&[Some(1.0), None, Some(2.0), Some(2.0)]).svg();
        let line = svg.split("class=\"line s1\" d=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        assert_eq!(line.matches('M').count(), 2, "{line}");
        assert_eq!((line.matches('L').count(), svg.matches("<circle").count()), (1, 1), "{line}");
        assert!(svg.contains("Mail &lt;in&gt; an hour") && svg.contains("accepted: at most 2, last 2."), "{svg}");
        assert!(!svg.contains("NaN") && !chart(&[]).svg().contains("NaN") && !chart(&[None]).svg().contains("NaN"));
    }

    #[test]
    fn times_are_round_and_few() {
        for (steps, step_ms) in [(60, MINUTE_MS), (96, 15 * MINUTE_MS), (168, HOUR_MS), (120, 6 * HOUR_MS)] {
            let from_ms = 1_767_571_260_000;
            let found = times(from_ms, from_ms + steps * step_ms, 8);
            assert!((4..=9).contains(&found.len()), "{steps} of {step_ms}: {found:?}");
        }
        assert_eq!(times(0, HOUR_MS, 8)[1].1, "00:10");
    }
}
