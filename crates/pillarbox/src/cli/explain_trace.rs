//! Pasted text cut into parts: a stack trace with its chain of causes, a conversation, a JSON answer, or a plain line.
//!
//! Cutting only; which words of a part matter is decided in [`super::explain_paste`].

use super::explain_program::spoken;

/// Lines that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// First line.
    pub from: usize,
    /// Behind the last line.
    pub to: usize,
    /// A trace or conversation: one failure in all of it. Otherwise each line is its own.
    pub whole: bool,
}

/// What a line is within a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Blank,
    /// A call in a stack.
    Frame,
    /// Leads over to the cause.
    Cause,
    /// Begins a trace by its words alone.
    Start,
    /// Of a conversation or a program's report of one.
    Spoken,
    /// Indented or bracketed: belongs to what stands above.
    More,
    Plain,
}

const CAUSES: &[&str] = &[
    "Caused by:",
    "[cause]:",
    "--->",
    "---> ",
    "During handling of the above exception",
    "The above exception was the direct cause",
    "Nested exception",
    "nested exception",
    "Suppressed:",
    "Next ",
    "--- End of",
    "--- Inner",
    "Stack trace:",
    "[previous exception]",
    "[stacktrace]",
];

const STARTS: &[&str] = &[
    "Traceback (most recent call last)",
    "Exception in thread",
    "Unhandled exception",
    "PHP Fatal error:",
    "Fatal error: Uncaught",
    "panic: ",
    "=== Trying ",
    "CONNECTED(0000",
    "thread 'main'",
];

/// Beginnings of lines that report one conversation: verbose curl, swaks, msmtp, telnet, openssl, Test-NetConnection.
const REPORTS: &[&str] = &[
    "* ",
    "*** ",
    "*   Trying",
    "=== ",
    "curl: (",
    "msmtp: ",
    "Trying ",
    "Connected to ",
    "Escape character",
    "telnet: ",
    "depth=",
    "verify error:",
    "verify return:",
    "Verify return code",
    "ComputerName ",
    "RemoteAddress ",
    "RemotePort ",
    "InterfaceAlias ",
    "SourceAddress ",
    "PingSucceeded ",
    "PingReplyDetails",
    "TcpTestSucceeded",
    "WARNING: TCP connect",
    "WARNING: Ping",
    "DEBUG SMTP:",
    "SMTP ERROR:",
    "SMTP Error:",
    "SMTP connect() failed",
    "PHP Warning:",
    "Connecting To ",
    " -> ",
    "<-  ",
    "<** ",
];

fn kind(line: &str) -> Kind {
    let trimmed = line.trim_start();
    let indented = trimmed.len() < line.len();
    let number = trimmed.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let frame = (indented
        && (trimmed.starts_with("at ") || trimmed.starts_with("from ") || trimmed.starts_with("File \"")))
        || (trimmed.starts_with("at ") && trimmed.contains('(') && trimmed.contains(':'))
        || number
        || trimmed.contains(":in `")
        || trimmed.contains(":in '")
        || trimmed.starts_with("goroutine ")
        || (trimmed.starts_with("... ") && trimmed.ends_with(" more"));
    match () {
        () if trimmed.is_empty() => Kind::Blank,
        () if frame => Kind::Frame,
        () if CAUSES.iter().any(|mark| trimmed.starts_with(mark)) => Kind::Cause,
        () if STARTS.iter().any(|mark| trimmed.contains(mark)) => Kind::Start,
        () if spoken(line).is_some() || REPORTS.iter().any(|mark| line.starts_with(mark)) => Kind::Spoken,
        () if indented || trimmed.starts_with(['{', '}', '[', ']']) => Kind::More,
        () => Kind::Plain,
    }
}

/// Cuts lines into parts, in order; together they are all of the lines.
pub fn cut(lines: &[&str]) -> Vec<Part> {
    let kinds: Vec<Kind> = lines.iter().map(|line| kind(line)).collect();
    let mut parts = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let to = whole(lines, &kinds, at);
        let whole = to.is_some();
        let to = to.unwrap_or(at + 1).max(at + 1);
        match parts.last_mut() {
            Some(Part { to: end, whole: false, .. }) if !whole => *end = to,
            _ => parts.push(Part { from: at, to, whole }),
        }
        at = to;
    }
    parts
}

/// Where the trace or conversation that begins here ends; `None` if none begins here.
fn whole(lines: &[&str], kinds: &[Kind], at: usize) -> Option<usize> {
    match kinds.get(at)? {
        Kind::Start => Some(trace_end(lines, kinds, at)),
        Kind::Spoken if run(kinds, at) >= 2 => Some(conversation_end(kinds, at)),
        Kind::Plain | Kind::More if begins_trace(lines, kinds, at) => Some(trace_end(lines, kinds, at)),
        Kind::More if lines.get(at)?.trim_start().starts_with('{') => object_end(lines, at),
        _ => None,
    }
}

fn run(kinds: &[Kind], at: usize) -> usize {
    kinds.iter().skip(at).take_while(|kind| matches!(kind, Kind::Spoken | Kind::More | Kind::Frame)).count()
}

/// A line of an error with a stack below, at most eight lines further on; lines between are of the same message.
fn begins_trace(lines: &[&str], kinds: &[Kind], at: usize) -> bool {
    let named = |line: &str| {
        ["Error", "Exception", "error:", "Failure", "failed", "Failed"].iter().any(|mark| line.contains(mark))
    };
    let Some(below) = kinds.iter().skip(at + 1).take(8).position(|kind| matches!(kind, Kind::Frame | Kind::Cause))
    else {
        // Node prints an error's members without a stack, too.
        return lines.get(at).is_some_and(|line| line.trim_end().ends_with('{') && named(line));
    };
    let between = kinds.get(at + 1..at + 1 + below).unwrap_or_default();
    // MailKit explains at length, in paragraphs.
    let paragraphs = lines.get(at).is_some_and(|line| line.contains("Exception: "));
    let quiet = between.iter().all(|kind| match kind {
        Kind::Plain | Kind::More | Kind::Spoken => true,
        Kind::Blank => paragraphs,
        _ => false,
    });
    // The line nearest to the stack that names an error is the start, if any does.
    let later = lines.get(at + 1..at + 1 + below).unwrap_or_default().iter().any(|line| named(line));
    quiet && !later && (named(lines.get(at).copied().unwrap_or_default()) || below == 0)
}

fn trace_end(lines: &[&str], kinds: &[Kind], start: usize) -> usize {
    let python = lines.get(start).is_some_and(|line| line.contains("Traceback"));
    let (mut at, mut stack_seen, mut plain_after) = (start + 1, false, 0);
    while let Some(kind) = kinds.get(at) {
        match kind {
            Kind::Frame | Kind::Cause => (stack_seen, plain_after) = (true, 0),
            Kind::More => {}
            Kind::Spoken => {}
            Kind::Start => {
                let chained = lines.get(..at).unwrap_or_default().iter().rev().find(|line| !line.trim().is_empty());
                if !chained.is_some_and(|line| kind_is_cause(line)) {
                    return at;
                }
                plain_after = 0;
            }
            Kind::Blank => {
                let next = kinds.iter().skip(at + 1).position(|kind| *kind != Kind::Blank).map(|more| at + 1 + more);
                let next = next.and_then(|next| kinds.get(next));
                let led_over = at.checked_sub(1).and_then(|above| kinds.get(above)) == Some(&Kind::Cause);
                let goes_on =
                    matches!(next, Some(Kind::Cause | Kind::Frame)) || (led_over && next == Some(&Kind::Start));
                if !goes_on {
                    return at;
                }
            }
            Kind::Plain => {
                let text = lines.get(at).copied().unwrap_or_default();
                let reply =
                    text.get(..3).is_some_and(|code| code.parse::<u16>().is_ok_and(|code| (200..600).contains(&code)));
                plain_after += 1;
                // Behind a stack, Python tells the exception; others are done.
                let allowed = if python { 12 } else { 0 };
                if stack_seen && plain_after > allowed && !reply && !text.starts_with("main.") {
                    return at;
                }
                if stack_seen && !python && begins_trace(lines, kinds, at) {
                    return at;
                }
            }
        }
        at += 1;
    }
    at
}

fn kind_is_cause(line: &str) -> bool {
    kind(line) == Kind::Cause
}

fn conversation_end(kinds: &[Kind], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(kind) = kinds.get(at) {
        let next = kinds.get(at + 1);
        match kind {
            Kind::Spoken | Kind::More | Kind::Frame => {}
            // One line that fits nowhere, in the middle of a conversation.
            Kind::Plain | Kind::Blank | Kind::Cause if next == Some(&Kind::Spoken) => {}
            _ => break,
        }
        at += 1;
    }
    at
}

/// The end of an object or JSON value whose brackets close within 200 lines.
fn object_end(lines: &[&str], start: usize) -> Option<usize> {
    let mut depth = 0_i64;
    for (more, line) in lines.get(start..)?.iter().take(200).enumerate() {
        depth += line.matches(['{', '[']).count() as i64 - line.matches(['}', ']']).count() as i64;
        if depth <= 0 {
            return Some(start + more + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<(usize, usize, bool)> {
        let lines: Vec<&str> = text.lines().collect();
        cut(&lines).iter().map(|part| (part.from, part.to, part.whole)).collect()
    }

    #[test]
    fn a_chain_of_python_exceptions_is_one_part() {
        let text = "log line\nTraceback (most recent call last):\n  File \"a.py\", line 1\n    x()\nOSError: no\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File \"b.py\", line 2\nsmtplib.X: (535, b'no')\n\nlater";
        assert_eq!(parts(text), [(0, 1, false), (1, 11, true), (11, 13, false)]);
    }

    #[test]
    fn two_traces_are_two_parts() {
        let java = "javax.mail.MessagingException: no;\n  nested exception is:\n\tjava.net.X: y\n\tat a.b(C.java:1)\nCaused by: java.net.X: y\n\tat a.b(C.java:2)\n\t... 5 more\n";
        let twice = format!("{java}{java}");
        assert_eq!(parts(&twice), [(0, 7, true), (7, 14, true)]);
    }

    #[test]
    fn plain_lines_stay_lines() {
        assert_eq!(parts("550 5.1.1 a\n\n451 b\n"), [(0, 3, false)]);
    }
}
