//! A list that moves to disk when it grows: the parts of one huge file.
//!
//! Memory holds the first few thousand items; the rest goes into a file without a name, as JSON lines, so
//! that nothing is left behind whatever happens. Items come back in the order they went in.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sort::nameless;

/// Items in memory.
const ITEMS_MAX: usize = 4096;

/// The folder for spilled lists does not take or give back what it should.
#[derive(Debug, thiserror::Error)]
#[error("cannot spill a list into {}", folder.display())]
pub struct SpoolError {
    folder: PathBuf,
    #[source]
    source: io::Error,
}

/// A list of any length.
#[derive(Debug)]
pub struct Spool<T> {
    folder: PathBuf,
    head: Vec<T>,
    tail: Option<BufWriter<File>>,
    len: u64,
}

impl<T: Serialize + DeserializeOwned> Spool<T> {
    /// An empty list that would spill into `folder`.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), head: Vec::new(), tail: None, len: 0 }
    }

    /// How many items there are.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends.
    pub fn push(&mut self, item: T) -> Result<(), SpoolError> {
        self.len += 1;
        if self.head.len() < ITEMS_MAX {
            self.head.push(item);
            return Ok(());
        }
        self.write(&item).map_err(|source| SpoolError { folder: self.folder.clone(), source })
    }

    fn write(&mut self, item: &T) -> io::Result<()> {
        if self.tail.is_none() {
            self.tail = Some(BufWriter::new(nameless(&self.folder)?));
        }
        let tail = self.tail.as_mut().expect("made just above");
        serde_json::to_writer(&mut *tail, item)?;
        tail.write_all(b"\n")
    }

    /// Calls `each` with every item, until one fails.
    pub fn try_each<E: From<SpoolError>>(&mut self, mut each: impl FnMut(&T) -> Result<(), E>) -> Result<(), E> {
        self.head.iter().try_for_each(&mut each)?;
        let failed = |source| SpoolError { folder: self.folder.clone(), source };
        let Some(tail) = &mut self.tail else { return Ok(()) };
        tail.flush().map_err(failed)?;
        let file = tail.get_mut();
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        for line in BufReader::new(&*file).lines() {
            let item: T = line.and_then(|line| Ok(serde_json::from_str(&line)?)).map_err(failed)?;
            each(&item)?;
        }
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back_in_order_whether_they_were_spilled_or_not() {
        let folder = tempfile::tempdir().unwrap();
        for count in [0_u64, 3, ITEMS_MAX as u64, 3 * ITEMS_MAX as u64 + 1] {
            let mut spool = Spool::new(folder.path());
            (0..count).for_each(|item| spool.push(item).unwrap());
            for _ in 0..2 {
                let mut seen = Vec::new();
                let mut see = |item: &u64| {
                    seen.push(*item);
                    Ok::<_, SpoolError>(())
                };
                spool.try_each(&mut see).unwrap();
                assert_eq!(seen, (0..count).collect::<Vec<_>>());
            }
            assert_eq!(spool.len(), count);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_takes_nothing_is_an_error_only_when_it_is_needed() {
        let mut spool = Spool::new(Path::new("/nonexistent"));
        (0..ITEMS_MAX).for_each(|item| spool.push(item).unwrap());
        assert!(spool.push(1).is_err());
    }
}
