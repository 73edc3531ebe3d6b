//! The options of sendmail, as its users type them: letters glued to values, and many that mean nothing any more. Pure.

use std::ffi::OsString;

/// What shall be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Submit the message on standard input.
    Send,
    /// Speak SMTP on standard input and output.
    Smtp,
    /// List the queue.
    List,
    /// `newaliases` and `-q`: there is nothing to do.
    Nothing,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// What shall be done.
    pub action: Action,
    /// -t: recipients are in the header.
    pub from_header: bool,
    /// -i, -oi: a line with one dot ends nothing.
    pub ignore_dots: bool,
    /// -f, -r: envelope sender; `Some("")` for `<>`.
    pub sender: Option<String>,
    /// -F: full name.
    pub full_name: Option<String>,
    /// -N: `never`, or a list of `success`, `failure`, `delay`.
    pub notify: Vec<String>,
    /// -R: `full` or `headers`.
    pub ret: Option<String>,
    /// -V: envelope id.
    pub envid: Option<String>,
    /// Recipients.
    pub recipients: Vec<String>,
}

/// Reads the arguments; the error is a sentence.
pub fn parse(action: Action, args: Vec<OsString>) -> Result<Parsed, String> {
    let mut parsed = Parsed {
        action,
        from_header: false,
        ignore_dots: false,
        sender: None,
        full_name: None,
        notify: Vec::new(),
        ret: None,
        envid: None,
        recipients: Vec::new(),
    };
    let mut args = args.into_iter().map(|arg| arg.to_string_lossy().into_owned());
    let mut options = true;
    while let Some(arg) = args.next() {
        match arg.strip_prefix('-').filter(|_| options) {
            Some("-") => options = false,
            Some(option) if !option.is_empty() => parsed.option(option, &mut args)?,
            _ => parsed.recipients.push(arg),
        }
    }
    Ok(parsed)
}

impl Parsed {
    fn option(&mut self, option: &str, args: &mut impl Iterator<Item = String>) -> Result<(), String> {
        let (letter, glued) = option.split_at(option.chars().next().map_or(0, char::len_utf8));
        let mut value = || match glued {
            "" => args.next().ok_or_else(|| format!("-{letter} needs a value")),
            glued => Ok(glued.to_owned()),
        };
        match letter {
            "t" => {
                self.from_header = true;
                // Some programs glue: -ti.
                self.ignore_dots |= glued.contains('i');
            }
            "i" => {
                self.ignore_dots = true;
                self.from_header |= glued.contains('t');
            }
            "f" | "r" => {
                let sender = value()?;
                let sender = sender.strip_prefix('<').and_then(|inner| inner.strip_suffix('>')).unwrap_or(&sender);
                self.sender = Some(sender.to_owned());
            }
            "F" => self.full_name = Some(value()?),
            "b" => self.mode(glued)?,
            "o" => self.ignore_dots |= glued == "i",
            "N" => self.notify = notify(&value()?)?,
            "R" => self.ret = Some(returned(&value()?)?),
            "V" => self.envid = Some(value()?),
            "q" => self.action = Action::Nothing,
            // These take a value that means nothing here.
            "B" | "C" | "O" | "X" | "h" | "L" | "p" | "D" => drop(value()?),
            "A" | "d" | "e" | "G" | "m" | "n" | "U" | "v" | "x" | "s" => {}
            _ => return Err(format!("-{} is not an option here", option.escape_debug())),
        }
        Ok(())
    }

    fn mode(&mut self, mode: &str) -> Result<(), String> {
        self.action = match mode {
            "m" | "" => Action::Send,
            "s" => Action::Smtp,
            "p" => Action::List,
            "i" => Action::Nothing,
            other => {
                return Err(format!("-b{} is not done here; `pillarbox serve` is the server", other.escape_debug()));
            }
        };
        Ok(())
    }
}

fn notify(text: &str) -> Result<Vec<String>, String> {
    let words: Vec<String> = text.split(',').map(|word| word.trim().to_ascii_lowercase()).collect();
    match words.iter().find(|word| !["never", "success", "failure", "delay"].contains(&word.as_str())) {
        Some(wrong) => Err(format!("-N knows never, success, failure and delay, not {}", wrong.escape_debug())),
        None => Ok(words),
    }
}

fn returned(text: &str) -> Result<String, String> {
    match text.to_ascii_lowercase().as_str() {
        "full" => Ok("full".into()),
        "hdrs" | "headers" => Ok("headers".into()),
        _ => Err("-R is full or hdrs".into()),
    }
}

/// Takes the message up to a lone dot, if that ends it (only on input by hand), and gives it.
pub fn until_dot(octets: &mut Vec<u8>) {
    let mut at = 0;
    for line in octets.split_inclusive(|octet| *octet == b'\n') {
        if matches!(line, b".\n" | b".\r\n" | b".") {
            octets.truncate(at);
            return;
        }
        at += line.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Parsed, String> {
        parse(Action::Send, text.split_whitespace().map(Into::into).collect())
    }

    #[test]
    fn what_programs_really_type_is_understood() {
        for (text, check) in [
            ("-t -i", (true, true, None, 0)),
            ("-ti", (true, true, None, 0)),
            ("-oi -oem -odb -fapp@example.com ann@example.com", (false, true, Some("app@example.com"), 1)),
            ("-i -f app@example.com -- -dash@example.com", (false, true, Some("app@example.com"), 1)),
            ("-FCronDaemon -i -B8BITMIME -oem root", (false, true, None, 1)),
            ("-f <> -O DeliveryMode=b a@b.example c@d.example", (false, false, Some(""), 2)),
            ("-r app@example.com -v -G -h 2 a@b.example", (false, false, Some("app@example.com"), 1)),
        ] {
            let parsed = read(text).unwrap();
            let found = (parsed.from_header, parsed.ignore_dots, parsed.sender.as_deref(), parsed.recipients.len());
            assert_eq!(found, check, "{text}");
        }
    }

    #[test]
    fn modes_and_reports() {
        assert_eq!(read("-bs").unwrap().action, Action::Smtp);
        assert_eq!(read("-bp").unwrap().action, Action::List);
        assert_eq!(read("-q30m").unwrap().action, Action::Nothing);
        assert_eq!(read("-N failure,delay -R hdrs").unwrap().notify, ["failure", "delay"]);
        for wrong in ["-bd", "-N always", "-R half", "-f", "-Z"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_lone_dot_ends_input_by_hand() {
        for (text, kept) in [("a\n.\nb\n", "a\n"), ("a\n..\n.b\n", "a\n..\n.b\n"), ("a\n.", "a\n"), (".\r\nx", "")] {
            let mut octets = text.as_bytes().to_vec();
            until_dot(&mut octets);
            assert_eq!(octets, kept.as_bytes(), "{text:?}");
        }
    }
}
