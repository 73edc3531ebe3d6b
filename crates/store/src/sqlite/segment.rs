//! Segment files: contents one behind the other, written and synced before the metadata that refers to them.
//!
//! A segment is never changed, only appended to; what lies behind its last referenced octet is garbage of a failed
//! batch and harmless. Every start begins a new segment.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fault::{Fault, FaultPoint, Faults};

/// Slices given to one pwritev; IOV_MAX is 1,024.
const SLICES: usize = 512;

/// Where a content lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: i64,
    pub(super) offset: u64,
}

struct Current {
    id: i64,
    file: File,
    end: u64,
}

/// The writer's side of the segments.
pub(super) struct Segments {
    dir: PathBuf,
    limit: u64,
    next: i64,
    current: Option<Current>,
    retired: Vec<i64>,
    faults: Arc<Faults>,
}

/// Path of a segment.
pub(super) fn path(dir: &Path, id: i64) -> PathBuf {
    dir.join(format!("{id:08}.seg"))
}

/// Makes names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Numbers of the segment files in a directory.
pub(super) fn list(dir: &Path) -> io::Result<BTreeSet<i64>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if let Some(id) = name.to_str().and_then(|name| name.strip_suffix(".seg")).and_then(|id| id.parse().ok()) {
            found.insert(id);
        }
    }
    Ok(found)
}

/// Reads a content without checking it.
pub(super) fn read(dir: &Path, place: Place, length: usize) -> io::Result<Vec<u8>> {
    let file = File::open(path(dir, place.segment))?;
    // A damaged row must not make us reserve memory for octets that are not there.
    if file.metadata()?.len() < place.offset.saturating_add(length as u64) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut content = vec![0; length];
    file.read_exact_at(&mut content, place.offset)?;
    Ok(content)
}

impl Segments {
    /// Segments of `dir`; the first write starts segment `next`.
    pub(super) fn new(dir: PathBuf, limit: u64, next: i64, faults: Arc<Faults>) -> Self {
        Self { dir, limit, next, current: None, retired: Vec::new(), faults }
    }

    /// The segment that is written to: never removed, never compacted.
    pub(super) fn current(&self) -> Option<i64> {
        self.current.as_ref().map(|current| current.id)
    }

    /// Octets written to the current segment.
    pub(super) fn end(&self) -> u64 {
        self.current.as_ref().map_or(0, |current| current.end)
    }

    /// Segments that were completed since they were last asked for and may have lost all their contents before.
    pub(super) fn retired(&self) -> &[i64] {
        &self.retired
    }

    /// Forgets the completed segments: they were looked at.
    pub(super) fn forget_retired(&mut self) {
        self.retired.clear();
    }

    /// Directory of the segments.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes contents and syncs them; gives their places, in order.
    pub(super) fn append(&mut self, contents: &[&[u8]]) -> Result<Vec<Place>, Fault> {
        let mut current = match self.current.take() {
            Some(current) if current.end < self.limit => current,
            Some(complete) => {
                self.retired.push(complete.id);
                self.start()?
            }
            None => self.start()?,
        };
        let start = current.end;
        match self.write(&current, contents) {
            Ok(()) => {}
            Err(Fault::Full) => {
                // What was written of it is garbage: give the room back and go on at the same place.
                let _ = current.file.set_len(start);
                self.current = Some(current);
                return Err(Fault::Full);
            }
            // After a failed write or sync this file's end is unknown: it is not written to again.
            Err(other) => return Err(other),
        }
        let places = contents
            .iter()
            .map(|content| {
                let place = Place { segment: current.id, offset: current.end };
                current.end += content.len() as u64;
                place
            })
            .collect();
        self.current = Some(current);
        Ok(places)
    }

    fn write(&self, current: &Current, contents: &[&[u8]]) -> Result<(), Fault> {
        if self.faults.take(FaultPoint::SegmentWrite) {
            return Err(Fault::Broken("injected segment write error".into()));
        }
        if self.faults.take(FaultPoint::SegmentFull) {
            return Err(Fault::Full);
        }
        let mut offset = current.end;
        for group in contents.chunks(SLICES) {
            let mut slices: Vec<IoSlice<'_>> = group.iter().map(|content| IoSlice::new(content)).collect();
            let mut rest = &mut slices[..];
            IoSlice::advance_slices(&mut rest, 0);
            while !rest.is_empty() {
                match rustix::io::pwritev(&current.file, rest, offset) {
                    Ok(0) => return Err(Fault::Broken("segment write wrote nothing".into())),
                    Ok(written) => {
                        offset += written as u64;
                        IoSlice::advance_slices(&mut rest, written);
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(io::Error::from(error).into()),
                }
            }
        }
        if self.faults.take(FaultPoint::SegmentSync) {
            return Err(Fault::Broken("injected segment fdatasync error".into()));
        }
        // ENOSPC from a sync is a lost write as well: never `Full`.
        current.file.sync_data().map_err(|error| Fault::Broken(format!("segment fdatasync: {error}")))
    }

    fn start(&mut self) -> Result<Current, Fault> {
        let id = self.next;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path(&self.dir, id))?;
        self.next += 1;
        sync_dir(&self.dir).map_err(|error| Fault::Broken(format!("segment directory fsync: {error}")))?;
        Ok(Current { id, file, end: 0 })
    }
}
