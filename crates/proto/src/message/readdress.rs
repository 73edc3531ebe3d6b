//! A message for a next hop that has no envelope: whoever stands in To, Cc or Bcc gets it, and nobody else.
//!
//! The fields are written anew, so that exactly the recipients of one transaction stand in them. Whoever else was named
//! there stays readable, in fields that no mail system sends by.

use super::encode::fold;
use super::mailbox::{each_mailbox, is_same};
use super::scan::scan;
use crate::address::Address;

/// Fields that name recipients, or might be taken for it (RFC 5322 §3.6.3 and §3.6.6, and what programs made of it).
const NAMING: &[&str] =
    &["to", "cc", "bcc", "resent-to", "resent-cc", "resent-bcc", "apparently-to", "x-receiver", "x-sender"];
/// Fields in which those are shown that were named and are not meant now.
const SHOWN: [(&str, &str); 2] = [("to", "X-Pillarbox-To"), ("cc", "X-Pillarbox-Cc")];

/// The header section cannot be read (too long, or too many fields): nothing can be said about whom it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the header section cannot be read")]
pub struct CannotReaddress;

/// The same message, addressed to exactly these recipients: in To and Cc as far as they stood there, else in Bcc.
///
/// Names beside the addresses are kept. Fields of signatures over To or Cc do not hold any more; who has no envelope signs
/// itself.
pub fn readdress(content: &[u8], recipients: &[&Address]) -> Result<Vec<u8>, CannotReaddress> {
    let found = scan(content).map_err(|_| CannotReaddress)?;
    let mut lists = [List::default(), List::default()];
    let mut out = Vec::with_capacity(content.len() + 128 * (recipients.len() + 1));
    for field in &found.fields {
        let name = field.name(content);
        let naming = NAMING.iter().find(|known| name.eq_ignore_ascii_case(known.as_bytes()));
        match naming {
            None => out.extend_from_slice(&content[field.whole()]),
            Some(&"to") => lists[0].read(field.value(content), recipients),
            Some(&"cc") => lists[1].read(field.value(content), recipients),
            Some(_) => {}
        }
    }
    if found.fields.last().is_some_and(|field| !content[field.whole()].ends_with(b"\n")) {
        out.extend_from_slice(b"\r\n");
    }
    let seen: Vec<Address> = lists.iter().flat_map(|list| list.addresses.iter().cloned()).collect();
    let hidden = recipients.iter().filter(|recipient| !seen.iter().any(|seen| is_same(seen, recipient)));
    let hidden: Vec<String> = hidden.map(|address| format!("<{address}>")).collect();
    for (name, items) in [("To", &lists[0].kept), ("Cc", &lists[1].kept), ("Bcc", &hidden)] {
        write(&mut out, name, items);
    }
    for ((_, name), list) in SHOWN.iter().zip(&lists) {
        write(&mut out, name, &list.others);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&content[found.end..]);
    Ok(out)
}

/// The mailboxes of one kind of field.
#[derive(Default)]
struct List {
    /// As they are written again.
    kept: Vec<String>,
    others: Vec<String>,
    addresses: Vec<Address>,
}

impl List {
    fn read(&mut self, value: &[u8], recipients: &[&Address]) {
        for (name, address) in each_mailbox(value) {
            let written = match name.as_str() {
                "" => format!("<{address}>"),
                name => format!("{name} <{address}>"),
            };
            if !recipients.iter().any(|recipient| is_same(recipient, &address)) {
                self.others.push(written);
            } else if !self.addresses.iter().any(|known| is_same(known, &address)) {
                self.kept.push(written);
                self.addresses.push(address);
            }
        }
    }
}

fn write(out: &mut Vec<u8>, name: &str, items: &[String]) {
    if items.is_empty() {
        return;
    }
    let value = fold(&items.join(", "), name.len() + 2);
    out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::mailbox::mailboxes_of;
    use super::*;

    fn addressed(header: &str, recipients: &[&str]) -> String {
        let recipients: Vec<Address> = recipients.iter().map(|text| text.parse().unwrap()).collect();
        let content = format!("From: <f@x.test>\r\n{header}Subject: s\r\n\r\nTo: body\r\n");
        let made = readdress(content.as_bytes(), &recipients.iter().collect::<Vec<_>>()).unwrap();
        let made = String::from_utf8(made).unwrap();
        let rest = made.strip_prefix("From: <f@x.test>\r\nSubject: s\r\n").expect(&made);
        rest.strip_suffix("\r\nTo: body\r\n").expect(&made).replace("\r\n", "|")
    }

    #[test]
    fn exactly_the_recipients_of_the_transaction_stand_in_the_fields_that_address() {
        for (header, recipients, expected) in [
            ("To: A <a@x.test>\r\n", &["a@x.test"][..], "To: A <a@x.test>|"),
            ("To: a@x.test, b@y.test\r\n", &["a@x.test"], "To: <a@x.test>|X-Pillarbox-To: <b@y.test>|"),
            ("To: a@x.test\r\n", &["a@x.test", "h@x.test"], "To: <a@x.test>|Bcc: <h@x.test>|"),
            ("", &["h@x.test", "i@x.test"], "Bcc: <h@x.test>, <i@x.test>|"),
            (
                "To: A@X.test\r\nCc: a@x.test, c@x.test\r\n",
                &["a@x.test"],
                "To: <A@x.test>|Cc: <a@x.test>|X-Pillarbox-Cc: <c@x.test>|",
            ),
            ("To: team: a@x.test, B <b@x.test>;\r\n", &["b@x.test"], "To: B <b@x.test>|X-Pillarbox-To: <a@x.test>|"),
            (
                "Bcc: z@z.test\r\nResent-To: r@r.test\r\nto : q@q.test\r\n",
                &["h@x.test"],
                "Bcc: <h@x.test>|X-Pillarbox-To: <q@q.test>|",
            ),
            (
                "To: \"Doe, \\\"J\\\" <z@z.test>\" <a@x.test>\r\n",
                &["a@x.test"],
                "To: \"Doe, \\\"J\\\" <z@z.test>\" <a@x.test>|",
            ),
            ("To: =?utf-8?Q?J=C3=B6rg?=\r\n <a@x.test>\r\n", &["a@x.test"], "To: =?utf-8?"),
        ] {
            let made = addressed(header, recipients);
            assert!(made == expected || (expected.ends_with('?') && made.starts_with(expected)), "{header}: {made}");
        }
    }

    #[test]
    fn a_message_without_a_body_or_a_header_is_addressed_too() {
        let to: Address = "a@x.test".parse().unwrap();
        assert_eq!(readdress(b"Subject: s", &[&to]).unwrap(), b"Subject: s\r\nBcc: <a@x.test>\r\n\r\n");
        assert_eq!(readdress(b"\r\nbody", &[&to]).unwrap(), b"Bcc: <a@x.test>\r\n\r\nbody");
    }

    proptest::proptest! {
        /// Whatever stands in To and Cc, who is read back from all fields that address is who was meant.
        #[test]
        fn nobody_else_is_ever_addressed(to in "[ -~]{0,60}", cc in "([a-c]@[xy]\\.test[,; ]{0,2}|\"|<|>|\\(|\\)|:|[ -~]){0,12}", few in proptest::collection::vec("[a-c]@[xy]\\.test", 1..4)) {
            let recipients: Vec<Address> = few.iter().map(|text| text.parse().unwrap()).collect();
            let content = format!("To: {to}\r\nCC: {cc}\r\n\r\n");
            let made = readdress(content.as_bytes(), &recipients.iter().collect::<Vec<_>>()).unwrap();
            let found = scan(&made).unwrap();
            let mut read: Vec<String> = ["To", "Cc", "Bcc"]
                .iter()
                .flat_map(|name| mailboxes_of(found.get(&made, name).unwrap_or_default()))
                .map(|address| address.expect("valid").as_str().to_ascii_lowercase())
                .collect();
            let mut meant: Vec<String> = recipients.iter().map(|address| address.as_str().to_ascii_lowercase()).collect();
            meant.sort();
            meant.dedup();
            read.sort();
            read.dedup();
            proptest::prop_assert_eq!(read, meant);
        }
    }
}
