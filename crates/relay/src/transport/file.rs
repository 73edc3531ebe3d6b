//! Small files of things that were learnt: written whole, so that a crash leaves the old or the new one.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Most octets that are read back.
const MOST: u64 = 64 * 1024 * 1024;

/// Reads a file; one that is not there is empty, and so is, with a warning, one that cannot be read.
pub(crate) fn read<T: DeserializeOwned + Default>(path: &Path) -> T {
    let length = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return T::default(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "what was learnt before cannot be read");
            return T::default();
        }
    };
    if length > MOST {
        tracing::warn!(path = %path.display(), length, "what was learnt before is too long to be read");
        return T::default();
    }
    let read = std::fs::read(path).and_then(|octets| serde_json::from_slice(&octets).map_err(io::Error::other));
    read.unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "what was learnt before cannot be read");
        T::default()
    })
}

/// Writes a file in place of the old one, durably.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec(value).map_err(io::Error::other)?)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_rubbish_is_as_good_as_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("learnt.json");
        assert!(read::<Vec<u32>>(&path).is_empty());
        write(&path, &vec![1, 2]).unwrap();
        write(&path, &vec![3]).unwrap();
        assert_eq!(read::<Vec<u32>>(&path), vec![3]);
        std::fs::write(&path, "[3").unwrap();
        assert!(read::<Vec<u32>>(&path).is_empty());
    }
}
