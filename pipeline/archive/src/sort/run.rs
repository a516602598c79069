//! Sorted runs on disk: written once, read back side by side.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering as Atomic};

use super::{Record, SortError};

/// Bytes of one run's read buffer.
const READ_BUFFER_BYTES: usize = 64 << 10;

/// Writes `records` to a new run and rewinds it.
pub(super) fn write(
    folder: &Path,
    records: impl Iterator<Item = Result<Record, SortError>>,
) -> Result<File, SortError> {
    let mut out = BufWriter::new(nameless(folder).map_err(SortError::at("create", folder))?);
    for record in records {
        let record = record?;
        write_record(&mut out, &record.key, &record.value).map_err(SortError::at("write", folder))?;
    }
    let file = out.into_inner().map_err(io::IntoInnerError::into_error);
    let mut file = file.map_err(SortError::at("write", folder))?;
    file.rewind().map_err(SortError::at("rewind", folder))?;
    Ok(file)
}

/// A new file that has lost its name already. `O_TMPFILE` would do it in one step, but not on every
/// file system that can hold a state folder.
pub(crate) fn nameless(folder: &Path) -> io::Result<File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let name = format!(".sort-{}-{}", std::process::id(), NEXT.fetch_add(1, Atomic::Relaxed));
        let path = folder.join(name);
        match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return std::fs::remove_file(&path).map(|()| file),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

pub(super) fn write_record(out: &mut impl Write, key: &[u8], value: &[u8]) -> io::Result<()> {
    for half in [key, value] {
        let length = u32::try_from(half.len()).map_err(|_| io::Error::other("a record of 4 GiB"))?;
        out.write_all(&length.to_le_bytes())?;
    }
    out.write_all(key)?;
    out.write_all(value)
}

/// Reads one record; `None` at the end of the run.
pub(super) fn read_record(run: &mut impl Read) -> io::Result<Option<Record>> {
    let mut length = [0; 4];
    match run.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let key_bytes = u32::from_le_bytes(length);
    run.read_exact(&mut length)?;
    let mut half = |bytes: u32| {
        let mut half = vec![0; bytes as usize];
        run.read_exact(&mut half).map(|()| half)
    };
    let value_bytes = u32::from_le_bytes(length);
    Ok(Some(Record { key: half(key_bytes)?, value: half(value_bytes)? }))
}

/// The records of several runs in one order; equal keys by position of their run.
#[derive(Debug)]
pub(super) struct Merge {
    folder: PathBuf,
    runs: Vec<BufReader<File>>,
    heads: BinaryHeap<Head>,
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    record: Record,
    run: usize,
}

impl Ord for Head {
    /// Backwards, since the heap gives its greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.record.key.cmp(&self.record.key).then(other.run.cmp(&self.run))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Merge {
    /// Merges rewound `runs`, the oldest first.
    pub(super) fn new(folder: &Path, runs: Vec<File>) -> Result<Self, SortError> {
        let runs: Vec<_> = runs.into_iter().map(|run| BufReader::with_capacity(READ_BUFFER_BYTES, run)).collect();
        let count = runs.len();
        let mut merge = Self { folder: folder.to_owned(), runs, heads: BinaryHeap::with_capacity(count) };
        (0..count).try_for_each(|run| merge.advance(run))?;
        Ok(merge)
    }

    fn advance(&mut self, run: usize) -> Result<(), SortError> {
        let record = read_record(&mut self.runs[run]).map_err(SortError::at("read", &self.folder))?;
        self.heads.extend(record.map(|record| Head { record, run }));
        Ok(())
    }
}

impl Iterator for Merge {
    type Item = Result<Record, SortError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Head { record, run } = self.heads.pop()?;
        Some(self.advance(run).map(|()| record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &[u8], value: &[u8]) -> Record {
        Record { key: key.to_vec(), value: value.to_vec() }
    }

    fn run(folder: &Path, records: &[Record]) -> File {
        write(folder, records.iter().cloned().map(Ok)).unwrap()
    }

    #[test]
    fn equal_keys_come_from_the_older_run_first() {
        let folder = tempfile::tempdir().unwrap();
        let older = run(folder.path(), &[record(b"a", b"1"), record(b"b", b"2")]);
        let newer = run(folder.path(), &[record(b"", b"0"), record(b"a", b"3")]);
        let merged: Vec<_> = Merge::new(folder.path(), vec![older, newer]).unwrap().map(Result::unwrap).collect();
        assert_eq!(merged, [record(b"", b"0"), record(b"a", b"1"), record(b"a", b"3"), record(b"b", b"2")]);
    }

    #[test]
    fn a_run_cut_short_inside_a_record_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = run(folder.path(), &[record(b"key", b"value")]);
        file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        let error = Merge::new(folder.path(), vec![file]).unwrap_err();
        assert!(error.to_string().starts_with("cannot read a file for sorting"), "{error}");
    }
}
