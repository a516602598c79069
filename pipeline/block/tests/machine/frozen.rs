//! Freezing a mounted file system for as long as a guard lives.

use std::path::PathBuf;
use std::process::Command;

use crate::machine::{Mounted, run, text};

/// A frozen file system, thawed when dropped.
pub struct Frozen(PathBuf);

impl Frozen {
    /// Freezes `mounted`.
    pub fn new(mounted: &Mounted) -> Self {
        run("fsfreeze", &["--freeze", text(mounted.path())]);
        Self(mounted.path().to_owned())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("--unfreeze").arg(&self.0).status();
    }
}
