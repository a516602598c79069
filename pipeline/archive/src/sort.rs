//! Sorts more records than memory holds: sorted runs on disk, merged.
//!
//! A [`Sorter`] takes records of two byte strings, key and value, and gives them back in raw-byte
//! order of the keys; records with equal keys keep the order in which they came. Memory stays
//! under the given limit plus one read buffer a run, of which a level has fewer than [`FAN_IN`].
//! Runs are files without a name: whatever happens, nothing is left behind. They are a private
//! cache of this process, so they carry no checksum.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use self::run::Merge;

pub(crate) use self::run::nameless;

mod run;
pub mod spool;

/// Runs merged at once; as many become one run of the next level.
const FAN_IN: usize = 64;

/// The folder for runs does not take or give back what it should.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} a file for sorting in {}", folder.display())]
pub struct SortError {
    step: &'static str,
    folder: PathBuf,
    source: io::Error,
}

impl SortError {
    /// For `map_err`.
    fn at(step: &'static str, folder: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { step, folder: folder.to_owned(), source }
    }
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What is sorted by.
    pub key: Vec<u8>,
    /// What travels along.
    pub value: Vec<u8>,
}

/// Collects records.
#[derive(Debug)]
pub struct Sorter {
    folder: PathBuf,
    memory_bytes_max: usize,
    records: Records,
    /// Runs by level; a run of level `n + 1` is older than every run of level `n`.
    levels: Vec<Vec<File>>,
}

impl Sorter {
    /// A sorter that spills into `folder`, which exists, beyond `memory_bytes_max`.
    pub fn new(folder: &Path, memory_bytes_max: usize) -> Self {
        Self { folder: folder.to_owned(), memory_bytes_max, records: Records::default(), levels: Vec::new() }
    }

    /// Adds a record; after an error the sorter is of no more use.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), SortError> {
        let cost = key.len() + value.len() + size_of::<Slot>();
        if !self.records.slots.is_empty() && self.memory_bytes() + cost > self.memory_bytes_max {
            self.spill()?;
        }
        self.records.push(key, value);
        Ok(())
    }

    /// Bytes of memory that records take at the moment.
    pub fn memory_bytes(&self) -> usize {
        self.records.bytes.len() + self.records.slots.len() * size_of::<Slot>()
    }

    /// All records, sorted.
    pub fn finish(mut self) -> Result<Sorted, SortError> {
        if self.levels.is_empty() {
            self.records.sort();
            return Ok(Sorted(Place::Memory { records: self.records, next: 0 }));
        }
        if !self.records.slots.is_empty() {
            self.spill()?;
        }
        // Oldest first, since the merge breaks ties by position.
        let runs = self.levels.into_iter().rev().flatten().collect();
        Ok(Sorted(Place::Disk(Merge::new(&self.folder, runs)?)))
    }

    fn spill(&mut self) -> Result<(), SortError> {
        self.records.sort();
        let run = run::write(&self.folder, self.records.iter().map(Ok))?;
        self.records.bytes.clear();
        self.records.slots.clear();
        self.add_run(0, run)
    }

    fn add_run(&mut self, level: usize, run: File) -> Result<(), SortError> {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        self.levels[level].push(run);
        if self.levels[level].len() < FAN_IN {
            return Ok(());
        }
        let merge = Merge::new(&self.folder, std::mem::take(&mut self.levels[level]))?;
        let merged = run::write(&self.folder, merge)?;
        self.add_run(level + 1, merged)
    }
}

/// Sorted records, read once.
#[derive(Debug)]
pub struct Sorted(Place);

#[derive(Debug)]
enum Place {
    Memory { records: Records, next: usize },
    Disk(Merge),
}

impl Iterator for Sorted {
    type Item = Result<Record, SortError>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Place::Memory { records, next } => {
                let record = records.get(*records.slots.get(*next)?);
                *next += 1;
                Some(Ok(record))
            }
            Place::Disk(merge) => merge.next(),
        }
    }
}

/// Records in memory: their bytes in one piece, and where each lies in it.
#[derive(Debug, Default)]
struct Records {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
}

/// A record begins at `start`, its value at `value`, and ends at `end`.
#[derive(Clone, Copy, Debug)]
struct Slot {
    start: usize,
    value: usize,
    end: usize,
}

impl Records {
    fn push(&mut self, key: &[u8], value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.slots.push(Slot { start, value: start + key.len(), end: self.bytes.len() });
    }

    /// The place in `bytes` breaks ties, which keeps the order of arrival without a stable sort's copy.
    fn sort(&mut self) {
        let Self { bytes, slots } = self;
        slots.sort_unstable_by(|a, b| {
            bytes[a.start..a.value].cmp(&bytes[b.start..b.value]).then(a.start.cmp(&b.start)).then(a.end.cmp(&b.end))
        });
    }

    fn get(&self, slot: Slot) -> Record {
        Record { key: self.bytes[slot.start..slot.value].to_vec(), value: self.bytes[slot.value..slot.end].to_vec() }
    }

    fn iter(&self) -> impl Iterator<Item = Record> {
        self.slots.iter().map(|slot| self.get(*slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sort(records: &[(Vec<u8>, Vec<u8>)], memory_bytes_max: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let folder = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(folder.path(), memory_bytes_max);
        for (key, value) in records {
            sorter.push(key, value).unwrap();
        }
        let result = sorter.finish().unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "runs have no name");
        result.map(|record| record.map(|record| (record.key, record.value)).unwrap()).collect()
    }

    fn numbered(count: u32, key_of: impl Fn(u32) -> u32) -> Vec<(Vec<u8>, Vec<u8>)> {
        (0..count).map(|n| (key_of(n).to_be_bytes().to_vec(), n.to_le_bytes().to_vec())).collect()
    }

    #[test]
    fn runs_of_runs_are_merged_and_keep_the_order_of_equal_keys() {
        // Room for one record: 10,000 runs, which become two levels of merged ones.
        let records = numbered(10_000, |n| n.wrapping_mul(2_654_435_761) % 97);
        let mut plain = records.clone();
        plain.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(sort(&records, 1), plain);
    }

    #[test]
    fn memory_stays_under_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(folder.path(), 4096);
        for n in 0..10_000_u32 {
            sorter.push(&n.to_le_bytes(), b"value").unwrap();
            assert!(sorter.memory_bytes() <= 4096);
        }
        assert_eq!(sorter.finish().unwrap().count(), 10_000);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let mut sorter = Sorter::new(Path::new("/nonexistent/folder"), 1);
        sorter.push(b"a", b"").unwrap();
        let error = sorter.push(b"b", b"").unwrap_err();
        assert_eq!(error.to_string(), "cannot create a file for sorting in /nonexistent/folder");
    }

    proptest! {
        #[test]
        fn the_result_is_that_of_a_plain_sort(
            records in proptest::collection::vec(
                (proptest::collection::vec(any::<u8>(), 0..4), proptest::collection::vec(any::<u8>(), 0..40)), 0..300),
            memory_bytes_max in 1_usize..8_000,
        ) {
            let mut plain = records.clone();
            plain.sort_by(|a, b| a.0.cmp(&b.0));
            prop_assert_eq!(sort(&records, memory_bytes_max), plain);
        }
    }
}
