//! What can go wrong in the engine, sorted by what has to be done about it; and a way to make it go wrong in tests.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::ErrorCode;

use crate::StoreError;

/// Why a step of the writer failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// No room: accepts are refused, the rest gets the ballast.
    Full,
    /// Nothing is known any more about what is on the disk: everything stops until the store is verified.
    Broken(String),
    /// Only this command is to blame.
    Command(StoreError),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Fault::Full,
            Some(
                ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked,
            ) => Fault::Broken(error.to_string()),
            _ => Fault::Command(StoreError::Internal(error.to_string())),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Fault::Full,
            _ => Fault::Broken(error.to_string()),
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Fault::Command(error)
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Full => StoreError::Full,
            Fault::Broken(why) => StoreError::Unhealthy(why),
            Fault::Command(error) => error,
        }
    }
}

/// Where a fault can be injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultPoint {
    /// Writing contents fails with an I/O error.
    SegmentWrite,
    /// Writing contents finds no room.
    SegmentFull,
    /// fdatasync of contents fails.
    SegmentSync,
    /// COMMIT fails with an I/O error.
    Commit,
    /// COMMIT finds no room.
    CommitFull,
    /// Opening again after a fault fails.
    Reopen,
}

/// Faults to come, for tests: each point fails as often as it was told to.
#[derive(Debug, Default)]
pub struct Faults([AtomicU32; 6]);

impl Faults {
    /// Makes the next `times` passages through a point fail.
    pub fn fail(&self, point: FaultPoint, times: u32) {
        self.0[point as usize].store(times, Ordering::SeqCst);
    }
    /// Takes one fault, if there is one left.
    pub(super) fn take(&self, point: FaultPoint) -> bool {
        let slot = &self.0[point as usize];
        slot.load(Ordering::Relaxed) > 0
            && slot.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }
}
