//! Chooses how the image is mounted: by the kernel where this host trusts the file system anyway,
//! else by `fuse2fs`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, pread};

use super::entry::hex;
use super::kernel;
use super::protocol::{MountedBy, Request};
use super::userspace::Fuse2fs;
use crate::view::IMAGE_NAME;

/// Why an image cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub(super) enum MountError {
    /// The view gives no bytes.
    #[error("cannot read the beginning of the stored image")]
    Image {
        /// What the system said.
        source: io::Error,
    },
    /// There is nothing that could be mounted.
    #[error("the stored image holds no ext2, ext3, ext4, xfs or btrfs file system")]
    NoFileSystem,
    /// Only the kernel can mount it, and may not.
    #[error("only the kernel can mount {file_system}")]
    KernelOnly {
        /// Which.
        file_system: &'static str,
    },
    /// No loop device.
    #[error("cannot attach the stored image to a loop device")]
    Loop {
        /// What the system said.
        source: io::Error,
    },
    /// The kernel refuses.
    #[error("the kernel does not mount the stored {file_system} ({log})")]
    Kernel {
        /// Which.
        file_system: &'static str,
        /// What it says.
        log: String,
        /// With this error.
        source: io::Error,
    },
    /// A btrfs beside its original.
    #[error("a btrfs with the id {id} is mounted on this host, and the kernel cannot tell the stored one from it")]
    LiveTwin {
        /// The id.
        id: String,
    },
    /// `fuse2fs` cannot be started, or the place to mount on cannot be used.
    #[error("cannot mount with fuse2fs")]
    Userspace {
        /// What the system said.
        source: io::Error,
    },
    /// The journal does not replay.
    #[error("e2fsck does not replay the journal of the stored image ({status})")]
    Replay {
        /// How it ended.
        status: String,
    },
    /// `fuse2fs` ended, and nothing is mounted: it says 0 even then.
    #[error("fuse2fs mounted nothing ({status})")]
    NotMounted {
        /// How it ended.
        status: String,
    },
}

impl MountError {
    pub(super) fn image(errno: Errno) -> Self {
        Self::Image { source: errno.into() }
    }

    /// What to do about it.
    pub(super) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::KernelOnly { .. } => {
                Some("run as root with the source's `tree` set, so that the kernel may mount the image")
            }
            Self::Loop { .. } => Some("loop devices must be there: modprobe loop"),
            Self::LiveTwin { .. } => Some("verify on another host, or with Linux 6.7 or newer"),
            Self::Userspace { .. } | Self::NotMounted { .. } => Some(
                "fuse2fs and fusermount3 must be installed, and /dev/fuse usable (Debian: apt install fuse2fs fuse3)",
            ),
            Self::Image { .. } | Self::NoFileSystem | Self::Kernel { .. } | Self::Replay { .. } => None,
        }
    }
}

/// What the image holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FileSystem {
    /// ext2, ext3 or ext4.
    Ext {
        /// The journal is not empty.
        needs_replay: bool,
    },
    /// xfs.
    Xfs,
    /// btrfs.
    Btrfs {
        /// Its id.
        id: String,
    },
}

impl FileSystem {
    /// The kernel's name for it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            // The ext4 driver mounts all three.
            Self::Ext { .. } => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs { .. } => "btrfs",
        }
    }

    /// Whether mounting may have to write first. A frozen xfs keeps its log dirty on purpose, and
    /// neither xfs nor btrfs tells from outside, so they always may.
    pub(super) fn needs_replay(&self) -> bool {
        !matches!(self, Self::Ext { needs_replay: false })
    }

    fn find(view: BorrowedFd) -> Result<Self, MountError> {
        let image = openat(view, IMAGE_NAME, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let image = image.map_err(MountError::image)?;
        let mut head = [0; 4096];
        let mut btrfs = [0; 4096];
        for (offset, buffer) in [(0, &mut head), (0x1_0000, &mut btrfs)] {
            let mut filled = 0;
            while filled < buffer.len() {
                match pread(&image, &mut buffer[filled..], offset + filled as u64) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(Errno::INTR) => {}
                    Err(errno) => return Err(MountError::image(errno)),
                }
            }
        }
        Self::recognise(&head, &btrfs).ok_or(MountError::NoFileSystem)
    }

    /// From the first bytes of the image and those at 64 KiB.
    fn recognise(head: &[u8; 4096], btrfs: &[u8; 4096]) -> Option<Self> {
        if head[..4] == *b"XFSB" {
            return Some(Self::Xfs);
        }
        if btrfs[0x40..0x48] == *b"_BHRfS_M" {
            let hex = hex(&btrfs[0x20..0x30]);
            let id = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
            return Some(Self::Btrfs { id });
        }
        let superblock = &head[1024..];
        if superblock[0x38..0x3a] == [0x53, 0xef] {
            let recover = superblock[0x60] & 0x04 != 0;
            return Some(Self::Ext { needs_replay: recover });
        }
        None
    }
}

/// A mounted tree. Dropping it takes the mount down.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    file_system: &'static str,
    fuse2fs: Option<Fuse2fs>,
}

impl Tree {
    /// Its root folder.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// What it is.
    pub(super) fn file_system(&self) -> &'static str {
        self.file_system
    }

    /// Who mounted it.
    pub(super) fn by(&self) -> MountedBy {
        if self.fuse2fs.is_some() { MountedBy::Fuse2fs } else { MountedBy::Kernel }
    }
}

/// Mounts the image that the view shows.
pub(super) fn mount(view: BorrowedFd, request: &Request) -> Result<Tree, MountError> {
    let found = FileSystem::find(view)?;
    if request.kernel_mount && rustix::process::geteuid().is_root() {
        return Ok(Tree { root: kernel::mount(view, &found)?, file_system: found.name(), fuse2fs: None });
    }
    let FileSystem::Ext { needs_replay } = found else {
        return Err(MountError::KernelOnly { file_system: found.name() });
    };
    let (fuse2fs, root) = Fuse2fs::mount(&request.mount_point, needs_replay)?;
    Ok(Tree { root, file_system: found.name(), fuse2fs: Some(fuse2fs) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_known_by_their_magic() {
        let mut head = [0; 4096];
        let mut far = [0; 4096];
        assert_eq!(FileSystem::recognise(&head, &far), None);
        head[1024 + 0x38..1024 + 0x3a].copy_from_slice(&[0x53, 0xef]);
        assert_eq!(FileSystem::recognise(&head, &far), Some(FileSystem::Ext { needs_replay: false }));
        head[1024 + 0x60] = 0x46;
        assert_eq!(FileSystem::recognise(&head, &far), Some(FileSystem::Ext { needs_replay: true }));
        far[0x40..0x48].copy_from_slice(b"_BHRfS_M");
        far[0x20..0x30].copy_from_slice(&[0xab; 16]);
        let id = "abababab-abab-abab-abab-abababababab".to_owned();
        assert_eq!(FileSystem::recognise(&head, &far), Some(FileSystem::Btrfs { id }));
        head[..4].copy_from_slice(b"XFSB");
        assert_eq!(FileSystem::recognise(&head, &far), Some(FileSystem::Xfs));
    }
}
