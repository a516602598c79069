//! One run of a source at a time on this host: a flock(2) that dies with its holder.
//!
//! The file names the holder for people; the kernel's lock decides, so a file that a crash left
//! behind locks nothing.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use dualsync_model::id::SourceName;
use rustix::fs::{FlockOperation, flock};

/// The lock, held until it is dropped.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Someone holds it.
    #[error("source '{source_name}' is locked by another run{}", holder.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Held {
        /// The source.
        source_name: SourceName,
        /// Who holds it, as far as the file tells.
        holder: Option<u32>,
    },
    /// The file could not be opened, locked or written.
    #[error("the lock {} could not be taken", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl RunLock {
    /// Takes the lock of `source` under `folder`, or says who holds it; it does not wait.
    pub fn take(folder: &Path, source_name: &SourceName) -> Result<Self, LockError> {
        let path = folder.join(format!("{source_name}.lock"));
        let failed = |source| LockError::Io { path: path.clone(), source };
        let mut file = open(&path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(LockError::Held { source_name: source_name.clone(), holder: holder(&mut file) });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        let name = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        name(&mut file).map_err(failed)?;
        Ok(Self { _file: file })
    }

    /// Whether some process holds the lock of `source` now. What cannot be told counts as free.
    pub fn is_held(folder: &Path, source_name: &SourceName) -> bool {
        File::open(folder.join(format!("{source_name}.lock")))
            .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK))
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_learns_who_holds_the_lock_and_a_third_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let web: SourceName = "web".parse().unwrap();
        let first = RunLock::take(folder.path(), &web).unwrap();
        assert!(RunLock::is_held(folder.path(), &web));
        let error = RunLock::take(folder.path(), &web).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("source 'web' is locked by another run (process {})", std::process::id())
        );
        assert!(RunLock::take(folder.path(), &"db".parse().unwrap()).is_ok());
        drop(first);
        assert!(!RunLock::is_held(folder.path(), &web));
        assert!(RunLock::take(folder.path(), &web).is_ok());
    }

    #[test]
    fn a_folder_that_is_not_there_is_no_lock() {
        let error = RunLock::take(Path::new("/nonexistent"), &"web".parse().unwrap()).unwrap_err();
        assert!(matches!(error, LockError::Io { .. }));
    }
}
