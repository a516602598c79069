//! Sorts more records than memory may hold: sorted runs in unnamed files, merged when they are read.
//!
//! A record is a key and a value, both bytes; keys are compared as bytes, equal keys come out in
//! the order they went in. The run files have no name, so nothing is left behind however the
//! program ends. What is in them may be names of files: the folder is the private one of the job.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Why records could not be sorted.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep sorted records in '{folder}'")]
pub struct SortError {
    folder: PathBuf,
    source: io::Error,
}

/// Bytes of records kept in memory before they become a run.
const MEMORY_BYTES: usize = 12 << 20;
/// Runs merged at once; more are first merged into one, so that buffers stay few.
const RUNS_MAX: usize = 48;
/// What a record costs beside its bytes.
const OVERHEAD_BYTES: usize = 64;

type Record = (Vec<u8>, Vec<u8>);

/// Takes records in any order.
#[derive(Debug)]
pub struct Sorter {
    folder: PathBuf,
    memory: Vec<Record>,
    memory_bytes: usize,
    memory_bytes_max: usize,
    runs: Vec<File>,
}

impl Sorter {
    /// A sorter that keeps what does not fit into memory in `folder`, which exists.
    pub fn new(folder: &Path) -> Self {
        Self::with_memory(folder, MEMORY_BYTES)
    }

    fn with_memory(folder: &Path, memory_bytes_max: usize) -> Self {
        Self { folder: folder.to_owned(), memory: Vec::new(), memory_bytes: 0, memory_bytes_max, runs: Vec::new() }
    }

    /// Adds a record.
    pub fn add(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), SortError> {
        self.memory_bytes += key.len() + value.len() + OVERHEAD_BYTES;
        self.memory.push((key, value));
        if self.memory_bytes >= self.memory_bytes_max { self.spill() } else { Ok(()) }
    }

    /// All records by key.
    pub fn finish(mut self) -> Result<Sorted, SortError> {
        self.memory.sort_by(|a, b| a.0.cmp(&b.0));
        let last = Run::Memory(std::mem::take(&mut self.memory).into_iter());
        let runs = std::mem::take(&mut self.runs);
        let merged = merge(runs, Some(last));
        Ok(Sorted { merged: merged.map_err(|source| self.error(source))?, folder: self.folder })
    }

    fn spill(&mut self) -> Result<(), SortError> {
        self.memory.sort_by(|a, b| a.0.cmp(&b.0));
        let records = std::mem::take(&mut self.memory);
        self.memory_bytes = 0;
        let run = write_run(&self.folder, records.into_iter().map(Ok)).map_err(|source| self.error(source))?;
        self.runs.push(run);
        if self.runs.len() > RUNS_MAX {
            let runs = std::mem::take(&mut self.runs);
            let merged = merge(runs, None).and_then(|merged| write_run(&self.folder, merged));
            self.runs.push(merged.map_err(|source| self.error(source))?);
        }
        Ok(())
    }

    fn error(&self, source: io::Error) -> SortError {
        SortError { folder: self.folder.clone(), source }
    }
}

/// The records in order.
#[derive(Debug)]
pub struct Sorted {
    merged: Merged,
    folder: PathBuf,
}

impl Iterator for Sorted {
    type Item = Result<Record, SortError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.merged.next()?;
        Some(next.map_err(|source| SortError { folder: self.folder.clone(), source }))
    }
}

#[derive(Debug)]
enum Run {
    File(BufReader<File>),
    Memory(std::vec::IntoIter<Record>),
}

impl Run {
    fn next(&mut self) -> io::Result<Option<Record>> {
        let reader = match self {
            Self::Memory(records) => return Ok(records.next()),
            Self::File(reader) => reader,
        };
        if reader.fill_buf()?.is_empty() {
            return Ok(None);
        }
        Ok(Some((read_bytes(reader)?, read_bytes(reader)?)))
    }
}

fn read_bytes(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    reader.read_exact(&mut length)?;
    let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Next record of a run: key, number of the run, value.
type Head = (Vec<u8>, usize, Vec<u8>);

/// The smallest next record of each run, older runs first among equals.
#[derive(Debug)]
struct Merged {
    runs: Vec<Run>,
    heads: BinaryHeap<Reverse<Head>>,
}

fn merge(files: Vec<File>, last: Option<Run>) -> io::Result<Merged> {
    let mut runs = Vec::with_capacity(files.len() + 1);
    for mut file in files {
        file.seek(SeekFrom::Start(0))?;
        runs.push(Run::File(BufReader::with_capacity(64 * 1024, file)));
    }
    runs.extend(last);
    let mut merged = Merged { heads: BinaryHeap::with_capacity(runs.len()), runs };
    for number in 0..merged.runs.len() {
        merged.refill(number)?;
    }
    Ok(merged)
}

impl Merged {
    fn refill(&mut self, number: usize) -> io::Result<()> {
        if let Some((key, value)) = self.runs[number].next()? {
            self.heads.push(Reverse((key, number, value)));
        }
        Ok(())
    }
}

impl Iterator for Merged {
    type Item = io::Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((key, number, value)) = self.heads.pop()?;
        Some(self.refill(number).map(|()| (key, value)))
    }
}

fn write_run(folder: &Path, records: impl Iterator<Item = io::Result<Record>>) -> io::Result<File> {
    let mut writer = BufWriter::with_capacity(256 * 1024, unnamed_file(folder)?);
    for record in records {
        let (key, value) = record?;
        for bytes in [&key, &value] {
            let length = u32::try_from(bytes.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
            writer.write_all(&length.to_le_bytes())?;
            writer.write_all(bytes)?;
        }
    }
    writer.into_inner().map_err(io::IntoInnerError::into_error)
}

/// A private file without a name in `folder`: its bytes are gone when it is closed.
pub(super) fn unnamed_file(folder: &Path) -> io::Result<File> {
    // Created and unlinked instead of O_TMPFILE, which network file systems do not know.
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let path = folder.join(format!(".spill-{:016x}", u64::from_le_bytes(random)));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sort(records: &[Record], memory: usize) -> Vec<Record> {
        let folder = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::with_memory(folder.path(), memory);
        for (key, value) in records {
            sorter.add(key.clone(), value.clone()).unwrap();
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a run has a name");
        sorter.finish().unwrap().map(Result::unwrap).collect()
    }

    proptest! {
        #[test]
        fn runs_come_out_as_one_stable_order(
            records in proptest::collection::vec((proptest::collection::vec(0_u8..4, 0..3), proptest::collection::vec(any::<u8>(), 0..4)), 0..400),
            memory in 1_usize..4000,
        ) {
            let mut expected = records.clone();
            expected.sort_by(|a, b| a.0.cmp(&b.0));
            prop_assert_eq!(sort(&records, memory), expected);
        }
    }

    #[test]
    fn a_folder_that_is_gone_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone");
        let mut sorter = Sorter::with_memory(&gone, 1);
        let error = sorter.add(vec![1], vec![2]).unwrap_err();
        assert!(error.to_string().contains("gone"), "{error}");
    }
}
