//! Looks for a test mail in a mailbox, in every folder, without changing anything there.

use std::time::Duration;

use async_imap::types::NameAttribute;
use futures_util::StreamExt as _;
use net::Net;
use relay::secrets::Secrets;
use store::settings::Kind;

use super::judge::Place;
use super::record::Token;
use crate::http::App;
use crate::returned::mailbox::{MailboxError, MailboxRecord, PATIENCE, Proof, SMALL, open_link, token_name, within};

/// Folders that are searched.
const MOST_FOLDERS: usize = 40;
/// Octets of a header.
const HEADER: u64 = 512 << 10;
/// Longest look.
const LONGEST: Duration = Duration::from_secs(60);
/// Names of folders for spam, where the server does not mark them (RFC 6154).
const JUNK: [&str; 8] =
    ["junk", "spam", "junk e-mail", "junk email", "bulk mail", "bulk", "[gmail]/spam", "inbox.spam"];

/// A mail that was found.
#[derive(Debug)]
pub struct FoundMail {
    /// The folder.
    pub folder: String,
    /// What it is for.
    pub place: Place,
    /// When the server took it, Unix milliseconds.
    pub at_ms: Option<i64>,
    /// Its header.
    pub header: Vec<u8>,
}

/// Looks into a mailbox by its name. `Err` says why that cannot be done.
pub async fn look(app: &App, net: &Net, name: &str, token: &Token) -> Result<Option<FoundMail>, String> {
    let documents = app.store.documents(Kind::Mailbox).await.map_err(|error| error.to_string())?;
    let document = documents.into_iter().find(|document| document.name == name);
    let document = document.ok_or_else(|| format!("there is no mailbox {name} any more"))?;
    let secrets = Secrets::read(document.secret.as_ref()).map_err(|error| error.to_string())?;
    let record: MailboxRecord = serde_json::from_value(document.body).map_err(|error| error.to_string())?;
    let looking = async {
        let proof = proof(app, name, &record, &secrets).await?;
        find(net, &record, &proof, token).await
    };
    match tokio::time::timeout(LONGEST, looking).await {
        Ok(found) => found.map_err(|error| format!("the mailbox {name} cannot be read: {error}")),
        Err(_) => Err(format!("the mailbox {name} did not answer in {} s", LONGEST.as_secs())),
    }
}

async fn proof(app: &App, name: &str, record: &MailboxRecord, secrets: &Secrets) -> Result<Proof, MailboxError> {
    let Some(oauth) = &record.oauth else {
        let none = || MailboxError::SignIn("there is no password".into());
        return secrets.password.clone().map(Proof::Password).ok_or_else(none);
    };
    let tokens = app.tokens.as_ref().ok_or_else(|| MailboxError::Server("no authorities for HTTPS".into()))?;
    tokens.current(&token_name(name), oauth, secrets).await.map(Proof::Token).map_err(MailboxError::Token)
}

async fn find(
    net: &Net,
    record: &MailboxRecord,
    proof: &Proof,
    token: &Token,
) -> Result<Option<FoundMail>, MailboxError> {
    let mut link = open_link(net, record, proof).await?;
    link.allowance.set(HEADER);
    let folders = folders(&mut link.session, record.folder()).await?;
    let mut found = None;
    for (folder, place) in folders {
        link.allowance.set(SMALL);
        // EXAMINE: nothing is marked as seen. A folder that cannot be opened is none of ours.
        if within(PATIENCE, link.session.examine(&folder)).await.is_err() {
            continue;
        }
        let text = token.as_str();
        let query = format!("OR HEADER X-Arrival-Token \"{text}\" SUBJECT \"{text}\"");
        let uids = within(PATIENCE, link.session.uid_search(query)).await?;
        let Some(uid) = uids.into_iter().max() else { continue };
        link.allowance.set(HEADER);
        let asking = async {
            let stream = link.session.uid_fetch(uid.to_string(), "(UID INTERNALDATE BODY.PEEK[HEADER])").await?;
            let mut stream = std::pin::pin!(stream);
            let mut header = None;
            while let Some(one) = stream.next().await {
                let one = one?;
                if let Some(octets) = one.header().filter(|_| one.uid == Some(uid)) {
                    header = Some((octets.to_vec(), one.internal_date().map(|date| date.timestamp_millis())));
                }
            }
            Ok::<_, async_imap::error::Error>(header)
        };
        if let Some((header, at_ms)) = within(PATIENCE, asking).await? {
            found = Some(FoundMail { folder, place, at_ms, header });
            break;
        }
    }
    link.allowance.set(SMALL);
    let _ = tokio::time::timeout(Duration::from_secs(5), link.session.logout()).await;
    Ok(found)
}

type Session = async_imap::Session<crate::returned::mailbox::Metered>;

/// The folder of the settings first, then the inbox, then spam, then the others.
async fn folders(session: &mut Session, own: &str) -> Result<Vec<(String, Place)>, MailboxError> {
    let asking = async {
        let stream = session.list(Some(""), Some("*")).await?;
        let mut stream = std::pin::pin!(stream);
        let mut all = Vec::new();
        while let Some(one) = stream.next().await {
            let one = one?;
            let has = |wanted: &NameAttribute<'_>| one.attributes().contains(wanted);
            let elsewhere = [NameAttribute::NoSelect, NameAttribute::All, NameAttribute::Sent, NameAttribute::Drafts];
            if all.len() < 1_000 && !elsewhere.iter().any(has) {
                all.push((one.name().to_owned(), place(one.name(), own, has(&NameAttribute::Junk))));
            }
        }
        Ok::<_, async_imap::error::Error>(all)
    };
    let mut all = within(PATIENCE, asking).await?;
    if !all.iter().any(|(name, _)| name.eq_ignore_ascii_case(own)) {
        all.push((own.to_owned(), Place::Inbox));
    }
    all.sort_by_key(|(name, place)| match place {
        _ if name == own => 0,
        Place::Inbox => 1,
        Place::Junk => 2,
        _ => 3,
    });
    all.truncate(MOST_FOLDERS);
    Ok(all)
}

fn place(name: &str, own: &str, marked: bool) -> Place {
    let lower = name.to_ascii_lowercase();
    if marked || JUNK.contains(&lower.as_str()) || lower.ends_with("/spam") || lower.ends_with("/junk") {
        Place::Junk
    } else if lower == "inbox" || name == own {
        Place::Inbox
    } else {
        Place::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_for_spam_are_known_by_mark_or_name() {
        for (name, marked, wanted) in [
            ("INBOX", false, Place::Inbox),
            ("Junk", false, Place::Junk),
            ("[Gmail]/Spam", false, Place::Junk),
            ("Courrier ind\u{e9}sirable", true, Place::Junk),
            ("Probes", false, Place::Inbox),
            ("Reports", false, Place::Other),
        ] {
            assert_eq!(place(name, "Probes", marked), wanted, "{name}");
        }
    }
}
