//! What single values mean: durations, sizes, addresses, choices. Pure.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use net::cidr::Cidr;

use super::keys::Shape;
use super::raw::Typed;

/// A value that fits its shape.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text, name, host, path or choice.
    Text(String),
    /// A count, or a size in octets.
    Number(u64),
    /// A duration.
    Duration(Duration),
    /// Several.
    Durations(Vec<Duration>),
    /// An address with a port.
    Socket(SocketAddr),
    /// Several.
    Sockets(Vec<SocketAddr>),
    /// Networks.
    Networks(Vec<Cidr>),
    /// How much suppresses; none: nothing does.
    Threshold(Option<Threshold>),
    /// Where a rate warns and stops, in millionths; none: nowhere.
    Rates(Option<(u32, u32)>),
}

/// Understands a value; the error says what would be right, never what stood there if it might be a secret.
pub fn understand(shape: Shape, typed: &Typed) -> Result<Value, String> {
    if let Typed::Other(kind) = typed {
        return Err(format!("expected {}, not {kind}", expected(shape)));
    }
    match (shape, typed) {
        (Shape::Text, Typed::Text(text)) => Ok(Value::Text(text.clone())),
        (Shape::Path, Typed::Text(text)) if !text.is_empty() => Ok(Value::Text(text.clone())),
        (Shape::Name, Typed::Text(text)) if is_name(text) => Ok(Value::Text(text.clone())),
        (Shape::Host, Typed::Text(text)) => host(text).map(Value::Text),
        (Shape::Address, Typed::Text(text)) => match proto::Address::parse(text.trim()) {
            Ok(address) => Ok(Value::Text(address.to_string())),
            Err(_) => Err(format!("expected {}", expected(shape))),
        },
        (Shape::Choice(words), Typed::Text(text)) if words.contains(&text.as_str()) => Ok(Value::Text(text.clone())),
        (Shape::Count(low, high), Typed::Integer(number)) => within(u64::try_from(*number).ok(), low, high, shape),
        (Shape::Count(low, high), Typed::Text(text)) => within(text.trim().parse().ok(), low, high, shape),
        (Shape::Size(low, high), Typed::Integer(number)) => within(u64::try_from(*number).ok(), low, high, shape),
        (Shape::Size(low, high), Typed::Text(text)) => within(size(text), low, high, shape),
        (Shape::Duration(low, high), Typed::Text(text)) => match duration(text) {
            Some(value) if (low * 1000..=high * 1000).contains(&(value.as_millis() as u64)) => {
                Ok(Value::Duration(value))
            }
            _ => Err(format!("expected {}", expected(shape))),
        },
        (Shape::Socket, Typed::Text(text)) => match text.trim().parse() {
            Ok(address) => Ok(Value::Socket(address)),
            Err(_) => Err(format!("expected {}", expected(shape))),
        },
        (Shape::Durations, list) => each(shape, list, duration).and_then(|all| match all.is_empty() {
            true => Err("expected at least one duration".into()),
            false => Ok(Value::Durations(all)),
        }),
        (Shape::Servers, list) => each(shape, list, server).map(Value::Sockets),
        (Shape::Threshold, Typed::Text(text)) => match text.trim() {
            "off" => Ok(Value::Threshold(None)),
            text => match threshold(text) {
                Some(threshold) => Ok(Value::Threshold(Some(threshold))),
                None => Err(format!("expected {}", expected(shape))),
            },
        },
        (Shape::Rates, Typed::Text(text)) => match text.trim() {
            "off" => Ok(Value::Rates(None)),
            text => match rates(text) {
                Some(rates) => Ok(Value::Rates(Some(rates))),
                None => Err(format!("expected {}", expected(shape))),
            },
        },
        (Shape::Networks, list) => each(shape, list, |text| text.parse().ok()).map(Value::Networks),
        _ => Err(format!("expected {}", expected(shape))),
    }
}

fn within(number: Option<u64>, low: u64, high: u64, shape: Shape) -> Result<Value, String> {
    number
        .filter(|number| (low..=high).contains(number))
        .map(Value::Number)
        .ok_or_else(|| format!("expected {}", expected(shape)))
}

/// The items of an array, or of a comma-separated environment variable.
fn each<T>(shape: Shape, list: &Typed, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
    let wrong = || format!("expected {}", expected(shape));
    match list {
        Typed::Text(text) => text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(|item| parse(item).ok_or_else(wrong))
            .collect(),
        Typed::List(items) => items
            .iter()
            .map(|item| match item {
                Typed::Text(text) => parse(text.trim()).ok_or_else(wrong),
                _ => Err(wrong()),
            })
            .collect(),
        _ => Err(wrong()),
    }
}

/// What a shape takes, in words.
pub fn expected(shape: Shape) -> String {
    match shape {
        Shape::Text => "a text".into(),
        Shape::Name => "a name of 1 to 64 characters of a-z 0-9 . _ -".into(),
        Shape::Host => "a host name such as mail.example.com".into(),
        Shape::Address => "a mail address such as user@example.com".into(),
        Shape::Path => "a path".into(),
        Shape::Count(low, high) => format!("a whole number from {low} to {high}"),
        Shape::Duration(low, high) => {
            let [low, high] = [low, high].map(|seconds| show_duration(Duration::from_secs(seconds)));
            format!("a duration from {low} to {high}, such as \"90s\", \"10m\" or \"5d\"")
        }
        Shape::Durations => "a list of durations such as [\"1m\", \"10m\"]".into(),
        Shape::Size(low, high) => {
            format!("a size from {} to {}, such as 4096 or \"25 MiB\"", show_size(low), show_size(high))
        }
        Shape::Socket => "an address with a port, such as \"127.0.0.1:2525\" or \"[::1]:2525\"".into(),
        Shape::Servers => "a list of addresses such as [\"192.0.2.53\", \"[2001:db8::53]:5353\"]".into(),
        Shape::Networks => "a list of addresses or networks such as [\"192.0.2.1\", \"2001:db8::/32\"]".into(),
        Shape::Threshold => {
            "days, a time and a time such as \"2 in 30d, for 180d\" or \"1 in 1d, for ever\" (at most 90 days), or \"off\"".into()
        }
        Shape::Rates => "two percentages, the first smaller, such as \"2%, 5%\", or \"off\"".into(),
        Shape::Choice(words) => {
            format!("one of {}", words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", "))
        }
    }
}

/// How much suppresses an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold {
    /// On how many different days.
    pub need: u32,
    /// Within how many days.
    pub within_days: u32,
    /// For how many days; none: for ever.
    pub keep_days: Option<u32>,
}

/// `2 in 30d, for 180d`.
fn threshold(text: &str) -> Option<Threshold> {
    let (count, rest) = text.split_once(" in ")?;
    let (within, keep) = rest.split_once(", for ")?;
    let days = |text: &str| {
        let seconds = duration(text)?.as_secs();
        let days = u32::try_from(seconds / 86_400).ok()?;
        (days > 0 && seconds % 86_400 == 0).then_some(days)
    };
    let within_days = days(within).filter(|days| *days <= store::STRIKE_DAYS)?;
    let need = count.trim().parse().ok().filter(|need| (1..=within_days).contains(need))?;
    let keep_days = if keep.trim() == "ever" { None } else { Some(days(keep)?) };
    Some(Threshold { need, within_days, keep_days })
}

/// `2%, 5%`, in millionths.
fn rates(text: &str) -> Option<(u32, u32)> {
    let (warn, stop) = text.split_once(',')?;
    let millionths = |text: &str| {
        let number: f64 = text.trim().strip_suffix('%')?.trim().parse().ok()?;
        (number > 0.0 && number <= 100.0).then_some((number * 10_000.0).round() as u32)
    };
    let (warn, stop) = (millionths(warn)?, millionths(stop)?);
    (0 < warn && warn <= stop).then_some((warn, stop))
}

/// 1 to 64 characters of `a-z 0-9 . _ -`, as the store wants names.
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|octet| matches!(octet, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
}

fn host(text: &str) -> Result<String, String> {
    match proto::address::parse_domain(text.trim()) {
        Ok(domain) if !domain.starts_with('[') => Ok(domain),
        _ => Err(format!("expected {}", expected(Shape::Host))),
    }
}

fn server(text: &str) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, 53)))
}

/// `90s`, `1h30m`, `5d`, `500ms`; a bare number has no meaning but 0.
pub fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.checked_mul(unit)?))?;
        rest = rest[letters..].trim_start();
    }
    (!text.is_empty()).then_some(total)
}

/// `4096`, `25 MiB`, `64k`, `1GB`: units of 1,024 with `i` or without `B`, of 1,000 with a bare `B`.
pub fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit: u64 = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// The shortest way to write a duration with at most two units.
pub fn show_duration(value: Duration) -> String {
    let ms = value.as_millis() as u64;
    if ms == 0 {
        return "0s".into();
    }
    let mut rest = ms;
    let mut text = String::new();
    for (unit, length) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if rest >= length {
            text.push_str(&format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    text
}

/// `25 MiB` where it is even, octets otherwise.
pub fn show_size(octets: u64) -> String {
    for (unit, length) in [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if octets >= length && octets.is_multiple_of(length) {
            return format!("{} {unit}", octets / length);
        }
    }
    format!("{octets} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_may_have_several() {
        for (text, ms) in
            [("90s", 90_000), ("5d", 432_000_000), ("1h30m", 5_400_000), ("500ms", 500), ("10 m", 600_000), ("0", 0)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "90", "5y", "m", "-1s", "1.5h", "99999999999999999999s", "9999999999999999999d"] {
            assert_eq!(duration(text), None, "{text}");
        }
        assert_eq!(show_duration(Duration::from_secs(5_400)), "1h30m");
        assert_eq!(show_duration(Duration::from_secs(432_000)), "5d");
    }

    #[test]
    fn thresholds_and_rates_say_what_they_mean_or_are_off() {
        let threshold = |text: &str| understand(Shape::Threshold, &Typed::Text(text.into()));
        let wanted = Threshold { need: 2, within_days: 30, keep_days: Some(180) };
        assert_eq!(threshold("2 in 30d, for 180d"), Ok(Value::Threshold(Some(wanted))));
        let wanted = Threshold { need: 1, within_days: 1, keep_days: None };
        assert_eq!(threshold("1 in 1d, for ever"), Ok(Value::Threshold(Some(wanted))));
        assert_eq!(threshold("off"), Ok(Value::Threshold(None)));
        for text in [
            "",
            "2 in 30d",
            "0 in 30d, for 1d",
            "31 in 30d, for 1d",
            "2 in 91d, for 1d",
            "2 in 36h, for 1d",
            "2 in 30d, for 0d",
        ] {
            assert!(threshold(text).is_err(), "{text}");
        }
        let rates = |text: &str| understand(Shape::Rates, &Typed::Text(text.into()));
        assert_eq!(rates("0.1%, 0.5%"), Ok(Value::Rates(Some((1_000, 5_000)))));
        assert_eq!(rates("off"), Ok(Value::Rates(None)));
        for text in ["2%", "5%, 2%", "0%, 2%", "2, 5", "2%, 101%", "x%, y%"] {
            assert!(rates(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_know_both_families_of_units() {
        for (text, octets) in
            [("4096", 4096), ("25 MiB", 25 << 20), ("64k", 65_536), ("1GB", 1_000_000_000), ("2 gib", 2 << 30)]
        {
            assert_eq!(size(text), Some(octets), "{text}");
        }
        for text in ["", "MiB", "1.5 MiB", "-1", "10 TiB", "99999999999 GiB"] {
            assert_eq!(size(text), None, "{text}");
        }
        assert_eq!(show_size(25 << 20), "25 MiB");
        assert_eq!(show_size(1000), "1000 B");
    }

    #[test]
    fn a_name_server_may_leave_its_port_out() {
        assert_eq!(server("192.0.2.53"), Some("192.0.2.53:53".parse().unwrap()));
        assert_eq!(server("[2001:db8::53]:5353"), Some("[2001:db8::53]:5353".parse().unwrap()));
        assert_eq!(server("dns.example"), None);
    }
}
