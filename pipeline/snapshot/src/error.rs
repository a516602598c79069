//! What can go wrong when a moment is taken, checked and released.

use std::io;
use std::path::PathBuf;

use crate::command::CommandError;
use crate::watchdog::leash::WatchdogError;

/// No moment was taken; nothing is left frozen or standing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The system refused an operation on a path.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
    /// The device is something else.
    #[error("{} is neither a block device nor an image file", path.display())]
    NotADevice {
        /// The path.
        path: PathBuf,
    },
    /// The tree is something else.
    #[error("{} is not a directory", path.display())]
    NotATree {
        /// The path.
        path: PathBuf,
    },
    /// Driver `none` on a file system that can change while it is read.
    #[error(
        "{} is mounted read-write at {}: choose another snapshot driver, or say idle = true if nothing writes to it",
        device.display(), mount.display()
    )]
    MountedReadWrite {
        /// The source's device.
        device: PathBuf,
        /// The first such mount.
        mount: PathBuf,
    },
    /// Freezing this tree would not hold this device still.
    #[error("the file system at {} does not lie on {}", tree.display(), device.display())]
    TreeElsewhere {
        /// The source's tree.
        tree: PathBuf,
        /// The source's device.
        device: PathBuf,
    },
    /// The run would wait for itself until the limit.
    #[error("freezing {} would block {label}: {} lies on the same file system", tree.display(), path.display())]
    WouldBlock {
        /// The source's tree.
        tree: PathBuf,
        /// What would block.
        label: String,
        /// Where it lies.
        path: PathBuf,
    },
    /// The freeze failed.
    #[error("cannot freeze {}", tree.display())]
    Freeze {
        /// The source's tree.
        tree: PathBuf,
        /// What the watchdog met.
        source: WatchdogError,
    },
    /// One of the user's commands failed.
    #[error("the snapshot command failed")]
    Command(#[from] CommandError),
    /// The system gives no random bytes for an id.
    #[error("no random bytes for the snapshot's id")]
    Random(#[source] getrandom::Error),
}

/// The moment is gone: what was read since may be of several moments and must not be committed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// The limit was over and the watchdog thawed.
    #[error("the freeze of {} reached its limit and was thawed before everything was read", tree.display())]
    Expired {
        /// The source's tree.
        tree: PathBuf,
    },
    /// Somebody else thawed.
    #[error("{} was thawed by someone else while it was read", tree.display())]
    Thawed {
        /// The source's tree.
        tree: PathBuf,
    },
    /// The watchdog is gone or does not answer; nobody can say whether the freeze held.
    #[error("nothing is known of the freeze of {} any more", tree.display())]
    Watchdog {
        /// The source's tree.
        tree: PathBuf,
        /// What the watchdog met.
        source: WatchdogError,
    },
    /// The device was mounted read-write meanwhile.
    #[error("{} was mounted read-write at {} while it was read", device.display(), mount.display())]
    MountedReadWrite {
        /// The source's device.
        device: PathBuf,
        /// The first such mount.
        mount: PathBuf,
    },
    /// The image file was written to, or something else stands in its place.
    #[error("{} changed while it was read", path.display())]
    Changed {
        /// The device or image file.
        path: PathBuf,
    },
    /// The state could not be looked up, so it is not known to be good.
    #[error("cannot tell whether {} is still what was taken", path.display())]
    Unknown {
        /// The device or image file.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
    /// The user's check command says so.
    #[error("the snapshot's check command failed")]
    Check(#[from] CommandError),
}

/// The moment could not be let go as it should; a person has to look.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The thaw failed or nobody confirms it.
    #[error("cannot confirm that {} is thawed: run `fsfreeze --unfreeze {}`", tree.display(), tree.display())]
    Thaw {
        /// The source's tree.
        tree: PathBuf,
        /// What the watchdog met.
        source: WatchdogError,
    },
    /// The user's release command failed; its snapshot may still stand.
    #[error("the snapshot's release command failed: a snapshot may be left behind")]
    Command(#[from] CommandError),
    /// The note of the snapshot cannot be read or removed.
    #[error("the note of a snapshot {} cannot be read or removed", path.display())]
    Journal {
        /// The file.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
}
