//! A recovery code opens once, whichever node it is shown to.

use net::Clock;
use store::secret::Keyring;
use store::sqlite::{Options, SqliteStore};

use super::super::role::Role;
use super::super::totp::Second;
use super::super::user::UserRecord;
use super::*;

#[tokio::test]
async fn a_recovery_code_opens_once_on_all_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let store = SqliteStore::open(Options::new(dir.path(), Keyring::from_key(&[7; 32])), clock.now_ms()).unwrap();
    let (one, other) = (Access::new(store.clone(), clock.clone()), Access::new(store.clone(), clock.clone()));
    let record = UserRecord {
        role: Role::Administrator,
        disabled: false,
        password_hash: None,
        password_ms: None,
        linked: None,
        email: None,
        created_ms: clock.now_ms(),
    };
    let mut second = Second::new();
    second.confirmed = true;
    let codes = second.renew_recovery();
    let (body, secret) = (serde_json::to_value(record).unwrap(), SecretChange::Set(second.write()));
    one.store.put_document(Kind::User, "ann".into(), body, secret, clock.now_ms()).await.unwrap();
    for code in &codes[..3] {
        // Both know the user before either uses the code.
        let (here, there) = (one.user("ann").await.unwrap().unwrap(), other.user("ann").await.unwrap().unwrap());
        let (here, there) = tokio::join!(one.second(&here, code), other.second(&there, code));
        assert!(here.unwrap() != there.unwrap(), "one of them gets in");
    }
}
