//! DATA and BDAT: how content is taken in, bounded, refused and handed over.

use super::{Content, Event, Phase, Question, Server};
use crate::smtp::body::{ContentCheck, DataDecoder};
use crate::smtp::reply::Reply;

/// Most octets reserved because a client announced them: memory is given for what comes, not for what is claimed.
const MAX_RESERVED: u64 = 64 * 1024;

impl Server {
    pub(super) fn data(&mut self) {
        let (announced, recipients) = match &self.transaction {
            Some(envelope) => (envelope.parameters.size.unwrap_or(0), envelope.recipients.len()),
            None => return self.fail("503 5.5.1 say MAIL and RCPT first"),
        };
        if self.chunking {
            self.fail("503 5.5.1 BDAT has begun, DATA cannot follow");
            return self.reset();
        }
        if recipients == 0 {
            self.fail("554 5.5.1 no valid recipients");
            return self.reset();
        }
        self.content.reserve(announced.min(MAX_RESERVED) as usize);
        self.phase = Phase::Data(DataDecoder::new());
        self.say("354 end with a dot on a line of its own");
    }

    pub(super) fn bdat(&mut self, size: u64, last: bool) {
        let recipients = match &self.transaction {
            Some(envelope) => envelope.recipients.len(),
            None => return self.refuse_chunk(size, last, "503 5.5.1 say MAIL and RCPT first"),
        };
        if recipients == 0 {
            return self.refuse_chunk(size, last, "554 5.5.1 no valid recipients");
        }
        self.chunking = true;
        self.await_chunk(size, last);
        if self.over_limit(size) {
            self.drop_content(too_large());
        } else {
            self.content.reserve(size.min(MAX_RESERVED) as usize);
        }
    }

    /// Reads over a chunk that cannot be taken: its octets must never be read as commands.
    pub(super) fn refuse_chunk(&mut self, size: u64, last: bool, line: &str) {
        self.await_chunk(size, last);
        let (code, text) = line.split_once(' ').unwrap_or(("503", line));
        self.refusal = Some(Reply::new(code.parse().unwrap_or(503), text));
        self.count_error();
    }

    fn await_chunk(&mut self, size: u64, last: bool) {
        self.phase = if size == 0 { Phase::ContentEnd { last } } else { Phase::Chunk { left: size, last } };
    }

    /// Takes content off the front of `octets`; gives how many octets that was.
    pub(super) fn take_content(&mut self, octets: &[u8]) -> usize {
        let (taken, ended) = match &mut self.phase {
            Phase::Data(decoder) => {
                let end = decoder.decode(octets, &mut self.content);
                if end.is_some() {
                    self.check = decoder.check().clone();
                }
                (end.unwrap_or(octets.len()), end.map(|_| true))
            }
            Phase::Chunk { left, last } => {
                let taken = usize::try_from(*left).map_or(octets.len(), |left| left.min(octets.len()));
                *left -= taken as u64;
                let ended = (*left == 0).then_some(*last);
                if self.refusal.is_none() {
                    self.check.feed(&octets[..taken]);
                    self.content.extend_from_slice(&octets[..taken]);
                }
                (taken, ended)
            }
            _ => return 0,
        };
        if self.refusal.is_none() && self.over_limit(0) {
            self.drop_content(too_large());
        }
        if let Some(last) = ended {
            self.phase = Phase::ContentEnd { last };
        }
        taken
    }

    /// The same for octets that came together with the command.
    pub(super) fn take_buffered_content(&mut self) {
        let input = std::mem::take(&mut self.input);
        let taken = self.take_content(input.rest());
        // Ending the session has replaced the input; nothing else touches it meanwhile.
        self.input = input;
        self.input.skip(taken);
    }

    fn over_limit(&self, more: u64) -> bool {
        let limit = self.settings.max_size;
        limit > 0 && (self.content.len() as u64).saturating_add(more) > limit
    }

    /// Frees what came and keeps nothing more; the first reason stands.
    pub(super) fn drop_content(&mut self, reply: Reply) {
        self.content = Vec::new();
        if let Phase::Data(decoder) = &mut self.phase {
            decoder.discard();
        }
        self.refusal.get_or_insert(reply);
    }

    pub(super) fn content_end(&mut self, last: bool) -> Option<Event> {
        self.phase = Phase::Command;
        if last {
            self.check.finish();
            // Where a chunk ends is never in doubt: if it is refused for another reason, that one is told.
            if self.check.bare() && !(self.chunking && self.refusal.is_some()) {
                // Sender and we may not agree where this message ends: what follows is not to be trusted.
                self.say_and_close("550 5.5.2 lines of a message must end in CR LF");
                return None;
            }
        }
        if let Some(reply) = self.refusal.take() {
            self.reset();
            self.reply(&reply);
            return None;
        }
        if !last {
            self.say("250 2.0.0 chunk taken");
            return None;
        }
        let envelope = self.transaction.take()?;
        let ContentCheck { eight_bit, nul, longest_line, .. } = std::mem::take(&mut self.check);
        let octets = std::mem::take(&mut self.content);
        self.phase = Phase::Waiting(Question::Message);
        Some(Event::Message(envelope, Content { octets, eight_bit, longest_line, nul }))
    }
}

fn too_large() -> Reply {
    Reply::new(552, "5.3.4 message is larger than the limit")
}
