//! Driver `none`: flush, then read as it is.
//!
//! The moment is recorded as not frozen. A device or image file that is mounted read-write
//! anywhere on this host is refused, unless the user says it is idle; without that word the
//! check after the last read looks for such a mount again, and whether an image file was
//! written to.

use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::syncfs;

use crate::error::{Invalid, SnapshotError};
use crate::footing::{Ground, Host};

/// A source that nothing holds still.
pub(crate) struct Unfrozen {
    device: PathBuf,
    /// How the device looked; `None` where the user's word is taken.
    before: Option<Look>,
}

/// What a write to an image file, or another file in its place, would change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    ground: Ground,
    size: u64,
    mtime: (i64, i64),
}

impl Look {
    fn of(metadata: &Metadata) -> Option<Self> {
        let ground = Ground::of(metadata)?;
        // A device node's own times say nothing about the device's content.
        let image = matches!(ground, Ground::File(..));
        Some(Self {
            ground,
            size: if image { metadata.len() } else { 0 },
            mtime: if image { (metadata.mtime(), metadata.mtime_nsec()) } else { (0, 0) },
        })
    }
}

/// Flushes what is in memory; `device` and `tree` have been seen to exist.
pub(crate) fn take(device: &Path, tree: &Path, idle: bool) -> Result<Unfrozen, SnapshotError> {
    let failed = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| SnapshotError::Io { operation, path, source }
    };
    if !idle && let Some(mount) = writable_mount(device).map_err(failed("look for mounts of", device))? {
        return Err(SnapshotError::MountedReadWrite { device: device.to_owned(), mount });
    }
    let folder = File::open(tree).map_err(failed("open", tree))?;
    syncfs(&folder).map_err(|errno| failed("flush the file system of", tree)(errno.into()))?;
    let before = fs::metadata(device).map_err(failed("look at", device))?;
    Ok(Unfrozen { device: device.to_owned(), before: if idle { None } else { Look::of(&before) } })
}

impl Unfrozen {
    pub(crate) fn still_valid(&self) -> Result<(), Invalid> {
        let Some(before) = self.before else { return Ok(()) };
        let device = || self.device.clone();
        let unknown = |source| Invalid::Unknown { path: device(), source };
        if let Some(mount) = writable_mount(&self.device).map_err(unknown)? {
            return Err(Invalid::MountedReadWrite { device: device(), mount });
        }
        let now = fs::metadata(&self.device).map_err(unknown)?;
        if Look::of(&now) == Some(before) { Ok(()) } else { Err(Invalid::Changed { path: device() }) }
    }
}

fn writable_mount(device: &Path) -> std::io::Result<Option<PathBuf>> {
    let Some(ground) = Ground::of(&fs::metadata(device)?) else { return Ok(None) };
    Ok(Host::look()?.writable_mount_on(ground).map(|mount| mount.point.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.img");
        fs::write(&path, "one").unwrap();
        (folder, path)
    }

    #[test]
    fn an_image_that_is_left_alone_stays_valid() {
        let (folder, path) = image();
        take(&path, folder.path(), false).unwrap().still_valid().unwrap();
    }

    #[test]
    fn an_image_that_is_written_to_or_replaced_is_noticed() {
        let (folder, path) = image();
        let taken = take(&path, folder.path(), false).unwrap();
        fs::write(&path, "longer").unwrap();
        assert!(matches!(taken.still_valid(), Err(Invalid::Changed { .. })));

        let taken = take(&path, folder.path(), false).unwrap();
        fs::rename(&path, folder.path().join("old")).unwrap();
        assert!(matches!(taken.still_valid(), Err(Invalid::Unknown { .. })));
        fs::write(&path, "longer").unwrap();
        assert!(matches!(taken.still_valid(), Err(Invalid::Changed { .. })));
    }

    #[test]
    fn the_word_that_it_is_idle_is_taken() {
        let (folder, path) = image();
        let taken = take(&path, folder.path(), true).unwrap();
        fs::write(&path, "longer").unwrap();
        taken.still_valid().unwrap();
    }
}
