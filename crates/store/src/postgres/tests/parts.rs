//! Parts of the events: the old ones go, each as soon as nobody holds it.

use super::Database;
use super::nodes::NOW;
use crate::postgres::parts::{AGAIN_MS, WEEK_MS, drop_before, ensure};

#[test]
fn a_part_that_somebody_holds_goes_when_he_has_ended_and_the_other_old_ones_before() {
    let database = Database::new();
    let store = database.open();
    let week = NOW.div_euclid(WEEK_MS);
    let times = (week - 3..=week).map(|week| week * WEEK_MS);
    store.handle.block_on(ensure(&store.shared, times)).unwrap();
    let there = || {
        database.sql(
            "SELECT string_agg(c.relname, ' ' ORDER BY c.relname) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = 'event'::regclass",
        )
    };
    let named = |weeks: &[i64]| weeks.iter().map(|week| format!("event_{week}")).collect::<Vec<_>>().join(" ");
    assert_eq!(there(), named(&[week - 3, week - 2, week - 1, week]));
    // As whoever copies the database does, for as long as that takes.
    let reader = store.handle.block_on(async {
        let reader = store.shared.pool.manager().connect().await.unwrap();
        let sql = format!(
            "SET idle_in_transaction_session_timeout TO 0; BEGIN; LOCK TABLE event_{} IN ACCESS SHARE MODE",
            week - 3
        );
        reader.client.batch_execute(&sql).await.unwrap();
        reader
    });
    let before_ms = (week - 1) * WEEK_MS;
    let drop_old = |before_ms| store.handle.block_on(drop_before(&store.shared, before_ms));
    assert!(drop_old(before_ms).is_err());
    assert_eq!(there(), named(&[week - 3, week - 1, week]));
    store.handle.block_on(reader.client.batch_execute("COMMIT")).unwrap();
    assert_eq!(drop_old(before_ms + 1).unwrap(), 0, "it is not tried all the time");
    assert_eq!(drop_old(before_ms + AGAIN_MS).unwrap(), 1);
    assert_eq!(there(), named(&[week - 1, week]));
    assert_eq!(drop_old(before_ms + 2 * AGAIN_MS).unwrap(), 0);
    assert_eq!(drop_old(before_ms + WEEK_MS).unwrap(), 1);
    assert_eq!(there(), named(&[week]));
}
