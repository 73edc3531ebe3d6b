//! What a template may be made of, decided by its text alone: nothing whose cost grows faster than its length.
//!
//! Steps are counted when a template is rendered, but one step can double a text. So assignments, macros and text
//! multiplication are refused here, and an expression is short and has few concatenations.

/// Most octets of a template.
pub const MAX_SOURCE: usize = 512 * 1024;
/// Most octets between `{{` and `}}`, or `{%` and `%}`.
const MAX_TAG: usize = 1_000;
/// Most of `+` and `~` in one of them.
const MAX_JOINS: usize = 20;
/// The statements there are.
const STATEMENTS: [&str; 6] = ["if", "elif", "else", "endif", "for", "endfor"];

/// Why this is no template for us, with its line.
pub fn check(source: &str) -> Result<(), String> {
    if source.len() > MAX_SOURCE {
        return Err(format!("is larger than {} KiB", MAX_SOURCE / 1024));
    }
    if source.contains('\0') {
        return Err("has a NUL".into());
    }
    let mut at = 0;
    while let Some(found) = source[at..].find('{') {
        let start = at + found;
        let line = || source[..start].matches('\n').count() + 1;
        let end = match source.as_bytes().get(start + 1) {
            Some(b'#') => source[start..].find("#}").map(|length| start + length + 2),
            Some(b'{') => {
                tag(&source[start..], "}}").map_err(|why| format!("line {}: {why}", line()))?.map(|n| start + n)
            }
            Some(b'%') => {
                statement(&source[start + 2..]).map_err(|why| format!("line {}: {why}", line()))?;
                tag(&source[start..], "%}").map_err(|why| format!("line {}: {why}", line()))?.map(|n| start + n)
            }
            _ => Some(start + 1),
        };
        at = end.ok_or_else(|| format!("line {}: what begins here is not closed", line()))?;
    }
    Ok(())
}

fn statement(rest: &str) -> Result<(), String> {
    let rest = rest.trim_start_matches(['-', '+']).trim_start();
    let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').map_or(rest, |end| &rest[..end]);
    if STATEMENTS.contains(&word) {
        return Ok(());
    }
    Err(format!("there is no statement \"{}\" here, only {}", word.escape_debug(), STATEMENTS.join(", ")))
}

/// Length of a tag with its end; `None` if it has none.
fn tag(text: &str, close: &str) -> Result<Option<usize>, String> {
    let octets = text.as_bytes();
    let (mut at, mut joins) = (2, 0);
    while at < octets.len() {
        if at > MAX_TAG {
            return Err(format!("an expression may have {MAX_TAG} octets"));
        }
        match octets[at] {
            quote @ (b'"' | b'\'') => {
                at += 1;
                while at < octets.len() && octets[at] != quote {
                    at += if octets[at] == b'\\' { 2 } else { 1 };
                }
            }
            _ if octets[at..].starts_with(close.as_bytes()) => return Ok(Some(at + 2)),
            b'{' => return Err("an expression cannot have braces".into()),
            b'*' => return Err("nothing can be multiplied in a template: put the result in the row".into()),
            b'+' | b'~' => {
                joins += 1;
                if joins > MAX_JOINS {
                    return Err(format!("an expression may add or join {MAX_JOINS} times"));
                }
            }
            _ => {}
        }
        at += 1;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_templates_pass() {
        for source in [
            "Hello {{ name }}",
            "{% if plan == 'gold*{{' %}x{% elif a and b %}y{%- else -%}z{% endif %}",
            "{% for item in items %}{{ loop.index }}. {{ item.title|upper ~ '!' }}\n{% endfor %}",
            "a { b } c {# * set #} p { color: red }",
            "{{ \"it's \\\" * }} fine\" }}",
        ] {
            assert_eq!(check(source), Ok(()), "{source}");
        }
    }

    #[test]
    fn what_could_grow_is_refused_with_its_line() {
        for (source, why) in [
            ("a\n{% set a = b %}", "line 2: there is no statement \"set\""),
            ("{%- macro x() %}", "no statement \"macro\""),
            ("{% include 'x' %}", "no statement \"include\""),
            ("{% raw %}", "no statement \"raw\""),
            ("{{ 'x' * 99999 }}", "multiplied"),
            ("{% for x in 'x' * 9 %}", "multiplied"),
            ("{{ {'a': 1} }}", "braces"),
            ("{{ name", "not closed"),
            ("{# name", "not closed"),
            ("{{ 'a }}", "not closed"),
        ] {
            assert!(check(source).unwrap_err().contains(why), "{source}: {:?}", check(source));
        }
        let joined = format!("{{{{ {} }}}}", ["x"; 22].join("~"));
        assert!(check(&joined).unwrap_err().contains("20 times"));
        let long = format!("{{{{ {} }}}}", "x|upper".repeat(200));
        assert!(check(&long).unwrap_err().contains("1000 octets"));
        assert!(check(&"x".repeat(MAX_SOURCE + 1)).is_err());
    }
}
