//! Mounts by `fuse2fs`: ext2, ext3 and ext4 only, without the kernel's code for them.
//!
//! As root the mount lives in a mount namespace of the reader's own. `fuse2fs` exits with 0 when
//! it could not mount, so that the mount is looked for, not believed. It knows whole seconds.
#![expect(unsafe_code, reason = "unshare(2) is only safe before there are threads, which no wrapper can know")]

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::fstatfs;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::kernel::open_folder;
use super::mount::MountError;
use crate::view::IMAGE_NAME;

/// `f_type` of every FUSE file system (statfs(2)).
const FUSE_SUPER_MAGIC: u64 = 0x6573_5546;
/// How long `fuse2fs` may take to read what it needs; a journal may have to be replayed first.
const MOUNT_WAIT: Duration = Duration::from_mins(10);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A running `fuse2fs`, unmounted and ended when dropped.
#[derive(Debug)]
pub(super) struct Fuse2fs {
    child: Child,
    at: PathBuf,
}

impl Fuse2fs {
    /// Mounts the image in the view, which is this process's standard input, on `at`.
    pub(super) fn mount(at: &Path, needs_replay: bool) -> Result<(Self, OwnedFd), MountError> {
        let userspace = |source: io::Error| MountError::Userspace { source };
        if rustix::process::geteuid().is_root() {
            own_namespace().map_err(userspace)?;
        }
        let image = format!("/proc/self/fd/0/{IMAGE_NAME}");
        if needs_replay {
            replay(&image)?;
        }
        let child = Command::new("fuse2fs")
            .arg("-f")
            .arg(&image)
            .arg(at)
            .args(["-o", "ro,nosuid,nodev,noexec,fakeroot"])
            .stdin(Stdio::inherit())
            .stdout(Stdio::null())
            .spawn()
            .map_err(userspace)?;
        let mut it = Self { child, at: at.to_owned() };
        let root = it.wait_for_mount()?;
        Ok((it, root))
    }

    fn wait_for_mount(&mut self) -> Result<OwnedFd, MountError> {
        let userspace = |source: io::Error| MountError::Userspace { source };
        let started = Instant::now();
        loop {
            let root = open_folder(&self.at).map_err(userspace)?;
            let kind = fstatfs(&root).map_err(|errno| userspace(errno.into()))?.f_type;
            if u64::try_from(kind).is_ok_and(|kind| kind == FUSE_SUPER_MAGIC) {
                return Ok(root);
            }
            let status = match self.child.try_wait().map_err(userspace)? {
                Some(status) => status.to_string(),
                None if started.elapsed() > MOUNT_WAIT => "still trying".to_owned(),
                None => {
                    // Nothing tells when a mount appears in a namespace but looking at it.
                    std::thread::sleep(LOOK_AGAIN);
                    continue;
                }
            };
            return Err(MountError::NotMounted { status });
        }
    }
}

impl Drop for Fuse2fs {
    fn drop(&mut self) {
        if rustix::process::geteuid().is_root() {
            let _ = unmount(&self.at, UnmountFlags::DETACH);
        } else {
            let _ = Command::new("fusermount3").args(["-u", "-z", "-q"]).arg(&self.at).stdin(Stdio::null()).status();
        }
        // Lazily unmounted, it ends when the last descriptor is gone; that may be after this one.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Brings what the journal holds to its places, and checks nothing else; the view keeps what is
/// written to itself. `fuse2fs` could do it, but dies of it in e2fsprogs 1.47.0.
fn replay(image: &str) -> Result<(), MountError> {
    let status = Command::new("e2fsck")
        .args(["-p", "-E", "journal_only"])
        .arg(image)
        .stdin(Stdio::inherit())
        .stdout(Stdio::null())
        .status()
        .map_err(|source| MountError::Userspace { source })?;
    // 1: something was corrected, which is what was asked for (e2fsck(8)).
    if matches!(status.code(), Some(0 | 1)) { Ok(()) } else { Err(MountError::Replay { status: status.to_string() }) }
}

/// A mount namespace of this process's own, whose mounts nobody else sees and which dies with it.
fn own_namespace() -> io::Result<()> {
    // SAFETY: only the mount namespace is left; descriptors and memory stay shared, and the reader
    // has no other thread.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    Ok(())
}
