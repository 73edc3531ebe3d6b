//! Headers and text of a message, safe to look at: text alone, of HTML no markup, nothing that is loaded from anywhere.

use mail_parser::MessageParser;
use store::{MessageView, StoreError};

use super::ContentOut;
use crate::http::Shared;
use crate::http::api::captured;

/// Most of a text that is shown, octets.
const MOST_TEXT: usize = 16 << 10;
/// Header fields shown, and most octets of each.
const MOST_FIELDS: usize = 200;
const MOST_FIELD: usize = 4 << 10;
/// Larger contents are not read for a look.
const LARGEST: u32 = 32 << 20;

/// Whose eyes it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eyes {
    /// The text too.
    All,
    /// Headers, and what is attached.
    Headers,
    /// Nothing of the content.
    Nothing,
}

/// `None` where nothing is to be shown: the content is gone, or not for these eyes.
pub(super) async fn of(app: &Shared, view: &MessageView, eyes: Eyes) -> Result<Option<ContentOut>, StoreError> {
    if !view.has_content || eyes == Eyes::Nothing {
        return Ok(None);
    }
    if view.message.size > LARGEST {
        let why = "the message is larger than 32 MiB".to_owned();
        let nothing = ContentOut {
            headers: Vec::new(),
            text: None,
            text_cut: false,
            text_withheld: Some(why),
            attachments: Vec::new(),
        };
        return Ok(Some(nothing));
    }
    match app.store.content(view.message.id).await {
        Ok(octets) => Ok(Some(read(&octets, eyes))),
        // Dropped meanwhile, or damaged: the events tell of it.
        Err(StoreError::NotFound | StoreError::Damaged(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn read(octets: &[u8], eyes: Eyes) -> ContentOut {
    let mut headers = captured::headers(octets);
    headers.truncate(MOST_FIELDS);
    for field in &mut headers {
        cut(&mut field.value, MOST_FIELD);
    }
    let mut out = ContentOut { headers, text: None, text_cut: false, text_withheld: None, attachments: Vec::new() };
    let Some(parsed) = MessageParser::default().parse(octets) else { return out };
    out.attachments = parsed.attachments().take(MOST_FIELDS).map(captured::attachment).collect();
    if eyes != Eyes::All {
        out.text_withheld = Some("this needs the role operator".into());
        return out;
    }
    if let Some(text) = parsed.body_text(0) {
        let mut text = text.into_owned();
        out.text_cut = cut(&mut text, MOST_TEXT);
        out.text = Some(text);
    }
    out
}

/// Shortens a text; says whether something was cut off.
fn cut(text: &mut String, most: usize) -> bool {
    if text.len() <= most {
        return false;
    }
    let mut end = most;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_is_shown_as_text_and_bounded() {
        let body = "<p>Hello <b>Ann</b></p><script>alert(1)</script>";
        let mail = format!("Subject: x\r\nContent-Type: text/html\r\n\r\n{body}\r\n");
        let shown = read(mail.as_bytes(), Eyes::All);
        let text = shown.text.unwrap();
        assert!(text.contains("Hello Ann") && !text.contains('<') && !text.contains("alert"), "{text}");
        assert_eq!(shown.headers[0].name, "Subject");
        let long = format!("Subject: x\r\n\r\n{}", "é".repeat(40_000));
        let shown = read(long.as_bytes(), Eyes::All);
        assert!(shown.text_cut && shown.text.unwrap().len() <= MOST_TEXT);
    }

    #[test]
    fn eyes_without_the_role_see_headers_alone() {
        let shown = read(b"Subject: x\r\n\r\nsecret link\r\n", Eyes::Headers);
        assert!(shown.text.is_none() && shown.text_withheld.is_some() && shown.headers.len() == 1);
    }
}
