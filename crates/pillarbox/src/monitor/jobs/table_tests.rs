//! What the table promises, minute by minute, without a clock.

use super::*;
use crate::monitor::Schedule;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
/// 2026-11-21T00:00:00Z.
const DAY: i64 = 1_795_219_200_000;

fn job(name: &str, cron: &str) -> Job {
    let work = Work::new(|_| async { Done { level: Level::Ok, summary: String::new() } });
    Job::new(name, name, Group::Care, Schedule::parse(cron, Some("UTC")).unwrap(), work)
}

fn ok() -> Done {
    Done { level: Level::Ok, summary: "well".into() }
}

fn names(starts: &[Start]) -> Vec<&str> {
    starts.iter().map(|start| start.name.as_str()).collect()
}

/// Starts what is due and ends it at once.
fn pass(table: &mut Table, now_ms: i64) -> Vec<String> {
    let starts = table.start(now_ms);
    starts.iter().for_each(|start| drop(table.finished(&start.name, start.number, &ok(), now_ms)));
    starts.into_iter().map(|start| start.name).collect()
}

#[test]
fn a_job_runs_when_its_schedule_says_and_once_each_time() {
    let mut table = Table::default();
    table.put(job("hourly", "0 * * * *"), None, DAY + 1);
    let mut runs = Vec::new();
    for minute in 0..180 {
        let now_ms = DAY + 1 + minute * MINUTE;
        runs.extend(pass(&mut table, now_ms).iter().map(|_| minute));
    }
    assert_eq!(runs, [60, 120]);
    assert_eq!(table.get("hourly").unwrap().state.runs, 2);
}

#[test]
fn runs_missed_while_the_server_was_down_are_one_run() {
    let last = State { last_start_ms: Some(DAY), runs: 7, ..State::default() };
    let mut table = Table::default();
    let now_ms = DAY + 50 * HOUR + 1;
    table.put(job("hourly", "0 * * * *"), Some(last.clone()), now_ms);
    assert_eq!(pass(&mut table, now_ms + MINUTE - 1), [""; 0]);
    assert_eq!(pass(&mut table, now_ms + 2 * MINUTE), ["hourly"]);
    assert_eq!(pass(&mut table, now_ms + 3 * MINUTE), [""; 0]);
    assert_eq!(table.get("hourly").unwrap().next_ms, Some(DAY + 51 * HOUR));
    assert_eq!(table.get("hourly").unwrap().state.runs, 8);

    // Nothing was missed: it waits for its time.
    let mut table = Table::default();
    table.put(job("hourly", "0 * * * *"), Some(last), DAY + MINUTE);
    assert_eq!(pass(&mut table, DAY + 2 * MINUTE), [""; 0]);
}

#[test]
fn a_clock_that_jumps_ahead_gives_one_run_and_one_that_is_set_back_does_not_stop_the_job() {
    let mut table = Table::default();
    table.put(job("hourly", "0 * * * *"), None, DAY);
    assert_eq!(pass(&mut table, DAY + HOUR), ["hourly"]);
    let year = 366 * 24 * HOUR;
    assert_eq!(pass(&mut table, DAY + year + 1), ["hourly"]);
    assert_eq!(pass(&mut table, DAY + year + MINUTE), [""; 0]);
    // Back again: the last start is in the future now.
    let now_ms = DAY + 2 * HOUR + MINUTE;
    assert_eq!(pass(&mut table, now_ms), [""; 0]);
    assert_eq!(table.get("hourly").unwrap().next_ms, Some(DAY + 3 * HOUR));
    assert_eq!(pass(&mut table, DAY + 3 * HOUR), ["hourly"]);
}

#[test]
fn a_job_never_runs_twice_at_once_and_a_long_run_is_not_made_up_for() {
    let mut table = Table::default();
    table.put(job("often", "* * * * *"), None, DAY);
    let starts = table.start(DAY + MINUTE);
    assert_eq!(names(&starts), ["often"]);
    assert_eq!(names(&table.start(DAY + 2 * MINUTE)), [""; 0]);
    assert_eq!(table.ask("often"), Err(Refused::Running));
    table.finished("often", starts[0].number, &ok(), DAY + 10 * MINUTE + 1).unwrap();
    let entry = table.get("often").unwrap();
    assert_eq!((entry.state.duration_ms, entry.next_ms), (9 * 60_000 + 1, Some(DAY + 11 * MINUTE)));
}

#[test]
fn few_run_at_once_and_checks_leave_room_for_others() {
    let mut table = Table::default();
    for n in 0..10 {
        table.put(Job { group: Group::Check, ..job(&format!("check-{n}"), "* * * * *") }, None, DAY);
    }
    table.put(job("report", "* * * * *"), None, DAY);
    let starts = table.start(DAY + MINUTE);
    assert_eq!(names(&starts), ["check-0", "check-1", "check-2", "check-3", "report"]);
    assert_eq!(names(&table.start(DAY + MINUTE)), [""; 0]);
    table.finished("check-2", starts[2].number, &ok(), DAY + MINUTE).unwrap();
    assert_eq!(names(&table.start(DAY + MINUTE)), ["check-4"]);
}

#[test]
fn a_paused_job_runs_only_when_asked_and_goes_on_as_scheduled() {
    let mut table = Table::default();
    table.put(job("hourly", "0 * * * *"), None, DAY);
    let kept = table.pause("hourly", Some("the provider works on it".into()), DAY + 1).unwrap();
    assert_eq!(kept.paused, Some((DAY + 1, "the provider works on it".into())));
    assert_eq!(pass(&mut table, DAY + 5 * HOUR), [""; 0]);
    table.ask("hourly").unwrap();
    assert_eq!(pass(&mut table, DAY + 5 * HOUR + 1), ["hourly"]);
    assert_eq!(table.get("hourly").unwrap().next_ms, None);
    // A restart of the server does not end the pause.
    let mut other = Table::default();
    other.put(job("hourly", "0 * * * *"), Some(kept), DAY + 6 * HOUR);
    assert_eq!(pass(&mut other, DAY + 9 * HOUR), [""; 0]);
    table.pause("hourly", None, DAY + 5 * HOUR + 2).unwrap();
    assert_eq!(pass(&mut table, DAY + 6 * HOUR), ["hourly"]);
    assert_eq!(table.pause("other", None, DAY), Err(Refused::Unknown));
}

#[test]
fn a_restart_ends_the_run_and_begins_another() {
    let mut table = Table::default();
    table.put(job("hourly", "0 * * * *"), None, DAY);
    let first = table.start(DAY + HOUR);
    table.restart("hourly").unwrap();
    assert!(first[0].stop.is_cancelled());
    // Not before the first has really ended.
    assert_eq!(names(&table.start(DAY + HOUR)), [""; 0]);
    table.finished("hourly", first[0].number, &ok(), DAY + HOUR).unwrap();
    let second = table.start(DAY + HOUR);
    assert_eq!(names(&second), ["hourly"]);
    // A late word of the first changes nothing.
    assert_eq!(table.finished("hourly", first[0].number, &ok(), DAY + HOUR), None);
    assert!(table.get("hourly").unwrap().running.is_some());
}

#[test]
fn another_schedule_counts_from_the_last_run_and_a_removed_job_is_stopped() {
    let mut table = Table::default();
    table.put(job("job", "0 8 * * *"), None, DAY);
    pass(&mut table, DAY + 8 * HOUR);
    table.put(job("job", "0 * * * *"), None, DAY + 8 * HOUR + MINUTE);
    assert_eq!(table.get("job").unwrap().next_ms, Some(DAY + 9 * HOUR));
    let starts = table.start(DAY + 9 * HOUR);
    table.remove("job");
    assert!(starts[0].stop.is_cancelled());
    assert!(table.finished("job", starts[0].number, &ok(), DAY + 9 * HOUR).is_none());
}

#[test]
fn what_another_node_has_run_is_not_run_again_and_one_that_does_not_lead_runs_only_what_is_asked_of_it() {
    let mut table = Table::default();
    table.put(job("hourly", "0 * * * *"), None, DAY);
    assert_eq!(names(&table.start_some(DAY + 2 * HOUR, Which::Asked)), [""; 0]);
    table.ask("hourly").unwrap();
    let asked = table.start_some(DAY + 2 * HOUR, Which::Asked);
    assert_eq!(names(&asked), ["hourly"]);
    table.finished("hourly", asked[0].number, &ok(), DAY + 2 * HOUR).unwrap();
    // The other node has run it since; an older word of it changes nothing.
    let other = State { last_start_ms: Some(DAY + 5 * HOUR), runs: 4, ..State::default() };
    table.adopt(|_| Some(other.clone()), DAY + 5 * HOUR + 1);
    assert_eq!(table.start(DAY + 5 * HOUR + MINUTE).len(), 0);
    table.adopt(|_| Some(State { runs: 3, ..State::default() }), DAY + 5 * HOUR + 2);
    assert_eq!(table.get("hourly").unwrap().state, other);
    // Somebody paused it there.
    let paused = State { paused: Some((DAY, "so".into())), ..other };
    table.adopt(|_| Some(paused.clone()), DAY + 5 * HOUR + 3);
    assert_eq!(pass(&mut table, DAY + 9 * HOUR), [""; 0]);
}
