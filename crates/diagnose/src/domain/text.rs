//! Records as text: those found, and those to be published, in the form of a zone file.

use std::net::IpAddr;

use net::lookup::Data;

/// The value of a record as a zone file has it.
pub(crate) fn shown(data: &Data) -> String {
    match data {
        Data::A(ip) => ip.to_string(),
        Data::Aaaa(ip) => ip.to_string(),
        Data::Mx { preference, host } => format!("{preference} {}", dotted(host)),
        Data::Txt(octets) => quoted(&String::from_utf8_lossy(octets)),
        Data::Ns(host) | Data::Ptr(host) | Data::Cname(host) => dotted(host),
        Data::Soa { primary, contact, serial, minimum } => {
            format!("{} {} {serial} ... {minimum}", dotted(primary), dotted(contact))
        }
        Data::Caa { critical, tag, value } => format!("{} {tag} \"{value}\"", if *critical { 128 } else { 0 }),
        Data::Tlsa { usage, selector, matching, data } => format!("{usage} {selector} {matching} {}", hex(data)),
        Data::Dnskey { flags, algorithm, tag } => format!("{flags} 3 {algorithm} (key {tag})"),
        Data::Ds { tag, algorithm, digest } => format!("{tag} {algorithm} {digest}"),
    }
}

/// `example.com.`
pub(super) fn dotted(name: &str) -> String {
    if name.ends_with('.') { name.to_owned() } else { format!("{name}.") }
}

pub(super) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// A text in strings of at most 255 octets.
fn quoted(text: &str) -> String {
    let plain = text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut strings = Vec::new();
    let mut rest = plain.as_str();
    while rest.len() > 255 {
        let mut cut = 255;
        while !rest.is_char_boundary(cut) {
            cut -= 1;
        }
        strings.push(&rest[..cut]);
        rest = &rest[cut..];
    }
    strings.push(rest);
    strings.iter().map(|string| format!("\"{string}\"")).collect::<Vec<_>>().join(" ")
}

/// `name. IN TXT "text"`
pub(super) fn txt_line(name: &str, text: &str) -> String {
    format!("{} IN TXT {}", dotted(name), quoted(text))
}

/// `name. IN A 192.0.2.1`
pub(super) fn address_line(name: &str, ip: IpAddr) -> String {
    format!("{} IN {} {ip}", dotted(name), if ip.is_ipv4() { "A" } else { "AAAA" })
}

/// Whether a name is one a host can have (RFC 1123 §2.1).
pub(super) fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    !name.is_empty() && name.len() <= 253 && name.split('.').all(label)
}

/// An address that is of use inside one network only.
pub(super) fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(ip) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.segments()[0] & 0xfe00 == 0xfc00
                || ip.segments()[0] & 0xffc0 == 0xfe80
        }
    }
}

/// The tags of `v=X; a=b` with one set to another value, or added; `before` wins the place in front of the others.
pub(super) fn with_tag(record: &str, name: &str, value: &str) -> String {
    let mut done = false;
    let mut tags: Vec<String> = Vec::new();
    for tag in record.split(';').map(str::trim).filter(|tag| !tag.is_empty()) {
        match tag.split_once('=') {
            Some((key, _)) if key.trim().eq_ignore_ascii_case(name) => {
                if !done {
                    tags.push(format!("{name}={value}"));
                }
                done = true;
            }
            _ => tags.push(tag.to_owned()),
        }
    }
    if !done {
        tags.push(format!("{name}={value}"));
    }
    tags.join("; ")
}

/// The tags of `v=X; a=b` without some.
pub(super) fn without_tags(record: &str, names: &[&str]) -> String {
    let kept = record.split(';').map(str::trim).filter(|tag| {
        let name = tag.split('=').next().unwrap_or_default().trim();
        !tag.is_empty() && !names.iter().any(|other| other.eq_ignore_ascii_case(name))
    });
    kept.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_published_in_strings_of_255_octets() {
        let line = txt_line("example.com", &"x".repeat(300));
        assert_eq!(line, format!("example.com. IN TXT \"{}\" \"{}\"", "x".repeat(255), "x".repeat(45)));
        assert_eq!(txt_line("a.", "say \"hi\""), "a. IN TXT \"say \\\"hi\\\"\"");
    }

    #[test]
    fn tags_are_set_and_removed_without_touching_the_others() {
        let record = "v=DMARC1; p=none;pct=50; rua=mailto:a@example.com";
        assert_eq!(with_tag(record, "p", "reject"), "v=DMARC1; p=reject; pct=50; rua=mailto:a@example.com");
        assert_eq!(without_tags(record, &["pct"]), "v=DMARC1; p=none; rua=mailto:a@example.com");
        assert_eq!(with_tag("v=DMARC1; p=none", "rua", "mailto:x@y"), "v=DMARC1; p=none; rua=mailto:x@y");
    }

    #[test]
    fn host_names_have_letters_digits_and_hyphens() {
        for (name, yes) in
            [("mx-1.example.com", true), ("mail_1.example.com", false), ("-a.example", false), ("a..b", false)]
        {
            assert_eq!(is_host_name(name), yes, "{name}");
        }
    }
}
