//! One frozen moment of a source: take it, check it, always release it.
//!
//! [`take`] turns a [`Spec`] into a [`Taken`]: a device and a tree that show one moment, for as
//! long as [`Taken::still_valid`] says so. Promises: a moment that was lost (thawed early,
//! overflowed, written to) is noticed by the check after the last read; what was taken is
//! released on every way out, and a frozen file system is thawed even when this process is
//! killed. A snapshot of the user's commands that a killed process left standing is found again as a
//! [`Leftover`]. It deliberately reads no content, prints nothing, and knows nothing of the writers
//! that read the moment.

mod spec;
pub use spec::{CommandSpec, Driver, FreezeSpec, Needed, Reexec, Spec};

mod error;
pub use error::{Invalid, ReleaseError, SnapshotError};

mod taken;
pub use taken::{Taken, take};

mod none;

mod freeze;

mod command;
pub use command::CommandError;

mod journal;
pub use journal::{Leftover, leftovers};

pub mod words;

pub mod watchdog;
pub use watchdog::child::watchdog_main;

mod footing;

mod mounts;

mod process;
pub use process::RunError;

mod ioctl;
