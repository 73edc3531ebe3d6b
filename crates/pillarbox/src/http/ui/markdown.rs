//! The help's Markdown as HTML. Raw HTML in it is shown as text, except for the names that links lead to.

use minijinja::Value;
use pulldown_cmark::{CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

/// Where pages of the help are.
const HELP: &str = "/admin/help/";

/// Markdown as HTML, for a template.
pub fn filter(text: String) -> Value {
    Value::from_safe_string(rendered(&text))
}

/// Markdown as HTML; links between pages of the manual lead to the pages of the help.
pub fn rendered(text: &str) -> String {
    let events = Parser::new_ext(text, Options::ENABLE_TABLES).map(ours);
    let mut out = String::with_capacity(text.len() * 2);
    html::push_html(&mut out, events);
    // Text is escaped: these words stand only where the renderer put them.
    out.replace("<table><thead><tr><th></th><th></th></tr></thead>", "<table>")
        .replace("<th>", "<th scope=\"col\">")
        .replace("<table>", "<div class=\"scroll\"><table>")
        .replace("</table>", "</table></div>")
        .replace("<pre>", "<pre tabindex=\"0\">")
}

fn ours(event: Event<'_>) -> Event<'_> {
    match event {
        Event::Html(text) | Event::InlineHtml(text) => match anchor(&text) {
            Some(name) => Event::InlineHtml(format!("<span id=\"{name}\">").into()),
            None if text.trim() == "</a>" => Event::InlineHtml("</span>".into()),
            None => Event::Text(text),
        },
        Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
            Event::Start(Tag::Link { link_type, dest_url: leads_to(&dest_url).into(), title, id })
        }
        // Pictures would come from elsewhere.
        Event::Start(Tag::Image { .. }) => Event::Start(Tag::Emphasis),
        Event::End(TagEnd::Image) => Event::End(TagEnd::Emphasis),
        Event::Start(Tag::Heading { level: HeadingLevel::H1, id, classes, attrs }) => {
            Event::Start(Tag::Heading { level: HeadingLevel::H2, id, classes, attrs })
        }
        Event::End(TagEnd::Heading(HeadingLevel::H1)) => Event::End(TagEnd::Heading(HeadingLevel::H2)),
        other => other,
    }
}

/// `<a id="name">` or `<a id="name"></a>`, with a name that needs no escaping.
fn anchor(html: &CowStr<'_>) -> Option<String> {
    let name = html.trim().strip_prefix("<a id=\"")?.split('"').next()?;
    let plain = name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet));
    (plain && html.trim().starts_with(&format!("<a id=\"{name}\">"))).then(|| name.to_owned())
}

fn leads_to(to: &str) -> String {
    if to.starts_with("https://") || to.starts_with("http://") || to.starts_with('#') {
        return to.to_owned();
    }
    let (path, mark) = to.split_once('#').map_or((to, None), |(path, mark)| (path, Some(mark)));
    let mark = mark.map(|mark| format!("#{mark}")).unwrap_or_default();
    let Some(path) = path.strip_suffix(".md") else { return "#".into() };
    let mut parts = path.rsplit('/');
    match (parts.next(), parts.next()) {
        (Some("README"), None | Some("help" | "..")) => HELP.trim_end_matches('/').to_owned() + &mark,
        (Some("README"), Some(index)) => format!("{HELP}{index}{mark}"),
        (Some(name), _) => format!("{HELP}{}{mark}", super::page::segment(name)),
        (None, _) => "#".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_of_a_rule_is_text_and_names_stay() {
        let html = rendered(
            "<script>alert(1)</script>\n\nx <img src=q onerror=z> ![y](https://e.test/p.png)\n\n<a id=\"r-1\"></a>\n\n### T\n",
        );
        assert!(!html.contains("<script") && !html.contains("<img"), "{html}");
        assert!(html.contains("&lt;script") && html.contains("id=\"r-1\"") && html.contains("<h3>T</h3>"), "{html}");
        let html = rendered("[x](javascript:alert(1)) <a id=\"q\" onclick=\"z\">");
        assert!(!html.contains("javascript:") && !html.contains("<a id"), "{html}");
    }

    #[test]
    fn links_lead_to_pages_of_the_help() {
        for (to, page) in [
            ("../providers/google.md#google-x", "/admin/help/google#google-x"),
            ("relay_denied.md", "/admin/help/relay_denied"),
            ("../reasons/README.md", "/admin/help/reasons"),
            ("../help/errors.md", "/admin/help/errors"),
            ("#here", "#here"),
            ("https://x.test/a", "https://x.test/a"),
        ] {
            assert_eq!(leads_to(to), page);
        }
    }
}
