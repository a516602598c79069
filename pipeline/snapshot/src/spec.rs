//! What to take: plain data that the caller fills from its configuration.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use dualsync_model::id::SourceName;

/// A source and the way to hold it still.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Its name, handed to the user's commands.
    pub source: SourceName,
    /// Its block device, or an image file.
    pub device: PathBuf,
    /// Where its file system is mounted, or the folder an image file was made from.
    pub tree: PathBuf,
    /// The way.
    pub driver: Driver,
}

/// The ways to hold a source still.
#[derive(Clone, Debug)]
pub enum Driver {
    /// Flush, then read as it is; the moment is recorded as not frozen.
    None {
        /// The user's word that nothing writes, which allows a device that is mounted read-write.
        idle: bool,
    },
    /// Freeze the mounted file system (`FIFREEZE`, see ioctl_fsfreeze(2)) while it is read; needs root.
    Freeze(FreezeSpec),
    /// Two commands of the user's that make and remove a snapshot.
    Command(CommandSpec),
}

impl Driver {
    /// The word in manifests: `none`, `freeze` or `command`.
    pub const fn method(&self) -> &'static str {
        match self {
            Self::None { .. } => "none",
            Self::Freeze(_) => "freeze",
            Self::Command(_) => "command",
        }
    }
}

/// How to freeze, and what must go on living meanwhile.
#[derive(Clone, Debug)]
pub struct FreezeSpec {
    /// The longest the file system may stand still; [`FreezeSpec::LIMIT`] unless there is a reason.
    pub limit: Duration,
    /// How to start the watchdog process.
    pub watchdog: Reexec,
    /// What is written while the source is read: state, logs, temporary files, credentials,
    /// directory targets. The root and the watchdog's own program are always among them.
    pub needed: Vec<Needed>,
}

impl FreezeSpec {
    /// The usual limit.
    pub const LIMIT: Duration = Duration::from_mins(1);
}

/// A path that must not lie on the frozen file system; it need not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// What it is, for a person: `the state directory`.
    pub label: String,
    /// Where it is.
    pub path: PathBuf,
}

/// A program that ends in [`crate::watchdog_main`], with the arguments that lead there.
///
/// `dualsync` names itself: `/proc/self/exe` and the hidden word it dispatches on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reexec {
    /// The program.
    pub program: PathBuf,
    /// What comes before the watchdog's own arguments.
    pub args: Vec<OsString>,
}

/// The user's commands, as they were typed; [`crate::words::split`] says how they are read.
///
/// `take` prints `device=PATH` and `tree=PATH`, each on a line of its own, optionally `id=TEXT`;
/// other lines are passed over. Its environment has `DUALSYNC_SOURCE`, `DUALSYNC_SOURCE_DEVICE`,
/// `DUALSYNC_SOURCE_TREE` and `DUALSYNC_SNAPSHOT` (a fresh random id, good for a name).
/// `check` and `release` see these too, and `DUALSYNC_DEVICE`, `DUALSYNC_TREE` and `DUALSYNC_ID` as
/// printed. `release` runs once for each `take`, failed or not (a hung one is killed first), and by a later
/// process when this one is killed; what was not printed is missing from its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandSpec {
    /// Makes the snapshot.
    pub take: String,
    /// Removes it; must succeed when there is nothing to remove.
    pub release: String,
    /// Ends with 0 while the snapshot is good; run after the last read.
    pub check: Option<String>,
    /// The longest each of them may run; [`CommandSpec::LIMIT`] unless there is a reason.
    pub limit: Duration,
    /// The folder where a snapshot is noted while it stands, see [`crate::leftovers`]; made when it is missing.
    pub journal: PathBuf,
}

impl CommandSpec {
    /// The usual limit.
    pub const LIMIT: Duration = Duration::from_mins(10);
}
