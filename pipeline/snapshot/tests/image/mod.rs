//! An ext4 image, mounted through a loop device, for tests that need a real file system.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::skip::skip;

/// A mounted image file; dropped, it is thawed and unmounted.
pub struct Image {
    folder: tempfile::TempDir,
}

impl Image {
    /// Makes and mounts one, or says why this test is skipped; with `DUALSYNC_NO_SKIP=1` that is a failure.
    pub fn mounted() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return skip("mounting an image needs root");
        }
        let image = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        std::fs::create_dir(image.tree()).expect("a mount point");
        let file = std::fs::File::create(image.file()).expect("an image file");
        file.set_len(32 << 20).expect("room for a sparse file");
        let (file, tree) = (image.file(), image.tree());
        if !run("mkfs.ext4", &["-q".as_ref(), file.as_ref()]) {
            return skip("mkfs.ext4 does not work here");
        }
        if !run("mount", &["-o".as_ref(), "loop".as_ref(), file.as_ref(), tree.as_ref()]) {
            return skip("loop devices do not work here");
        }
        Some(image)
    }

    /// The image file.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("disk.img")
    }

    /// Where it is mounted.
    pub fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    /// A folder beside it, on another file system.
    pub fn beside(&self) -> &Path {
        self.folder.path()
    }

    /// Starts to write a file into the tree; the write ends when the file system takes it.
    pub fn start_write(&self) -> Child {
        Command::new("touch").arg(self.tree().join("written")).spawn().expect("touch starts")
    }

    /// `mount -o remount,OPTION`.
    pub fn remount(&self, option: &str) {
        let option = format!("remount,{option}");
        assert!(run("mount", &["-o".as_ref(), option.as_ref(), self.tree().as_ref()]), "mount -o {option}");
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // A test that failed may have left it frozen, and a frozen file system cannot be unmounted.
        run("fsfreeze", &["--unfreeze".as_ref(), self.tree().as_ref()]);
        run("umount", &[self.tree().as_ref()]);
    }
}

/// Whether the program ran and succeeded.
pub fn run(program: &str, args: &[&std::ffi::OsStr]) -> bool {
    let status = Command::new(program).args(args).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Whether the process ends within `limit`.
pub fn ends_within(child: &Child, limit: Duration) -> bool {
    let end = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).expect("a child can be watched");
    let mut asked = [PollFd::new(&end, PollFlags::IN)];
    poll(&mut asked, Some(&Timespec::try_from(limit).expect("a short time"))).expect("poll works") == 1
}
