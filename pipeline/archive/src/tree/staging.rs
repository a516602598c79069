//! The folder in which a restore makes what has to have a name before it is put in place: links, nodes, files in parts.
//!
//! It lies in the target, so that a rename is enough, and is there as long as a restore is not complete. It
//! also remembers whether the target was empty at first: then all that is there came from restores, and
//! one that begins again may replace it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::digest::Digest;

/// The folder's name in the target.
pub const STAGING: &str = ".dualsync-restore";

/// Stands in the folder when the target was empty at first.
const FRESH: &str = "fresh";

/// What the name of a file in parts begins with; its digest follows. Such a file stays when a restore is interrupted.
const PARTED: &str = "parted-";

/// The folder, open.
#[derive(Debug)]
pub(super) struct Staging {
    folder: OwnedFd,
    is_fresh: bool,
    next: AtomicU64,
}

impl Staging {
    /// Opens or makes the folder in `target`; what an interrupted restore left in it is removed, but for files in parts
    /// where this one goes on with it, and only from a folder that nobody else can have put anything into.
    pub(super) fn open(target: &OwnedFd, goes_on: bool) -> io::Result<Self> {
        let is_empty = is_empty(target)?;
        match rustix::fs::mkdirat(target, STAGING, Mode::RWXU) {
            Err(Errno::EXIST) => {}
            made => made?,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(target, STAGING, flags, Mode::empty())?;
        let keeps = goes_on && is_private(&folder)?;
        clear(&folder, |name| keeps && name.starts_with(PARTED.as_bytes()))?;
        // A default ACL of the target would be inherited by everything that is made.
        let _ = rustix::fs::fremovexattr(&folder, "system.posix_acl_default");
        if is_empty {
            rustix::fs::mknodat(&folder, FRESH, FileType::RegularFile, Mode::RUSR, 0)?;
        }
        let is_fresh = rustix::fs::statat(&folder, FRESH, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        Ok(Self { folder, is_fresh, next: AtomicU64::new(0) })
    }

    /// The folder.
    pub(super) fn folder(&self) -> &OwnedFd {
        &self.folder
    }

    /// Whether the target was empty when the first restore into it began.
    pub(super) fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// A name in the folder that was not given before.
    pub(super) fn passing_name(&self) -> String {
        self.next.fetch_add(1, Ordering::Relaxed).to_string()
    }

    /// The name in the folder of a file in parts with this content, the same in each restore.
    pub(super) fn name_of_parted(content: Digest) -> String {
        format!("{PARTED}{}", content.hex())
    }

    /// Removes the folder with all that is in it.
    pub(super) fn remove(&self, target: &OwnedFd) -> io::Result<()> {
        clear(&self.folder, |_| false)?;
        if self.is_fresh {
            rustix::fs::unlinkat(&self.folder, FRESH, AtFlags::empty())?;
        }
        Ok(rustix::fs::unlinkat(target, STAGING, AtFlags::REMOVEDIR)?)
    }
}

/// Whether nobody else can have put anything into it.
fn is_private(folder: &OwnedFd) -> io::Result<bool> {
    let found = rustix::fs::fstat(folder)?;
    let for_others = Mode::from_raw_mode(found.st_mode) & (Mode::RWXG | Mode::RWXO);
    Ok(found.st_uid == rustix::process::geteuid().as_raw() && for_others.is_empty())
}

/// Removes the files of an interrupted restore; there are never directories among them.
fn clear(staging: &OwnedFd, stays: impl Fn(&[u8]) -> bool) -> io::Result<()> {
    for entry in rustix::fs::Dir::read_from(staging)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !is_dots(entry.file_name()) && name != FRESH.as_bytes() && !stays(name) {
            rustix::fs::unlinkat(staging, entry.file_name(), AtFlags::empty())?;
        }
    }
    Ok(())
}

/// Whether there is nothing but what mkfs makes. A staging folder counts as something.
fn is_empty(root: &OwnedFd) -> io::Result<bool> {
    for entry in rustix::fs::Dir::read_from(root)? {
        let entry = entry?;
        if !is_dots(entry.file_name()) && entry.file_name() != c"lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_dots(name: &std::ffi::CStr) -> bool {
    name == c"." || name == c".."
}
