//! The folder of this path and target on the host: locks, a cache, room for spilled lists.
//!
//! Losing it costs time and requests, never data. Locks are flock(2): they end with the process, however it ends.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use dualsync_model::id::SourceName;

use crate::backup::BackupError;
use crate::backup::chain::Memory;
use crate::catalog::stream::Cache;

/// How long a commit waits for another source's.
const COMMIT_WAIT: Duration = Duration::from_mins(5);
const COMMIT_STEP: Duration = Duration::from_millis(100);

/// A lock that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another run of the source.
    #[error("another run of {source_name} holds {}", path.display())]
    Held {
        /// The source.
        source_name: SourceName,
        /// The lock.
        path: PathBuf,
    },
    /// A commit of another source that does not end.
    #[error("another commit holds {} for minutes", path.display())]
    Commit {
        /// The lock.
        path: PathBuf,
    },
    /// The folder.
    #[error("cannot use the state folder {}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// The folder, locked for one source.
pub struct State {
    /// Stored objects that the next run will want.
    pub cache: Cache,
    /// Room for files without a name.
    pub spill: PathBuf,
    folder: PathBuf,
    unfinished: PathBuf,
    lock: File,
}

/// Said, not only closed: a child of another thread that is between fork(2) and exec(2) has a copy of the descriptor, and
/// would hold the lock for that moment.
impl Drop for State {
    fn drop(&mut self) {
        // It ends with the last descriptor in any case.
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

impl State {
    /// Opens and locks it.
    pub fn open(root: &Path, source: &SourceName) -> Result<Self, LockError> {
        let folder = root.join(source.as_str());
        let failed = |source| LockError::Io { path: folder.clone(), source };
        let spill = folder.join("spill");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&spill).map_err(failed)?;
        let path = folder.join("lock");
        let lock = lock_file(&path).map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(LockError::Held { source_name: source.clone(), path }),
            Err(error) => return Err(failed(error.into())),
        }
        let cache = Cache::open(folder.join("cache")).map_err(failed)?;
        let unfinished = folder.join("unfinished");
        Ok(Self { cache, spill, unfinished, folder: root.to_owned(), lock })
    }

    /// The last manifest of this host on this target.
    pub fn memory(&self) -> Option<Memory> {
        Memory::read(&self.memory_path())
    }

    /// Remembers it.
    pub fn remember(&self, memory: &Memory) {
        memory.write(&self.memory_path());
    }

    /// Notes that a run has begun; tells whether one before may have been cut off.
    pub fn begin(&self) -> Result<bool, BackupError> {
        let may_be_cut_off = self.unfinished.exists() || self.memory().is_none();
        fs::write(&self.unfinished, b"").map_err(BackupError::State)?;
        Ok(may_be_cut_off)
    }

    /// Notes that it has ended well.
    pub fn end(&self) {
        if let Err(error) = fs::remove_file(&self.unfinished) {
            tracing::warn!(%error, "cannot note the end of the run");
        }
    }

    /// Takes the turn to commit; it ends with the file.
    pub async fn commit_turn(&self) -> Result<File, LockError> {
        let path = self.folder.join("commit.lock");
        let failed = |source| LockError::Io { path: path.clone(), source };
        let lock = lock_file(&path).map_err(failed)?;
        let mut waited = Duration::ZERO;
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(lock),
                Err(Errno::WOULDBLOCK) if waited < COMMIT_WAIT => {
                    tokio::time::sleep(COMMIT_STEP).await;
                    waited += COMMIT_STEP;
                }
                Err(Errno::WOULDBLOCK) => return Err(LockError::Commit { path: path.clone() }),
                Err(error) => return Err(failed(error.into())),
            }
        }
    }

    fn memory_path(&self) -> PathBuf {
        self.folder.join("newest.json")
    }
}

fn lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(root: &Path, source: &str) -> Result<State, LockError> {
        State::open(root, &source.parse().unwrap())
    }

    #[test]
    fn one_run_of_a_source_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let first = open(root.path(), "web").unwrap();
        assert!(matches!(open(root.path(), "web"), Err(LockError::Held { .. })));
        assert!(open(root.path(), "mail").is_ok());
        drop(first);
        assert!(open(root.path(), "web").is_ok());
    }

    #[test]
    fn a_run_that_was_cut_off_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let state = open(root.path(), "web").unwrap();
        assert!(state.begin().unwrap(), "nothing is known yet");
        let stored = crate::manifest::Stored::of(b"x");
        state.remember(&Memory { key: "points/x".into(), manifest: stored, signature: Some(stored) });
        assert_eq!(state.memory().unwrap().key, "points/x");
        state.end();
        assert!(!state.begin().unwrap());
        assert!(state.begin().unwrap());
    }

    #[tokio::test]
    async fn commits_take_turns() {
        let root = tempfile::tempdir().unwrap();
        let (web, mail) = (open(root.path(), "web").unwrap(), open(root.path(), "mail").unwrap());
        let turn = web.commit_turn().await.unwrap();
        let waiting = tokio::spawn(async move { mail.commit_turn().await.is_ok() });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(turn);
        assert!(waiting.await.unwrap());
    }
}
