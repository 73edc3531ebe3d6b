//! Exchange's logs, comma separated with their columns named in a `#Fields:` line: message tracking and SMTP protocol.

use std::borrow::Cow;

use memchr::memmem;

use super::explain_log::{Form, Hit, before, behind, has, until};

/// Most columns looked at.
const MAX_COLUMNS: usize = 80;

/// Where the columns are, from the last `#Fields:` line; without one the order of Exchange 2013 and later.
#[derive(Debug, Default)]
pub struct Columns {
    names: Vec<String>,
}

const TRACKING: &[&str] = &[
    "date-time",
    "client-ip",
    "client-hostname",
    "server-ip",
    "server-hostname",
    "source-context",
    "connector-id",
    "source",
    "event-id",
    "internal-message-id",
    "message-id",
    "network-message-id",
    "recipient-address",
    "recipient-status",
];
const PROTOCOL: &[&str] = &[
    "date-time",
    "connector-id",
    "session-id",
    "sequence-number",
    "local-endpoint",
    "remote-endpoint",
    "event",
    "data",
    "context",
];

impl Columns {
    /// The form that the head of such a log names.
    pub fn form(line: &[u8]) -> Option<Form> {
        if !line.starts_with(b"#") {
            return Self::form_of_row(line);
        }
        let kind = behind(line, b"#Log-type: ")?.to_ascii_lowercase();
        match () {
            () if has(&kind, b"message tracking") => Some(Form::ExchangeTracking),
            () if has(&kind, b"smtp send") => Some(Form::ExchangeSend),
            () if has(&kind, b"smtp receive") => Some(Form::ExchangeReceive),
            () => None,
        }
    }

    /// A row on its own: `2026-05-03T00:00:01.123Z,connector,08D...,7,ip:port,ip:25,<,550 ...,`.
    fn form_of_row(line: &[u8]) -> Option<Form> {
        if line.get(4) != Some(&b'-') || line.get(10) != Some(&b'T') || !until(line, b',').ends_with(b"Z") {
            return None;
        }
        let cells = cells(line);
        let cell = |n: usize| cells.get(n).map(|cell| &**cell).unwrap_or_default();
        if has(cell(5), b":") && matches!(cell(6), b"<" | b">" | b"*" | b"+" | b"-") {
            return Some(if cell(5).ends_with(b":25") { Form::ExchangeSend } else { Form::ExchangeReceive });
        }
        let known = [
            &b"FAIL"[..],
            b"DEFER",
            b"RECEIVE",
            b"SEND",
            b"SENDEXTERNAL",
            b"DELIVER",
            b"SUBMIT",
            b"DSN",
            b"AGENTINFO",
            b"HAREDIRECT",
        ];
        known.contains(&cell(8)).then_some(Form::ExchangeTracking)
    }

    fn learn(&mut self, line: &[u8]) -> bool {
        if let Some(names) = line.strip_prefix(b"#Fields: ") {
            let names = String::from_utf8_lossy(names);
            self.names = names.split(',').take(MAX_COLUMNS).map(|name| name.trim().to_ascii_lowercase()).collect();
        }
        line.starts_with(b"#")
    }

    fn cell<'c>(&self, usual: &[&str], cells: &'c [Cow<'_, [u8]>], name: &str) -> &'c [u8] {
        let at = match self.names.is_empty() {
            true => usual.iter().position(|known| *known == name),
            false => self.names.iter().position(|known| known == name),
        };
        at.and_then(|at| cells.get(at)).map(|cell| &**cell).unwrap_or_default()
    }

    /// A row of message tracking: `FAIL` and `DEFER`.
    pub fn tracking<'l>(&mut self, line: &'l [u8]) -> Option<Hit<'l>> {
        if self.learn(line) || !(has(line, b",FAIL,") || has(line, b",DEFER,") || has(line, b",BADMAIL,")) {
            return None;
        }
        let cells = cells(line);
        let cell = |name| self.cell(TRACKING, &cells, name);
        if !matches!(cell("event-id"), b"FAIL" | b"DEFER" | b"BADMAIL") {
            return None;
        }
        let status = match cell("recipient-status") {
            b"" => cell("source-context"),
            status => status,
        };
        // `[{LED=550 5.1.1 ...};{MSG=...};{FQDN=mx.example};{IP=...};{LRT=...}]`
        let part = |name: &[u8]| behind(status, name).map(|rest| before(rest, b"};{")).unwrap_or_default();
        let said = match part(b"{LED=") {
            b"" => status,
            said => said,
        };
        let said = said.strip_suffix(b"]").unwrap_or(said);
        Some(Hit {
            time: until(line, b','),
            recipient: Cow::Owned(until(cell("recipient-address"), b';').to_vec()),
            relay: Cow::Owned(until(part(b"{FQDN="), b'}').to_vec()),
            text: Cow::Owned(said.strip_suffix(b"}").unwrap_or(said).to_vec()),
            ..Hit::default()
        })
    }

    /// A row of an SMTP protocol log; `mark` is the direction that servers answer in: `<` when sending.
    pub fn protocol<'l>(&mut self, line: &'l [u8], mark: &[u8]) -> Option<Hit<'l>> {
        if self.learn(line) {
            return None;
        }
        let refusal = |digit: u8| {
            memmem::find(line, &[&b","[..], mark, b",", &[digit]].concat()).is_some()
                || memmem::find(line, &[&b","[..], mark, b",\"", &[digit]].concat()).is_some()
        };
        if !refusal(b'4') && !refusal(b'5') {
            return None;
        }
        let cells = cells(line);
        let cell = |name| self.cell(PROTOCOL, &cells, name);
        let data = cell("data");
        let code = data.get(..3)?;
        if cell("event") != mark || !code.iter().all(u8::is_ascii_digit) || data.get(3) == Some(&b'-') && mark == b">" {
            return None;
        }
        Some(Hit {
            time: until(line, b','),
            text: Cow::Owned(data.to_vec()),
            own_refusal: mark == b">",
            ..Hit::default()
        })
    }
}

/// Cells of a row; quoted ones may hold commas and doubled quotes (RFC 4180 §2).
fn cells(line: &[u8]) -> Vec<Cow<'_, [u8]>> {
    let mut all = Vec::new();
    let mut rest = line;
    while all.len() < MAX_COLUMNS {
        let Some(quoted) = rest.strip_prefix(b"\"") else {
            let cell = until(rest, b',');
            all.push(Cow::Borrowed(cell));
            match rest.get(cell.len() + 1..) {
                Some(more) if cell.len() < rest.len() => rest = more,
                _ => break,
            }
            continue;
        };
        let mut cell = Vec::new();
        let mut at = 0;
        loop {
            let part = quoted.get(at..).unwrap_or_default();
            let end = until(part, b'"');
            cell.extend_from_slice(end);
            at += end.len() + 1;
            if quoted.get(at) != Some(&b'"') {
                break;
            }
            cell.push(b'"');
            at += 1;
        }
        all.push(Cow::Owned(cell));
        match quoted.get(at..).and_then(|rest| rest.strip_prefix(b",")) {
            Some(more) => rest = more,
            None => break,
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_may_be_quoted() {
        let found: Vec<Vec<u8>> = cells(b"a,\"b,\"\"c\",,d").into_iter().map(Cow::into_owned).collect();
        assert_eq!(found, [&b"a"[..], b"b,\"c", b"", b"d"]);
        assert_eq!(cells(b"\"open").len(), 1);
    }

    #[test]
    fn tracking_tells_the_last_error_and_its_host() {
        let mut columns = Columns::default();
        let head = b"#Fields: date-time,client-ip,client-hostname,server-ip,server-hostname,source-context,connector-id,source,event-id,internal-message-id,message-id,network-message-id,recipient-address,recipient-status,total-bytes";
        assert_eq!(columns.tracking(head), None);
        let row = b"2026-05-03T00:00:01.123Z,,EX1,,,,Outbound,SMTP,FAIL,77,<m@c.example>,x,ann@b.example,\"[{LED=550 5.1.1 no such user};{MSG=};{FQDN=mx.b.example};{IP=192.0.2.1};{LRT=5/3/2026}]\",1";
        let hit = columns.tracking(row).unwrap();
        assert_eq!(&*hit.text, b"550 5.1.1 no such user");
        assert_eq!((&*hit.relay, &*hit.recipient), (&b"mx.b.example"[..], &b"ann@b.example"[..]));
    }

    #[test]
    fn protocol_logs_tell_the_refusals_of_the_server_only() {
        let mut columns = Columns::default();
        let row = |mark: &str, data: &str| {
            format!("2026-05-03T00:00:01.123Z,Outbound,08D1,7,192.0.2.5:1234,192.0.2.1:25,{mark},{data},")
        };
        let refused = row("<", "550 5.7.1 no relaying");
        assert_eq!(&*columns.protocol(refused.as_bytes(), b"<").unwrap().text, b"550 5.7.1 no relaying");
        for line in [row("<", "250 ok"), row(">", "550 not here"), row("*", "454 words")] {
            assert_eq!(columns.protocol(line.as_bytes(), b"<"), None, "{line}");
        }
        assert_eq!(Columns::form(refused.as_bytes()), Some(Form::ExchangeSend));
    }
}
