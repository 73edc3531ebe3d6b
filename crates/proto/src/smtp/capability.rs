//! What a server can do: read from its EHLO reply, and written into ours.
//!
//! Unknown keywords are kept: a diagnosis shows them, and a missing one is a fact too.

use super::reply::Reply;

/// Limits a server declares (RFC 9422).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Transactions per connection.
    pub mailmax: Option<u64>,
    /// Recipients per transaction.
    pub rcptmax: Option<u64>,
    /// Recipient domains per transaction.
    pub rcptdomainmax: Option<u64>,
}

/// The extensions of an EHLO reply (RFC 5321 §4.1.1.1). The default is a server that knows only HELO.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// The first line: the server's name and whatever it adds.
    pub greeting: String,
    /// All other lines as sent, in order, unknown ones too.
    pub keywords: Vec<String>,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// SIZE (RFC 1870): `None` not offered, `Some(0)` offered without a limit, else the limit in octets.
    pub size: Option<u64>,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    pub enhanced_status_codes: bool,
    /// REQUIRETLS (RFC 8689).
    pub requiretls: bool,
    /// LIMITS (RFC 9422).
    pub limits: Limits,
    /// AUTH mechanisms in upper case, in the server's order, each once; the old form `AUTH=LOGIN` counts too.
    pub auth: Vec<String>,
}

impl Capabilities {
    /// Reads a positive EHLO reply.
    pub fn parse(reply: &Reply) -> Self {
        let mut lines = reply.lines.iter();
        let greeting = lines.next().cloned().unwrap_or_default();
        let mut found = Self { greeting, ..Self::default() };
        for line in lines {
            found.read(line);
            found.keywords.push(line.clone());
        }
        found
    }

    fn read(&mut self, line: &str) {
        let (keyword, parameters) = match line.find([' ', '=', '\t']) {
            Some(end) => (&line[..end], &line[end + 1..]),
            None => (line, ""),
        };
        match keyword.to_ascii_uppercase().as_str() {
            "PIPELINING" => self.pipelining = true,
            "8BITMIME" => self.eight_bit_mime = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "SIZE" => self.size = Some(parameters.trim().parse().unwrap_or(0)),
            "STARTTLS" => self.starttls = true,
            "CHUNKING" => self.chunking = true,
            "DSN" => self.dsn = true,
            "ENHANCEDSTATUSCODES" => self.enhanced_status_codes = true,
            "REQUIRETLS" => self.requiretls = true,
            "LIMITS" => self.limits.read(parameters),
            "AUTH" => self.read_mechanisms(parameters),
            _ => {}
        }
    }

    fn read_mechanisms(&mut self, parameters: &str) {
        for name in parameters.split_ascii_whitespace().map(str::to_ascii_uppercase) {
            if !self.auth.contains(&name) {
                self.auth.push(name);
            }
        }
    }

    /// The largest message the server takes, in octets, if it declares a limit.
    pub fn size_limit(&self) -> Option<u64> {
        self.size.filter(|limit| *limit > 0)
    }

    /// True if the server offers this keyword, known to us or not.
    pub fn has(&self, keyword: &str) -> bool {
        self.keywords
            .iter()
            .any(|line| line.split([' ', '=', '\t']).next().is_some_and(|first| first.eq_ignore_ascii_case(keyword)))
    }
}

impl Limits {
    fn read(&mut self, parameters: &str) {
        for (name, value) in parameters.split_ascii_whitespace().filter_map(|word| word.split_once('=')) {
            let value = value.parse().ok();
            match name.to_ascii_uppercase().as_str() {
                "MAILMAX" => self.mailmax = value,
                "RCPTMAX" => self.rcptmax = value,
                "RCPTDOMAINMAX" => self.rcptdomainmax = value,
                _ => {}
            }
        }
    }
}

/// What our server offers at this moment.
#[derive(Debug, Clone)]
pub struct Offer<'a> {
    /// Our name.
    pub hostname: &'a str,
    /// Largest message, octets; 0 is no limit.
    pub max_size: u64,
    /// Most recipients per transaction.
    pub max_recipients: usize,
    /// STARTTLS can be given now.
    pub starttls: bool,
    /// AUTH can be given now.
    pub auth: bool,
    /// XCLIENT can be given now.
    pub xclient: bool,
    /// REQUIRETLS can be given now: the connection is under TLS.
    pub requiretls: bool,
}

impl Offer<'_> {
    /// Appends the EHLO reply.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let mut line = |text: &str| {
            out.extend_from_slice(b"250-");
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b"\r\n");
        };
        line(self.hostname);
        line("PIPELINING");
        line(&format!("SIZE {}", self.max_size));
        if self.starttls {
            line("STARTTLS");
        }
        if self.requiretls {
            line("REQUIRETLS");
        }
        if self.auth {
            line("AUTH PLAIN LOGIN");
        }
        if self.xclient {
            line("XCLIENT NAME ADDR PORT PROTO HELO LOGIN");
        }
        for keyword in ["ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8", "CHUNKING", "DSN"] {
            line(keyword);
        }
        out.extend_from_slice(format!("250 LIMITS RCPTMAX={}\r\n", self.max_recipients).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&str]) -> Capabilities {
        Capabilities::parse(&Reply::lines(250, lines.iter().map(|line| (*line).to_owned()).collect()))
    }

    #[test]
    fn known_keywords_become_fields_and_all_are_kept_in_order() {
        let found = parse(&[
            "mx.example.org at your service",
            "SIZE 35882577",
            "8BITMIME",
            "STARTTLS",
            "ENHANCEDSTATUSCODES",
            "PIPELINING",
            "CHUNKING",
            "SMTPUTF8",
            "DSN",
            "REQUIRETLS",
            "XEXCH50",
            "LIMITS RCPTMAX=50 MAILMAX=10 rcptdomainmax=1 NEW=2",
        ]);
        assert_eq!(found.greeting, "mx.example.org at your service");
        assert_eq!(found.size_limit(), Some(35_882_577));
        assert!(found.eight_bit_mime && found.starttls && found.enhanced_status_codes && found.pipelining);
        assert!(found.chunking && found.smtputf8 && found.dsn && found.requiretls);
        assert_eq!(found.limits, Limits { rcptmax: Some(50), mailmax: Some(10), rcptdomainmax: Some(1) });
        assert_eq!(found.keywords.len(), 11);
        assert!(found.has("xexch50") && !found.has("XEXCH5") && !found.has("mx.example.org"));
    }

    #[test]
    fn keywords_in_any_case_count_and_the_greeting_does_not() {
        let found = parse(&["PIPELINING", "starttls", "8BitMime"]);
        assert!(found.starttls && found.eight_bit_mime && !found.pipelining);
    }

    #[test]
    fn size_without_a_limit_is_still_offered() {
        for line in ["SIZE", "SIZE 0", "SIZE x"] {
            assert_eq!(parse(&["h", line]).size, Some(0), "{line}");
            assert_eq!(parse(&["h", line]).size_limit(), None, "{line}");
        }
        assert_eq!(parse(&["h"]).size, None);
    }

    #[test]
    fn mechanisms_are_read_in_both_forms_once() {
        assert_eq!(parse(&["h", "AUTH PLAIN login", "AUTH=LOGIN XOAUTH2"]).auth, ["PLAIN", "LOGIN", "XOAUTH2"]);
        assert!(parse(&["h", "AUTH"]).auth.is_empty());
    }

    #[test]
    fn our_offer_reads_back_as_what_it_offers() {
        let offer = Offer {
            hostname: "mail.example",
            max_size: 1000,
            max_recipients: 9,
            starttls: true,
            auth: false,
            xclient: false,
            requiretls: false,
        };
        let mut out = Vec::new();
        offer.encode_into(&mut out);
        let mut reader = crate::smtp::reply::ReplyReader::new();
        reader.push(&out);
        let found = Capabilities::parse(&reader.next().unwrap().unwrap());
        assert_eq!((found.greeting.as_str(), found.size, found.limits.rcptmax), ("mail.example", Some(1000), Some(9)));
        assert!(found.starttls && found.pipelining && found.dsn && found.auth.is_empty() && !found.has("XCLIENT"));
    }
}
