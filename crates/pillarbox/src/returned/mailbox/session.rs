//! What is asked of a mailbox: which mails are new, one of them, and what shall become of it. Every answer is bounded.

use std::time::Duration;

use async_imap::types::Fetch;
use bytes::Bytes;
use futures_util::StreamExt as _;
use proto::report::{Report, classify};
use store::{Kept, MailboxPlace, NewReturned, Store};

use super::link::{Link, MailboxError, PATIENCE, SMALL, within};
use super::record::{After, First, MailboxRecord};
use crate::returned::unpack;

/// Most octets of the list of new mails: some 100,000 numbers.
const LIST: u64 = 1 << 20;
/// Largest mail that is taken.
const MAX_MAIL: u32 = 32 << 20;
/// Mails whose size is asked for at once.
const AT_ONCE: usize = 100;
/// Longest wait for a mail.
const MAIL_PATIENCE: Duration = Duration::from_secs(300);

/// What a look at a mailbox gave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// Mails looked at.
    pub seen: u64,
    /// Mails taken.
    pub taken: u64,
}

/// One mailbox, open.
pub struct Reader<'a> {
    pub(super) link: Link,
    pub(super) store: &'a dyn Store,
    pub(super) name: &'a str,
    pub(super) record: &'a MailboxRecord,
    place: MailboxPlace,
}

impl<'a> Reader<'a> {
    /// Opens the folder and finds the place where reading goes on.
    pub async fn select(
        mut link: Link,
        store: &'a dyn Store,
        name: &'a str,
        record: &'a MailboxRecord,
    ) -> Result<Self, MailboxError> {
        link.allowance.set(SMALL);
        let folder = within(PATIENCE, link.session.select(record.folder())).await?;
        let Some(validity) = folder.uid_validity else {
            return Err(MailboxError::Server("the folder has no UIDVALIDITY: it cannot be followed".into()));
        };
        let known = store.mailbox_place(name.to_owned()).await?;
        let place = match known {
            Some(place) if place.validity == validity => place,
            // Numbers began anew: what is there may be old or new, and what is read twice counts once.
            Some(_) => MailboxPlace { validity, uid: 0 },
            None => {
                let uid = match record.first {
                    First::All => 0,
                    First::New => folder.uid_next.unwrap_or(1).saturating_sub(1),
                };
                MailboxPlace { validity, uid }
            }
        };
        if known != Some(place) {
            store.move_mailbox(name.to_owned(), place).await?;
        }
        Ok(Self { link, store, name, record, place })
    }

    /// Takes what is new.
    pub async fn look(&mut self) -> Result<Look, MailboxError> {
        let mut look = Look::default();
        let new = self.list().await?;
        for chunk in new.chunks(AT_ONCE) {
            for (uid, size) in self.sizes(chunk).await? {
                look.seen += 1;
                look.taken += u64::from(self.take(uid, size).await?);
            }
        }
        Ok(look)
    }

    /// UIDs behind the place, in order.
    async fn list(&mut self) -> Result<Vec<u32>, MailboxError> {
        self.link.allowance.set(LIST);
        let query = format!("UID {}:*", self.place.uid.saturating_add(1));
        let found = within(PATIENCE, self.link.session.uid_search(query)).await?;
        // `n:*` names the last mail even where it lies before n (RFC 9051 §9).
        let mut uids: Vec<u32> = found.into_iter().filter(|uid| *uid > self.place.uid).collect();
        uids.sort_unstable();
        Ok(uids)
    }

    async fn sizes(&mut self, uids: &[u32]) -> Result<Vec<(u32, u32)>, MailboxError> {
        self.link.allowance.set(SMALL);
        let set = uids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let answers = self.fetch(&set, "(UID RFC822.SIZE)", PATIENCE, uids.len() * 4).await?;
        let size = |uid: u32| answers.iter().find(|one| one.uid == Some(uid)).and_then(|one| one.size);
        // One that is gone meanwhile has no size, and is passed over.
        Ok(uids.iter().map(|uid| (*uid, size(*uid).unwrap_or(0))).collect())
    }

    async fn fetch(&mut self, set: &str, what: &str, limit: Duration, most: usize) -> Result<Vec<Fetch>, MailboxError> {
        let asking = async {
            let stream = self.link.session.uid_fetch(set, what).await?;
            let mut stream = std::pin::pin!(stream);
            let mut found = Vec::new();
            while let Some(one) = stream.next().await {
                let one = one?;
                if found.len() < most {
                    found.push(one);
                }
            }
            Ok::<_, async_imap::error::Error>(found)
        };
        within(limit, asking).await
    }

    /// Takes one mail if it is something that came back. True: it was.
    async fn take(&mut self, uid: u32, size: u32) -> Result<bool, MailboxError> {
        let place = MailboxPlace { uid, ..self.place };
        let mail = match size {
            0 => None,
            size if size > MAX_MAIL => {
                tracing::warn!(mailbox = self.name, uid, size, "a mail is too large to be read, it stays where it is");
                None
            }
            size => self.mail(uid, size).await?,
        };
        let wanted = match mail {
            Some(mail) => {
                let content = mail.clone();
                let is = tokio::task::spawn_blocking(move || is_ours(&content)).await.unwrap_or(false);
                is.then_some(mail)
            }
            None => None,
        };
        let Some(content) = wanted else {
            // A letter of somebody: not our affair.
            self.store.move_mailbox(self.name.to_owned(), place).await?;
            self.place = place;
            return Ok(false);
        };
        let mail = NewReturned {
            source: format!("imap:{}", self.name),
            recipient: None,
            at_ms: self.link.clock.now_ms(),
            content,
            place: Some((self.name.to_owned(), place)),
        };
        match self.store.keep_returned(mail).await? {
            Kept::Durable | Kept::Repeated => self.place = place,
            Kept::TooMany => return Err(MailboxError::Server("too much returned mail waits to be read".into())),
        }
        self.put_away(uid).await?;
        Ok(true)
    }

    async fn mail(&mut self, uid: u32, size: u32) -> Result<Option<Bytes>, MailboxError> {
        self.link.allowance.set(u64::from(size).saturating_mul(2) + SMALL);
        let found = self.fetch(&uid.to_string(), "(UID BODY.PEEK[])", MAIL_PATIENCE, 4).await?;
        let one = found.iter().find(|one| one.uid == Some(uid));
        Ok(one.and_then(Fetch::body).map(Bytes::copy_from_slice))
    }

    /// A crash before this leaves the mail where it is; it is not read again all the same.
    async fn put_away(&mut self, uid: u32) -> Result<(), MailboxError> {
        self.link.allowance.set(SMALL);
        let uid = uid.to_string();
        match self.record.after {
            After::Keep => Ok(()),
            After::Seen => self.flag(&uid, "+FLAGS.SILENT (\\Seen)").await,
            After::Move => {
                let to = self.record.move_to.clone().unwrap_or_default();
                let moved = within(PATIENCE, self.link.session.uid_mv(&uid, &to)).await;
                if let Err(error) = moved {
                    tracing::warn!(mailbox = self.name, %error, "a mail cannot be moved, it stays where it is");
                }
                Ok(())
            }
            After::Delete => {
                self.flag(&uid, "+FLAGS.SILENT (\\Seen \\Deleted)").await?;
                let asking = async {
                    let stream = self.link.session.uid_expunge(&uid).await?;
                    let mut stream = std::pin::pin!(stream);
                    while let Some(one) = stream.next().await {
                        one?;
                    }
                    Ok::<_, async_imap::error::Error>(())
                };
                let removed = within(PATIENCE, asking).await;
                if let Err(error) = removed {
                    tracing::warn!(mailbox = self.name, %error, "a mail cannot be removed, it is marked only");
                }
                Ok(())
            }
        }
    }

    async fn flag(&mut self, uid: &str, query: &str) -> Result<(), MailboxError> {
        let asking = async {
            let stream = self.link.session.uid_store(uid, query).await?;
            let mut stream = std::pin::pin!(stream);
            while let Some(one) = stream.next().await {
                one?;
            }
            Ok::<_, async_imap::error::Error>(())
        };
        within(PATIENCE, asking).await
    }
}

/// Bounces, complaints and reports; letters and automatic answers are left alone.
fn is_ours(mail: &[u8]) -> bool {
    matches!(classify(mail), Report::Bounce(_) | Report::Complaint(_))
        || unpack::attached(mail).iter().any(Result::is_ok)
}
