//! From a stored batch and a row to a message: the relay's [`Renderer`].

use std::borrow::Cow;
use std::sync::Arc;

use relay::Sender;
use relay::batch::{BATCH_PRIORITY, Rendered, Renderer, Template};

use super::RowFault;
use super::engine::{Data, Engine, Texts};
use super::input::{self, BatchIn};
use crate::http::api::compose::{self, Surroundings};
use crate::http::api::input::{AttachmentIn, Mailboxes, MessageIn, Text};
use crate::http::api::messages::shape;
use crate::http::auth;

/// Reads stored batches.
#[derive(Debug)]
pub struct Press {
    /// Our name, in message ids.
    pub hostname: String,
}

/// A batch's template with its options.
pub struct Merge {
    batch: BatchIn,
    engine: Engine,
    attachments: Vec<Vec<u8>>,
    fields: Vec<String>,
    hostname: String,
}

/// The body that is stored: the header as it came, and the usual fields of a row, each one line of JSON.
pub fn body(header: &str, fields: &[String]) -> String {
    let header = header.replace(['\n', '\r'], " ");
    format!("{header}\n{}", serde_json::to_string(fields).unwrap_or_default())
}

impl Renderer for Press {
    fn open(&self, body: &str) -> Result<Arc<dyn Template>, String> {
        let (header, fields) = body.split_once('\n').ok_or("the stored batch has no fields")?;
        let batch: BatchIn = serde_json::from_str(header).map_err(|error| error.to_string())?;
        let fields: Vec<String> = serde_json::from_str(fields).map_err(|error| error.to_string())?;
        let engine = Engine::new(&batch.template).map_err(|errors| {
            errors.first().map_or_else(String::new, |error| format!("{}: {}", error.pointer, error.detail))
        })?;
        Ok(Arc::new(Merge::new(batch, engine, fields, self.hostname.clone())?))
    }

    fn sender(&self, name: &str) -> Option<Arc<Sender>> {
        (name == auth::LOCAL_SENDER).then(auth::local_sender)
    }
}

impl Merge {
    /// From its parts.
    pub fn new(mut batch: BatchIn, engine: Engine, fields: Vec<String>, hostname: String) -> Result<Self, String> {
        // Decoded once for all rows, and kept once.
        let attachments =
            batch.template.attachments.iter_mut().map(|one| compose::decoded(&std::mem::take(&mut one.content)));
        let attachments = attachments.collect::<Result<_, _>>()?;
        Ok(Self { batch, engine, attachments, fields, hostname })
    }

    /// The texts of a row.
    pub fn texts(&self, data: &Data) -> Result<Texts, RowFault> {
        self.engine.render(data)
    }

    /// The message of a row.
    pub fn message(&self, data: &Data, now_ms: i64) -> Result<Rendered, RowFault> {
        let to = input::mailbox(data)?;
        let texts = self.engine.render(data)?;
        let line = |field: &str, text: String| Text::try_from(text).map_err(|detail| RowFault::new(field, detail));
        let mut message = MessageIn {
            from: Some(self.batch.from.clone()),
            to: Mailboxes(vec![to]),
            reply_to: self.batch.reply_to.clone(),
            subject: Some(line("subject", texts.subject)?),
            text: texts.text,
            html: texts.html,
            ..MessageIn::default()
        };
        for (name, value) in texts.headers {
            let value = line(&name, value)?;
            message.headers.insert(name, value);
        }
        let from = &self.batch.from;
        let attachments: Vec<(&AttachmentIn, Cow<'_, [u8]>)> = self
            .batch
            .template
            .attachments
            .iter()
            .zip(&self.attachments)
            .map(|(one, octets)| (one, Cow::Borrowed(octets.as_slice())))
            .collect();
        let surroundings = Surroundings { hostname: &self.hostname, now_ms };
        let content = compose::write(&message, from, attachments, surroundings);
        let (eight_bit, longest_line) = shape(&content);
        Ok(Rendered {
            envelope: compose::envelope(&message, from),
            content,
            eight_bit,
            longest_line,
            tags: self.batch.tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
            metadata: self.batch.metadata.clone(),
            deliver_by_ms: self.batch.deliver_by.map(|time| time.0),
            priority: self.batch.priority.unwrap_or(BATCH_PRIORITY),
        })
    }
}

impl Template for Merge {
    fn render(&self, data: &str, now_ms: i64) -> Result<Rendered, String> {
        let data = input::unpacked(data, &self.fields)?;
        self.message(&data, now_ms).map_err(|fault| format!("{} {}", fault.field, fault.detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_parser::{MessageParser, MimeHeaders};
    use serde_json::json;

    #[test]
    fn a_stored_row_becomes_a_whole_message() {
        let header = json!({
            "template": {
                "subject": "Grüße, {{ name }}", "text": "Hallo {{ name }}", "html": "<p>{{ name }}</p>",
                "headers": {"X-Job": "{{ job }}"},
                "attachments": [{"filename": "a.pdf", "content_type": "application/pdf", "content": "AAEC"}],
            },
            "from": "Shop <shop@app.example>", "reply_to": "help@app.example", "tags": ["oct"], "deliver_by": "2030-01-01T00:00:00Z",
        });
        let fields = ["email", "job", "name"].map(str::to_owned);
        let press = Press { hostname: "relay.example".into() };
        let template = press.open(&body(&header.to_string(), &fields)).unwrap();
        let row = json!({"email": "Ann <ann@one.example>", "job": 7, "name": "<Ann>"});
        let packed = input::packed(row.as_object().unwrap(), &fields);
        assert!(packed.starts_with('['), "{packed}");
        let made = template.render(&packed, 1_795_230_509_000).unwrap();
        assert_eq!(made.envelope.recipients[0].address.as_str(), "ann@one.example");
        assert_eq!(made.envelope.reverse_path.0.map(|from| from.to_string()).as_deref(), Some("shop@app.example"));
        assert_eq!((made.priority, made.tags, made.deliver_by_ms), (3, vec!["oct".into()], Some(1_893_456_000_000)));
        let message = MessageParser::default().parse(&made.content).unwrap();
        assert_eq!(message.subject(), Some("Grüße, <Ann>"));
        assert_eq!(message.to().unwrap().first().unwrap().name(), Some("Ann"));
        assert_eq!(message.body_html(0).unwrap().trim(), "<p>&lt;Ann&gt;</p>");
        assert_eq!(message.header_raw("X-Job").map(str::trim), Some("7"));
        assert_eq!(message.attachments().next().unwrap().attachment_name(), Some("a.pdf"));
        assert!(template.render("[\"ann@one.example\"]", 0).unwrap_err().contains("name is missing"));
    }
}
