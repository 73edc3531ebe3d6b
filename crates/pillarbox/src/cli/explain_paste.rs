//! Pasted text: of each part the words that matter, found by unpacking all it holds and asking the rules which of them
//! they know best. The innermost reply wins over the library's sentence around it.

use explain::{Query, RuleBase, What};
use proto::smtp::reply::Reply;
use proto::transcript::Stage;

use super::explain_decode::{challenge, member, python_replies, reply_of, token_error, unescape};
use super::explain_program::{Spoken, call, recognise, spoken, stage_of};
use super::explain_trace::{Part, cut};

/// Most octets of a candidate.
const MAX_WORDS: usize = 8192;
/// Rules for sentences that tell no cause: any other words of the same part say more.
const VAGUE: &[&str] = &[
    "client-no-connection",
    "client-auth-without-words",
    "generic-timeout",
    "library-not-connected",
    "library-tls-failed",
    "library-certificate-invalid",
];
/// What a vague sentence counts less, so that it counts less than any other words.
const VAGUE_POINTS: i32 = -2000;
const VAGUE_BELOW: i32 = -500;
/// Most candidates of one part.
const MAX_CANDIDATES: usize = 400;

/// The words that matter of one part.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// The words.
    pub what: Found,
    /// Where it happened, if the text says so.
    pub stage: Option<Stage>,
    /// Library or program.
    pub program: Option<&'static str>,
    /// The call.
    pub call: Option<&'static str>,
    /// Part of something bigger: no finding in it is no news.
    pub whole: bool,
}

/// Words of a piece.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// A reply.
    Reply(Reply),
    /// A line.
    Line(String),
}

/// The pieces of a text, in order.
pub fn pieces(base: &RuleBase, provider: Option<&str>, text: &str) -> Vec<Piece> {
    let plain = without_colours(text);
    let lines: Vec<&str> = plain.lines().map(|line| line.trim_end().get(..).unwrap_or_default()).collect();
    let parts = cut(&lines);
    let any_whole = parts.iter().any(|part| part.whole);
    let program = recognise(&plain);
    let mut all = Vec::new();
    for part in parts {
        let of = lines.get(part.from..part.to).unwrap_or_default();
        match part {
            Part { whole: true, .. } => all.extend(best(base, provider, of, true)),
            Part { .. } => all.extend(separate(base, provider, of)),
        }
    }
    // Chatter around a trace is not a reply nobody knows.
    if any_whole || program.is_some() {
        let known = |piece: &Piece| score(base, provider, piece).0 > 0;
        if all.iter().any(known) {
            all.retain(|piece| known(piece) || (piece.whole && piece.is_error()));
            keep_causes(&mut all);
            let vague = |piece: &Piece| score(base, provider, piece).1 < VAGUE_BELOW;
            if !all.iter().all(vague) {
                all.retain(|piece| !vague(piece));
            }
        }
    }
    // A part of one program's output that does not name it.
    all.iter_mut().filter(|piece| piece.program.is_none()).for_each(|piece| piece.program = program);
    all
}

/// A line that says again what the trace below it says.
fn keep_causes(all: &mut Vec<Piece>) {
    let inside: Vec<String> = all.iter().filter(|piece| piece.whole).map(|piece| piece.what.words()).collect();
    all.retain(|piece| {
        piece.whole || !inside.iter().any(|words| words == &piece.what.words() || piece.what.words().contains(words))
    });
}

impl Piece {
    /// Its words name an error, so that not knowing it is news.
    fn is_error(&self) -> bool {
        let words = self.what.words();
        ["Error", "Exception", "rror:", "failed"].iter().any(|mark| words.contains(mark))
    }
}

impl Found {
    /// The words.
    pub fn words(&self) -> String {
        match self {
            Self::Reply(reply) => reply.lines.join(" "),
            Self::Line(line) => line.clone(),
        }
    }
}

/// Colours of a terminal are no words.
fn without_colours(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\u{1b}[") {
        out.push_str(rest.get(..at).unwrap_or_default());
        let tail = rest.get(at + 2..).unwrap_or_default();
        let end = tail.find(|c: char| c.is_ascii_alphabetic()).map_or(tail.len(), |end| end + 1);
        rest = tail.get(end..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// Lines on their own; those of one reply together.
fn separate(base: &RuleBase, provider: Option<&str>, lines: &[&str]) -> Vec<Piece> {
    let mut all = Vec::new();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        let used = reply_lines(lines.get(at..).unwrap_or_default());
        if used > 1 {
            let joined = lines
                .get(at..at + used)
                .unwrap_or_default()
                .iter()
                .map(|line| line.trim())
                .collect::<Vec<_>>()
                .join("\n");
            let code = joined.get(..3).and_then(|code| code.parse().ok());
            let reply = code.and_then(|code| reply_of(code, &joined));
            all.extend(reply.map(|reply| Piece {
                what: Found::Reply(reply),
                stage: None,
                program: None,
                call: None,
                whole: false,
            }));
        } else if !line.trim().is_empty() {
            all.extend(best(base, provider, &[line.trim()], false));
        }
        at += used.max(1);
    }
    all
}

/// How many lines one reply has from here; 0 or 1 where it is none, or of one line.
fn reply_lines(lines: &[&str]) -> usize {
    let mut code = None;
    for (n, line) in lines.iter().enumerate().take(100) {
        let line = line.trim();
        let digits = line.get(..3).filter(|digits| digits.parse::<u16>().is_ok_and(|code| (200..600).contains(&code)));
        let Some(digits) = digits.filter(|digits| code.is_none_or(|code| code == *digits)) else { return n };
        code = Some(digits);
        match line.as_bytes().get(3) {
            Some(b'-') => {}
            _ => return n + 1,
        }
    }
    lines.len().min(100)
}

/// Of all the words in these lines those that the rules know best.
fn best(base: &RuleBase, provider: Option<&str>, lines: &[&str], whole: bool) -> Option<Piece> {
    let text = lines.join("\n");
    let program = recognise(&text);
    let known_call = call(&text);
    let mut all: Vec<(Found, Option<Stage>)> = Vec::new();
    let stage = known_call.map(|(_, stage)| stage);
    packed(&text, stage, &mut all);
    conversation(lines, &mut all);
    if let Some(line) = lines.first().filter(|_| lines.len() == 1) {
        all.push((Found::Line((*line).to_owned()), None));
    }
    if whole || program.is_some() {
        sentences(lines, stage, &mut all);
    }
    all.truncate(MAX_CANDIDATES);
    let pieces = all.into_iter().map(|(what, stage)| Piece {
        what,
        stage,
        program,
        call: known_call.map(|(call, _)| call),
        whole,
    });
    // Of equals the last: causes stand below their effects.
    pieces.map(|piece| (score(base, provider, &piece), piece)).max_by_key(|(score, _)| *score).map(|(_, piece)| piece)
}

/// Words in wrappings: Python's tuples, members of objects, JSON, challenges.
fn packed(text: &str, stage: Option<Stage>, all: &mut Vec<(Found, Option<Stage>)>) {
    all.extend(python_replies(text).into_iter().map(|reply| (Found::Reply(reply), stage)));
    if let Some(said) = member(text, "response") {
        let code = said.get(..3).and_then(|code| code.parse().ok()).filter(|code| (200..600).contains(code));
        all.extend(code.and_then(|code| reply_of(code, &said)).map(|reply| (Found::Reply(reply), stage)));
    }
    all.extend(token_error(text).map(|words| (Found::Line(words), None)));
    all.extend(challenge(text).map(|json| (Found::Line(format!("334 {json}")), Some(Stage::Auth))));
}

/// What the server said in a conversation, with the stage of the command before.
fn conversation(lines: &[&str], all: &mut Vec<(Found, Option<Stage>)>) {
    let mut stage = None;
    let mut open: Option<(u16, String)> = None;
    for line in lines {
        match spoken(line) {
            Some(Spoken::Question(command)) => stage = stage_of(command),
            Some(Spoken::Answer(words)) => {
                let words = unescape(words.trim_end_matches(['\'', '"']));
                let Some(code) = words.get(..3).and_then(|code| code.parse::<u16>().ok()) else { continue };
                let text = match open.take() {
                    Some((same, text)) if same == code => format!("{text}\n{words}"),
                    _ => words.clone(),
                };
                if words.get(3..4) == Some("-") {
                    open = Some((code, text));
                } else if (400..600).contains(&code) || words.contains("eyJ") {
                    all.extend(reply_of(code, &text).map(|reply| (Found::Reply(reply), stage)));
                }
            }
            None => {}
        }
    }
    if let Some((code, text)) = open.filter(|(code, _)| (400..600).contains(code)) {
        all.extend(reply_of(code, &text).map(|reply| (Found::Reply(reply), stage)));
    }
}

/// Each line, and each with the lines of its reply below, without the wrappings of exceptions.
fn sentences(lines: &[&str], stage: Option<Stage>, all: &mut Vec<(Found, Option<Stage>)>) {
    for (n, line) in lines.iter().enumerate() {
        let trimmed = line.trim();
        if trimmed.is_empty() || is_frame(trimmed) || trimmed.len() > MAX_WORDS {
            continue;
        }
        let more = lines.iter().skip(n + 1).take(30).map(|line| line.trim()).take_while(|line| is_reply_line(line));
        let whole: Vec<&str> = std::iter::once(trimmed).chain(more).collect();
        let words = unescape(&whole.join("\n"));
        let bare = bare_message(&words);
        let stage = if has_code(bare) { stage } else { None };
        if bare.len() < words.len() {
            all.push((Found::Line(words.trim().to_owned()), stage));
        }
        all.push((Found::Line(bare.trim().to_owned()), stage));
    }
}

fn is_reply_line(line: &str) -> bool {
    line.get(..3).is_some_and(|code| code.parse::<u16>().is_ok_and(|code| (400..600).contains(&code)))
        && matches!(line.as_bytes().get(3), Some(b' ' | b'-'))
}

fn has_code(text: &str) -> bool {
    text.as_bytes().windows(4).any(|window| matches!(window, [b'4' | b'5', b'0'..=b'7', b'0'..=b'9', b' ' | b'-']))
}

/// Frames hold names of files and functions that look like words of failures.
fn is_frame(line: &str) -> bool {
    let file = line.starts_with("File \"")
        || line.starts_with("at ")
        || line.starts_with("from ")
        || line.starts_with("goroutine ");
    let number = line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    file || number
}

/// `Caused by: a.b.SomeException: words` → `words`; a name of a class says less than the words behind it.
fn bare_message(text: &str) -> &str {
    let mut rest =
        text.trim_start_matches("Caused by: ").trim_start_matches("---> ").trim_start_matches("nested exception is: ");
    for _ in 0..4 {
        let Some((head, tail)) = rest.split_once(": ") else { break };
        let class = head.rsplit([' ', '.', '\\', ':']).next().unwrap_or_default();
        let named = ["Error", "Exception", "Failure", "Refused", "Timeout"].iter().any(|end| class.ends_with(end));
        if !named && class != "error" && class != "Uncaught" || tail.is_empty() {
            break;
        }
        rest = tail;
    }
    rest
}

/// How well the rules know a piece: by words, by codes, not at all; then how precisely.
fn score(base: &RuleBase, provider: Option<&str>, piece: &Piece) -> (u8, i32) {
    let what = match &piece.what {
        Found::Reply(reply) => What::Reply(reply),
        Found::Line(line) => What::Text(line),
    };
    let query = Query { stage: piece.stage, provider, what };
    let Some(finding) = base.judge(&query) else { return (0, 0) };
    let coded = match &piece.what {
        Found::Reply(reply) => reply.code >= 400,
        Found::Line(line) => has_code(line),
    };
    let points = base.candidates(&query).first().map_or(0, |(score, _)| *score);
    match finding.is_by_class() {
        true if coded => (2, points),
        true => (1, points),
        // What the server said is the cause; what the library says about it is not. A tie of precision is broken so.
        false if VAGUE.contains(&finding.rule.as_str()) => (3, points + VAGUE_POINTS),
        false => (3, points + if coded { 60 } else { 0 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Piece {
        let mut all = pieces(RuleBase::builtin(), None, text);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    #[test]
    fn the_reply_inside_a_trace_is_found() {
        let piece = one(
            "Traceback (most recent call last):\n  File \"app.py\", line 3, in send\n    server.login(user, word)\n  File \"/usr/lib/python3.12/smtplib.py\", line 750, in login\n    raise last_exception\nsmtplib.SMTPAuthenticationError: (535, b'5.7.8 Username and Password not accepted.\\n5.7.8  https://support.google.com/mail/?p=BadCredentials x - gsmtp')\n",
        );
        assert_eq!((piece.program, piece.call), (Some("smtplib (Python)"), Some("login()")));
        assert!(matches!(&piece.what, Found::Reply(reply) if reply.code == 535 && reply.lines.len() == 2), "{piece:?}");
    }

    #[test]
    fn plain_replies_are_pieces_of_their_own() {
        let all = pieces(RuleBase::builtin(), None, "550-5.1.1 a\n550 5.1.1 b\n\nnothing of the kind\n451 4.7.1 c");
        assert_eq!(all.len(), 3, "{all:?}");
        assert!(matches!(&all[0].what, Found::Reply(reply) if reply.lines.len() == 2));
        assert_eq!(all[1].what, Found::Line("nothing of the kind".into()));
    }

    #[test]
    fn names_of_classes_are_taken_off_messages() {
        for (text, bare) in [
            ("Caused by: java.net.ConnectException: Connection refused", "Connection refused"),
            ("javax.mail.MessagingException: Could not connect: x", "Could not connect: x"),
            ("550 5.1.1 <a@b.example>: no", "550 5.1.1 <a@b.example>: no"),
            ("Error: Invalid login: 535 no", "Invalid login: 535 no"),
        ] {
            assert_eq!(bare_message(text), bare);
        }
    }

    /// Files of pasted texts, each with a line `#### rule | program` above it.
    #[test]
    fn pasted_traces_of_many_programs_lead_to_their_rule() {
        let base = RuleBase::builtin();
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pasted");
        let (mut count, mut wrong) = (0, Vec::new());
        for entry in std::fs::read_dir(directory).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            for case in format!("\n{text}").split("\n#### ").skip(1) {
                let (head, body) = case.split_once('\n').unwrap();
                let (rule, program) = head.split_once(" | ").unwrap();
                count += 1;
                let found = pieces(base, None, body);
                let rules: Vec<String> = found.iter().map(|piece| rule_of(base, piece)).collect();
                let programs: Vec<&str> = found.iter().map(|piece| piece.program.unwrap_or("-")).collect();
                if rules.is_empty()
                    || rules.iter().any(|found| found != rule)
                    || programs.iter().any(|found| *found != program)
                {
                    wrong.push(format!("{head}: {rules:?} {programs:?}\n{body}"));
                }
            }
        }
        assert!(count >= 100, "{count}");
        assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    }

    fn rule_of(base: &RuleBase, piece: &Piece) -> String {
        let what = match &piece.what {
            Found::Reply(reply) => What::Reply(reply),
            Found::Line(line) => What::Text(line),
        };
        base.judge(&Query { stage: piece.stage, provider: None, what }).map(|finding| finding.rule).unwrap_or_default()
    }
}
