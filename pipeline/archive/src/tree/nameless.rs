//! Files that have no name until they are whole.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::capture::proc_path;

/// A file without a name in `folder`, gone with its descriptor; `None` where the file system, or the kernel, has no such files.
pub(super) fn nameless(folder: &OwnedFd) -> Result<Option<OwnedFd>, Errno> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::openat(folder, c".", flags, Mode::RUSR | Mode::WUSR) {
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Ok(None),
        made => made.map(Some),
    }
}

/// Gives an open file a name that is free (open(2), `O_TMPFILE`).
pub(super) fn link_open(file: &OwnedFd, folder: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::linkat(file, c"", folder, name, AtFlags::EMPTY_PATH) {
        // For that a privilege is needed; its link in `/proc` is as good.
        Err(Errno::NOENT | Errno::PERM) => {
            rustix::fs::linkat(CWD, proc_path(file.as_fd()), folder, name, AtFlags::SYMLINK_FOLLOW)
        }
        linked => linked,
    }
}
