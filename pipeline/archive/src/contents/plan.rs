//! What is to be read, on disk: frames and files in storage order, files in parts one after the other.

use std::path::Path;

use crate::catalog::entry::{At, Entry, Part};
use crate::contents::{ReadError, Wanted};
use crate::sort::spool::{Spool, Spooled};
use crate::sort::{Sorted, Sorter};

/// Memory for sorting, of each of the two sorters.
const SORT_BYTES_MAX: usize = 8 << 20;

/// Tags of records in the spool of files in parts.
pub(super) const FILE: &[u8] = b"f";
pub(super) const PARTS: &[u8] = b"p";

/// Collects what is to be read.
#[derive(Debug)]
pub struct Plan {
    frames: Sorter,
    wants: Sorter,
    parted: Spool,
    files: u64,
    bytes: u64,
}

/// What [`super::read`] reads.
#[derive(Debug)]
pub struct Planned {
    pub(super) frames: Sorted,
    pub(super) wants: Sorted,
    pub(super) parted: Spooled,
}

impl Plan {
    /// Nothing yet; spills into the folder `state`.
    pub fn new(state: &Path) -> Result<Self, ReadError> {
        Ok(Self {
            frames: Sorter::new(state, SORT_BYTES_MAX),
            wants: Sorter::new(state, SORT_BYTES_MAX),
            parted: Spool::new(state)?,
            files: 0,
            bytes: 0,
        })
    }

    /// Adds a file. One without data needs no reading and is refused: `false`. After a file in parts its
    /// parts must follow, by [`Plan::add_parts`].
    pub fn add(&mut self, ordinal: u64, entry: &Entry) -> Result<bool, ReadError> {
        let data_bytes: u64 = entry.meta.data().iter().map(|extent| extent.length).sum();
        let wanted = serde_json::to_vec(&Wanted { ordinal, entry: entry.clone() })?;
        match &entry.at {
            _ if entry.parts > 0 => self.parted.push(FILE, &wanted)?,
            Some(at) if data_bytes > 0 => {
                self.frames.push(&frame_key(&at.volume, at.frame), &at.frame_bytes.to_be_bytes())?;
                self.wants.push(&member_key(at), &wanted)?;
            }
            _ => return Ok(false),
        }
        self.files += 1;
        self.bytes += entry.meta.size;
        Ok(true)
    }

    /// Adds the next parts of the file in parts that was added last.
    pub fn add_parts(&mut self, parts: &[Part]) -> Result<(), ReadError> {
        Ok(self.parted.push(PARTS, &serde_json::to_vec(parts)?)?)
    }

    /// Files so far.
    pub fn files(&self) -> u64 {
        self.files
    }

    /// Bytes of these files, holes included.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends planning.
    pub fn finish(self) -> Result<Planned, ReadError> {
        Ok(Planned { frames: self.frames.finish()?, wants: self.wants.finish()?, parted: self.parted.finish()? })
    }
}

/// Sorts by volume, then frame. Keys of volumes hold no NUL: a store would refuse them.
pub(super) fn frame_key(volume: &str, frame: u64) -> Vec<u8> {
    let mut key = volume.as_bytes().to_vec();
    key.push(0);
    key.extend_from_slice(&frame.to_be_bytes());
    key
}

/// Volume and frame of a key; both empty for what [`frame_key`] does not write.
pub(super) fn split_frame_key(key: &[u8]) -> (&str, u64) {
    let split = || {
        let (rest, frame) = key.split_last_chunk()?;
        let (_, volume) = rest.split_last()?;
        Some((std::str::from_utf8(volume).ok()?, u64::from_be_bytes(*frame)))
    };
    split().unwrap_or_default()
}

fn member_key(at: &At) -> Vec<u8> {
    let mut key = frame_key(&at.volume, at.frame);
    key.extend_from_slice(&at.offset.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_by_volume_then_frame_and_split_again() {
        let keys = [frame_key("volumes/a", 256), frame_key("volumes/a", 257), frame_key("volumes/a/b", 0)];
        assert!(keys.is_sorted());
        assert_eq!(split_frame_key(&keys[1]), ("volumes/a", 257));
        assert_eq!(split_frame_key(b"short"), ("", 0));
    }
}
