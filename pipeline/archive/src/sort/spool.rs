//! Records kept on disk in the order they came, written once and read back once.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Seek};
use std::path::{Path, PathBuf};

use super::run::{nameless, read_record, write_record};
use super::{Record, SortError};

/// Collects records in a file without a name.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    out: BufWriter<File>,
}

impl Spool {
    /// An empty spool in `folder`, which exists.
    pub fn new(folder: &Path) -> Result<Self, SortError> {
        let file = nameless(folder).map_err(SortError::at("create", folder))?;
        Ok(Self { folder: folder.to_owned(), out: BufWriter::new(file) })
    }

    /// Appends a record.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), SortError> {
        write_record(&mut self.out, key, value).map_err(SortError::at("write", &self.folder))
    }

    /// All records, in their order.
    pub fn finish(self) -> Result<Spooled, SortError> {
        let mut file = self.out.into_inner().map_err(io::IntoInnerError::into_error);
        if let Ok(file) = &mut file {
            file.rewind().map_err(SortError::at("rewind", &self.folder))?;
        }
        let file = file.map_err(SortError::at("write", &self.folder))?;
        Ok(Spooled { folder: self.folder, file: BufReader::new(file) })
    }
}

/// Spooled records, read once.
#[derive(Debug)]
pub struct Spooled {
    folder: PathBuf,
    file: BufReader<File>,
}

impl Iterator for Spooled {
    type Item = Result<Record, SortError>;

    fn next(&mut self) -> Option<Self::Item> {
        read_record(&mut self.file).map_err(SortError::at("read", &self.folder)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path()).unwrap();
        for n in [3_u8, 1, 2] {
            spool.push(&[n], b"value").unwrap();
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let keys: Vec<_> = spool.finish().unwrap().map(|record| record.unwrap().key).collect();
        assert_eq!(keys, [[3], [1], [2]]);
    }
}
