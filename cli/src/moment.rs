//! How a source is held still: from its configuration to what the snapshot crate takes.

use std::path::{Path, PathBuf};

use dualsync_config::Settings;
use dualsync_config::source::{SnapshotDriver, SourceSettings};
use dualsync_model::id::SourceName;
use dualsync_model::job::{Keys, Place};
use dualsync_model::secret::SecretRef;
use dualsync_snapshot::{CommandSpec, Driver, FreezeSpec, Leftover, Needed, Reexec, ReleaseError, Spec, leftovers};

use crate::args::WATCHDOG;
use crate::lock::RunLock;
use crate::state::State;

/// What to take of `source`.
pub fn spec(source: &SourceSettings, settings: &Settings, state: &State) -> Spec {
    let driver = match &source.snapshot {
        SnapshotDriver::None { idle } => Driver::None { idle: *idle },
        SnapshotDriver::Freeze => Driver::Freeze(FreezeSpec {
            limit: settings.limits.freeze,
            watchdog: watchdog(),
            needed: needed(settings, state),
        }),
        SnapshotDriver::Command { take, release, check } => Driver::Command(CommandSpec {
            take: take.clone(),
            release: release.clone(),
            check: check.clone(),
            limit: settings.limits.snapshot_command,
            journal: state.snapshots(),
        }),
    };
    Spec { source: source.name.clone(), device: source.device.clone(), tree: source.tree.clone(), driver }
}

/// Releases the snapshots that a killed run of `source` left standing; the lock of the source is held.
///
/// Gives back what is to be told: a sentence, or what failed and the file that a person removes who has
/// looked. One that cannot be released is no reason not to take the next.
pub fn release_leftovers(state: &State, source: &SourceName, _lock: &RunLock) -> Vec<Result<String, LeftoverError>> {
    let folder = state.snapshots();
    let failed = |path: &Path, error: ReleaseError| LeftoverError { path: path.to_owned(), source: error };
    let found = match leftovers(&folder, source) {
        Ok(found) => found,
        Err(error) => {
            return vec![Err(failed(&folder, ReleaseError::Journal { path: folder.clone(), source: error }))];
        }
    };
    let release = |leftover: Leftover| {
        let path = leftover.path().to_owned();
        leftover.release().map_err(|error| failed(&path, error))?;
        Ok(format!("source '{source}': released the snapshot that a killed run had left standing"))
    };
    found.into_iter().map(release).collect()
}

/// A snapshot of a killed run that still stands, as far as is known.
#[derive(Debug, thiserror::Error)]
#[error("a killed run left a snapshot standing; when it is gone, remove {}", path.display())]
pub struct LeftoverError {
    path: PathBuf,
    source: ReleaseError,
}

/// This program itself, by the kernel's link: it is the same file even when it was replaced meanwhile.
pub fn watchdog() -> Reexec {
    Reexec { program: PathBuf::from("/proc/self/exe"), args: vec![WATCHDOG.into()] }
}

/// A path from the root where the working folder is known.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// What a run writes or reads while it works, of all targets: a frozen one of them would wait for itself.
fn needed(settings: &Settings, state: &State) -> Vec<Needed> {
    let mut needed = vec![
        Needed { label: "the state folder".into(), path: state.root().to_owned() },
        Needed { label: "the folder for temporary files".into(), path: std::env::temp_dir() },
        Needed { label: "the configuration".into(), path: absolute(&settings.path) },
    ];
    for target in settings.targets.values() {
        let name = &target.target.name;
        if let Place::Directory { path } = &target.target.place {
            needed.push(Needed { label: format!("the target {name}"), path: path.clone() });
        }
        let keys = match &target.keys {
            Keys::Block { key } => vec![key],
            Keys::Archive { identity, signing_key, .. } => vec![identity, signing_key],
        };
        for secret in keys.into_iter().chain(&target.target.credentials) {
            if let SecretRef::File(path) = secret {
                needed.push(Needed { label: format!("a secret of {name}"), path: path.clone() });
            }
        }
    }
    needed
}
