//! The words of a report that has no machine-readable part: recipients, and what is said about each.
//!
//! Forms differ in wording and agree in shape: a line that begins with an address, a label before it, or the commands
//! and replies of a session. The surest shape that is there decides.

mod phrases;

use memchr::memmem;

use self::phrases::{COPY, HELPERS, LABELS, OTHERS, REASONS};
use super::codes::{address_at, addresses_in, code_at, codes_in, enhanced_at};
use super::words::{Line, MAX_DIAGNOSTIC, lines, one_line};

/// A recipient and the words about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) address: String,
    /// The address before aliases, where the words tell it.
    pub(super) alias: Option<String>,
    pub(super) words: String,
    pub(super) sure: Sure,
}

/// Which shape told it, the surest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sure {
    /// An address somewhere in a sentence.
    Mentioned,
    /// In the words of a reply.
    InReply,
    /// In a command of a session.
    InCommand,
    /// Behind a label, or at the start of a line.
    Named,
}

/// Cuts a text into the words of the report and what came back.
pub(super) fn split_copy<'a>(text: &'a str, lower: &str) -> (&'a str, &'a str) {
    let words_begin = lower.len() - lower.trim_start().len();
    let first_line =
        words_begin + memchr::memchr(b'\n', &lower.as_bytes()[words_begin..]).unwrap_or(lower.len() - words_begin);
    let mut end = top_of_mail(lower, first_line).unwrap_or(lower.len());
    for phrase in COPY {
        let within = &lower.as_bytes()[..end];
        for at in memmem::find_iter(within, phrase.as_bytes()) {
            let (start, line) = line_around(lower, at);
            if start > first_line && is_border(line.trim()) {
                end = start;
                break;
            }
        }
    }
    (&text[..end], &text[end..])
}

/// The line at an offset, and where it starts.
fn line_around(text: &str, at: usize) -> (usize, &str) {
    let start = memchr::memrchr(b'\n', &text.as_bytes()[..at]).map_or(0, |end| end + 1);
    let end = memchr::memchr(b'\n', &text.as_bytes()[at..]).map_or(text.len(), |end| at + end);
    (start, &text[start..end])
}

/// Where, after an empty line, fields begin that only a mail has.
fn top_of_mail(lower: &str, from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(found) = memmem::find(&lower.as_bytes()[at..], b"\n\n") {
        let start = at + found + 2;
        let line =
            &lower[start..start + memchr::memchr(b'\n', &lower.as_bytes()[start..]).unwrap_or(lower.len() - start)];
        if is_top_of_mail(line.trim()) {
            return Some(start);
        }
        at = start - 1;
    }
    None
}

/// A line that holds one of the phrases: sentences and log lines of the session are no border.
fn is_border(bare: &str) -> bool {
    bare.len() < 160
        && !bare.contains("attached to")
        && !bare.starts_with("<<<")
        && !bare.starts_with("550")
        && !bare.contains("mts-id")
        && !bare.contains("the original message was received")
}

/// Fields that begin a returned mail, after an empty line.
fn is_top_of_mail(bare: &str) -> bool {
    (bare.starts_with("received: from ")
        || bare.starts_with("received: by ")
        || bare.starts_with("received: (")
        || bare.starts_with("return-path: <")
        || bare.starts_with(">received: ")
        || bare.starts_with(">return-path: ")
        || bare.starts_with("dkim-signature: "))
        && !bare.ends_with('.')
}

/// All recipients the words name, by the surest shape that is there.
pub(super) fn recipients(notice: &str, lower: &str, not: &[String]) -> Vec<Said> {
    let lines = lines(notice, lower);
    let mut found: Vec<Said> = Vec::new();
    // Line numbers of the recipients, to see whose words follow.
    let mut places: Vec<(usize, usize, Sure)> = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let Some((address, alias, rest, sure)) = recipient_of(line) else { continue };
        let foreign = not.iter().any(|other| other.eq_ignore_ascii_case(address)) && sure < Sure::Named;
        if foreign || found.len() >= super::MAX_RECIPIENTS {
            continue;
        }
        match found.iter().position(|said| said.address.eq_ignore_ascii_case(address)) {
            Some(index) => {
                found[index].sure = found[index].sure.max(sure);
                if found[index].words.is_empty() && sure >= Sure::InCommand {
                    found[index].words = one_line(rest, MAX_DIAGNOSTIC);
                    places.push((number, index, sure));
                }
            }
            None => {
                places.push((number, found.len(), sure));
                let words = one_line(rest, MAX_DIAGNOSTIC);
                found.push(Said { address: address.to_owned(), alias: alias.map(str::to_owned), words, sure });
            }
        }
    }
    let Some(surest) = found.iter().map(|said| said.sure).max() else { return found };
    places.retain(|place| place.2 >= surest.min(Sure::InCommand));
    for (nth, &(number, index, _)) in places.iter().enumerate() {
        let next = places.get(nth + 1).map_or(lines.len(), |next| next.0);
        let follow = following(&lines[number + 1..next.max(number + 1)], found[index].words.is_empty());
        let said = &mut found[index];
        if said.alias.is_none() {
            said.alias = alias_in(&lines[number..next.max(number + 1)]);
        }
        if !follow.is_empty() {
            let joined = format!("{} {follow}", said.words);
            said.words = one_line(&joined, MAX_DIAGNOSTIC);
        }
    }
    found.retain(|said| said.sure == surest);
    without_aliases(&mut found);
    share(&mut found);
    found
}

/// A recipient in a line: address, alias, the words behind it, how sure.
fn recipient_of<'a>(line: &Line<'a>) -> Option<(&'a str, Option<&'a str>, &'a str, Sure)> {
    if memchr::memchr(b'@', line.text.as_bytes()).is_none() || line.text.len() > 2000 {
        return None;
    }
    let lower = line.lower;
    if OTHERS.iter().any(|start| lower.starts_with(start)) {
        return None;
    }
    if ["(generated from", "(ultimately generated from", "(expanded from", "to:"]
        .iter()
        .any(|start| lower.starts_with(start))
    {
        // Surer lines tell the recipient itself; these only where it is hidden.
        let (_, address) = addresses_in(line.text).into_iter().next()?;
        return Some((address, None, "", Sure::InReply));
    }
    if let Some(found) = leading(line) {
        return Some(found);
    }
    if let Some((address, rest)) = command(line) {
        return Some((address, None, rest, Sure::InCommand));
    }
    if HELPERS.iter().any(|helper| lower.contains(helper)) && !lower.contains("smtp:") {
        return None;
    }
    let is_reply = code_at(line.text.trim_start_matches(['<', '>', '#', ' '])).is_some();
    if !is_reply && let Some((address, rest)) = labelled(line) {
        return Some((address, None, rest, Sure::Named));
    }
    let (_, address) = addresses_in(line.text).into_iter().next()?;
    let sure = if is_reply || codes_in(line.text).0.is_some() { Sure::InReply } else { Sure::Mentioned };
    Some((address, None, if is_reply || line.text.len() > address.len() + 4 { line.text } else { "" }, sure))
}

/// A line that begins with an address, maybe behind a bullet, and not with a sentence about somebody.
fn leading<'a>(line: &Line<'a>) -> Option<(&'a str, Option<&'a str>, &'a str, Sure)> {
    let bare = line.text.trim_start_matches(['<', '>', '*', '-', '"', '\'', '[', '\u{2022}', ' ', '\t', '=']);
    let bare = if bare.len() >= 5 && line.text.len() >= 5 && bare.as_bytes()[..5].eq_ignore_ascii_case(b"smtp:") {
        &bare[5..]
    } else {
        bare
    };
    let end = address_at(bare)?;
    let (address, rest) = bare.split_at(end);
    if HELPERS.iter().any(|helper| line.lower.starts_with(helper)) {
        return None;
    }
    let rest = rest.trim_start_matches(['>', '"', '\'', ']']);
    // `a@b<mailto:a@b>` of converted HTML.
    let rest = match rest.strip_prefix("<mailto:") {
        Some(link) => link.split_once('>').map_or("", |(_, rest)| rest),
        None => rest,
    };
    let alias = rest.trim_start().strip_prefix('<').and_then(|other| address_at(other).map(|end| &other[..end]));
    let alias = alias.filter(|other| !other.eq_ignore_ascii_case(address));
    let rest = rest.trim_start_matches([':', ';', ',', ' ', '\t', '=', '-', '.', '*']);
    Some((address, alias, rest, Sure::Named))
}

/// `>>> RCPT To:<a@b>` and its likes.
fn command<'a>(line: &Line<'a>) -> Option<(&'a str, &'a str)> {
    let at = line.lower.find("rcpt to:")?;
    let rest = line.text[at + 8..].trim_start_matches([' ', '<', '"']);
    let end = address_at(rest)?;
    let after = rest[end..].trim_start_matches(['>', '"', ' ', ':', '.', ',']);
    Some((&rest[..end], after))
}

fn labelled<'a>(line: &Line<'a>) -> Option<(&'a str, &'a str)> {
    for label in LABELS {
        let Some(at) = line.lower.find(label) else { continue };
        let starts = at == 0 || !line.lower.as_bytes()[at - 1].is_ascii_alphanumeric();
        let open = line.lower.as_bytes().get(at + label.len()).is_some_and(u8::is_ascii_alphanumeric);
        if !starts || (open && !label.ends_with([':', '='])) {
            continue;
        }
        let rest = &line.text[at + label.len()..];
        let found = addresses_in(rest);
        // The label's recipient stands close behind it.
        if let Some((start, address)) = found.first().filter(|(start, _)| close(&rest[..*start])) {
            let after = rest[start + address.len()..]
                .trim_start_matches(['>', ']', '"', '\'', ':', ',', ';', ' ', '*', ')', '.']);
            let words = if codes_in(line.text).0.is_some() && after.len() < 12 { line.text } else { after };
            // The sentence itself may say what is wrong: `user's mailbox is full: <a@b>`.
            let words = if words.is_empty() && !label.ends_with(" to") && at + label.len() > 24 {
                &line.text[..at + label.len()]
            } else {
                words
            };
            return Some((address, words));
        }
    }
    None
}

/// Whether nothing but articles stands between a label and an address.
fn close(gap: &str) -> bool {
    const ARTICLES: &[&str] = &[
        "smtp",
        "the",
        "user",
        "recipient",
        "recipients",
        "mailbox",
        "address",
        "addresses",
        "following",
        "your",
        "s",
        "local",
        "mail",
        "e",
    ];
    let mut words = gap.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    gap.len() < 60 && words.all(|word| ARTICLES.iter().any(|article| word.eq_ignore_ascii_case(article)))
}

/// The words behind a recipient: the first paragraph, or the next one where the first is empty or only announces.
fn following(lines: &[Line<'_>], nothing_yet: bool) -> String {
    let mut words = String::new();
    let mut wanted = nothing_yet;
    let mut paragraphs = 0;
    for line in lines {
        if line.text.is_empty() {
            if !words.is_empty() {
                paragraphs += 1;
                // A paragraph that holds a code says it all; one that ends with a colon announces the next.
                let complete = {
                    let (code, status) = codes_in(&words);
                    code.is_some() || status.is_some()
                };
                if complete || paragraphs >= 4 || words.len() > 1200 {
                    break;
                }
            } else if !wanted {
                break;
            }
            continue;
        }
        let rule = line.text.chars().all(|c| matches!(c, '-' | '=' | '_' | '*' | '#' | '|' | '+'));
        let heading = line.text.starts_with("---") && line.text.ends_with("---");
        if rule || heading {
            if !words.is_empty() {
                break;
            }
            continue;
        }
        let alias = line.text.starts_with('(') && line.lower.contains(" from") && line.text.contains('@');
        if alias && (line.lower.contains("generated from") || line.lower.contains("expanded from")) {
            wanted = true;
            continue;
        }
        if paragraphs > 0 && is_farewell(line.lower) {
            break;
        }
        wanted = true;
        if words.len() < MAX_DIAGNOSTIC {
            words.push(' ');
            words.push_str(line.text);
        }
    }
    words.trim().to_owned()
}

fn is_farewell(lower: &str) -> bool {
    [
        "no action is required",
        "for further assistance",
        "please reply to",
        "please contact",
        "if you",
        "system contact",
        "this is a permanent",
    ]
    .iter()
    .any(|start| lower.starts_with(start))
}

/// `(expanded from: <a@b>)`, `(generated from a@b)`, `(ultimately generated from a@b)`.
fn alias_in(lines: &[Line<'_>]) -> Option<String> {
    let line = lines
        .iter()
        .take(3)
        .find(|line| line.lower.contains("expanded from") || line.lower.contains("generated from"))?;
    let at = line.lower.find(" from")?;
    addresses_in(&line.text[at..]).first().map(|(_, address)| (*address).to_owned())
}

/// A recipient that is only the alias of another one is no recipient of its own.
fn without_aliases(found: &mut Vec<Said>) {
    let aliases: Vec<String> = found.iter().filter_map(|said| said.alias.clone()).collect();
    if aliases.len() < found.len() {
        found.retain(|said| {
            said.alias.is_some() || !aliases.iter().any(|alias| alias.eq_ignore_ascii_case(&said.address))
        });
    }
}

/// In a list of addresses with the words at its end, the words are about all of them.
fn share(found: &mut [Said]) {
    let mut below: Option<String> = None;
    for said in found.iter_mut().rev() {
        if said.words.is_empty() {
            said.words = below.clone().unwrap_or_default();
        } else {
            below = Some(said.words.clone());
        }
    }
}

/// What a server said, for a recipient without words of its own: the replies of the session about it, or the first
/// refusal there is, or the words behind a label such as `Reason:`; empty if there is none.
pub(super) fn reply_about(notice: &str, lower: &str, address: &str) -> String {
    let lines = lines(notice, lower);
    let address = address.to_ascii_lowercase();
    let refusals = || {
        lines.iter().enumerate().filter(|(_, line)| {
            let bare = line.text.trim_start_matches(['<', '>', '#', '(', '"', ' ']);
            let bare = bare.strip_prefix("reason: ").or_else(|| bare.strip_prefix("Received >>> ")).unwrap_or(bare);
            code_at(bare).is_some() || enhanced_at(bare).is_some()
        })
    };
    let joined = |number: usize| {
        let mut words = String::new();
        for (nth, line) in lines[number..].iter().take(12).enumerate() {
            let next_reply = nth > 0
                && (line.text.starts_with(">>>")
                    || line.text.starts_with("---")
                    || line.text.is_empty()
                    || line.text.starts_with("..."));
            if next_reply {
                break;
            }
            words.push(' ');
            words.push_str(line.text.trim_start_matches(['<', '>', ' ', '#']));
        }
        one_line(&words, MAX_DIAGNOSTIC)
    };
    let mine = refusals().find(|(_, line)| !address.is_empty() && line.lower.contains(address.as_str()));
    let after_command = || {
        let at =
            lines.iter().position(|line| line.lower.contains("rcpt to:") && line.lower.contains(address.as_str()))?;
        refusals().find(|(number, _)| *number > at && *number < at + 6)
    };
    if let Some((number, _)) = after_command().or(mine).or_else(|| refusals().next()) {
        return joined(number);
    }
    labelled_reason(&lines)
}

fn labelled_reason(lines: &[Line<'_>]) -> String {
    for reason in REASONS {
        let Some(number) = lines.iter().position(|line| line.lower.contains(reason)) else { continue };
        let line = &lines[number];
        let at = line.lower.find(reason).unwrap_or_default() + reason.len();
        let here = line.text[at..].trim_matches([' ', ':', '-', '=', '*', '.', '|']);
        let below = following(lines.get(number + 1..).unwrap_or_default(), here.is_empty());
        let words = one_line(&format!("{here} {below}"), MAX_DIAGNOSTIC);
        if words.len() > 3 {
            return words;
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(notice: &str) -> Vec<(String, String)> {
        let lower = notice.to_ascii_lowercase();
        recipients(notice, &lower, &["me@a.example".to_owned()])
            .into_iter()
            .map(|said| (said.address, said.words))
            .collect()
    }

    #[test]
    fn shapes_of_recipients() {
        for (notice, address, words) in [
            ("Hi.\n\n<b@c.example>:\nno such user (#5.1.1)\n\n", "b@c.example", "no such user (#5.1.1)"),
            (
                "failed:\n\n  b@c.example:\n    host mx [192.0.2.1]: 550 no\n",
                "b@c.example",
                "host mx [192.0.2.1]: 550 no",
            ),
            (
                "was not delivered to:\n\n  b@c.example\n\nbecause:\n\n  User x not listed\n",
                "b@c.example",
                "because: User x not listed",
            ),
            ("Failed Recipient: b@c.example\nReason: 550 no\n", "b@c.example", "Reason: 550 no"),
            ("\tRecipient: [SMTP:b@c.example]\n\tReason: 550 no\n", "b@c.example", "Reason: 550 no"),
            (
                "Sent <<< RCPT TO:<b@c.example>\nReceived >>> 550 no\nUnable to deliver",
                "b@c.example",
                "Received >>> 550 no Unable to deliver",
            ),
            ("> b@c.example\n", "b@c.example", ""),
            ("b@c.example (user not found)\n", "b@c.example", "(user not found)"),
            ("Your message to b@c.example was rejected: 550 no\n", "b@c.example", "was rejected: 550 no"),
            ("You sent mail from me@a.example.\n550 <b@c.example> no\n", "b@c.example", "550 <b@c.example> no"),
            ("\"b@c.example\":\nSMTP error: 5.1.1 no\n", "b@c.example", "SMTP error: 5.1.1 no"),
        ] {
            assert_eq!(found(notice), [(address.to_owned(), words.to_owned())], "{notice}");
        }
    }

    #[test]
    fn helpers_and_senders_are_no_recipients() {
        for notice in
            ["For assistance, contact postmaster@c.example\n", "From: b@c.example\n", "nothing here", "me@ @x\n"]
        {
            assert_eq!(found(notice), [], "{notice}");
        }
    }

    #[test]
    fn the_returned_mail_is_cut_off() {
        for border in [
            "--- Below this line is a copy of the message.",
            "   ----- Original message -----",
            "Received: from x by y",
            "Original message follows.",
        ] {
            let text = format!("words\n\n{border}\nx <b@c.example>\n");
            let (notice, copy) = split_copy(&text, &text.to_ascii_lowercase());
            assert_eq!((notice, copy.starts_with(border)), ("words\n\n", true), "{border}");
        }
    }
}
