//! The path between the angle brackets of MAIL and RCPT (RFC 5321 §4.1.2).

use super::CommandError;

/// Splits `FROM:<path> parameters` into path and parameters; `keyword` is `FROM:` or `TO:`.
///
/// A blank behind the colon is tolerated, as many clients send it; missing brackets are not. The path comes without
/// its source route, which is ignored as RFC 5321 §4.1.1.3 asks.
pub(super) fn split<'a>(
    arguments: &'a str,
    keyword: &str,
    syntax: &'static str,
) -> Result<(&'a str, &'a str), CommandError> {
    let wrong = || CommandError::arguments(syntax);
    let (word, rest) = arguments.split_at_checked(keyword.len()).ok_or_else(wrong)?;
    if !word.eq_ignore_ascii_case(keyword) {
        return Err(wrong());
    }
    let rest = rest.trim_start_matches(' ').strip_prefix('<').ok_or_else(wrong)?;
    let end = closing_bracket(rest).ok_or_else(wrong)?;
    let (path, parameters) = (&rest[..end], &rest[end + 1..]);
    if !parameters.is_empty() && !parameters.starts_with(' ') {
        return Err(wrong());
    }
    let path = if path.starts_with('@') { without_route(path).ok_or_else(wrong)? } else { path };
    Ok((path, parameters))
}

/// The first `>` outside quotes.
fn closing_bracket(text: &str) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    for (position, octet) in text.bytes().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(position),
            _ => {}
        }
    }
    None
}

/// `@a,@b:user@c` without `@a,@b:`.
fn without_route(path: &str) -> Option<&str> {
    let (route, mailbox) = path.split_once(':')?;
    let hop = |hop: &str| hop.strip_prefix('@').is_some_and(|domain| crate::address::parse_domain(domain).is_ok());
    route.split(',').all(hop).then_some(mailbox)
}
