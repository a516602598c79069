//! The folders under `state`: who keeps what where. All of it may be lost at the cost of time, never of data.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use dualsync_model::time::Timestamp;

/// Log files that are kept; each is bounded, so their folder is too.
const LOGS_KEPT: usize = 200;

/// The folder `state` of the configuration.
#[derive(Clone, Debug)]
pub struct State {
    root: PathBuf,
}

/// A folder that cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("the state folder {} could not be created", path.display())]
pub struct StateError {
    path: PathBuf,
    source: io::Error,
}

impl State {
    /// Names the folder; touches nothing.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What happened, one record a line.
    pub fn history(&self) -> PathBuf {
        self.root.join("history.jsonl")
    }

    /// The newest manifest of each target.
    pub fn anchors(&self) -> PathBuf {
        self.root.join("anchors")
    }

    /// One lock a source.
    pub fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }

    /// The snapshots that stand, one file each.
    pub fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// What the two programs say to people.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Reports of verify.
    pub fn reports(&self) -> PathBuf {
        self.root.join("reports")
    }

    /// What each repository is: ids and public keys, as `init` told.
    pub fn repositories(&self) -> PathBuf {
        self.root.join("repositories")
    }

    /// The private folder of the program that serves `target`.
    pub fn writer(&self, target: &str) -> PathBuf {
        self.root.join("targets").join(target)
    }

    /// A log file's name: they sort by time.
    pub fn log(&self, now: Timestamp, target: &str, verb: &str) -> PathBuf {
        self.logs().join(format!("{}-{}-{target}-{verb}.log", now.compact(), std::process::id()))
    }

    /// Creates what is missing, for the owner only, and drops the oldest logs.
    pub fn create<'a>(&self, targets: impl Iterator<Item = &'a str>) -> Result<(), StateError> {
        let folders = [self.anchors(), self.locks(), self.logs(), self.reports(), self.repositories()];
        for path in folders.into_iter().chain(targets.map(|target| self.writer(target))) {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(|source| StateError { path, source })?;
        }
        self.drop_old_logs();
        Ok(())
    }

    /// Best effort: a log too many harms nobody.
    fn drop_old_logs(&self) {
        let Ok(entries) = std::fs::read_dir(self.logs()) else { return };
        let mut logs: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        logs.sort_unstable();
        for log in logs.iter().rev().skip(LOGS_KEPT) {
            let _ = std::fs::remove_file(log);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn folders_are_private_and_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(&folder.path().join("a/b"));
        for _ in 0..2 {
            state.create(["paris"].into_iter()).unwrap();
        }
        for path in [state.locks(), state.writer("paris"), state.root().to_owned()] {
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700, "{}", path.display());
        }
    }

    #[test]
    fn only_the_newest_logs_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path());
        state.create(std::iter::empty()).unwrap();
        for second in 0..=i64::try_from(LOGS_KEPT).unwrap() {
            std::fs::write(state.log(Timestamp::from_seconds(second), "paris", "list"), "").unwrap();
        }
        state.create(std::iter::empty()).unwrap();
        assert_eq!(std::fs::read_dir(state.logs()).unwrap().count(), LOGS_KEPT);
        assert!(!state.log(Timestamp::from_seconds(0), "paris", "list").exists());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let error = State::new(Path::new("/proc/nonexistent")).create(std::iter::empty()).unwrap_err();
        assert!(error.to_string().contains("/proc/nonexistent"), "{error}");
    }
}
