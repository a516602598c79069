//! Where content lies that is stored already, by its key: what makes equal content stored once.
//!
//! Promises bounded memory for any number of files: recent keys in a map, all others in sorted
//! files of this run, found by one read of 4 KiB each. Nothing of it outlives the run: it is
//! built from the catalog of the parent every time, so it can never point at what is gone.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::backup::place::Place;
use crate::digest::Digest;
use crate::sort::{Record, SortError, Sorter, nameless};
use crate::tree::meta::Extent;

const KEY_BYTES: usize = 32;
const RECORD_BYTES: usize = KEY_BYTES + Place::BYTES;
/// Records between two fences: 4 KiB.
const BLOCK_RECORDS: usize = 64;
/// Keys in memory before they become a file.
const RECENT_MAX: usize = 1 << 16;
/// Files before they are merged.
const FILES_MAX: usize = 8;
/// Memory of sorting and merging.
const SORT_BYTES: usize = 16 << 20;

/// The index cannot be kept on disk.
#[derive(Debug, thiserror::Error)]
pub enum IndexFailure {
    /// Its files.
    #[error("cannot keep the index of contents in {}", folder.display())]
    Io {
        /// Where.
        folder: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Sorting.
    #[error(transparent)]
    Sort(#[from] SortError),
}

/// What two equal contents have in common: the digest; for sparse files the extents too, since the
/// stored data is read back in them.
pub fn content_key(sha256: Digest, extents: Option<&[Extent]>) -> Digest {
    let Some(extents) = extents else { return sha256 };
    let mut hash = Sha256::new();
    hash.update(b"sparse\0");
    hash.update(sha256.0);
    for extent in extents {
        hash.update(extent.offset.to_le_bytes());
        hash.update(extent.length.to_le_bytes());
    }
    Digest::finish(hash)
}

/// The index.
pub struct Index {
    folder: PathBuf,
    recent: HashMap<Digest, Place>,
    files: Vec<SortedFile>,
}

impl Index {
    /// Starts with what `sorter` collected through [`Index::collect`].
    pub fn new(folder: &Path, sorter: Sorter) -> Result<Self, IndexFailure> {
        let first = SortedFile::write(folder, sorter.finish()?)?;
        Ok(Self { folder: folder.to_owned(), recent: HashMap::new(), files: vec![first] })
    }

    /// A sorter for [`Index::new`].
    pub fn sorter(folder: &Path) -> Sorter {
        Sorter::new(folder, SORT_BYTES)
    }

    /// Notes what is stored already.
    pub fn collect(sorter: &mut Sorter, key: Digest, place: Place) -> Result<(), IndexFailure> {
        Ok(sorter.push(&key.0, &place.to_bytes())?)
    }

    /// Where the content with this key lies.
    pub fn get(&self, key: Digest) -> Result<Option<Place>, IndexFailure> {
        if let Some(place) = self.recent.get(&key) {
            return Ok(Some(*place));
        }
        // Newest first: content that was sent again is wanted at its new place.
        for file in self.files.iter().rev() {
            if let Some(place) = file.get(key).map_err(|source| self.failed(source))? {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Notes what is being stored.
    pub fn insert(&mut self, key: Digest, place: Place) -> Result<(), IndexFailure> {
        self.recent.insert(key, place);
        if self.recent.len() < RECENT_MAX {
            return Ok(());
        }
        let mut sorter = Self::sorter(&self.folder);
        for (key, place) in self.recent.drain() {
            Self::collect(&mut sorter, key, place)?;
        }
        self.files.push(SortedFile::write(&self.folder, sorter.finish()?)?);
        if self.files.len() > FILES_MAX { self.merge() } else { Ok(()) }
    }

    fn merge(&mut self) -> Result<(), IndexFailure> {
        let mut sorter = Self::sorter(&self.folder);
        // Equal keys keep the order of arrival, and the first of them stays: the newest.
        for file in std::mem::take(&mut self.files).iter().rev() {
            for record in file.records() {
                let record = record.map_err(|source| self.failed(source))?;
                sorter.push(&record[..KEY_BYTES], &record[KEY_BYTES..])?;
            }
        }
        self.files.push(SortedFile::write(&self.folder, sorter.finish()?)?);
        Ok(())
    }

    fn failed(&self, source: io::Error) -> IndexFailure {
        IndexFailure::Io { folder: self.folder.clone(), source }
    }
}

/// Records in order of their keys, each once.
struct SortedFile {
    file: File,
    records: u64,
    /// The first eight bytes of the first key of each block.
    fences: Vec<[u8; 8]>,
}

impl SortedFile {
    fn write(folder: &Path, sorted: impl Iterator<Item = Result<Record, SortError>>) -> Result<Self, IndexFailure> {
        let failed = |source: io::Error| IndexFailure::Io { folder: folder.to_owned(), source };
        let file = nameless(folder).map_err(failed)?;
        let mut out = BufWriter::with_capacity(1 << 16, &file);
        let (mut records, mut fences, mut last) = (0_u64, Vec::new(), None);
        for record in sorted {
            let record = record?;
            if last.as_ref() == Some(&record.key) {
                continue;
            }
            if records.is_multiple_of(BLOCK_RECORDS as u64) {
                fences.push(*record.key.first_chunk().expect("keys have 32 bytes"));
            }
            out.write_all(&record.key).and_then(|()| out.write_all(&record.value)).map_err(failed)?;
            records += 1;
            last = Some(record.key);
        }
        out.flush().map_err(failed)?;
        drop(out);
        Ok(Self { file, records, fences })
    }

    fn get(&self, key: Digest) -> io::Result<Option<Place>> {
        let prefix: [u8; 8] = *key.0.first_chunk().expect("keys have 32 bytes");
        // The key lies in the block before the first fence beyond it; equal prefixes may fill several.
        let first = self.fences.partition_point(|fence| *fence < prefix).saturating_sub(1);
        for block in first..self.fences.len() {
            if self.fences[block] > prefix {
                break;
            }
            for record in self.block(block as u64)?.chunks_exact(RECORD_BYTES) {
                if record[..KEY_BYTES] == key.0 {
                    return Ok(Place::from_bytes(&record[KEY_BYTES..]));
                }
            }
        }
        Ok(None)
    }

    fn block(&self, block: u64) -> io::Result<Vec<u8>> {
        let first = block * BLOCK_RECORDS as u64;
        let records = usize::try_from(self.records.saturating_sub(first)).unwrap_or(usize::MAX).min(BLOCK_RECORDS);
        let mut bytes = vec![0; records * RECORD_BYTES];
        self.file.read_exact_at(&mut bytes, first * RECORD_BYTES as u64)?;
        Ok(bytes)
    }

    fn records(&self) -> impl Iterator<Item = io::Result<Vec<u8>>> {
        (0..self.fences.len() as u64).flat_map(|block| match self.block(block) {
            Ok(bytes) => bytes.chunks_exact(RECORD_BYTES).map(|record| Ok(record.to_vec())).collect(),
            Err(error) => vec![Err(error)],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> Digest {
        Digest::of(&n.to_le_bytes())
    }

    fn place(n: u32) -> Place {
        Place::New { frame: u64::from(n), member: n, offset: 1, bytes: 2 }
    }

    #[test]
    fn what_was_noted_is_found_through_all_merges() {
        let folder = tempfile::tempdir().unwrap();
        let mut sorter = Index::sorter(folder.path());
        for n in 0..1000 {
            Index::collect(&mut sorter, key(n), place(n)).unwrap();
        }
        let mut index = Index::new(folder.path(), sorter).unwrap();
        let many = u32::try_from(RECENT_MAX * (FILES_MAX + 1)).unwrap();
        for n in 1000..many {
            index.insert(key(n), place(n)).unwrap();
        }
        index.insert(key(5), place(99)).unwrap();
        for n in (0..many).step_by(97) {
            let wanted = if n == 5 { place(99) } else { place(n) };
            assert_eq!(index.get(key(n)).unwrap(), Some(wanted), "{n}");
        }
        assert_eq!(index.get(key(5)).unwrap(), Some(place(99)));
        assert_eq!(index.get(key(many)).unwrap(), None);
        assert!(index.files.len() <= FILES_MAX);
    }

    #[test]
    fn keys_with_one_prefix_fill_several_blocks_and_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let mut sorter = Index::sorter(folder.path());
        let key = |n: u8| {
            let mut bytes = [7; 32];
            bytes[31] = n;
            Digest(bytes)
        };
        for n in 0..=255 {
            Index::collect(&mut sorter, key(n), place(u32::from(n))).unwrap();
        }
        let index = Index::new(folder.path(), sorter).unwrap();
        for n in 0..=255 {
            assert_eq!(index.get(key(n)).unwrap(), Some(place(u32::from(n))));
        }
        assert_eq!(index.get(Digest([7; 32])).unwrap(), Some(place(7)));
        assert_eq!(index.get(Digest([8; 32])).unwrap(), None);
        assert_eq!(index.get(Digest([0; 32])).unwrap(), None);
    }

    #[test]
    fn sparse_contents_are_equal_only_with_equal_holes() {
        let sha256 = Digest::of(b"x");
        let extents = [Extent { offset: 0, length: 1 }];
        assert_eq!(content_key(sha256, None), sha256);
        assert_ne!(content_key(sha256, Some(&extents)), sha256);
        assert_ne!(content_key(sha256, Some(&extents)), content_key(sha256, Some(&[])));
    }
}
