//! What is raised survives, once for each key.

use store::sqlite::{Options, SqliteStore};

use super::*;

fn alert(key: &str, severity: Severity) -> Alert {
    Alert {
        key: key.into(),
        rule: AlertRule::Incident,
        severity,
        title: "It is broken".into(),
        text: "Mend it.".into(),
        about: Vec::new(),
        avoid: vec!["out".into()],
        link: None,
    }
}

fn store(place: &std::path::Path) -> Arc<dyn Store> {
    let keyring = store::secret::Keyring::from_key(&[7; 32]);
    SqliteStore::open(Options::new(place, keyring), Clock::system().now_ms()).unwrap()
}

#[tokio::test]
async fn one_entry_for_a_key_until_it_is_over_and_after_a_restart_too() {
    let place = tempfile::tempdir().unwrap();
    let opened = store(place.path());
    let alerts = Alerts::new(opened.clone(), Clock::system());
    alerts.raise(alert("a", Severity::Warning)).await;
    alerts.raise(alert("a", Severity::Critical)).await;
    alerts.raise(alert("b", Severity::Warning)).await;
    let id = alerts.raised().await[0].id.unwrap();
    opened.close().await.unwrap();
    drop((alerts, opened));

    let opened = store(place.path());
    let alerts = Alerts::new(opened.clone(), Clock::system());
    alerts.raise(alert("a", Severity::Critical)).await;
    let raised = alerts.raised().await;
    assert_eq!(raised.len(), 2);
    assert_eq!((raised[0].id, raised[0].entry.times), (Some(id), 3));
    assert_eq!(raised[0].entry.alert, alert("a", Severity::Critical));

    assert_eq!(alerts.acknowledge(id, "ann", None).await.unwrap().entry.acknowledged.unwrap().who, "ann");
    alerts.resolve("a", "mended").await;
    assert!(alerts.acknowledge(id, "bob", None).await.is_none(), "it is over");
    alerts.resolve_others("b", &[], "no more").await;
    assert!(alerts.raised().await.is_empty());
    let records = opened.records(RecordQuery::of(RecordKind::Alert)).await.unwrap();
    assert_eq!(records.len(), 2);
    // Somebody has to be told of the end before the record is closed.
    assert!(records.iter().all(|record| record.open && record.body["resolved"]["why"].is_string()));
    opened.close().await.unwrap();
}

#[tokio::test]
async fn what_is_closed_is_history_and_comes_back_as_a_new_one() {
    let place = tempfile::tempdir().unwrap();
    let opened = store(place.path());
    let alerts = Alerts::new(opened.clone(), Clock::system());
    for _ in 0..2 {
        alerts.raise(alert("a", Severity::Warning)).await;
        alerts.resolve("a", "mended").await;
        alerts.with(|slots| slots.values_mut().for_each(Slot::close));
        alerts.flush().await;
    }
    assert!(alerts.with(|slots| slots.is_empty()));
    let records = opened.records(RecordQuery::named(RecordKind::Alert, "a")).await.unwrap();
    assert_eq!(records.iter().map(|record| record.open).collect::<Vec<_>>(), [false, false]);
    opened.close().await.unwrap();
}
