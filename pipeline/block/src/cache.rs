//! Copies of stored metadata in the job's state folder, so that a quiet night reads nothing twice.
//!
//! Files are named by the SHA-256 of their bytes and hold the sealed bytes as stored: nothing is
//! readable here that is not readable in the bucket. They are proved when read, so that the folder
//! can be lost, cut short or written by anybody at no risk; a cache that cannot be written is no error.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;

use bytes::Bytes;

use crate::digest::Sha256;

/// A folder of objects by digest.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The cache below `state`; made when the first object comes.
    pub fn new(state: &std::path::Path) -> Self {
        Self { folder: state.join("cache") }
    }

    /// A file in the state folder, outside the cache.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.with_file_name(name)
    }

    fn path(&self, sha256: &Sha256) -> PathBuf {
        self.folder.join(sha256.to_string())
    }

    /// The object, proved by its digest.
    pub fn get(&self, sha256: &Sha256) -> Option<Bytes> {
        let bytes = fs::read(self.path(sha256)).ok()?;
        if Sha256::of(&bytes) == *sha256 {
            return Some(bytes.into());
        }
        // Cut short by a crash, or meddled with: it is fetched again.
        let _ = fs::remove_file(self.path(sha256));
        None
    }

    /// The object as a file whose bytes nobody has proved: for records that prove themselves.
    pub fn open_unproven(&self, sha256: &Sha256) -> Option<File> {
        File::open(self.path(sha256)).ok()
    }

    /// Keeps an object. No fsync: what a power cut leaves is proved before it is used.
    pub fn put(&self, sha256: &Sha256, bytes: &[u8]) {
        let temporary = self.folder.join(format!(".{}.{sha256}", std::process::id()));
        let write = || {
            fs::create_dir_all(&self.folder)?;
            File::create(&temporary)?.write_all(bytes)?;
            fs::rename(&temporary, self.path(sha256))
        };
        if let Err(error) = write() {
            tracing::debug!(folder = %self.folder.display(), %error, "metadata is not cached");
            let _ = fs::remove_file(&temporary);
        }
    }

    /// Forgets one object.
    pub fn forget(&self, sha256: &Sha256) {
        let _ = fs::remove_file(self.path(sha256));
    }

    /// Removes everything but `alive`.
    pub fn keep_only(&self, alive: &HashSet<Sha256>) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let digest = name.to_str().and_then(|name| name.parse::<Sha256>().ok());
            if digest.is_none_or(|digest| !alive.contains(&digest)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_comes_back_and_what_was_changed_does_not() {
        let state = tempfile::tempdir().unwrap();
        let cache = Cache::new(state.path());
        let (one, two) = (Sha256::of(b"one"), Sha256::of(b"two"));
        assert_eq!(cache.get(&one), None);
        cache.put(&one, b"one");
        cache.put(&two, b"two");
        assert_eq!(cache.get(&one).as_deref(), Some(&b"one"[..]));
        fs::write(cache.path(&one), b"onf").unwrap();
        assert_eq!(cache.get(&one), None);
        assert!(!cache.path(&one).exists(), "a changed file does not stay");
        cache.keep_only(&HashSet::new());
        assert_eq!(cache.get(&two), None);
    }

    #[test]
    fn a_state_folder_that_cannot_be_written_is_no_error() {
        let state = tempfile::NamedTempFile::new().unwrap();
        let cache = Cache::new(state.path());
        cache.put(&Sha256::of(b"one"), b"one");
        assert_eq!(cache.get(&Sha256::of(b"one")), None);
    }
}
