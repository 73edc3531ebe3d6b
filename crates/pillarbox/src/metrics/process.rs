//! The process as the kernel sees it, under the names that all exporters use.

use relay::metrics::{Figure, Kind, Value};

/// Clock ticks a second in `/proc`; the same on all Linux systems.
const TICKS: f64 = 100.0;

/// Memory, time, files. What cannot be read is left out.
pub(super) fn figures(started_ms: i64) -> Vec<Figure> {
    let mut all = vec![Figure::level(
        "process_start_time_seconds",
        "Start of the process, seconds since 1970.",
        started_ms as f64 / 1e3,
    )];
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    // `VmRSS:     12345 kB`
    let octets = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_ascii_whitespace().next()?.parse::<f64>().ok()? * 1_024.0)
    };
    let memory = [
        ("VmSize:", "process_virtual_memory_bytes", "Address space of the process."),
        ("VmRSS:", "process_resident_memory_bytes", "Memory of the process."),
    ];
    all.extend(memory.into_iter().filter_map(|(line, name, help)| Some(Figure::level(name, help, octets(line)?))));
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may have spaces: state is the third field, user and system time are the 14th and 15th.
    let fields: Vec<f64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_ascii_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect())
        .unwrap_or_default();
    if let (Some(user), Some(system), Some(threads)) = (fields.get(10), fields.get(11), fields.get(16)) {
        let cpu = Figure::new(Kind::Counter, "process_cpu_seconds", "Processor time used.");
        all.push(cpu.with(Vec::new(), Value::Sum((user + system) / TICKS)));
        all.push(Figure::level("process_threads", "Threads of the process.", *threads));
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        // The directory itself is one of them.
        let open = files.count().saturating_sub(1);
        all.push(Figure::level("process_open_fds", "Open files and sockets.", open as f64));
    }
    let most = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let most = most.lines().find_map(|line| line.strip_prefix("Max open files"));
    if let Some(most) = most.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()) {
        all.push(Figure::level("process_max_fds", "Most open files and sockets.", most));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_of_memory_time_and_files() {
        let all = figures(1_700_000_000_000);
        let value = |name: &str| match all.iter().find(|figure| figure.name == name)?.points.first()?.value {
            Value::Level(level) | Value::Sum(level) => Some(level),
            _ => None,
        };
        assert!(value("process_resident_memory_bytes").is_some_and(|bytes| bytes > 1e6), "{all:?}");
        assert!(value("process_cpu_seconds").is_some_and(|seconds| (0.0..3_600.0).contains(&seconds)), "{all:?}");
        assert!(value("process_open_fds").is_some_and(|files| files >= 3.0), "{all:?}");
        assert!(value("process_max_fds") > value("process_open_fds"), "{all:?}");
        assert!(value("process_threads").is_some_and(|threads| threads >= 1.0), "{all:?}");
    }
}
